"""Visits as a calendar that phones and mail programs subscribe to (RFC 5545, RFC 7986). Pure.

A visit keeps its UID for ever; SEQUENCE grows with every change, and what is off stays for a while as CANCELLED, so
that a subscriber takes it out instead of keeping an appointment that nobody goes to.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from icalendar import Calendar, Event, vText

REFRESH = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Entry:
    """One visit as its subscriber may read it. `sequence` counts its changes; `cancelled`: it is off, or not theirs."""

    uid: str
    sequence: int
    starts_at: datetime
    ends_at: datetime
    title: str
    changed_at: datetime
    place: str = ""
    coordinates: tuple[float, float] | None = None  # latitude, longitude in degrees
    note: str = ""
    address: str = ""  # of its page
    cancelled: bool = False
    tentative: bool = False


def written(name: str, entries: Iterable[Entry]) -> bytes:
    """Return the calendar as iCalendar text in UTF-8 with CRLF; the same entries give the same bytes."""
    calendar = Calendar()
    calendar.add("prodid", "-//msp-toolkit//visits//EN")
    calendar.add("version", "2.0")
    calendar.add("method", "PUBLISH")
    calendar.add("name", name)
    calendar.add("x-wr-calname", name)
    calendar.add("refresh-interval", REFRESH, parameters={"VALUE": "DURATION"})
    for entry in sorted(entries, key=lambda one: (one.starts_at, one.uid)):
        calendar.add_component(_event(entry))
    return bytes(calendar.to_ical())


def _event(entry: Entry) -> Event:
    event = Event()
    event.add("uid", entry.uid)
    event.add("sequence", entry.sequence)
    event.add("dtstamp", entry.changed_at.replace(microsecond=0))
    event.add("dtstart", entry.starts_at.replace(microsecond=0))
    event.add("dtend", entry.ends_at.replace(microsecond=0))
    event.add("summary", entry.title)
    event.add("status", vText("CANCELLED" if entry.cancelled else "TENTATIVE" if entry.tentative else "CONFIRMED"))
    event.add("transp", vText("TRANSPARENT" if entry.cancelled else "OPAQUE"))
    if entry.place:
        event.add("location", entry.place)
    if entry.coordinates:
        event.add("geo", entry.coordinates)
    if entry.note:
        event.add("description", entry.note)
    if entry.address:
        event.add("url", entry.address)
    return event
