"""What a visit at this time with this technician would break, cost and touch: asked while it is still being dragged."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp.contracts import minutes
from msp.contracts.models import Client
from msp.dispatch import availability, openings, visits
from msp.dispatch.models import Appointment, Shift, Technician, WorkOrder
from msp.dispatch.roads import book

MINUTE = timedelta(minutes=1)
FIXED = {
    "on_the_way": "The visit cannot move: somebody is on the way.",
    "working": "The visit cannot move: somebody is at work there.",
    "done": "The visit cannot move: it is done.",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """breaks: why it cannot be (empty: it can). warns: what it costs, in words. touched: who is concerned by it.

    cost: minutes on the road with lateness weighed in, as with candidates; None when it cannot be.
    leaves_promise: the start is outside the window that was told to the client.
    """

    breaks: tuple[str, ...]
    warns: tuple[str, ...]
    touched: tuple[str, ...]
    ends_at: datetime
    cost: float | None = None
    leaves_promise: bool = False


def judge(
    session: Session,
    order: WorkOrder,
    technician: Technician,
    starts_at: datetime,
    now: datetime,
    client_ids: Collection[int] | None = None,
) -> Verdict:
    """Return what would come of it. Reads only; `visits.assign` decides again when it is dropped.

    client_ids: other work is named if it is of these clients; None: of all.
    """
    ends_at = starts_at + order.duration
    current = visits.standing(session, order.id)
    breaks = _never(order, technician, current)
    breaks += [
        f"{technician.name} does not have the skill {what}." for what in visits.lacking(technician, order.skills)
    ]
    fetched, short = _parts(session, order, technician, current)
    breaks += short
    warns, touched = list(fetched), list[str]()
    opening, why = _opening(session, order, technician, starts_at, now, client_ids)
    breaks += why
    leaves = leaves_promise(current, starts_at)
    if current is not None and current.state != "proposed":
        if leaves:
            client = session.get_one(Client, order.client_id)
            warns.append("It leaves the window that was told to the client.")
            touched.append(f"{client.name} must be told a new window.")
        if current.technician_id != technician.id:
            other = session.get_one(Technician, current.technician_id)
            touched.append(f"{other.name} no longer goes.")
    if breaks or opening is None:
        return Verdict(tuple(breaks), tuple(warns), tuple(touched), ends_at, leaves_promise=leaves)
    cost = opening.detour / MINUTE + (visits.PART_DETOUR if fetched else 0.0)
    if opening.detour:
        warns.append(f"{opening.detour // MINUTE} more minutes on the road.")
    if order.due_at is not None and ends_at > order.due_at:
        cost += visits.LATE_COST * ((ends_at - order.due_at) / MINUTE)
        if visits.is_late(ends_at, order.due_at):
            warns.append(visits.against_due(ends_at, order.due_at))
    shift_end = _shift_end(session, technician, starts_at)
    if shift_end is not None and ends_at > shift_end:
        warns.append(f"{minutes.words((ends_at - shift_end) // MINUTE)} of overtime.")
    touched += _displaced(session, order, technician, opening.leaves_at, ends_at, client_ids)
    return Verdict((), tuple(warns), tuple(touched), ends_at, cost, leaves)


def leaves_promise(current: Appointment | None, starts_at: datetime) -> bool:
    """Return whether a visit that begins then leaves the window that was told to the client."""
    if current is None or current.state == "proposed" or not current.promised_from or not current.promised_until:
        return False
    return not current.promised_from <= starts_at <= current.promised_until


def _never(order: WorkOrder, technician: Technician, current: Appointment | None) -> list[str]:
    if order.state == "cancelled":
        return ["The work order is cancelled."]
    state = current.state if current is not None else order.state
    found = [FIXED[state]] if state in FIXED else []
    return found if technician.active else [*found, f"{technician.name} is not active."]


def _parts(
    session: Session, order: WorkOrder, technician: Technician, current: Appointment | None
) -> tuple[list[str], list[str]]:
    """Return (what is fetched from the depot, what is nowhere); parts that this visit holds already are free to it."""
    fetched, short = [], []
    own = visits.held_by(session, current.id) if current is not None and order.parts else {}
    for sku, quantity in sorted(order.parts.items()):
        van = visits.free_stock(session, sku, technician.id) + own.get((sku, technician.id), 0)
        depot = visits.free_stock(session, sku, None) + own.get((sku, None), 0)
        if van + depot < quantity:
            short.append(f"{quantity - van - depot} x {sku} is neither free in the van nor in the depot.")
        elif van < quantity:
            fetched.append(f"Fetches {quantity - van} x {sku} from the depot.")
    return fetched, short


def _opening(
    session: Session,
    order: WorkOrder,
    technician: Technician,
    starts_at: datetime,
    now: datetime,
    client_ids: Collection[int] | None,
) -> tuple[openings.Opening | None, list[str]]:
    """Return the opening, or why there is none."""
    ends_at = starts_at + order.duration
    place, roads = availability.place_of(session, order), book.read(session)
    since = min(now, starts_at)
    free = availability.gaps(session, [technician], since, starts_at + timedelta(days=2), without=[order.id])
    opening = openings.at(free[technician.id], place, order.duration, starts_at, now, roads)
    if opening is not None:
        return opening, []
    if starts_at < now:
        return None, ["That time is over."]
    spans = select(Shift).where(
        Shift.technician_id == technician.id, Shift.starts_at < ends_at, Shift.ends_at > starts_at
    )
    shifts = list(session.scalars(spans))
    if any(one.kind == "absence" for one in shifts):
        return None, [f"{technician.name} is absent then."]
    if not any(one.kind != "absence" for one in shifts):
        return None, [f"{technician.name} has no shift then."]
    clash = select(WorkOrder.summary, WorkOrder.client_id).join(Appointment, Appointment.work_order_id == WorkOrder.id)
    clash = clash.where(
        Appointment.technician_id == technician.id,
        Appointment.state.in_(availability.STANDING),
        Appointment.starts_at < ends_at,
        Appointment.ends_at > starts_at,
        WorkOrder.id != order.id,
    )
    others = session.execute(clash).all()
    names = [one.summary for one in others if client_ids is None or one.client_id in client_ids]
    if names:
        return None, [f"{technician.name} is at another visit then: {', '.join(names)}."]
    if others:
        return None, [f"{technician.name} is at another visit then."]
    return None, ["The way there or on does not fit between the visits and the shift's edges."]


def _shift_end(session: Session, technician: Technician, at: datetime) -> datetime | None:
    query = select(Shift.ends_at).where(
        Shift.technician_id == technician.id, Shift.kind != "absence", Shift.starts_at <= at
    )
    return session.scalar(query.order_by(Shift.ends_at.desc()).limit(1))


def _displaced(
    session: Session,
    order: WorkOrder,
    technician: Technician,
    begins: datetime,
    ends: datetime,
    client_ids: Collection[int] | None,
) -> list[str]:
    """Name the proposals that would have to look for another time."""
    query = select(WorkOrder.summary, WorkOrder.client_id).join(Appointment, Appointment.work_order_id == WorkOrder.id)
    query = query.where(
        Appointment.technician_id == technician.id,
        Appointment.state == "proposed",
        Appointment.starts_at < ends,
        Appointment.ends_at > begins,
        WorkOrder.id != order.id,
    )
    others = session.execute(query).all()
    names = [one.summary for one in others if client_ids is None or one.client_id in client_ids]
    found = [f"The proposal {summary!r} gives way." for summary in names]
    return found if len(names) == len(others) else [*found, "A proposal for another client gives way."]
