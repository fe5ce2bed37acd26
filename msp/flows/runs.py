"""Asking for a run: the contract decides before any socket opens; what it asks for waits for the client."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp import db, events, evidence
from msp.assets.models import ConfigurationItem
from msp.clock import utc_now
from msp.contracts.clauses import ALLOW, ASK, REFUSE, BreakGlass, approval_digest
from msp.desk import tickets
from msp.desk.models import Ticket
from msp.engine import claims, queues
from msp.engine.claims import ClaimKey
from msp.engine.models import EffectClaim
from msp.errors import Conflict, Misconfigured, NotFound, Refused
from msp.flows.deciding import Decided, decide
from msp.people.access import Actor, may
from msp.remote import catalogue, parameters
from msp.remote.models import Approval, Run, RunHost
from msp.remote.plan import Found

SHARD = 200  # hosts that one durable job drives
HANDLER = "run.drive"


@dataclass(frozen=True, slots=True)
class HostPreview:
    """What the contract would say of a playbook on one host, before anything is asked."""

    asset_id: int
    name: str
    effect: str  # allow, ask, refuse
    clause_id: str | None
    text: str
    text_ru: str
    way_out: str
    way_out_ru: str
    approver: str | None
    applies: bool  # the playbook is meant for this kind and platform


def preview(
    session: Session,
    *,
    playbook: str,
    asset_ids: Sequence[int],
    actor: Actor,
    own: str = "",
    dry_run: bool = False,
    now: datetime | None = None,
) -> list[HostPreview]:
    """Return what each host's contract says now, in the order asked. `own`: the setting `playbooks`."""
    found = catalogue.find(playbook, own)
    action_class = "read" if dry_run else found.playbook.action_class
    rows = []
    for item in _assets(session, asset_ids, actor):
        said = decide(session, item, action_class, actor=actor.name, at=now or utc_now()).decision
        rows.append(
            HostPreview(
                asset_id=item.id,
                name=item.name,
                effect=said.effect,
                clause_id=said.clause_id,
                text=said.text,
                text_ru=said.text_ru,
                way_out=said.way_out,
                way_out_ru=said.way_out_ru,
                approver=said.approver,
                applies=applies(found, item),
            )
        )
    return rows


def applies(found: Found, item: ConfigurationItem) -> bool:
    """Return whether a playbook is meant for such an item."""
    book = found.playbook
    return (
        (not book.applies_to.platform or item.platform in book.applies_to.platform)
        and (not book.applies_to.ci_type or item.kind in book.applies_to.ci_type)
        and (not book.transport or item.transport in book.transport)
    )


def request_run(
    session: Session,
    *,
    playbook: str,
    asset_ids: Sequence[int],
    actor: Actor,
    parameters: Mapping[str, Any] | None = None,
    ticket_id: int | None = None,
    dry_run: bool = False,
    own: str = "",
    break_glass_approver: str = "",
    break_glass_reason: str = "",
    now: datetime | None = None,
) -> Run:
    """Decide, store and queue a run; without a ticket one is opened for it. Nothing is contacted here.

    Returns a run that is queued, awaiting_approval, or refused (stored too, with the clause). On several hosts those
    that the contract refuses are left out and told; if it refuses all, the run is refused.
    Raises NotFound for a playbook, ticket or asset that this actor may not see, Misconfigured for parameters and for
    an included playbook or a file beside it that cannot be known or read: what is asked for covers them too.
    """
    now = now or utc_now()
    found = catalogue.find(playbook, own)
    values = _values(found, parameters or {})
    whole = catalogue.digest_of(found.document, values, own)
    items = _assets(session, asset_ids, actor)
    client_id = items[0].client_id
    glass = BreakGlass(break_glass_approver, break_glass_reason) if break_glass_approver or break_glass_reason else None
    action_class = "read" if dry_run else found.playbook.action_class
    decided = [decide(session, item, action_class, actor=actor.name, at=now, break_glass=glass) for item in items]
    ticket = _ticket(session, ticket_id, client_id, items[0], found, actor, now)
    leading = _leading(decided)
    run = Run(
        client_id=client_id,
        ticket_id=ticket.id,
        contract_version_id=leading.version_id,
        playbook=found.playbook.name,
        playbook_version=found.playbook.version,
        digest=whole,
        document=found.document,
        parameters=values,
        action_class=action_class,
        actor=actor.name,
        state={ALLOW: "queued", ASK: "awaiting_approval", REFUSE: "refused"}[leading.decision.effect],
        dry_run=dry_run,
        decision=leading.as_dict() | {"break_glass": _broken(decided)},
        approval_digest=approval_digest(whole, values, [item.name for item in items]),
        requested_at=now,
        max_fail=found.playbook.max_fail,
        parallel=found.playbook.at_once,
    )
    session.add(run)
    session.flush()
    for position, (item, one) in enumerate(zip(items, decided, strict=True)):
        refused = one.decision.effect == REFUSE
        session.add(
            RunHost(
                run_id=run.id,
                asset_id=item.id,
                name=item.name,
                position=position,
                shard=position // SHARD,
                state="finished" if refused else "waiting",
                outcome="refused" if refused else None,
                detail=one.decision.text if refused else "",
                finished_at=now if refused else None,
            )
        )
    if run.state == "refused":
        run.finished_at = now
    session.flush()
    _tell(session, run, ticket, [(item.name, one) for item, one in zip(items, decided, strict=True)], now)
    if run.state == "awaiting_approval":
        _ask(session, run, leading, now)
    elif run.state == "queued":
        enqueue(session, run)
    return run


