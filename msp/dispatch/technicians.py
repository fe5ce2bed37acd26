"""Technicians and their time: who they are, which user they log in as, where they start, when they work; and the depot.

Every change is one record of evidence and reaches open boards at once.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp import db, events, evidence
from msp.dispatch.models import Depot, Shift, Technician
from msp.errors import Conflict, Misconfigured, NotFound
from msp.people.models import User

KINDS = ("shift", "on_call", "absence")
LONGEST, MOST_WEEKS = timedelta(days=366), 26
HIGHEST = 9  # level of a skill
LONGEST_SKILLS = 1000  # characters
WRITTEN = ("name", "phone", "skills", "latitude", "longitude", "time_zone", "user_id", "active")  # by the form


def every(session: Session) -> Sequence[Technician]:
    """Return all, those who are active first, by name."""
    return session.scalars(select(Technician).order_by(Technician.active.desc(), Technician.name)).all()


def skills_from(text: str) -> dict[str, int]:
    """Read "linux 3, hardware" as levels by skill; without a number the level is 1. Raises Misconfigured."""
    if len(text) > LONGEST_SKILLS:
        raise Misconfigured(
            "The skills are too long.", advice=f"Write at most {LONGEST_SKILLS} letters, as in: linux 3, hardware 1."
        )
    found: dict[str, int] = {}
    for piece in filter(None, (" ".join(part.split()) for part in re.split(r"[,;\n]", text))):
        bare = piece.rstrip("0123456789")
        name, digits = bare.rstrip(" :").lower(), piece[len(bare) :]
        level = int(digits or 1) if len(digits) <= 2 else 0
        if not name or ":" in name or not 1 <= level <= HIGHEST:
            raise Misconfigured(
                f"{piece!r} is no skill.",
                advice=f"Write a name and a level of 1 to {HIGHEST}: linux 3, hardware 1.",
            )
        found[name] = level
    return found


def place_from(latitude: str, longitude: str) -> tuple[float, float] | None:
    """Read coordinates in degrees; None when both are empty. Raises Misconfigured."""
    if not latitude.strip() and not longitude.strip():
        return None
    try:
        found = float(latitude.replace(",", ".")), float(longitude.replace(",", "."))
    except ValueError:
        found = (91.0, 181.0)
    if not (abs(found[0]) <= 90 and abs(found[1]) <= 180):
        raise Misconfigured(
            "That is no place.", advice="Write latitude and longitude in degrees, like 52.5200 and 13.4050, or neither."
        )
    return found


def save(
    session: Session,
    technician_id: int | None,
    *,
    name: str,
    phone: str,
    skills: dict[str, int],
    place: tuple[float, float] | None,
    time_zone: str,
    user_id: int | None,
    active: bool,
    by: str,
    seen: str = "",
) -> Technician:
    """Add a technician (id None) or change one. Raises Conflict for a name or user that another technician has.

    seen: the digest of the technician as the form showed it; Conflict if somebody has changed it since.
    """
    name = " ".join(name.split())
    if not name or len(name) > 100:
        raise Misconfigured("A technician needs a name.", advice="Write one of at most 100 letters.")
    if time_zone not in available_timezones():
        raise Misconfigured(f"There is no time zone {time_zone!r}.", advice="Write it like Europe/Berlin.")
    found = Technician(name=name) if technician_id is None else _unchanged(session, technician_id, seen)
    others = select(Technician).where(Technician.id != (technician_id or 0))
    if session.scalar(others.where(Technician.name == name)) is not None:
        raise Conflict(f"There is a technician {name} already.", advice="Change that one, or add a second name.")
    if user_id is not None:
        user = session.get(User, user_id)
        if user is None or user.client_id is not None:
            raise Misconfigured("That user is none of our people.", advice="Choose one of the list.")
        taken = session.scalar(others.where(Technician.user_id == user_id))
        if taken is not None:
            raise Conflict(
                f"{user.email} is linked with {taken.name} already.", advice="Take the link away there first."
            )
    found.name, found.phone, found.skills, found.time_zone = name, phone.strip() or None, skills, time_zone
    found.latitude, found.longitude = place if place is not None else (None, None)
    found.user_id, found.active = user_id, active
    session.add(found)
    session.flush()
    data = {"name": name, "user": user_id, "skills": skills, "active": active}
    _tell(session, "technician.saved", ("technician", found.id), data, by)
    return found


def digest(technician: Technician) -> str:
    """Return what tells whether a technician was changed meanwhile."""
    values = [getattr(technician, name) for name in WRITTEN]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]


def _unchanged(session: Session, technician_id: int, seen: str) -> Technician:
    """Return a technician, locked, as it was seen. Raises NotFound or Conflict."""
    get(session, technician_id)
    found = session.scalars(db.locked(select(Technician).where(Technician.id == technician_id))).one()
    if digest(found) != seen:
        raise Conflict(
            "Somebody else has changed this technician meanwhile.",
            advice="Open the technician again in the list, and change what stands there now.",
        )
    return found


def get(session: Session, technician_id: int) -> Technician:
    """Return one. Raises NotFound."""
    found = session.get(Technician, technician_id)
    if found is None:
        raise NotFound("There is no such technician.", advice="Choose one of the list.")
    return found


def shifts_of(session: Session, technician_id: int, since: datetime) -> Sequence[Shift]:
    """Return shifts, on-call time and absences that are not over, in order."""
    query = select(Shift).where(Shift.technician_id == technician_id, Shift.ends_at > since)
    return session.scalars(query.order_by(Shift.starts_at, Shift.id).limit(200)).all()


def add_shifts(
    session: Session,
    technician_id: int,
    begins: datetime,
    ends: datetime,
    *,
    kind: str,
    days: int,
    weekdays: frozenset[int],
    overtime: timedelta,
    by: str,
) -> int:
    """Add a span, and the same hours of the wall clock on the following days; return how many.

    begins, ends: naive, on the technician's clock. days: how many days in a row are looked at, 1 for the span alone.
    weekdays: those of them that count, Monday is 0; the first day always counts. A span that stands already is left.
    """
    technician = get(session, technician_id)
    if kind not in KINDS:
        raise Misconfigured("That is no kind of time.", advice="Choose one of the list.")
    if not begins < ends:
        raise Misconfigured("The span ends before it begins.", advice="Give the earlier time first.")
    if ends - begins > LONGEST or (days > 1 and ends - begins > timedelta(days=1)):
        raise Misconfigured("The span is too long.", advice="A repeated one takes a day at most, a single one a year.")
    if not 1 <= days <= MOST_WEEKS * 7 or not timedelta() <= overtime <= timedelta(hours=8):
        raise Misconfigured(
            "So much cannot be added at once.", advice=f"At most {MOST_WEEKS} weeks, and 8 hours of overtime."
        )
    zone = ZoneInfo(technician.time_zone)
    standing = {(one.starts_at, one.ends_at, one.kind) for one in session.scalars(
        select(Shift).where(Shift.technician_id == technician.id)
    )}  # fmt: skip
    added = 0
    for number in range(days):
        begin, end = begins + timedelta(days=number), ends + timedelta(days=number)
        if number and begin.weekday() not in weekdays:
            continue
        span = begin.replace(tzinfo=zone), end.replace(tzinfo=zone)
        if (*span, kind) in standing or not span[0].timestamp() < span[1].timestamp():
            continue
        session.add(
            Shift(technician_id=technician.id, starts_at=span[0], ends_at=span[1], kind=kind, overtime=overtime)
        )
        added += 1
    session.flush()
    data = {"kind": kind, "from": begins.isoformat(), "to": ends.isoformat(), "added": added}
    _tell(session, "technician.shifts_added", ("technician", technician.id), data, by)
    return added


def remove_shift(session: Session, shift_id: int, *, by: str) -> int:
    """Remove one span and return whose it was. Visits in it stay; the board shows them outside of any shift."""
    found = session.get(Shift, shift_id)
    if found is None:
        raise NotFound("That span is gone already.", advice="Look at the page again.")
    technician, data = found.technician_id, {"kind": found.kind, "from": found.starts_at.isoformat()}
    session.delete(found)
    session.flush()
    _tell(session, "technician.shift_removed", ("technician", technician), data, by)
    return technician


def depot(session: Session) -> Depot | None:
    """Return where the stock lies that is in nobody's van, if somebody has said so."""
    return session.scalar(select(Depot).order_by(Depot.id).limit(1))


def save_depot(session: Session, *, name: str, address: str, place: tuple[float, float] | None, by: str) -> Depot:
    """Say where the depot is. Raises Misconfigured without a name."""
    if not name.strip():
        raise Misconfigured("The depot needs a name.", advice="Write one, like Main depot.")
    found = depot(session) or Depot()
    found.name, found.address = name.strip(), address.strip() or None
    found.latitude, found.longitude = place if place is not None else (None, None)
    session.add(found)
    session.flush()
    _tell(session, "depot.saved", ("depot", found.id), {"name": found.name, "place": place}, by)
    return found


def _tell(session: Session, kind: str, subject: tuple[str, int], data: Mapping[str, object], by: str) -> None:
    evidence.record(session, kind, actor=by, subject=subject, data=data)
    events.record(session, "board", kind)
