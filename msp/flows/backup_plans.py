"""Plans as people keep them: the first restore of a draft, saving, pausing, removing, putting back.

Schedules and tickets follow in the same transaction.
"""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp import db, events
from msp.backup import drafts, places, plan_changes, plans, proposals
from msp.backup.engine import Found
from msp.backup.models import BackupDraft, BackupPlan
from msp.backup.plan_parts import PlanParts
from msp.clock import utc_now
from msp.desk import tickets
from msp.desk.models import Ticket
from msp.engine import queues
from msp.errors import Conflict, Misconfigured, MspError
from msp.flows import restores
from msp.settings import Settings
from msp.vault import Vault

HANDLER = "backup.try"


def topic(draft_id: int) -> str:
    """Return what an open page of a draft listens to."""
    return f"backup_draft:{draft_id}"


def ask_trial(session: Session, draft: BackupDraft, settings: Settings, now: datetime) -> str:
    """Queue the first restore of a draft and return the job's id. One at a time: asked again meanwhile is Conflict.

    Raises Misconfigured for a draft whose case cannot be run, Refused for a place that is not this client's.
    """
    if draft.trial_state in ("queued", "running"):
        raise Conflict("The first restore is at work already.", advice="Wait for it; this page tells how far it is.")
    document = drafts.document(draft, asserted=False)
    drafts.need_engine(str(document["engine"]))
    drafts.parsed(draft, secret=None, now=now)
    drafts.refuse_foreign(session, draft.client_id, document, places.closed(settings))
    draft.trial_number += 1
    draft.trial_state, draft.trial, draft.changed_at = "queued", {"asked_at": now.isoformat()}, now
    job_id = f"try:{draft.id}:{draft.trial_number}"
    payload = {"draft_id": draft.id, "number": draft.trial_number}
    if not queues.enqueue(session, queues.RESTORES, HANDLER, payload, job_id=job_id, client_id=draft.client_id):
        raise Conflict("Another draft had this first restore.", advice="Throw the draft away and begin anew.")
    return job_id


def perform_trial(settings: Settings, draft_id: int, number: int) -> None:
    """Do the first restore of a draft with no transaction open, and keep what could be asserted.

    A draft that was thrown away or asked for something else meanwhile is left alone.
    """
    now = utc_now()
    with db.begin() as session:
        draft = _current(session, draft_id, number)
        if draft is None:
            return
        vault, name = Vault.from_file(settings.key_path), draft.answers.get("secret_name")
        _note(session, draft, "running", {"stage": "listing", "began_at": now.isoformat()})
        client_id = draft.client_id
        secret = vault.get(session, name, client_id=client_id).value if name else None
        case = drafts.parsed(draft, secret=secret, now=now)
        document = drafts.document(draft, asserted=False)
    with db.read() as session:  # a disk that does not answer holds nobody up who writes
        drafts.refuse_foreign(session, client_id, document, places.closed(settings))
    base = settings.scratch_path.resolve()
    base.mkdir(parents=True, exist_ok=True, mode=0o700)

    def tell(stage: str, size: int) -> None:
        with db.begin() as session:
            if draft := _current(session, draft_id, number):
                _note(session, draft, "running", {**draft.trial, "stage": stage, "bytes": size})

    try:
        if case.on:
            raise Misconfigured("This backup is tested on the client's host.", advice="Go on without a first restore.")
        found = proposals.propose(case, base=base, tell=tell)
    except Found as error:
        failed: dict[str, Any] = {"what": error.what, "advice": error.advice, "reason": error.findings[0].reason}
    except MspError as error:
        failed = {"what": error.what, "advice": error.advice, "reason": ""}
    else:
        failed = {}
    with db.begin() as session:
        draft = _current(session, draft_id, number)
        if draft is None:
            return
        if failed:
            _note(session, draft, "failed", failed)
            return
        _note(session, draft, "done", {
            "questions": [question.plain() for question in found.questions],
            "snapshot": found.snapshot,
            "snapshot_at": found.snapshot_at.isoformat() if found.snapshot_at else None,
            "seconds": round(found.seconds, 3),
            "files": found.files,
            "bytes": found.bytes,
        })  # fmt: skip


