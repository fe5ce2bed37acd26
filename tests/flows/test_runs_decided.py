"""A run that waits: approved by the right person, for exactly what was shown, in time; or declined, cancelled."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update
from world import ANNA, MAX, World

from msp import evidence
from msp.clock import utc_now
from msp.contracts.models import BillingEntry
from msp.engine.models import Job
from msp.errors import Conflict, NotFound, Refused
from msp.flows import approving, attention, driving
from msp.people.access import Actor
from msp.remote.models import Approval, Run, RunHost

OWN = """\
name: own
version: "1"
action_class: {kind}
parameters:
  word: {{type: string, default: done}}
steps:
  - name: touch
    do: echo {{{{ word }}}} >> effects
    check: test -e effects
"""
USER = Actor("user@alfa.example", frozenset({"client user"}), client_id=1)
BEN = Actor("ben@beta.example", frozenset({"client approver"}), client_id=2)


@pytest.fixture
def waits(world: World) -> Run:
    """A run that waits for alfa's approver."""
    run = world.request(world.playbook(OWN.format(kind="disruptive")))
    assert (run.state, run.decision["approver"]) == ("awaiting_approval", "client_approver")
    return run


def approve(world: World, run: Run, actor: Actor | None = None, **given: object) -> Run:
    with world.database.begin() as session:
        return approving.approve(session, run.id, actor=actor or world.olga, **given)  # type: ignore[arg-type]


def effects(world: World) -> Path:
    return world.host().root / "effects"


def test_approval_by_the_named_person_queues_the_run_at_once_and_tells_the_ticket(world: World, waits: Run) -> None:
    with world.database.read() as session:
        assert [run.id for run, _ in approving.waiting(session, world.olga)] == [waits.id]
        assert approving.waiting(session, BEN) == approving.waiting(session, ANNA) == []
        assert attention.of(session).runs_awaiting_approval == 1
    assert approve(world, waits).state == "queued"
    assert world.drive(waits.id).state == "succeeded"
    assert effects(world).read_text() == "done\n"
    assert [entry.actor for entry in world.log(waits.ticket_id or 0) if entry.kind == "approval"] == [world.olga.name]
    with pytest.raises(Conflict, match=f"decided by {world.olga.name}"):
        approve(world, waits)


@pytest.mark.parametrize(
    ("actor", "error"),
    [(USER, Refused), (ANNA, Refused), (MAX, Refused), (BEN, NotFound)],
    ids=["client user", "technician", "account manager", "another client"],
)
def test_nobody_else_approves_or_declines(world: World, waits: Run, actor: Actor, error: type[Exception]) -> None:
    with pytest.raises(error):
        approve(world, waits, actor)
    with pytest.raises(error), world.database.begin() as session:
        approving.decline(session, waits.id, actor=actor, reason="No.")
    assert world.run(waits.id).state == "awaiting_approval"
    world.drive(waits.id)
    assert not effects(world).exists()


def test_what_the_provider_must_agree_to_is_not_the_clients_to_approve(world: World) -> None:
    run = world.request(world.playbook(OWN.format(kind="access")))
    assert run.decision["approver"] == "provider"
    with pytest.raises(Refused):
        approve(world, run)
    assert approve(world, run, MAX).state == "queued"


def test_approval_holds_at_its_last_instant_and_not_after(world: World, waits: Run) -> None:
    last = waits.requested_at + timedelta(seconds=3600)
    with pytest.raises(Conflict, match="expired"):
        approve(world, waits, now=last + timedelta(microseconds=1))
    assert approve(world, waits, now=last).state == "queued"


def test_nobody_approved_in_time_ends_the_run_once_and_touches_nothing(world: World, waits: Run) -> None:
    late = waits.requested_at + timedelta(hours=1, seconds=1)
    with world.database.begin() as session:
        assert approving.expire(session, late - timedelta(seconds=2)) == 0
        assert approving.expire(session, late) == 1
        assert approving.expire(session, late) == 0
    assert (world.run(waits.id).state, world.ends(waits.id)) == ("expired", {"one": "not_started"})
    with pytest.raises(Conflict):
        approve(world, waits)
    world.drive(waits.id)
    assert not effects(world).exists()
    assert world.of_run(BillingEntry, waits.id) == []


