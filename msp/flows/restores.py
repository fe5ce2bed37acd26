"""Restore tests in the closed loop: on cron or by hand, judged, recorded; a failed or overdue proof opens a ticket."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp import db, events
from msp.backup import drafts, ladder, places, plans, verify
from msp.backup.engines import away
from msp.backup.models import BackupPlan, RestoreTest
from msp.backup.process import Runner
from msp.backup.proof import Proof
from msp.backup.verdict import PROOF_RUNG, Result
from msp.clock import utc_now
from msp.desk import tickets
from msp.desk.models import Ticket
from msp.engine import crashpoints, queues, schedules
from msp.engine.models import Schedule
from msp.errors import MspError, NotFound
from msp.flows import restores_there
from msp.people.access import Actor, may
from msp.settings import Settings
from msp.vault import Vault

HANDLER = "restore.test"
LOCKED_PAUSE = timedelta(minutes=1)  # before a repository that another test reads is tried again
PRIORITY = {"fail": "P2", "error": "P3", "overdue": "P3"}


@dataclass(frozen=True, slots=True)
class PlanState:
    """One enabled plan and whether it is proven."""

    plan: BackupPlan
    proof: Proof

    @property
    def proven(self) -> bool:
        return self.proof.state == "proven"


def states(session: Session, now: datetime, *, client_ids: Sequence[int] | None = None) -> list[PlanState]:
    """Return every enabled plan of the clients (None: all) with its proof."""
    query = select(BackupPlan).where(BackupPlan.enabled).order_by(BackupPlan.client_id, BackupPlan.name)
    if client_ids is not None:
        query = query.where(BackupPlan.client_id.in_(client_ids))
    return [PlanState(plan, plans.proof(session, plan, now)) for plan in session.scalars(query)]


def put_on_schedule(session: Session, plan: BackupPlan, now: datetime) -> None:
    """Let the plan's cron line drive its tests, or each step of its ladder its rungs."""
    limits, own = ladder.read_limits(plan.limits), f"restore-{plan.id}"
    steps = ladder.read(plan.ladder)
    wanted: dict[str, tuple[str, dict[str, Any]]] = {
        f"{own}-{step.key}": (step.when, {"plan_id": plan.id, "rungs": list(step.rungs)})
        for step in steps
        if step.when != ladder.AFTER_BACKUP
    } or {own: (plan.cron, {"plan_id": plan.id})}
    known = session.scalars(select(Schedule.key).where((Schedule.key == own) | Schedule.key.startswith(f"{own}-")))
    for key in set(known) - set(wanted):
        schedules.remove(session, key)
    for key, (cron, payload) in wanted.items():
        schedules.upsert(
            session,
            key=key,
            queue=queues.RESTORES,
            handler=HANDLER,
            payload=payload,
            cron=cron,
            time_zone=plan.time_zone,
            jitter=limits.jitter,
            client_id=plan.client_id,
            enabled=plan.enabled,
            now=now,
        )


@dataclass(frozen=True, slots=True)
class Triggered:
    """What the word of a backup job led to. `new`: False if the same backup was told of before."""

    job: str
    rungs: tuple[int, ...]
    new: bool


def after_backup(session: Session, plan: BackupPlan, now: datetime, *, backup: str = "") -> Triggered | None:
    """Queue the rungs that the plan climbs after each backup; None if it has none or is paused.

    The job that wrote the backup says so (msp backup trigger, or the API). backup: its name for what it wrote, a
    snapshot or a job's number; the same name again is the same backup, however often it is told. Without a name,
    twice in a minute is once.
    """
    rungs = tuple(
        sorted({n for step in ladder.read(plan.ladder) if step.when == ladder.AFTER_BACKUP for n in step.rungs})
    )
    if not plan.enabled or not rungs:
        return None
    asked = now if backup else now.replace(second=0, microsecond=0)
    named = (
        hashlib.sha256(backup.encode("utf-8", "surrogatepass")).hexdigest()[:32] if backup else f"{asked:%Y%m%dT%H%M}"
    )
    job_id = f"restore:{plan.id}:after:{named}"
    payload = {"plan_id": plan.id, "asked_at": asked.isoformat(), "rungs": list(rungs)}
    new = queues.enqueue(session, queues.RESTORES, HANDLER, payload, job_id=job_id, client_id=plan.client_id)
    return Triggered(job_id, rungs, new)


