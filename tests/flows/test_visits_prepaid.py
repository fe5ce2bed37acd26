"""Prepaid hours and visits: what would go beyond them is told when proposed, and agreed to before it is promised."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from threading import Barrier

import pytest
from sqlalchemy import func, select, update
from test_runs_prepaid import on_block
from world import ANNA, MAX, World

from msp.clock import utc_now
from msp.contracts.models import HourBlock
from msp.desk import tickets
from msp.dispatch import visits as dispatch
from msp.dispatch.models import Appointment, Shift, Technician, WorkOrder
from msp.errors import Misconfigured, Refused
from msp.evidence import Evidence
from msp.flows import placing, prepaid, visits
from msp.flows.prepaid import Given
from msp.people.access import Actor

DORA = Actor("dora@provider.example", frozenset({"dispatcher"}))
HOUR = timedelta(hours=1)
UNAGREED = "Nobody has agreed to that yet."


class Day:
    """One client's tickets that need visits of an hour, and two technicians who have all day."""

    def __init__(self, world: World) -> None:
        self.world, self.now = world, utc_now()
        with world.database.begin() as session:
            people = [Technician(name=name, skills={"hardware": 3, "linux": 3}) for name in ("Going", "Other")]
            session.add_all(people)
            session.flush()
            for one in people:
                hours = {"starts_at": self.now - HOUR, "ends_at": self.now + 20 * HOUR}
                session.add(Shift(technician_id=one.id, **hours))
            self.people = [one.id for one in people]

    def proposed(self) -> int:
        ticket = self.world.ticket()
        with self.world.database.begin() as session:
            order = visits.propose_for_ticket(session, ticket, actor=DORA, reason="The disk is broken.", now=self.now)
            order.duration = HOUR
            return order.id

    def place(self, order: int, who: int = 0, after: float = 2, given: Given | None = None) -> None:
        with self.world.database.begin() as session:
            current = dispatch.standing(session, order)
            placing.place(
                session, order, self.people[who], self.at(after), by=DORA.name, now=self.now, given=given,
                expected_version=current.version if current else None,
            )  # fmt: skip

    def at(self, after: float) -> datetime:
        return self.now + after * HOUR

    def agree(self, order: int, given: Given) -> None:
        with self.world.database.begin() as session:
            prepaid.agree(session, session.get_one(WorkOrder, order), given, now=utc_now())

    def state(self, order: int) -> str:
        with self.world.database.read() as session:
            return session.get_one(WorkOrder, order).state

    def said(self, order: int) -> list[str]:
        with self.world.database.read() as session:
            ticket = session.get_one(WorkOrder, order).ticket_id
            assert ticket is not None
            return [entry.text for entry in tickets.log_of(session, ticket) if entry.kind == "visit" and entry.public]

    def yeses(self) -> list[Evidence]:
        with self.world.database.read() as session:
            return list(session.scalars(select(Evidence).where(Evidence.kind == prepaid.AGREED)))


@pytest.fixture
def day(world: World) -> Day:
    return Day(world)


@pytest.mark.parametrize(("left", "state"), [(60, "confirmed"), (59, "proposed"), (0, "proposed")])
def test_a_visit_beyond_the_block_is_not_promised_unasked(day: Day, left: int, state: str) -> None:
    on_block(day.world, left)
    order = day.proposed()
    beyond = left < 60
    assert any("95.00 EUR an hour" in text for text in day.said(order)) == beyond
    assert any("approver is asked before" in text for text in day.said(order)) == beyond
    if beyond:
        with pytest.raises(Refused, match=UNAGREED):
            day.place(order)
    else:
        day.place(order)
    assert day.state(order) == state


def test_a_contract_without_a_block_is_left_alone(day: Day) -> None:
    order = day.proposed()
    day.place(order)
    assert day.state(order) == "confirmed"
    assert not any("prepaid" in text for text in day.said(order))


@pytest.mark.parametrize("who", ["client", "manager"])
def test_a_yes_lets_it_be_promised_and_is_evidence(day: Day, who: str) -> None:
    on_block(day.world, 30)
    order = day.proposed()
    olga = day.world.olga
    given = Given(olga, "47.50") if who == "client" else Given(MAX, "47.50", "Olga by phone")
    day.agree(order, given)
    day.place(order)
    assert day.state(order) == "confirmed"
    (yes,) = day.yeses()
    assert (yes.subject_kind, yes.subject_id, yes.actor) == ("work_order", str(order), given.actor.name)
    assert yes.data == {"amount": "47.50", "currency": "EUR", "word": given.word}
    assert any("bills up to 47.50 EUR beyond the prepaid hours" in text for text in day.said(order))


