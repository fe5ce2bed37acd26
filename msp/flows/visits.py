"""From remote work that failed to a visit: who, with which skill and part, and by when; in the failing transaction."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp.assets.models import ConfigurationItem
from msp.clock import utc_now
from msp.desk import clock, tickets
from msp.desk.models import Ticket
from msp.dispatch import visits
from msp.dispatch.models import Appointment, Technician, WorkOrder
from msp.errors import Misconfigured
from msp.evidence import Evidence
from msp.flows import prepaid, worked
from msp.people.access import Actor
from msp.remote.models import Run, RunHost, StepResult

REPAIR = timedelta(hours=1)  # unless the contract says how long a repair takes


def propose_for_ticket(
    session: Session, ticket_id: int, *, actor: Actor, reason: str, now: datetime | None = None
) -> WorkOrder:
    """Propose a visit for a ticket by a person's word, with everything that its runs have tried."""
    now = now or utc_now()
    if not reason.strip():
        raise Misconfigured("A visit needs a reason.", advice="Say in a sentence what could not be done remotely.")
    ticket = tickets.get(session, ticket_id, lock=True)
    items = [session.get_one(ConfigurationItem, ticket.asset_id)] if ticket.asset_id else []
    log = [entry for run in _runs_of(session, ticket) for entry in tried(session, run)]
    return _propose(session, ticket, items, reason.strip(), log, by=actor.name, now=now)


def propose_for_run(session: Session, run: Run, *, reason: str, now: datetime, by: str = "worker") -> WorkOrder | None:
    """Propose the one visit that a failed run leads to, or return the one that stands; None without a ticket."""
    if run.ticket_id is None:
        return None
    ticket = tickets.get(session, run.ticket_id, lock=True)
    failed = (
        select(ConfigurationItem)
        .join(RunHost, RunHost.asset_id == ConfigurationItem.id)
        .where(RunHost.run_id == run.id, RunHost.outcome.not_in(("ok", "skipped", "refused")))
    )
    return _propose(
        session, ticket, list(session.scalars(failed)), reason, tried(session, run), by=by, now=now, run=run
    )


def _propose(
    session: Session,
    ticket: Ticket,
    items: Sequence[ConfigurationItem],
    reason: str,
    log: Sequence[dict[str, Any]],
    *,
    by: str,
    now: datetime,
    run: Run | None = None,
) -> WorkOrder:
    order = visits.propose(
        session,
        client_id=ticket.client_id,
        site_id=ticket.site_id,
        ticket_id=ticket.id,
        run_id=run.id if run else None,
        summary=ticket.subject,
        reason=reason,
        skills=skills_for(items),
        parts=parts_for(items),
        duration=_repair(session, ticket),
        due_at=ticket.resolution_due_at,
        log=list(log),
        checklist=checklist_for(items, run),
        now=now,
        by=by,
    )
    appointment = visits.appointment_of(session, order.id)
    words = [reason]
    if order.latest_dispatch_at:
        words.append(f"A technician must leave by {order.latest_dispatch_at:%Y-%m-%d %H:%M} UTC.")
    asked = prepaid.question(session, order, appointment.starts_at if appointment else now)
    if asked is not None and asked.open:
        words += [asked.beyond.words(), "The client's approver is asked before it is confirmed."]
    data = {"work_order": order.id, "appointment": appointment.id if appointment else None}
    tickets.append(session, ticket, "visit", by=by, public=True, text=" ".join(words), data=data, now=now)
    line = clock.line_of(session, ticket)
    if line is not None and line.policy.get("onsite_minutes") and order.created_at == now:
        tickets.append(session, ticket, "onsite_requested", by=by, data={"work_order": order.id}, now=now)
    return order


