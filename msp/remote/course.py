"""How far one host has come, in this execution or as an earlier one left it behind."""

from dataclasses import dataclass, field, replace
from typing import Any

from msp.remote.ledger import History, Key
from msp.remote.outcome import NOT_SENT, Outcome
from msp.remote.plan import PlannedStep
from msp.remote.transport import Output


@dataclass(slots=True)
class Course:
    """How far one host has come."""

    registered: dict[str, Any] = field(default_factory=dict)
    undoable: list[PlannedStep] = field(default_factory=list)
    notified: set[str] = field(default_factory=set)
    tolerated: Outcome | None = None
    killing: float = 0.0  # seconds spent on ending commands by force
    visit: bool = False

    def done(self, planned: PlannedStep) -> None:
        """Note a step whose act was sent, so that it is undone (once) when a later step fails."""
        if all(other.number != planned.number for other in self.undoable):
            self.undoable.append(planned)

    def remember(self, planned: PlannedStep, output: Output) -> None:
        """Give later steps what this one printed."""
        if name := planned.step.register_as:
            out = output.stdout.decode("utf-8", "surrogateescape").rstrip("\r\n")
            err = output.stderr.decode("utf-8", "surrogateescape").rstrip("\r\n")
            self.registered[name] = {
                "stdout": out.replace("\0", ""),
                "stderr": err.replace("\0", ""),
                "lines": out.replace("\0", "").splitlines(),
                "status": output.status,
                "ok": output.outcome.ok,
                "outcome": output.outcome.kind,
            }

    def retold(self, history: History, position: int, planned: PlannedStep) -> Outcome | None:
        """Return how history tells that a step ended, and note what it did; None if it does not tell."""
        last = history.last(position, planned.number)
        if last is None:
            return None
        attempts = planned.step.retry.attempts if planned.step.retry else 1
        do = Key(position, planned.number, "do", history.last_done(position, planned.number, attempts))
        act = history.records.get(do)
        if act is not None:
            self.remember(planned, Output(act.outcome, act.out, act.err))
        sent = any(replace(do, attempt=attempt) in history.ran for attempt in range(1, attempts + 1))
        if sent and not planned.reads and (act is None or act.outcome.kind not in NOT_SENT):
            self.done(planned)
        if last.key.phase == "probe" and last.outcome.ok:
            return None  # it was needed, and what came of it is not told
        if last.outcome.ok:
            self.notified.update(planned.step.notify)
        return unchecked(last.outcome) if last.key.phase == "check" and not last.outcome.ok else last.outcome


def unchecked(outcome: Outcome) -> Outcome:
    """Return how a step ended that was done and whose check does not hold."""
    return replace(outcome, detail=f"It was done, but its check does not hold. {outcome.detail}".strip())
