"""Who hears of a run that has ended: its ticket, the client's bill, the dispatcher when it failed."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp import evidence
from msp.assets.models import ConfigurationItem
from msp.contracts import agreements, entries
from msp.contracts.models import BillingEntry
from msp.desk import tickets
from msp.engine import crashpoints
from msp.flows import visits, worked
from msp.remote import catalogue
from msp.remote.models import EndedHost, Run, StepResult

WORDS = {
    "succeeded": "done, and proven by its checks",
    "failed": "failed",
    "in_doubt": "in doubt: what happened on a host is not known, and a person must decide",
    "cancelled": "cancelled",
    "refused": "refused by the contract",
}


def tell(session: Session, run: Run, hosts: Sequence[EndedHost], proof: evidence.Evidence, now: datetime) -> None:
    """Tell of a run in the transaction that ends it. proof: the evidence of its end."""
    _tell_changed_keys(session, run, hosts, now)
    if run.ticket_id is not None:
        _follow(session, run, hosts, proof, now)


def _tell_changed_keys(session: Session, run: Run, hosts: Sequence[EndedHost], now: datetime) -> None:
    """A host that shows another key than the pinned one is an incident of its own, whatever the run was for."""
    for host in hosts:
        if host.outcome != "host_key_changed" or run.client_id is None:
            continue
        opening = tickets.Opening(
            client_id=run.client_id,
            subject=f"{host.name} shows another host key than the pinned one",
            priority="P2",
            channel="monitoring",
            text=f"{host.detail} Nothing was sent. Find out why before anybody pins the new key.",
            asset_id=host.asset_id,
            symptom="host_key_changed",
            dedup_key=f"host_key:{host.asset_id}",
            nearest=True,
        )
        ticket = tickets.open_ticket(session, opening, by="worker", now=now)
        evidence.record(
            session,
            "host_key.refused",
            actor="worker",
            subject=("asset", host.asset_id),
            client_id=run.client_id,
            data={"run": run.id, "detail": host.detail, "ticket": ticket.id},
            at=now,
        )


def _follow(session: Session, run: Run, hosts: Sequence[EndedHost], proof: evidence.Evidence, now: datetime) -> None:
    counts = Counter(str(host.outcome) for host in hosts)
    told = ", ".join(f"{number} {kind}" for kind, number in sorted(counts.items()))
    ticket = tickets.get(session, run.ticket_id or 0, lock=True)
    names = ", ".join(host.name for host in hosts[:5]) + (" ..." if len(hosts) > 5 else "")
    text = f"{run.playbook} on {names}: {WORDS[run.state]} ({told})."
    data = {"run": run.id, "state": run.state, "evidence": proof.id}
    tickets.append(session, ticket, "playbook_run", by="worker", public=True, text=text, data=data, now=now)
    if run.dry_run:
        return
    _bill(session, run, hosts, proof, now)
    if run.state == "succeeded" and ticket.is_open and _heals(run, ticket.symptom):
        said = f"{run.playbook} has mended it, and its check proves it."
        tickets.move(session, ticket.id, "resolved", by="worker", text=said, now=now)
    elif run.state == "failed" and (reason := _reason(run, hosts)):
        crashpoints.at("visit.due")
        visits.propose_for_run(session, run, reason=reason, now=now)
        crashpoints.at("visit.proposed")


def _heals(run: Run, symptom: str | None) -> bool:
    """Return whether the playbook says that it mends this symptom; one that only reads mends nothing."""
    return (
        run.action_class != "read" and symptom is not None and symptom in catalogue.kept(run.document).playbook.symptoms
    )


def _reason(run: Run, hosts: Sequence[EndedHost]) -> str | None:
    """Return why somebody should go there; None where hosts were only refused: going there would not change that."""
    worst = next((host for host in hosts if host.outcome not in ("ok", "skipped", "refused")), None)
    return f"{run.playbook} could not mend {worst.name} remotely: {worst.detail or worst.outcome}" if worst else None


def _bill(session: Session, run: Run, hosts: Sequence[EndedHost], proof: evidence.Evidence, now: datetime) -> None:
    """Propose the one line for the run's own time; a contract without a line for it bills nothing.

    Nobody is billed for a run that did nothing on any host. A run that goes on after a doubt was billed before.
    """
    known = select(BillingEntry.id).where(BillingEntry.run_id == run.id)
    acted = select(StepResult.id).where(StepResult.run_id == run.id, StepResult.phase != "connect")
    if session.scalar(known.limit(1)) or not session.scalar(acted.limit(1)):
        return
    started = run.started_at or run.requested_at
    item = session.get(ConfigurationItem, hosts[0].asset_id) if hosts[0].asset_id else None
    work = entries.Worked(
        client_id=run.client_id or 0,
        begun_at=started,
        minutes=worked.minutes_between(started, now),
        ticket_id=run.ticket_id,
        run_id=run.id,
        evidence_id=proof.id,
        site=agreements.site_name(session, item.site_id) if item else None,
        asset=item.name if item else None,
        asset_class=item.kind if item else None,
        work="remote",
    )
    worked.propose(session, work, subject=("run", run.id), now=now)
