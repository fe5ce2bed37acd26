"""The board as a dispatch-problem/1: what may move, who is free for it, and the plan in force.

What is under way, about to begin, outside the days asked for, or not the asker's stands still: it is no visit of the
problem, it takes time out of the shifts, by the same rule by which a drop on the board is judged. So whatever the
planner returns can be dropped. Times are minutes from midnight UTC of the first day.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp.contracts.models import Client, Site
from msp.dispatch import availability, openings, visits
from msp.dispatch.models import Appointment, Depot, Part, Reservation, Shift, Stock, Technician, WorkOrder
from msp.dispatch.openings import Gap, Point
from msp.dispatch.roads import book
from msp.dispatch.roads.book import Roads
from msp.errors import Misconfigured

MINUTE = timedelta(minutes=1)
LEAD = timedelta(minutes=5)  # to read and accept a plan: nothing new begins earlier
LONGEST = timedelta(days=14)
DEPOT = "depot"
LATE = {"per_min": visits.LATE_COST, "fixed": 300.0}
BROKEN_PROMISE, LEFT_OUT, TAKEN_OFF = 10_000.0, 100_000.0, 1_000_000.0  # only where nothing else is left
WEIGHTS = {"renegotiate": BROKEN_PROMISE, "change_tech": 20.0, "travel": 1.0, "overtime": 1.0, "balance": 1.0}


@dataclass(frozen=True, slots=True)
class Movable:
    """A work order that the planner may place: where it stands now (None: nobody goes yet) and what was promised."""

    order: WorkOrder
    client: str
    site: str | None
    appointment: Appointment | None


@dataclass(frozen=True, slots=True)
class BoardProblem:
    """`raw`: the problem as the planner reads it. Visits are named by the work order's id, technicians by theirs."""

    raw: dict[str, Any]
    origin: datetime
    movable: dict[str, Movable]
    technicians: dict[str, Technician]

    def instant(self, minute: int) -> datetime:
        return self.origin + minute * MINUTE

    def minute(self, at: datetime) -> int:
        """Return the minute in which an instant lies."""
        return (at - self.origin) // MINUTE


