"""Workers that are killed, paused, doubled and stopped: real processes on both databases."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text

from msp.clock import utc_now
from msp.db import Database
from msp.engine import leases, queues, runtime, schedules
from msp.engine.claims import ClaimKey, in_doubt, resolve
from msp.engine.models import Job, ScheduleFire, WorkerLease
from msp.errors import Conflict
from msp.events import Event
from msp.evidence import Evidence, verify

CHILD = Path(__file__).with_name("engine_child.py")
pytestmark = pytest.mark.slow


class Workers:
    """Starts worker processes and ends every one of them with the test."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database, self.folder = database, folder
        self.started: list[subprocess.Popen[str]] = []

    def start(
        self, slot: str = "worker-01", *, crash_at: str = "", lease: int = 60, drain: int = 5, per_client: int = 4
    ) -> "subprocess.Popen[str]":
        root = CHILD.parents[2]
        environment = os.environ | {"PYTHONPATH": str(root), "MSP_TEST_PER_CLIENT": str(per_client)}
        if crash_at:
            environment["MSP_TEST_CRASH_AT"] = crash_at
        log = (self.folder / f"{slot}.log").open("a")
        command = [sys.executable, str(CHILD), self.database.url, slot, str(self.folder), str(lease), str(drain)]
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        log.close()
        self.started.append(worker)
        return worker

    def ready(self, *arguments: Any, **options: Any) -> "subprocess.Popen[str]":
        worker = self.start(*arguments, **options)
        assert worker.stdout is not None
        line = worker.stdout.readline()
        assert line == "ready\n", line or self.log()
        return worker

    def log(self) -> str:
        return "".join(path.read_text() for path in self.folder.glob("*.log"))

    def effects(self, name: str = "effects") -> list[str]:
        path = self.folder / name
        return [line.rsplit(" ", 2)[0] for line in path.read_text().splitlines()] if path.exists() else []

    def close(self) -> None:
        for worker in self.started:
            if worker.poll() is None:
                worker.kill()
            worker.wait()
            if worker.stdout is not None:
                worker.stdout.close()


@pytest.fixture
def workers(database: Database, tmp_path: Path) -> Iterator[Workers]:
    runtime.prepare(database.url)
    crew = Workers(database, tmp_path)
    yield crew
    crew.close()


def wait_for(done: Callable[[], Any], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def put(database: Database, job_id: str, handler: str, payload: dict[str, Any], client: int = 1) -> None:
    with database.begin() as session:
        queues.enqueue(session, "runs", handler, payload, job_id=job_id, partition=client, client_id=client)


def state(database: Database, job_id: str) -> str:
    with database.read() as session:
        return session.scalars(select(Job.state).where(Job.id == job_id)).one()


def told(database: Database, kind: str) -> int:
    """Count the events of a kind."""
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(Event).where(Event.kind == kind)) or 0


def test_effect_in_hand_at_a_kill_is_not_done_twice_and_is_told_to_be_in_doubt(
    database: Database, workers: Workers
) -> None:
    put(database, "run:5", "change", {"run": 5, "seconds": 30})
    first = workers.ready()
    wait_for(lambda: "5 1" in workers.effects())
    first.kill()
    first.wait()
    workers.ready()
    wait_for(lambda: state(database, "run:5") == "done")
    assert workers.effects() == ["5 0", "5 1"]
    with database.begin() as session:
        (claim,) = in_doubt(session)
        assert (claim.run_id, claim.step) == (5, 1)
        assert session.scalars(select(Event.data).where(Event.kind == "step.in_doubt")).one() == {"step": 1}
        resolve(session, ClaimKey(5, 1, 1, "do"), "ran", "anna", "the service is up")
        queues.enqueue(
            session, "runs", "change", {"run": 5, "seconds": 30}, job_id="run:5:2", partition=1
        )  # the next segment
    wait_for(lambda: state(database, "run:5:2") == "done")
    assert workers.effects() == ["5 0", "5 1", "5 2"]


@pytest.mark.parametrize(
    "point", ["job.start", "job.before", "claimed", "acted", "finished", "job.handled", "job.ended"]
)
@pytest.mark.parametrize("passing", [1, 2])
def test_killed_at_every_commit_boundary_no_effect_happens_twice(
    database: Database, workers: Workers, point: str, passing: int
) -> None:
    for run in (1, 2):
        put(database, f"run:{run}", "change", {"run": run, "seconds": 0})
    first = workers.start(crash_at=f"{point}:{passing}", per_client=1)  # one at a time: the kill hits one effect
    assert first.wait(60) == -signal.SIGKILL, workers.log()
    workers.ready()
    wait_for(lambda: state(database, "run:1") == state(database, "run:2") == "done")
    effects = workers.effects()
    assert max(Counter(effects).values()) == 1
    with database.read() as session:
        doubtful = {claim.run_id: claim.step for claim in in_doubt(session)}
    assert len(doubtful) == (point in ("claimed", "acted"))
    for run in (1, 2):  # all its steps, or all before the one in doubt, which may or may not have happened
        done = [step for step in range(3) if f"{run} {step}" in effects]
        allowed = [[0, 1, 2][: doubtful[run] + more] for more in (0, 1)] if run in doubtful else [[0, 1, 2]]
        assert done in allowed