def set_parameters(world: World, run: Run) -> None:
    with world.database.begin() as session:
        session.get_one(Run, run.id).parameters = {"word": "evil"}


def set_document(world: World, run: Run) -> None:
    with world.database.begin() as session:
        stored = session.get_one(Run, run.id)
        stored.document = stored.document.replace("effects", "evil")


def set_hosts(world: World, run: Run) -> None:
    with world.database.begin() as session:
        host = session.scalars(select(RunHost).where(RunHost.run_id == run.id)).one()
        host.name, host.asset_id = "two", world.asset("two")


ALTERED = pytest.mark.parametrize("alter", [set_parameters, set_document, set_hosts])


@ALTERED
def test_approval_is_void_for_anything_but_what_was_shown(
    world: World, waits: Run, alter: Callable[[World, Run], None]
) -> None:
    alter(world, waits)
    with pytest.raises(Refused, match="not what the approval was asked for"):
        approve(world, waits)
    assert world.run(waits.id).state == "awaiting_approval"


@ALTERED
def test_what_was_altered_after_the_approval_is_refused_before_anything_is_sent(
    world: World, waits: Run, alter: Callable[[World, Run], None]
) -> None:
    approve(world, waits)
    alter(world, waits)
    assert world.drive(waits.id).state == "refused"
    assert list(world.host("one").root.iterdir()) == list(world.host("two").root.iterdir()) == []
    assert world.of_run(BillingEntry, waits.id) == []
    with world.database.read() as session:
        host = session.scalars(select(RunHost).where(RunHost.run_id == waits.id)).one()
        assert (host.outcome, "not what" in host.detail) == ("refused", True)
        assert evidence.verify(session)[1] == []


def test_declined_run_ends_with_its_reason_told(world: World, waits: Run) -> None:
    with world.database.begin() as session:
        approving.decline(session, waits.id, actor=world.olga, reason=" Not during the audit. ")
    assert (world.run(waits.id).state, world.ends(waits.id)) == ("cancelled", {"one": "not_started"})
    assert "Not during the audit." in world.log(waits.ticket_id or 0)[-1].text
    world.drive(waits.id)
    assert not effects(world).exists()


@pytest.mark.parametrize("approved", [False, True])
def test_run_cancelled_while_it_waits_is_never_begun(world: World, waits: Run, approved: bool) -> None:
    if approved:
        approve(world, waits)
    with world.database.begin() as session:
        driving.cancel(session, waits.id, by=ANNA.name)
    assert (world.run(waits.id).state, world.ends(waits.id)) == ("cancelled", {"one": "not_started"})
    world.drive(waits.id)
    assert not effects(world).exists()
    with pytest.raises(Conflict, match="cancelled already"), world.database.begin() as session:
        driving.cancel(session, waits.id, by=ANNA.name)
    with pytest.raises(Conflict):
        approve(world, waits)
    assert "cancelled by" in world.log(waits.ticket_id or 0)[-1].text


def test_run_cancelled_under_a_worker_that_died_is_not_gone_on_with(world: World) -> None:
    run = world.request(world.playbook(OWN.format(kind="change")), "one", "two")
    with world.database.begin() as session:  # as a worker leaves it that died in its first step on `one`
        session.execute(update(Run).where(Run.id == run.id).values(state="cancelling", started_at=utc_now()))
        host = session.scalars(select(RunHost).where(RunHost.run_id == run.id, RunHost.name == "one")).one()
        host.started_at = utc_now()
    assert world.drive(run.id).state == "cancelled"
    assert world.ends(run.id) == {"one": "cancelled", "two": "not_started"}
    assert not effects(world).exists()


def test_job_of_an_approved_run_exists_exactly_once(world: World, waits: Run) -> None:
    with world.database.read() as session:
        assert list(session.scalars(select(Job.id))) == []
    approve(world, waits)
    with world.database.read() as session:
        assert list(session.scalars(select(Job.id))) == [f"run:{waits.id}:0:1"]
        asked = session.scalars(select(Approval).where(Approval.run_id == waits.id)).one()
        assert (asked.decision, asked.decided_by) == ("approved", world.olga.name)