def test_who_has_no_say_cannot_agree(day: Day) -> None:
    on_block(day.world, 0)
    order = day.proposed()
    user = replace(day.world.olga, roles=frozenset({"client user"}))
    foreign = replace(day.world.olga, client_id=day.world.planted.clients["beta"])
    for given in (Given(ANNA, "95", "Olga"), Given(DORA, "95", "Olga"), Given(user, "95"), Given(foreign, "95")):
        with pytest.raises(Refused, match="cannot agree"):
            day.agree(order, given)
    for given in (
        Given(MAX, "95"),
        Given(MAX, "95", "  "),
        *(Given(day.world.olga, no) for no in ("", "-1", "NaN", "x")),
    ):
        with pytest.raises(Misconfigured):
            day.agree(order, given)
    assert day.yeses() == []


def test_a_yes_that_comes_with_the_booking_and_is_refused_leaves_nothing(day: Day) -> None:
    on_block(day.world, 0)
    order = day.proposed()
    with pytest.raises(Refused, match=UNAGREED):
        day.place(order, given=Given(day.world.olga, "94.99"))  # less than it costs by now
    assert (day.yeses(), day.state(order)) == ([], "proposed")
    day.place(order, given=Given(day.world.olga, "95.00"))
    assert (len(day.yeses()), day.state(order)) == (1, "confirmed")


def test_a_yes_holds_up_to_its_amount_and_for_its_visit(day: Day) -> None:
    on_block(day.world, 30)
    first, second = day.proposed(), day.proposed()
    day.agree(first, Given(day.world.olga, "47.50"))
    with pytest.raises(Refused, match=UNAGREED):
        day.place(second)
    with day.world.database.begin() as session:
        session.execute(update(HourBlock).values(balance_minutes=15))  # something was billed meanwhile
    with pytest.raises(Refused, match=r"71\.25 EUR"):
        day.place(first)
    day.agree(first, Given(day.world.olga, "71.25"))
    day.place(first)


def test_what_is_promised_to_other_visits_is_not_promised_twice(day: Day) -> None:
    on_block(day.world, 60)
    first, second = day.proposed(), day.proposed()
    day.place(first)
    with pytest.raises(Refused, match=UNAGREED):
        day.place(second, who=1)
    with day.world.database.begin() as session:
        visit = dispatch.standing(session, first)
        assert visit is not None
        visits.carry_on(session, visit.id, "cancelled", by="x", now=utc_now(), expected_version=visit.version)
    day.place(second, who=1)


def test_of_two_dispatchers_at_once_one_is_asked(day: Day) -> None:
    on_block(day.world, 60)
    orders, barrier = [day.proposed(), day.proposed()], Barrier(2)

    def confirm(who: int) -> str:
        barrier.wait()
        try:
            day.place(orders[who], who=who)
        except Refused as error:
            return error.what
        return "confirmed"

    with ThreadPoolExecutor(2) as pool:
        answers = sorted(pool.map(confirm, range(2)))
    assert answers[1] == "confirmed"
    assert UNAGREED in answers[0]
    with day.world.database.read() as session:
        held = select(func.count()).select_from(Appointment).where(Appointment.state == "confirmed")
        assert session.scalar(held) == 1


def test_a_promised_visit_moves_though_the_block_was_drained_since(day: Day) -> None:
    on_block(day.world, 60)
    order = day.proposed()
    day.place(order)
    with day.world.database.begin() as session:
        session.execute(update(HourBlock).values(balance_minutes=0))
    day.place(order, who=1, after=5)
    with day.world.database.read() as session:
        visit = dispatch.standing(session, order)
        assert visit is not None
        assert (visit.technician_id, visit.starts_at) == (day.people[1], day.at(5))


def test_a_promised_visit_that_moves_past_the_blocks_last_day_asks(day: Day) -> None:
    on_block(day.world, 60)
    order = day.proposed()
    day.place(order)
    today, later = day.at(2).date(), 48
    with day.world.database.begin() as session:
        session.execute(update(HourBlock).values(expires_on=today))
        session.add(Shift(technician_id=day.people[0], starts_at=day.at(40), ends_at=day.at(60)))
    with pytest.raises(Refused, match="no prepaid hours are left"):
        day.place(order, after=later)
    day.agree(order, Given(MAX, "95.00", "Olga by mail"))
    day.place(order, after=later)


def test_the_question_says_what_the_bill_will_say(day: Day) -> None:
    on_block(day.world, 20)
    order = day.proposed()
    with day.world.database.read() as session:
        asked = prepaid.question(session, session.get_one(WorkOrder, order), day.at(2))
    assert asked is not None
    assert asked.open
    assert (asked.beyond.takes, asked.beyond.over, asked.beyond.amount) == (60, 40, Decimal("63.33"))