def request_test(session: Session, plan_id: int, *, actor: Actor, now: datetime | None = None) -> str:
    """Queue a restore test now and return the job's id. Raises NotFound for a plan this actor may not see."""
    now = now or utc_now()
    plan = session.get(BackupPlan, plan_id)
    if plan is None or plan.removed_at is not None or not may(actor, "backup.request", plan.client_id):
        raise NotFound(f"There is no backup plan {plan_id}.", advice="Look it up on the proof board.")
    job_id = f"restore:{plan.id}:{now:%Y%m%dT%H%M%S.%f}"
    payload = {"plan_id": plan.id, "asked_at": now.isoformat()}
    queues.enqueue(session, queues.RESTORES, HANDLER, payload, job_id=job_id, client_id=plan.client_id)
    return job_id


def perform(
    settings: Settings,
    plan_id: int,
    nominal: str | None,
    asked_at: datetime | None = None,
    rungs: Sequence[int] = (),
) -> None:
    """Do one restore test: note it, restore with no transaction open, record verdict, evidence and ticket at once.

    nominal: the schedule's instant; asked_at: of a test by hand. Entered again after a crash it is done anew.
    rungs: of one step of the ladder. A test outside the plan's window, or of a repository that another test reads,
    is put off: it is queued again under the same name of its own. A case that names a host is tested there.
    """
    fetched, there = restores_there.fetch(settings, plan_id), None
    with db.begin() as session:
        plan = session.get_one(BackupPlan, plan_id)
        if plan.removed_at is not None:  # after this was queued
            return
        vault = Vault.from_file(settings.key_path)
        secret = None
        if plan.secret_name:
            secret = vault.get(session, plan.secret_name, client_id=plan.client_id).value
        now = utc_now()
        client_id, document = plan.client_id, plans.document(plan, secret=None, now=now)
        case, limits = plans.render(plan, secret=secret, now=now, rungs=rungs), ladder.read_limits(plan.limits)
        opens = ladder.opens_at(limits, ZoneInfo(plan.time_zone), now) if nominal else now
        if opens > now:
            _put_off(session, plan, nominal, asked_at, rungs, opens)
            return
        test_id = _begin(session, plan, _named(nominal, rungs), asked_at)
        place = f"{plan.client_id}/{case.on}:{case.location}" if case.on else case.location
        if test_id is not None and not plans.lease(session, place, test_id, now):
            session.delete(session.get_one(RestoreTest, test_id))  # not begun after all
            _put_off(session, plan, nominal, asked_at, rungs, now + LOCKED_PAUSE)
            return
        if test_id is not None and restores_there.host_of(plan.case):
            told = plans.document(plan, secret=secret, now=now, rungs=rungs)
            there = restores_there.prepare(session, settings, plan, told, limits, test_id, fetched, now)
    if test_id is None:
        return
    crashpoints.at("restore.begun")
    refused = None if case.on else _refused(settings, client_id, document)
    if refused is not None:
        result = refused
    elif there is not None and case.on:
        result = restores_there.perform(there)
    else:
        base = settings.scratch_path.resolve()
        base.mkdir(parents=True, exist_ok=True, mode=0o700)
        source = restores_there.source(there) if there is not None else None
        result = verify.verify(case, base=base, runner=Runner(niceness=limits.nice, io=limits.io), source=source)
    crashpoints.at("restore.verified")
    with db.begin() as session:
        record(session, test_id, result, now=utc_now())
    crashpoints.at("restore.recorded")


def _refused(settings: Settings, client_id: int, document: dict[str, Any]) -> Result | None:
    """Return what a test ends with that would restore what is not this client's; None: it may be done.

    Asked at every test, because a symbolic link may lead elsewhere since the plan was saved.
    """
    try:
        with db.read() as session:
            drafts.refuse_foreign(session, client_id, document, places.closed(settings), stored=True)
    except MspError as error:
        return away.untold(document, error.what, error.advice)
    return None


def _named(nominal: str | None, rungs: Sequence[int]) -> str | None:
    """Return what names a scheduled test: its instant, and its rungs where several steps may share an instant."""
    return f"{nominal}#{'-'.join(map(str, rungs))}" if nominal and rungs else nominal


def _put_off(
    session: Session,
    plan: BackupPlan,
    nominal: str | None,
    asked_at: datetime | None,
    rungs: Sequence[int],
    until: datetime,
) -> None:
    payload: dict[str, Any] = {"plan_id": plan.id}
    payload |= {"nominal": nominal} if nominal else {}
    payload |= {"asked_at": asked_at.isoformat()} if asked_at else {}
    payload |= {"rungs": list(rungs)} if rungs else {}
    name = f"{_named(nominal, rungs) or (asked_at and asked_at.isoformat()) or 'now'}".replace("~", "-")
    job_id = f"restore:{plan.id}:{name}:{until:%Y%m%dT%H%M%S}"
    queues.enqueue(
        session, queues.RESTORES, HANDLER, payload, job_id=job_id, client_id=plan.client_id, not_before=until
    )


