"""What needs attention now, over all rooms: the lines that `msp` alone prints and the counters of the queue."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from msp.clock import utc_now
from msp.desk import queue
from msp.dispatch.models import WorkOrder
from msp.flows import credentials, restores
from msp.remote.models import Run
from msp.remote.rotations import STUCK, SecretRotation
from msp.secret_store.age import Policy


@dataclass(frozen=True, slots=True)
class Attention:
    """The figures on top of the technician's queue."""

    tickets: queue.Counters
    runs_in_doubt: int
    runs_awaiting_approval: int
    visits_proposed: int
    unproven: int


def of(
    session: Session,
    client_ids: Sequence[int] | None = None,
    *,
    user_id: int | None = None,
    now: datetime | None = None,
) -> Attention:
    """Return the figures over the clients given (None: all)."""
    now = now or utc_now()

    def runs(state: str) -> int:
        query = select(func.count()).select_from(Run).where(Run.state == state)
        return session.scalar(query if client_ids is None else query.where(Run.client_id.in_(client_ids))) or 0

    visits = select(func.count()).select_from(WorkOrder).where(WorkOrder.state == "proposed")
    if client_ids is not None:
        visits = visits.where(WorkOrder.client_id.in_(client_ids))
    return Attention(
        tickets=queue.counters(session, queue.Filter(client_ids=client_ids), user_id=user_id, now=now),
        runs_in_doubt=runs("in_doubt"),
        runs_awaiting_approval=runs("awaiting_approval"),
        visits_proposed=session.scalar(visits) or 0,
        unproven=sum(1 for state in restores.states(session, now, client_ids=client_ids) if not state.proven),
    )


def lines(session: Session, policy: Policy | None = None) -> list[str]:
    """Return one sentence per thing that waits for somebody, most urgent first. policy: how old secrets may become."""
    found = of(session)
    old = credentials.attention(session, policy or Policy(), utc_now())
    stuck = select(func.count()).select_from(SecretRotation).where(SecretRotation.state == STUCK)
    figures = (
        (found.tickets.breached, "{n} tickets are late: msp ticket list"),
        (found.tickets.breaching_soon, "{n} tickets fall due within the hour: msp ticket list"),
        (found.runs_in_doubt, "{n} runs are in doubt and wait for a decision."),
        (found.runs_awaiting_approval, "{n} runs wait for an approval."),
        (found.visits_proposed, "{n} visits are proposed and not yet planned."),
        (found.unproven, "{n} backup plans are not proven: msp backup plan list"),
        (session.scalar(stuck) or 0, "{n} rotations of secrets are stuck: msp vault rotations"),
        (old, "{n} secrets are too old, or were seen: msp vault list --age"),
        (found.tickets.unassigned, "{n} open tickets have nobody."),
    )
    return [sentence.format(n=number) for number, sentence in figures if number]
