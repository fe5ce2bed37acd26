"""DBOS's own rows, as far as the engine must look at them: who runs what, and taking work from the dead.

The open core recovers only its own process, moves what it recovers off our queues and cannot ask "only if
that worker still holds it"; so these few statements go to its table directly. They fit the pinned version.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.orm import Session

WORKFLOW = "msp.perform"
ENDED = "'SUCCESS', 'ERROR', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED'"


@dataclass(frozen=True, slots=True)
class Held:
    """A round of a job that a worker has begun and not ended."""

    workflow_id: str
    executor: str

    @property
    def job_id(self) -> str:
        return self.workflow_id.rpartition("~")[0]


def _table(session: Session) -> str:
    return "workflow_status" if session.get_bind().dialect.name == "sqlite" else "dbos.workflow_status"


def held(session: Session) -> list[Held]:
    """Return every round in hand, by whatever worker, oldest first."""
    rows = session.execute(
        text(
            f"SELECT workflow_uuid, executor_id FROM {_table(session)} "  # noqa: S608  our own table name
            "WHERE status = 'PENDING' AND name = :name ORDER BY created_at"
        ),
        {"name": WORKFLOW},
    )
    return [Held(row[0], row[1] or "") for row in rows]


def give_up(session: Session, item: Held, now: datetime) -> bool:
    """End a round if that worker still holds it, and return whether it did.

    Clearing the owner fences the old worker: what it reports later about this round is refused.
    """
    query = text(
        f"UPDATE {_table(session)} SET status = 'CANCELLED', owner_xid = NULL, updated_at = :moment, "  # noqa: S608
        "completed_at = :moment "
        "WHERE workflow_uuid = :id AND status = 'PENDING' AND executor_id = :executor RETURNING workflow_uuid"
    )
    moment = int(now.timestamp() * 1000)
    found = session.execute(query, {"moment": moment, "id": item.workflow_id, "executor": item.executor})
    return found.first() is not None


def lost_jobs(session: Session) -> list[str]:
    """Return the ids of queued jobs that nothing will ever run: their round has ended or is gone."""
    rows = session.execute(
        text(
            f"SELECT job.id FROM job LEFT JOIN {_table(session)} AS work "  # noqa: S608
            "ON work.workflow_uuid = job.id || '~' || job.round "
            f"WHERE job.state = 'queued' AND (work.status IS NULL OR work.status IN ({ENDED}))"
        )
    )
    return [row[0] for row in rows]


def ended_before(session: Session, moment: datetime, limit: int = 500) -> Collection[str]:
    """Return up to `limit` ids of rounds that ended before `moment`."""
    rows = session.execute(
        text(
            f"SELECT workflow_uuid FROM {_table(session)} WHERE name = :name AND status IN ({ENDED}) "  # noqa: S608
            "AND completed_at < :moment LIMIT :limit"
        ),
        {"name": WORKFLOW, "moment": int(moment.timestamp() * 1000), "limit": limit},
    )
    return [row[0] for row in rows]
