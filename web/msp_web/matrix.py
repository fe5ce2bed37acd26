"""Hosts x steps of a run: one cell each, what is in doubt or failed first. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from msp.remote.models import RunHost, StepResult

DOUBT = frozenset({"lost", "timeout", "unknown"})
GOOD = frozenset({"ok", "changed", "skipped"})
#: the order of rows: what a person must decide, what went wrong, what goes on, what has not begun, what is done
RANKS = (
    DOUBT,
    frozenset({"failed", "killed", "unreachable", "auth_failed", "host_key_changed", "host_key_unknown"}),
    frozenset({"running"}),
    frozenset({"cancelled", "refused", "not_started"}),
    frozenset({"waiting"}),
    frozenset({"skipped"}),
)


@dataclass(frozen=True, slots=True)
class Column:
    """One step. Step 0 is the way in: connecting."""

    number: int
    name: str


@dataclass(frozen=True, slots=True)
class Cell:
    """What one step came to on one host: an outcome, and how many phases stand behind it. `undone`: taken back."""

    outcome: str
    phases: int
    undone: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One host with a cell for each column; None where nothing has happened."""

    host: RunHost
    outcome: str
    cells: tuple[Cell | None, ...]


def outcome_of(host: RunHost) -> str:
    """Return how a host ended, or that it runs or waits."""
    return host.outcome or ("running" if host.state == "running" else "waiting")


def rank(outcome: str) -> int:
    """Return where a host of this outcome stands: 0 first."""
    return next((place for place, kinds in enumerate(RANKS) if outcome in kinds), len(RANKS))


def last_attempts(results: Iterable[StepResult]) -> list[StepResult]:
    """Return the last attempt of every phase, in the order in which they happened."""
    last: dict[tuple[int, int, str], StepResult] = {}
    for one in results:
        key = one.run_host_id, one.step, one.phase
        if key not in last or last[key].attempt < one.attempt:
            last[key] = one
    return sorted(last.values(), key=lambda one: (one.step, one.started_at, one.id))


def cell_of(phases: Sequence[StepResult]) -> Cell:
    """Return what the phases of one step on one host come to: the gravest of them, else how far it has come."""
    undone = any(one.phase == "undo" and one.outcome in GOOD for one in phases)
    worst = min((one.outcome for one in phases), key=rank)
    if rank(worst) <= 1:
        return Cell(worst, len(phases), undone)
    found = {one.phase: one.outcome for one in phases}
    if "do" in found:
        return Cell(found["do"], len(phases), undone)
    if found.get("probe") == "ok":  # needed, and not yet done
        return Cell("running", len(phases), undone)
    return Cell(worst, len(phases), undone)


def rows_of(hosts: Iterable[RunHost], results: Iterable[StepResult], columns: Sequence[Column]) -> list[Row]:
    """Return a row for each host, the gravest first, then as asked."""
    by_cell: dict[tuple[int, int], list[StepResult]] = {}
    for one in last_attempts(results):
        by_cell.setdefault((one.run_host_id, one.step), []).append(one)
    rows = [
        Row(
            host,
            outcome_of(host),
            tuple(
                cell_of(by_cell[host.id, column.number]) if (host.id, column.number) in by_cell else None
                for column in columns
            ),
        )
        for host in hosts
    ]
    return sorted(rows, key=lambda row: (rank(row.outcome), row.host.position))


def columns_of(results: Iterable[StepResult], planned: Mapping[int, str]) -> list[Column]:
    """Return the steps by number: those that have happened under the name they had, others as planned."""
    names = {**planned, **{one.step: one.name for one in results}}
    return [Column(number, names[number]) for number in sorted(names)]
