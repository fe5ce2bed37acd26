"""What ends a console of the served pages at once: a withdrawal, a lock-out, the contract, a limit, a stop."""
# ruff: noqa: F811  fixtures are imported

import json
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import console_stage
import pytest
import seed
import sshd
from console_line import last_words, line, machine, people, prepared, refused, row, served, stage, tech, terminal, until  # noqa: F401
from console_stage import ADMIN, CLAUSE, TECH, Person, Stage
from sqlalchemy import delete, select, update
from websockets.exceptions import ConnectionClosed

from msp import db
from msp.clock import utc_now
from msp.flows import consoles, credential_grants
from msp.people.credential_grants import CredentialGrant
from msp.people.models import Grant, User
from msp.remote.consoles.models import ConsoleSession

pytestmark = [
    pytest.mark.slow,
    pytest.mark.server,
    pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing() or "never"),
]


def test_a_withdrawn_admission_ends_the_console_within_two_seconds(
    stage: Stage, tech: Person, people: dict[str, Person]
) -> None:
    admin = people.setdefault(ADMIN, Person(stage, ADMIN))
    with terminal(tech) as (console_id, opened):
        assert "box" in admin.ask("/consoles/").text  # type: ignore[attr-defined]
        assert admin.ask(f"/consoles/{console_id}/end", back="list").status == 303
        message, took = last_words(opened)
    assert message["ended"] == "withdrawn"
    assert ADMIN in message["detail"]
    assert took < 2
    assert row(console_id).withdrawn_by == ADMIN
    assert "console.withdrawn" in [one.kind for one in stage.evidence(console_id)]


def test_one_technician_does_not_end_the_console_of_another(
    stage: Stage, tech: Person, people: dict[str, Person]
) -> None:
    other = people.setdefault("limited", Person(stage, "limited@provider.example"))
    with terminal(tech) as (console_id, opened):
        with db.begin() as session:
            user = session.scalars(select(User).where(User.email == "limited@provider.example")).one()
            kept, user.roles = list(user.roles), [role for role in user.roles if role.name == "technician"]
        try:
            assert other.ask(f"/consoles/{console_id}/end", x="1").status == 403
        finally:
            with db.begin() as session:
                session.get_one(User, user.id).roles = [session.merge(role) for role in kept]
        opened.send(json.dumps({"close": True}))
        assert last_words(opened)[0]["ended"] == "closed"


def _lock_out(stage: Stage) -> None:
    with db.begin() as session:
        session.execute(update(User).where(User.email == TECH).values(active=False))


def _move_to_another_client(stage: Stage) -> None:
    with db.begin() as session:
        user = session.scalars(select(User).where(User.email == TECH)).one()
        bravo = session.scalars(select(console_stage.Client).where(console_stage.Client.key == "bravo")).one()
        session.add(Grant(user_id=user.id, client_id=bravo.id))


@pytest.mark.parametrize("change", [_lock_out, _move_to_another_client])
def test_who_may_no_longer_is_out_within_two_seconds(stage: Stage, tech: Person, change: Any) -> None:
    try:
        with terminal(tech) as (_, opened):
            change(stage)
            message, took = last_words(opened)
        assert message["ended"] == "not_allowed"
        assert took < 2
    finally:
        with db.begin() as session:
            user = session.scalars(select(User).where(User.email == TECH)).one()
            user.active = True
            session.execute(delete(Grant).where(Grant.user_id == user.id))


def test_a_contract_that_no_longer_admits_ends_the_console(stage: Stage, tech: Person) -> None:
    with terminal(tech) as (_, opened):
        stage.amend({**CLAUSE, "id": "9.1", "effect": "refuse", "text": "Nobody gets in any more."})
        message, took = last_words(opened)
    stage.amend()
    assert message == {"ended": "not_allowed", "detail": "Nobody gets in any more."}
    assert took < 8


