"""Tickets: opened, answered, moved, resolved. Every act appends to the log; the cached clocks follow from it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp import db, events, evidence
from msp.assets.models import ConfigurationItem
from msp.clock import utc_now
from msp.contracts import agreements, terms
from msp.contracts.lines import Line
from msp.desk import clock, lines
from msp.desk.models import Ticket, TicketEvent
from msp.errors import Conflict, Misconfigured, NotFound
from msp.people.models import User

KINDS = ("incident", "request", "problem", "change")
CHANNELS = ("email", "portal", "phone_by_agent", "monitoring", "backup", "playbook")
STATES = ("open", "waiting_client", "waiting_vendor", "scheduled", "resolved", "closed", "cancelled")
EARLIEST_EVENT = timedelta(minutes=15)  # a monitoring ticket starts at its event, at most this long before receipt


@dataclass(frozen=True, slots=True)
class Opening:
    """What is known when somebody asks for help. `at`: when it happened, for monitoring; else now.

    nearest: where the contract has no targets for this priority, take the next lower one that it has. For tickets
    that no person opens: they must not fail, because nobody would choose another.
    """

    client_id: int
    subject: str
    priority: str = "P3"
    kind: str = "incident"
    channel: str = "portal"
    text: str = ""
    site_id: int | None = None
    contact_id: int | None = None
    asset_id: int | None = None
    symptom: str | None = None
    dedup_key: str | None = None
    at: datetime | None = None
    nearest: bool = False


def open_ticket(session: Session, opening: Opening, *, by: str, now: datetime | None = None) -> Ticket:
    """Open a ticket on the clock of the client's contract in force, or return the open one of the same dedup key.

    Raises Misconfigured for an unknown kind, channel or priority, NotFound for another client's asset.
    """
    now = now or utc_now()
    check(opening)
    if opening.dedup_key and (known := _open_with(session, opening)):
        return known
    asset = session.get(ConfigurationItem, opening.asset_id) if opening.asset_id else None
    if opening.asset_id and (asset is None or asset.client_id != opening.client_id):
        raise NotFound("This client has no such asset.", advice="Choose one from the list of its assets.")
    started = max(min(opening.at or now, now), now - EARLIEST_EVENT)
    version = agreements.version_in_force(session, opening.client_id, started)
    line = None
    if version is not None:
        line = terms.line_for(
            agreements.terms_of(version),
            site=agreements.site_name(session, opening.site_id or (asset.site_id if asset else None)),
            asset=asset.name if asset else None,
            asset_class=asset.kind if asset else None,
        )
        if opening.nearest:
            opening = replace(opening, priority=_nearest(line, opening.priority))
        _require_priority(line, opening.priority)
    ticket = Ticket(
        client_id=opening.client_id,
        site_id=opening.site_id or (asset.site_id if asset else None),
        contact_id=opening.contact_id,
        asset_id=opening.asset_id,
        contract_version_id=version.id if version else None,
        contract_line=line.id if line else None,
        kind=opening.kind,
        subject=opening.subject.strip(),
        symptom=opening.symptom,
        dedup_key=opening.dedup_key,
        opened_at=started,
        priority=opening.priority,
    )
    session.add(ticket)
    session.flush()
    data = {"priority": opening.priority, "channel": opening.channel}
    append(session, ticket, "created", by=by, public=True, text=opening.text, data=data, at=started, now=now)
    evidence.record(
        session,
        "ticket.opened",
        actor=by,
        subject=("ticket", ticket.id),
        client_id=ticket.client_id,
        data={
            "subject": ticket.subject,
            "priority": ticket.priority,
            "channel": opening.channel,
            "contract_version": ticket.contract_version_id,
            "contract_line": ticket.contract_line,
            "resolution_due_at": ticket.resolution_due_at.isoformat() if ticket.resolution_due_at else None,
        },
    )
    return ticket


def check(opening: Opening) -> None:
    """Raise Misconfigured for an opening that cannot mean what it says."""
    if not opening.subject.strip():
        raise Misconfigured("A ticket needs a subject.", advice="Say in a few words what is wrong.")
    for what, value, known in (("kind", opening.kind, KINDS), ("channel", opening.channel, CHANNELS)):
        if value not in known:
            raise Misconfigured(f"Unknown {what} {value!r}.", advice=f"Known: {', '.join(known)}.")


def _require_priority(line: Line | None, priority: str) -> None:
    """Raise Misconfigured if a line has targets, and none for this priority."""
    targets = line.policy.get("targets") if line else None
    if targets and priority not in targets:
        raise Misconfigured(
            f"The contract has no targets for priority {priority!r}.",
            advice=f"Choose one of {', '.join(sorted(targets))}.",
        )


def _nearest(line: Line | None, priority: str) -> str:
    """Return the priority, or where a line has targets but none for it, the next lower or else the lowest it has."""
    known = sorted(line.targets) if line else []
    if not known or priority in known:
        return priority
    return next((other for other in known if other > priority), known[-1])


def _open_with(session: Session, opening: Opening) -> Ticket | None:
    """Return the open ticket of this key; the key of one that is over is set free for the new one."""
    known = session.scalar(
        select(Ticket).where(Ticket.client_id == opening.client_id, Ticket.dedup_key == opening.dedup_key)
    )
    if known is not None and not known.is_open:
        known.dedup_key = None
        session.flush()
        return None
    return known


def get(session: Session, ticket_id: int, *, lock: bool = False) -> Ticket:
    """Return a ticket; raises NotFound. `lock`: nobody else appends to its log until we commit."""
    query = select(Ticket).where(Ticket.id == ticket_id)
    known = abs(ticket_id) < 2**63  # what the database can hold
    ticket = session.scalar(db.locked(query) if lock else query) if known else None
    if ticket is None:
        raise NotFound(f"There is no ticket {ticket_id}.", advice="Look it up in the list.")
    return ticket


def log_of(session: Session, ticket_id: int) -> list[TicketEvent]:
    """Return the whole log, oldest first."""
    query = select(TicketEvent).where(TicketEvent.ticket_id == ticket_id).order_by(TicketEvent.seq)
    return list(session.scalars(query))


def append(
    session: Session,
    ticket: Ticket,
    kind: str,
    *,
    by: str,
    public: bool = False,
    text: str = "",
    data: Mapping[str, Any] | None = None,
    at: datetime | None = None,
    now: datetime | None = None,
) -> TicketEvent:
    """Append to the log and bring the cached clocks up to date. An instant before the last entry becomes that one's."""
    now = now or utc_now()
    log = log_of(session, ticket.id)
    when = max(at or now, log[-1].at) if log else (at or now)
    entry = TicketEvent(
        ticket_id=ticket.id,
        seq=len(log) + 1,
        at=when,
        kind=kind,
        actor=by,
        public=public,
        text=text,
        data=dict(data or {}),
    )
    session.add(entry)
    session.flush()
    clock.refresh(session, ticket, [*log, entry], now)
    events.record(
        session,
        f"ticket:{ticket.id}",
        "ticket.changed",
        client_id=ticket.client_id,
        data={"kind": kind, "public": public},
    )
    return entry


