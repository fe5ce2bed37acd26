"""Putting work on a queue, in the caller's transaction; the same job id twice is one job."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.orm import Session

from msp.clock import utc_now
from msp.db import inserting
from msp.engine import runtime, working
from msp.engine.models import Job
from msp.errors import Conflict, Misconfigured, NotFound
from msp.settings import Settings

if TYPE_CHECKING:
    from dbos import EnqueueOptions

RUNS, RESTORES, NOTIFY = "runs", "restores", "notify"
DEFAULT_PRIORITY = 3  # DBOS puts work without a priority before every other; ours goes with the middle
POLL_EMBEDDED, POLL_SERVER = 0.2, 1.0  # seconds; on a server many workers poll

Body = Callable[[dict[str, Any]], Awaitable[None] | None]
Failed = Callable[[Session, dict[str, Any], str], None]


@dataclass(frozen=True, slots=True)
class Handler:
    """What a job's name stands for in this process."""

    name: str
    body: Body
    tries: int  # how often it is begun when it fails with an error that may be retried
    pause: timedelta  # before the second try; doubled for each further one, up to an hour
    failed: Failed | None


_handlers: dict[str, Handler] = {}


class HandBack(Exception):
    """Raised by a handler between two steps when `draining()`: another worker shall go on from here."""


def register(
    name: str, *, tries: int = 1, pause: timedelta = timedelta(seconds=5), failed: Failed | None = None
) -> Callable[[Body], Body]:
    """Register a plain function, sync or async, as what jobs named `name` do; use as a decorator.

    The function is given the payload. It may be begun again from its start after a crash, so it keeps its own
    progress in tables and claims every remote effect. tries: how often it is begun altogether when it raises
    an error with `retry`, waiting `pause` and then twice as long each time. failed(session, payload, what):
    called in the transaction that records a final failure. Registering a name anew replaces it.
    """
    if not name or tries < 1:
        raise Misconfigured("A handler needs a name and at least one try.")

    def add(body: Body) -> Body:
        _handlers[name] = Handler(name, body, tries, pause, failed)
        return body

    return add


def handler(name: str) -> Handler:
    """Return the handler of that name; raises Misconfigured if this process knows none."""
    if name not in _handlers:
        raise Misconfigured(
            f"No handler named {name!r} is known to this worker.",
            advice="Run the same version of msp-toolkit everywhere.",
        )
    return _handlers[name]


def limits(settings: Settings, *, embedded: bool) -> dict[str, dict[str, Any]]:
    """Return the limits of every queue by its name. A queue without a worker limit would be taken whole."""
    poll = POLL_EMBEDDED if embedded else POLL_SERVER
    both = max(1, settings.worker_concurrency)
    return {
        RUNS: {
            "partition_concurrency": max(1, settings.client_concurrency),
            "worker_concurrency": both,
            "polling_interval_sec": poll,
        },
        RESTORES: {"worker_concurrency": max(1, both // 2), "polling_interval_sec": poll},
        NOTIFY: {"worker_concurrency": 4, "polling_interval_sec": poll},
    }


def enqueue(
    session: Session,
    queue: str,
    handler: str,
    payload: Mapping[str, Any],
    *,
    job_id: str,
    partition: str | int | None = None,
    priority: int | None = None,
    not_before: datetime | None = None,
    client_id: int | None = None,
) -> bool:
    """Put a job on a queue; it exists when the caller's transaction commits. Return False if it existed before.

    queue: "runs" (needs `partition`, the client's id: at most `client_concurrency` of one run at once),
    "restores" or "notify". payload: JSON values, no secrets. job_id: says what the job is, like "run:12".
    priority: 1 is most urgent, default 3. not_before: aware instant. client_id: whose chain of evidence tells
    of a failure. Raises Misconfigured for an empty id, an unknown queue, a missing partition.
    """
    if not job_id.strip() or "~" in job_id:
        raise Misconfigured(f"{job_id!r} cannot name a job.", advice="Name what it is, like run:12; no tilde.")
    if queue not in (RUNS, RESTORES, NOTIFY):
        raise Misconfigured(f"There is no queue {queue!r}.", advice=f"Known: {RUNS}, {RESTORES}, {NOTIFY}.")
    if queue == RUNS and partition in (None, ""):
        raise Misconfigured(f"Job {job_id} on the queue runs names no client.", advice="Give `partition`.")
    if priority is not None and priority < 1:
        raise Misconfigured(f"Priority {priority} is not 1 or more.", advice="1 is most urgent.")
    values = {
        "id": job_id,
        "queue": queue,
        "handler": handler,
        "payload": dict(payload),
        "partition": str(partition) if queue == RUNS else None,
        "priority": priority,
        "client_id": client_id,
        "state": "queued",
        "round": 1,
        "tries": 0,
        "takeovers": 0,
        "created_at": utc_now(),
    }
    insert = inserting(session.get_bind().dialect.name)
    added = session.scalar(insert(Job).values(values).on_conflict_do_nothing().returning(Job.id))
    if added is None:
        return False
    _carry(session, session.get_one(Job, job_id), not_before)
    return True


def _carry(session: Session, job: Job, not_before: datetime | None = None) -> None:
    """Hand the job's present round to DBOS in this transaction."""
    options: EnqueueOptions = {
        "workflow_name": working.WORKFLOW,
        "queue_name": job.queue,
        "workflow_id": f"{job.id}~{job.round}",
        "priority": job.priority or DEFAULT_PRIORITY,
    }
    if job.partition is not None:
        options["queue_partition_key"] = job.partition
    if not_before is not None and (wait := (not_before - utc_now()).total_seconds()) > 0:
        options["delay_seconds"] = wait
    session.flush()
    try:
        runtime.client(session).enqueue_in_transaction(session.connection(), options, job.id, job.round)
    except (OperationalError, ProgrammingError) as error:
        if "workflow_status" not in str(error.orig):
            raise
        raise Misconfigured(
            "The durable engine has no tables in this database yet.", advice="Run msp upgrade."
        ) from error


def again(session: Session, job: Job, not_before: datetime | None = None) -> None:
    """Put a job on its queue for another round."""
    job.state, job.round, job.finished_at = "queued", job.round + 1, None
    _carry(session, job, not_before)


def backoff(pause: timedelta, tries: int) -> timedelta:
    """Return how long to wait after the given number of failures: `pause`, doubling up to an hour."""
    return min(pause * (1 << min(tries - 1, 20)), timedelta(hours=1))


def _job(session: Session, job_id: str) -> Job:
    job = session.get(Job, job_id, with_for_update=True)
    if job is None:
        raise NotFound(f"There is no job {job_id}.", advice="It may have been removed after its retention time.")
    return job


def cancel(session: Session, job_id: str) -> None:
    """Cancel a job that is waiting. One that runs goes on until its handler looks at its own state.

    Raises NotFound, or Conflict if the job has ended.
    """
    job = _job(session, job_id)
    if job.state != "queued":
        raise Conflict(f"Job {job_id} has already ended: {job.state}.")
    job.state, job.finished_at = "cancelled", utc_now()


def retry(session: Session, job_id: str) -> None:
    """Put a failed, stopped or cancelled job on its queue again, with its counts at nought.

    Raises NotFound, or Conflict if the job waits, runs or is done.
    """
    job = _job(session, job_id)
    if job.state not in ("failed", "stopped", "cancelled"):
        raise Conflict(f"Job {job_id} is {job.state}; only one that failed or was stopped can be repeated.")
    job.tries = job.takeovers = 0
    job.error = None
    again(session, job)