def _current(session: Session, draft_id: int, number: int) -> BackupDraft | None:
    draft = session.get(BackupDraft, draft_id)
    if draft is None or draft.trial_number != number or draft.trial_state not in ("queued", "running"):
        return None
    return draft


def _note(session: Session, draft: BackupDraft, state: str, trial: dict[str, Any]) -> None:
    draft.trial_state, draft.trial = state, trial
    events.record(session, topic(draft.id), "backup_draft.tried", client_id=draft.client_id, data={"state": state})


def gave_up(session: Session, payload: dict[str, Any], what: str) -> None:
    """A first restore that could not be carried out says so on its page."""
    if draft := _current(session, int(payload["draft_id"]), int(payload["number"])):
        _note(session, draft, "failed", {"what": what, "advice": "", "reason": ""})


def save(session: Session, draft: BackupDraft, settings: Settings, now: datetime, *, by: str) -> BackupPlan:
    """Write the draft's plan, new or changed, put it on its schedule, and throw the draft away: all or nothing.

    Raises Misconfigured for a draft that is not finished, Conflict if the plan was changed meanwhile or its name is
    taken, Refused for a place that is not this client's.
    """
    if lacks := drafts.missing(draft):
        raise Misconfigured("The plan is not finished.", advice=f"Still to answer: {', '.join(lacks)}.")
    answers, document = draft.answers, drafts.document(draft)
    drafts.refuse_foreign(session, draft.client_id, document, places.closed(settings))
    steps, _ = drafts.steps_of(draft)
    parts = PlanParts(
        name=answers["name"],
        case=document,
        cron=answers.get("cron") or drafts.DEFAULT_CRON,
        time_zone=answers["time_zone"],
        proof_every=timedelta(seconds=answers["proof_every_s"]),
        asset_id=draft.asset_id,
        secret_name=answers.get("secret_name"),
        ladder=steps,
        limits=answers.get("limits") or {},
        every=timedelta(seconds=answers["every_s"]) if answers.get("every_s") else None,
    )
    if draft.plan_id is None:
        plan = plans.create(session, parts, client_id=draft.client_id, by=by)
    else:
        plan = plans.by_id(session, draft.plan_id, lock=True)
        if drafts.fingerprint(plan) != answers.get("seen"):
            raise Conflict("Somebody else changed this plan meanwhile.", advice="Throw the draft away and begin anew.")
        plan_changes.change(session, plan, parts, by=by)
    restores.put_on_schedule(session, plan, now)
    session.delete(draft)
    session.flush()
    _told(session, plan, "saved")
    return plan


def switch(session: Session, plan: BackupPlan, enabled: bool, now: datetime, *, by: str) -> None:
    """Pause a plan or let it go on, with its schedules."""
    plans.switch(session, plan, enabled, by=by)
    restores.put_on_schedule(session, plan, now)
    _told(session, plan, "switched")


def remove(session: Session, plan: BackupPlan, now: datetime, *, by: str) -> None:
    """Remove a plan: no schedule, no proof, no ticket of its own any more. `put_back` undoes it."""
    plan_changes.remove(session, plan, now, by=by)
    restores.put_on_schedule(session, plan, now)
    for draft in session.scalars(select(BackupDraft).where(BackupDraft.plan_id == plan.id)):
        session.delete(draft)
    keys = (f"backup:{plan.id}", f"backup-job:{plan.id}")
    query = select(Ticket).where(Ticket.client_id == plan.client_id, Ticket.dedup_key.in_(keys), Ticket.is_open)
    for ticket in session.scalars(query):
        words = f"The backup plan {plan.name} was removed: it is not tested any more."
        tickets.move(session, ticket.id, "resolved", by=by, text=words, now=now)
    _told(session, plan, "removed")


def put_back(session: Session, plan: BackupPlan, now: datetime, *, by: str) -> None:
    """Bring a removed plan back, paused if it was paused, with its schedules."""
    plan_changes.put_back(session, plan, by=by)
    restores.put_on_schedule(session, plan, now)
    _told(session, plan, "put back")


def _told(session: Session, plan: BackupPlan, what: str) -> None:
    data = {"plan": plan.id, "what": what}
    events.record(session, "backups", "backup_plan.changed", client_id=plan.client_id, data=data)
