"""A visit put on the board: confirmed with a technician, and its ticket told who comes and when."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from msp.contracts.models import Client, Site
from msp.desk import tickets
from msp.dispatch import feedback, visits, windows
from msp.dispatch.models import Appointment, Technician, WorkOrder
from msp.errors import Conflict, Misconfigured
from msp.flows import prepaid

WINDOW = timedelta(hours=1)  # of arrival, where nobody gave another


def place(
    session: Session,
    work_order_id: int,
    technician_id: int,
    starts_at: datetime,
    *,
    by: str,
    now: datetime,
    expected_version: int | None = None,
    promised: tuple[datetime, datetime] | None = None,
    renegotiated: bool = False,
    aside: Collection[int] = (),
    given: prepaid.Given | None = None,
) -> Appointment:
    """Confirm or move a visit (see dispatch.visits.assign) and tell its ticket.

    promised: the window of arrival to tell the client; Misconfigured if the visit begins outside of it. renegotiated:
    the client agreed to another window than was told; without it, a move out of that window and a window that is not
    part of it raise Conflict, so that nothing promised moves silently. Raises Unagreed for what goes beyond the prepaid
    hours until somebody has agreed to that (see prepaid.py). given: the yes that comes with this very act.
    """
    current = visits.appointment_of(session, work_order_id)
    visits.nobody_was_first(session, current, expected_version)
    if promised is not None and not promised[0] <= starts_at <= promised[1]:
        raise Misconfigured(
            "The visit would begin outside of the window.", advice="Give the client a window in which it begins."
        )
    if _breaks_promise(current, starts_at, promised):
        if not renegotiated:
            raise Conflict(
                "The client was told another window.", advice="Agree on a new one, then say so and move the visit."
            )
        promised = promised or (starts_at, starts_at + WINDOW)
    before = (current.technician_id, current.starts_at) if current and current.state != "proposed" else None
    visit = visits.assign(
        session,
        work_order_id,
        technician_id,
        starts_at,
        by=by,
        now=now,
        expected_version=expected_version,
        promised=promised,
        aside=aside,
    )
    order = session.get_one(WorkOrder, work_order_id)
    if given is not None:
        prepaid.agree(session, order, given, now=now)
    prepaid.must_be_agreed(session, order, visit.starts_at, before[1] if before else None)
    if before != (visit.technician_id, visit.starts_at) or promised is not None:
        tell(session, visit, by=by, now=now)
    return visit


def _breaks_promise(
    current: Appointment | None, starts_at: datetime, promised: tuple[datetime, datetime] | None
) -> bool:
    """Return whether what was told to the client no longer holds: by this start, or by this window."""
    if feedback.leaves_promise(current, starts_at):
        return True
    return promised is not None and any(feedback.leaves_promise(current, edge) for edge in promised)


@dataclass(frozen=True, slots=True)
class Offered:
    """Windows that can be promised now, best first. `free`: whether the visit still waits for one; `standing`: its
    appointment, if it has one. `zone`: the wall clock by which windows begin."""

    zone: ZoneInfo
    free: bool
    standing: Appointment | None
    windows: list[windows.Window]


def offer(session: Session, order: WorkOrder, now: datetime, *, count: int, in_time: bool) -> Offered:
    """Return what to offer for a work order. in_time: only windows that keep the due time."""
    zone, standing = zone_of(session, order), visits.standing(session, order.id)
    free = order.state in ("proposed", "planned") and (standing is None or standing.state == "proposed")
    found = windows.offers(session, order, now, zone=zone, count=count, only_in_time=in_time) if free else []
    return Offered(zone, free, standing, found)


def book(
    session: Session,
    order: WorkOrder,
    begins: datetime,
    *,
    by: str,
    now: datetime,
    in_time: bool,
    given: prepaid.Given | None = None,
) -> Appointment:
    """Confirm the visit in one of the windows that are offered now, and promise that window. Raises Conflict if it is
    no longer free. in_time: only windows that keep the due time. given: see `place`."""
    current = visits.appointment_of(session, order.id)
    open_now = offer(session, order, now, count=1000, in_time=in_time)
    chosen = next((one for one in open_now.windows if one.begins == begins), None)
    if chosen is None:
        raise Conflict("That window is no longer free.", advice="Choose one of those that are offered now.")
    return place(
        session,
        order.id,
        chosen.technician.id,
        chosen.starts_at,
        by=by,
        now=now,
        expected_version=current.version if current else None,
        promised=(chosen.begins, chosen.ends),
        given=given,
    )


def tell(session: Session, visit: Appointment, *, by: str, now: datetime) -> None:
    """Tell the ticket, in the site's time, who comes and when: the window promised, else the planned arrival."""
    order = session.get_one(WorkOrder, visit.work_order_id)
    if order.ticket_id is None:
        return
    zone = zone_of(session, order)
    who = session.get_one(Technician, visit.technician_id).name
    begins, ends = visit.promised_from or visit.starts_at, visit.promised_until
    local = begins.astimezone(zone)
    until = f" and {ends.astimezone(zone):%H:%M}" if ends else ""
    when = f"on {local:%Y-%m-%d} {'between' if ends else 'at'} {local:%H:%M}{until} ({zone.key})"
    data = {"work_order": order.id, "appointment": visit.id, "state": visit.state}
    ticket = tickets.get(session, order.ticket_id, lock=True)
    tickets.append(session, ticket, "visit", by=by, public=True, text=f"{who} comes {when}.", data=data, now=now)


def zone_of(session: Session, order: WorkOrder) -> ZoneInfo:
    """Return the wall clock of the site, else of the client."""
    site = session.get(Site, order.site_id) if order.site_id else None
    return ZoneInfo((site.time_zone if site else None) or session.get_one(Client, order.client_id).time_zone)
