"""A visit that would go beyond the prepaid hours asks first: of the client's approver, or of the account manager.

What a visit will draw is its time on site, as it will be billed; the way there is not. The yes is a record of evidence
and holds up to the amount that was told; nothing else is stored. Functions take a session and do not commit.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from zoneinfo import ZoneInfo

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp import events, evidence
from msp.assets.models import ConfigurationItem
from msp.contracts import agreements, ledger, line_bill, tariffs
from msp.contracts.beyond import Beyond, beyond
from msp.contracts.change import local_day
from msp.contracts.entries import Worked
from msp.contracts.lines import Line
from msp.contracts.models import Client
from msp.contracts.money import rounded
from msp.contracts.rounding import Segment
from msp.contracts.terms import line_for
from msp.desk import tickets
from msp.desk.models import Ticket
from msp.dispatch import availability
from msp.dispatch.models import Appointment, WorkOrder
from msp.errors import Misconfigured, Refused
from msp.evidence import Evidence
from msp.people.access import Actor, may

AGREED = "visit.agreed"
UNAGREED = "Nobody has agreed to that yet."
MINUTE = timedelta(minutes=1)
MOST = 10**9  # of any currency that one visit may bill
LONGEST = 200  # characters of somebody's word


class Unagreed(Refused):
    """A visit goes beyond the prepaid hours, and nobody has agreed to that."""


@dataclass(frozen=True, slots=True)
class Given:
    """A yes as it is given. amount: as the page told it. word: of whom, where staff says it for the client."""

    actor: Actor
    amount: str
    word: str = ""


@dataclass(frozen=True, slots=True)
class Yes:
    """Somebody agreed that a visit bills up to `amount` beyond the prepaid hours. word: whose word staff recorded."""

    amount: Decimal
    currency: str
    by: str
    at: datetime
    word: str = ""

    def covers(self, asked: Beyond) -> bool:
        return self.currency == asked.currency and asked.amount <= self.amount


@dataclass(frozen=True, slots=True)
class Question:
    """A visit goes beyond the prepaid hours. open: nobody has agreed to that much yet. yes: the last that was said."""

    beyond: Beyond
    open: bool
    yes: Yes | None = None


def question(session: Session, order: WorkOrder, starts_at: datetime, was: datetime | None = None) -> Question | None:
    """Return what a visit at this time asks of the client; None if the prepaid hours reach, or there are none.

    was: when the visit stood promised before: a move asks anew only if it makes the visit dearer.
    """
    asked = _beyond(session, order, starts_at)
    if asked is None:
        return None
    yes = agreed(session, order)
    if yes is not None and yes.covers(asked):
        return Question(asked, open=False, yes=yes)
    before = _beyond(session, order, was) if was is not None else None
    return Question(asked, open=before is None or asked.amount > before.amount, yes=yes)


def dearest(session: Session, order: WorkOrder, starts: Iterable[datetime]) -> Question | None:
    """Return the question of that time, of those given, at which the visit bills most beyond the prepaid hours."""
    found = [one for at in set(starts) if (one := question(session, order, at)) is not None]
    return max(found, key=lambda one: one.beyond.amount, default=None)


def must_be_agreed(session: Session, order: WorkOrder, starts_at: datetime, was: datetime | None = None) -> None:
    """Raise Unagreed unless the prepaid hours reach, or somebody has agreed to what goes beyond them.

    was: see `question`. Called once the visit is confirmed: whoever confirms another visit of this client waits for
    the client's chain of evidence until then, and counts this one.
    """
    asked = question(session, order, starts_at, was)
    if asked is not None and asked.open:
        raise Unagreed(
            f"{asked.beyond.words()} {UNAGREED}",
            advice="The client's approver agrees in the portal, or the account manager on the page of the work order.",
        )


def agree(session: Session, order: WorkOrder, given: Given, *, now: datetime) -> None:
    """Record that the client pays up to an amount, as it was told, beyond its prepaid hours for this visit.

    The client's approver says so, or the account manager with the word of somebody. Raises Refused for anybody else,
    Misconfigured for what is no amount and for staff without a word.
    """
    actor, word = given.actor, given.word.strip()[:LONGEST]
    right = "contract.edit" if actor.is_staff else "portal.approve"
    if not may(actor, right, order.client_id):
        raise Refused(
            "You cannot agree to what goes beyond the prepaid hours.",
            advice="The client's approver or the account manager can.",
        )
    if actor.is_staff and not word:
        raise Misconfigured("A yes for the client needs somebody's word.", advice="Write who agreed, and how.")
    contract = agreements.contract_for(session, order.client_id, now)
    if contract is None:
        raise Misconfigured(
            "This client has no contract in force.", advice="Ask the account manager for a contract that is in force."
        )
    amount, currency = _amount(given.amount, contract.currency), contract.currency
    data = {"amount": str(amount), "currency": currency, "word": word}
    subject = ("work_order", order.id)
    evidence.record(session, AGREED, actor=actor.name, subject=subject, client_id=order.client_id, data=data, at=now)
    events.record(session, "board", AGREED, client_id=order.client_id, data={"work_order": order.id})
    if order.ticket_id is not None:
        ticket = tickets.get(session, order.ticket_id, lock=True)
        text = f"{actor.name} agrees that the visit bills up to {amount} {currency} beyond the prepaid hours."
        of_log = {"work_order": order.id, **data}
        tickets.append(session, ticket, "visit", by=actor.name, public=True, text=text, data=of_log, now=now)


def agreed(session: Session, order: WorkOrder) -> Yes | None:
    """Return the last yes to what a visit bills beyond the prepaid hours."""
    query = select(Evidence).where(
        Evidence.subject_kind == "work_order", Evidence.subject_id == str(order.id), Evidence.kind == AGREED
    )
    said = session.scalar(query.order_by(Evidence.id.desc()).limit(1))
    if said is None:
        return None
    return Yes(Decimal(said.data["amount"]), said.data["currency"], said.actor, said.at, said.data["word"])


def work_of(session: Session, order: WorkOrder, begun: datetime, minutes: int) -> Worked:
    """Return the work on site of a visit as the contract knows it, by its ticket's asset and its site."""
    ticket = session.get(Ticket, order.ticket_id) if order.ticket_id is not None else None
    item = session.get(ConfigurationItem, ticket.asset_id) if ticket is not None and ticket.asset_id else None
    return Worked(
        client_id=order.client_id,
        begun_at=begun,
        minutes=minutes,
        ticket_id=order.ticket_id,
        site=agreements.site_name(session, order.site_id),
        asset=item.name if item else None,
        asset_class=item.kind if item else None,
        work="onsite",
    )


