"""What became of tickets in a period: each log judged by its own contract, as of the end of the period.

Only what had happened by then counts, so a past month says the same whenever it is asked: also for a ticket that was
judged anew by another version, or given to somebody else, in a later month. Six reads, whatever the number of tickets;
everything else is recomputed from the logs.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import groupby

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from msp.contracts.clocks import Clock
from msp.contracts.models import BillingEntry, Client, ContractVersion
from msp.contracts.spans import Span, to_second
from msp.desk import clock
from msp.desk.attainment import KEPT, LATE, NONE, NOT_COUNTED, RUNNING, Handled, Judgement, Stay
from msp.desk.clock import OVER, Promise
from msp.desk.models import Ticket, TicketEvent

#: (contract version, line of it) by which a ticket is judged
Pin = tuple[int | None, str | None]
WAITING = frozenset({"waiting_client", "waiting_vendor", "scheduled"})


def read(
    session: Session,
    start: datetime,
    end: datetime,
    now: datetime,
    *,
    client_ids: Sequence[int] | None = None,
) -> list[Handled]:
    """Return the tickets that were open at some time from `start` until `end`, by number.

    client_ids: only of these clients; None: of all.
    """
    as_of = min(now, end)
    touched = [Ticket.opened_at < as_of, or_(Ticket.resolved_at.is_(None), Ticket.resolved_at >= start)]
    if client_ids is not None:
        touched.append(Ticket.client_id.in_(client_ids))
    rows = session.execute(
        select(Ticket, Client.name).join(Client, Client.id == Ticket.client_id).where(*touched).order_by(Ticket.id)
    ).all()
    wanted = select(Ticket.contract_version_id).where(*touched)
    versions = {one.id: one for one in session.scalars(select(ContractVersion).where(ContractVersion.id.in_(wanted)))}
    pinned = _pinned_before(session, touched, as_of, versions)
    entries = session.scalars(
        select(TicketEvent)
        .join(Ticket, Ticket.id == TicketEvent.ticket_id)
        .where(*touched, TicketEvent.at < as_of)
        .order_by(TicketEvent.ticket_id, TicketEvent.seq)
    )
    logs = {number: list(log) for number, log in groupby(entries, key=lambda entry: entry.ticket_id)}
    sums = session.execute(
        select(BillingEntry.ticket_id, func.sum(BillingEntry.minutes))
        .where(BillingEntry.worked_at >= start, BillingEntry.worked_at < end, BillingEntry.state != "withdrawn")
        .group_by(BillingEntry.ticket_id)
    )
    worked = {row[0]: int(row[1]) for row in sums}
    promises: dict[Pin, Promise | None] = {}
    found = []
    for ticket, client in rows:
        log = logs.get(ticket.id)
        if not log:
            continue
        pin = pinned.get(ticket.id, (ticket.contract_version_id, ticket.contract_line))
        if pin not in promises:
            promises[pin] = clock.promise_by(session, *pin)
        found.append(_judged(ticket, client, pin, log, promises[pin], as_of, worked.get(ticket.id, 0)))
    versions.clear()  # until here the session found them without asking the database
    return found


def _pinned_before(
    session: Session,
    touched: Sequence[ColumnElement[bool]],
    as_of: datetime,
    versions: dict[int, ContractVersion],
) -> dict[int, Pin]:
    """Return what judged each ticket at `as_of` that was judged anew since: the entry names what was before."""
    entries = session.scalars(
        select(TicketEvent)
        .join(Ticket, Ticket.id == TicketEvent.ticket_id)
        .where(*touched, TicketEvent.kind == "rebased", TicketEvent.at >= as_of)
        .order_by(TicketEvent.ticket_id, TicketEvent.seq)
    )
    first = {number: next(log) for number, log in groupby(entries, key=lambda entry: entry.ticket_id)}
    if not first:
        return {}
    contracts = {version.contract_id for version in versions.values()}
    known = session.scalars(select(ContractVersion).where(ContractVersion.contract_id.in_(contracts)))
    by_number = {(version.contract_id, version.number): version for version in known}
    versions.update((version.id, version) for version in by_number.values())
    now = session.execute(select(Ticket.id, Ticket.contract_version_id).where(Ticket.id.in_(first)))
    return {
        number: (
            by_number[versions[version].contract_id, first[number].data["from_version"]].id,
            first[number].data["from_line"],
        )
        for number, version in now
        if version is not None
    }


def _judged(
    ticket: Ticket,
    client: str,
    pin: Pin,
    log: Sequence[TicketEvent],
    promise: Promise | None,
    as_of: datetime,
    minutes: int,
) -> Handled:
    state, priority, line = clock.folded(log)
    assigned = [entry.data.get("to") for entry in log if entry.kind == "assigned"]
    resolved_at = clock.ended_at(log)
    first = resolution = Judgement(NONE)
    if promise is not None:
        clocks = clock.clocks(promise, log, as_of)
        resolved_at = clocks.resolved_at or (resolved_at if clocks.stopped else None)
        if clocks.counts:
            first, resolution = (_judgement(of, promise, log) for of in (clocks.first_response, clocks.resolution))
        else:
            first = resolution = Judgement(NOT_COUNTED)
    return Handled(
        ticket=ticket.id,
        client_id=ticket.client_id,
        client=client,
        subject=ticket.subject,
        kind=ticket.kind,
        priority=priority,
        line=line,
        state=state,
        technician=assigned[-1] if assigned else None,
        contract_version_id=pin[0],
        contract_line=pin[1],
        opened_at=ticket.opened_at,
        resolved_at=resolved_at,
        first_response=first,
        resolution=resolution,
        stays=tuple(stays(log, promise, as_of)),
        messages=sum(entry.kind == "customer_message" for entry in log),
        minutes=minutes,
        is_open=state not in OVER,
        stars=next((int(entry.data["stars"]) for entry in reversed(log) if entry.kind == "rated"), None),
    )


def _judgement(of: Clock, promise: Promise, log: Sequence[TicketEvent]) -> Judgement:
    took = timedelta(seconds=of.elapsed_s) if of.met_at else None
    if of.goal_s is None:
        return Judgement(NONE, None, took)
    if of.breached:
        return Judgement(LATE, of.due or _due_before_stop(of, promise, log), took)
    return Judgement(KEPT, of.met_at, took) if of.met_at else Judgement(RUNNING)


def _due_before_stop(of: Clock, promise: Promise, log: Sequence[TicketEvent]) -> datetime | None:
    """Return when a clock that is late and stopped now fell due: asked at the instant before it stopped."""
    since = of.stops[-1].since if of.stops else None
    before = [entry for entry in log if since and entry.at < since]
    if not before or since is None:
        return since
    then = clock.clocks(promise, before, since)
    return (then.resolution if of.name == "resolution" else then.first_response).due or since


def stays(log: Sequence[TicketEvent], promise: Promise | None, as_of: datetime) -> list[Stay]:
    """Return where a ticket was, line by line; time counts in covered hours, without waiting for others. Pure."""
    line, began = str(log[0].data.get("line") or "L1"), log[0].at
    waits: list[Span] = []
    waiting: datetime | None = None
    found: list[Stay] = []
    over: datetime | None = None

    def leave(at: datetime, *, solved: bool) -> None:
        held = [*waits, *([(to_second(waiting), to_second(at))] if waiting and waiting < at else [])]
        inside = [(max(a, to_second(began)), b) for a, b in held if b > to_second(began)]
        if promise is not None:
            seconds = promise.covered.elapsed(to_second(began), to_second(at), inside)
        else:
            seconds = to_second(at) - to_second(began) - sum(b - a for a, b in inside)
        found.append(Stay(line, began, at, solved, timedelta(seconds=seconds)))

    for entry in log[1:]:
        if entry.kind == "line":
            if over is None:
                leave(entry.at, solved=False)
            line, began, waits = str(entry.data["to"]), entry.at, []
        elif entry.kind in ("state", "merged_into"):
            to = str(entry.data.get("to", "merged"))
            if to in OVER:
                if over is None:
                    leave(entry.at, solved=to in ("resolved", "closed"))
                over = entry.at
            elif over is not None:
                over, began, waits = None, entry.at, []  # opened again: another stay
            if to in WAITING:
                waiting = waiting or entry.at
            elif waiting:
                waits.append((to_second(waiting), to_second(entry.at)))
                waiting = None
    if over is None:
        leave(as_of, solved=False)
        last = found.pop()
        found.append(Stay(last.line, last.began_at, None, False, last.lasted))
    return found
