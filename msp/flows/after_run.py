"""What follows when a run has ended: one transaction for run, ticket, bill, visit and evidence."""

import importlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp import db, events, evidence
from msp.engine import claims, crashpoints
from msp.engine.claims import ClaimKey
from msp.engine.models import EffectClaim
from msp.remote.models import ENDED, EndedHost, Run, RunHost
from msp.remote.outcome import Kind, Outcome, run_state
from msp.remote.rotations import SecretRotation


def finish(session: Session, run_id: int, *, now: datetime) -> bool:
    """End a run whose every host has ended, with all that follows; return whether it ended now.

    Called after each shard; the last one ends the run. Called again it does nothing.
    """
    run = session.scalar(db.locked(select(Run).where(Run.id == run_id)))
    if run is None or run.state not in ("running", "queued", "cancelling"):
        return False
    hosts: Any = session.execute(select(*ENDED).where(RunHost.run_id == run.id).order_by(RunHost.position)).all()
    if any(host.outcome is None for host in hosts):
        return False
    settle(session, run, hosts, now)
    crashpoints.at("run.settled")
    return True


def end_rest(
    session: Session, run: Run, outcome: Kind, detail: str, now: datetime, *, shard: int | None = None
) -> None:
    """End the hosts that have no end yet (of one shard): with `outcome` those begun, else as not started.

    Call it with the run locked. The hosts are read again under their own lock: a worker may just have ended one.
    """
    query = select(RunHost).where(RunHost.run_id == run.id, RunHost.outcome.is_(None)).order_by(RunHost.position)
    if shard is not None:
        query = query.where(RunHost.shard == shard)
    for host in session.scalars(db.locked(query)):
        begun = host.started_at is not None or outcome == "refused"
        host.state, host.outcome, host.detail = "finished", outcome if begun else "not_started", detail
        host.finished_at = now


def settle(session: Session, run: Run, hosts: Sequence[EndedHost], now: datetime) -> None:
    """Write the state of a run from its hosts' outcomes, and what follows from it.

    While an effect of the run is in doubt so is the run, however its hosts ended: also an undo may be in doubt.
    """
    ends = [Outcome(host.outcome) for host in hosts]  # type: ignore[arg-type]
    run.state = "in_doubt" if _doubts(session, run, now) else run_state(ends)
    run.finished_at = now
    proof = evidence.record(
        session,
        "run.finished",
        actor="worker",
        subject=("run", run.id),
        client_id=run.client_id,
        data={
            "state": run.state,
            "digest": run.digest,
            "hosts": [
                {"name": host.name, "outcome": host.outcome, "status": host.status, "detail": host.detail}
                for host in hosts
            ],
        },
        at=now,
    )
    # Only where somebody is to be told: a run from the command line must not pay for reading tickets and visits.
    if run.ticket_id is not None or any(host.outcome == "host_key_changed" for host in hosts):
        importlib.import_module("msp.flows.run_told").tell(session, run, hosts, proof, now)
    rotated = select(SecretRotation.id).where(SecretRotation.run_id == run.id)
    if session.scalar(rotated.limit(1)) is not None:
        importlib.import_module("msp.flows.rotating").follow(session, run, now)
    events.record(session, f"run:{run.id}", "run.changed", client_id=run.client_id, data={"state": run.state})


def _doubts(session: Session, run: Run, now: datetime) -> bool:
    """Return whether an effect is in doubt. One that was claimed and never ended is: nobody works on it any more."""
    open_ones = select(EffectClaim).where(EffectClaim.run_id == run.id, EffectClaim.state.in_(("claimed", "in_doubt")))
    left = list(session.scalars(open_ones))
    keys = [
        ClaimKey(one.run_id, one.host_id, one.step, one.phase, one.attempt) for one in left if one.state == "claimed"
    ]
    if keys:
        claims.claim_many(session, keys, "worker", now)  # a second look puts them in doubt
    return bool(left)
