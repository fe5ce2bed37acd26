"""A plan on many hosts at once. A hung host holds its own slot and nothing else; every host ends with one outcome.

A run ends within connect timeout + step timeout x steps + 5 s when all hosts have a slot; `limits.run` and
`Runner.cancel` end it sooner.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from msp.clock import utc_now
from msp.redact import Redactor
from msp.remote.acts import Question
from msp.remote.bookkeeping import Bookkeeper
from msp.remote.host_run import HostRun, Interrupted
from msp.remote.ledger import HostEnd, Ledger, StepRecord
from msp.remote.outcome import Outcome, run_state
from msp.remote.plan import Plan, PlannedStep
from msp.remote.spool import Spool
from msp.remote.step_run import Around
from msp.remote.target import Target
from msp.remote.transport import Transport


@dataclass(frozen=True, slots=True)
class Report:
    """How a run ended. `interrupted` hosts have no end yet: the worker stopped, another takes them up."""

    ends: tuple[HostEnd, ...]
    interrupted: tuple[int, ...] = ()

    @property
    def state(self) -> str:
        """succeeded, failed, in_doubt, cancelled or refused; running while hosts are interrupted."""
        return "running" if self.interrupted else run_state(end.outcome for end in self.ends)

    def counts(self) -> dict[str, int]:
        """Return how many hosts ended how; the sum is the number of hosts."""
        found: dict[str, int] = {}
        for end in self.ends:
            found[end.outcome.kind] = found.get(end.outcome.kind, 0) + 1
        return found


def _nobody(target: Target, planned: PlannedStep, question: Question) -> str:
    """Answer of a run at which nobody can be asked."""
    return f"It needs the approval of {question.who}; request the run from a ticket, where it can be asked for."


class Runner:
    """Drives a plan on targets. Make one per run and await `run` once."""

    def __init__(
        self,
        plan: Plan,
        targets: Sequence[Target],
        ledger: Ledger,
        transports: Callable[[str], Transport],
        *,
        parallel: int | None = None,
        dry_run: bool = False,
        redactor: Redactor | None = None,
        listener: Callable[[StepRecord | HostEnd], None] | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        window: Callable[[Target], str | None] = lambda _: None,
        approved: Callable[[Target, PlannedStep, Question], str | None] = _nobody,
        positions: Sequence[int] | None = None,
        max_fail: int | None = None,
        run: Mapping[str, object] | None = None,
        spool: Spool | None = None,
    ) -> None:
        """transports: gives the transport of a name. positions: of the targets in the whole run (default 0, 1, ...).

        spool: where full output goes, if it is to be kept.
        should_stop: true when this worker is to stop between steps. window: why nothing may be done to a host now,
        or None; asked before every step of every host, so it must be quick.
        """
        book = plan.playbook
        self._plan, self._targets, self._ledger, self._transports = plan, targets, ledger, transports
        self._parallel = parallel or book.at_once
        self._max_fail = (
            max_fail if max_fail is not None else 0 if book.serial and book.max_fail is None else book.max_fail
        )
        self._dry_run, self._listener, self._should_stop = dry_run, listener, should_stop
        self._window, self._approved = window, approved
        self._positions = tuple(positions) if positions is not None else tuple(range(len(targets)))
        self._run = dict(run or {})
        self._redactor = redactor or Redactor()
        self._redactor.learn(plan.secret_values)
        self._redactor.learn({value for target in targets for hop in target.way for value in hop.credential.typed})
        self._spool = spool
        self._failed = 0
        self._cancelled = ""
        self._out_of_time = False
        self._tasks: dict[asyncio.Task[None], HostRun] = {}
        self._ends: dict[int, HostEnd] = {}
        self._interrupted: list[int] = []

    def cancel(self, why: str = "Cancelled.") -> None:
        """End the run now: commands in hand are signalled, hosts not yet begun are not started."""
        if not self._cancelled:
            self._cancelled = why
            for task in self._tasks:
                task.cancel()

    def _time_is_over(self) -> None:
        self._out_of_time = True
        self.cancel("The time of the run is over.")

    async def run(self) -> Report:
        """Drive every host to its end and return the report. Raises what the ledger raises."""
        history = self._ledger.history()
        slots = asyncio.Semaphore(self._parallel)
        limit = self._plan.playbook.limits.run
        timer = asyncio.get_running_loop().call_later(limit.total_seconds(), self._time_is_over) if limit else None
        try:
            at_once = min(self._parallel, len(self._targets))
            async with Bookkeeper(self._ledger, self._listener, hosts=at_once) as books:
                around = Around(
                    plan=self._plan,
                    transport=self._transports,
                    books=books,
                    history=history,
                    redactor=self._redactor,
                    dry_run=self._dry_run,
                    should_stop=self._should_stop,
                    window=self._window,
                    approved=self._approved,
                    run=self._run,
                    spool=self._spool,
                )
                for position, target in zip(self._positions, self._targets, strict=True):
                    host = HostRun(around, position, target)
                    self._tasks[asyncio.create_task(self._host(host, position, slots, books))] = host
                if self._tasks:
                    await asyncio.wait(self._tasks)
                for task in self._tasks:
                    task.result()  # a fault of ours is not an outcome of a host
        finally:
            if timer:
                timer.cancel()
            for task in self._tasks:
                task.cancel()
        return Report(tuple(self._ends[key] for key in sorted(self._ends)), tuple(sorted(self._interrupted)))

    async def _host(self, host: HostRun, position: int, slots: asyncio.Semaphore, books: Bookkeeper) -> None:
        started: datetime | None = None
        try:
            async with slots:
                why = self._cancelled or self._too_many()
                if why:
                    outcome = Outcome("not_started", detail=why)
                elif self._should_stop():
                    raise Interrupted
                else:
                    started = utc_now()
                    outcome = await host.run()
        except Interrupted:
            self._interrupted.append(position)
            return
        except asyncio.CancelledError:
            if not self._cancelled:
                raise
            outcome = self._cut(host, started)
        if outcome.failed:
            self._failed += 1
        end = HostEnd(position, host.target.name, outcome, started, utc_now(), host.visit and outcome.failed)
        self._ends[position] = end
        books.end(end)

    def _too_many(self) -> str:
        if self._max_fail is None or self._failed <= self._max_fail:
            return ""
        return f"{self._failed} hosts failed and the playbook bears {self._max_fail}."

    def _cut(self, host: HostRun, started: datetime | None) -> Outcome:
        """Return the outcome of a host whose task was cancelled on purpose."""
        if started is None:
            return Outcome("not_started", detail=self._cancelled)
        if self._out_of_time:
            return Outcome("timeout", detail=f"{self._cancelled} A command in hand was told to stop, and may live on.")
        may = " Its command was told to stop, and may live on." if host.sent else ""
        return Outcome("cancelled", detail=f"{self._cancelled}{may}", sent=host.sent)