def enqueue(session: Session, run: Run, *, segment: str = "1", shard: int | None = None) -> None:
    """Queue the shards of a run whose hosts are not all finished, or that one; part of the caller's transaction.

    segment: tells a continuation from the first time, so that it is a job of its own.
    """
    for number in sorted(_unfinished(session, run)) if shard is None else [shard]:
        queues.enqueue(
            session,
            queues.RUNS,
            HANDLER,
            {"run_id": run.id, "shard": number, "segment": segment},
            job_id=job_id(run.id, number, segment),
            partition=run.client_id or 0,
            not_before=run.not_before,
            client_id=run.client_id,
        )


def job_id(run_id: int, shard: int, segment: str) -> str:
    """Return what the job is called that drives a shard of a run."""
    return f"run:{run_id}:{shard}:{segment}"


def _unfinished(session: Session, run: Run) -> set[int]:
    """Return the shards with a host that has no end yet."""
    query = select(RunHost.shard).where(RunHost.run_id == run.id, RunHost.outcome.is_(None))
    return set(session.scalars(query.distinct()))


def resolve(
    session: Session,
    run_id: int,
    run_host_id: int,
    step: int,
    phase: str,
    ran: bool,
    *,
    actor: Actor,
    note: str = "",
    now: datetime | None = None,
) -> Run:
    """Settle an effect in doubt by a person's word, and let the host go on from there.

    ran: it happened, so its check comes next; else it is done now. Raises NotFound for a run this actor may not see
    or an effect that is not claimed, Conflict if somebody has settled it first or the run is still at work: two
    workers on one host would put each other's effects in doubt.
    """
    now = now or utc_now()
    run = get(session, run_id, actor, lock=True)
    if not may(actor, "run.request", run.client_id):
        raise Refused("Your role does not settle doubts.", advice="Ask a technician.")
    host = session.scalar(db.locked(select(RunHost).where(RunHost.id == run_host_id)))
    if host is None or host.run_id != run.id:
        raise NotFound("This run has no such host.", advice="Choose one of its hosts.")
    if run.state in ("running", "cancelling"):
        raise Conflict(f"Run {run.id} is still at work.", advice="Answer when its other hosts have ended.")
    waits = host.shard in _unfinished(session, run)  # since the answer about another host: its job has not begun
    attempt = _attempt_in_doubt(session, run.id, host.id, step, phase)
    word = "ran" if ran else "not_ran"
    claims.resolve(session, ClaimKey(run.id, host.id, step, phase, attempt), word, actor.name, note.strip())
    host.state, host.outcome, host.status, host.detail, host.finished_at = "waiting", None, None, "", None
    run.state, run.finished_at = "queued", None
    evidence.record(
        session,
        "run.doubt_resolved",
        actor=actor.name,
        subject=("run", run.id),
        client_id=run.client_id,
        data={"host": host.name, "step": step, "phase": phase, "resolution": word, "note": note.strip()},
        at=now,
    )
    events.record(session, f"run:{run.id}", "run.changed", client_id=run.client_id, data={"state": run.state})
    if not waits:
        enqueue(session, run, segment=f"{now:%Y%m%dT%H%M%S%f}", shard=host.shard)
    return run


def _attempt_in_doubt(session: Session, run_id: int, host_id: int, step: int, phase: str) -> int:
    """Return the first attempt that is in doubt; if none is, the last that was claimed, else the first of all."""
    query = select(EffectClaim.attempt).where(
        EffectClaim.run_id == run_id,
        EffectClaim.host_id == host_id,
        EffectClaim.step == step,
        EffectClaim.phase == phase,
    )
    doubts = query.where(EffectClaim.state == "in_doubt").order_by(EffectClaim.attempt)
    return session.scalar(doubts.limit(1)) or session.scalar(query.order_by(EffectClaim.attempt.desc()).limit(1)) or 1


