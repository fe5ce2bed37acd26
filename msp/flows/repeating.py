"""Once more on the hosts where it failed: the same playbook and parameters, the approval while nothing has changed."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp import events, evidence
from msp.clock import utc_now
from msp.desk import tickets
from msp.engine import claims
from msp.errors import Misconfigured, NotFound
from msp.flows import runs
from msp.people.access import Actor
from msp.remote import catalogue
from msp.remote.models import Approval, Run, RunHost


def rerun_failed(session: Session, run_id: int, *, actor: Actor, own: str = "", now: datetime | None = None) -> Run:
    """Ask for the same playbook with the same parameters on the hosts that did not end ok.

    The contract decides anew. An approval that the first run had holds for this one too while it would not have expired
    and nothing has changed: the playbook's text, its parameters, the contract's version and its clause.
    Raises Misconfigured if every host was ok or in doubt: what is in doubt must be resolved first.
    """
    now = now or utc_now()
    run = runs.get(session, run_id, actor)
    doubted = {claim.host_id for claim in claims.in_doubt(session, run_id=run.id)}
    rows = session.scalars(
        select(RunHost).where(RunHost.run_id == run.id, RunHost.outcome.not_in(("ok", "skipped", "refused")))
    )
    asset_ids = [host.asset_id for host in rows if host.asset_id is not None and host.id not in doubted]
    if not asset_ids:
        raise Misconfigured("No host of this run can be run again.", advice="Resolve those in doubt first.")
    again = runs.request_run(
        session,
        playbook=_name_on_file(run, own),
        asset_ids=asset_ids,
        parameters=run.parameters,
        ticket_id=run.ticket_id,
        actor=actor,
        dry_run=run.dry_run,
        own=own,
        now=now,
    )
    if again.state == "awaiting_approval" and (known := _approval(session, run, now)) and _same(run, again):
        _keep(session, again, run, known, now)
    return again


def _approval(session: Session, run: Run, now: datetime) -> Approval | None:
    """Return the approval that a run was released by, if it would still hold."""
    query = select(Approval).where(Approval.run_id == run.id, Approval.decision == "approved")
    known = session.scalar(query.order_by(Approval.id.desc()).limit(1))
    return None if known is None or (known.expires_at is not None and now > known.expires_at) else known


def _same(run: Run, again: Run) -> bool:
    """Return whether nothing that an approver looks at has changed but that there are fewer hosts."""
    alike = ("digest", "parameters", "action_class", "contract_version_id", "dry_run")
    return all(getattr(run, name) == getattr(again, name) for name in alike) and (
        run.decision["clause_id"] == again.decision["clause_id"]
    )


def _keep(session: Session, again: Run, run: Run, known: Approval, now: datetime) -> None:
    """Release the new run by the word that was given for the first one."""
    asked = session.scalars(select(Approval).where(Approval.run_id == again.id)).one()
    asked.decided_at, asked.decided_by, asked.decision = now, known.decided_by, "approved"
    asked.reason = f"Kept from run {run.id}: nothing has changed."
    asked.expires_at = known.expires_at  # a repetition of the repetition gives no further time
    again.state = "queued"
    data = {"playbook": again.playbook, "approval_digest": again.approval_digest, "kept_from": run.id,
            "decided_by": known.decided_by}  # fmt: skip
    evidence.record(session, "run.approved", actor=known.decided_by or "", subject=("run", again.id),
                    client_id=again.client_id, data=data, at=now)  # fmt: skip
    if again.ticket_id is not None:
        ticket = tickets.get(session, again.ticket_id, lock=True)
        text = f"{again.playbook}: the approval of run {run.id} by {known.decided_by} still holds."
        told = {"run": again.id, "state": again.state}
        tickets.append(session, ticket, "approval", by=again.actor, public=True, text=text, data=told, now=now)
    events.record(session, f"run:{again.id}", "run.changed", client_id=again.client_id, data={"state": again.state})
    runs.enqueue(session, again)


def _name_on_file(run: Run, own: str) -> str:
    """Return the file name of the playbook that a run carries by its title."""
    for name, path in catalogue.files(own):
        if catalogue.parse(path.read_bytes(), path, own).playbook.name == run.playbook:
            return name
    raise NotFound(f"The playbook {run.playbook!r} is no longer there.", advice="Put it back, or choose another.")
