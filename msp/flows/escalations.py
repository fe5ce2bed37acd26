"""Escalation as it happens: whom the rule names is told, again until somebody takes it; a used-up line hands over.

A ticket is looked at when its row says so (`escalate_at`): the clocks set it when something changes by itself, and each
look sets when to look again. A notice is sent through Apprise where `mail_url` is set; else it stands on the page.
Its link is signed and works once.
"""

import hashlib
import hmac
from datetime import datetime, timedelta
from urllib.parse import quote

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp import db, evidence
from msp.clock import utc_now
from msp.contracts.clocks import Clocks
from msp.desk import clock, escalation, roster, tickets
from msp.desk.escalation import Duty, Standing
from msp.desk.models import Ticket
from msp.desk.roster import EscalationNotice
from msp.engine import queues
from msp.errors import Conflict, Misconfigured, NotFound, Unreachable
from msp.people.models import User
from msp.sentences import said
from msp.settings import Settings

ACTOR = "escalation"
HANDLER = "notice.send"
BATCH = 100
GOOD_FOR = timedelta(days=7)  # of a link


def tick(session: Session, now: datetime, settings: Settings) -> int:
    """Look at every ticket whose time has come and return how many; rows that another worker holds are passed over."""
    query = (
        select(Ticket)
        .where(Ticket.escalate_at <= now)
        .order_by(Ticket.escalate_at)
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    )
    found = list(session.scalars(query))
    duties = roster.on_duty(session, now) if found else []
    for ticket in found:
        look(session, ticket, duties, now, settings)
    return len(found)


def look(session: Session, ticket: Ticket, duties: list[Duty], now: datetime, settings: Settings) -> None:
    """Do what the rule says of one ticket now."""
    ticket.escalate_at = None
    promise = clock.promise_of(session, ticket)
    log = tickets.log_of(session, ticket.id)
    if promise is None or not log or not ticket.is_open:
        return
    sent = roster.told(session, ticket.id)
    decision = escalation.decide(standing(ticket, clock.clocks(promise, log, now)), duties, sent, now)
    if decision.move_to and any(duty.holds(decision.move_to, 0, now) for duty in duties):
        used_up = f"The time box of {ticket.line} is used up."
        tickets.hand_over(session, ticket.id, decision.move_to, by=ACTOR, reason=used_up, tried="See above.", now=now)
    level = decision.level or 0
    if decision.tell and not any(notice.level >= level for notice in sent):
        data = {"level": level, "told": list(decision.tell)}
        tickets.append(session, ticket, "escalated", by=ACTOR, text=decision.why, data=data, now=now)
        evidence.record(
            session,
            "ticket.escalated",
            actor=ACTOR,
            subject=("ticket", ticket.id),
            client_id=ticket.client_id,
            data={**data, "why": decision.why},
        )
    for person in decision.tell:
        notice = roster.tell(session, ticket.id, person, level, decision.why, now)
        if settings.mail_url:
            job = f"notice:{notice.id}"
            payload = {"notice_id": notice.id}
            queues.enqueue(session, queues.NOTIFY, HANDLER, payload, job_id=job, client_id=ticket.client_id)
    ticket.escalate_at = decision.again_at


def standing(ticket: Ticket, found: Clocks) -> Standing:
    """Return what the clocks say of a ticket, as the rule reads it."""
    shares = [one.elapsed_s / one.goal_s for one in found.running if one.goal_s]
    return Standing(
        line=found.line,
        share=max(shares, default=0.0),
        taken=ticket.assignee_id is not None,
        paused=found.paused,
        box_over=any(use.line == found.line and use.breached for use in found.ola or ()),
        past_latest_dispatch=found.latest_dispatch_at is not None and found.as_of >= found.latest_dispatch_at,
    )


