"""One step on one host: probed, claimed, done, checked, or taken back.

The deadline of a step covers its probe, its act, its retries and its check.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from msp.clock import utc_now
from msp.errors import Misconfigured
from msp.redact import Redactor
from msp.remote import file_scripts, pushing, render, traces
from msp.remote.acts import Act, Acts, Condition, Question, alike, has
from msp.remote.bookkeeping import Bookkeeper
from msp.remote.course import Course, unchecked
from msp.remote.following import KILLING, Following
from msp.remote.ledger import History, Key, Phase, StepRecord
from msp.remote.line import Line
from msp.remote.outcome import NOT_SENT, OK, Outcome
from msp.remote.output import KEEPING
from msp.remote.payload import LARGEST_WHOLE, Payload, Tree
from msp.remote.plan import Plan, PlannedStep
from msp.remote.rebooting import Rebooting, Restart
from msp.remote.render import Script
from msp.remote.spool import Spool
from msp.remote.sudo import Become
from msp.remote.target import Target
from msp.remote.transport import (
    Becomes,
    CannotOpen,
    NotAdmitted,
    Output,
    Takes,
    Transport,
)


@dataclass(slots=True)
class Around:
    """What all hosts of a run share."""

    plan: Plan
    transport: Callable[[str], Transport]
    books: Bookkeeper
    history: History
    redactor: Redactor
    dry_run: bool
    should_stop: Callable[[], bool]
    window: Callable[[Target], str | None]  # why nothing may be done to a host now, or None
    approved: Callable[[Target, PlannedStep, Question], str | None]  # why not, or None
    run: Mapping[str, Any] = field(default_factory=dict)  # `run` in templates
    spool: Spool | None = None  # where full output goes, if it is to be kept
    undone: frozenset[int] = field(init=False)  # hosts on which undoing was begun before
    #: Acts that are the same on every host of a platform, by step, phase and platform.
    acts: dict[tuple[int, Phase, str], Act | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.undone = self.history.undone()


class Host(Protocol):
    """What a step needs of the host's run that it is a part of."""

    target: Target
    position: int
    line: Line
    course: Course
    sent: bool  # an effect is on its way right now

    def tell(
        self, key: Key, name: str, outcome: Outcome, rendered: str, started: datetime, output: Output | None = None
    ) -> StepRecord:
        """Redact and record what a phase did."""


