"""Re-basing: an open ticket is judged by an amended contract only by an explicit act with a reason."""

import copy
from datetime import timedelta
from typing import Any

import pytest
from reception import NOON, TERMS, Desk
from sqlalchemy import select

from msp import evidence
from msp.contracts import agreements
from msp.contracts.models import ContractVersion
from msp.desk import attainment, clock, handled, rebase, tickets
from msp.desk.attainment import KEPT, LATE
from msp.errors import Conflict, Misconfigured, NotFound
from msp.people import users

LATER = NOON + timedelta(hours=1)
QUICKER: dict[str, Any] = copy.deepcopy(TERMS)
QUICKER["lines"][0]["targets"]["P2"] = {"first_response": 30, "next_reply": 60, "resolution": 120}


def amended(desk: Desk, terms: Any = QUICKER, **when: Any) -> int:
    with desk.database.begin() as session:
        contract = agreements.contract_by_reference(session, "C-1")
        effective = when.get("effective", NOON + timedelta(minutes=1))
        return agreements.add_version(session, contract, terms, effective, "max", now=NOON).id


def rebased(desk: Desk, ticket_id: int, version_id: int, reason: str = "Agreed by phone.", **when: Any) -> None:
    with desk.database.begin() as session:
        version = session.get_one(ContractVersion, version_id)
        rebase.rebase(session, ticket_id, version, by="max", reason=reason, now=when.get("now", LATER))


def test_an_amendment_alone_moves_no_open_ticket(desk: Desk) -> None:
    number = desk.open(priority="P2")
    amended(desk)
    desk.do(tickets.note, number, "Looked.", now=LATER)
    assert desk.ticket(number).resolution_due_at == NOON + timedelta(hours=4)


def test_a_rebased_ticket_is_judged_by_the_new_terms_from_its_creation_and_its_log_says_so(desk: Desk) -> None:
    number = desk.open(priority="P2")
    version = amended(desk)
    with desk.database.read() as session:
        found = session.get_one(ContractVersion, version)
        (shown,) = [
            rebase.preview(session, one, found, LATER) for one in rebase.open_on_others(session, found)
        ]  # before anything is done
        assert (shown.number, shown.due_at, shown.new_due_at) == (
            1,
            NOON + timedelta(hours=4),
            NOON + timedelta(hours=2),
        )
    rebased(desk, number, version)
    ticket = desk.ticket(number)
    assert ticket.contract_version_id == version
    assert ticket.resolution_due_at == NOON + timedelta(hours=2)
    assert desk.log(number) == ["created", "rebased"]
    with desk.database.read() as session:
        entry = tickets.log_of(session, number)[-1]
        assert (entry.data["from_version"], entry.data["to_version"], entry.text) == (1, 2, "Agreed by phone.")
        told = session.scalars(select(evidence.Evidence).where(evidence.Evidence.kind == "ticket.rebased")).one()
        assert told.data["old_due_at"] == (NOON + timedelta(hours=4)).isoformat()
        assert told.data["new_due_at"] == (NOON + timedelta(hours=2)).isoformat()
        assert clock.stale(session, LATER) == 0
        assert not rebase.open_on_others(session, session.get_one(ContractVersion, version))


def test_a_rebased_ticket_that_is_late_under_the_new_terms_is_late_at_once(desk: Desk) -> None:
    number = desk.open(priority="P2", channel="phone_by_agent")
    rebased(desk, number, amended(desk), now=NOON + timedelta(hours=3))
    assert desk.ticket(number).breached


@pytest.mark.parametrize("reason", ["", "  \n"])
def test_a_rebase_without_a_reason_is_refused(desk: Desk, reason: str) -> None:
    number = desk.open(priority="P2")
    version = amended(desk)
    with pytest.raises(Misconfigured, match="reason"):
        rebased(desk, number, version, reason)


def test_only_an_open_ticket_of_this_contract_moves_and_only_to_terms_in_force(desk: Desk) -> None:
    first, stranger = desk.open(priority="P2"), desk.open(client_id=desk.other, priority="P2")
    version = amended(desk)
    with pytest.raises(NotFound):
        rebased(desk, stranger, version)
    with pytest.raises(Conflict, match="holds only from"):
        rebased(desk, first, version, now=NOON)
    rebased(desk, first, version)
    with pytest.raises(Conflict, match="already"):
        rebased(desk, first, version)
    desk.do(tickets.move, first, "resolved", now=LATER)
    with pytest.raises(Conflict, match="resolved"):
        rebased(desk, first, 1)


def test_terms_without_targets_for_a_priority_that_the_ticket_has_had_are_refused(desk: Desk) -> None:
    number = desk.open(priority="P1")
    desk.do(tickets.set_priority, number, "P3")
    fewer = copy.deepcopy(TERMS)
    del fewer["lines"][0]["targets"]["P1"]
    version = amended(desk, fewer)
    with pytest.raises(Misconfigured, match="P1"):
        rebased(desk, number, version)
    with desk.database.read() as session:
        found = session.get_one(ContractVersion, version)
        assert "P1" in rebase.preview(session, tickets.get(session, number), found, LATER).refused


def test_a_month_that_is_over_says_the_same_after_its_tickets_are_judged_anew(desk: Desk) -> None:
    """Kept in March under version 1, judged anew twice in April: March stays, April is judged by the last version."""
    march, april, may = (NOON.replace(month=month, day=1, hour=0) for month in (3, 4, 5))
    number = desk.open(priority="P2")
    desk.do(tickets.reply, number, "We look.", now=NOON + timedelta(minutes=25))
    slower, stricter = copy.deepcopy(TERMS), copy.deepcopy(TERMS)
    slower["lines"][0]["targets"]["P2"]["first_response"] = 20
    stricter["lines"][0]["targets"]["P2"]["first_response"] = 5

    def told(start: Any, end: Any) -> tuple[list[Any], Any]:
        with desk.database.read() as session:
            rows = handled.read(session, start, end, may)
            return rows, attainment.overall(rows, start, end)

    before = told(march, april)
    assert [row.first_response.outcome for row in before[0]] == [KEPT]
    first, last = amended(desk, slower), amended(desk, stricter, effective=NOON + timedelta(days=1))
    for version, day in ((first, 3), (last, 4)):
        rebased(desk, number, version, now=april.replace(day=day))
    desk.do(tickets.move, number, "resolved", now=april.replace(day=5))
    assert told(march, april) == before
    (row,), _ = told(april, may)
    assert (row.first_response.outcome, row.contract_version_id) == (LATE, last)


def test_a_ticket_given_to_another_technician_stays_with_the_first_in_the_month_before(desk: Desk) -> None:
    march, april, may = (NOON.replace(month=month, day=1, hour=0) for month in (3, 4, 5))
    number = desk.open(priority="P3")
    with desk.database.begin() as session:
        anna = users.add(session, email="anna@x.example", name="Anna", password="x" * 12, roles=["technician"], by="t")
        tickets.assign(session, number, anna, by="anna", now=april + timedelta(days=2))
        assert [row.technician for row in handled.read(session, march, april, may)] == [None]
        assert [row.technician for row in handled.read(session, april, may, may)] == ["Anna"]
