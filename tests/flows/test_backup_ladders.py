"""Ladders on schedule, triggers, one test at a repository at a time, gaps in cover, drills and jobs told of once."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from test_restores_told import plan as plan
from test_restores_told import restore
from world import World

from msp import evidence
from msp.backup import drill, ladder, plans
from msp.backup.models import BackupDrill, BackupPlan, BackupWatch, RestoreTest
from msp.backup.plan_parts import PlanParts
from msp.clock import utc_now
from msp.desk.models import Ticket
from msp.engine.models import Job, Schedule
from msp.flows import backup_gaps, drills, restores

NOW = datetime(2026, 9, 21, 12, tzinfo=UTC)


def give(world: World, plan: BackupPlan, **values: Any) -> None:
    with world.database.begin() as session:
        stored = session.get_one(BackupPlan, plan.id)
        for name, value in values.items():
            setattr(stored, name, value)
        restores.put_on_schedule(session, stored, NOW)


def keys(world: World) -> dict[str, bool]:
    with world.database.read() as session:
        return {row.key: row.enabled for row in session.scalars(select(Schedule))}


def count(world: World, symptom: str) -> int:
    with world.database.read() as session:
        query = select(func.count()).select_from(Ticket).where(Ticket.symptom == symptom, Ticket.is_open)
        return session.scalar(query) or 0


def test_each_step_of_a_ladder_has_a_schedule_and_the_plain_one_rests(world: World, plan: BackupPlan) -> None:
    give(world, plan)
    assert keys(world) == {f"restore-{plan.id}": True}
    give(world, plan, ladder=ladder.plain(ladder.defaults(critical=True, boots=False)))
    assert keys(world) == {f"restore-{plan.id}": False, f"restore-{plan.id}-3": True, f"restore-{plan.id}-4-5": True}
    give(world, plan, ladder=[])
    assert keys(world)[f"restore-{plan.id}"] is True


def test_a_trigger_queues_the_rungs_after_a_backup_once_a_minute(world: World, plan: BackupPlan) -> None:
    give(world, plan, ladder=[{"rungs": [1, 2], "when": "after backup"}])
    for _ in range(2):
        with world.database.begin() as session:
            restores.after_backup(session, session.get_one(BackupPlan, plan.id), NOW)
    with world.database.read() as session:
        (job,) = session.scalars(select(Job))
        assert job.payload["rungs"] == [1, 2]
    restores.perform(world.settings, plan.id, None, NOW, [1, 2])
    with world.database.read() as session:
        test = session.scalars(select(RestoreTest)).one()
        assert (test.verdict, test.highest_rung) == ("pass", 2)
        assert plans.proof(session, session.get_one(BackupPlan, plan.id), utc_now()).state == "unproven"


def test_a_repository_that_is_read_is_left_to_that_test(world: World, plan: BackupPlan) -> None:
    location = str(plan.case["file"])
    with world.database.begin() as session:
        other = plans.begin_test(session, session.get_one(BackupPlan, plan.id), utc_now(), nominal="other")
        assert plans.lease(session, location, other.id, utc_now())
        assert plans.lease(session, location, other.id, utc_now())  # begun anew after a crash
    asked = utc_now()
    restores.perform(world.settings, plan.id, None, asked)
    with world.database.begin() as session:
        assert session.scalar(select(func.count()).select_from(RestoreTest)) == 1
        (job,) = session.scalars(select(Job))
        assert job.payload["asked_at"] == asked.isoformat()
        session.get_one(RestoreTest, other.id).finished_at = utc_now()
    assert restore(world, plan).verdict == "pass"


def test_a_scheduled_test_outside_its_window_is_put_off(world: World, plan: BackupPlan) -> None:
    local = utc_now() + timedelta(hours=3)  # Moscow
    opens, closes = local + timedelta(hours=2), local + timedelta(hours=3)
    give(world, plan, limits={"window": f"{opens:%H:%M}-{closes:%H:%M}"})
    restores.perform(world.settings, plan.id, "2026-09-21T03:30")
    with world.database.read() as session:
        assert session.scalar(select(func.count()).select_from(RestoreTest)) == 0
        assert session.scalar(select(func.count()).select_from(Job)) == 1
    assert restore(world, plan).verdict == "pass"  # by hand at any time


def test_a_machine_without_a_plan_is_told_of_once_until_it_has_one(world: World, plan: BackupPlan) -> None:
    world.change_terms(restore={"proof_every_s": 604800})
    with world.database.begin() as session:
        found = {gap.item.id: gap.why for gap in backup_gaps.gaps(session, utc_now(), client_ids=[world.alfa])}
    assert found.pop(world.asset("one")) == "proof"
    assert found
    assert set(found.values()) == {"plan"}
    for _ in range(2):
        with world.database.begin() as session:
            backup_gaps.tell(session, utc_now())
            others = len(backup_gaps.gaps(session, utc_now())) - len(found) - 1  # of the other client
    assert count(world, "backup_missing") == len(found) + others
    restore(world, plan)
    with world.database.begin() as session:
        assert world.asset("one") not in {gap.item.id for gap in backup_gaps.gaps(session, utc_now())}
        for asset_id in found:
            plans.create(
                session,
                PlanParts(
                    name=f"p{asset_id}",
                    case=plan.case,
                    cron="0 0 * * *",
                    time_zone="UTC",
                    proof_every=timedelta(days=7),
                    asset_id=asset_id,
                ),
                client_id=world.alfa,
                by="test",
            )
        backup_gaps.tell(session, utc_now())
    assert count(world, "backup_missing") == others


def test_a_job_that_stopped_writing_is_told_of_once(world: World, plan: BackupPlan) -> None:
    restore(world, plan)
    give(world, plan, every=timedelta(days=1))
    for later in (0, 4, 5):
        with world.database.begin() as session:
            backup_gaps.look(session, utc_now() + timedelta(days=later))
        assert count(world, "backup_job") == (1 if later else 0)
    with world.database.read() as session:
        assert session.get_one(BackupWatch, plan.id).state == "missed"


def test_a_fault_that_gets_by_makes_the_engine_red_and_is_evidence(world: World) -> None:
    good = drill.Outcome("tar", "good", True, "pass", (), "nothing to remark", 1.0)
    missed = drill.Outcome("tar", "bit flip", False, "pass", (), "nothing to remark", 1.0)
    with world.database.begin() as session:
        drills.record(session, [good, missed], NOW, by="worker")
        assert drills.state(drills.last(session)["tar"], NOW) == "failed"
        drills.record(session, [good], NOW + timedelta(days=1), by="worker")
        rows = drills.last(session)["tar"]
        assert drills.state(rows, NOW + timedelta(days=1)) == "passed"
        assert drills.state(rows, NOW + timedelta(days=60)) == "never"
        assert session.scalar(select(func.count()).select_from(BackupDrill)) == 3
        assert evidence.verify(session)[1] == []


def test_engines_in_use_are_drilled_once_a_month(world: World, plan: BackupPlan) -> None:
    with world.database.begin() as session:
        assert drills.ask(session, NOW) == 1
        assert drills.ask(session, NOW) == 0
        good = drill.Outcome("tar", "good", True, "pass", (), "", 1.0)
        drills.record(session, [good], NOW, by="worker")
        assert drills.ask(session, NOW + timedelta(days=20)) == 0
        assert drills.ask(session, NOW + timedelta(days=32)) == 1
