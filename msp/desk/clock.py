"""The clocks of a stored ticket: recomputed from its log; what the ticket row holds is a cache for lists."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from msp import events, evidence
from msp.contracts import explain, sla
from msp.contracts.agreements import terms_of
from msp.contracts.clocks import Clock, Clocks
from msp.contracts.explain import Why
from msp.contracts.lines import Line
from msp.contracts.models import ContractVersion
from msp.contracts.terms import Terms
from msp.desk.lines import TimeBox
from msp.desk.models import Ticket, TicketEvent

OVER = frozenset({"resolved", "closed", "cancelled", "out_of_scope", "merged"})
BATCH = 200  # tickets whose clocks one tick brings up to date


@dataclass(frozen=True, slots=True)
class Promise:
    """What the pinned contract version promises a ticket, ready for the clock rules."""

    line: Line
    policy: sla.Policy
    covered: sla.CoveredTime
    calendars: Mapping[str, sla.CoveredTime]


@dataclass(frozen=True, slots=True)
class Shown:
    """One clock as a page shows it; durations are covered time. `remaining` is negative when late."""

    name: str
    due_at: datetime | None
    met_at: datetime | None
    breached: bool
    paused: bool
    stopped: str | None
    target: timedelta | None
    used: timedelta
    remaining: timedelta | None

    @property
    def share_used(self) -> float:
        """How much of the target is used up, from 0 to 1."""
        if not self.target:
            return 0.0
        return min(max(self.used / self.target, 0.0), 1.0)


@dataclass(frozen=True, slots=True)
class ClockView:
    """Every clock of one ticket with the reckoning behind it."""

    as_of: datetime
    clause: str
    zone: str
    first_response: Shown
    next_reply: Shown | None
    resolution: Shown
    onsite_arrival: Shown | None
    boxes: tuple[TimeBox, ...]
    latest_dispatch_at: datetime | None
    why: tuple[Why, ...]
    text: str

    @property
    def clocks(self) -> tuple[Shown, ...]:
        """Those there are, in the order of a ticket's life."""
        every = (self.first_response, self.next_reply, self.resolution, self.onsite_arrival)
        return tuple(clock for clock in every if clock is not None)


def line_of(session: Session, ticket: Ticket) -> Line | None:
    """Return the contract line that a ticket was opened on, as it was then; None without one."""
    return _line(session, ticket.contract_version_id, ticket.contract_line)


def _line(session: Session, version_id: int | None, line: str | None) -> Line | None:
    return None if version_id is None or line is None else _terms(session, version_id).line(line)


def _terms(session: Session, version_id: int) -> Terms:
    """Return the terms of a version, read once a session: a list of tickets shares a handful of versions."""
    known: dict[int, Terms] = session.info.setdefault("terms", {})
    if version_id not in known:
        known[version_id] = terms_of(session.get_one(ContractVersion, version_id))
    return known[version_id]


def promise_of(session: Session, ticket: Ticket) -> Promise | None:
    """Return what a ticket was promised; None if its contract promises no times."""
    return promise_by(session, ticket.contract_version_id, ticket.contract_line)


def promise_by(session: Session, version_id: int | None, line: str | None) -> Promise | None:
    """Return what a line of a contract version promises; None without them, or if it promises no times."""
    if version_id is None:
        return None
    return promise_under(_terms(session, version_id), _line(session, version_id, line))


def promise_under(terms: Terms, line: Line | None) -> Promise | None:
    """Return what a line of these terms promises; None if it promises no times."""
    if line is None or not line.policy.get("targets") or line.calendar is None:
        return None
    calendars = {name: sla.read_calendar(document) for name, document in terms.calendars.items()}
    return Promise(line, sla.read_policy(line.policy), calendars[line.calendar], calendars)


def logged(log: Sequence[TicketEvent]) -> list[dict[str, Any]]:
    """Return the log as the clock rules read it."""
    return [{"type": entry.kind, "at": entry.at, **entry.data} for entry in log]


