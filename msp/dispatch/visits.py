"""Visits in the closed loop: propose one, name who could go, confirm one, carry it through, show the board.

Every function works in the caller's transaction. Confirming a visit holds its parts and its time by conditional
updates, so that of two dispatchers who press at once one is told who was first.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, select, update
from sqlalchemy.orm import Session

from msp import db, events, evidence
from msp.contracts import minutes
from msp.contracts.models import Client, Site
from msp.dispatch import availability, openings
from msp.dispatch.models import Appointment, Handover, Part, Reservation, Shift, Stock, Technician, WorkOrder
from msp.dispatch.openings import Gap, Opening
from msp.dispatch.roads import book
from msp.errors import Conflict, NotFound, Refused

HORIZON = timedelta(days=14)  # how far ahead openings are looked for
LATE_COST = 5.0  # a minute after the due time weighs as much as five on the road
PART_DETOUR = 30.0  # minutes charged for fetching a part from the depot

NEXT_STATES = {
    "proposed": {"cancelled"},
    "confirmed": {"on_the_way", "working", "cancelled"},
    "on_the_way": {"working", "cancelled"},
    "working": {"done", "cancelled"},
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """Somebody who could go. cost: minutes on the road, with lateness and missing parts weighed in; lower is better.

    reasons: what speaks for this one. warns: what the client would not like, such as lateness.
    """

    technician: Technician
    starts_at: datetime
    travel: timedelta
    cost: float
    reasons: tuple[str, ...]
    missing: tuple[str, ...] = ()  # what keeps this one from being confirmed
    warns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BoardVisit:
    appointment: Appointment
    work_order: WorkOrder
    client: str
    site: str | None
    late: bool  # ends after the work order is due


@dataclass(frozen=True, slots=True)
class BoardRow:
    technician: Technician
    shifts: tuple[Shift, ...]
    visits: tuple[BoardVisit, ...]


@dataclass(frozen=True, slots=True)
class Board:
    rows: tuple[BoardRow, ...]
    waiting: tuple[WorkOrder, ...] = field(default=())  # nobody confirmed yet, nearest point of no return first


def propose(
    session: Session,
    *,
    client_id: int,
    summary: str,
    duration: timedelta,
    now: datetime,
    site_id: int | None = None,
    ticket_id: int | None = None,
    run_id: int | None = None,
    reason: str = "",
    skills: Mapping[str, int] | None = None,
    parts: Mapping[str, int] | None = None,
    due_at: datetime | None = None,
    log: Sequence[Any] = (),
    checklist: Sequence[Mapping[str, str]] = (),
    by: str = "worker",
) -> WorkOrder:
    """Propose a visit, with its point of no return and, if anybody can go, an appointment with the best of them.

    A run proposes exactly one: called again for the same run, this returns the work order that stands.
    skills: name -> least level. parts: sku -> quantity. log: what was tried, redacted.
    checklist: lines of work on site, {"text"} or {"text", "playbook"}.
    latest_dispatch_at: the last instant at which somebody with the skills can leave and be done by `due_at`;
    `now` if that has passed already, None without a due time.
    """
    if run_id is not None:
        standing = session.scalar(select(WorkOrder).where(WorkOrder.run_id == run_id))
        if standing is not None:
            return standing
    order = WorkOrder(
        client_id=client_id,
        site_id=site_id,
        ticket_id=ticket_id,
        run_id=run_id,
        summary=summary,
        reason=reason,
        skills=dict(skills or {}),
        parts=dict(parts or {}),
        duration=duration,
        state="proposed",
        due_at=due_at,
        created_at=now,
        log=list(log),
        checklist=[dict(line) for line in checklist],
    )
    session.add(order)
    session.flush()
    order.latest_dispatch_at = latest_dispatch(session, order, now)
    found = candidates(session, order, now)
    best = next((one for one in found if not one.missing), None)
    if best is not None:
        session.add(
            Appointment(
                work_order_id=order.id,
                technician_id=best.technician.id,
                starts_at=best.starts_at,
                ends_at=best.starts_at + duration,
                travel=best.travel,
                state="proposed",
            )
        )
    session.flush()
    _tell(session, order, "visit.proposed", by, now, _proposal(best, found))
    return order


def _proposal(best: Candidate | None, found: Sequence[Candidate]) -> dict[str, Any]:
    if best is not None:
        return {
            "technician": best.technician.name,
            "starts_at": best.starts_at.isoformat(),
            "reasons": [*best.reasons, *best.warns],
        }
    if found:
        return {"technician": None, "reasons": found[0].missing}
    return {"technician": None, "reasons": ["No technician with the skills has an opening within 14 days."]}


def latest_dispatch(session: Session, order: WorkOrder, now: datetime) -> datetime | None:
    """Return the point of no return of a work order (see `propose`)."""
    if order.due_at is None:
        return None
    place, roads = availability.place_of(session, order), book.read(session)
    best: datetime | None = None
    able = [one for one in technicians(session) if not lacking(one, order.skills)]
    for free in _free(session, able, now, order).values():
        leaves = openings.latest_departure(free, place, order.duration, order.due_at, roads)
        if leaves is not None and leaves >= now and (best is None or leaves > best):
            best = leaves
    return best if best is not None else now


def candidates(session: Session, order: WorkOrder, now: datetime) -> list[Candidate]:
    """Return who has the skills and an opening, best first; whoever misses a part comes after all others."""
    place, roads = availability.place_of(session, order), book.read(session)
    found = []
    able = [one for one in technicians(session) if not lacking(one, order.skills)]
    free = _free(session, able, now, order)
    for technician in able:
        opening = openings.earliest(free[technician.id], place, order.duration, now, roads)
        if opening is None:
            continue
        found.append(
            _candidate(session, technician, order, opening, now, estimated=_is_estimate(technician, place, roads))
        )
    return sorted(found, key=lambda one: (bool(one.missing), one.cost, one.technician.id))


def _candidate(
    session: Session,
    technician: Technician,
    order: WorkOrder,
    opening: Opening,
    now: datetime,
    *,
    estimated: bool,
) -> Candidate:
    cost = opening.detour / timedelta(minutes=1)
    reasons, warns = [], list[str]()
    if order.skills:
        reasons.append(
            f"Has the skills: {', '.join(f'{skill} {technician.skills[skill]}' for skill in sorted(order.skills))}."
        )
    van, short = 0, []
    for sku, quantity in sorted(order.parts.items()):
        in_van, in_depot = free_stock(session, sku, technician.id), free_stock(session, sku, None)
        if in_van >= quantity:
            van += 1
        elif in_van + in_depot >= quantity:
            cost += PART_DETOUR
            reasons.append(f"Fetches {quantity - in_van} x {sku} from the depot.")
        else:
            short.append(f"{quantity} x {sku}: {in_van} in the van and {in_depot} in the depot are free.")
    if van:
        reasons.append("Has the parts in the van." if van == len(order.parts) else "Has some of the parts in the van.")
    way = opening.travel // timedelta(minutes=1)
    reasons.append(f"{way} minutes away, by estimate." if estimated else f"{way} minutes away.")
    if order.due_at is not None:
        cost += LATE_COST * max(0.0, (opening.ends_at - order.due_at) / timedelta(minutes=1))
        said = against_due(opening.ends_at, order.due_at)
        (warns if is_late(opening.ends_at, order.due_at) else reasons).append(said)
    else:
        cost += (opening.starts_at - now) / timedelta(hours=1)  # sooner is a little better
    return Candidate(
        technician, opening.starts_at, opening.travel, cost, tuple(reasons), tuple(short), warns=tuple(warns)
    )


def is_late(ends_at: datetime, due_at: datetime) -> bool:
    """Return whether a visit ends after it is due, by the minute: as long as it is told in minutes."""
    return (ends_at - due_at) // timedelta(minutes=1) > 0


def against_due(ends_at: datetime, due_at: datetime) -> str:
    """Say by how much a visit is late, or how long before the due time it is done."""
    late = (ends_at - due_at) // timedelta(minutes=1)
    return f"Done {minutes.words(late)} late." if late > 0 else f"Done {minutes.words(-late)} before it is due."


def assign(
    session: Session,
    work_order_id: int,
    technician_id: int,
    starts_at: datetime,
    *,
    by: str,
    now: datetime,
    expected_version: int | None = None,
    promised: tuple[datetime, datetime] | None = None,
    aside: Collection[int] = (),
) -> Appointment:
    """Confirm a visit: the skill is there, the parts are held, the time is free. Returns the appointment.

    expected_version: that of the appointment the dispatcher saw; None when there was none.
    promised: the window of arrival told to the client. aside: work orders that this transaction moves too, later: the
    time that their appointments hold counts as free.
    Raises Conflict when somebody else was first, and Refused naming every missing skill, part or opening.
    """
    order = session.scalar(db.locked(select(WorkOrder).where(WorkOrder.id == work_order_id)))
    if order is None:
        raise NotFound(f"Work order {work_order_id} does not exist.")
    technician = session.scalar(db.locked(select(Technician).where(Technician.id == technician_id)))
    if technician is None:
        raise NotFound(f"Technician {technician_id} does not exist.")
    if order.state in ("done", "cancelled", "working"):
        raise Conflict(f"Work order {order.id} is {order.state}.", advice="Propose a new visit if one is needed.")
    current = appointment_of(session, order.id)
    nobody_was_first(session, current, expected_version)
    if current is not None:
        _release(session, current)
    missing = [f"{technician.name} does not have the skill {what}" for what in lacking(technician, order.skills)]
    if not technician.active:
        missing.append(f"{technician.name} is not active")
    held = _held_parts(session, order, technician, missing)
    until = max(now, starts_at) + timedelta(days=2)
    free = availability.gaps(session, [technician], now, until, without=[order.id, *aside])[technician.id]
    opening = openings.at(
        free, availability.place_of(session, order), order.duration, starts_at, now, book.read(session)
    )
    if opening is None:
        missing.append(f"{technician.name} has no opening at {starts_at:%Y-%m-%d %H:%M %Z} with the way there and on")
    if missing or opening is None:
        raise Refused(
            f"Visit {order.id} cannot be confirmed: {'; '.join(missing)}.",
            advice="Choose another technician or time, or bring the part in.",
        )
    if current is None:
        current = Appointment(work_order_id=order.id, version=0)
        session.add(current)
    elif current.state != "proposed" and current.technician_id != technician.id:
        session.add(
            Handover(
                appointment_id=current.id,
                technician_id=current.technician_id,
                starts_at=current.starts_at,
                ends_at=current.ends_at,
                version=current.version + 1,
                at=now,
            )
        )
    current.technician_id, current.starts_at = technician.id, starts_at
    current.ends_at, current.travel, current.state = opening.ends_at, opening.travel, "confirmed"
    if promised is not None:
        current.promised_from, current.promised_until = promised
    current.version, current.changed_at = current.version + 1, now
    order.state = "confirmed"
    session.flush()
    for stock_id, quantity in held:
        taken = session.execute(
            update(Stock)
            .where(Stock.id == stock_id, Stock.quantity - Stock.reserved >= quantity)
            .values(reserved=Stock.reserved + quantity)
            .returning(Stock.id)
        ).first()
        if taken is None:
            raise Conflict("Somebody else has just reserved the part.", advice="Look at the candidates again.")
        session.add(Reservation(appointment_id=current.id, stock_id=stock_id, quantity=quantity))
    session.flush()
    data = {"technician": technician.name, "starts_at": starts_at.isoformat(), "version": current.version}
    _tell(session, order, "visit.confirmed", by, now, data)
    return current


def nobody_was_first(session: Session, current: Appointment | None, expected: int | None) -> None:
    """Raise Conflict unless the appointment is still the one that the dispatcher saw."""
    if current is None:
        if expected is not None:
            raise Conflict("The appointment was cancelled meanwhile.", advice="Look at the work order again.")
        return
    if current.version == expected:
        return
    if expected is None and current.state == "proposed":
        return  # a proposal binds nobody
    other = session.get(Technician, current.technician_id)
    raise Conflict(
        f"Somebody else was first: {other.name if other else 'a technician'} is {current.state.replace('_', ' ')} "
        f"for {current.starts_at:%Y-%m-%d %H:%M %Z}.",
        advice="Look at the board again; what you saw has changed.",
    )


def advance(
    session: Session, appointment_id: int, state: str, *, by: str, now: datetime, expected_version: int
) -> Appointment:
    """Carry an appointment on: on_the_way, working, done (parts are used up) or cancelled (parts are given back)."""
    current = session.scalar(db.locked(select(Appointment).where(Appointment.id == appointment_id)))
    if current is None:
        raise NotFound(f"Appointment {appointment_id} does not exist.")
    if current.version != expected_version:
        raise Conflict(f"Appointment {current.id} has changed meanwhile.", advice="Look at it again.")
    if state not in NEXT_STATES.get(current.state, set()):
        raise Conflict(f"Appointment {current.id} is {current.state} and cannot become {state}.")
    if state in ("done", "cancelled"):
        _release(session, current, used=state == "done")
    current.state, current.version, current.changed_at = state, current.version + 1, now
    order = session.get_one(WorkOrder, current.work_order_id)
    order.state = "proposed" if state == "cancelled" else state
    session.flush()
    _tell(session, order, f"visit.{state}", by, now, {"appointment": current.id, "version": current.version})
    return current


def standing(session: Session, work_order_id: int) -> Appointment | None:
    """Return the appointment of a work order that is neither cancelled nor done; for reading."""
    return session.scalar(_standing(work_order_id))


def appointment_of(session: Session, work_order_id: int) -> Appointment | None:
    """Return the same, locked: for changing it."""
    return session.scalar(db.locked(_standing(work_order_id)))


def _standing(work_order_id: int) -> Select[Appointment]:
    return (
        select(Appointment)
        .where(Appointment.work_order_id == work_order_id, Appointment.state.not_in(("cancelled", "done")))
        .order_by(Appointment.id.desc())
        .limit(1)
    )


def board(session: Session, day_from: datetime, day_to: datetime, *, client_ids: Sequence[int] | None = None) -> Board:
    """Return technicians with their shifts and visits between two instants, and the work nobody does yet.

    client_ids: visits and waiting work of these clients only; None: of all.
    """
    query = (
        select(Appointment, WorkOrder, Client.name, Site.name)
        .join(WorkOrder, WorkOrder.id == Appointment.work_order_id)
        .join(Client, Client.id == WorkOrder.client_id)
        .outerjoin(Site, Site.id == WorkOrder.site_id)
        .where(Appointment.state != "cancelled", Appointment.starts_at < day_to, Appointment.ends_at > day_from)
        .order_by(Appointment.starts_at, Appointment.id)
    )
    waiting = select(WorkOrder).where(WorkOrder.state == "proposed")
    if client_ids is not None:
        query, waiting = query.where(Client.id.in_(client_ids)), waiting.where(WorkOrder.client_id.in_(client_ids))
    visits: dict[int, list[BoardVisit]] = {}
    for appointment, order, client, site in session.execute(query):
        late = order.due_at is not None and appointment.ends_at > order.due_at
        visits.setdefault(appointment.technician_id, []).append(BoardVisit(appointment, order, client, site, late))
    shifts: dict[int, list[Shift]] = {}
    for shift in session.scalars(
        select(Shift).where(Shift.starts_at < day_to, Shift.ends_at > day_from).order_by(Shift.starts_at, Shift.id)
    ):
        shifts.setdefault(shift.technician_id, []).append(shift)
    rows = tuple(
        BoardRow(one, tuple(shifts.get(one.id, ())), tuple(visits.get(one.id, ()))) for one in technicians(session)
    )
    in_order = sorted(
        session.scalars(waiting),
        key=lambda order: (order.latest_dispatch_at is None, order.latest_dispatch_at, order.id),
    )
    return Board(rows, tuple(in_order))


def lacking(technician: Technician, skills: Mapping[str, int]) -> list[str]:
    """Return the skills that a technician does not have at the level needed, in words."""
    return [
        f"{skill} at level {level}"
        for skill, level in sorted(skills.items())
        if technician.skills.get(skill, 0) < level
    ]


def technicians(session: Session) -> Sequence[Technician]:
    """Return those who are active, by name."""
    return session.scalars(select(Technician).where(Technician.active).order_by(Technician.name)).all()


def _is_estimate(technician: Technician, place: openings.Point, roads: book.Roads) -> bool:
    home = availability.point(technician.latitude, technician.longitude)
    return home is None or place is None or roads.estimated(home, place)


def _free(session: Session, who: Sequence[Technician], now: datetime, order: WorkOrder) -> dict[int, list[Gap]]:
    """Return free spans from now on by technician, as if this work order had no appointment yet."""
    return availability.gaps(session, who, now, max(now + HORIZON, order.due_at or now), without=[order.id])


def free_stock(session: Session, sku: str, technician_id: int | None) -> int:
    """Return how many of a part are promised to nobody: in a van, or in the depot (None)."""
    where = Stock.technician_id.is_(None) if technician_id is None else Stock.technician_id == technician_id
    query = select(Stock.quantity - Stock.reserved).join(Part, Part.id == Stock.part_id).where(Part.sku == sku, where)
    return int(session.scalar(query) or 0)


def held_by(session: Session, appointment_id: int) -> dict[tuple[str, int | None], int]:
    """Return the parts that a visit holds: (sku, technician's van or None for the depot) -> quantity."""
    query = (
        select(Part.sku, Stock.technician_id, Reservation.quantity)
        .join(Stock, Stock.id == Reservation.stock_id)
        .join(Part, Part.id == Stock.part_id)
        .where(Reservation.appointment_id == appointment_id)
    )
    return {(sku, van): quantity for sku, van, quantity in session.execute(query)}


def _held_parts(
    session: Session, order: WorkOrder, technician: Technician, missing: list[str]
) -> list[tuple[int, int]]:
    """Return (stock id, quantity) to reserve, from the van first; adds to `missing` what is nowhere."""
    held: list[tuple[int, int]] = []
    for sku, quantity in sorted(order.parts.items()):
        query = (
            select(Stock)
            .join(Part, Part.id == Stock.part_id)
            .where(Part.sku == sku, (Stock.technician_id == technician.id) | Stock.technician_id.is_(None))
            .order_by(Stock.technician_id.is_(None), Stock.id)
            .with_for_update(of=Stock)
            .execution_options(populate_existing=True)
        )
        need = quantity
        for stock in session.scalars(query):
            some = min(need, stock.quantity - stock.reserved)
            if some > 0:
                held.append((stock.id, some))
                need -= some
        if need > 0:
            missing.append(f"{need} x {sku} is neither free in the van nor in the depot")
    return held


def give_back(session: Session, appointment: Appointment) -> None:
    """Free the parts that a visit still holds."""
    _release(session, appointment)


def _release(session: Session, appointment: Appointment, *, used: bool = False) -> None:
    """Give the parts of an appointment back, or take them off the shelf when they were used."""
    for held in session.scalars(select(Reservation).where(Reservation.appointment_id == appointment.id)).all():
        values: dict[str, Any] = {"reserved": Stock.reserved - held.quantity}
        if used:
            values["quantity"] = Stock.quantity - held.quantity
        session.execute(update(Stock).where(Stock.id == held.stock_id).values(**values))
        session.delete(held)
    session.flush()


def _tell(session: Session, order: WorkOrder, kind: str, by: str, now: datetime, data: Mapping[str, Any]) -> None:
    subject = ("work_order", order.id)
    evidence.record(session, kind, actor=by, subject=subject, client_id=order.client_id, data=data, at=now)
    events.record(session, "board", kind, client_id=order.client_id, data={"work_order": order.id})
