"""What technicians do on site, sent by a phone that may have been off-line: each act counts exactly once.

The phone makes the id of every act. An act that comes again gets the answer it got before. An act that no longer fits
what the dispatchers did meanwhile changes nothing and comes back with both versions; the technician decides.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from msp import db, evidence
from msp.desk import tickets
from msp.dispatch import kit, visits
from msp.dispatch.models import Appointment, FieldAction, Technician, VisitPicture, WorkOrder
from msp.errors import Conflict, Misconfigured, MspError, NotFound, Refused
from msp.flows import visits as carried

STEPS = ("on_the_way", "working", "done")
BIGGEST = 8 * 1024 * 1024  # bytes of one picture
LONGEST = 4000  # characters of one text
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
PICTURES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png"}


@dataclass(frozen=True, slots=True)
class Act:
    """One act of a technician. base: the version of the visit that the phone had seen."""

    id: str
    visit: int
    kind: str
    at: datetime
    base: int
    data: Mapping[str, Any]


def technician_of(session: Session, user_id: int | None) -> Technician:
    """Return the technician who this user is; raises Refused for anybody else."""
    found = session.scalar(select(Technician).where(Technician.user_id == user_id)) if user_id is not None else None
    if found is None:
        raise Refused("You are not a technician.", advice="Ask your dispatcher to link your log-in with a technician.")
    return found


def receive(session: Session, act: Act, *, technician: Technician, by: str, now: datetime) -> dict[str, Any]:
    """Apply one act, or return the answer it got before.

    Returns {"state": "applied" or "conflict", "version", "words", "mine", "theirs"}; the last two with a conflict.
    Raises Misconfigured for an act that cannot be meant, NotFound for a visit that never was this technician's.
    """
    if not ID.fullmatch(act.id):
        raise Misconfigured("The act has no id.", advice="Load the page again.")
    visit = session.scalar(db.locked(select(Appointment).where(Appointment.id == act.visit)))
    known = session.get(FieldAction, act.id)
    if known is not None:
        if known.actor != by:
            raise Misconfigured("The id of this act is taken.", advice="Load the page again.")
        return dict(known.answer)
    apply = KINDS.get(act.kind)
    if visit is None or apply is None:
        raise NotFound("There is no such visit or act.", advice="Load the page again.")
    at = min(act.at, now)
    row = FieldAction(
        id=act.id, appointment_id=visit.id, kind=act.kind, state="applied", actor=by, at=at, received_at=now,
        base=act.base, data={}, answer={},
    )  # fmt: skip
    try:
        with session.begin_nested():
            if visit.technician_id != technician.id:
                raise Conflict("The visit is somebody else's now.", advice="Call the dispatcher.")
            if act.kind in STEPS and visit.version != act.base + own_steps(session, visit.id, act.base):
                raise Conflict("The visit was changed meanwhile.", advice="Look at both and decide.")
            session.add(row)
            session.flush()
            row.data = apply(session, visit, act, technician, by, at)
        row.answer = {"state": "applied", "version": visit.version, "words": ""}
    except Conflict as error:
        session.refresh(visit)
        row = FieldAction(
            id=act.id, appointment_id=visit.id, kind=act.kind, state="conflict", actor=by, at=at, received_at=now,
            base=act.base, data={}, answer={},
        )  # fmt: skip
        row.answer = _both(session, visit, act, error)
        session.add(row)
    session.flush()
    return dict(row.answer)


def own_steps(session: Session, visit_id: int, base: int) -> int:
    """Return how many steps, made by a phone that had seen version `base`, have grown the version since."""
    query = select(func.count()).select_from(FieldAction)
    query = query.where(
        FieldAction.appointment_id == visit_id,
        FieldAction.base == base,
        FieldAction.state == "applied",
        FieldAction.kind.in_(STEPS),
    )
    return int(session.scalar(query) or 0)


def _both(session: Session, visit: Appointment, act: Act, error: MspError) -> dict[str, Any]:
    other = session.get_one(Technician, visit.technician_id)
    theirs = {"state": visit.state, "technician": other.name, "starts_at": visit.starts_at.isoformat()}
    mine = {"kind": act.kind, "at": act.at.isoformat()}
    words = f"{error.what} {error.advice}".strip()
    return {"state": "conflict", "version": visit.version, "words": words, "mine": mine, "theirs": theirs}


def _step(
    session: Session, visit: Appointment, act: Act, technician: Technician, by: str, at: datetime
) -> dict[str, Any]:
    when = max(at, visit.changed_at or at)
    if act.kind == "done" and acts_of(session, visit.id, "part"):
        visits.give_back(session, visit)  # what was used is off the shelf already; the rest is free again
    carried.carry_on(session, visit.id, act.kind, by=by, now=when, expected_version=visit.version)
    return {}


def _check(
    session: Session, visit: Appointment, act: Act, technician: Technician, by: str, at: datetime
) -> dict[str, Any]:
    lines = session.get_one(WorkOrder, visit.work_order_id).checklist
    number = act.data.get("line")
    if not isinstance(number, int) or not 0 <= number < len(lines):
        raise Misconfigured("The checklist has no such line.", advice="Load the page again.")
    return {"line": number, "done": bool(act.data.get("done"))}


def _photo(
    session: Session, visit: Appointment, act: Act, technician: Technician, by: str, at: datetime
) -> dict[str, Any]:
    kind = "before" if act.data.get("when") == "before" else "after"
    digest = keep(session, visit, act.id, kind, act.data.get("picture"))
    _record(session, "visit.photographed", visit, by, at, {"when": kind, "sha256": digest})
    return {"when": kind, "sha256": digest}


def keep(session: Session, visit: Appointment, act_id: str, kind: str, text: object) -> str:
    """Store a picture given as base64 and return its SHA-256. Raises Misconfigured for anything but JPEG and PNG."""
    try:
        content = base64.b64decode(str(text or ""), validate=True)
    except (binascii.Error, ValueError):
        content = b""
    mime = next((name for magic, name in PICTURES.items() if content.startswith(magic)), None)
    if mime is None or len(content) > BIGGEST:
        raise Misconfigured("That is no picture.", advice="Send JPEG or PNG of at most 8 MB.")
    digest = hashlib.sha256(content).hexdigest()
    session.add(
        VisitPicture(action_id=act_id, appointment_id=visit.id, kind=kind, mime=mime, content=content, sha256=digest)
    )
    return digest


def _part(
    session: Session, visit: Appointment, act: Act, technician: Technician, by: str, at: datetime
) -> dict[str, Any]:
    sku, quantity = str(act.data.get("sku", "")).strip()[:100], act.data.get("quantity")
    if not isinstance(quantity, int):
        raise Misconfigured("How many were used?", advice="Give a whole number.")
    try:
        kit.use(session, kit.by_sku(session, sku), quantity, visit, by=by, technician=technician)
    except NotFound as error:
        raise Conflict(error.what, advice="Scan it again, or note it in words.") from error
    return {"sku": sku, "quantity": quantity}


def _time(
    session: Session, visit: Appointment, act: Act, technician: Technician, by: str, at: datetime
) -> dict[str, Any]:
    minutes = act.data.get("minutes")
    if not isinstance(minutes, int) or not 0 <= minutes <= 24 * 60:
        raise Misconfigured("How long did it take?", advice="Give minutes, at most a day.")
    note = _text(act.data.get("note"))
    _record(session, "visit.timed", visit, by, at, {"minutes": minutes, "note": note})
    return {"minutes": minutes, "note": note}


def _sign(
    session: Session, visit: Appointment, act: Act, technician: Technician, by: str, at: datetime
) -> dict[str, Any]:
    document, name = str(act.data.get("document", ""))[:100_000], _text(act.data.get("name"))
    digest = hashlib.sha256(document.encode()).hexdigest()
    if not name or not document or act.data.get("sha256") != digest:
        raise Misconfigured("What was signed does not match its hash.", advice="Let it be signed again.")
    picture = keep(session, visit, act.id, "signature", act.data.get("picture"))
    _record(session, "visit.signed", visit, by, at, {"name": name, "signed_sha256": digest, "picture_sha256": picture})
    return {"name": name, "document": document, "sha256": digest}


def _leftover(
    session: Session, visit: Appointment, act: Act, technician: Technician, by: str, at: datetime
) -> dict[str, Any]:
    text = _text(act.data.get("text"))
    if not text:
        raise Misconfigured("What is left to do?", advice="Say it in a sentence.")
    order = session.get_one(WorkOrder, visit.work_order_id)
    minutes = act.data.get("minutes")
    lasts = timedelta(minutes=minutes) if isinstance(minutes, int) and 0 < minutes <= 24 * 60 else order.duration
    follow = visits.propose(
        session, client_id=order.client_id, site_id=order.site_id, ticket_id=order.ticket_id,
        summary=f"{order.summary}: the rest", reason=text, skills=order.skills, duration=lasts, due_at=order.due_at,
        checklist=[{"text": text}], now=max(at, visit.changed_at or at), by=by,
    )  # fmt: skip
    if order.ticket_id is not None:
        ticket = tickets.get(session, order.ticket_id, lock=True)
        data = {"work_order": follow.id, "after": order.id}
        tickets.append(session, ticket, "visit", by=by, public=True, text=f"Left to do: {text}", data=data, now=at)
    return {"text": text, "work_order": follow.id}


KINDS: dict[str, Callable[[Session, Appointment, Act, Technician, str, datetime], dict[str, Any]]] = {
    **dict.fromkeys(STEPS, _step),
    "check": _check,
    "photo": _photo,
    "part": _part,
    "time": _time,
    "sign": _sign,
    "leftover": _leftover,
}


def _text(value: object) -> str:
    return str(value or "").replace("\x00", "").strip()[:LONGEST]


def _record(session: Session, kind: str, visit: Appointment, by: str, at: datetime, data: Mapping[str, Any]) -> None:
    order = session.get_one(WorkOrder, visit.work_order_id)
    subject = ("work_order", order.id)
    evidence.record(session, kind, actor=by, subject=subject, client_id=order.client_id, data=data, at=at)


def acts_of(session: Session, visit_id: int, kind: str | None = None) -> list[FieldAction]:
    """Return what was done on a visit, in the order in which it was done."""
    query = select(FieldAction).where(FieldAction.appointment_id == visit_id, FieldAction.state == "applied")
    if kind is not None:
        query = query.where(FieldAction.kind == kind)
    return list(session.scalars(query.order_by(FieldAction.at, FieldAction.received_at, FieldAction.id)))
