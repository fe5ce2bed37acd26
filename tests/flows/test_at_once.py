"""Two people, or two workers, at the same moment: one of them is first, and the other is told or does nothing."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select
from world import ANNA, World

from msp import evidence
from msp.assets.models import ConfigurationItem
from msp.backup import drafts, plans
from msp.backup.models import BackupPlan
from msp.backup.plan_parts import PlanParts
from msp.clock import utc_now
from msp.contracts.models import BillingEntry, Client
from msp.desk.models import Ticket
from msp.dispatch.models import WorkOrder
from msp.engine.models import Job
from msp.errors import Conflict
from msp.flows import after_run, approving, backup_plans, driving, restores, rotating
from msp.remote.models import RunHost
from msp.secret_store import reference as references
from msp.vault import Vault

TOUCH = """\
name: own
version: "1"
action_class: {kind}
steps:
  - name: touch
    do: echo done >> effects
    check: test -e effects
"""


def at_once(count: int, act: Callable[[int], Any]) -> list[Any]:
    """Do `act` in threads that start together and return what each returned or raised."""
    found: list[Any] = [None] * count
    gate = threading.Barrier(count)

    def run(number: int) -> None:
        gate.wait()
        try:
            found[number] = act(number)
        except Exception as error:  # noqa: BLE001  what it raised is what we look at
            found[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


def test_of_two_answers_to_one_question_the_first_counts(world: World) -> None:
    run = world.request(world.playbook(TOUCH.format(kind="disruptive")))

    def answer(number: int) -> str:
        with world.database.begin() as session:
            if number % 2:
                return approving.decline(session, run.id, actor=world.olga, reason="No.").state
            return approving.approve(session, run.id, actor=world.olga).state

    found = at_once(6, answer)
    assert len([one for one in found if isinstance(one, str)]) == 1
    assert [type(one) for one in found if not isinstance(one, str)] == [Conflict] * 5
    decided = world.run(run.id).state
    assert decided in found
    with world.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == (decided == "queued")


def test_run_that_two_workers_end_is_billed_and_led_to_a_visit_once(world: World) -> None:
    run = world.request(world.playbook(TOUCH.format(kind="change")))
    world.drive(run.id)
    with world.database.begin() as session:  # back to just before its end
        host = session.scalars(select(RunHost).where(RunHost.run_id == run.id)).one()
        host.outcome = "failed"
        stored = session.merge(run)
        stored.state, stored.finished_at = "running", None
        for bill in session.scalars(select(BillingEntry)):
            session.delete(bill)

    def end(_: int) -> bool:
        with world.database.begin() as session:
            return after_run.finish(session, run.id, now=utc_now())

    assert sorted(at_once(4, end)) == [False, False, False, True]
    assert len(world.of_run(BillingEntry, run.id)) == len(world.of_run(WorkOrder, run.id)) == 1
    with world.database.read() as session:
        assert evidence.verify(session)[1] == []


def test_approval_and_cancellation_at_once_leave_no_run_that_is_both(world: World) -> None:
    run = world.request(world.playbook(TOUCH.format(kind="disruptive")))

    def act(number: int) -> str:
        with world.database.begin() as session:
            if number:
                return driving.cancel(session, run.id, by=ANNA.name).state
            return approving.approve(session, run.id, actor=world.olga).state

    at_once(2, act)
    world.drive(run.id)
    assert (world.run(run.id).state, world.ends(run.id)) == ("cancelled", {"one": "not_started"})
    assert not (world.host().root / "effects").exists()


def test_of_two_who_change_one_plan_the_second_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    now, people = utc_now(), ("anna", "boris")
    with world.database.begin() as session:
        parts = PlanParts(name="nightly", case={"engine": "tar", "file": "/srv/shop.tar"}, cron="30 3 * * *",
                          time_zone="UTC", proof_every=timedelta(days=7))  # fmt: skip
        plan = plans.create(session, parts, client_id=world.alfa, by="anna")
        numbers = []
        for by in people:
            draft = drafts.begin_change(session, plan, now, by=by)
            drafts.answer(draft, now, name=f"of {by}")
            numbers.append(draft.id)
    fingerprint = drafts.fingerprint

    def slow(plan: BackupPlan) -> str:
        time.sleep(0.3)  # time for the other to read what this one will write over
        return fingerprint(plan)

    monkeypatch.setattr(drafts, "fingerprint", slow)

    def save(number: int) -> str:
        with world.database.begin() as session:
            plans.by_id(session, plan.id)  # as a page that showed it has
            draft = drafts.by_id(session, numbers[number])
            return backup_plans.save(session, draft, world.settings, now, by=people[number]).name

    found = at_once(2, save)
    assert sorted(type(one).__name__ for one in found) == ["Conflict", "str"], found
    with world.database.read() as session:
        assert plans.by_id(session, plan.id).name in found


def test_overdue_proof_found_by_several_workers_at_once_is_one_ticket(world: World) -> None:
    with world.database.begin() as session:
        plans.create(
            session,
            PlanParts(
                asset_id=world.asset("one"),
                name="nightly",
                case={"engine": "tar", "file": "/nowhere.tar", "expect": {}},
                cron="30 3 * * *",
                time_zone="UTC",
                proof_every=timedelta(days=7),
            ),
            client_id=world.alfa,
            by="test",
        )

    def tell(_: int) -> None:
        with world.database.begin() as session:
            restores.tell_overdue(session, utc_now() + timedelta(days=8))

    at_once(4, tell)
    with world.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Ticket)) == 1


def test_a_secret_that_several_begin_to_rotate_at_once_is_rotated_once(world: World) -> None:
    with world.database.begin() as session:
        Vault.from_file(world.settings.key_path).put(session, "shared", "x" * 12, by="test", client_id=world.alfa)
        session.get_one(ConfigurationItem, world.asset("one")).secret_name = "shared"

    def begin(_: int) -> int:
        with world.database.begin() as session:
            client = session.get_one(Client, world.alfa)
            return rotating._open(session, client, references.parse("shared"), ANNA, None, utc_now()).id

    found = at_once(4, begin)
    assert sorted(type(one).__name__ for one in found) == ["Conflict", "Conflict", "Conflict", "int"]
