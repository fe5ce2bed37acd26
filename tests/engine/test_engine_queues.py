"""Enqueueing in the caller's transaction, on both databases, and what a worker makes of it."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, text

from msp import db
from msp.db import Database
from msp.engine import perform, queues, runtime
from msp.engine.models import Job
from msp.errors import Conflict, Misconfigured, Unreachable
from msp.events import Event
from msp.evidence import Evidence
from msp.settings import Settings


@pytest.fixture
def ready(database: Database) -> Database:
    runtime.prepare(database.url)
    return database


@pytest.fixture
def launched(ready: Database) -> Iterator[Database]:
    runtime.launch(Settings(database=ready.url, worker_name="worker-test"))
    yield ready
    runtime.shutdown(timedelta(seconds=1))
    perform.set_draining(False)


def carried(database: Database) -> int:
    """Count what DBOS holds."""
    table = "workflow_status" if database.is_sqlite else "dbos.workflow_status"
    with database.read() as session:
        return int(session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def carried_jobs(database: Database) -> int:
    """Count the jobs we hold."""
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(Job)) or 0


def wait_for(done: Callable[[], Any], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def state(job_id: str) -> str:
    with db.read() as session:
        return session.scalars(select(Job.state).where(Job.id == job_id)).one()


def test_rollback_leaves_neither_job_nor_work(ready: Database) -> None:
    with ready.begin() as session:
        queues.enqueue(session, "runs", "x", {}, job_id="run:1", partition=1)
        session.rollback()
    with ready.read() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 0
    assert carried(ready) == 0


def test_the_same_id_twice_is_one_job(ready: Database) -> None:
    with ready.begin() as session:
        assert queues.enqueue(session, "runs", "x", {"n": 1}, job_id="run:1", partition=1)
        assert not queues.enqueue(session, "runs", "x", {"n": 2}, job_id="run:1", partition=1)
    with ready.begin() as session:
        assert not queues.enqueue(session, "runs", "x", {"n": 3}, job_id="run:1", partition=1)
        assert session.get_one(Job, "run:1").payload == {"n": 1}
    assert carried(ready) == 1


@pytest.mark.parametrize(
    "wrong",
    [{"job_id": ""}, {"job_id": " "}, {"job_id": "a~1"}, {"queue": "nowhere"}, {"partition": None}, {"priority": 0}],
)
def test_what_cannot_be_a_job_is_refused(ready: Database, wrong: dict[str, Any]) -> None:
    values: dict[str, Any] = {"queue": "runs", "handler": "x", "payload": {}, "job_id": "run:1", "partition": 1} | wrong
    with pytest.raises(Misconfigured), ready.begin() as session:
        queues.enqueue(session, **values)
    assert carried(ready) == 0


def test_only_what_has_ended_badly_can_be_repeated_and_only_what_waits_cancelled(ready: Database) -> None:
    with ready.begin() as session:
        queues.enqueue(session, "notify", "x", {}, job_id="n:1")
    with pytest.raises(Conflict), ready.begin() as session:
        queues.retry(session, "n:1")
    with ready.begin() as session:
        queues.cancel(session, "n:1")
    with pytest.raises(Conflict), ready.begin() as session:
        queues.cancel(session, "n:1")
    with ready.begin() as session:
        queues.retry(session, "n:1")
    assert (state("n:1"), carried(ready)) == ("queued", 2)


def test_enqueueing_without_prepared_tables_says_what_to_run(database: Database) -> None:
    with pytest.raises(Misconfigured, match="no tables"), database.begin() as session:
        queues.enqueue(session, "notify", "x", {}, job_id="n:1")
    assert carried_jobs(database) == 0


def test_launching_without_prepared_tables_says_what_to_run(database: Database) -> None:
    with pytest.raises(Misconfigured, match="cannot start") as caught:
        runtime.launch(Settings(database=database.url))
    assert "msp upgrade" in caught.value.advice


def test_jobs_run_or_fail_or_try_again_or_are_handed_back(launched: Database) -> None:
    seen: list[Any] = []
    told: list[str] = []

    @queues.register("plain")
    def plain(payload: dict[str, Any]) -> None:
        seen.append(payload["n"])

    @queues.register("async")
    async def waits(payload: dict[str, Any]) -> None:
        seen.append(payload["n"])

    @queues.register("broken", failed=lambda session, payload, what: told.append(f"{payload['n']} {what}"))
    def broken(payload: dict[str, Any]) -> None:
        raise ValueError("no such thing")

    @queues.register("flaky", tries=2, pause=timedelta())
    def flaky(payload: dict[str, Any]) -> None:
        seen.append("flaky")
        raise Unreachable("nobody answered")

    @queues.register("handed")
    def handed(payload: dict[str, Any]) -> None:
        seen.append("handed")
        if seen.count("handed") == 1:
            raise queues.HandBack

    with launched.begin() as session:
        queues.enqueue(session, "runs", "plain", {"n": 1}, job_id="a", partition=1)
        queues.enqueue(session, "restores", "async", {"n": 2}, job_id="b")
        queues.enqueue(session, "notify", "broken", {"n": 3}, job_id="c", client_id=9)
        queues.enqueue(session, "notify", "flaky", {}, job_id="d")
        queues.enqueue(session, "notify", "handed", {}, job_id="e")
        queues.enqueue(session, "notify", "unheard of", {}, job_id="f")
        soon = datetime.now(UTC) + timedelta(hours=1)
        queues.enqueue(session, "notify", "plain", {"n": 99}, job_id="g", not_before=soon)
    wait_for(lambda: "".join(state(job) for job in "abcdef") == "donedonefailedfaileddonefailed")
    assert sorted(map(str, seen)) == ["1", "2", "flaky", "flaky", "handed", "handed"]
    assert told == ["3 no such thing"]
    assert state("g") == "queued"
    with launched.read() as session:
        assert session.scalars(select(Evidence.chain).where(Evidence.subject_id == "c")).one() == 9
        assert session.scalar(select(func.count()).select_from(Event).where(Event.kind == "job.failed")) == 3
        assert "No handler named" in str(session.get_one(Job, "f").error)


def test_importing_the_engine_does_not_import_dbos() -> None:
    import subprocess
    import sys

    code = "import sys, msp.engine.queues, msp.engine.worker, msp.engine.schedules; sys.exit('dbos' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_enterprise_package_is_not_installed() -> None:
    from importlib.metadata import distributions

    assert not [name for item in distributions() if "enterprise" in (name := item.metadata["Name"].lower())]