def clocks(promise: Promise, log: Sequence[TicketEvent], now: datetime) -> Clocks:
    """Return every clock as of `now`, which is never before the last entry. Pure over its arguments."""
    return sla.clocks_of(
        logged(log),
        promise.policy,
        promise.covered,
        max(now, log[-1].at),
        calendars=promise.calendars,
        calendar_name=promise.line.calendar or "",
    )


def refresh(session: Session, ticket: Ticket, log: Sequence[TicketEvent], now: datetime) -> Clocks | None:
    """Write what the log says into the ticket's row; a breach that has happened becomes evidence, once."""
    state, priority, line = folded(log)
    ticket.log_version, ticket.state, ticket.priority, ticket.line = log[-1].seq, state, priority, line
    ticket.is_open = state not in OVER
    promise = promise_of(session, ticket)
    if promise is None:
        ticket.resolved_at, ticket.escalate_at = ended_at(log), None
        return None
    found = clocks(promise, log, now)
    if found.breached:
        _tell_breach(session, ticket, found)
    ticket.breached, ticket.paused = found.breached, found.paused
    ticket.first_response_due_at, ticket.resolution_due_at = found.first_response_due, found.resolution_due
    ticket.next_due_at = found.next_due if ticket.is_open else None
    ticket.latest_dispatch_at = found.latest_dispatch_at
    ticket.next_wake_at = found.next_wake if ticket.is_open else None
    ticket.resolved_at = found.resolved_at
    ticket.escalate_at = now if ticket.is_open and at_risk(found) else None
    return found


def at_risk(found: Clocks) -> bool:
    """Return whether somebody may have to be told: half of a target is used up, a time box, or the way is too long."""
    return not found.paused and (
        any(one.goal_s is not None and 2 * one.elapsed_s >= one.goal_s for one in found.running)
        or any(use.line == found.line and use.breached for use in found.ola or ())
        or (found.latest_dispatch_at is not None and found.as_of >= found.latest_dispatch_at)
    )


def folded(log: Sequence[TicketEvent]) -> tuple[str, str, str]:
    """Return (state, priority, line) as the log leaves them."""
    state, priority, line = "open", str(log[0].data.get("priority", "")), str(log[0].data.get("line") or "L1")
    for entry in log:
        match entry.kind:
            case "state":
                state = str(entry.data["to"])
            case "merged_into":
                state = "merged"
            case "priority":
                priority = str(entry.data["to"])
            case "line":
                line = str(entry.data["to"])
    return state, priority, line


def ended_at(log: Sequence[TicketEvent]) -> datetime | None:
    """Return when a ticket ended, None while it is open. What is said of it afterwards does not move that."""
    at: datetime | None = None
    for entry in log:
        if entry.kind in ("state", "merged_into"):
            at = (at or entry.at) if entry.data.get("to", "merged") in OVER else None
    return at


def _tell_breach(session: Session, ticket: Ticket, found: Clocks) -> None:
    """Make evidence of every promise that is broken and was not told before: each once, also after others."""
    every = (found.first_response, found.next_reply, found.resolution, found.onsite_arrival, *found.answered)
    late = list(dict.fromkeys(clock.name for clock in every if clock and clock.breached))
    if ticket.breached:
        told = session.scalars(
            select(evidence.Evidence).where(
                evidence.Evidence.subject_kind == "ticket",
                evidence.Evidence.subject_id == str(ticket.id),
                evidence.Evidence.kind == "ticket.breached",
            )
        )
        known = {name for entry in told for name in entry.data["clocks"]}
        late = [name for name in late if name not in known]
    if late:
        evidence.record(
            session,
            "ticket.breached",
            actor="clock",
            subject=("ticket", ticket.id),
            client_id=ticket.client_id,
            data={"clocks": late, "as_of": found.as_of.isoformat()},
        )


