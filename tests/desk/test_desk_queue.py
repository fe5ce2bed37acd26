"""The queue's figures and its search: as counted by hand, and the same on both databases."""

import random
from collections import Counter
from datetime import timedelta

from reception import NOON, Desk
from sqlalchemy import insert, select

from msp.desk import queue
from msp.desk.models import SOUGHT, Ticket
from msp.desk.queue import Filter
from msp.people import users


def filled(desk: Desk, count: int = 400) -> list[int]:
    """Store tickets of every kind that counters tell apart; return the technicians."""
    dice = random.Random(7)
    with desk.database.begin() as session:
        people = [
            users.add(session, email=f"{n}@x.example", name=n, password="x" * 12, roles=["technician"], by="t").id
            for n in ("anna", "igor")
        ]
        rows = [
            {
                "client_id": dice.choice((desk.client, desk.other)), "kind": "incident", "subject": f"Disk {number}",
                "opened_at": NOON, "priority": "P3", "line": dice.choice(("L1", "L2", "L3")),
                "next_due_at": dice.choice((None, NOON + timedelta(minutes=dice.randrange(-90, 180)))),
                "breached": dice.random() < 0.3, "assignee_id": dice.choice((None, *people)),
                "is_open": dice.random() < 0.8, "log_version": 1, "state": "open", "paused": False,
            }
            for number in range(count)
        ]  # fmt: skip
        session.execute(insert(Ticket), rows)
    return people


def test_counters_agree_with_counting_every_ticket(desk: Desk) -> None:
    people = filled(desk)
    with desk.database.read() as session:
        every = [one for one in session.scalars(select(Ticket)) if one.is_open]
        for clients in (None, [desk.client], [desk.client, desk.other], []):
            own = [one for one in every if clients is None or one.client_id in clients]
            found = queue.counters(session, Filter(client_ids=clients), user_id=people[0], now=NOON)
            assert found.open == len(own)
            assert found.by_line == dict(Counter(one.line for one in own))
            assert found.breached == sum(one.breached for one in own)
            assert found.unassigned == sum(one.assignee_id is None for one in own)
            assert found.mine == sum(one.assignee_id == people[0] for one in own)
            soon = [one for one in own if one.next_due_at and NOON <= one.next_due_at <= NOON + timedelta(hours=1)]
            assert found.breaching_soon == len(soon)
        assert queue.counters(session, Filter(), now=NOON).mine == 0


#: what is typed -> the subjects found
SEARCHES = {
    "принтер": ["Не работает ПРИНТЕР"],
    "ПРИНТЕР работает": ["Не работает ПРИНТЕР"],
    "strasse": ["Drucker Hauptstraße"],
    "HAUPTSTRASSE drucker": ["Drucker Hauptstraße"],
    "100%": ["Disk 100% full"],
    "0% f": ["Disk 100% full"],
    "_": ["a_b"],
    "printer": [],
    "\u0438\u0306": ["Мой стол"],  # й in two pieces, as some keyboards send it
    "end": [],
}


def test_search_by_words_finds_the_same_on_every_database(desk: Desk) -> None:
    for subject in (
        "Не работает ПРИНТЕР",
        "Drucker Hauptstraße",
        "Disk 100% full",
        "a_b",
        "Мой стол",
        "x" * 900 + "end",
    ):
        desk.open(subject=subject)
    with desk.database.read() as session:
        for asked, found in SEARCHES.items():
            assert [row.subject for row in queue.rows(session, Filter(words=asked))] == found, asked
        assert max(len(text) for text in session.scalars(select(Ticket.sought))) == SOUGHT


def test_a_search_by_number_finds_the_ticket_itself(desk: Desk) -> None:
    first, second = desk.open(), desk.open()
    with desk.database.read() as session:
        assert [row.id for row in queue.rows(session, Filter(words=f"#{second}"))] == [second]
        assert [row.id for row in queue.rows(session, Filter(words=str(first)))] == [first]
