"""A visit from the road to the bill: the ticket hears of each move, arrival meets the clock, time becomes a line."""

from datetime import timedelta

from sqlalchemy import select
from world import World

from msp.clock import utc_now
from msp.contracts.models import BillingEntry
from msp.desk import tickets
from msp.dispatch import visits as dispatch
from msp.dispatch.models import Shift, Technician
from msp.flows import visits
from msp.people.access import Actor

DORA = Actor("dora@provider.example", frozenset({"dispatcher"}))


def confirmed(world: World, ticket: int) -> tuple[int, int]:
    """Propose a visit, confirm it for whoever can go first, and return the appointment's id and version."""
    now = utc_now()
    with world.database.begin() as session:
        going = Technician(name="Going", skills={"hardware": 3, "linux": 3, "network": 3})
        session.add(going)
        session.flush()
        hours = (now - timedelta(hours=1), now + timedelta(hours=20))
        session.add(Shift(technician_id=going.id, starts_at=hours[0], ends_at=hours[1]))
        order = visits.propose_for_ticket(session, ticket, actor=DORA, reason="The disk is broken.", now=now)
        best = dispatch.candidates(session, order, now)[0]
        current = dispatch.appointment_of(session, order.id)
        visit = dispatch.assign(
            session,
            order.id,
            going.id,
            best.starts_at,
            by=DORA.name,
            now=now,
            expected_version=current.version if current else None,
        )
        return visit.id, visit.version


def test_time_on_site_becomes_a_bill_line_and_the_ticket_hears_of_every_move(world: World) -> None:
    ticket = world.ticket()
    visit, version = confirmed(world, ticket)
    arrived = utc_now() + timedelta(minutes=5)
    for state, at in (
        ("on_the_way", arrived - timedelta(minutes=3)),
        ("working", arrived),
        ("done", arrived + timedelta(minutes=42)),
    ):
        with world.database.begin() as session:
            version = visits.carry_on(session, visit, state, by="anna", now=at, expected_version=version).version
    with world.database.read() as session:
        log = tickets.log_of(session, ticket)
        told = [(entry.kind, entry.data.get("state")) for entry in log if entry.data.get("appointment") == visit]
        bill = session.scalars(select(BillingEntry).where(BillingEntry.appointment_id == visit)).one()
    assert [state for _, state in told if state] == ["on_the_way", "working", "done"]
    assert ("arrived", "working") in told
    assert (bill.minutes, bill.ticket_id) == (42, ticket)
    assert bill.evidence_id is not None


def test_a_cancelled_visit_bills_nothing(world: World) -> None:
    ticket = world.ticket()
    visit, version = confirmed(world, ticket)
    with world.database.begin() as session:
        visits.carry_on(session, visit, "cancelled", by="anna", now=utc_now(), expected_version=version)
    with world.database.read() as session:
        assert session.scalars(select(BillingEntry)).all() == []
