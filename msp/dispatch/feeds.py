"""Calendar addresses: made for a technician or a site, read by whoever holds them, withdrawn at any time.

An address opens without log-in, so it shows what its maker may see at that moment, and nothing once the maker is out.
"""

import hashlib
import secrets
from collections.abc import Iterator
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, select, true
from sqlalchemy.orm import Session

from msp import evidence
from msp.contracts.models import Client, Site
from msp.dispatch.calendar_feed import Entry
from msp.dispatch.models import Appointment, CalendarFeed, Handover, Technician, WorkOrder
from msp.errors import Conflict, NotFound
from msp.people import users
from msp.people.access import Actor, may
from msp.people.models import User

SHOWN = ("confirmed", "on_the_way", "working", "done", "cancelled")
BACK, AHEAD = timedelta(days=30), timedelta(days=180)


def make(
    session: Session, *, by: str, now: datetime, technician: Technician | None = None, site: Site | None = None
) -> tuple[CalendarFeed, str]:
    """Make a feed of a technician or a site and return it with the secret word that ends its address."""
    word = secrets.token_urlsafe(24)
    feed = CalendarFeed(
        technician_id=technician.id if technician else None,
        site_id=site.id if site else None,
        client_id=site.client_id if site else None,
        token_sha256=_digest(word),
        created_at=now,
        created_by=by,
    )
    session.add(feed)
    session.flush()
    _tell(session, feed, "calendar.made", by)
    return feed, word


def withdraw(session: Session, feed: CalendarFeed, *, by: str, now: datetime) -> None:
    """End a feed: its address answers nothing from now on. Raises Conflict if it has ended already."""
    if feed.withdrawn_at is not None:
        raise Conflict("This calendar address was withdrawn before.", advice="Make a new one.")
    feed.withdrawn_at = now
    _tell(session, feed, "calendar.withdrawn", by)


def by_word(session: Session, word: str) -> CalendarFeed:
    """Return the feed of an address; raises NotFound for one that never was or was withdrawn."""
    feed = session.scalar(select(CalendarFeed).where(CalendarFeed.token_sha256 == _digest(word)))
    if feed is None or feed.withdrawn_at is not None:
        raise NotFound("There is no such calendar.", advice="Ask for a new address.")
    return feed


def may_hold(asking: Actor, technician: Technician) -> bool:
    """Return whether `asking` may hold a calendar of this technician: one's own, or any for who plans."""
    own = technician.user_id is not None and technician.user_id == asking.user_id
    return may(asking, "dispatch.plan") or (own and may(asking, "dispatch.see"))


def maker_of(session: Session, feed: CalendarFeed) -> Actor:
    """Return who made a feed, with the rights of now; raises NotFound if such a feed is no longer theirs to hold."""
    user = session.scalar(select(User).where(User.email == feed.created_by, User.active))
    maker = users.actor_of(session, user) if user else None
    if maker is not None and feed.technician_id is not None:
        holds = may_hold(maker, session.get_one(Technician, feed.technician_id))
    else:
        holds = maker is not None and may(maker, "portal.see", feed.client_id)
    if maker is None or not holds:
        raise NotFound("There is no such calendar.", advice="Ask for a new address.")
    return maker


def _seen_by(maker: Actor) -> ColumnElement[bool]:
    """Return the condition for visits of clients that `maker` may know of."""
    if maker.client_id is not None:
        return WorkOrder.client_id == maker.client_id
    return true() if maker.granted is None else WorkOrder.client_id.in_(sorted(maker.granted))


def name_of(session: Session, feed: CalendarFeed) -> str:
    """Return what the calendar is called: the technician, or the client with the site."""
    if feed.technician_id is not None:
        return session.get_one(Technician, feed.technician_id).name
    site = session.get_one(Site, feed.site_id)
    return f"{session.get_one(Client, site.client_id).name}, {site.name}"


