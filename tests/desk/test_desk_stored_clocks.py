"""What a ticket's row says is what its log says, whatever was done to it and however time passed."""

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from msp.contracts import agreements
from msp.contracts.evaluate import evaluate
from msp.contracts.models import Client, ContractVersion
from msp.db import Database
from msp.desk import clock, lines, tickets
from msp.desk.models import Ticket, TicketEvent
from msp.errors import Conflict
from msp.evidence import Evidence

BEGIN = datetime(2026, 3, 20, 6, tzinfo=UTC)  # a Friday; clocks change nine days later
OFFICE = {
    "tz": "Europe/Berlin",
    "week": {day: [["08:00", "12:00"], ["12:30", "17:30"]] for day in ("mon", "tue", "wed", "thu", "fri")},
    "holidays": ["2026-04-03", "2026-04-06"],
}
NIGHT = {"tz": "Europe/Berlin", "week": {day: [["22:00", "06:00"]] for day in ("mon", "wed", "fri", "sun")}}
TERMS: dict[str, Any] = {
    "currency": "EUR",
    "zone": "Europe/Berlin",
    "calendars": {"office": OFFICE, "night": NIGHT},
    "lines": [
        {
            "id": "L",
            "kind": "t_and_m",
            "name": "Servers",
            "rate": "90.00",
            "calendar": "office",
            "targets": {
                "P1": {"first_response": 15, "next_reply": 30, "resolution": 240},
                "P2": {"first_response": 60, "next_reply": 120, "resolution": 480},
                "P3": {"first_response": 240, "next_reply": 240, "resolution": 1440},
            },
            "pause_states": ["waiting_client", "waiting_vendor", "scheduled"],
            "ola": {"L1": {}, "L2": {"minutes": 120, "calendar": "night"}},
            "onsite_minutes": 300,
            "latest_dispatch": {"calendar": "night", "travel_min": 45, "repair_min": 90},
        }
    ],
    "clauses": [],
}


def contract(session: Session) -> Client:
    client = agreements.add_client(session, key="alfa", name="Alfa", time_zone="Europe/Berlin")
    signed = agreements.add_contract(
        session, client, reference="A-1", kind="t_and_m", currency="EUR", starts_on=date(2026, 1, 1)
    )
    agreements.add_version(session, signed, TERMS, datetime(2026, 1, 1, tzinfo=UTC), "test", now=BEGIN)
    return client


def opened(session: Session, client_id: int, dice: random.Random, now: datetime) -> None:
    opening = tickets.Opening(
        client_id=client_id,
        subject="It hums.",
        priority=dice.choice(["P1", "P2", "P3"]),
        channel=dice.choice(["portal", "email", "phone_by_agent", "monitoring"]),
        at=now - timedelta(minutes=dice.randrange(30)) if dice.random() < 0.3 else None,
    )
    tickets.open_ticket(session, opening, by="test", now=now)


def act(session: Session, ticket: Ticket, dice: random.Random, now: datetime) -> None:
    """Do something that people or machines do to a ticket."""
    which = dice.randrange(13)
    match which:
        case 0:
            tickets.reply(session, ticket.id, "We look.", by="test", now=now)
        case 1:
            tickets.note(session, ticket.id, "Only for us.", by="test", now=now)
        case 2 | 3:
            tickets.client_message(session, ticket.id, "And?", by="client", now=now)
        case 4 | 5 | 6:
            tickets.move(session, ticket.id, dice.choice(tickets.STATES), by="test", now=now)
        case 7 | 8:
            tickets.set_priority(session, ticket.id, dice.choice(["P1", "P2", "P3"]), by="test", now=now)
        case 9:
            to = dice.choice(list(lines.LINES))
            tickets.hand_over(session, ticket.id, to, by="test", reason="Unknown.", tried="All.", now=now)
        case 10:
            kind = dice.choice(["onsite_requested", "arrived", "playbook_run", "call_by_agent", "auto_reply"])
            tickets.append(session, ticket, kind, by="test", now=now)
        case 11:
            until = now + timedelta(minutes=dice.randrange(200))
            tickets.append(session, ticket, "no_access", by="test", data={"until": until.isoformat()}, now=now)
        case 12 if dice.random() < 0.3:
            others = select(Ticket.id).where(Ticket.is_open, Ticket.id != ticket.id)
            if found := list(session.scalars(others)):
                tickets.merge(session, ticket.id, dice.choice(found), by="test", now=now)


