"""A client with a contract, in a fresh database of each kind."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from msp.contracts import agreements
from msp.db import Database
from msp.desk import tickets
from msp.desk.models import Ticket

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)  # a Wednesday
OFFICE = {day: [["09:00", "17:00"]] for day in ("mon", "tue", "wed", "thu", "fri")}
TERMS: dict[str, Any] = {
    "currency": "EUR",
    "zone": "UTC",
    "calendars": {"office": {"tz": "UTC", "week": OFFICE}},
    "lines": [
        {
            "id": "1",
            "kind": "t_and_m",
            "name": "Servers",
            "rate": "60.00",
            "calendar": "office",
            "targets": {
                "P1": {"first_response": 15, "next_reply": 30, "resolution": 120},
                "P2": {"first_response": 30, "next_reply": 60, "resolution": 240},
                "P3": {"first_response": 60, "next_reply": 120, "resolution": 960},
            },
            "ola": {"L1": {"minutes": 15}},
        }
    ],
    "clauses": [],
}


@dataclass
class Desk:
    """Two clients; the second has no contract."""

    database: Database
    client: int
    other: int

    def open(self, **given: Any) -> int:
        """Open a ticket at noon (or at `now`) and return its number."""
        now, by = given.pop("now", NOON), given.pop("by", "mail")
        values = {"client_id": self.client, "subject": "It is slow", "channel": "email", **given}
        with self.database.begin() as session:
            return tickets.open_ticket(session, tickets.Opening(**values), by=by, now=now).id

    def do(self, act: Any, ticket_id: int, *words: Any, **given: Any) -> None:
        """Do one act of msp.desk.tickets in a transaction of its own."""
        with self.database.begin() as session:
            act(session, ticket_id, *words, **{"by": "anna", "now": NOON, **given})

    def ticket(self, ticket_id: int) -> Ticket:
        with self.database.read() as session:
            return session.scalars(select(Ticket).where(Ticket.id == ticket_id)).one()

    def log(self, ticket_id: int) -> list[str]:
        with self.database.read() as session:
            return [entry.kind for entry in tickets.log_of(session, ticket_id)]


def furnish(database: Database) -> Desk:
    """Store both clients and return the desk."""
    with database.begin() as session:
        first = agreements.add_client(session, key="alfa", name="Alfa")
        second = agreements.add_client(session, key="beta", name="Beta")
        contract = agreements.add_contract(
            session, first, reference="C-1", kind="t_and_m", currency="EUR", starts_on=NOON.date().replace(month=1)
        )
        agreements.add_version(session, contract, TERMS, NOON.replace(month=1), "test", now=NOON)
        return Desk(database, first.id, second.id)
