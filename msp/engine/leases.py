"""Who works: one lease a worker slot, kept fresh by a heartbeat; and taking back the work of the dead.

On SQLite one worker process is allowed, and a lock on a file beside the database decides that without a race.
On PostgreSQL each worker has a slot of its own, and the row of the slot decides.
"""

import fcntl
import os
import socket
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import delete, select, text
from sqlalchemy.orm import Session

from msp import __version__
from msp.db import Database, inserting
from msp.engine import crashpoints, perform, queues, working
from msp.engine.models import Job, WorkerLease
from msp.errors import Conflict

TAKEOVERS = 3  # a job whose worker died this often is stopped: it may be what kills them
REAPER_LOCK = 0x6D73_7001  # any number, the same in every version


@dataclass(slots=True)
class Lease:
    """A slot held by this process. Made by `acquire`; keep it until `release`."""

    database: Database
    name: str
    started_at: datetime
    lock_file: int | None = field(default=None, repr=False)

    def _mine(self, session: Session) -> WorkerLease | None:
        row = session.get(WorkerLease, self.name, with_for_update=True)
        mine = row is not None and (row.pid, row.hostname, row.started_at) == (
            os.getpid(),
            socket.gethostname(),
            self.started_at,
        )
        return row if mine else None

    def heartbeat(self, now: datetime, *, draining: bool = False) -> bool:
        """Say that this worker lives. False: the slot was taken over, and this process must stop at once."""
        with self.database.begin() as session:
            row = self._mine(session)
            if row is None:
                return False
            row.heartbeat_at, row.draining = now, draining
        return True

    def release(self) -> None:
        """Give the slot up; what this worker left unfinished may be taken over at once."""
        with self.database.begin() as session:
            row = self._mine(session)
            if row is not None:
                session.delete(row)
        if self.lock_file is not None:
            os.close(self.lock_file)
            self.lock_file = None


def acquire(database: Database, name: str, now: datetime, lease: timedelta) -> Lease:
    """Take the worker slot `name`, or raise Conflict if a live worker holds it (on SQLite: any slot).

    A slot is free when its process is gone from this host, or silent for longer than `lease`.
    """
    lock_file = _lock(database.path) if database.path is not None else None
    try:
        with database.begin() as session:
            if lock_file is not None:
                session.execute(delete(WorkerLease))  # we hold the lock, so whoever they were is dead
            else:
                _refuse_live(session, name, now, lease)
            values = {
                "name": name,
                "pid": os.getpid(),
                "hostname": socket.gethostname(),
                "started_at": now,
                "heartbeat_at": now,
                "version": __version__,
                "draining": False,
            }
            insert = inserting(database.engine.dialect.name)
            statement = insert(WorkerLease).values(values).on_conflict_do_nothing().returning(WorkerLease.name)
            if session.scalar(statement) is None:
                raise Conflict(f"Another worker took the slot {name} just now.", advice="Give each its own name.")
    except BaseException:
        if lock_file is not None:
            os.close(lock_file)
        raise
    return Lease(database, name, now, lock_file)


def _lock(path: Path) -> int:
    """Lock the file beside an SQLite database for the life of this process."""
    lock = path.with_name(path.name + ".worker")
    file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(file, 100).decode("ascii", "replace").strip()
        os.close(file)
        raise Conflict(
            f"A worker already runs on this SQLite database{f' (process {holder})' if holder else ''}.",
            advice="Stop it, or move to PostgreSQL, where many workers share the load.",
        ) from error
    os.ftruncate(file, 0)
    os.write(file, f"{os.getpid()}\n".encode())
    return file


def _refuse_live(session: Session, name: str, now: datetime, lease: timedelta) -> None:
    """Remove a dead holder of the slot; raise Conflict for a live one."""
    row = session.get(WorkerLease, name, with_for_update=True)
    if row is None:
        return
    here = row.hostname == socket.gethostname()
    gone = here and (row.pid == os.getpid() or not Path(f"/proc/{row.pid}").exists())
    if not gone and now - row.heartbeat_at <= lease:
        raise Conflict(
            f"The worker slot {name} is held by process {row.pid} on {row.hostname}.",
            advice=f"Give this worker another worker_name; if that one died, its slot is free in {lease}.",
        )
    session.delete(row)
    session.flush()


def live(session: Session, now: datetime, lease: timedelta) -> list[WorkerLease]:
    """Return the workers whose heartbeat is fresh, by name."""
    query = select(WorkerLease).where(WorkerLease.heartbeat_at >= now - lease).order_by(WorkerLease.name)
    return list(session.scalars(query))


@dataclass(frozen=True, slots=True)
class Reaped:
    """Ids of jobs given back to their queue, and of jobs stopped because their workers keep dying."""

    resumed: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()


def reap(session: Session, now: datetime, lease: timedelta, *, restarted: str | None = None) -> Reaped:
    """Give back the jobs of workers that are dead, each to its own queue, under one lock for all workers.

    restarted: a slot whose lease the caller has just taken, so that what it holds is its predecessor's.
    A job that was taken over three times before is stopped, and evidence and an event tell of it. Queued jobs
    that nothing carries any more are put on their queue again.
    """
    if session.get_bind().dialect.name != "sqlite":  # SQLite: BEGIN IMMEDIATE is the lock
        got = session.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": REAPER_LOCK})
        if not got and restarted is None:
            return Reaped()
        if not got:
            session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": REAPER_LOCK})
    alive = {row.name for row in live(session, now, lease)} - {restarted}
    resumed, stopped = [], []
    for item in working.held(session):
        if item.executor in alive:
            continue
        job = session.get(Job, item.job_id, with_for_update=True)
        if not working.give_up(session, item, now) or job is None or job.state != "queued":
            continue
        if job.takeovers >= TAKEOVERS:
            perform.fail(session, job, "stopped", f"Its worker died {job.takeovers + 1} times while running it.")
            stopped.append(job.id)
        else:  # a new round: whatever the old worker still says about its own is out of date
            job.takeovers += 1
            queues.again(session, job)
            resumed.append(job.id)
    for job_id in working.lost_jobs(session):
        queues.again(session, session.get_one(Job, job_id, with_for_update=True))
        resumed.append(job_id)
    session.flush()
    crashpoints.at("reap.before")
    return Reaped(tuple(resumed), tuple(stopped))