@dataclass(frozen=True, slots=True)
class _Draw:
    """What a visit will draw from the blocks of a contract."""

    contract_id: int
    line: Line
    segments: tuple[Segment, ...]
    day: date

    @property
    def minutes(self) -> int:
        return line_bill.minutes_billed(self.line, self.segments)


def _beyond(session: Session, order: WorkOrder, starts_at: datetime) -> Beyond | None:
    draw = _draw(session, order, starts_at)
    if draw is None:
        return None
    query = (
        select(WorkOrder, Appointment.starts_at)
        .join(Appointment, Appointment.work_order_id == WorkOrder.id)
        .where(
            WorkOrder.client_id == order.client_id,
            WorkOrder.id != order.id,
            Appointment.state.in_(availability.STANDING),
        )
    )
    others = [_draw(session, other, at) for other, at in session.execute(query)]
    promised = [(one.day, one.minutes) for one in others if one is not None and one.contract_id == draw.contract_id]
    return beyond(draw.line, draw.segments, ledger.blocks(session, draw.contract_id), promised, draw.day)


def _draw(session: Session, order: WorkOrder, starts_at: datetime) -> _Draw | None:
    """Return what a visit will draw; None where no block pays. Without a ticket a visit bills nothing."""
    version = agreements.version_in_force(session, order.client_id, starts_at) if order.ticket_id is not None else None
    if version is None:
        return None
    terms = agreements.terms_of(version)
    if all(line.kind != "block_hours" for line in terms.lines):
        return None
    work = work_of(session, order, starts_at, -(-order.duration // MINUTE))
    line = line_for(terms, site=work.site, asset=work.asset, asset_class=work.asset_class, work=work.work)
    if line is None or line.kind != "block_hours":
        return None
    zone = terms.zone or ZoneInfo(session.get_one(Client, order.client_id).time_zone)
    segments = tariffs.split(starts_at, work.minutes, line.tariffs, zone)
    return _Draw(version.contract_id, line, segments, local_day(starts_at, zone))


def _amount(text: str, currency: str) -> Decimal:
    try:
        found = Decimal(text)
    except InvalidOperation:
        found = Decimal(-1)
    if not (found.is_finite() and 0 <= found < MOST):
        raise Misconfigured("That is no amount to agree to.", advice="Load the page again.")
    return rounded(found, currency)
