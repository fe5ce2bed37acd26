"""The alarm clock of a worker: a handful of fixed ticks. What is due is a row in a table, never a job here."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from msp import db
from msp.clock import utc_now
from msp.engine import crashpoints, leases, perform, runtime, schedules, working
from msp.engine.models import Job, ScheduleFire
from msp.events import Event
from msp.settings import Settings

logger = logging.getLogger(__name__)
HEARTBEAT, DUE, REAPER, RETENTION = 10.0, 1.0, 15.0, 3600.0  # seconds
TELL_AGAIN = 60.0  # seconds between two lines about a tick that keeps failing
KEEP_WORK = timedelta(days=14)  # DBOS's rows and ended jobs: working state, evidence stays
KEEP_EVENTS = timedelta(days=30)
KEEP_FIRES = timedelta(days=400)

Tick = Callable[[Session, datetime], object]


@dataclass(frozen=True, slots=True)
class Registered:
    """A tick of a room above: `body(session, now)` every `seconds`, in one transaction that commits after it."""

    name: str
    seconds: float
    body: Tick


_registered: dict[str, Registered] = {}


def on_tick(name: str, seconds: float) -> Callable[[Tick], Tick]:
    """Register `body(session, now)` to be called every `seconds` by every worker; use as a decorator.

    It runs on several workers at once: take rows with FOR UPDATE SKIP LOCKED or make it harmless. While it
    returns something true it is called again at once, in a new transaction.
    """

    def add(body: Tick) -> Tick:
        _registered[name] = Registered(name, seconds, body)
        return body

    return add


def run_tick(body: Tick) -> None:
    """Call a tick until it has no more to do; each call is one transaction."""
    while True:
        with db.begin() as session:
            more = body(session, utc_now())
        crashpoints.at("tick.committed")
        if not more:
            return


def prune(now: datetime) -> None:
    """Remove working state past its time: ended jobs, old events, old fires. Evidence is never removed."""
    with db.begin() as session:
        ended = Job.state.in_(("done", "failed", "stopped", "cancelled"))
        session.execute(delete(Job).where(ended, Job.finished_at < now - KEEP_WORK))
        session.execute(delete(Event).where(Event.at < now - KEEP_EVENTS))
        session.execute(delete(ScheduleFire).where(ScheduleFire.at < now - KEEP_FIRES))
    while True:
        with db.read() as session:
            old = list(working.ended_before(session, now - KEEP_WORK))
        if not old:
            return
        with db.begin() as session:
            engine = runtime.client(session)
        engine.delete_workflows(old)


class Ticker:
    """Runs the ticks of one worker in threads, from `start` to `stop`."""

    def __init__(self, settings: Settings, lease: leases.Lease, lost: Callable[[], object]) -> None:
        """lost: called once the slot is found taken over by another process."""
        self.settings, self.lease, self.lost = settings, lease, lost
        self.scheduler: Any = None
        self.beats: tuple[datetime, datetime] | None = None  # first and last of an unbroken row of heartbeats

    def start(self) -> None:
        """Start every tick, each first at once."""
        from apscheduler.executors.pool import ThreadPoolExecutor
        from apscheduler.schedulers.background import BackgroundScheduler

        limit = timedelta(seconds=self.settings.lease_seconds)
        fixed: list[tuple[str, float, Callable[[], object]]] = [
            ("heartbeat", self._interval.total_seconds(), self._heartbeat),
            ("due", DUE, lambda: run_tick(schedules.due_tick)),
            (
                "reaper",
                min(REAPER, self.settings.lease_seconds / 4),
                lambda: run_tick(lambda session, now: self._reap(session, now, limit)),
            ),
            ("retention", RETENTION, lambda: prune(utc_now())),
        ]
        fixed += [
            (tick.name, tick.seconds, lambda body=tick.body: run_tick(body))  # type: ignore[misc]  # bound now
            for tick in _registered.values()
        ]
        self.scheduler = BackgroundScheduler(
            timezone="UTC",
            executors={"default": ThreadPoolExecutor(len(fixed) + 1)},  # a tick that hangs delays no other
            job_defaults={"max_instances": 1, "coalesce": True, "misfire_grace_time": None},
        )
        for name, seconds, body in fixed:
            self.scheduler.add_job(_guarded(name, body), "interval", id=name, seconds=seconds, next_run_time=utc_now())
        self.scheduler.start()

    @property
    def _interval(self) -> timedelta:
        return timedelta(seconds=min(HEARTBEAT, self.settings.lease_seconds / 3))

    def _heartbeat(self) -> None:
        now = utc_now()
        if not self.lease.heartbeat(now, draining=perform.draining()):
            logger.error("Another process has taken over the slot %s; this one stops.", self.lease.name)
            self.lost()
        elif self.beats is None or now - self.beats[1] > 2 * self._interval:
            self.beats = (now, now)
        else:
            self.beats = (self.beats[0], now)

    def _reap(self, session: Session, now: datetime, limit: timedelta) -> None:
        """Judge others only after some heartbeats of our own in a row: after an outage of the database, or a
        pause of this machine, everybody's lease looks stale."""
        if self.beats is None or now - self.beats[0] < 2 * self._interval or now - self.beats[1] > 2 * self._interval:
            return
        reaped = leases.reap(session, now, limit)
        for job in reaped.resumed:
            logger.warning("Took over job %s of a dead worker.", job)
        for job in reaped.stopped:
            logger.error("Stopped job %s: its workers keep dying.", job)

    def only_heartbeat(self) -> None:
        """Begin to drain: stop every tick but the heartbeat."""
        for job in self.scheduler.get_jobs():
            if job.id != "heartbeat":
                job.remove()

    def stop(self) -> None:
        """Stop every tick; one that runs ends first."""
        if self.scheduler is not None:
            self.scheduler.shutdown(wait=True)
            self.scheduler = None


def _guarded(name: str, body: Callable[[], object]) -> Callable[[], None]:
    """A tick that fails is told of, once a minute, and tried again at its next time; it never ends the clock."""
    told = float("-inf")

    def run() -> None:
        nonlocal told
        try:
            body()
        except Exception as error:
            if time.monotonic() - told >= TELL_AGAIN:
                told = time.monotonic()
                what = error.orig if isinstance(error, OperationalError) else error
                logger.error("The tick %s failed: %s.", name, what, exc_info=what is error)
        else:
            if told > float("-inf"):
                told = float("-inf")
                logger.info("The tick %s works again.", name)

    return run