def _begin(session: Session, plan: BackupPlan, nominal: str | None, asked_at: datetime | None) -> int | None:
    """Return the number of the test to do; None if what was asked for has been tested to its end."""
    same = RestoreTest.nominal == nominal if nominal else RestoreTest.started_at == asked_at
    known = session.scalar(select(RestoreTest).where(RestoreTest.plan_id == plan.id, same).limit(1))
    if known is None:
        return plans.begin_test(session, plan, asked_at or utc_now(), nominal=nominal).id
    return None if known.finished_at is not None else known.id  # begun by a worker that died: nothing was proven


def record(session: Session, test_id: int, result: Any, *, now: datetime) -> RestoreTest:
    """Store what a test showed; a verdict that is no proof opens or continues the plan's one ticket."""
    test = session.get_one(RestoreTest, test_id)
    plan = session.get_one(BackupPlan, test.plan_id)
    plans.record_test(session, plan, result, now=now, test=test)
    if plan.removed_at is not None:  # while it was at work: nobody waits for it any more
        return test
    if result.verdict in ("fail", "error"):
        test.ticket_id = _tell(session, plan, result.verdict, _finding(result), now).id
    elif result.highest_rung >= PROOF_RUNG and (ticket := _standing(session, plan)):
        said = f"Restore test {test.id}: {result.verdict}. The backup is proven again."
        tickets.append(
            session, ticket, "proof", by="worker", public=True, text=said, data={"restore_test": test.id}, now=now
        )
        tickets.move(session, ticket.id, "resolved", by="worker", text=said, now=now)
    events.record(
        session,
        "backups",
        "restore.tested",
        client_id=plan.client_id,
        data={"plan": plan.id, "restore_test": test.id, "verdict": result.verdict},
    )
    return test


def _finding(result: Any) -> str:
    plain = result.plain()
    found = plain["findings"][0] if plain["findings"] else {"what": f"verdict {plain['verdict']}", "where": ""}
    where = f" ({found['where']})" if found.get("where") else ""
    return f"{found['what']}{where}"


def _tell(session: Session, plan: BackupPlan, why: str, text: str, now: datetime) -> Ticket:
    known = _standing(session, plan)
    if known is not None:
        tickets.append(session, known, "proof", by="worker", public=True, text=text, data={"plan": plan.id}, now=now)
        return known
    opening = tickets.Opening(
        client_id=plan.client_id,
        subject=f"Backup {plan.name} is not proven",
        priority=PRIORITY[why],
        channel="backup",
        text=text,
        asset_id=plan.asset_id,
        symptom="backup_unproven",
        dedup_key=f"backup:{plan.id}",
        at=now,
        nearest=True,
    )
    return tickets.open_ticket(session, opening, by="worker", now=now)


def _standing(session: Session, plan: BackupPlan) -> Ticket | None:
    query = select(Ticket).where(
        Ticket.client_id == plan.client_id, Ticket.dedup_key == f"backup:{plan.id}", Ticket.is_open
    )
    return session.scalar(query)


def tell_overdue(session: Session, now: datetime) -> int:
    """Open a ticket for each plan that was proven and is no longer, and for one never tried within its period."""
    for plan, state in plans.unproven(session, now):
        late = state.state == "overdue" or (state.proven_at is None and now - plan.created_at > plan.proof_every)
        if late and _standing(session, plan) is None:
            _tell(session, plan, "overdue", state.words, now)
    return 0


def gave_up(session: Session, payload: dict[str, Any], what: str) -> None:
    """A test that could not even be carried out is an error: never a pass, and it opens a ticket too."""
    plan = session.get(BackupPlan, int(payload["plan_id"]))
    if plan is None or plan.removed_at is not None:
        return
    now = utc_now()
    query = select(RestoreTest).where(RestoreTest.plan_id == plan.id, RestoreTest.finished_at.is_(None))
    for test in session.scalars(query):
        test.finished_at, test.verdict, test.reasons = now, "error", ["restore"]
        test.result = {"verdict": "error", "findings": [{"reason": "restore", "what": what, "where": "", "advice": ""}]}
    _tell(session, plan, "error", f"The restore test could not be carried out: {what}", now)


def sweep(settings: Settings) -> int:
    """Remove what restore tests that were killed have left in scratch; return how many folders."""
    from msp.backup import scratch

    folder = settings.scratch_path
    return len(scratch.sweep(folder)) if folder.exists() else 0
