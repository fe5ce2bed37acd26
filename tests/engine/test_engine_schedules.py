"""Due schedules on both databases: each fire once, each miss said."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select

from msp.db import Database
from msp.engine import runtime, schedules
from msp.engine.models import Job, Schedule, ScheduleFire
from msp.errors import Misconfigured
from msp.evidence import Evidence, verify

SATURDAY = datetime(2026, 10, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def ready(database: Database) -> Database:
    runtime.prepare(database.url)
    return database


def tick(database: Database, now: datetime) -> list[schedules.Fired]:
    with database.begin() as session:
        return schedules.due_tick(session, now)


def add(database: Database, key: str = "restore_test:7", cron: str = "30 2 * * *", **more: object) -> None:
    values: dict[str, object] = {"time_zone": "Europe/Berlin", "now": SATURDAY, "handler": "restore_test"} | more
    with database.begin() as session:
        schedules.upsert(session, key=key, cron=cron, **values)  # type: ignore[arg-type]


def jobs(database: Database) -> list[str]:
    with database.read() as session:
        return list(session.scalars(select(Job.id).order_by(Job.id)))


def test_autumn_night_fires_once_and_goes_on_next_day(ready: Database) -> None:
    add(ready, client_id=3, payload={"test": 7})
    moment = SATURDAY
    while moment < SATURDAY + timedelta(hours=40):
        tick(ready, moment)
        moment += timedelta(minutes=15)
    assert jobs(ready) == ["restore_test:7@2026-10-25T02:30", "restore_test:7@2026-10-26T02:30"]
    with ready.read() as session:
        job = session.get_one(Job, "restore_test:7@2026-10-25T02:30")
        assert (job.queue, job.handler, job.client_id) == ("restores", "restore_test", 3)
        assert job.payload == {"test": 7, "nominal": "2026-10-25T02:30"}
        row = session.scalars(select(Schedule)).one()
        assert row.last_nominal == "2026-10-26T02:30"
        assert row.next_due_at == datetime(2026, 10, 27, 1, 30, tzinfo=UTC)


def test_nothing_is_due_before_its_time_and_jitter_delays_it(ready: Database) -> None:
    add(ready, jitter=timedelta(minutes=30))
    with ready.read() as session:
        due = session.scalars(select(Schedule.next_due_at)).one()
    nominal = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert due is not None
    assert nominal < due < nominal + timedelta(minutes=30)
    assert tick(ready, due - timedelta(seconds=1)) == []
    assert [fired.nominal for fired in tick(ready, due)] == ["2026-10-25T02:30"]


def test_after_a_long_absence_the_newest_runs_and_the_others_are_recorded_as_missed(ready: Database) -> None:
    add(ready, client_id=3)
    back = datetime(2026, 10, 28, 2, 0, tzinfo=UTC)  # half an hour after the fire of the 28th
    (fired,) = tick(ready, back)
    assert fired.nominal == "2026-10-28T02:30"
    assert fired.missed == ("2026-10-25T02:30", "2026-10-26T02:30", "2026-10-27T02:30")
    assert jobs(ready) == ["restore_test:7@2026-10-28T02:30"]
    with ready.read() as session:
        states = session.execute(select(ScheduleFire.nominal, ScheduleFire.state).order_by(ScheduleFire.nominal)).all()
        assert [state for _, state in states] == ["missed", "missed", "missed", "enqueued"]
        told = session.scalars(select(Evidence).where(Evidence.kind == "schedule.missed")).one()
        assert (told.chain, told.data["count"], told.data["first"]) == (3, 3, "2026-10-25T02:30")
        assert verify(session) == (1, [])


def test_older_than_grace_is_missed_and_not_run(ready: Database) -> None:
    add(ready, grace=HOUR)
    (fired,) = tick(ready, datetime(2026, 10, 25, 1, 31, tzinfo=UTC))
    assert (fired.nominal, fired.missed) == (None, ("2026-10-25T02:30",))
    assert jobs(ready) == []


def test_a_year_of_missed_minutes_is_caught_up_at_once(ready: Database) -> None:
    add(ready, cron="* * * * *", grace=HOUR)
    now = SATURDAY + timedelta(days=365, seconds=5)
    (fired,) = tick(ready, now)
    assert fired.nominal == "2027-10-24T12:00Z"
    assert len(fired.missed) <= schedules.MISSES + 61
    assert tick(ready, now) == []


def test_changing_the_time_sets_the_next_fire_and_changing_the_payload_keeps_it(ready: Database) -> None:
    add(ready)
    add(ready, payload={"other": 1}, now=SATURDAY + timedelta(days=3))
    with ready.read() as session:
        assert session.scalars(select(Schedule.next_nominal)).one() == "2026-10-25T02:30"
    add(ready, cron="45 3 * * *", now=SATURDAY + timedelta(days=3))
    with ready.read() as session:
        assert session.scalars(select(Schedule.next_nominal)).one() == "2026-10-28T03:45"
    add(ready, cron="45 3 * * *", enabled=False)
    assert tick(ready, SATURDAY + timedelta(days=30)) == []


def test_a_schedule_that_never_fires_is_refused(ready: Database) -> None:
    with pytest.raises(Misconfigured, match="never fires"):
        add(ready, cron="0 0 31 2 *")


@pytest.mark.slow
def test_two_tickers_fire_a_thousand_schedules_exactly_once(ready: Database) -> None:
    due = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    with ready.begin() as session:
        for number in range(1000):
            schedules.upsert(
                session, key=f"s:{number}", handler="x", cron="30 2 * * *", time_zone="Europe/Berlin", now=SATURDAY
            )
    fired: list[str] = []
    start = threading.Barrier(2)

    def ticker() -> None:
        other = Database(ready.url)  # connections of its own, as another process has
        start.wait()
        idle = 0
        while idle < 3:
            found = tick(other, due + timedelta(seconds=1))
            fired.extend(f"{item.key}@{item.nominal}" for item in found)
            idle = 0 if found else idle + 1
        other.dispose()

    threads = [threading.Thread(target=ticker) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(fired) == sorted(f"s:{number}@2026-10-25T02:30" for number in range(1000))
    assert jobs(ready) == sorted(fired)
    with ready.read() as session:
        assert session.scalar(select(func.count()).select_from(ScheduleFire)) == 1000