def reply(session: Session, ticket_id: int, text: str, *, by: str, now: datetime | None = None) -> TicketEvent:
    """Answer the client publicly; it meets first response and next reply."""
    ticket = _writable(session, ticket_id, text)
    return append(session, ticket, "agent_reply", by=by, public=True, text=text, now=now)


def note(session: Session, ticket_id: int, text: str, *, by: str, now: datetime | None = None) -> TicketEvent:
    """Leave a note that the client does not see; it meets no target."""
    ticket = _writable(session, ticket_id, text)
    return append(session, ticket, "agent_reply", by=by, text=text, data={"internal": True}, now=now)


def client_message(session: Session, ticket_id: int, text: str, *, by: str, now: datetime | None = None) -> TicketEvent:
    """Record what the client wrote. It reopens a ticket that waits for the client or was resolved."""
    ticket = _writable(session, ticket_id, text)
    entry = append(session, ticket, "customer_message", by=by, public=True, text=text, now=now)
    if ticket.state in ("waiting_client", "resolved"):
        append(session, ticket, "state", by=by, public=True, data={"to": "open"}, now=now)
    return entry


def rate(
    session: Session, ticket_id: int, stars: int, *, by: str, text: str = "", now: datetime | None = None
) -> TicketEvent:
    """Record what the client thinks of the work, from 1 to 5 stars; a later opinion replaces an earlier one.

    Raises Misconfigured for another number, Conflict for a ticket that is not solved.
    """
    if not 1 <= stars <= 5:
        raise Misconfigured(f"A rating of {stars} stars cannot be.", advice="Choose one to five.")
    ticket = get(session, ticket_id, lock=True)
    if ticket.state not in ("resolved", "closed"):
        raise Conflict(f"Ticket {ticket.id} is {ticket.state}.", advice="Rate it once it is solved.")
    return append(session, ticket, "rated", by=by, public=True, text=text, data={"stars": stars}, now=now)


def _writable(session: Session, ticket_id: int, text: str) -> Ticket:
    ticket = get(session, ticket_id, lock=True)
    if not text.strip():
        raise Misconfigured("The message is empty.", advice="Write something.")
    if ticket.state in ("closed", "merged", "cancelled"):
        raise Conflict(f"Ticket {ticket.id} is {ticket.state}.", advice="Open a new one that names this.")
    return ticket


