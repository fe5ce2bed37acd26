"""Keeping house: what has had its time goes, what waits and what is evidence stays."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select, text, update

from msp import events, evidence
from msp.clock import utc_now
from msp.db import Database
from msp.engine import leases, queues, runtime, ticks, working
from msp.engine.models import Job
from msp.events import Event


def test_old_working_state_is_removed_and_what_waits_stays(database: Database) -> None:
    runtime.prepare(database.url)
    now = utc_now()
    table = "workflow_status" if database.is_sqlite else "dbos.workflow_status"
    with database.begin() as session:
        for job_id in ("old", "new", "waiting"):
            queues.enqueue(session, "notify", "x", {}, job_id=job_id)
        events.record(session, "board", "old").at = now - timedelta(days=31)
        events.record(session, "board", "new")
        evidence.record(session, "kept", actor="cli", subject=("x", 1), at=now - timedelta(days=4000))
        for job_id, days in (("old", 15), ("new", 1)):
            ended = now - timedelta(days=days)
            session.execute(update(Job).where(Job.id == job_id).values(state="done", finished_at=ended))
            session.execute(
                text(f"UPDATE {table} SET status = 'SUCCESS', completed_at = :at WHERE workflow_uuid = :id"),
                {"at": int(ended.timestamp() * 1000), "id": f"{job_id}~1"},
            )
    ticks.prune(now)
    with database.read() as session:
        assert sorted(session.scalars(select(Job.id))) == ["new", "waiting"]
        assert sorted(session.scalars(text(f"SELECT workflow_uuid FROM {table}"))) == ["new~1", "waiting~1"]
        assert session.scalars(select(Event.kind)).all() == ["new"]
        assert session.scalar(select(func.count()).select_from(evidence.Evidence)) == 1


def test_a_queued_job_that_nothing_carries_is_put_on_its_queue_again(database: Database) -> None:
    runtime.prepare(database.url)
    table = "workflow_status" if database.is_sqlite else "dbos.workflow_status"
    with database.begin() as session:
        for job_id in ("ended", "gone", "fine"):
            queues.enqueue(session, "notify", "x", {}, job_id=job_id)
        session.execute(text(f"UPDATE {table} SET status = 'ERROR' WHERE workflow_uuid = 'ended~1'"))
        session.execute(text(f"DELETE FROM {table} WHERE workflow_uuid = 'gone~1'"))
    with database.begin() as session:
        assert sorted(leases.reap(session, utc_now(), timedelta(minutes=1)).resumed) == ["ended", "gone"]
    with database.begin() as session:
        assert leases.reap(session, utc_now(), timedelta(minutes=1)) == leases.Reaped()
        assert working.held(session) == []


@pytest.mark.parametrize("seconds", [0, 1, 30])
def test_a_fresh_heartbeat_counts_as_life(database: Database, seconds: int) -> None:
    now = utc_now()
    lease = leases.acquire(database, "worker-01", now, timedelta(minutes=1))
    with database.read() as session:
        assert [row.name for row in leases.live(session, now + timedelta(seconds=seconds), timedelta(minutes=1))]
        assert leases.live(session, now + timedelta(seconds=61), timedelta(minutes=1)) == []
    lease.release()
    with database.read() as session:
        assert leases.live(session, now, timedelta(minutes=1)) == []
