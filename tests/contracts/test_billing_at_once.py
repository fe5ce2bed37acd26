"""Two people who decide on the same bill at once: whoever is second learns of the first, and nothing is given twice."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from msp import evidence
from msp.contracts import agreements, corrections, entries
from msp.contracts.entries import Worked
from msp.contracts.models import Act, BillingEntry, Contract, HourBlock
from msp.db import Database
from msp.desk import tickets
from msp.errors import Conflict

START = datetime(2026, 1, 1, tzinfo=UTC)
NOON = datetime(2026, 3, 16, 12, tzinfo=UTC)
APRIL = datetime(2026, 4, 2, 9, tzinfo=UTC)
HOURS = {"id": "L", "kind": "block_hours", "name": "Hours", "overage_rate": "60", "increment": 15}
Deed = Callable[[Session], Any]


def signed(database: Database, line: dict[str, Any], *, prepaid: int = 0) -> int:
    """A contract of one line; return the number of its client."""
    with database.begin() as session:
        client = agreements.add_client(session, key="alfa", name="Alfa")
        contract = agreements.add_contract(
            session, client, reference="A-17", kind=line["kind"], currency="EUR", starts_on=START.date()
        )
        agreements.add_version(session, contract, {"currency": "EUR", "lines": [line]}, START, "test")
        if prepaid:
            session.add(
                HourBlock(
                    contract_id=contract.id, purchased_on=date(2026, 1, 1), minutes=prepaid, balance_minutes=prepaid
                )
            )
        return client.id


def tried(database: Database, act: Deed) -> str:
    """Do something in a transaction of its own and say how it ended."""
    try:
        with database.begin() as session:
            act(session)
    except Conflict:
        return "refused"
    return "done"


def overtaken(database: Database, first: Deed, second: Deed) -> list[str]:
    """The first has read everything; before it acts, the second does, if its database lets it; then the first acts."""
    with ThreadPoolExecutor(1) as pool:

        def late(session: Session) -> None:
            seen = [*session.scalars(select(BillingEntry)), *session.scalars(select(Act))]
            running.append(pool.submit(tried, database, second))
            wait(running, timeout=0.4)  # SQLite lets it in only after us
            first(session)
            del seen  # kept until here, for a session forgets what nobody holds

        running: list[Any] = []
        return [tried(database, late), running[0].result(30)]


def followed(database: Database, first: Deed, second: Deed) -> list[str]:
    """The second begins when the first has acted, and has not committed yet."""
    with ThreadPoolExecutor(1) as pool:

        def slow(session: Session) -> None:
            first(session)
            session.flush()
            running.append(pool.submit(tried, database, second))
            wait(running, timeout=0.4)

        running: list[Any] = []
        return [tried(database, slow), running[0].result(30)]


def entry(session: Session) -> BillingEntry:
    return session.scalars(select(BillingEntry).order_by(BillingEntry.id).limit(1)).one()


def confirm(session: Session) -> None:
    entries.confirm(session, entry(session), "boss")


def withdraw(session: Session) -> None:
    entries.withdraw(session, entry(session))


def carry(session: Session) -> None:
    corrections.carry_over(session, entry(session), by="boss", now=APRIL)


def close(session: Session) -> None:
    contract = session.scalars(select(Contract)).one()
    entries.close_period(session, contract, "2026-03", "boss", fees=[(Decimal(1), "Fee")])


@pytest.mark.parametrize("meeting", [overtaken, followed])
@pytest.mark.parametrize(
    ("before", "first", "second"),
    [
        ((), confirm, withdraw),
        ((), withdraw, confirm),
        ((), withdraw, withdraw),
        ((), confirm, close),
        ((), close, confirm),
        ((confirm,), close, withdraw),
        ((confirm,), withdraw, close),
        ((close,), carry, carry),
        ((close,), carry, withdraw),
        ((close,), withdraw, carry),
    ],
)
def test_of_two_decisions_on_one_entry_the_second_knows_the_first(
    database: Database, meeting: Any, before: tuple[Deed, ...], first: Deed, second: Deed
) -> None:
    client = signed(database, HOURS, prepaid=120)
    with database.begin() as session:
        entries.propose_entry(session, Worked(client, NOON, 150))
    for act in before:
        assert tried(database, act) == "done"
    meeting(database, first, second)
    with database.read() as session:
        rows = list(session.scalars(select(BillingEntry)))
        standing = [row for row in rows if row.state != "withdrawn"]
        assert len(standing) <= 1
        block = session.scalars(select(HourBlock)).one()
        assert block.minutes - block.balance_minutes == sum(row.prepaid_minutes for row in standing)
        for act in session.scalars(select(Act)):
            billed = [row for row in rows if row.act_id == act.id]
            assert act.net == 1 + sum(row.amount for row in billed)
            assert {row.state for row in billed} <= {"confirmed"}
            march = [row for row in standing if row.worked_at == NOON and row.state == "confirmed"]
            assert march == billed, "what is confirmed for a closed month is in its act"


def test_a_pending_change_of_an_entry_outlives_its_confirmation(database: Database) -> None:
    client = signed(database, HOURS)
    with database.begin() as session:
        stored = entries.propose_entry(session, Worked(client, NOON, 15))
        stored.reason = "Changed in the same transaction"
        entries.confirm(session, stored, "boss")
    with database.read() as session:
        kept = session.scalars(select(BillingEntry)).one()
        assert (kept.reason, kept.state) == ("Changed in the same transaction", "confirmed")


@pytest.mark.parametrize(
    ("line", "amounts"),
    [
        ({"kind": "fixed_scope", "monthly_fee": "9", "included_minutes": 45, "rate": "60"}, [0, 15]),
        ({"kind": "retainer_money", "monthly_fee": "45", "rate": "60"}, [0, 15]),
        ({"kind": "per_ticket", "price_per_ticket": "25"}, [0, 25]),
    ],
)
def test_two_who_bill_work_at_once_share_what_is_included(
    database: Database, line: dict[str, Any], amounts: list[int]
) -> None:
    client = signed(database, {"id": "L", "name": "Line"} | line)

    def propose(session: Session) -> None:
        entries.propose_entry(session, Worked(client, NOON, 30, ticket_id=ticket))

    ticket = ticket_of(database, client)
    assert followed(database, propose, propose) == ["done", "done"]
    with database.read() as session:
        assert sorted(session.scalars(select(BillingEntry.amount))) == amounts


def ticket_of(database: Database, client: int) -> int:
    with database.begin() as session:
        return tickets.open_ticket(session, tickets.Opening(client, "Slow"), by="test", now=NOON).id


@pytest.mark.parametrize("meeting", [overtaken, followed])
def test_a_service_credit_that_two_propose_at_once_is_given_once(database: Database, meeting: Any) -> None:
    signed(database, HOURS)
    with database.begin() as session:
        close(session)
        owed = {"clause": "L", "amount": "2.00", "attainment": "75.00"}
        session.scalars(select(Act)).one().annex = {"credits": [owed]}

    def credit(session: Session) -> None:
        corrections.propose_credit(session, session.scalars(select(Act)).one(), "L", by="boss", now=APRIL)

    assert sorted(meeting(database, credit, credit)) == ["done", "refused"]
    with database.read() as session:
        assert list(session.scalars(select(BillingEntry.amount))) == [Decimal("-2.00")]


@pytest.mark.parametrize("meeting", [overtaken, followed])
def test_a_correction_entered_while_its_month_closes_is_refused_or_left_over(database: Database, meeting: Any) -> None:
    signed(database, HOURS)

    def propose(session: Session) -> None:
        contract = session.scalars(select(Contract)).one()
        corrections.adjust(session, contract, Decimal(5), "Put right", by="boss", on=NOON)

    told = meeting(database, close, propose)
    with database.read() as session:
        acts = len(list(session.scalars(select(Act))))
        left = len(list(session.scalars(select(BillingEntry))))
    assert acts == 1
    assert left == told.count("done") - 1
    if meeting is followed:
        assert told == ["done", "refused"]


def test_work_recorded_before_it_is_billed_and_a_month_that_closes_do_not_wait_for_each_other(
    database: Database,
) -> None:
    client = signed(database, HOURS)
    with database.begin() as session:
        evidence.record(session, "run.began", actor="test", subject=("run", 1), client_id=client)

    def work(session: Session) -> None:
        evidence.record(session, "run.finished", actor="test", subject=("run", 1), client_id=client)
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(tried, database, settle)
            wait([running], timeout=0.4)
            found.append(running)
            entries.propose_entry(session, Worked(client, NOON + timedelta(days=30), 15))
            session.commit()

    def settle(session: Session) -> None:
        close(session)
        evidence.record(session, "act.closed", actor="test", subject=("act", 1), client_id=client)

    found: list[Any] = []
    assert (tried(database, work), found[0].result(30)) == ("done", "done")