def printed(instant: datetime | None) -> str | None:
    return None if instant is None else instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def recomputed(session: Session, ticket: Ticket, now: datetime) -> dict[str, Any]:
    """Put the stored log as a case before the batch command's own rules."""
    log = session.scalars(select(TicketEvent).where(TicketEvent.ticket_id == ticket.id).order_by(TicketEvent.seq))
    entries = [{"type": entry.kind, "at": entry.at.isoformat(), **entry.data} for entry in log]
    version = session.get_one(ContractVersion, ticket.contract_version_id)
    (line,) = version.terms["lines"]
    case = {
        "id": ticket.id,
        "kind": "ticket",
        "calendar": line["calendar"],
        "policy": {key: line[key] for key in line if key not in ("id", "kind", "name", "rate", "calendar")},
        "events": [entry for entry in entries if entry["type"] != "assigned"],
        "as_of": max(now, datetime.fromisoformat(entries[-1]["at"])).isoformat(),
    }
    return evaluate({"calendars": version.terms["calendars"], "cases": [case]})["results"][0]


def assert_stored_is_recomputed(session: Session, now: datetime) -> int:
    found = list(session.scalars(select(Ticket)))
    for ticket in found:
        result = recomputed(session, ticket, now)
        assert "error" not in result, result
        first, resolution = result["first_response"], result["resolution"]
        assert printed(ticket.first_response_due_at) == (None if "met_at" in first else first["due"])
        assert printed(ticket.resolution_due_at) == (None if "resolved_at" in resolution else resolution["due"])
        assert ticket.paused == resolution["paused"]
        assert printed(ticket.resolved_at) == resolution.get("resolved_at")
        assert printed(ticket.latest_dispatch_at) == result.get("latest_dispatch_at")
        late = [result[name]["breached"] for name in ("first_response", "resolution")]
        assert ticket.breached or not any(late)
        promise = clock.promise_of(session, ticket)
        assert promise is not None
        whole = clock.clocks(promise, tickets.log_of(session, ticket.id), now)
        assert ticket.breached == whole.breached
        assert ticket.next_due_at == (whole.next_due if ticket.is_open else None)
        assert ticket.next_wake_at is None or ticket.next_wake_at > now or whole.next_wake is None
    assert clock.stale(session, now) == 0
    return len(found)


def lived(database: Database, seed: int, steps: int) -> int:
    """Open tickets and act on them over weeks, ticking as a worker does; compare after each step."""
    dice, now, compared = random.Random(seed), BEGIN, 0
    with database.begin() as session:
        client_id = contract(session).id
    for _ in range(steps):
        now += timedelta(seconds=dice.choice([1, 60, 1800, dice.randrange(20_000), dice.randrange(100_000)]))
        with database.begin() as session:
            stored = list(session.scalars(select(Ticket)))
            if len(stored) < 6 or dice.random() < 0.1:
                opened(session, client_id, dice, now)
            else:
                try:
                    act(session, dice.choice(stored), dice, now)
                except Conflict:
                    continue  # such as answering a closed ticket
        with database.begin() as session:
            while clock.wake(session, now):
                pass
        with database.read() as session:
            compared += assert_stored_is_recomputed(session, now)
    return compared


def test_stored_clocks_are_the_recomputed_ones_whatever_happens(database: Database) -> None:
    assert lived(database, seed=1, steps=60) > 200


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 6))
def test_stored_clocks_are_the_recomputed_ones_over_months(database: Database, seed: int) -> None:
    assert lived(database, seed, steps=150) > 1000


def test_waking_twice_at_one_instant_changes_nothing_and_evidence_tells_each_breach_once(database: Database) -> None:
    with database.begin() as session:
        opening = tickets.Opening(client_id=contract(session).id, subject="Late", priority="P1")
        due = tickets.open_ticket(session, opening, by="test", now=BEGIN).resolution_due_at
    assert due is not None
    for now in (due, due + timedelta(seconds=1), due + timedelta(seconds=1), due + timedelta(hours=5)):
        with database.begin() as session:
            while clock.wake(session, now):
                pass
    with database.read() as session:
        told = list(session.scalars(select(Evidence).where(Evidence.kind == "ticket.breached").order_by(Evidence.id)))
        assert [entry.data["clocks"] for entry in told] == [["first_response"], ["resolution"]]
        (ticket,) = session.scalars(select(Ticket))
        assert ticket.breached
