"""The one durable workflow: look the job up, run its handler, write down how it ended.

DBOS knows only this function and a job's id, so editing a handler never strands work that waits.
"""

import asyncio
import inspect
import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session

from msp import db, events, evidence, log
from msp.clock import utc_now
from msp.engine import crashpoints, queues
from msp.engine.models import Job
from msp.errors import MspError

logger = logging.getLogger(__name__)
DATABASE_TRIES = 10  # rounds of a job whose handler meets a database that does not answer

_draining = threading.Event()
_active: set[str] = set()


def draining() -> bool:
    """Whether this worker is stopping. A long handler asks between steps, and raises HandBack."""
    return _draining.is_set()


def set_draining(value: bool) -> None:
    """Begin or end draining in this process."""
    (_draining.set if value else _draining.clear)()


def active() -> list[str]:
    """Return the ids of the jobs whose handlers run in this process now."""
    return sorted(_active)


def perform(job_id: str, number: int) -> None:
    """Run round `number` of a job unless it has moved on. Never raises for what a handler does."""
    crashpoints.at("job.start")
    job = _persist(lambda session: session.get(Job, job_id))
    if job is None or job.state != "queued" or job.round != number:
        return
    _active.add(job_id)
    try:
        with log.about(job=job_id):
            _run(job)
    finally:
        _active.discard(job_id)


def _run(job: Job) -> None:
    try:
        found = queues.handler(job.handler)
        crashpoints.at("job.before")
        result = found.body(dict(job.payload))
        if inspect.isawaitable(result):
            asyncio.run(_await(result))
        crashpoints.at("job.handled")
    except queues.HandBack:
        _persist(lambda session: _end(session, job, "queued"))
    except Exception as error:
        logger.warning("Job %s failed: %s", job.id, error, exc_info=not isinstance(error, MspError))
        what = str(log.redactor.tree(f"{error}" or type(error).__name__))
        pause = _pause(job, error)
        _persist(lambda session: _end(session, job, "failed" if pause is None else "retry", what, pause))
    else:
        _persist(lambda session: _end(session, job, "done"))
    crashpoints.at("job.ended")


async def _await(result: object) -> None:
    await result  # type: ignore[misc]  # asyncio.run takes a coroutine, a handler may return any awaitable


def _pause(job: Job, error: Exception) -> timedelta | None:
    """Return how long to wait before the next try, or None if there shall be none."""
    if isinstance(error, OperationalError):  # the database is away or restarts
        return queues.backoff(timedelta(seconds=1), job.tries + 1) if job.tries + 1 < DATABASE_TRIES else None
    if not (isinstance(error, MspError) and error.retry):
        return None
    found = queues.handler(job.handler)
    return queues.backoff(found.pause, job.tries + 1) if job.tries + 1 < found.tries else None


def _end(session: Session, known: Job, how: str, what: str = "", pause: timedelta | None = None) -> None:
    """Write down how a round ended; nothing if the job has moved on (a worker taken for dead comes late)."""
    job = session.get(Job, known.id, with_for_update=True)
    if job is None or job.round != known.round or job.state not in ("queued", "cancelled"):
        return
    if how == "done":
        job.state, job.finished_at, job.error = "done", utc_now(), None
    elif job.state == "cancelled":
        return
    elif how == "failed":
        fail(session, job, "failed", what)
    elif how == "retry":
        job.tries, job.error = job.tries + 1, what
        queues.again(session, job, utc_now() + (pause or timedelta()))
    else:
        queues.again(session, job)


def fail(session: Session, job: Job, state: str, what: str) -> None:
    """End a job as failed or stopped, and tell of it: evidence, an event, and the handler's own `failed`."""
    job.state, job.error, job.finished_at = state, what, utc_now()
    data = {"handler": job.handler, "queue": job.queue, "error": what, "takeovers": job.takeovers}
    evidence.record(
        session, f"job.{state}", actor="worker", subject=("job", job.id), client_id=job.client_id, data=data
    )
    events.record(session, "jobs", f"job.{state}", client_id=job.client_id, data={"job": job.id, "error": what})
    try:
        failed = queues.handler(job.handler).failed
    except MspError:
        return  # the worker that reaps need not know the handler
    if failed is not None:
        failed(session, dict(job.payload), what)


T = TypeVar("T")


def _persist(work: Callable[[Session], T]) -> T:
    """Do `work` in one transaction. Waits for a database that is away: how a job ended must not be lost."""
    pause = 0.1
    while True:
        try:
            with db.begin() as session:
                return work(session)
        except DBAPIError as error:  # away, or two first records of one chain at once: both pass
            if pause > 60:
                raise  # the reaper finds the job later
            logger.warning("The database refused: %s. Trying again in %.1f s.", error.orig, pause)
            time.sleep(pause)
            pause *= 2