def entries(session: Session, feed: CalendarFeed, now: datetime, *, base: str, maker: Actor) -> Iterator[Entry]:
    """Yield the visits of a feed that its maker may see: 30 days back, 180 ahead.

    `base`: the address of the pages, without a last slash.

    A site's people read who comes and when, in the window they were promised; a technician reads where, for whom and
    what for, and what is no longer theirs as cancelled.
    """
    query = (
        select(Appointment, WorkOrder, Technician, Site, Client)
        .join(WorkOrder, WorkOrder.id == Appointment.work_order_id)
        .join(Technician, Technician.id == Appointment.technician_id)
        .join(Client, Client.id == WorkOrder.client_id)
        .outerjoin(Site, Site.id == WorkOrder.site_id)
        .where(Appointment.state.in_(SHOWN), _seen_by(maker))
        .where(Appointment.starts_at < now + AHEAD, Appointment.ends_at > now - BACK)
    )
    if feed.technician_id is None:
        for visit, order, technician, _, _ in session.execute(query.where(WorkOrder.site_id == feed.site_id)):
            yield Entry(
                uid=f"visit-{visit.id}@msp-toolkit",
                sequence=visit.version,
                starts_at=visit.promised_from or visit.starts_at,
                ends_at=visit.promised_until or visit.ends_at,
                title=f"{technician.name}: {order.summary}",
                changed_at=visit.changed_at or order.created_at,
                address=f"{base}/portal/visits",
                cancelled=visit.state == "cancelled",
            )
        return
    for visit, order, _, site, client in session.execute(query.where(Technician.id == feed.technician_id)):
        yield _own(visit, order, site, client, base, feed.technician_id)
    gone = (
        select(Handover, WorkOrder)
        .join(Appointment, Appointment.id == Handover.appointment_id)
        .join(WorkOrder, WorkOrder.id == Appointment.work_order_id)
        .where(
            Handover.technician_id == feed.technician_id,
            Appointment.technician_id != feed.technician_id,
            Handover.ends_at > now - BACK,
            _seen_by(maker),
        )
        .order_by(Handover.id.desc())
    )
    seen: set[int] = set()
    for handover, order in session.execute(gone):
        if handover.appointment_id not in seen:
            seen.add(handover.appointment_id)
            yield Entry(
                uid=_uid(handover.appointment_id, feed.technician_id),
                sequence=handover.version,
                starts_at=handover.starts_at,
                ends_at=handover.ends_at,
                title=order.summary,
                changed_at=handover.at,
                cancelled=True,
            )


def _own(
    visit: Appointment, order: WorkOrder, site: Site | None, client: Client, base: str, technician_id: int
) -> Entry:
    parts = ", ".join(f"{quantity} x {sku}" for sku, quantity in sorted(order.parts.items()))
    place = None if site is None or site.latitude is None or site.longitude is None else (site.latitude, site.longitude)
    return Entry(
        uid=_uid(visit.id, technician_id),
        sequence=visit.version,
        starts_at=visit.starts_at,
        ends_at=visit.ends_at,
        title=f"{client.name}: {order.summary}",
        changed_at=visit.changed_at or order.created_at,
        place=", ".join(word for word in (site.name if site else "", site.address if site else "") if word),
        coordinates=place,
        note="\n".join(line for line in (order.reason, f"Parts: {parts}" if parts else "") if line),
        address=f"{base}/dispatch/{order.id}",
        cancelled=visit.state == "cancelled",
    )


def _uid(appointment_id: int, technician_id: int) -> str:
    return f"visit-{appointment_id}-{technician_id}@msp-toolkit"


def _digest(word: str) -> str:
    return hashlib.sha256(word.encode("utf-8", "replace")).hexdigest()


def _tell(session: Session, feed: CalendarFeed, kind: str, by: str) -> None:
    data = {"technician": feed.technician_id, "site": feed.site_id}
    subject = ("calendar_feed", feed.id)
    evidence.record(session, kind, actor=by, subject=subject, client_id=feed.client_id, data=data)
