"""Escalation as it happens: people on duty are told and told again, lines hand over, and a link takes it, once."""

import json
import re
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from msp import vault
from msp.contracts import agreements
from msp.db import Database
from msp.desk import clock, roster, tickets
from msp.desk.models import Ticket
from msp.desk.roster import EscalationNotice
from msp.engine import runtime
from msp.engine.models import Job
from msp.errors import Conflict, Misconfigured, NotFound, Unreachable
from msp.evidence import Evidence
from msp.flows import escalations
from msp.people import users
from msp.people.models import User
from msp.settings import Settings

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
ALWAYS = {day: [["00:00", "24:00"]] for day in ("mon", "tue", "wed", "thu", "fri", "sat", "sun")}
TERMS: dict[str, Any] = {
    "currency": "EUR",
    "calendars": {"always": {"tz": "UTC", "week": ALWAYS}},
    "lines": [
        {
            "id": "1",
            "kind": "t_and_m",
            "name": "Servers",
            "rate": "60.00",
            "calendar": "always",
            "targets": {"P1": {"resolution": 100}},
            "ola": {"L1": {"minutes": 15}},
        }
    ],
}


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    found = Settings(data=tmp_path)
    vault.create_key_file(found.key_path)
    return found


@pytest.fixture
def ticket(database: Database) -> int:
    """A critical ticket opened at noon; anna is on duty for L1, igor for L2, max is the manager, eva his."""
    with database.begin() as session:
        client = agreements.add_client(session, key="alfa", name="Alfa")
        contract = agreements.add_contract(
            session, client, reference="C-1", kind="t_and_m", currency="EUR", starts_on=date(2026, 1, 1)
        )
        agreements.add_version(session, contract, TERMS, datetime(2026, 1, 1, tzinfo=UTC), "test", now=NOON)
        for name, names, level in (("anna", ["L1"], 0), ("igor", ["L2"], 0), ("max", [], 1), ("eva", [], 2)):
            user = users.add(
                session, email=f"{name}@p.example", name=name, password="x" * 12, roles=["technician"], by="test"
            )
            roster.add(session, user, line_names=names, level=level, begins_at=at(-60), ends_at=at(600), by="test")
        opening = tickets.Opening(client_id=client.id, subject="Down", priority="P1", channel="phone_by_agent")
        return tickets.open_ticket(session, opening, by="test", now=NOON).id


def passes(database: Database, settings: Settings, until: datetime) -> None:
    """Let the worker's two ticks run at an instant."""
    with database.begin() as session:
        while clock.wake(session, until):
            pass
        escalations.tick(session, until, settings)


def told(database: Database) -> list[tuple[str, int]]:
    with database.read() as session:
        query = select(User.name, EscalationNotice.level).join(User, User.id == EscalationNotice.user_id)
        return [(row[0], row[1]) for row in session.execute(query.order_by(EscalationNotice.id))]


def test_a_used_up_line_hands_over_and_news_goes_higher_until_somebody_takes_it(
    database: Database, settings: Settings, ticket: int
) -> None:
    passes(database, settings, at(10))
    assert told(database) == []
    passes(database, settings, at(16))
    with database.read() as session:
        assert tickets.get(session, ticket).line == "L2"
        entry = tickets.log_of(session, ticket)[-1]
        assert (entry.kind, entry.actor, entry.data["to"]) == ("line", "escalation", "L2")
    passes(database, settings, at(50))
    assert told(database) == [("igor", 0)]
    passes(database, settings, at(60))
    assert told(database) == [("igor", 0)]  # not yet again
    passes(database, settings, at(65))
    assert told(database) == [("igor", 0)] * 2
    passes(database, settings, at(90))
    assert told(database)[-1] == ("max", 1)
    passes(database, settings, at(101))
    assert told(database)[-1] == ("eva", 2)
    passes(database, settings, at(116))
    assert told(database).count(("eva", 2)) == 2
    with database.read() as session:
        kinds = [entry.kind for entry in tickets.log_of(session, ticket)]
        assert kinds.count("escalated") == 3  # each level once, however often it is repeated
        evidence = list(session.scalars(select(Evidence).where(Evidence.kind == "ticket.escalated")))
        assert [entry.data["level"] for entry in evidence] == [0, 1, 2]


