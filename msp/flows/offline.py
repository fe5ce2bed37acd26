"""Hosts that do not answer now: a playbook that may wait asks again, until somebody must leave to be there in time."""

from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp import db, events, evidence
from msp.desk import tickets
from msp.desk.models import Ticket
from msp.flows import runs
from msp.remote import catalogue
from msp.remote.models import Run, RunHost, StepResult

FIRST, LONGEST = timedelta(minutes=1), timedelta(minutes=15)  # between two tries; the pause doubles
MARGIN = timedelta(minutes=15)  # that a dispatcher has between the last try and the latest departure
WITHOUT_PROMISE = timedelta(hours=24)  # how long to wait where no clock runs


def wait(session: Session, run_id: int, shard: int, now: datetime) -> list[str]:
    """Queue the hosts of a shard that did not answer for another try, and return their names.

    Called when a shard has been driven, in a transaction of its own. A host whose deadline has come stays unreachable:
    the run then ends and proposes a visit. Nothing was sent to a host that waits, so nothing is done twice: one that
    went silent when work on it had begun is undone as far as it goes, and ends.
    """
    run = session.scalar(db.locked(select(Run).where(Run.id == run_id)))
    if run is None or run.state != "running" or run.dry_run:
        return []
    if catalogue.kept(run.document).playbook.offline != "wait":
        return []
    sent = select(StepResult.id).where(StepResult.run_host_id == RunHost.id, StepResult.phase.in_(("do", "undo")))
    query = select(RunHost).where(
        RunHost.run_id == run.id, RunHost.shard == shard, RunHost.outcome == "unreachable", ~sent.exists()
    )
    silent = list(session.scalars(query.order_by(RunHost.position)))
    if not silent:
        return []
    until = deadline(session, run, now)
    for host in silent:
        host.waits_until = until  # as the clock stands now: a client who holds the ticket gives time
    if now >= until:
        return []
    first_time = all(host.asked_times == 0 for host in silent)
    for host in silent:
        host.detail = f"Does not answer; asked again until {until:%Y-%m-%d %H:%M} UTC. {host.detail}"
        host.state, host.outcome, host.status, host.started_at, host.finished_at = "waiting", None, None, None, None
        host.asked_times += 1
    pause = min(FIRST * (1 << min(silent[0].asked_times - 1, 10)), LONGEST)
    run.not_before = min(now + pause, until)
    others = select(RunHost.id).where(RunHost.run_id == run.id, RunHost.shard != shard, RunHost.outcome.is_(None))
    if session.scalar(others.limit(1)) is None:
        run.state = "queued"
    runs.enqueue(session, run, segment=f"{now:%Y%m%dT%H%M%S%f}", shard=shard)
    names = [host.name for host in silent]
    if first_time:
        _tell(session, run, names, until, now)
    events.record(session, f"run:{run.id}", "run.changed", client_id=run.client_id, data={"state": run.state})
    return names


def deadline(session: Session, run: Run, now: datetime) -> datetime:
    """Return when to give up: early enough for a visit to be in time for the ticket's clock, and within the run."""
    ticket = session.get(Ticket, run.ticket_id) if run.ticket_id is not None else None
    leave_by = (ticket.latest_dispatch_at or ticket.resolution_due_at) if ticket else None
    until = leave_by - MARGIN if leave_by is not None else (run.started_at or now) + WITHOUT_PROMISE
    return until if run.not_after is None else min(until, run.not_after)


def _tell(session: Session, run: Run, names: list[str], until: datetime, now: datetime) -> None:
    data = {"hosts": names, "until": until.isoformat()}
    evidence.record(
        session, "run.waits", actor="worker", subject=("run", run.id), client_id=run.client_id, data=data, at=now
    )
    if run.ticket_id is None:
        return
    told = ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
    verb = "does" if len(names) == 1 else "do"
    text = f"{run.playbook}: {told} {verb} not answer. Asked again until {until:%Y-%m-%d %H:%M} UTC, then a visit."
    ticket = tickets.get(session, run.ticket_id, lock=True)
    tickets.append(session, ticket, "run", by="worker", public=True, text=text, data={"run": run.id, **data}, now=now)