def move(
    session: Session, ticket_id: int, to: str, *, by: str, text: str = "", now: datetime | None = None
) -> TicketEvent:
    """Change the state. Raises Misconfigured for an unknown one; moving to the present state is a Conflict."""
    if to not in STATES:
        raise Misconfigured(f"There is no ticket state {to!r}.", advice=f"Known: {', '.join(STATES)}.")
    ticket = get(session, ticket_id, lock=True)
    if ticket.state == to:
        raise Conflict(f"Ticket {ticket.id} is {to} already.", advice="Look at it again.")
    if ticket.state == "merged":
        raise Conflict(f"Ticket {ticket.id} was merged.", advice="Work on the ticket it was merged into.")
    entry = append(session, ticket, "state", by=by, public=True, text=text, data={"to": to}, now=now)
    if to in clock.OVER:
        evidence.record(
            session,
            f"ticket.{to}",
            actor=by,
            subject=("ticket", ticket.id),
            client_id=ticket.client_id,
            data={"breached": ticket.breached},
        )
    return entry


def merge(session: Session, ticket_id: int, into: int, *, by: str, now: datetime | None = None) -> TicketEvent:
    """Merge a ticket into another of the same client, which takes its creation and first human answer (rule R8).

    Raises NotFound for a ticket of another client, Conflict if one of the two is over, Misconfigured for one ticket.
    """
    if ticket_id == into:
        raise Misconfigured("A ticket cannot be merged into itself.", advice="Name the ticket that goes on.")
    first, second = sorted((ticket_id, into))  # one order everywhere, so that two merges cannot deadlock
    found = {number: get(session, number, lock=True) for number in (first, second)}
    child, parent = found[ticket_id], found[into]
    if child.client_id != parent.client_id:
        raise NotFound(f"This client has no ticket {into}.", advice="Merge tickets of one client.")
    for ticket in (child, parent):
        if not ticket.is_open:
            raise Conflict(f"Ticket {ticket.id} is {ticket.state}.", advice="Merge tickets that are open.")
    now = now or utc_now()
    log = log_of(session, child.id)
    inherited = [entry.data for entry in log if entry.kind == "merged_from"]
    answers = [entry.at.isoformat() for entry in log if _is_answer(entry)]
    answers += [data["first_reply"] for data in inherited if "first_reply" in data]
    created = min([log[0].at.isoformat(), *(data["created"] for data in inherited)])
    data = {"from": child.id, "created": created} | ({"first_reply": min(answers)} if answers else {})
    at = max(now, log[-1].at)
    append(session, child, "merged_into", by=by, public=True, data={"ticket": parent.id}, at=at, now=now)
    entry = append(session, parent, "merged_from", by=by, public=True, data=data, at=at, now=now)
    subject = ("ticket", child.id)
    evidence.record(
        session, "ticket.merged", actor=by, subject=subject, client_id=child.client_id, data={"into": parent.id}
    )
    return entry


def _is_answer(entry: TicketEvent) -> bool:
    """Whether an entry is a human answer to the client (rule R3)."""
    if entry.kind == "created":
        return bool(entry.data.get("channel") == "phone_by_agent")
    return entry.kind == "call_by_agent" or (entry.kind == "agent_reply" and not entry.data.get("internal"))


def set_priority(session: Session, ticket_id: int, to: str, *, by: str, now: datetime | None = None) -> TicketEvent:
    """Change the priority; the due time moves by rule R6 and pauses are kept."""
    ticket = get(session, ticket_id, lock=True)
    if ticket.priority == to:
        raise Conflict(f"Ticket {ticket.id} has priority {to} already.", advice="Look at it again.")
    line = clock.line_of(session, ticket)
    if line is not None and to not in line.targets:
        raise Misconfigured(
            f"The contract has no targets for priority {to}.",
            advice=f"Choose one of {', '.join(sorted(line.targets))}.",
        )
    return append(session, ticket, "priority", by=by, public=True, data={"to": to}, now=now)


def hand_over(
    session: Session, ticket_id: int, to: str, *, by: str, reason: str, tried: str, now: datetime | None = None
) -> TicketEvent:
    """Move to another support line. The next line must be told why, and what was tried."""
    lines.require(to)
    if not reason.strip() or not tried.strip():
        raise Misconfigured("A handover needs a reason and what was tried.", advice="Write both; one sentence each.")
    ticket = get(session, ticket_id, lock=True)
    if ticket.line == to:
        raise Conflict(f"Ticket {ticket.id} is on {to} already.", advice="Look at it again.")
    text = f"{reason.strip()}\n{tried.strip()}"
    return append(session, ticket, "line", by=by, text=text, data={"to": to, "reason": reason, "tried": tried}, now=now)


def assign(session: Session, ticket_id: int, user: User | None, *, by: str, now: datetime | None = None) -> TicketEvent:
    """Give the ticket to a member of staff, or to nobody."""
    if user is not None and user.client_id is not None:
        raise Misconfigured(f"{user.name} is not staff.", advice="Choose a technician.")
    ticket = get(session, ticket_id, lock=True)
    ticket.assignee_id = user.id if user else None
    return append(session, ticket, "assigned", by=by, data={"to": user.name if user else None}, now=now)
