"""Travel times as kept: what a map service told, corrected by what visits took; else an estimate that says so."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from math import ceil
from zoneinfo import ZoneInfo

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp.contracts.models import Site
from msp.dispatch.models import Appointment, RoadFactor, RoadTime, Technician, WorkOrder
from msp.dispatch.roads.calibration import Drive, Factors
from msp.dispatch.roads.services import Place
from msp.dispatch.travel import RoadEstimate
from msp.evidence import Evidence

KEPT = timedelta(days=90)  # roads change; an older time is asked for again
EXACT = 4  # decimals of a degree: about eleven metres
OVERALL = -1  # `hour` of the factor for all


class Roads:
    """Travel times between places. Works like RoadEstimate, and knows better where something is kept.

    What is kept is read from the session one place of departure at a time, when it is first asked for.
    """

    def __init__(self, session: Session, factors: Factors, zone: str) -> None:
        self._session, self._factors, self._zone = session, factors, ZoneInfo(zone)
        self._estimate = RoadEstimate()
        self._from: dict[Place, dict[Place, float]] = {}
        self._empty = session.scalar(select(RoadTime.service).limit(1)) is None

    def between(self, a: Place, b: Place, at: datetime | None = None) -> timedelta:
        """Return the drive in whole minutes, rounded up. at: when it begins, for the traffic of that hour."""
        seconds = self._known(rounded(a)).get(rounded(b))
        if seconds is None:
            seconds = self._estimate.between(a, b).total_seconds()
        return timedelta(minutes=ceil(seconds * self._factors.at(at, self._zone) / 60 - 1e-9))

    def slowest(self, among: Iterable[datetime]) -> datetime | None:
        """Return the instant at which the traffic is worst; None where all hours are alike."""
        if not self._factors.hours:
            return None
        return max(among, key=lambda at: self._factors.at(at, self._zone), default=None)

    def estimated(self, a: Place, b: Place) -> bool:
        """Whether no map service has told this drive."""
        return rounded(a) != rounded(b) and rounded(b) not in self._known(rounded(a))

    def _known(self, origin: Place) -> dict[Place, float]:
        if self._empty:
            return {}
        if origin not in self._from:
            query = select(RoadTime.to_lat, RoadTime.to_lon, RoadTime.seconds).where(
                RoadTime.from_lat == origin[0], RoadTime.from_lon == origin[1], RoadTime.seconds.is_not(None)
            )
            self._from[origin] = {(lat, lon): float(seconds or 0) for lat, lon, seconds in self._session.execute(query)}
        return self._from[origin]


def rounded(place: Place) -> Place:
    """Return a place as it is kept."""
    return round(place[0], EXACT), round(place[1], EXACT)


def read(session: Session, zone: str = "UTC") -> Roads:
    """Return what is known of the roads. zone: whose hours of the week the traffic follows."""
    return Roads(session, factors(session), zone)


def factors(session: Session) -> Factors:
    """Return the factors that were last found."""
    rows = {row.hour: (row.factor, row.drives) for row in session.scalars(select(RoadFactor))}
    overall, drives = rows.pop(OVERALL, (1.0, 0))
    return Factors(overall, {hour: factor for hour, (factor, _) in rows.items()}, drives)


def keep(session: Session, pairs: Mapping[tuple[Place, Place], float | None], service: str, now: datetime) -> None:
    """Keep what a service told; None: it knows no road, and is not asked again before KEPT is over."""
    for (a, b), seconds in pairs.items():
        (from_lat, from_lon), (to_lat, to_lon) = rounded(a), rounded(b)
        key = (from_lat, from_lon, to_lat, to_lon)
        row = session.get(RoadTime, key)
        if row is None:
            row = RoadTime(from_lat=from_lat, from_lon=from_lon, to_lat=to_lat, to_lon=to_lon)
            session.add(row)
        row.seconds, row.service, row.asked_at = seconds, service, now
    session.flush()


def keep_factors(session: Session, found: Factors, now: datetime) -> None:
    """Replace the factors."""
    session.query(RoadFactor).delete()
    session.add(RoadFactor(hour=OVERALL, factor=found.overall, drives=found.drives, found_at=now))
    session.add_all(RoadFactor(hour=h, factor=f, drives=0, found_at=now) for h, f in found.hours.items())
    session.flush()


def places(session: Session) -> list[Place]:
    """Return where somebody may have to drive from or to: technicians' homes and sites of work not yet done."""
    homes = select(Technician.latitude, Technician.longitude).where(Technician.active)
    sites = (
        select(Site.latitude, Site.longitude)
        .join(WorkOrder, WorkOrder.site_id == Site.id)
        .where(WorkOrder.state.not_in(("done", "cancelled")))
    )
    found = [*session.execute(homes), *session.execute(sites)]
    return sorted({rounded((lat, lon)) for lat, lon in found if lat is not None and lon is not None})


def missing(session: Session, among: Sequence[Place], now: datetime) -> dict[Place, list[Place]]:
    """Return, for each place, those to which no time is kept that is fresh enough."""
    fresh = {
        ((one.from_lat, one.from_lon), (one.to_lat, one.to_lon))
        for one in session.scalars(select(RoadTime).where(RoadTime.asked_at > now - KEPT))
    }
    wanted = {a: [b for b in among if a != b and (a, b) not in fresh] for a in among}
    return {a: targets for a, targets in wanted.items() if targets}


def drives(session: Session, since: datetime) -> Iterable[Drive]:
    """Yield the drives of visits since then: from "on the way" to "arrived", as the evidence tells."""
    told = (
        select(Evidence.kind, Evidence.subject_id, Evidence.at, Evidence.data)
        .where(
            Evidence.subject_kind == "work_order",
            Evidence.kind.in_(("visit.on_the_way", "visit.working")),
            Evidence.at > since,
        )
        .order_by(Evidence.id)
    )
    expected = {row[0]: row[1] for row in session.execute(select(Appointment.id, Appointment.travel))}
    left: dict[int, datetime] = {}
    for kind, _, at, data in session.execute(told):
        number = data.get("appointment")
        if kind == "visit.on_the_way":
            left[number] = at
        elif number in left and number in expected:
            yield Drive(left[number], expected[number], at - left.pop(number))
