"""Restore tests in the closed loop: one ticket for a plan that is not proven, resolved by the next good test."""

import sqlite3
import tarfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from world import ANNA, World, terms

from msp import evidence
from msp.backup import plans
from msp.backup.models import BackupPlan, RestoreTest
from msp.backup.plan_parts import PlanParts
from msp.clock import utc_now
from msp.desk.models import Ticket
from msp.engine import perform, schedules
from msp.engine.models import Job, Schedule
from msp.errors import NotFound
from msp.flows import attention, handlers, restores
from msp.people.access import Actor


def archive(path: Path, orders: int = 50) -> Path:
    """Write an archive with a database of that many orders."""
    tree = path.parent / "data"
    tree.mkdir(parents=True, exist_ok=True)
    (tree / "app.sqlite").unlink(missing_ok=True)
    with sqlite3.connect(tree / "app.sqlite") as database:
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT)")
        database.executemany("INSERT INTO orders (customer) VALUES (?)", ((f"C{n}",) for n in range(orders)))
    database.close()
    (tree / "readme.txt").write_text("Nightly dump.\n" * 50)
    with tarfile.open(path, "w:gz") as made:
        made.add(tree, "data")
    return path


@pytest.fixture
def plan(world: World) -> BackupPlan:
    """A plan of alfa whose archive is good."""
    query = {"path": "app.sqlite", "query": "select count(*) from orders", "min": 50}
    case: dict[str, Any] = {
        "engine": "tar",
        "file": str(archive(world.folder / "backups/nightly.tar.gz")),
        "root": "data",
    }
    with world.database.begin() as session:
        return plans.create(
            session,
            PlanParts(
                asset_id=world.asset("one"),
                name="nightly",
                case=case | {"expect": {"rto_s": 600, "sqlite": [query]}},
                cron="30 3 * * *",
                time_zone="Europe/Moscow",
                proof_every=timedelta(days=7),
            ),
            client_id=world.alfa,
            by="test",
        )


def restore(world: World, plan: BackupPlan) -> RestoreTest:
    """Do one test as a worker does and return it."""
    restores.perform(world.settings, plan.id, None, utc_now())
    with world.database.read() as session:
        return plans.recent(session, plan.id, 1)[0]


def tickets_of(world: World) -> list[Ticket]:
    with world.database.read() as session:
        return list(session.scalars(select(Ticket).where(Ticket.symptom == "backup_unproven").order_by(Ticket.id)))


def truncate(world: World) -> None:
    file = world.folder / "backups/nightly.tar.gz"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def proven(world: World) -> bool:
    with world.database.read() as session:
        (state,) = restores.states(session, utc_now())
        assert attention.of(session).unproven == (0 if state.proven else 1)
        return state.proven


def test_good_backup_is_proven_and_opens_nothing(world: World, plan: BackupPlan) -> None:
    assert not proven(world)
    assert restore(world, plan).verdict == "pass"
    assert proven(world)
    assert tickets_of(world) == []
    with world.database.read() as session:
        assert evidence.verify(session)[1] == []


def test_failed_test_opens_one_ticket_the_next_continues_it_and_a_good_one_resolves_it(
    world: World, plan: BackupPlan
) -> None:
    truncate(world)
    first = restore(world, plan)
    assert first.verdict == "fail"
    (ticket,) = tickets_of(world)
    assert (ticket.priority, ticket.asset_id, ticket.is_open) == ("P2", world.asset("one"), True)
    assert ticket.resolution_due_at is not None
    second = restore(world, plan)
    assert [one.id for one in tickets_of(world)] == [ticket.id] == [first.ticket_id] == [second.ticket_id]
    assert [entry.kind for entry in world.log(ticket.id)] == ["created", "proof"]
    assert not proven(world)
    archive(world.folder / "backups/nightly.tar.gz")
    assert restore(world, plan).verdict == "pass"
    (ticket,) = tickets_of(world)
    assert (ticket.state, ticket.is_open, proven(world)) == ("resolved", False, True)
    truncate(world)
    restore(world, plan)
    assert [one.is_open for one in tickets_of(world)] == [False, True]  # a new one: the old is closed history


def test_backup_with_too_few_rows_is_a_failure_although_it_can_be_read(world: World, plan: BackupPlan) -> None:
    archive(world.folder / "backups/nightly.tar.gz", orders=49)
    assert restore(world, plan).verdict == "fail"
    assert len(tickets_of(world)) == 1


def test_full_disk_while_restoring_is_an_error_and_never_a_pass(world: World, plan: BackupPlan) -> None:
    assert restore(world, plan).verdict == "pass"
    with world.database.begin() as session:
        stored = session.get_one(BackupPlan, plan.id)
        stored.case = stored.case | {"expect": {"rto_s": 600, "scratch_quota_bytes": 100}}
    test = restore(world, plan)
    assert (test.verdict, test.reasons) == ("error", ["quota"])
    (ticket,) = tickets_of(world)
    assert ticket.priority == "P3"
    assert [path.name for path in world.settings.scratch_path.iterdir()] == []


