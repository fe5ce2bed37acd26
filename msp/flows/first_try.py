"""What a ticket's page advises: try the playbook that helps with its symptom, or send somebody, with the figures."""

from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp.assets.models import ConfigurationItem
from msp.desk.models import Ticket
from msp.dispatch.models import WorkOrder
from msp.dispatch.remote_or_drive import Advice, Record, decide
from msp.remote.models import Run, RunHost

LATELY = 200  # runs that the figures come from
GUESS = timedelta(minutes=10)  # how long a playbook takes that never ran


def record_of(session: Session, playbook: str, symptom: str | None, kind: str | None) -> Record:
    """Return how a playbook did on tickets with this symptom and items of this class, over its last runs.

    A run in doubt and one that was refused tell nothing; every host counts as one try.
    """
    query = (
        select(RunHost.outcome, Run.started_at, Run.finished_at)
        .join(Run, Run.id == RunHost.run_id)
        .join(ConfigurationItem, ConfigurationItem.id == RunHost.asset_id)
        .where(Run.playbook == playbook, Run.dry_run.is_(False), RunHost.outcome.in_(("ok", "failed", "timeout")))
    )
    if symptom:
        query = query.join(Ticket, Ticket.id == Run.ticket_id).where(Ticket.symptom == symptom)
    if kind:
        query = query.where(ConfigurationItem.kind == kind)
    rows = session.execute(query.order_by(Run.id.desc()).limit(LATELY)).all()
    spans = sorted(ended - begun for _, begun, ended in rows if begun and ended)
    takes = spans[len(spans) // 2] if spans else GUESS
    return Record(playbook, sum(outcome == "ok" for outcome, _, _ in rows), len(rows), takes)


def advise(session: Session, ticket: Ticket, playbook: str, now: datetime) -> Advice:
    """Return what to do first on a ticket that `playbook` may help with."""
    item = session.get(ConfigurationItem, ticket.asset_id) if ticket.asset_id else None
    orders = select(WorkOrder.latest_dispatch_at).where(
        WorkOrder.ticket_id == ticket.id, WorkOrder.state.not_in(("done", "cancelled"))
    )
    known = [at for at in session.scalars(orders) if at is not None]
    leave_by = min(known, default=ticket.latest_dispatch_at)
    record = record_of(session, playbook, ticket.symptom, item.kind if item else None)
    return decide(record, now, due_at=ticket.resolution_due_at, leave_by=leave_by)
