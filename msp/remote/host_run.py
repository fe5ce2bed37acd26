"""One host of a run: its steps in order, undone in reverse when one fails.

What is in doubt is never done again unless a probe shows that it did not happen, or the step is idempotent.
"""

from dataclasses import replace
from datetime import datetime

from msp.clock import utc_now
from msp.redact import Redactor
from msp.remote.course import Course
from msp.remote.ledger import Key, StepRecord
from msp.remote.line import Line
from msp.remote.outcome import OK, Outcome
from msp.remote.output import NOTHING
from msp.remote.step_run import Around, StepRun
from msp.remote.target import Target
from msp.remote.transport import CannotOpen, Configuration, NotAdmitted, Output

UNTOLD = Outcome("lost", detail="It was being undone, and it is not known why. A person must look.")


class Interrupted(Exception):
    """The worker is stopping; the host is to be taken up again where it stands."""


class HostRun:
    """Drives the plan on one host."""

    def __init__(self, around: Around, position: int, target: Target) -> None:
        self._around, self.position, self.target = around, position, target
        self.line = Line(around.transport, target, around.plan.playbook.limits.connect)
        self.course = Course()
        self.sent = False  # an effect is on its way right now

    @property
    def visit(self) -> bool:
        return self.course.visit

    async def run(self) -> Outcome:
        """Return how the host ended. Raises Interrupted between steps when the worker stops."""
        reason = self._unfit()
        if reason:
            return Outcome("refused", detail=reason)
        started = utc_now()
        try:
            if (shut := self._around.window(self.target)) is not None:
                return Outcome("refused", detail=shut)
            try:
                await self.line.open()
            except (CannotOpen, NotAdmitted) as error:
                self.tell(Key(self.position, 0, "connect"), "connect", error.outcome, "", started)
                return error.outcome
            return await self._steps()
        finally:
            await self.line.close()

    def _unfit(self) -> str:
        book, target = self._around.plan.playbook, self.target
        if book.applies_to.platform and target.platform not in book.applies_to.platform:
            wanted = ", ".join(book.applies_to.platform)
            return f"{target.name} is a {target.platform} host; the playbook is for {wanted}."
        if book.applies_to.ci_type and target.kind not in book.applies_to.ci_type:
            wanted = ", ".join(book.applies_to.ci_type)
            return f"{target.name} is a {target.kind}; the playbook is for {wanted}."
        ways = book.transport
        if ways and target.transport not in (*ways, "fake") and not {"any", "shell"} & set(ways):
            return f"{target.name} is reached by {target.transport}; the playbook needs {', '.join(ways)}."
        return ""

    async def _steps(self) -> Outcome:
        course, undone = self.course, self.position in self._around.undone
        for planned in self._around.plan.steps:
            if planned.handler and planned.handler not in course.notified:
                continue
            if self._around.should_stop():
                raise Interrupted
            if (shut := self._around.window(self.target)) is not None:
                return Outcome("refused", detail=f"Before {planned.what}: {shut}")
            if undone:  # nothing goes forward any more: it ends as it was told to, and what is left is taken back
                outcome = course.retold(self._around.history, self.position, planned) or UNTOLD
            else:
                outcome = await StepRun(self._around, self, planned).step()
            if outcome.kind in ("ok", "skipped"):
                continue
            outcome = replace(outcome, detail=f"{planned.what}: {outcome.detail or outcome}")
            match planned.step.on_failure:
                case "continue":
                    if course.tolerated is None or (outcome.in_doubt and not course.tolerated.in_doubt):
                        course.tolerated = outcome
                    if outcome.kind == "lost":
                        await self.line.drop()
                    continue
                case "visit":
                    course.visit = True
            if outcome.in_doubt or planned.step.on_failure == "stop" or self._around.dry_run:
                return outcome  # in doubt: undoing what may be under way could do more harm; a person decides
            return await self._undo(outcome)
        return UNTOLD if undone else course.tolerated or OK

    async def _undo(self, outcome: Outcome) -> Outcome:
        """Take back what was done, last first, and add to the outcome how that went."""
        said = []
        for planned in reversed(self.course.undoable):
            result = await StepRun(self._around, self, planned).undo()
            if result is not None:
                what = planned.what
                said.append(f"{what} undone." if result.ok else f"{what} could not be undone ({result}).")
        return replace(outcome, detail=" ".join([outcome.detail, *said]))

    def tell(
        self, key: Key, name: str, outcome: Outcome, rendered: str, started: datetime, output: Output | None = None
    ) -> StepRecord:
        redactor = self._around.redactor
        if output and (cut := _cut_short(output)):
            outcome = replace(outcome, detail=f"{outcome.detail} {cut}".strip())
        record = StepRecord(
            key=key,
            host=self.target.name,
            name=name,
            outcome=replace(outcome, detail=redactor.text(outcome.detail)) if outcome.detail else outcome,
            rendered=redactor.text(rendered),
            started_at=started,
            finished_at=utc_now(),
            out=output.out.redacted(redactor) if output and output.out.size else NOTHING,
            err=output.err.redacted(redactor) if output and output.err.size else NOTHING,
            pictures=output.pictures if output else (),
            configuration=_redacted(output.configuration, redactor) if output and output.configuration else None,
        )
        self._around.books.result(record)
        return record


def _cut_short(output: Output) -> str:
    """Return what to say of full output that could not be kept to its end."""
    kept = [one.kept for one in (output.out, output.err) if one.kept is not None and one.kept.why]
    return " ".join(f"Its full output is not whole after {one.size} bytes in {one.file}: {one.why}." for one in kept)


def _redacted(found: Configuration, redactor: Redactor) -> Configuration:
    return replace(found, text=redactor.text(found.text))