@dataclass(slots=True)
class _Places:
    """Locations by their coordinates; a place that nobody knows is one of its own."""

    points: list[Point] = field(default_factory=list)
    known: dict[Point, str] = field(default_factory=dict)

    def name(self, point: Point) -> str:
        if point is not None and point in self.known:
            return self.known[point]
        self.points.append(point)
        found = f"p{len(self.points) - 1}"
        if point is not None:
            self.known[point] = found
        return found

    def table(self, roads: Roads, at: datetime | None) -> list[list[int]]:
        return [
            [0 if a == b else openings.road(one, other, roads, at) // MINUTE for b, other in enumerate(self.points)]
            for a, one in enumerate(self.points)
        ]


def pose(
    session: Session, since: datetime, until: datetime, now: datetime, client_ids: Sequence[int] | None = None
) -> BoardProblem:
    """Return the problem of the visits that start between two instants, and of all work that nobody does yet.

    client_ids: whose work may move; None: everybody's. Raises Misconfigured for days that are over or too many.
    """
    first = max(_whole(now + LEAD), since)
    if until <= first:
        raise Misconfigured("These days are over.", advice="Plan today or a later day.")
    if until - first > LONGEST:
        raise Misconfigured("These are too many days.", advice=f"Plan at most {LONGEST.days} days at once.")
    origin = first.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    movable = _movable(session, first, until, client_ids)
    people = list(visits.technicians(session))
    gaps = availability.gaps(session, people, first, until, without=[one.order.id for one in movable])
    ends = _shift_ends(session, first, until)
    places, roads = _Places(), book.read(session)
    stock, depot = _stock(session, movable)
    entries = [
        {
            "id": str(one.id),
            "skills": {name: int(level) for name, level in one.skills.items()},
            "stock": stock.get(one.id, {}),
            "max_travel": None,
            "shifts": [
                shift
                for gap in gaps[one.id]
                if (shift := _shift(gap, first, until, origin, ends.get(one.id, []), places)) is not None
            ],
        }
        for one in people
    ]
    jobs = [_visit(session, one, first, until, origin, places) for one in movable]
    wanted = any(one.order.parts for one in movable)
    found = session.scalar(select(Depot).order_by(Depot.id).limit(1)) if wanted else None
    where = availability.point(found.latitude, found.longitude) if found is not None else None
    depots = [{"id": DEPOT, "location": places.name(where), "service": 5, "stock": depot}] if wanted else []
    hours = [first + timedelta(hours=n) for n in range(int((until - first) / timedelta(hours=1)) + 1)]
    raw = {
        "format": "dispatch-problem/1",
        "name": f"board {first.isoformat()}",
        "now": (first - origin) // MINUTE,
        "days": (until - origin) // timedelta(days=1) + 1,
        "travel": {"kind": "matrix", "minutes": places.table(roads, roads.slowest(hours))},
        "locations": [{"id": f"p{at}"} for at in range(len(places.points))],
        "technicians": entries,
        "depots": depots,
        "visits": jobs,
        "weights": WEIGHTS,
    }
    problem = BoardProblem(
        raw, origin, {str(one.order.id): one for one in movable}, {str(one.id): one for one in people}
    )
    raw["incumbent"] = in_force(problem)
    return problem


def _whole(at: datetime) -> datetime:
    """Return the next whole five minutes."""
    return at + (-timedelta(minutes=at.minute % 5, seconds=at.second, microseconds=at.microsecond)) % (5 * MINUTE)


def _movable(session: Session, first: datetime, until: datetime, client_ids: Sequence[int] | None) -> list[Movable]:
    confirmed = (
        select(WorkOrder, Client.name, Site.name, Appointment)
        .join(Appointment, Appointment.work_order_id == WorkOrder.id)
        .join(Client, Client.id == WorkOrder.client_id)
        .outerjoin(Site, Site.id == WorkOrder.site_id)
        .join(Technician, Technician.id == Appointment.technician_id)
        .where(
            Appointment.state == "confirmed",
            Appointment.starts_at >= first,
            Appointment.starts_at < until,
            Technician.active,
        )
    )
    taken = select(Appointment.work_order_id).where(Appointment.state.in_(availability.STANDING))
    waiting = (
        select(WorkOrder, Client.name, Site.name)
        .join(Client, Client.id == WorkOrder.client_id)
        .outerjoin(Site, Site.id == WorkOrder.site_id)
        .where(WorkOrder.state == "proposed", WorkOrder.id.not_in(taken))
    )
    if client_ids is not None:
        confirmed = confirmed.where(WorkOrder.client_id.in_(client_ids))
        waiting = waiting.where(WorkOrder.client_id.in_(client_ids))
    found = {
        order.id: Movable(order, client, site, visit)
        for order, client, site, visit in session.execute(confirmed)
        if visit.starts_at - visit.travel >= first  # who should have left already is not called back
    }
    found |= {order.id: Movable(order, client, site, None) for order, client, site in session.execute(waiting)}
    return [found[ident] for ident in sorted(found)]


def _shift_ends(session: Session, first: datetime, until: datetime) -> dict[int, list[tuple[datetime, datetime]]]:
    """Return (end, end with overtime) of shifts that have overtime, by technician."""
    query = select(Shift).where(Shift.kind != "absence", Shift.starts_at < until, Shift.ends_at > first - LONGEST)
    found: dict[int, list[tuple[datetime, datetime]]] = {}
    for shift in session.scalars(query):
        if shift.overtime:
            found.setdefault(shift.technician_id, []).append((shift.ends_at, shift.ends_at + shift.overtime))
    return found


def _shift(
    gap: Gap,
    first: datetime,
    until: datetime,
    origin: datetime,
    ends: list[tuple[datetime, datetime]],
    places: _Places,
) -> dict[str, Any] | None:
    """Return a free span as a shift, None if it is over or not yet. A span that ends in overtime says so."""
    begin = -((origin - max(gap.begins_at, first)) // MINUTE)  # rounded up
    end = (gap.ends_at - origin) // MINUTE
    if begin >= end or gap.begins_at >= until:
        return None
    nominal = min((regular for regular, last in ends if regular < gap.ends_at <= last), default=gap.ends_at)
    regular = max(begin + 1, (nominal - origin) // MINUTE)
    return {
        "start": begin,
        "end": min(regular, end),
        "overtime": max(0, end - regular),
        "from": places.name(gap.origin),
        "to": places.name(gap.destination),
        "break": None,
    }


def _visit(
    session: Session, one: Movable, first: datetime, until: datetime, origin: datetime, places: _Places
) -> dict[str, Any]:
    order, visit = one.order, one.appointment
    promised = None
    if visit is not None and visit.promised_from and visit.promised_until:
        promised = [(visit.promised_from - origin) // MINUTE, (visit.promised_until - origin) // MINUTE]
    drop = TAKEN_OFF if visit is not None else LEFT_OUT * (2 if order.due_at and order.due_at < until else 1)
    return {
        "id": str(order.id),
        "location": places.name(availability.place_of(session, order)),
        "duration": -(-order.duration // MINUTE),
        "windows": [[(first - origin) // MINUTE, (until - origin) // MINUTE - 1]],
        "skills": {name: int(level) for name, level in order.skills.items()},
        "parts": {sku: int(quantity) for sku, quantity in order.parts.items()},
        "crew": 1,
        "only": None,
        "never": [],
        "after": [],
        "sla": {"deadline": (order.due_at - origin) // MINUTE, **LATE} if order.due_at else None,
        "drop": drop,
        "pin": None,
        "promised": promised,
    }


def _stock(session: Session, movable: Sequence[Movable]) -> tuple[dict[int, dict[str, int]], dict[str, int]]:
    """Return what is free in each van and in the depot, with what the movable visits hold counted as free."""
    vans: dict[int, dict[str, int]] = {}
    depot: dict[str, int] = {}
    held: dict[int, int] = {}
    moving = {one.appointment.id for one in movable if one.appointment is not None}
    for reservation in session.scalars(select(Reservation)):
        if reservation.appointment_id in moving:
            held[reservation.stock_id] = held.get(reservation.stock_id, 0) + reservation.quantity
    for stock, sku in session.execute(select(Stock, Part.sku).join(Part, Part.id == Stock.part_id)):
        free = stock.quantity - stock.reserved + held.get(stock.id, 0)
        shelf = depot if stock.technician_id is None else vans.setdefault(stock.technician_id, {})
        shelf[sku] = free
    return vans, depot


def in_force(problem: BoardProblem) -> dict[str, Any]:
    """Return the plan as it stands on the board: dispatch-plan/1, whether it can still be carried out or not."""
    table = problem.raw["travel"]["minutes"]
    where = {place["id"]: at for at, place in enumerate(problem.raw["locations"])}
    jobs = {job["id"]: job for job in problem.raw["visits"]}
    routes: list[dict[str, Any]] = []
    placed: set[str] = set()
    for technician in problem.raw["technicians"]:
        mine = sorted(
            (problem.minute(one.appointment.starts_at), name)
            for name, one in problem.movable.items()
            if one.appointment is not None and str(one.appointment.technician_id) == technician["id"]
        )
        for number, shift in enumerate(technician["shifts"]):
            limit = shift["end"] + shift["overtime"]
            stops = [(start, name) for start, name in mine if shift["start"] <= start < limit]
            if not stops:
                continue
            placed.update(name for _, name in stops)
            (start, head), (begun, tail) = stops[0], stops[-1]
            way = table[where[shift["from"]]][where[jobs[head]["location"]]]
            back = table[where[jobs[tail]["location"]]][where[shift["to"]]]
            route = {
                "tech": technician["id"],
                "shift": number,
                "depart": max(shift["start"], start - way),
                "finish": begun + jobs[tail]["duration"] + back,
                "stops": [
                    {"kind": "visit", "visit": name, "start": start, "parts": jobs[name]["parts"]}
                    for start, name in stops
                ],
            }
            routes.append(route)
    left = [{"visit": name, "reason": ""} for name in problem.movable if name not in placed]
    return {"format": "dispatch-plan/1", "routes": routes, "unassigned": left, "renegotiate": []}