def carry_on(
    session: Session, appointment_id: int, state: str, *, by: str, now: datetime, expected_version: int
) -> Appointment:
    """Carry a visit on (see dispatch.visits.advance): its ticket hears of it, arrival meets the on-site clock, and a
    visit that is done proposes its bill line with the time on site."""
    visit = visits.advance(session, appointment_id, state, by=by, now=now, expected_version=expected_version)
    order = session.get_one(WorkOrder, visit.work_order_id)
    if order.ticket_id is None:
        return visit
    who = session.get_one(Technician, visit.technician_id).name
    ticket = tickets.get(session, order.ticket_id, lock=True)
    data = {"work_order": order.id, "appointment": visit.id, "state": state}
    if state == "working":
        said = f"{who} has arrived."
        tickets.append(session, ticket, "arrived", by=by, public=True, text=said, data=data, now=now)
        return visit
    said = {"on_the_way": f"{who} is on the way.", "done": f"{who} has done the work.", "cancelled": "Cancelled."}[
        state
    ]
    tickets.append(session, ticket, "visit", by=by, public=True, text=said, data=data, now=now)
    if state == "done":
        _bill(session, order, visit, ticket, now)
    return visit


def _bill(session: Session, order: WorkOrder, visit: Appointment, ticket: Ticket, now: datetime) -> None:
    """Propose the line for the time on site; a contract without a line for it bills nothing, and that is recorded."""
    arrivals = (
        entry.at
        for entry in reversed(tickets.log_of(session, ticket.id))
        if entry.kind == "arrived" and entry.data.get("appointment") == visit.id
    )
    begun = next(arrivals, min(visit.starts_at, now))
    subject = ("work_order", str(order.id))
    proof = session.scalar(
        select(Evidence.id)
        .where(Evidence.subject_kind == subject[0], Evidence.subject_id == subject[1])
        .order_by(Evidence.id.desc())
        .limit(1)
    )
    work = prepaid.work_of(session, order, begun, worked.minutes_between(begun, now))
    work = replace(work, appointment_id=visit.id, evidence_id=proof)
    worked.propose(session, work, subject=("appointment", visit.id), now=now)


def skills_for(items: Sequence[ConfigurationItem]) -> dict[str, int]:
    """Return what somebody must know to repair these items on site: hands on hardware, and their platform."""
    wanted: dict[str, int] = {}
    for item in items:
        wanted["network" if item.kind == "network" else "hardware"] = 1
        if item.platform in ("linux", "windows"):
            wanted[item.platform] = 1
        for name, level in dict(item.facts.get("skills", {})).items():
            wanted[name] = max(int(level), wanted.get(name, 0))
    return wanted


def parts_for(items: Sequence[ConfigurationItem]) -> dict[str, int]:
    """Return the spare parts that a visit to these items brings, as recorded with them (facts: spare_parts)."""
    wanted: dict[str, int] = {}
    for item in items:
        for sku, quantity in dict(item.facts.get("spare_parts", {})).items():
            wanted[sku] = wanted.get(sku, 0) + int(quantity)
    return wanted


def checklist_for(items: Sequence[ConfigurationItem], run: Run | None) -> list[dict[str, str]]:
    """Return what is ticked off on site; the run that failed is run again at the end, as proof."""
    lines = [{"text": f"Repair {item.name}"} for item in items] or [{"text": "Do the work"}]
    if run is not None:
        lines.append({"text": f"Run {run.playbook} again and see it pass", "playbook": run.playbook})
    return [*lines, {"text": "Show the client that it works"}]


def tried(session: Session, run: Run) -> list[dict[str, Any]]:
    """Return what a run did, step by step and redacted, as a technician reads it on the way."""
    query = (
        select(StepResult, RunHost.name)
        .join(RunHost, RunHost.id == StepResult.run_host_id)
        .where(StepResult.run_id == run.id)
        .order_by(RunHost.position, StepResult.id)
        .limit(200)
    )
    return [
        {
            "at": step.finished_at.isoformat(),
            "run": run.id,
            "host": host,
            "step": f"{step.step}. {step.name}",
            "phase": step.phase,
            "outcome": step.outcome,
            "detail": step.detail,
            "output": (step.stderr_tail or step.stdout_tail or step.stderr_head or step.stdout_head)[-400:].decode(
                "utf-8", "backslashreplace"
            ),
        }
        for step, host in session.execute(query)
    ]


def _repair(session: Session, ticket: Ticket) -> timedelta:
    line = clock.line_of(session, ticket)
    minutes = (line.policy.get("latest_dispatch") or {}).get("repair_min") if line else None
    return timedelta(minutes=int(minutes)) if minutes else REPAIR


def _runs_of(session: Session, ticket: Ticket) -> list[Run]:
    return list(session.scalars(select(Run).where(Run.ticket_id == ticket.id).order_by(Run.id)))