def test_counter_is_exactly_300_after_many_kills(database: Database, workers: Workers) -> None:
    with database.begin() as session:
        session.execute(text("CREATE TABLE test_counter (n INTEGER)"))
        session.execute(text("INSERT INTO test_counter VALUES (0)"))
    for run in range(6):
        put(database, f"run:{run}", "count", {"run": run, "steps": 50})
    chance, kills = random.Random(7), 0
    jobs = [f"run:{run}" for run in range(6)]
    while not all(state(database, job) == "done" for job in jobs):
        worker = workers.start(crash_at=f"count.step:{chance.randint(5, 40)}" if kills < 15 else "", per_client=1)
        wait_for(lambda worker=worker: worker.poll() is not None or all(state(database, job) == "done" for job in jobs))  # type: ignore[misc]
        kills += worker.poll() == -signal.SIGKILL
        worker.kill()
        worker.wait()
        for job in jobs:
            if state(database, job) == "stopped":  # killed more often than we put up with: a person repeats it
                with database.begin() as session:
                    queues.retry(session, job)
    assert kills > 5
    with database.read() as session:
        assert session.execute(text("SELECT n FROM test_counter")).scalar_one() == 300


def test_a_job_that_kills_its_workers_is_stopped_and_told_of(database: Database, workers: Workers) -> None:
    put(database, "run:1", "killer", {}, client=4)
    while state(database, "run:1") == "queued":
        assert len(workers.started) < 8
        worker = workers.start()
        wait_for(lambda worker=worker: worker.poll() is not None or state(database, "run:1") != "queued")  # type: ignore[misc]
        worker.kill()
        worker.wait()
    assert state(database, "run:1") == "stopped"
    assert len(workers.effects()) == 1 + leases.TAKEOVERS
    with database.read() as session:
        told = session.scalars(select(Evidence).where(Evidence.kind == "job.stopped")).one()
        assert (told.chain, told.subject_id) == (4, "run:1")
        assert verify(session)[1] == []


def test_second_worker_is_refused_and_a_killed_one_makes_room_at_once(database: Database, workers: Workers) -> None:
    first = workers.ready("worker-01")
    if database.is_sqlite:
        others = [workers.start(f"worker-{number:02}") for number in range(2, 6)]  # at once: the lock decides
    else:
        others = [workers.start("worker-01")]
    for other in others:
        said, _ = other.communicate(timeout=60)
        assert json.loads(said)["error"] == "conflict"
    first.kill()
    first.wait()
    workers.ready("worker-01")


def test_on_a_server_workers_share_and_one_takes_over_from_another_host(database: Database, workers: Workers) -> None:
    if database.is_sqlite:
        pytest.skip("SQLite has one worker")
    put(database, "run:5", "change", {"run": 5, "seconds": 30})
    first = workers.ready("worker-01", lease=3)
    wait_for(lambda: "5 1" in workers.effects())
    workers.ready("worker-02", lease=3)
    first.kill()
    first.wait()
    wait_for(lambda: state(database, "run:5") == "done")
    assert workers.effects() == ["5 0", "5 1"]
    with database.read() as session:
        assert session.get_one(Job, "run:5").takeovers == 1
        assert [claim.worker for claim in in_doubt(session)] == ["worker-01"]


def test_paused_worker_that_wakes_after_the_takeover_changes_nothing(database: Database, workers: Workers) -> None:
    if database.is_sqlite:
        pytest.skip("a paused worker keeps the lock, so SQLite has nobody to take over")
    put(database, "run:5", "change", {"run": 5, "seconds": 4, "linger": 5})
    zombie = workers.ready("worker-01", lease=3)
    wait_for(lambda: "5 1" in workers.effects())
    zombie.send_signal(signal.SIGSTOP)
    workers.ready("worker-02", lease=3)
    wait_for(lambda: told(database, "step.in_doubt"))
    zombie.send_signal(signal.SIGCONT)  # its step ends, and is refused, while the other works
    wait_for(lambda: "no longer claimed" in workers.log())
    wait_for(lambda: state(database, "run:5") != "queued")
    assert state(database, "run:5") == "done"
    assert workers.effects() == ["5 0", "5 1"]
    with database.read() as session:
        assert [claim.state for claim in in_doubt(session)] == ["in_doubt"]
    put(database, "run:6", "change", {"run": 6, "seconds": 0})
    wait_for(lambda: state(database, "run:6") == "done")


def test_limit_of_a_client_holds_whoever_works(database: Database, workers: Workers) -> None:
    for number in range(24):
        put(database, f"run:{number}", "span", {"client": number % 2, "seconds": 0.3}, client=number % 2)
    for number in range(1 if database.is_sqlite else 3):
        workers.ready(f"worker-{number:02}", per_client=2)
    wait_for(lambda: len(workers.effects("spans")) == 48)
    at_once: Counter[str] = Counter()
    for line in sorted((workers.folder / "spans").read_text().splitlines(), key=lambda line: float(line.split()[2])):
        client, what, *_ = line.split()
        at_once[client] += 1 if what == "begin" else -1
        assert at_once[client] <= 2
    assert len(workers.effects("spans")) == 48


