"""Figures of a month: every promise is judged in one month, as of its end, whatever happens later."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from msp.contracts import agreements
from msp.contracts.models import Client
from msp.db import Database
from msp.desk import attainment, handled, tickets
from msp.desk.attainment import KEPT, LATE, NONE, Handled, Judgement, Kept, Stay
from msp.errors import Conflict, Misconfigured
from msp.people import users

MARCH, APRIL, MAY = (datetime(2026, month, 1, tzinfo=UTC) for month in (3, 4, 5))
MONDAY = datetime(2026, 3, 16, 9, tzinfo=UTC)
TERMS: dict[str, Any] = {
    "currency": "EUR",
    "calendars": {"always": {"tz": "UTC", "week": {day: [["00:00", "24:00"]] for day in
                                                   ("mon", "tue", "wed", "thu", "fri", "sat", "sun")}}},
    "lines": [{"id": "L1", "kind": "t_and_m", "name": "Care", "rate": "60", "calendar": "always",
               "targets": {"P2": {"first_response": 60, "resolution": 480}}}],
}  # fmt: skip


def a_client(session: Session) -> Client:
    client = agreements.add_client(session, key="alfa", name="Alfa")
    contract = agreements.add_contract(
        session, client, reference="A", kind="t_and_m", currency="EUR", starts_on=date(2026, 1, 1)
    )
    agreements.add_version(session, contract, TERMS, datetime(2026, 1, 1, tzinfo=UTC), "test")
    return client


def opened(session: Session, client: Client, at: datetime, *, replied: int | None, solved: int | None) -> int:
    """A ticket answered and solved so many minutes after it was opened."""
    ticket = tickets.open_ticket(session, tickets.Opening(client.id, "Disk", priority="P2"), by="x", now=at)
    if replied is not None:
        tickets.reply(session, ticket.id, "ok", by="x", now=at + timedelta(minutes=replied))
    if solved is not None:
        tickets.move(session, ticket.id, "resolved", by="x", now=at + timedelta(minutes=solved))
    return ticket.id


def test_promises_are_counted_where_they_fell_due_and_past_months_do_not_change(database: Database) -> None:
    last_night = datetime(2026, 3, 31, 20, tzinfo=UTC)
    with database.begin() as session:
        client = a_client(session)
        opened(session, client, MONDAY, replied=10, solved=400)
        opened(session, client, MONDAY, replied=90, solved=481)
        opened(session, client, last_night, replied=10, solved=1000)  # due in April, late there
        before = handled.read(session, MARCH, APRIL, MAY)
        assert attainment.overall(before, MARCH, APRIL) == Kept("", 5, 3)
        april = handled.read(session, APRIL, MAY, MAY)
        assert attainment.overall(april, APRIL, MAY) == Kept("", 1, 0)
        tickets.client_message(session, 1, "again", by="c", now=APRIL + timedelta(days=3))  # opens it again
        assert handled.read(session, MARCH, APRIL, MAY) == before
        assert handled.read(session, MARCH, APRIL, MAY, client_ids=[]) == []


def test_first_line_and_upper_lines_are_told_apart(database: Database) -> None:
    with database.begin() as session:
        client = a_client(session)
        anna = users.add(session, email="a@x.example", name="Anna", password="x" * 12, roles=["technician"], by="t")
        opened(session, client, MONDAY, replied=20, solved=60)
        number = opened(session, client, MONDAY, replied=40, solved=None)
        tickets.assign(session, number, anna, by="x", now=MONDAY + timedelta(minutes=45))
        at = MONDAY + timedelta(minutes=50)
        tickets.hand_over(session, number, "L2", by="x", reason="raid", tried="swap", now=at)
        tickets.move(session, number, "waiting_client", by="x", now=at + timedelta(minutes=30))
        tickets.move(session, number, "open", by="x", now=at + timedelta(minutes=90))
        tickets.move(session, number, "resolved", by="x", now=at + timedelta(minutes=100))
        with pytest.raises(Conflict, match="is open"):
            tickets.rate(session, opened(session, client, APRIL, replied=None, solved=None), 5, by="c", now=APRIL)
        with pytest.raises(Misconfigured, match="6 stars"):
            tickets.rate(session, number, 6, by="c", now=at)
        tickets.rate(session, number, 2, by="c", now=at + timedelta(minutes=101))
        tickets.rate(session, number, 4, by="c", now=at + timedelta(minutes=102))  # on second thoughts
        rows = handled.read(session, MARCH, APRIL, MAY)
    first = attainment.first_line(rows, MARCH, APRIL)
    assert (first.handled, first.solved, first.first_contact) == (2, 1, 1)
    assert first.reaction == timedelta(minutes=30)
    assert first.handling == timedelta(minutes=55)
    (upper,) = attainment.upper_lines(rows, MARCH, APRIL)
    assert (upper.line, upper.handled, upper.per_ticket) == ("L2", 1, timedelta(minutes=40))  # the client waited 60
    assert (upper.rating, upper.rated) == (Decimal("4.0"), 1)
    loads = {load.technician: load for load in attainment.workload(rows, MARCH, APRIL)}
    assert loads["Anna"].solved == 1
    assert sum(load.share for load in loads.values()) == 100


def row(number: int, group: str, outcome: str, at: datetime | None) -> Handled:
    judged = Judgement(outcome, at)
    return Handled(
        number, 1, group, "s", "incident", "P2", "L1", "resolved", group, 1, "L1", MARCH, at, judged, Judgement(NONE),
        (Stay("L1", MARCH, at, True, timedelta()),), 0, 0, False,
    )  # fmt: skip


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from([KEPT, LATE, NONE]), st.integers(-40 * 86400, 40 * 86400))
    )
)
def test_groups_add_up_to_the_whole(raw: list[tuple[str, str, int]]) -> None:
    drawn = [(group, how, MARCH + timedelta(seconds=second)) for group, how, second in raw]
    rows = [row(n, group, how, at) for n, (group, how, at) in enumerate(drawn)]
    inside = [how for _, how, at in drawn if MARCH <= at < APRIL and how != NONE]
    whole = attainment.overall(rows, MARCH, APRIL)
    assert (whole.counted, whole.kept) == (len(inside), inside.count(KEPT))
    groups = attainment.kept(rows, MARCH, APRIL, lambda one: one.client)
    assert sum(group.counted for group in groups) == whole.counted
    assert all(group.percent is not None and 0 <= group.percent <= 100 for group in groups)


def test_nothing_reads_as_a_hundred_percent_that_is_not() -> None:
    assert Kept("", 10_000, 9_999).percent == Decimal("99.9")
    assert Kept("", 0, 0).percent is None