class StepRun:
    """One step on one host."""

    def __init__(self, around: Around, host: Host, planned: PlannedStep) -> None:
        self._around, self._host, self._planned = around, host, planned
        self._course, self._line = host.course, host.line
        self._deadline = asyncio.get_running_loop().time() + planned.timeout.total_seconds()
        self._known = around.history.records

    def _key(self, phase: Phase, attempt: int = 1) -> Key:
        return Key(self._host.position, self._planned.number, phase, attempt)

    def _scope(self) -> dict[str, Any]:
        target = self._host.target
        host = {"name": target.name, "address": target.address, "port": target.port, "platform": target.platform,
                "kind": target.kind, "facts": dict(target.facts)}  # fmt: skip
        run = {"now": int(utc_now().timestamp()), **self._around.run}
        return {"host": host, "run": run, **self._planned.scope, **self._course.registered}

    def _act(self, phase: Phase) -> Act | None:
        planned, known = self._planned, self._around.acts
        place = (planned.number, phase, self._host.target.platform)
        if place in known:
            return known[place]
        act = None
        if has(planned.step, phase):
            acts = Acts(
                self._scope(),
                secrets=planned.secrets,
                timeout=self._left(),
                folder=planned.folder,
                what=f"{planned.what}, {phase}",
                token=self._around.books.token(self._key(phase)),
                become=planned.become,
            )
            act = acts.of(planned.step, phase)
        if alike(planned.step, phase):
            known[place] = act
        return act

    def _left(self) -> timedelta:
        return timedelta(seconds=max(self._deadline - asyncio.get_running_loop().time(), 0.001))

    def _tell(
        self, phase: Phase, outcome: Outcome, started: datetime, *, attempt: int = 1, rendered: str = "",
        output: Output | None = None
    ) -> StepRecord:  # fmt: skip
        return self._host.tell(self._key(phase, attempt), self._planned.name, outcome, rendered, started, output)

    async def step(self) -> Outcome:
        """Do the step; ok, skipped, or how it failed."""
        started = utc_now()
        await self._line.outlasting(self._left())
        try:
            return await self._step(started)
        except (CannotOpen, NotAdmitted) as error:  # on opening anew after a lost connection
            self._tell("connect", error.outcome, started)
            return error.outcome
        except render.UndefinedName as error:
            if self._around.dry_run:
                outcome = Outcome("skipped", detail=f"Cannot be shown before earlier steps have run: {error.what}")
                self._tell("do", outcome, started)
                return outcome
            return self._wrong(error, started)
        except Misconfigured as error:
            return self._wrong(error, started)

    def _wrong(self, error: Misconfigured, started: datetime) -> Outcome:
        outcome = Outcome("failed", detail=f"{error.what} {error.advice}".strip())
        self._tell("do", outcome, started)
        return outcome

    async def _step(self, started: datetime) -> Outcome:
        planned, step = self._planned, self._planned.step
        for condition, seen in planned.whens:
            if not render.value(
                condition, {**self._scope(), **seen, **self._course.registered}, f"{planned.what}, when"
            ):
                outcome = Outcome("skipped", detail=f"Its condition is false: {condition}")
                self._tell("probe", outcome, started)
                return outcome
        attempts = step.retry.attempts if step.retry else 1
        first = self._around.history.last_done(self._host.position, planned.number, attempts)
        before = self._known.get(self._key("do", first))
        if before is None or before.outcome.in_doubt:
            needed = await self._probe()
            if needed is not None:
                return needed
        if self._around.dry_run:
            return self._would(started)
        outcome, doubted = OK, set[int]()
        for attempt in range(first, attempts + 1):
            outcome = await self._attempt(attempt, doubted)
            if outcome.ok:
                await self._settle_others(attempt, attempts, doubted)
            if outcome.ok or attempt == attempts or outcome.kind in ("refused", "host_key_changed"):
                break
            delay = step.retry.delay if step.retry else timedelta(0)
            if self._left() <= delay:
                break
            if outcome.kind in ("lost", "timeout"):
                await self._line.drop()
            await asyncio.sleep(delay.total_seconds())
        if outcome.ok:
            self._course.notified.update(step.notify)
        return outcome

    async def _probe(self) -> Outcome | None:
        """Return skipped when the step is not needed, how the probe failed, or None when the step is to be done."""
        started = utc_now()
        act = self._act("probe")
        if act is None:
            return None
        output = await self._perform(act, self._key("probe"))
        rendered = _shown(act)
        outcome = output.outcome
        if outcome.ok:
            self._tell("probe", replace(outcome, detail="It is needed."), started, rendered=rendered, output=output)
            return None
        if outcome.kind == "failed" and outcome.status == 1:
            if self._key("do") in self._around.history.doubts:
                await self._ran_after_all(started)
            skipped = Outcome("skipped", status=1, detail="Not needed.")
            self._tell("probe", skipped, started, rendered=rendered, output=output)
            return skipped
        self._tell("probe", outcome, started, rendered=rendered, output=output)
        return replace(outcome, detail=f"The probe did not tell whether it is needed. {outcome.detail}")

    async def _ran_after_all(self, started: datetime) -> None:
        """An interruption left the act in doubt, and the probe finds it done: settle it, so that it can be undone."""
        key = self._key("do")
        await self._around.books.claim(key)  # from claimed to in doubt
        await self._around.books.resolve(key, ran=True)
        self._course.done(self._planned)
        self._tell("do", replace(OK, detail="Done before an interruption, as its probe shows."), started)

    def _would(self, started: datetime) -> Outcome:
        act = self._act("do")
        rendered = _shown(act) if act else ""
        what = "Would only look." if self._planned.reads else "Would change something."
        outcome = Outcome("skipped", detail=f"Dry run. {what}")
        self._tell("do", outcome, started, rendered=rendered)
        return outcome

    async def _settle_others(self, done: int, attempts: int, doubted: set[int]) -> None:
        """One attempt has done it: settle those that were in doubt, about which nobody need ask any more."""
        for attempt in range(1, attempts + 1):
            key = self._key("do", attempt)
            if attempt != done and (attempt in doubted or key in self._around.history.doubts):
                await self._around.books.resolve(key, ran=True)

    async def _attempt(self, attempt: int, doubted: set[int]) -> Outcome:
        outcome = await self._do(attempt)
        if not outcome.ok:
            if outcome.in_doubt and not self._planned.reads:
                doubted.add(attempt)
            return outcome
        return await self._check(attempt)

    async def _do(self, attempt: int) -> Outcome:
        planned, started = self._planned, utc_now()
        key = self._key("do", attempt)
        known = self._known.get(key)
        if known is not None and not known.outcome.in_doubt:
            self._course.remember(planned, Output(known.outcome, known.out, known.err))
            if not planned.reads:
                self._course.done(planned)
            return known.outcome
        act = self._act("do")
        if act is None:
            return OK
        rendered = _shown(act)
        claimed = not planned.reads and not isinstance(act, Condition | Question)
        if claimed:
            verdict = await self._around.books.claim(key)
            if verdict == "in_doubt":
                doubt = await self._doubt(key, act)
                if doubt is not None:
                    self._tell("do", doubt, started, attempt=attempt, rendered=rendered)
                    return doubt
                verdict = await self._around.books.claim(key)
            if verdict == "finished":
                self._course.done(planned)
                return OK
            self._course.done(planned)
        self._host.sent = claimed
        try:
            output = await (self._followed(act, key) if claimed else self._perform(act, key))
        except asyncio.CancelledError:
            ended = claimed and await self._killed(key)
            how = "and its host says that it has" if ended else "and may live on"
            detail = f"Cancelled while at work; the command was told to stop, {how}."
            cut = Outcome("cancelled", detail=detail, sent=claimed)
            self._tell("do", cut, started, attempt=attempt, rendered=rendered)
            raise
        self._host.sent = False
        self._tell("do", output.outcome, started, attempt=attempt, rendered=rendered, output=output)
        self._course.remember(planned, output)
        if claimed and (output.outcome.in_doubt or output.outcome.kind in NOT_SENT):
            self._course.undoable = [other for other in self._course.undoable if other.number != planned.number]
        return output.outcome

    async def _doubt(self, key: Key, act: Act) -> Outcome | None:
        """An interruption left this effect in doubt. Return None if it may be done now, else why not."""
        if (ended := await self._ended(key, act)) is not None:
            await self._around.books.resolve(key, ran=True)
            self._course.done(self._planned)
            return replace(ended, detail=f"Its host tells how it ended during an interruption. {ended.detail}".strip())
        has_probe = self._act("probe") is not None  # it has just said: needed
        if not has_probe and not self._planned.step.idempotent:
            detail = "An interruption left it in doubt and it has no probe: it may have happened. A person must look."
            return Outcome("lost", detail=detail)
        if token := self._around.books.token(key):
            alive = await self._run_script(traces.alive(token, self._host.target.platform))
            if alive.status != 1:
                detail = "An interruption left it in doubt, and its process may still be at work on the host."
                return Outcome("lost", detail=detail)
        await self._around.books.resolve(key, ran=False)
        return None

    async def _check(self, attempt: int) -> Outcome:
        known = self._known.get(self._key("check", attempt))
        if known is not None and known.outcome.ok:
            return OK
        started = utc_now()
        act = self._act("check")
        if act is None:
            return OK
        output = await self._perform(act, self._key("check", attempt))
        rendered = _shown(act)
        self._tell("check", output.outcome, started, attempt=attempt, rendered=rendered, output=output)
        if output.outcome.ok:
            return OK
        return unchecked(output.outcome)

    async def undo(self) -> Outcome | None:
        """Take the step back; None if it has no way back."""
        started, key = utc_now(), self._key("undo")
        known = self._known.get(key)
        if known is not None and not known.outcome.in_doubt:
            return known.outcome
        try:
            act = self._act("undo")
            if act is None:
                return None
            verdict = await self._around.books.claim(key)
            if verdict == "finished":
                return OK
            if verdict == "in_doubt" and (doubt := await self._doubt_of_undo(key)):
                self._tell("undo", doubt, started)
                return doubt
            self._host.sent = True
            output = await self._followed(act, key)
            self._host.sent = False
        except (CannotOpen, NotAdmitted) as error:
            self._tell("undo", error.outcome, started)
            return error.outcome
        except Misconfigured as error:
            outcome = Outcome("failed", detail=error.what)
            self._tell("undo", outcome, started)
            return outcome
        rendered = _shown(act)
        self._tell("undo", output.outcome, started, rendered=rendered, output=output)
        return output.outcome

    async def _doubt_of_undo(self, key: Key) -> Outcome | None:
        if not self._planned.step.idempotent:
            return Outcome("lost", detail="An interruption left the undoing in doubt. A person must look.")
        await self._around.books.resolve(key, ran=False)
        await self._around.books.claim(key)
        return None

    async def _run_script(
        self,
        script: str,
        stdin: bytes = b"",
        idle: timedelta | None = None,
        timeout: timedelta | None = None,
        payload: Payload | None = None,
        *,
        logged_in: bool = False,
    ) -> Output:
        """Run a script as the account that the step is for, or as the one that logs in."""
        shell, target = await self._line.shell(), self._host.target
        time = timeout or self._left()
        become = None
        if self._planned.become and not logged_in:
            if not isinstance(shell, Becomes):
                what = f"{target.name} is reached by {target.transport}, where nothing acts by sudo."
                raise Misconfigured(what, advice="Take `become` out of the playbook, or log in as that account.")
            become = Become(self._planned.become, target.credential.become_password or target.credential.password)
        if payload is not None and isinstance(shell, Takes):
            return await shell.run_fed(payload, script, timeout=time, stdin=stdin, idle=idle, become=become)
        if payload is not None:
            stdin += payload.whole(LARGEST_WHOLE, target.name)
        if become is not None and isinstance(shell, Becomes):
            return await shell.run_as(become, script, timeout=time, stdin=stdin, idle=idle)
        return await shell.run(script, timeout=time, stdin=stdin, idle=idle)

    async def _followed(self, act: Act, key: Key) -> Output:
        """Do an effect that can be found again: told truly after a lost connection, and ended when its time is over."""
        if not isinstance(act, Script):
            return await self._perform(act, key)
        output = await self._perform(traces.marked(act, self._around.books.token(key)), key)
        if output.outcome.kind == "lost":
            ended = await self._following(key).reattached()
            if ended is not None:
                detail = f"The connection was lost; the host tells how it ended. {ended.detail}".strip()
                return replace(output, outcome=replace(ended, detail=detail))
        if output.outcome.kind == "timeout" and await self._killed(key):
            detail = "The command did not end in time; it was told to stop, and its host says that it has."
            return replace(output, outcome=replace(output.outcome, detail=detail))
        return output

    async def _ended(self, key: Key, act: Act) -> Outcome | None:
        """Ask the host how an effect of before an interruption ended; None if it does not know."""
        if isinstance(act, Restart):
            return await self._rebooting(act).ended()
        return await self._following(key).ended() if isinstance(act, Script) else None

    def _rebooting(self, act: Restart) -> Rebooting:
        async def run(script: Script, time: timedelta) -> Output:
            return await self._run_script(script.text, script.stdin, timeout=time)

        return Rebooting(act, self._line, run, self._left)

    def _following(self, key: Key) -> Following:
        token = "" if self._host.target.platform == "windows" else self._around.books.token(key)
        return Following(token, self._line, lambda script, time: self._run_script(script, timeout=time), self._left)

    async def _killed(self, key: Key) -> bool:
        """End a command by force within what is left of the host's time for that; return whether it is gone."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        gone = await self._following(key).killed(KILLING - timedelta(seconds=self._course.killing))
        self._course.killing += loop.time() - began
        return gone

    async def _perform(self, act: Act, key: Key) -> Output:
        """Do one act and return how it ended."""
        if self._around.spool is not None:
            KEEPING.set(self._around.spool.of(key, self._host.target.name))
        if isinstance(act, Condition):
            for that in act.that:
                if not render.value(that, self._scope(), self._planned.what):
                    detail = f"{act.message or 'A condition does not hold'}: {that}"
                    return Output(Outcome("failed", status=1, detail=detail))
            return Output(OK)
        if isinstance(act, Question):
            refusal = self._around.approved(self._host.target, self._planned, act)
            return Output(Outcome("refused", detail=refusal) if refusal else OK)
        if isinstance(act, Restart):
            output = await self._rebooting(act).restart()
        elif isinstance(act, Script):
            idle = self._around.plan.playbook.limits.idle
            output = await self._run_script(act.text, act.stdin, idle, payload=act.payload)
            tree = act.payload.tree if act.payload is not None else None
            if tree is not None and output.status == file_scripts.NO_TAR:
                output = await self._one_by_one(tree, act, key)
        else:
            output = await (await self._line.performer()).perform(act, timeout=self._left())
        if output.outcome.kind in ("lost", "unreachable"):
            await self._line.drop()
        return output

    async def _one_by_one(self, tree: Tree, act: Script, key: Key) -> Output:
        """Push a folder to a host that has no tar."""

        async def run(script: Script, acting: bool, time: timedelta) -> Output:
            if acting:
                script = traces.marked(script, self._around.books.token(key))
            return await self._run_script(script.text, script.stdin, timeout=time, logged_in=not acting)

        shell, name = await self._line.shell(), self._host.target.name
        return await pushing.one_by_one(shell, name, tree, act.staged, run, self._left)


def _shown(act: Act) -> str:
    """Return what may be stored of an act; conditions and questions have nothing to show."""
    return "" if isinstance(act, (Condition, Question)) else act.text
