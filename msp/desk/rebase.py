"""Judging an open ticket by another version of its contract: an explicit act with a reason (rule R2).

A ticket keeps the version that was in force when it was opened, however often the contract is amended. Re-basing pins
another one: all its clocks are then judged by the new terms from the ticket's creation on, and the log says so. What
the old version promised can still be read: the entry names both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp import evidence
from msp.assets.models import ConfigurationItem
from msp.clock import utc_now
from msp.contracts import agreements, terms
from msp.contracts.lines import Line
from msp.contracts.models import ContractVersion
from msp.desk import clock, tickets
from msp.desk.models import Ticket, TicketEvent
from msp.errors import Conflict, Misconfigured, NotFound


@dataclass(frozen=True, slots=True)
class Preview:
    """What re-basing would do to one ticket. `refused`: why it cannot be done; then nothing else is known."""

    ticket: Ticket
    number: int  # of the version that it is judged by now
    line: str | None
    due_at: datetime | None
    new_due_at: datetime | None
    would_be_late: bool
    refused: str = ""


def open_on_others(session: Session, version: ContractVersion, *, limit: int = 500) -> list[Ticket]:
    """Return the open tickets that are judged by another version of the same contract, nearest due first."""
    others = select(ContractVersion.id).where(
        ContractVersion.contract_id == version.contract_id, ContractVersion.id != version.id
    )
    query = select(Ticket).where(Ticket.is_open, Ticket.contract_version_id.in_(others))
    return list(session.scalars(query.order_by(Ticket.next_due_at.is_(None), Ticket.next_due_at).limit(limit)))


def preview(session: Session, ticket: Ticket, version: ContractVersion, now: datetime) -> Preview:
    """Return what re-basing a ticket would do to its resolution; nothing is changed."""
    known = session.get(ContractVersion, ticket.contract_version_id) if ticket.contract_version_id else None
    number = known.number if known else 0
    log = tickets.log_of(session, ticket.id)
    try:
        line = _line(session, ticket, version)
        _require_targets(line, log)
        promise = clock.promise_under(agreements.terms_of(version), line)
        found = clock.clocks(promise, log, now) if promise and log else None
    except (Misconfigured, Conflict) as error:  # of this one ticket; the others are shown
        return Preview(ticket, number, None, ticket.resolution_due_at, None, False, error.what)
    return Preview(
        ticket,
        number,
        line.name if line else None,
        ticket.resolution_due_at,
        found.resolution_due if found else None,
        bool(found and found.breached),
    )


def rebase(
    session: Session, ticket_id: int, version: ContractVersion, *, by: str, reason: str, now: datetime | None = None
) -> TicketEvent:
    """Judge an open ticket by another version of its contract and return the entry that says so.

    Raises Misconfigured without a reason, or for a version whose line lacks a priority that the ticket has had;
    Conflict if the ticket is over, if it is judged by this version already, or if the version is not yet in force;
    NotFound for a version of another contract.
    """
    now = now or utc_now()
    if not reason.strip():
        raise Misconfigured("Re-basing a ticket needs a reason.", advice="Say who agreed to it, and why.")
    ticket = tickets.get(session, ticket_id, lock=True)
    known = session.get(ContractVersion, ticket.contract_version_id) if ticket.contract_version_id else None
    if known is None or known.contract_id != version.contract_id:
        raise NotFound(
            f"Ticket {ticket.id} was not opened under this contract.", advice="Choose a version of its own contract."
        )
    if not ticket.is_open:
        raise Conflict(f"Ticket {ticket.id} is {ticket.state}.", advice="Only open tickets are judged anew.")
    if known.id == version.id:
        raise Conflict(f"Ticket {ticket.id} is judged by version {version.number} already.", advice="Look at it again.")
    if version.effective_at > now:
        raise Conflict(
            f"Version {version.number} holds only from {version.effective_at:%Y-%m-%d %H:%M} UTC.",
            advice="Re-base the ticket then.",
        )
    line = _line(session, ticket, version)
    _require_targets(line, tickets.log_of(session, ticket.id))
    before = ticket.resolution_due_at
    data = {
        "from_version": known.number,
        "to_version": version.number,
        "from_line": ticket.contract_line,
        "to_line": line.id if line else None,
        "reason": reason.strip(),
    }
    ticket.contract_version_id, ticket.contract_line = version.id, line.id if line else None
    entry = tickets.append(session, ticket, "rebased", by=by, text=reason.strip(), data=data, now=now)
    evidence.record(
        session,
        "ticket.rebased",
        actor=by,
        subject=("ticket", ticket.id),
        client_id=ticket.client_id,
        data={
            **data,
            "old_due_at": before.isoformat() if before else None,
            "new_due_at": ticket.resolution_due_at.isoformat() if ticket.resolution_due_at else None,
        },
    )
    return entry


def _line(session: Session, ticket: Ticket, version: ContractVersion) -> Line | None:
    """Return the line of the new version: the one of the same id, else the one that covers the ticket now."""
    agreed = agreements.terms_of(version)
    if ticket.contract_line and (same := agreed.line(ticket.contract_line)):
        return same
    asset = session.get(ConfigurationItem, ticket.asset_id) if ticket.asset_id else None
    return terms.line_for(
        agreed,
        site=agreements.site_name(session, ticket.site_id or (asset.site_id if asset else None)),
        asset=asset.name if asset else None,
        asset_class=asset.kind if asset else None,
    )


def _require_targets(line: Line | None, log: Sequence[TicketEvent]) -> None:
    """Raise Misconfigured if the ticket has had a priority for which the line promises nothing at all."""
    if line is None or not line.targets:
        return
    had = [str(entry.data.get("priority") or entry.data.get("to")) for entry in log if entry.kind in _PRIORITIES]
    missing = [priority for priority in dict.fromkeys(had) if priority not in line.targets]
    if missing:
        raise Misconfigured(
            f"The new version has no targets for priority {', '.join(missing)}, which the ticket has had.",
            advice="Keep the ticket on its version, or amend the contract once more.",
        )


_PRIORITIES = ("created", "priority")
