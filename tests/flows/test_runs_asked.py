"""Asking for a run: allowed, asked, refused; and what follows in the same transaction."""

import pytest
from sqlalchemy import select
from world import ANNA, Doorbell, World

from msp import evidence
from msp.contracts.models import BillingEntry
from msp.engine.models import Job
from msp.errors import Misconfigured, NotFound, Refused
from msp.people.access import Actor
from msp.remote.models import Approval, Run

TOUCH = """\
name: own
version: "1"
action_class: {kind}
symptoms: [disk_full]
steps:
  - name: touch
    do: echo done >> effects
    check: test -e effects
"""
SECRET = """\
name: own
version: "1"
action_class: change
parameters:
  token: secret
steps:
  - name: use it
    do: test -n {{ token }}
    check: "true"
"""


def kinds(world: World, subject: str, number: int) -> list[str]:
    """Return the kinds of evidence about a thing, oldest first."""
    with world.database.read() as session:
        found = select(evidence.Evidence.kind).where(
            evidence.Evidence.subject_kind == subject, evidence.Evidence.subject_id == str(number)
        )
        return list(session.scalars(found.order_by(evidence.Evidence.seq)))


def jobs(world: World) -> list[str]:
    with world.database.read() as session:
        return list(session.scalars(select(Job.id).order_by(Job.id)))


def test_allowed_run_is_queued_driven_billed_and_resolves_the_ticket_that_it_mends(world: World) -> None:
    ticket = world.ticket(symptom="disk_full")
    run = world.request(world.playbook(TOUCH.format(kind="change")), ticket_id=ticket)
    assert (run.state, run.decision["clause_id"]) == ("queued", "1.2")
    assert jobs(world) == [f"run:{run.id}:0:1"]
    assert world.drive(run.id).state == "succeeded"
    assert (world.host().root / "effects").read_text() == "done\n"
    assert world.stored_ticket(ticket).state == "resolved"
    (bill,) = world.of_run(BillingEntry, run.id)
    assert (bill.minutes, bill.amount, bill.ticket_id) == (1, 1, ticket)
    assert [entry.kind for entry in world.log(ticket)] == ["created", "run", "playbook_run", "state"]
    assert kinds(world, "run", run.id)[:1] + kinds(world, "run", run.id)[-1:] == ["run.requested", "run.finished"]
    world.drive(run.id)  # entered again, it does nothing
    assert (world.host().root / "effects").read_text() == "done\n"
    assert len(world.of_run(BillingEntry, run.id)) == 1


def test_refusal_is_stored_with_its_clause_and_opens_no_connection(world: World) -> None:
    with Doorbell() as bell:
        world.point("data", bell.port)
        run = world.request(world.playbook(TOUCH.format(kind="disruptive")), "data")
        assert (run.state, run.decision["clause_id"], run.finished_at is None) == ("refused", "1.3", False)
        assert jobs(world) == []
        world.drive(run.id)
        assert bell.rung == 0
        allowed = world.request(world.playbook(TOUCH.format(kind="change")), "data")
        world.drive(allowed.id)
        assert bell.rung > 0  # the bell does ring when somebody calls
    assert kinds(world, "run", run.id) == ["run.refused"]
    assert world.of_run(BillingEntry, run.id) == []
    said = world.log(run.ticket_id or 0)[-1]
    assert (said.kind, said.public) == ("run", True)
    assert "Databases are left alone." in said.text


def test_run_without_a_ticket_opens_one_on_the_clock(world: World) -> None:
    run = world.request(world.playbook(TOUCH.format(kind="change")))
    ticket = world.stored_ticket(run.ticket_id)
    assert (ticket.client_id, ticket.kind, ticket.asset_id) == (world.alfa, "request", world.asset("one"))
    assert ticket.resolution_due_at is not None


def test_mixed_hosts_leave_out_those_that_the_contract_refuses(world: World) -> None:
    with Doorbell() as bell:
        world.point("data", bell.port)
        run = world.request(world.playbook(TOUCH.format(kind="disruptive")), "data", "one")
        assert (run.state, run.decision["clause_id"]) == ("awaiting_approval", "1.4")
        assert world.ends(run.id) == {"data": "refused", "one": None}
        world.drive(run.id)  # not yet
        assert not (world.host().root / "effects").exists()
        assert bell.rung == 0


@pytest.mark.parametrize(("said", "at_once"), [("", 256), ("parallel: 20\n", 20), ("serial: 3\n", 3)])
def test_every_host_has_a_slot_unless_the_playbook_says_how_many(world: World, said: str, at_once: int) -> None:
    assert world.request(world.playbook(TOUCH.format(kind="change") + said)).parallel == at_once


def test_dry_run_is_a_reading_and_changes_nothing(world: World) -> None:
    run = world.request(world.playbook(TOUCH.format(kind="disruptive")), dry_run=True)
    assert (run.state, run.action_class) == ("queued", "read")
    assert world.drive(run.id).state == "succeeded"
    assert not (world.host().root / "effects").exists()
    assert world.of_run(BillingEntry, run.id) == []


