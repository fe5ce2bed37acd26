"""Who may use which credential, for which ticket, how long; and what happens when somebody takes it back."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select
from world import ANNA, MAX, World

from msp import evidence
from msp.assets.models import ConfigurationItem
from msp.clock import utc_now
from msp.desk import tickets
from msp.errors import Conflict, Misconfigured, NotFound, Refused
from msp.evidence import Evidence
from msp.flows import credential_grants, credentials, driving, keyring
from msp.people.access import Actor
from msp.people.credential_grants import CredentialGrant
from msp.remote.models import Run
from msp.secret import Secret
from msp.secret_store.age import Policy
from msp.vault import Vault, VaultSecret, row_of

KEEPER = Actor("kim@provider.example", frozenset({"credential keeper"}))
READING = 'name: reading\nversion: "1"\naction_class: read\nsteps:\n  - do: hostname\n    changes: false\n'
TWO_STEPS = """\
name: two-steps
version: "1"
action_class: change
steps:
  - name: first
    do: touch first
    check: test -e first
  - name: second
    do: touch second
    check: test -e second
"""


def clause(effect: str, **more: Any) -> dict[str, Any]:
    """Terms in which access has one effect and everything else is allowed."""
    access = {"id": "9", "text": "Access as agreed.", "effect": effect, "action_classes": ["access"], **more}
    rest = {"id": "1", "text": "The rest is allowed.", "effect": "allow", "action_classes": ["read", "change"]}
    return {"clauses": [access, rest]}


def ask(world: World, *, actor: Actor = ANNA, asset: str = "one", **given: Any) -> CredentialGrant:
    ticket_id = given.pop("ticket_id", None) or world.ticket()
    with world.database.begin() as session:
        return credential_grants.ask(
            session, asset_id=world.asset(asset), ticket_id=ticket_id, actor=actor, reason="disk is full", **given
        )


def stored(world: World, grant_id: int) -> CredentialGrant:
    with world.database.read() as session:
        return session.get_one(CredentialGrant, grant_id)


def kinds(world: World, prefix: str = "credential.") -> list[str]:
    with world.database.read() as session:
        query = select(Evidence.kind).where(Evidence.chain == world.alfa, Evidence.kind.startswith(prefix))
        assert evidence.verify(session)[1] == []
        return list(session.scalars(query.order_by(Evidence.seq)))


def test_what_the_clause_allows_is_given_at_once_and_ends_by_itself(world: World) -> None:
    world.change_terms(**clause("allow"))
    grant = ask(world, lasts=timedelta(minutes=30))
    assert (grant.state, grant.clause_id, grant.decided_by) == ("given", "9", "contract")
    assert grant.ends_at is not None
    assert grant.holds(grant.ends_at - timedelta(seconds=1))
    assert not grant.holds(grant.ends_at), "exactly at its end it is over"
    with world.database.begin() as session:
        assert credential_grants.expire(session, grant.ends_at) == 1
    assert stored(world, grant.id).state == "expired"
    assert kinds(world) == ["credential.given", "credential.expired"]


def test_what_the_clause_asks_for_waits_for_the_person_it_names(world: World) -> None:
    world.change_terms(**clause("ask"))
    grant = ask(world)
    assert grant.state == "waiting"
    assert not grant.holds(utc_now())
    for nobody in (ANNA, MAX, KEEPER):
        with pytest.raises(Refused), world.database.begin() as session:
            credential_grants.give(session, grant.id, actor=nobody)
    foreign = Actor("boss@beta.example", frozenset({"client approver"}), client_id=world.planted.clients["beta"])
    with pytest.raises(NotFound), world.database.begin() as session:
        credential_grants.give(session, grant.id, actor=foreign)
    with world.database.begin() as session:
        assert [one.id for one in credential_grants.waiting(session, world.olga)] == [grant.id]
        assert credential_grants.waiting(session, foreign) == []
        credential_grants.give(session, grant.id, actor=world.olga)
    assert stored(world, grant.id).holds(utc_now())
    with pytest.raises(Conflict), world.database.begin() as session:
        credential_grants.give(session, grant.id, actor=world.olga)
    assert kinds(world) == ["credential.asked", "credential.given"]
    assert "credential" in [entry.kind for entry in world.log(grant.ticket_id)], "the client reads it on the ticket"


def test_nobody_gives_what_they_asked_for_themselves(world: World) -> None:
    world.change_terms(**clause("ask", approver="provider"))
    both = Actor("both@provider.example", frozenset({"technician", "account manager"}))
    grant = ask(world, actor=both)
    with pytest.raises(Refused), world.database.begin() as session:
        credential_grants.give(session, grant.id, actor=both)
    with world.database.begin() as session:
        credential_grants.give(session, grant.id, actor=MAX)
    assert stored(world, grant.id).state == "given"


def test_a_refusal_is_kept_with_its_clause_and_an_unanswered_question_ends(world: World) -> None:
    world.change_terms(**clause("refuse"))
    refused = ask(world)
    assert (refused.state, refused.clause_id) == ("refused", "9")
    world.change_terms(**clause("ask", expires_s=60))
    grant = ask(world)
    with world.database.begin() as session:
        assert credential_grants.expire(session, utc_now() + timedelta(seconds=61)) == 1
    assert stored(world, grant.id).state == "expired"
    assert kinds(world) == ["credential.refused", "credential.asked", "credential.expired"]


def test_a_grant_ends_with_the_window_of_its_clause(world: World) -> None:
    now = utc_now().replace(hour=12, minute=0, second=0, microsecond=0)
    weekdays = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    world.change_terms(
        **clause("allow", windows=[{"days": weekdays, "from": "11:00", "to": "12:20"}], outside="refuse")
    )
    grant = ask(world, now=now, lasts=timedelta(hours=2))
    assert grant.ends_at == now + timedelta(minutes=20)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"asset": "far"}, NotFound),
        ({"lasts": timedelta(hours=13)}, Misconfigured),
        ({"lasts": timedelta()}, Misconfigured),
        ({"actor": Actor("max@provider.example", frozenset({"dispatcher"}))}, NotFound),
        ({"ticket_id": 10**9}, NotFound),
    ],
)
def test_what_cannot_be_asked_is_explained(world: World, given: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        ask(world, **given)


def test_a_closed_ticket_gives_no_credential(world: World) -> None:
    ticket_id = world.ticket()
    with world.database.begin() as session:
        tickets.move(session, ticket_id, "cancelled", by="test")
    with pytest.raises(Conflict, match="cancelled"):
        ask(world, ticket_id=ticket_id)


def test_every_use_by_a_run_is_evidence_and_the_desk_knows_it(world: World) -> None:
    run = world.request(world.playbook(READING, "reading"), "one", "two")
    world.drive(run.id)
    assert world.ends(run.id) == {"one": "ok", "two": "ok"}
    with world.database.read() as session:
        (used,) = session.scalars(select(Evidence).where(Evidence.kind == "credential.used"))
        assert used.data["secrets"][0]["secret"] == "vault:ssh-key"
        assert used.data["secrets"][0]["hosts"] == ["one", "two"]
        assert used.data["ticket"] == run.ticket_id
        row = row_of(session, "ssh-key", world.alfa)
        assert (row.used_by, row.used_at is not None) == (ANNA.name, True)
        rows = credentials.desk(session, Policy(), utc_now(), client_ids={world.alfa})
    assert [(row.secret.name, [item.name for item in row.assets]) for row in rows] == [
        ("ssh-key", ["data", "one", "two"])
    ]
    assert [grant.actor for grant in rows[0].grants] == [ANNA.name]


def test_a_withdrawn_grant_keeps_runs_of_that_ticket_out_before_anything_is_sent(world: World) -> None:
    world.change_terms(**clause("allow"))
    grant = ask(world)
    with world.database.begin() as session:
        credential_grants.withdraw(session, grant.id, actor=world.olga, reason="wrong machine")
    run = world.request(world.playbook(TWO_STEPS), ticket_id=grant.ticket_id)
    world.drive(run.id)
    assert world.ends(run.id) == {"one": "refused"}
    assert not (world.host().root / "first").exists()
    assert "wrong machine" in world.run_host(run.id).detail
    assert kinds(world) == ["credential.given", "credential.withdrawn", "credential.refused"]
    again = ask(world, ticket_id=grant.ticket_id)
    run = world.request(world.playbook(TWO_STEPS), ticket_id=again.ticket_id)
    world.drive(run.id)
    assert world.ends(run.id) == {"one": "ok"}, "given anew, it holds"


def test_withdrawn_while_a_run_is_at_work_it_stops_before_its_next_step(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driving, "LOOK_AGAIN", timedelta(0))
    waits = "; ".join(("touch first", "while ! test -e go; do sleep 0.05; done"))
    run = world.request(world.playbook(TWO_STEPS.replace("touch first", waits)))
    root = world.host().root

    def withdraw() -> None:
        world.wait(lambda: (root / "first").exists())
        with world.database.begin() as session:
            (grant,) = session.scalars(select(CredentialGrant).where(CredentialGrant.run_id == run.id))
            item = session.get_one(ConfigurationItem, world.asset("one"))
            assert keyring.forbidden(session, session.get_one(Run, run.id), [item], utc_now()) == {}
            credential_grants.withdraw(session, grant.id, actor=ANNA)
        (root / "go").touch()

    withdrawing = threading.Thread(target=withdraw)
    withdrawing.start()
    world.drive(run.id)
    withdrawing.join(60)
    assert world.ends(run.id) == {"one": "refused"}
    assert (root / "first").exists()
    assert not (root / "second").exists()
    assert world.run_host(run.id).detail == (
        f"Before Step 2 (second): {ANNA.name} withdrew the use of vault:ssh-key on ticket {run.ticket_id}."
    )


def test_only_its_holder_its_approver_and_who_has_the_right_withdraw(world: World) -> None:
    world.change_terms(**clause("allow"))
    grant = ask(world)
    other = Actor("bert@provider.example", frozenset({"technician"}))
    with pytest.raises(Refused), world.database.begin() as session:
        credential_grants.withdraw(session, grant.id, actor=other)
    with world.database.begin() as session:
        credential_grants.withdraw(session, grant.id, actor=KEEPER)
    with pytest.raises(Conflict), world.database.begin() as session:
        credential_grants.withdraw(session, grant.id, actor=KEEPER)


# --- the desk


def test_the_desk_puts_the_worst_first(world: World) -> None:
    now = utc_now()
    vault = Vault.from_file(world.settings.key_path)
    with world.database.begin() as session:
        for name, kind, days in (("old", "password", 91), ("older key", "ssh_key", 200), ("soon", "password", 80),
                                 ("other", "other", 300)):  # fmt: skip
            row = credentials.store(
                session, vault, name=name, value=Secret("x" * 12), client_id=world.alfa, by="test", kind=kind
            )
            row.changed_at = now - timedelta(days=days)
        row_of(session, "other", world.alfa).exposed_at = now
        session.add(VaultSecret(client_id=world.alfa, name="bao:kv/alfa/x#y", kind="other", sealed=None, changed_by=""))
        session.flush()
        rows = credentials.desk(session, Policy(), now, client_ids={world.alfa})
        assert [(row.secret.name, row.age.state) for row in rows] == [
            ("other", "exposed"), ("older key", "overdue"), ("old", "overdue"), ("soon", "due_soon"),
            ("bao:kv/alfa/x#y", "unknown"), ("ssh-key", "fresh"),
        ]  # fmt: skip
        assert credentials.attention(session, Policy(), now) == 3
        assert [row.secret.name for row in credentials.desk(session, Policy(), now, state="due_soon")] == ["soon"]


def test_a_secret_in_use_is_not_forgotten(world: World) -> None:
    vault = Vault.from_file(world.settings.key_path)
    with world.database.begin() as session:
        with pytest.raises(Conflict, match="data, one, two"):
            credentials.delete(session, vault, row_of(session, "ssh-key", world.alfa), by="test")
        credentials.store(session, vault, name="idle", value=Secret("x" * 9), client_id=world.alfa, by="test", new=True)
        with pytest.raises(Conflict):
            credentials.store(session, vault, name="idle", value=Secret("y"), client_id=world.alfa, by="t", new=True)
        credentials.delete(session, vault, row_of(session, "idle", world.alfa), by="test")
        with pytest.raises(NotFound):
            row_of(session, "idle", world.alfa)
    assert kinds(world, "secret.") == ["secret.stored", "secret.deleted"]


@pytest.mark.parametrize("name", ["", " x", "a\nb", "a#b", "x" * 121, "../../etc", "ключ"])
def test_a_name_that_cannot_be_is_refused(world: World, name: str) -> None:
    vault = Vault.from_file(world.settings.key_path)
    with pytest.raises(Misconfigured), world.database.begin() as session:
        credentials.store(session, vault, name=name, value=Secret("x"), client_id=world.alfa, by="test")


def test_seeing_a_secret_needs_the_right_a_reason_and_the_contract(world: World) -> None:
    def see(actor: Actor, reason: str = "at the console", ticket_id: int | None = None) -> None:
        with world.database.begin() as session:
            row = row_of(session, "ssh-key", world.alfa)
            credentials.let_see(session, row, actor=actor, reason=reason, ticket_id=ticket_id)

    world.change_terms(**clause("ask"))
    ticket_id = world.ticket()
    with pytest.raises(Refused, match="does not see"):
        see(ANNA, ticket_id=ticket_id)
    with pytest.raises(Misconfigured, match="reason"):
        see(KEEPER, " ", ticket_id)
    with pytest.raises(Misconfigured, match="ticket"):
        see(KEEPER)
    with pytest.raises(Refused, match="as agreed"):
        see(KEEPER, ticket_id=ticket_id)
    grant = ask(world, actor=KEEPER, ticket_id=ticket_id)
    with world.database.begin() as session:
        credential_grants.give(session, grant.id, actor=world.olga)
    see(KEEPER, ticket_id=ticket_id)
    with world.database.read() as session:
        row = row_of(session, "ssh-key", world.alfa)
        assert row.exposed_why == f"{KEEPER.name}: at the console"
        (told,) = session.scalars(select(Evidence).where(Evidence.kind == "credential.revealed"))
    assert (told.actor, told.data["reason"], told.data["ticket"]) == (KEEPER.name, "at the console", ticket_id)
    with world.database.begin() as session:
        credential_grants.withdraw(session, grant.id, actor=world.olga)
    with pytest.raises(Refused, match="withdrew"):
        see(KEEPER, ticket_id=ticket_id)


@pytest.mark.parametrize("name", ["ssh-ca-1", "proof pack signing key"])
def test_a_key_of_the_product_is_given_to_nobody(world: World, name: str) -> None:
    vault = Vault.from_file(world.settings.key_path)
    with world.database.begin() as session:
        row = vault.put(session, name, "planted-authority", by="test", client_id=world.alfa)
        with pytest.raises(Refused, match="not given to machines"):
            keyring.Keyring(vault).get(session, name, client_id=world.alfa)
        with pytest.raises(Refused, match="product itself"):
            credentials.let_see(session, row, actor=KEEPER, reason="curious me", ticket_id=None)
        with pytest.raises(Refused, match="product itself"):
            credentials.delete(session, vault, row, by="test")
        with pytest.raises(Refused, match="product itself"):
            credentials.store(session, vault, name=name, value=Secret("mine"), client_id=world.alfa, by="test")
    head = 'name: spill\nversion: "1"\naction_class: change\nparameters:\n  token: secret\n'
    book = head + "steps:\n  - do: printf %s {{ token }} > got\n    check: test -s got\n"
    run = world.request(world.playbook(book, "spill"), parameters={"token": f"vault:{name}"})
    with pytest.raises(Refused, match="not given to machines"):
        world.drive(run.id)
    assert not (world.host().root / "got").exists()