@pytest.mark.parametrize("point", ["due.before", "tick.committed", "job.handled"])
def test_a_ticker_killed_at_its_commit_fires_every_schedule_once(
    database: Database, workers: Workers, point: str
) -> None:
    yesterday = utc_now() - timedelta(days=1)
    line = f"{yesterday.minute} {yesterday.hour} * * *"
    with database.begin() as session:
        for number in range(5):
            schedules.upsert(
                session,
                key=f"s:{number}",
                handler="span",
                cron=line,
                queue="restores",
                payload={"client": number, "seconds": 0},
                grace=timedelta(hours=30),
                now=yesterday - timedelta(minutes=5),
            )
    killed = workers.start(crash_at=point)
    assert killed.wait(60) == -signal.SIGKILL, workers.log()
    workers.ready()

    def all_done() -> bool:
        with database.read() as session:
            return list(session.scalars(select(Job.state))) == ["done"] * 5

    wait_for(all_done)
    with database.read() as session:
        fires = session.execute(select(ScheduleFire.schedule_id, ScheduleFire.state)).all()
    assert len(fires) == len(set(fires)) >= 5
    assert sum(fire.state == "enqueued" for fire in fires) == 5


def test_ticks_of_other_rooms_run_and_heartbeats_keep_the_lease(database: Database, workers: Workers) -> None:
    workers.ready(lease=3)
    wait_for(lambda: told(database, "ticked") >= 8)
    with database.read() as session:
        assert [row.name for row in leases.live(session, utc_now(), timedelta(seconds=3))] == ["worker-01"]


def test_drain_ends_the_step_in_hand_and_hands_the_rest_back(database: Database, workers: Workers) -> None:
    put(database, "run:5", "change", {"run": 5, "seconds": 2})
    put(database, "run:6", "span", {"client": 1, "seconds": 1})
    first = workers.ready(drain=20)
    wait_for(lambda: "5 1" in workers.effects())
    first.terminate()
    said, _ = first.communicate(timeout=60)
    assert json.loads(said) == {"running": [], "lost": False}
    assert workers.effects() == ["5 0", "5 1"]
    assert state(database, "run:5") == "queued"
    with database.read() as session:
        assert session.scalars(select(WorkerLease)).all() == []
        assert in_doubt(session) == []
    put(database, "run:7", "span", {"client": 1, "seconds": 0})
    workers.ready()
    wait_for(lambda: state(database, "run:5") == state(database, "run:7") == "done")
    assert workers.effects() == ["5 0", "5 1", "5 2"]


def test_drain_gives_up_after_its_time_and_the_step_in_hand_is_in_doubt(database: Database, workers: Workers) -> None:
    put(database, "run:5", "change", {"run": 5, "seconds": 30})
    first = workers.ready(drain=1)
    wait_for(lambda: "5 1" in workers.effects())
    first.terminate()
    said, _ = first.communicate(timeout=20)
    assert json.loads(said)["running"] == ["run:5"]
    workers.ready()
    wait_for(lambda: state(database, "run:5") == "done")
    assert workers.effects() == ["5 0", "5 1"]
    with database.read() as session:
        assert [claim.step for claim in in_doubt(session)] == [1]


@pytest.mark.parametrize(("signals", "status", "seconds"), [(1, 0, 2), (2, 128 + signal.SIGTERM, 30)])
def test_worker_process_drains_at_sigterm_and_ends_at_the_second(
    database: Database, workers: Workers, monkeypatch: pytest.MonkeyPatch, signals: int, status: int, seconds: int
) -> None:
    monkeypatch.setenv("MSP_TEST_WHOLE", "1")
    put(database, "run:5", "change", {"run": 5, "seconds": seconds})
    worker = workers.start(drain=20)
    wait_for(lambda: "5 1" in workers.effects())
    for _ in range(signals):
        worker.terminate()
        time.sleep(0.5)
    assert worker.wait(30) == status
    assert state(database, "run:5") == "queued"
    assert '"level": "info"' in workers.log()


def test_lease_lost_to_another_process_is_noticed(database: Database) -> None:
    now, limit = utc_now(), timedelta(seconds=60)
    mine = leases.acquire(database, "worker-01", now, limit)
    with pytest.raises(Conflict) if database.is_sqlite else pytest.raises(Conflict, match="held by"):
        _claim_as_another_host(database, now, limit)
    assert mine.heartbeat(utc_now())
    with database.begin() as session:
        session.get_one(WorkerLease, "worker-01").hostname = "elsewhere"
    assert not mine.heartbeat(utc_now())
    mine.release()


def _claim_as_another_host(database: Database, now: Any, limit: timedelta) -> None:
    if not database.is_sqlite:
        with database.begin() as session:
            session.add(
                WorkerLease(
                    name="worker-02", pid=1, hostname="elsewhere", started_at=now, heartbeat_at=now, version="0"
                )
            )
        leases.acquire(database, "worker-02", now + limit, limit)
    leases.acquire(database, "worker-03", now, limit)