def test_overdue_proof_opens_the_same_one_ticket(world: World, plan: BackupPlan) -> None:
    restore(world, plan)
    with world.database.begin() as session:
        restores.tell_overdue(session, utc_now() + timedelta(days=6))
    assert tickets_of(world) == []
    for _ in range(2):
        with world.database.begin() as session:
            restores.tell_overdue(session, utc_now() + timedelta(days=8))
    (ticket,) = tickets_of(world)
    assert (ticket.priority, ticket.is_open) == ("P3", True)


def test_plan_that_was_never_tested_is_told_of_once_its_period_is_over(world: World, plan: BackupPlan) -> None:
    with world.database.begin() as session:
        restores.tell_overdue(session, utc_now() + timedelta(days=6))
        assert session.scalar(select(func.count()).select_from(Ticket)) == 0
        restores.tell_overdue(session, utc_now() + timedelta(days=8))
    assert len(tickets_of(world)) == 1


def test_contract_without_such_a_priority_gets_the_nearest_it_has(world: World, plan: BackupPlan) -> None:
    line = terms()["lines"][0] | {"targets": {"P4": {"first_response": 60, "resolution": 600}}}
    world.change_terms(lines=[line])
    truncate(world)
    assert restore(world, plan).verdict == "fail"
    assert [ticket.priority for ticket in tickets_of(world)] == ["P4"]


@pytest.mark.parametrize("nominal", ["2026-03-29T03:30", None])
def test_test_begun_by_a_worker_that_died_is_done_anew_in_its_own_row(
    world: World, plan: BackupPlan, nominal: str | None
) -> None:
    asked_at = None if nominal else utc_now()
    with world.database.begin() as session:
        first = plans.begin_test(session, plan, asked_at or utc_now(), nominal=nominal)
    restores.perform(world.settings, plan.id, nominal, asked_at)
    restores.perform(world.settings, plan.id, nominal, asked_at)  # and once more after its end: nothing
    with world.database.read() as session:
        (test,) = session.scalars(select(RestoreTest))
        assert (test.id, test.verdict) == (first.id, "pass")
        told = select(func.count()).select_from(evidence.Evidence).where(evidence.Evidence.kind == "restore.tested")
        assert session.scalar(told) == 1


def test_test_that_cannot_be_carried_out_is_an_error_with_a_ticket(world: World, plan: BackupPlan) -> None:
    with world.database.begin() as session:
        session.get_one(BackupPlan, plan.id).secret_name = "nobody-put-it"
        job_id = restores.request_test(session, plan.id, actor=ANNA)
    handlers.configure(world.settings)
    perform.perform(job_id, 1)
    with world.database.read() as session:
        assert session.get_one(Job, job_id).state == "failed"
    (ticket,) = tickets_of(world)
    assert "nobody-put-it" in world.log(ticket.id)[0].text
    assert not proven(world)


def test_request_by_hand_needs_the_right_and_the_client(world: World, plan: BackupPlan) -> None:
    for actor in (
        Actor("dora@provider.example", frozenset({"dispatcher"})),
        Actor("olga@alfa.example", frozenset({"client approver"}), client_id=world.alfa),
        Actor("granted@provider.example", frozenset({"technician"}), granted=frozenset({99})),
    ):
        with pytest.raises(NotFound), world.database.begin() as session:
            restores.request_test(session, plan.id, actor=actor)
    with world.database.begin() as session:
        job_id = restores.request_test(session, plan.id, actor=ANNA)
    handlers.configure(world.settings)
    perform.perform(job_id, 1)
    with world.database.read() as session:
        assert session.get_one(Job, job_id).state == "done"
        assert session.scalars(select(RestoreTest.verdict)).one() == "pass"


def test_schedule_asks_for_one_test_each_night_in_its_own_zone(world: World, plan: BackupPlan) -> None:
    now = utc_now()
    with world.database.begin() as session:
        restores.put_on_schedule(session, plan, now)
        due = session.scalars(select(Schedule)).one().next_due_at
        assert due is not None
        assert (due.hour, due.minute) == (0, 30)  # 03:30 in Moscow
        (fired,) = schedules.due_tick(session, due)
        assert schedules.due_tick(session, due) == []
        job_id = f"{fired.key}@{fired.nominal}"
    handlers.configure(world.settings)
    perform.perform(job_id, 1)
    with world.database.read() as session:
        test = session.scalars(select(RestoreTest)).one()
        assert (test.nominal, test.verdict) == (fired.nominal, "pass")