def wake(session: Session, now: datetime) -> int:
    """Bring tickets whose clocks have changed by themselves up to date and return how many there were.

    Rows that another worker holds are passed over. Call it again at once while it returns something.
    """
    query = (
        select(Ticket)
        .where(Ticket.next_wake_at <= now)
        .order_by(Ticket.next_wake_at)
        .limit(BATCH)
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )
    tickets = list(session.scalars(query))
    if not tickets:
        return 0
    logs = logs_of(session, [ticket.id for ticket in tickets])
    for ticket in tickets:
        was_late = ticket.breached
        refresh(session, ticket, logs[ticket.id], now)
        if ticket.next_wake_at is not None and ticket.next_wake_at <= now:
            ticket.next_wake_at = None  # nothing more happens by itself at this instant
        kind = "ticket.breached" if ticket.breached and not was_late else "ticket.clock"
        events.record(session, f"ticket:{ticket.id}", kind, client_id=ticket.client_id)
    return len(tickets)


def logs_of(session: Session, ticket_ids: Sequence[int]) -> dict[int, list[TicketEvent]]:
    """Return the whole logs of some tickets by their numbers, in one read."""
    logs: dict[int, list[TicketEvent]] = {number: [] for number in ticket_ids}
    query = select(TicketEvent).where(TicketEvent.ticket_id.in_(ticket_ids))
    for entry in session.scalars(query.order_by(TicketEvent.ticket_id, TicketEvent.seq)):
        logs[entry.ticket_id].append(entry)
    return logs


def stale(session: Session, now: datetime) -> int:
    """Return how many open tickets carry a cache that differs from their log; 0 unless something is broken."""
    different = 0
    for ticket in session.scalars(select(Ticket).where(or_(Ticket.is_open, Ticket.resolved_at.is_(None)))):
        promise = promise_of(session, ticket)
        if promise is None:
            continue
        log = session.scalars(select(TicketEvent).where(TicketEvent.ticket_id == ticket.id).order_by(TicketEvent.seq))
        found = clocks(promise, list(log), now)
        different += (ticket.resolution_due_at, ticket.paused) != (found.resolution_due, found.paused)
    return different


def view(session: Session, ticket: Ticket, now: datetime) -> ClockView | None:
    """Return everything a page says about the clocks of a ticket; None if its contract promises no times."""
    promise = promise_of(session, ticket)
    if promise is None:
        return None
    query = select(TicketEvent).where(TicketEvent.ticket_id == ticket.id).order_by(TicketEvent.seq)
    found = clocks(promise, list(session.scalars(query)), now)
    return ClockView(
        as_of=found.as_of,
        clause=f"{promise.line.id}. {promise.line.name}",
        zone=str(promise.covered.calendar.zone),
        first_response=_shown(found.first_response),
        next_reply=_shown(found.next_reply) if found.next_reply else None,
        resolution=_shown(found.resolution),
        onsite_arrival=_shown(found.onsite_arrival) if found.onsite_arrival else None,
        boxes=tuple(
            TimeBox(
                use.line,
                timedelta(seconds=use.elapsed_s),
                None if use.limit_s is None else timedelta(seconds=use.limit_s),
            )
            for use in found.ola or ()
        ),
        latest_dispatch_at=found.latest_dispatch_at,
        why=tuple(explain.reasons(found, promise.covered)),
        text=explain.text(found, promise.covered),
    )


def _shown(clock: Clock) -> Shown:
    return Shown(
        name=clock.name,
        due_at=clock.due,
        met_at=clock.met_at,
        breached=clock.breached,
        paused=clock.paused,
        stopped=clock.stopped,
        target=None if clock.goal_s is None else timedelta(seconds=clock.goal_s),
        used=timedelta(seconds=clock.elapsed_s),
        remaining=None if clock.remaining_s is None else timedelta(seconds=clock.remaining_s),
    )