def test_a_link_takes_the_ticket_once_and_quiets_its_level(database: Database, settings: Settings, ticket: int) -> None:
    passes(database, settings, at(16))
    passes(database, settings, at(50))
    with database.begin() as session:
        session.execute(update(EscalationNotice).values(sent_at=datetime.now(UTC)))
        number = session.scalars(select(EscalationNotice.id)).one()
        link = escalations.token(settings, number)
        notice = escalations.by_token(session, settings, link)
        escalations.acknowledge(session, notice, now=at(51))
        with pytest.raises(Conflict, match="already"):
            escalations.acknowledge(session, notice, now=at(52))
        assignee = session.get_one(User, tickets.get(session, ticket).assignee_id)
        assert assignee.name == "igor"
        for forged in (
            link[:-1] + ("0" if link[-1] != "0" else "1"),
            f"{number + 1}-{link[2:]}",
            "x",
            "1-",
            "9" * 30,
            "ü",
        ):
            with pytest.raises(NotFound):
                escalations.by_token(session, settings, forged)
    for minutes in (66, 81):
        passes(database, settings, at(minutes))
    assert told(database) == [("igor", 0)]
    passes(database, settings, at(90))
    assert told(database)[-1] == ("max", 1)  # a higher level is news again


def test_a_line_without_anybody_on_duty_is_not_handed_to(database: Database, settings: Settings, ticket: int) -> None:
    with database.begin() as session:
        turns = list(roster.upcoming(session, NOON))
        for duty, user in turns:
            if user.name == "igor":
                roster.remove(session, duty.id, by="dora")
    passes(database, settings, at(16))
    with database.read() as session:
        assert tickets.get(session, ticket).line == "L1"


def test_a_paused_or_resolved_ticket_is_quiet(database: Database, settings: Settings, ticket: int) -> None:
    with database.begin() as session:
        tickets.move(session, ticket, "waiting_client", by="anna", now=at(5))
    passes(database, settings, at(300))
    assert told(database) == []
    with database.begin() as session:
        tickets.move(session, ticket, "resolved", by="anna", now=at(301))
    passes(database, settings, at(900))
    assert told(database) == []
    with database.read() as session:
        assert session.scalars(select(Ticket.escalate_at)).one() is None


class Receiver:
    """A program on loopback that takes notices over HTTP, and can be out of order."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        self.status = 200
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if receiver.status == 200:
                    receiver.received.append(json.loads(body))
                self.send_response(receiver.status)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  its name there
                return

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.server.shutdown()
    found.server.server_close()


def test_a_notice_is_sent_with_its_link_once_and_a_failure_is_tried_again(
    database: Database, settings: Settings, ticket: int, receiver: Receiver
) -> None:
    way = Settings(
        data=settings.data,
        mail_url=f"json://127.0.0.1:{receiver.server.server_port}/",
        public_url="https://desk.example/",
    )
    runtime.prepare(database.url)
    passes(database, way, at(16))
    passes(database, way, at(50))
    with database.read() as session:
        job = session.scalars(select(Job)).one()
        assert (job.id, job.handler, job.payload) == ("notice:1", "notice.send", {"notice_id": 1})
    receiver.status = 500
    with pytest.raises(Unreachable):
        escalations.send(way, 1)
    receiver.status = 200
    escalations.send(way, 1)
    escalations.send(way, 1)
    (message,) = receiver.received
    assert message["title"] == f"#{ticket} P1: Down"
    assert f"https://desk.example/notices/{escalations.token(way, 1)}" in message["message"]
    with database.read() as session:
        assert session.get_one(EscalationNotice, 1).delivered_at is not None


def test_a_notice_is_written_in_the_language_of_who_reads_it(
    database: Database, settings: Settings, ticket: int, receiver: Receiver
) -> None:
    way = Settings(data=settings.data, mail_url=f"json://127.0.0.1:{receiver.server.server_port}/")
    runtime.prepare(database.url)
    passes(database, way, at(16))
    passes(database, way, at(50))
    with database.begin() as session:
        session.get_one(User, session.get_one(EscalationNotice, 1).user_id).language = "ru"
    escalations.send(way, 1)
    (message,) = receiver.received
    assert "Принять: http://" in message["message"]
    assert re.search(r"Использовано \d+% срока|Срок нарушен", message["message"]), message
    assert not re.search(r"\b(is|the|Due|Take)\b", message["message"])
    with database.read() as session:
        assert session.get_one(EscalationNotice, 1).why.isascii(), "what is stored stays English"


def test_a_turn_that_cannot_be_is_refused(database: Database, ticket: int) -> None:
    def turn(session: Session, **given: Any) -> None:
        user = session.scalars(select(User).where(User.name == "anna")).one()
        values = {"line_names": ["L1"], "level": 0, "begins_at": NOON, "ends_at": at(60), "by": "t", **given}
        roster.add(session, user, **values)

    with database.begin() as session:
        for wrong in ({"ends_at": NOON}, {"level": 3}, {"line_names": ["L9"]}, {"weeks": 0}, {"weeks": 99}):
            with pytest.raises(Misconfigured):
                turn(session, **wrong)
        turn(session, weeks=3)
        found = [duty for duty, user in roster.upcoming(session, NOON) if user.name == "anna"]
        assert len(found) == 4
        with pytest.raises(NotFound):
            roster.remove(session, 10**30, by="t")
