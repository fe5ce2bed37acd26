"""Why a visit stands here, why not earlier, why not with somebody else; of work that waits, what keeps it.

Said by the rules by which the board judges a drop, of the technicians' free time as it is now. Reads only.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp.dispatch import availability, openings, visits
from msp.dispatch.models import Appointment, Shift, Technician, WorkOrder
from msp.dispatch.openings import Gap, Opening
from msp.dispatch.roads import book
from msp.dispatch.roads.book import Roads

MINUTE = timedelta(minutes=1)
SLACK = timedelta(minutes=5)  # nobody calls five minutes "earlier"


@dataclass(frozen=True, slots=True)
class Other:
    """Somebody who does not go. `extra`: what it would cost more, in minutes (less if negative); None: cannot go."""

    technician: Technician
    reason: str
    extra: float | None = None


@dataclass(frozen=True, slots=True)
class Reasons:
    """In sentences: `here` why it stands where it does (or why nobody goes), `warns` what the client would not like
    about it, `earlier` why not earlier, and the others, those who could go first."""

    here: tuple[str, ...]
    earlier: tuple[str, ...]
    others: tuple[Other, ...]
    warns: tuple[str, ...] = ()


def why(
    session: Session, order: WorkOrder, now: datetime, zone: ZoneInfo, client_ids: Collection[int] | None = None
) -> Reasons:
    """Return the reasons for one work order. zone: whose wall clock the sentences speak of.

    client_ids: other work is named if it is of these clients; None: of all.
    """
    standing = visits.standing(session, order.id)
    people = list(visits.technicians(session))
    able = [one for one in people if not visits.lacking(one, order.skills)]
    until = max(now + visits.HORIZON, order.due_at or now)
    since = min(now, standing.starts_at) if standing is not None else now
    free = availability.gaps(session, able, since, until, without=[order.id])
    view = _View(session, order, now, zone, free, book.read(session), client_ids)
    if standing is None or standing.state == "proposed":
        found = visits.candidates(session, order, now)
        best = next((one for one in found if not one.missing), None)
        if best is None:
            here = ("Nobody is confirmed yet.", *view.why_nobody(people, able))
            return Reasons(here, (), view.others(people, None, None))
        here = ("Nobody is confirmed yet.", f"{best.technician.name} could go at {view.clock(best.starts_at)}.")
        earlier = view.not_earlier(best.technician, best.starts_at)
        others = view.others(people, best.technician, best.starts_at)
        return Reasons((*here, *best.reasons), earlier, others, best.warns)
    technician = session.get_one(Technician, standing.technician_id)
    others = view.others(people, technician, standing.starts_at)
    here, warns = view.here(technician, standing, others)
    return Reasons(here, view.not_earlier(technician, standing.starts_at, standing), others, warns)


@dataclass(frozen=True, slots=True)
class _View:
    """One work order against everybody's free time."""

    session: Session
    order: WorkOrder
    now: datetime
    zone: ZoneInfo
    free: dict[int, list[Gap]]
    roads: Roads
    client_ids: Collection[int] | None

    def clock(self, at: datetime) -> str:
        """Return the time of day, with the date unless it is today."""
        local, today = at.astimezone(self.zone), self.now.astimezone(self.zone).date()
        return f"{local:%H:%M}" if local.date() == today else f"{local:%Y-%m-%d %H:%M}"

    def opening(self, technician: Technician, at: datetime) -> Opening | None:
        """Return the opening at exactly this time. For a time that is over: as if it were still to come."""
        place = availability.place_of(self.session, self.order)
        gaps = self.free.get(technician.id, [])
        return openings.at(gaps, place, self.order.duration, at, min(self.now, at - timedelta(days=1)), self.roads)

    def cost(self, technician: Technician, opening: Opening) -> tuple[float, str]:
        """Return minutes of road, lateness and parts, and what is missing in words."""
        cost, missing = opening.detour / MINUTE, ""
        current = visits.standing(self.session, self.order.id)
        own = visits.held_by(self.session, current.id) if current is not None and self.order.parts else {}
        for sku, quantity in sorted(self.order.parts.items()):
            van = visits.free_stock(self.session, sku, technician.id) + own.get((sku, technician.id), 0)
            depot = visits.free_stock(self.session, sku, None) + own.get((sku, None), 0)
            if van + depot < quantity:
                missing = f"{quantity - van - depot} x {sku} is neither free in the van nor in the depot."
            elif van < quantity:
                cost += visits.PART_DETOUR
        if self.order.due_at is not None:
            cost += visits.LATE_COST * max(0.0, (opening.ends_at - self.order.due_at) / MINUTE)
        return cost, missing

    def here(
        self, technician: Technician, visit: Appointment, others: tuple[Other, ...]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return what speaks for it, and what the client would not like."""
        found, warns = [], list[str]()
        if self.order.skills and not visits.lacking(technician, self.order.skills):
            had = ", ".join(f"{skill} {technician.skills[skill]}" for skill in sorted(self.order.skills))
            found.append(f"Has the skills: {had}.")
        for (sku, van), quantity in sorted(
            visits.held_by(self.session, visit.id).items(), key=lambda held: (held[0][0], held[0][1] or 0)
        ):
            if van == technician.id:
                found.append(f"{quantity} x {sku} is held for it in the van.")
            else:
                found.append(f"{quantity} x {sku} is held for it in the depot.")
        if visit.travel:
            found.append(f"{visit.travel // MINUTE} minutes away.")
        if self.order.due_at is not None:
            late = visits.is_late(visit.ends_at, self.order.due_at)
            (warns if late else found).append(visits.against_due(visit.ends_at, self.order.due_at))
        if visit.promised_from and visit.promised_until:
            begin, end = self.clock(visit.promised_from), self.clock(visit.promised_until)
            found.append(f"The client was told {begin} to {end}.")
        better = next((one for one in others if one.extra is not None and one.extra < 0), None)
        if better is not None:
            found.append(f"{better.technician.name} would cost {-(better.extra or 0):.0f} less at that time.")
        else:
            found.append("Nobody else who could go at that time costs less.")
        return tuple(found), tuple(warns)

    def not_earlier(
        self, technician: Technician, starts_at: datetime, visit: Appointment | None = None
    ) -> tuple[str, ...]:
        """Say what keeps it from beginning earlier with this technician, or that nothing does."""
        if visit is not None and visit.state in ("on_the_way", "working", "done"):
            return ()
        place, name = availability.place_of(self.session, self.order), technician.name
        first = openings.earliest(self.free.get(technician.id, []), place, self.order.duration, self.now, self.roads)
        told: tuple[str, ...] = ()
        if visit is not None and visit.promised_from is not None and starts_at - visit.promised_from < SLACK:
            told = (f"The client was told not before {self.clock(visit.promised_from)}.",)
        if first is not None and first.starts_at + SLACK <= starts_at:
            return (*told, f"{name} could begin at {self.clock(first.starts_at)}: move it if the client agrees.")
        gap = next((one for one in self.free.get(technician.id, []) if one.begins_at <= starts_at < one.ends_at), None)
        if gap is None:
            return (*told, f"{name} has no free time there: another visit or the shift stands in the way.")
        leaves = max(gap.begins_at, self.now)
        way = openings.road(gap.origin, place, self.roads, leaves) // MINUTE
        before = self._before(technician, gap.begins_at)
        if gap.begins_at <= self.now:
            return (*told, f"{name} can leave now and drives {way} minutes.")
        if before is not None:
            done = self.clock(gap.begins_at)
            if self.client_ids is not None and before.client_id not in self.client_ids:
                return (*told, f"{name} is at another visit until {done} and drives {way} minutes from there.")
            what = before.summary
            return (*told, f"{name} is at another visit until {done} ({what}) and drives {way} minutes from there.")
        return (*told, f"The shift of {name} begins at {self.clock(gap.begins_at)}, and the way takes {way} minutes.")

    def _before(self, technician: Technician, ends_at: datetime) -> WorkOrder | None:
        query = (
            select(WorkOrder)
            .join(Appointment, Appointment.work_order_id == WorkOrder.id)
            .where(
                Appointment.technician_id == technician.id,
                Appointment.state.in_(availability.STANDING),
                Appointment.ends_at == ends_at,
                WorkOrder.id != self.order.id,
            )
        )
        return self.session.scalar(query.limit(1))

    def others(
        self, people: list[Technician], chosen: Technician | None, starts_at: datetime | None
    ) -> tuple[Other, ...]:
        """Return everybody else: who could go at that time by cost, then who could not, with the reason."""
        mine = self.opening(chosen, starts_at) if chosen is not None and starts_at is not None else None
        base = self.cost(chosen, mine)[0] if chosen is not None and mine is not None else None
        absent = self._absent(starts_at or self.now)
        found = []
        for one in people:
            if chosen is not None and one.id == chosen.id:
                continue
            lacks = visits.lacking(one, self.order.skills)
            opening = self.opening(one, starts_at) if starts_at is not None and not lacks else None
            if lacks:
                found.append(Other(one, f"Does not have {', '.join(lacks)}."))
            elif opening is None:
                found.append(Other(one, self._not_free(one, absent)))
            else:
                cost, missing = self.cost(one, opening)
                if missing:
                    found.append(Other(one, missing))
                else:
                    found.append(self._priced(one, cost, base))
        return tuple(sorted(found, key=lambda one: (one.extra is None, one.extra or 0.0, one.technician.name)))

    def _priced(self, technician: Technician, cost: float, base: float | None) -> Other:
        if base is None:
            return Other(technician, f"Could go: costs {cost:.0f}.", cost)
        extra = cost - base
        if extra >= 0.5:
            return Other(technician, f"Could go, and costs {extra:.0f} more.", extra)
        if extra <= -0.5:
            return Other(technician, f"Could go, and costs {-extra:.0f} less.", extra)
        return Other(technician, "Could go, and costs the same.", 0.0)

    def _not_free(self, technician: Technician, absent: set[int]) -> str:
        place = availability.place_of(self.session, self.order)
        first = openings.earliest(self.free.get(technician.id, []), place, self.order.duration, self.now, self.roads)
        if first is None:
            return "Has no opening within 14 days: no shift is known, or it is full."
        at = self.clock(first.starts_at)
        if technician.id in absent:
            return f"Is absent then; could begin at {at}."
        return f"Is not free then; could begin at {at}."

    def _absent(self, at: datetime) -> set[int]:
        ends = at + self.order.duration
        query = select(Shift.technician_id).where(Shift.kind == "absence", Shift.starts_at < ends, Shift.ends_at > at)
        return set(self.session.scalars(query))

    def why_nobody(self, people: list[Technician], able: list[Technician]) -> tuple[str, ...]:
        """Say what keeps everybody away."""
        if not people:
            return ("There is no technician yet.",)
        if not able:
            wanted = ", ".join(f"{skill} at level {level}" for skill, level in sorted(self.order.skills.items()))
            return (f"Nobody has {wanted}.",)
        for sku, quantity in sorted(self.order.parts.items()):
            depot = visits.free_stock(self.session, sku, None)
            if all(visits.free_stock(self.session, sku, one.id) + depot < quantity for one in able):
                return (f"No van together with the depot has {quantity} x {sku}: order it, or free one.",)
        return ("Nobody with the skills has an opening within 14 days.",)
