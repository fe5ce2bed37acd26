"""Figures of a period: promises kept, first line, upper lines, workload. Pure; handled.py reads the tickets."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal

FIRST_LINE = "L1"
#: How a promise ended: kept, late, still running, not promised, or out of the count (cancelled, merged).
KEPT, LATE, RUNNING, NONE, NOT_COUNTED = "kept", "late", "running", "none", "not_counted"


@dataclass(frozen=True, slots=True)
class Judgement:
    """One promise: how it ended and when that was clear: when it was met in time, else when it fell due."""

    outcome: str
    at: datetime | None = None
    took: timedelta | None = None  # covered time until it was met


@dataclass(frozen=True, slots=True)
class Stay:
    """A ticket on one support line. `ended_at` None: it still is there. `lasted`: without waiting for others."""

    line: str
    began_at: datetime
    ended_at: datetime | None
    solved: bool  # it ended because the ticket was resolved
    lasted: timedelta


@dataclass(frozen=True, slots=True)
class Handled:
    """One ticket as of the end of a period."""

    ticket: int
    client_id: int
    client: str
    subject: str
    kind: str
    priority: str
    line: str
    state: str
    technician: str | None
    contract_version_id: int | None
    contract_line: str | None
    opened_at: datetime
    resolved_at: datetime | None
    first_response: Judgement
    resolution: Judgement
    stays: tuple[Stay, ...]
    messages: int  # of the client after opening
    minutes: int  # worked in the period, as entered for billing
    is_open: bool
    stars: int | None = None  # 1 to 5, the client's last rating


@dataclass(frozen=True, slots=True)
class Kept:
    """How many promises of a group were kept, of those that were kept or broken in the period."""

    name: str
    counted: int
    kept: int

    @property
    def percent(self) -> Decimal | None:
        """Rounded down to a tenth: nothing reads as 100 % that is not. None: nothing was promised."""
        if not self.counted:
            return None
        return (Decimal(self.kept * 100) / self.counted).quantize(Decimal("0.1"), ROUND_DOWN)


@dataclass(frozen=True, slots=True)
class FirstLine:
    """The first line in the period, by tickets that left it: solved or handed over. Durations are medians."""

    handled: int
    solved: int
    first_contact: int  # solved without handing over, and the client had to write once only
    reaction: timedelta | None
    handling: timedelta | None

    @property
    def first_contact_percent(self) -> Decimal | None:
        return Kept("", self.handled, self.first_contact).percent


@dataclass(frozen=True, slots=True)
class UpperLine:
    """One line above the first: tickets that left it, how long they stayed there, and what was entered as worked."""

    line: str
    handled: int
    solved: int
    per_ticket: timedelta | None  # median
    minutes: int
    rating: Decimal | None = None  # mean stars of the tickets solved here that were rated
    rated: int = 0


@dataclass(frozen=True, slots=True)
class Load:
    """One technician. `share` of all tickets solved or open, in percent."""

    technician: str | None
    open: int
    solved: int
    minutes: int
    promises: Kept
    share: Decimal


def within(at: datetime | None, start: datetime, end: datetime) -> bool:
    return at is not None and start <= at < end


def judgements(rows: Iterable[Handled], start: datetime, end: datetime) -> Iterator[tuple[Handled, Judgement]]:
    """Yield every promise that was kept or broken in the period: in one only, unless its ticket is opened again."""
    for row in rows:
        for one in (row.first_response, row.resolution):
            if one.outcome in (KEPT, LATE) and within(one.at, start, end):
                yield row, one


def kept(
    rows: Iterable[Handled], start: datetime, end: datetime, by: Callable[[Handled], str | None] = lambda _: ""
) -> list[Kept]:
    """Return the attainment of each group, the worst first."""
    groups: dict[str, list[int]] = {}
    for row, one in judgements(rows, start, end):
        counts = groups.setdefault(by(row) or "", [0, 0])
        counts[0] += 1
        counts[1] += one.outcome == KEPT
    found = [Kept(name, counted, good) for name, (counted, good) in groups.items()]
    return sorted(found, key=lambda group: (Decimal(group.kept) / group.counted, group.name))


def overall(rows: Iterable[Handled], start: datetime, end: datetime) -> Kept:
    """Return the attainment of all."""
    return next(iter(kept(rows, start, end)), Kept("", 0, 0))


def first_line(rows: Sequence[Handled], start: datetime, end: datetime) -> FirstLine:
    """Return the figures of the first line."""
    left = [(row, stay) for row, stay in _left(rows, start, end) if stay.line == FIRST_LINE]
    solved = [row for row, stay in left if stay.solved]
    reactions = [
        row.first_response.took
        for row in rows
        if row.first_response.took is not None and within(row.opened_at, start, end)
    ]
    return FirstLine(
        handled=len(left),
        solved=len(solved),
        first_contact=sum(len(row.stays) == 1 and row.messages == 0 for row in solved),
        reaction=median(reactions),
        handling=median([stay.lasted for _, stay in left]),
    )


def upper_lines(rows: Sequence[Handled], start: datetime, end: datetime) -> list[UpperLine]:
    """Return the figures of each line above the first that had tickets."""
    lines: dict[str, list[tuple[Handled, Stay]]] = {}
    for row, stay in _left(rows, start, end):
        if stay.line != FIRST_LINE:
            lines.setdefault(stay.line, []).append((row, stay))
    ratings = {
        line: [row.stars for row, stay in found if stay.solved and row.stars is not None]
        for line, found in lines.items()
    }
    return [
        UpperLine(
            line=line,
            handled=len(found),
            solved=sum(stay.solved for _, stay in found),
            per_ticket=median([stay.lasted for _, stay in found]),
            minutes=sum(row.minutes for row in {row.ticket: row for row, _ in found}.values()),
            rating=mean(ratings[line]),
            rated=len(ratings[line]),
        )
        for line, found in sorted(lines.items())
    ]


def workload(rows: Sequence[Handled], start: datetime, end: datetime) -> list[Load]:
    """Return what each technician has and did, the most loaded first; None collects what nobody took."""
    people: dict[str | None, list[Handled]] = {}
    for row in rows:
        people.setdefault(row.technician, []).append(row)
    found = []
    for name, own in people.items():
        solved = sum(within(row.resolved_at, start, end) for row in own)
        still = sum(row.is_open for row in own)
        found.append((name, still, solved, sum(row.minutes for row in own), overall(own, start, end)))
    every = sum(still + solved for _, still, solved, _, _ in found) or 1
    loads = [
        Load(name, still, solved, minutes, promises, (Decimal(still + solved) * 100 / every).quantize(Decimal("0.1")))
        for name, still, solved, minutes, promises in found
    ]
    return sorted(loads, key=lambda load: (-load.share, load.technician or ""))


def mean(stars: Sequence[int]) -> Decimal | None:
    """Return the mean to a tenth, half up; None of none."""
    return (Decimal(sum(stars)) / len(stars)).quantize(Decimal("0.1"), ROUND_HALF_UP) if stars else None


def median(spans: Sequence[timedelta]) -> timedelta | None:
    """Return the middle one, the mean of the two middle ones of an even number; None of none."""
    ordered = sorted(spans)
    if not ordered:
        return None
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _left(rows: Iterable[Handled], start: datetime, end: datetime) -> Iterator[tuple[Handled, Stay]]:
    return ((row, stay) for row in rows for stay in row.stays if within(stay.ended_at, start, end))
