"""Free spans of technicians as stored: shifts without absences and without the visits that stand.

All technicians are read in two statements, so that a board of 150 of them is answered within a keystroke.
"""

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp.contracts.models import Site
from msp.dispatch import openings
from msp.dispatch.models import Appointment, Shift, Technician, WorkOrder
from msp.dispatch.openings import Busy, Gap, Point

STANDING = ("confirmed", "on_the_way", "working")  # appointments that hold a technician's time


def point(latitude: float | None, longitude: float | None) -> Point:
    return None if latitude is None or longitude is None else (latitude, longitude)


def place_of(session: Session, order: WorkOrder) -> Point:
    """Return where the work is, None if its site has no coordinates."""
    site = session.get(Site, order.site_id) if order.site_id is not None else None
    return point(site.latitude, site.longitude) if site is not None else None


def gaps(
    session: Session,
    technicians: Iterable[Technician],
    since: datetime,
    until: datetime,
    without: Collection[int] = (),
) -> dict[int, list[Gap]]:
    """Return the free spans of each technician, by id, that begin before `until`; those that end before `since` too
    where their shift goes on. without: work orders whose appointments count as not made."""
    homes = {one.id: point(one.latitude, one.longitude) for one in technicians}
    shifts: dict[int, list[tuple[datetime, datetime]]] = {ident: [] for ident in homes}
    absences: dict[int, list[tuple[datetime, datetime]]] = {ident: [] for ident in homes}
    busy: dict[int, list[Busy]] = {ident: [] for ident in homes}
    yesterday = since - timedelta(days=1)
    own = select(Shift.technician_id, Shift.starts_at, Shift.ends_at, Shift.overtime, Shift.kind).where(
        Shift.technician_id.in_(list(homes)), Shift.ends_at > yesterday, Shift.starts_at < until
    )
    for ident, begin, end, overtime, kind in session.execute(own):
        if kind == "absence":
            absences[ident].append((begin, end))
        elif end + overtime > since:
            shifts[ident].append((begin, end + overtime))
    standing = (
        select(
            Appointment.technician_id,
            Appointment.work_order_id,
            Appointment.starts_at,
            Appointment.ends_at,
            Site.latitude,
            Site.longitude,
        )
        .join(WorkOrder, WorkOrder.id == Appointment.work_order_id)
        .outerjoin(Site, Site.id == WorkOrder.site_id)
        .where(
            Appointment.technician_id.in_(list(homes)),
            Appointment.state.in_(STANDING),
            Appointment.ends_at > yesterday,
        )
    )
    aside = frozenset(without)
    for ident, order, begin, end, latitude, longitude in session.execute(standing):
        if order not in aside:
            busy[ident].append(Busy(begin, end, point(latitude, longitude)))
    return {
        ident: openings.gaps(openings.working_spans(shifts[ident], absences[ident]), busy[ident], home)
        for ident, home in homes.items()
    }