def get(session: Session, run_id: int, actor: Actor, *, lock: bool = False) -> Run:
    """Return a run that this actor may see; raises NotFound."""
    query = select(Run).where(Run.id == run_id)
    run = session.scalar(db.locked(query) if lock else query)
    if run is None or run.client_id is None or not actor.sees(run.client_id):
        raise NotFound(f"There is no run {run_id}.", advice="Look it up in the list.")
    return run


def _values(found: Found, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return typed parameters; a secret only from the client's vault: never the worker's files or environment."""
    values = parameters.resolve(found.playbook.parameters, given)
    for name in found.playbook.secrets:
        if values.get(name) is not None and not str(values[name]).startswith(("vault:", "bao:")):
            raise Refused(
                f"Parameter {name} must name a secret of the vault.", advice="Give it as vault:NAME, or bao:..."
            )
    return json.loads(json.dumps(values))  # type: ignore[no-any-return]  # exactly what is stored and digested


def _assets(session: Session, asset_ids: Sequence[int], actor: Actor) -> list[ConfigurationItem]:
    if not asset_ids:
        raise Misconfigured("No asset was chosen.", advice="Choose at least one.")
    wanted = list(dict.fromkeys(asset_ids))
    found = {
        item.id: item
        for item in session.scalars(select(ConfigurationItem).where(ConfigurationItem.id.in_(wanted)))
        if may(actor, "run.request", item.client_id)
    }
    if missing := [asset_id for asset_id in wanted if asset_id not in found]:
        raise NotFound(f"There is no asset {missing[0]}.", advice="Choose one from the list.")
    if len({item.client_id for item in found.values()}) > 1:
        raise Misconfigured("The assets belong to several clients.", advice="Ask for one run per client.")
    return [found[asset_id] for asset_id in wanted]


def _ticket(
    session: Session,
    ticket_id: int | None,
    client_id: int,
    item: ConfigurationItem,
    found: Found,
    actor: Actor,
    now: datetime,
) -> Ticket:
    """Return the ticket that the run belongs to. No action without one: a quick action opens its own."""
    if ticket_id is not None:
        ticket = tickets.get(session, ticket_id)
        if ticket.client_id != client_id:
            raise NotFound(f"There is no ticket {ticket_id} of this client.", advice="Choose one of its tickets.")
        return ticket
    opening = tickets.Opening(
        client_id=client_id,
        subject=f"{found.playbook.name}: {item.name}",
        kind="request",
        channel="phone_by_agent",
        asset_id=item.id,
        nearest=True,
    )
    return tickets.open_ticket(session, opening, by=actor.name, now=now)


def _leading(decided: Sequence[Decided]) -> Decided:
    """Return the decision that governs the run: the first that asks, else the first that allows, else a refusal."""
    for effect in (ASK, ALLOW, REFUSE):
        for one in decided:
            if one.decision.effect == effect:
                return one
    raise AssertionError("there is at least one host")


def _broken(decided: Sequence[Decided]) -> dict[str, str] | None:
    """Return who answers for what on some host only a broken glass allows; also when another host governs the run."""
    glasses = (one.as_dict()["break_glass"] for one in decided)
    return next((glass for glass in glasses if glass), None)


def _ask(session: Session, run: Run, leading: Decided, now: datetime) -> None:
    said = leading.decision
    session.add(
        Approval(
            run_id=run.id,
            digest=run.approval_digest or "",
            rule=said.approver or "client_approver",
            requested_at=now,
            expires_at=None if said.expires_s is None else now + timedelta(seconds=said.expires_s),
        )
    )
    session.flush()


def _tell(session: Session, run: Run, ticket: Ticket, said: Sequence[tuple[str, Decided]], now: datetime) -> None:
    evidence.record(
        session,
        "run.refused" if run.state == "refused" else "run.requested",
        actor=run.actor,
        subject=("run", run.id),
        client_id=run.client_id,
        data={
            "playbook": run.playbook,
            "digest": run.digest,
            "parameters": run.parameters,
            "dry_run": run.dry_run,
            "ticket": ticket.id,
            "state": run.state,
            "hosts": [{"name": name, **one.as_dict()} for name, one in said],
        },
        at=now,
    )
    sentence = {
        "refused": f"{run.playbook}: refused. {said[0][1].decision.text}",
        "awaiting_approval": f"{run.playbook}: waits for approval by {run.decision['approver']}.",
        "queued": f"{run.playbook}: queued.",
    }[run.state]
    data = {"run": run.id, "state": run.state, "clause": run.decision["clause_id"]}
    tickets.append(session, ticket, "run", by=run.actor, public=True, text=sentence, data=data, now=now)
    events.record(session, f"run:{run.id}", "run.changed", client_id=run.client_id, data={"state": run.state})