def token(settings: Settings, notice_id: int) -> str:
    """Return what the link of a notice ends with: its number, signed by the key of this installation."""
    try:
        master = settings.key_path.read_bytes().strip()
    except OSError as error:
        raise Misconfigured(f"The key file {settings.key_path} cannot be read.", advice="Run msp init.") from error
    key = hmac.digest(master, b"msp-toolkit notice links", hashlib.sha256)
    return f"{notice_id}-{hmac.new(key, str(notice_id).encode(), hashlib.sha256).hexdigest()[:40]}"


def by_token(session: Session, settings: Settings, text: str) -> EscalationNotice:
    """Return the notice of a link; raises NotFound for one that is forged or too old."""
    number = text.partition("-")[0]
    usable = number.isdecimal() and len(number) < 16 and text.isascii()
    found = None
    if usable and hmac.compare_digest(token(settings, int(number)), text):
        found = session.get(EscalationNotice, int(number))
    if found is None or utc_now() - found.sent_at > GOOD_FOR:
        raise NotFound("This link leads nowhere.", advice="Log in and look at the ticket.")
    return found


def acknowledge(session: Session, notice: EscalationNotice, *, now: datetime | None = None) -> Ticket:
    """Take what a notice tells of: its level is quiet from now on, and the ticket is its taker's if nobody has it.

    Raises Conflict if it was taken before.
    """
    now = now or utc_now()
    ticket = tickets.get(session, notice.ticket_id, lock=True)
    session.refresh(notice)
    if notice.acknowledged_at is not None:
        raise Conflict("This notice was taken already.", advice="Log in to work on the ticket.")
    user = session.get_one(User, notice.user_id)
    notice.acknowledged_at = now
    if ticket.is_open:
        if ticket.assignee_id is None:
            tickets.assign(session, ticket.id, user, by=user.email, now=now)
        data = {"level": notice.level}
        tickets.append(session, ticket, "escalation_taken", by=user.email, data=data, now=now)
    evidence.record(
        session,
        "notice.acknowledged",
        actor=user.email,
        subject=("ticket", ticket.id),
        client_id=ticket.client_id,
        data={"notice": notice.id, "level": notice.level},
    )
    return ticket


def send(settings: Settings, notice_id: int) -> None:
    """Send one notice through Apprise; raises Unreachable, which is tried again. One that was taken is not sent."""
    import apprise

    with db.read() as session:
        notice = session.get(EscalationNotice, notice_id)
        if notice is None or notice.delivered_at is not None or notice.acknowledged_at is not None:
            return
        ticket, user = session.get_one(Ticket, notice.ticket_id), session.get_one(User, notice.user_id)
        base = settings.public_url.rstrip("/") or f"http://{settings.address}:{settings.port}"
        title = f"#{ticket.id} {ticket.priority}: {said(ticket.subject, user.language)}"
        due = f"Due {ticket.next_due_at:%Y-%m-%d %H:%M} UTC." if ticket.next_due_at else ""
        text = f"Take it: {base}/notices/{token(settings, notice_id)}"
        body = f"{said(f'{notice.why} {due}', user.language)}\n\n{said(text, user.language)}"
        to = user.email
    url = settings.mail_url
    if url.startswith(("mailto:", "mailtos:")):
        url += f"{'&' if '?' in url else '?'}to={quote(to)}"
    way = apprise.Apprise()
    if not way.add(url):
        raise Misconfigured("The setting mail_url is no Apprise URL.", advice="Write it like mailto://user:pw@host.")
    if not way.notify(title=title, body=body):
        raise Unreachable(f"The notice about ticket {ticket.id} could not be sent.", advice="Check mail_url.")
    with db.begin() as session:
        session.get_one(EscalationNotice, notice_id).delivered_at = utc_now()


def gave_up(session: Session, payload: dict[str, object], what: str) -> None:
    """Record that a notice could not be delivered; it still stands on the page."""
    notice = session.get(EscalationNotice, int(str(payload["notice_id"])))
    if notice is not None:
        notice.failed = what