@pytest.mark.parametrize(
    "actor",
    [
        Actor("olga@alfa.example", frozenset({"client approver"}), client_id=1),
        Actor("ben@beta.example", frozenset({"client user"}), client_id=2),
        Actor("granted@provider.example", frozenset({"technician"}), granted=frozenset({2})),
        Actor("nobody@provider.example", frozenset()),
    ],
    ids=["the client itself", "another client", "staff of another client", "no role"],
)
def test_who_may_not_request_a_run_does_not_learn_that_the_asset_exists(world: World, actor: Actor) -> None:
    name = world.playbook(TOUCH.format(kind="change"))
    with pytest.raises(NotFound, match=f"There is no asset {world.asset('one')}"):
        world.request(name, actor=actor)
    with world.database.read() as session:
        assert list(session.scalars(select(Run.id))) == []


def test_assets_of_two_clients_are_two_runs(world: World) -> None:
    with pytest.raises(Misconfigured, match="several clients"):
        world.request(world.playbook(TOUCH.format(kind="read")), "one", "far")


def test_ticket_of_another_client_is_not_found(world: World) -> None:
    ticket = world.ticket(client_id=world.planted.clients["beta"])
    with pytest.raises(NotFound, match="no ticket"):
        world.request(world.playbook(TOUCH.format(kind="change")), ticket_id=ticket)


@pytest.mark.parametrize("given", ["env:HOME", "file:/etc/passwd"])
def test_secret_parameter_comes_from_the_vault_only(world: World, given: str) -> None:
    with pytest.raises(Refused, match="vault"):
        world.request(world.playbook(SECRET), parameters={"token": given})


def test_secret_parameter_is_never_given_as_itself(world: World) -> None:
    with pytest.raises(Misconfigured, match="by reference") as caught:
        world.request(world.playbook(SECRET), parameters={"token": "hunter2-hunter2"})
    assert "hunter2" not in caught.value.what


def test_broken_glass_needs_a_name_and_a_reason(world: World) -> None:
    name = world.playbook(TOUCH.format(kind="disruptive"))
    for half in ({"break_glass_approver": "max@provider.example"}, {"break_glass_reason": "The pump is on fire."}):
        with pytest.raises(Misconfigured, match="a name and a reason"):
            world.request(name, "data", **half)


def test_nobody_breaks_the_glass_for_themselves(world: World) -> None:
    name = world.playbook(TOUCH.format(kind="disruptive"))
    run = world.request(name, "data", break_glass_approver=ANNA.name, break_glass_reason="I want to.")
    assert run.state == "refused"


def test_broken_glass_lets_a_refused_run_go_and_stands_in_the_evidence(world: World) -> None:
    world.point("data", world.host().port)
    with world.database.begin() as session:  # `data` is the same machine as `one`
        from msp.assets import inventory
        from msp.assets.models import ConfigurationItem

        inventory.pin(session, session.get_one(ConfigurationItem, world.asset("data")), world.host().host_key, by="t")
    name = world.playbook(TOUCH.format(kind="disruptive"))
    glass = {"break_glass_approver": "max@provider.example", "break_glass_reason": "The pump is on fire."}
    run = world.request(name, "data", **glass)
    assert (run.state, run.decision["rule"]) == ("queued", "break_glass")
    assert world.drive(run.id).state == "succeeded"
    with world.database.read() as session:
        asked = select(evidence.Evidence.data).where(evidence.Evidence.kind == "run.requested")
        (told,) = session.scalars(asked)
    assert told["hosts"][0]["break_glass"] == {"approver": "max@provider.example", "reason": "The pump is on fire."}


def test_broken_glass_counts_for_the_refused_host_also_beside_one_that_asks(world: World) -> None:
    world.point("data", world.host().port)
    with world.database.begin() as session:
        from msp.assets import inventory
        from msp.assets.models import ConfigurationItem

        inventory.pin(session, session.get_one(ConfigurationItem, world.asset("data")), world.host().host_key, by="t")
    name = world.playbook(TOUCH.format(kind="disruptive"))
    glass = {"break_glass_approver": "max@provider.example", "break_glass_reason": "The pump is on fire."}
    run = world.request(name, "data", "two", **glass)
    assert run.state == "awaiting_approval"
    with world.database.begin() as session:
        from msp.flows import approving

        approving.approve(session, run.id, actor=world.olga)
    assert world.drive(run.id).state == "succeeded"
    assert world.ends(run.id) == {"data": "ok", "two": "ok"}


def test_several_hosts_end_with_one_outcome_each_and_one_bill(world: World) -> None:
    run = world.request(world.playbook(TOUCH.format(kind="change")), "two", "one")
    assert world.drive(run.id).state == "succeeded"
    assert world.ends(run.id) == {"two": "ok", "one": "ok"}
    assert len(world.of_run(BillingEntry, run.id)) == 1
    with world.database.read() as session:
        assert evidence.verify(session)[1] == []
        assert list(session.scalars(select(Approval))) == []
