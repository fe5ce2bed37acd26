"""The next windows of arrival to offer on the phone or in the portal, each with who would go and what it costs."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from msp.dispatch import availability, openings, visits
from msp.dispatch.models import Technician, WorkOrder
from msp.dispatch.openings import Gap, Point
from msp.dispatch.roads import book

WIDTH = timedelta(hours=2)  # of a window of arrival
HORIZON = timedelta(days=7)
MINUTE = timedelta(minutes=1)
DAY_COST = 30.0  # a day later weighs as much as half an hour on the road


@dataclass(frozen=True, slots=True)
class Window:
    """Arrival between `begins` and `ends`; planned for `starts_at`. cost: as with candidates, plus the wait."""

    begins: datetime
    ends: datetime
    technician: Technician
    starts_at: datetime
    travel: timedelta
    cost: float
    keeps_due: bool  # even an arrival at the end of the window is done in time


def offers(
    session: Session, order: WorkOrder, now: datetime, *, zone: ZoneInfo, count: int = 3, only_in_time: bool = False
) -> list[Window]:
    """Return up to `count` windows of arrival, best first, no two at the same time.

    zone: in whose wall clock windows begin at whole even hours. only_in_time: those alone that keep the due time.
    Whoever would have to do without a part is not offered.
    """
    roads, place = book.read(session), availability.place_of(session, order)
    able = [one for one in visits.technicians(session) if not visits.lacking(one, order.skills)]
    depot = {sku: visits.free_stock(session, sku, None) for sku in order.parts}
    free = availability.gaps(session, able, now, now + HORIZON, without=[order.id])
    dear = {one.id: _parts_cost(session, order, one, depot) for one in able}
    spans = [(max(gap.begins_at, now), one, gap) for one in able if dear[one.id] is not None for gap in free[one.id]]
    best: dict[datetime, Window] = {}
    ceiling: float | None = None  # the dearest of those that would be returned now
    for since, technician, gap in sorted(spans, key=lambda span: span[0]):
        if ceiling is not None and DAY_COST * ((since - now) / timedelta(days=1)) > ceiling:
            break  # the wait alone costs more from here on
        changed = False
        for found in _in_gap(order, technician, gap, place, now, roads, zone, dear[technician.id] or 0.0):
            if only_in_time and not found.keeps_due:
                continue
            known = best.get(found.begins)
            if known is None or found.cost < known.cost:
                best[found.begins], changed = found, True
        if changed:
            chosen = _cheapest(best, count)
            full = len(chosen) == count and all(one.keeps_due for one in chosen)
            ceiling = chosen[-1].cost if full else None
    return _cheapest(best, count)


def _cheapest(found: dict[datetime, Window], count: int) -> list[Window]:
    return sorted(found.values(), key=lambda one: (not one.keeps_due, one.cost, one.begins))[:count]


def _parts_cost(session: Session, order: WorkOrder, technician: Technician, depot: dict[str, int]) -> float | None:
    """Return what fetching parts adds, None if one of them is nowhere."""
    cost = 0.0
    for sku, quantity in order.parts.items():
        van = visits.free_stock(session, sku, technician.id)
        if van + depot[sku] < quantity:
            return None
        if van < quantity:
            cost += visits.PART_DETOUR
    return cost


def _in_gap(
    order: WorkOrder,
    technician: Technician,
    gap: Gap,
    place: Point,
    now: datetime,
    roads: openings.Drives,
    zone: ZoneInfo,
    extra: float,
) -> Iterator[Window]:
    """Yield the windows in which this free span lets somebody arrive."""
    since = max(gap.begins_at, now)
    if since + order.duration > gap.ends_at:
        return
    to = openings.road(gap.origin, place, roads, since)
    back = openings.road(place, gap.destination, roads, gap.ends_at)
    first, last = _whole(since + to), gap.ends_at - back - order.duration
    if first > last:
        return
    detour = max(timedelta(), to + back - openings.road(gap.origin, gap.destination, roads)) / MINUTE
    begins = _even_hour(first, zone)
    while begins <= last:
        ends, starts = begins + WIDTH, max(first, begins)
        late = max(timedelta(), starts + order.duration - order.due_at) if order.due_at else timedelta()
        wait = DAY_COST * ((starts - now) / timedelta(days=1))
        cost = detour + extra + wait + visits.LATE_COST * (late / MINUTE)
        in_time = order.due_at is None or ends + order.duration <= order.due_at
        if begins >= now:
            yield Window(begins, ends, technician, starts, to, cost, in_time)
        begins = ends


def _whole(at: datetime) -> datetime:
    """Return the next whole five minutes."""
    step = 300
    return datetime.fromtimestamp(-(-at.timestamp() // step) * step, at.tzinfo)


def _even_hour(at: datetime, zone: ZoneInfo) -> datetime:
    """Return the last whole even hour of the wall clock, in UTC."""
    local = at.astimezone(zone)
    return local.replace(hour=local.hour // 2 * 2, minute=0, second=0, microsecond=0).astimezone(at.tzinfo)
