"""The client's word: an approval releases exactly the run it was asked for, a decline ends it, time voids it."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp import db, events, evidence
from msp.clock import utc_now
from msp.contracts.clauses import approval_void
from msp.desk import tickets
from msp.errors import Conflict, MspError, NotFound, Refused
from msp.flows import runs
from msp.people.access import Actor, may
from msp.remote import catalogue
from msp.remote.models import Approval, Run, RunHost

#: What a clause calls an approver -> the right that such a person has.
RIGHTS = {"client_approver": "portal.approve", "account_manager": "contract.edit", "provider": "contract.edit"}


def approve(session: Session, run_id: int, *, actor: Actor, own: str = "", now: datetime | None = None) -> Run:
    """Release a run that waits; it is queued in the same transaction. `own`: the setting `playbooks`.

    Raises NotFound if the actor may not see it, Refused if the actor may not decide or the run is not what was
    shown, Conflict if somebody decided first or the approval has expired (the run then ends as expired).
    """
    now = now or utc_now()
    run, asked = _open(session, run_id, actor)
    if asked.expires_at is not None and now > asked.expires_at:
        raise Conflict(
            f"The approval of run {run.id} expired at {asked.expires_at:%Y-%m-%d %H:%M} UTC.",
            advice="Ask for the run again.",
        )
    if altered(session, run, asked.digest, own):
        raise Refused(f"Run {run.id} is not what the approval was asked for.", advice="Ask for the run again.")
    asked.decided_at, asked.decided_by, asked.decision = now, actor.name, "approved"
    run.state = "queued"
    _tell(session, run, "run.approved", actor, f"{run.playbook}: approved by {actor.name}.", now)
    runs.enqueue(session, run)
    return run


def altered(session: Session, run: Run, asked: str | None, own: str = "") -> bool:
    """Return whether a run is no longer what was digested as `asked`: its text, parameters and hosts as stored, and the
    playbooks it includes and the files beside them as they are now. `own`: the setting `playbooks`."""
    if asked is None:
        return False
    try:
        whole = catalogue.digest_of(run.document, run.parameters, own)
    except MspError:  # something of it is no longer there, or cannot be read
        return True
    return differs(session, run, asked, whole)


def differs(session: Session, run: Run, asked: str | None, whole: str) -> bool:
    """Return whether a playbook digested as `whole`, on the hosts of a run, is not what was digested as `asked`."""
    hosts = session.scalars(select(RunHost.name).where(RunHost.run_id == run.id))
    return asked is not None and approval_void(asked, whole, run.parameters, hosts)


def decline(session: Session, run_id: int, *, actor: Actor, reason: str, now: datetime | None = None) -> Run:
    """End a run that waits. Raises as approve does."""
    now = now or utc_now()
    run, asked = _open(session, run_id, actor)
    asked.decided_at, asked.decided_by, asked.decision, asked.reason = now, actor.name, "declined", reason.strip()
    _end(session, run, "cancelled", now)
    said = f" {reason.strip()}" if reason.strip() else ""
    _tell(session, run, "run.declined", actor, f"{run.playbook}: declined by {actor.name}.{said}", now)
    return run


def waiting(session: Session, actor: Actor) -> list[tuple[Run, Approval]]:
    """Return what waits for this actor's word, oldest first."""
    query = (
        select(Run, Approval)
        .join(Approval, Approval.run_id == Run.id)
        .where(Run.state == "awaiting_approval", Approval.decided_at.is_(None))
        .order_by(Approval.requested_at)
    )
    return [
        (run, asked)
        for run, asked in session.execute(query)
        if may(actor, RIGHTS.get(asked.rule, "portal.approve"), run.client_id)
    ]


def expire(session: Session, now: datetime) -> int:
    """End the runs whose approval came too late and return how many; a tick calls it."""
    query = (
        select(Run, Approval)
        .join(Approval, Approval.run_id == Run.id)
        .where(Run.state == "awaiting_approval", Approval.decided_at.is_(None), Approval.expires_at < now)
        .limit(100)
        .with_for_update(skip_locked=True)
    )
    ended = list(session.execute(query))
    for run, asked in ended:
        asked.decided_at, asked.decided_by, asked.decision = now, "clock", "declined"
        _end(session, run, "expired", now)
        nobody = Actor("clock", frozenset())
        _tell(session, run, "run.expired", nobody, f"{run.playbook}: nobody approved it in time.", now)
    return len(ended)


def _open(session: Session, run_id: int, actor: Actor) -> tuple[Run, Approval]:
    run = session.scalar(db.locked(select(Run).where(Run.id == run_id)))
    if run is None or run.client_id is None or not actor.sees(run.client_id):
        raise NotFound(f"There is no run {run_id}.", advice="Look it up in the list.")
    asked = session.scalar(select(Approval).where(Approval.run_id == run.id).order_by(Approval.id.desc()).limit(1))
    if asked is None or asked.decided_at is not None or run.state != "awaiting_approval":
        who = f" by {asked.decided_by}" if asked and asked.decided_by else ""
        raise Conflict(f"Run {run.id} no longer waits for an approval; it was decided{who}.", advice="Look at the run.")
    if not may(actor, RIGHTS.get(asked.rule, "portal.approve"), run.client_id):
        raise Refused(f"Run {run.id} is for {asked.rule} to decide.", advice="Ask that person.")
    return run, asked


def _end(session: Session, run: Run, state: str, now: datetime) -> None:
    run.state, run.finished_at = state, now
    for host in session.scalars(select(RunHost).where(RunHost.run_id == run.id, RunHost.outcome.is_(None))):
        host.state, host.outcome, host.finished_at = "finished", "not_started", now


def _tell(session: Session, run: Run, kind: str, actor: Actor, text: str, now: datetime) -> None:
    evidence.record(
        session,
        kind,
        actor=actor.name,
        subject=("run", run.id),
        client_id=run.client_id,
        data={"playbook": run.playbook, "approval_digest": run.approval_digest, "clause": run.decision["clause_id"]},
        at=now,
    )
    if run.ticket_id is not None:
        ticket = tickets.get(session, run.ticket_id, lock=True)
        data = {"run": run.id, "state": run.state, "clause": run.decision["clause_id"]}
        tickets.append(session, ticket, "approval", by=actor.name, public=True, text=text, data=data, now=now)
    events.record(session, f"run:{run.id}", "run.changed", client_id=run.client_id, data={"state": run.state})