def test_where_the_contract_asks_a_grant_admits_and_its_end_is_the_consoles(
    stage: Stage, tech: Person, people: dict[str, Person]
) -> None:
    boss = people.setdefault("boss", Person(stage, "boss@alfa.example"))
    stage.amend({**CLAUSE, "id": "9.2", "effect": "ask", "text": "Ask us before you come in."})
    box = str(stage.ids["box"])
    try:
        asked_first = row(tech.request(stage.ids["box"], ticket=""), "refused")  # it has opened a ticket of its own
        assert asked_first.decision["clause_id"] == "9.2"
        ticket = str(asked_first.ticket_id)
        assert "data-ask" in tech.ask(f"/assets/{box}").text  # type: ignore[attr-defined]
        form = {"asset_id": box, "ticket_id": ticket, "minutes": "60", "reason": "The disk is full"}
        assert tech.ask("/credentials/ask", **form).status == 303
        with db.begin() as session:
            asked = session.scalars(select(CredentialGrant).order_by(CredentialGrant.id.desc())).first()
            assert asked is not None
            by = seed.users.actor_of(session, session.scalars(select(User).where(User.email == boss.email)).one())
            credential_grants.give(session, asked.id, actor=by)
        with terminal(tech, ticket=ticket) as (console_id, opened):
            with db.begin() as session:
                credential_grants.withdraw(session, asked.id, actor=by, reason="That is enough.")
            message, took = last_words(opened)
        assert message == {"ended": "withdrawn", "detail": "boss@alfa.example withdrew the admission."}
        assert took < 2
        assert row(console_id).credential_grant_id == asked.id
        again = row(tech.request(stage.ids["box"], ticket=ticket), "refused")
        assert "withdrew the use" in again.decision["text"]
    finally:
        stage.amend()
    assert "withdrew the use" in row(tech.request(stage.ids["box"], ticket=ticket), "refused").decision["text"]
    row(tech.request(stage.ids["box"]), "granted")  # on another ticket the contract allows it as before
    with db.begin() as session:
        session.execute(update(CredentialGrant).values(ends_at=utc_now()))


def test_who_types_nothing_is_out(tmp_path: Path, machine: sshd.Sshd) -> None:
    with console_stage.served(prepared(tmp_path / "idle", machine, console_idle_minutes=0)) as stage:
        tech = Person(stage, TECH)
        console_id = tech.request(stage.ids["box"])
        with line(tech, console_id, tech.ticket(console_id)) as opened:
            assert last_words(opened)[0]["ended"] == "idle"


def test_a_console_ends_when_the_window_of_its_clause_closes(stage: Stage, tech: Person) -> None:
    console_id = tech.request(stage.ids["box"])
    with db.begin() as session:
        session.get_one(ConsoleSession, console_id).ends_by = utc_now() + timedelta(seconds=3)
    with line(tech, console_id, tech.ticket(console_id)) as opened:
        opened.send(b"stty -echo; echo ready-$((1+1))\n")
        until(opened, b"ready-2")
        message, took = last_words(opened)
    assert message["ended"] == "limit"
    assert took < 5


def test_a_server_that_stops_closes_the_recording_and_one_that_is_killed_is_found_out(
    tmp_path: Path, machine: sshd.Sshd
) -> None:
    stage = prepared(tmp_path / "stopped", machine)
    with console_stage.served(stage), terminal(Person(stage, TECH)) as (console_id, opened):
        stage.process.send_signal(signal.SIGTERM)
        assert last_words(opened)[0]["ended"] == "stopped"
        assert stage.process.wait(10) == 0
    assert (row(console_id).end, bool(row(console_id).recording_sha256)) == ("stopped", True)
    with console_stage.served(stage), terminal(Person(stage, TECH)) as (console_id, opened):
        stage.process.kill()
        with pytest.raises((ConnectionClosed, OSError)):
            until(opened, b"never")
    assert row(console_id, "open").ended_at is None
    with db.begin() as session:
        assert consoles.reap(session, utc_now()) == 0, "it may still be alive"
        assert consoles.reap(session, utc_now() + timedelta(minutes=1)) == 1
    assert row(console_id).end == "stopped"


def test_an_admission_that_nobody_uses_is_void(stage: Stage, tech: Person) -> None:
    console_id = tech.request(stage.ids["box"])
    with db.begin() as session:
        consoles.reap(session, utc_now() + timedelta(minutes=11))
    assert row(console_id, "expired").nonce == ""
    assert tech.ask(f"/consoles/{console_id}/ticket", x="1").status == 409
