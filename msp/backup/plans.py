"""Backup plans and the restore tests made of them. Functions take a session and never commit."""

import hashlib
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from msp import evidence
from msp.backup import case as cases
from msp.backup import engines
from msp.backup import ladder as ladders
from msp.backup.case import Case
from msp.backup.models import BackupPlan, RepositoryLease, RestorePicture, RestoreTest
from msp.backup.plan_parts import PlanParts
from msp.backup.proof import Proof, Tested, proof_state
from msp.backup.verdict import Result
from msp.clock import utc_now
from msp.contracts.models import Client
from msp.db import inserting
from msp.engine import cron as crons
from msp.errors import Conflict, Misconfigured, NotFound

LEASE = timedelta(hours=7)  # longer than any test may take
NAME_LENGTH = 200
RECENT = 50  # tests that a plan's state is judged by


def create(session: Session, parts: PlanParts, *, client_id: int, by: str) -> BackupPlan:
    """Store a plan after reading its case as a test would.

    Raises Misconfigured for a case that cannot be run, one that carries its secret, an unknown engine or zone,
    Conflict if the client has a plan of that name.
    """
    parsed = checked(session, client_id, parts)
    plan = BackupPlan(client_id=client_id, enabled=True, created_at=utc_now(), **parts.columns(parsed.engine))
    session.add(plan)
    flush_named(session, parts.name)
    evidence.record(
        session,
        "backup_plan.created",
        actor=by,
        subject=("backup_plan", plan.id),
        client_id=client_id,
        data={
            "name": parts.name,
            "case": dict(parts.case),
            "proof_every_s": int(parts.proof_every.total_seconds()),
        },
    )
    return plan


def checked(session: Session, client_id: int, parts: PlanParts, *, itself: int | None = None) -> Case:
    """Return the case of a plan whose every part means something, read as a test reads it; for what is raised see
    `create`. itself: the plan that these are to become the parts of."""
    name, case, time_zone = parts.name, parts.case, parts.time_zone
    if not name.strip() or len(name) > NAME_LENGTH:
        raise Misconfigured("The plan has no name that can be read.", advice=f"Give 1 to {NAME_LENGTH} characters.")
    if case.get("secret"):
        raise Misconfigured("The case carries its secret.", advice="Put it into the vault and give its name.")
    parsed = cases.parse(dict(case), now=utc_now())
    engines.engine(parsed.engine)
    try:
        ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise Misconfigured(f"There is no time zone {time_zone!r}.", advice="Use a name like Europe/Berlin.") from error
    for line in (parts.cron, *(step.when for step in parts.ladder if step.when != ladders.AFTER_BACKUP)):
        crons.parse(line, time_zone)
    if parts.proof_every <= timedelta():
        raise Misconfigured("A proof must be allowed some age.", advice="Give the period of the contract's clause.")
    ladders.read_limits(parts.limits)
    same = select(BackupPlan.id).where(
        BackupPlan.client_id == client_id, BackupPlan.name == name, BackupPlan.removed_at.is_(None)
    )
    other = session.scalar(same if itself is None else same.where(BackupPlan.id != itself))
    if other is not None:
        raise Conflict(f"The client has a backup plan {name!r} already, number {other}.", advice="Choose another name.")
    return parsed


def flush_named(session: Session, name: str) -> None:
    """Write a plan's row; raises Conflict if somebody took its name a moment ago."""
    try:
        session.flush()
    except IntegrityError as error:
        raise Conflict(f"The client has a backup plan {name!r} by now.", advice="Choose another name.") from error


def by_id(session: Session, plan_id: int, *, lock: bool = False) -> BackupPlan:
    """Return a plan that was not removed, or raise NotFound. lock: as it is stored now, and nobody else changes it
    before this transaction ends."""
    plan = session.get(BackupPlan, plan_id, with_for_update=lock or None, populate_existing=lock)
    if plan is None or plan.removed_at is not None:
        raise NotFound(f"There is no backup plan {plan_id}.", advice="See msp backup plan list.")
    return plan


def document(plan: BackupPlan, *, secret: str | None, now: datetime, rungs: Iterable[int] = ()) -> dict[str, Any]:
    """Return the case of a test as JSON values, for a tester with another clock; `secret` is in it.

    rungs: those of one step of its ladder; none: all that the case names.
    """
    chosen = {"rungs": sorted(set(rungs))} if rungs else {}
    values = {"now": now.isoformat(), **plan.case, **chosen, "case": plan.case.get("case", plan.name)}
    return {**values, "engine": plan.engine} | ({} if secret is None else {"secret": secret})


def render(plan: BackupPlan, *, secret: str | None, now: datetime, rungs: Iterable[int] = ()) -> Case:
    """Return the case that a test of this plan runs, as `document` tells it."""
    values = document(plan, secret=secret, now=now, rungs=rungs)
    return cases.parse(values, now=now, where=f"backup plan {plan.name}")


def switch(session: Session, plan: BackupPlan, enabled: bool, *, by: str) -> None:
    """Switch a plan on or off; who did it is evidence, because a plan that is off proves nothing."""
    if plan.removed_at is not None:
        raise Conflict(f"The backup plan {plan.name} was removed.", advice="Put it back first.")
    if plan.enabled == enabled:
        return
    plan.enabled = enabled
    evidence.record(
        session,
        "backup_plan.enabled" if enabled else "backup_plan.disabled",
        actor=by,
        subject=("backup_plan", plan.id),
        client_id=plan.client_id,
        data={"name": plan.name},
    )


def lease(session: Session, location: str, test_id: int, now: datetime) -> bool:
    """Take a repository for one test; False while another test reads it. A test begun anew holds its lease still."""
    key = hashlib.sha256(location.encode("utf-8", "surrogatepass")).hexdigest()
    row = session.get(RepositoryLease, key, with_for_update=True, populate_existing=True)
    if row is None:
        values = {"location": key, "test_id": test_id, "until": now + LEASE}
        insert = inserting(session.get_bind().dialect.name)
        made = insert(RepositoryLease).values(values).on_conflict_do_nothing().returning(RepositoryLease.test_id)
        return session.scalar(made) is not None
    if row.test_id != test_id and row.until > now:
        other = session.get(RestoreTest, row.test_id)
        if other is not None and other.finished_at is None:
            return False
    row.test_id, row.until = test_id, now + LEASE
    return True


def begin_test(session: Session, plan: BackupPlan, now: datetime, *, nominal: str | None = None) -> RestoreTest:
    """Note that a test begins. nominal: the schedule's instant; raises Conflict if it was taken already."""
    if nominal is not None:
        query = select(RestoreTest.id).where(RestoreTest.plan_id == plan.id, RestoreTest.nominal == nominal)
        if session.scalar(query) is not None:
            raise Conflict(f"The restore test of {plan.name} for {nominal} was begun already.")
    test = RestoreTest(plan_id=plan.id, started_at=now, nominal=nominal)
    session.add(test)
    session.flush()
    return test


def record_test(
    session: Session,
    plan: BackupPlan,
    result: Result,
    *,
    now: datetime,
    test: RestoreTest | None = None,
    nominal: str | None = None,
    by: str = "worker",
    ticket_id: int | None = None,
) -> RestoreTest:
    """Store what a test showed, with its evidence. test: from `begin_test`; None begins one here."""
    plain = result.plain()
    if test is None:
        test = begin_test(session, plan, now - timedelta(seconds=sum(r.seconds for r in result.rungs)), nominal=nominal)
    test.finished_at, test.verdict, test.reasons = now, result.verdict, result.reasons
    test.rungs, test.result, test.snapshot = plain["rungs"], plain, result.snapshot
    test.rto = None if result.rto_s is None else timedelta(seconds=result.rto_s)
    test.rpo = None if result.rpo_s is None else timedelta(seconds=result.rpo_s)
    test.highest_rung, test.ticket_id = result.highest_rung, ticket_id or test.ticket_id
    session.flush()
    for picture in result.pictures:
        row = RestorePicture(restore_test_id=test.id, name=picture.name, sha256=picture.sha256, png=picture.png)
        session.add(row)
    evidence.record(
        session,
        "restore.tested",
        actor=by,
        subject=("restore_test", test.id),
        client_id=plan.client_id,
        data={"plan": plan.id, "name": plan.name, "case": plan.case, "result": plain},
        at=now,
    )
    return test


def recent(session: Session, plan_id: int, limit: int = RECENT) -> list[RestoreTest]:
    """Return a plan's tests, newest first."""
    query = select(RestoreTest).where(RestoreTest.plan_id == plan_id)
    return list(session.scalars(query.order_by(RestoreTest.started_at.desc(), RestoreTest.id.desc()).limit(limit)))


def pictures(session: Session, test_ids: Iterable[int]) -> dict[int, RestorePicture]:
    """Return the picture of each of these tests that has one, by the test's number."""
    query = select(RestorePicture).where(RestorePicture.restore_test_id.in_(list(test_ids)))
    return {row.restore_test_id: row for row in session.scalars(query)}


def proof(session: Session, plan: BackupPlan, now: datetime) -> Proof:
    """Return whether a plan is proven at `now`."""
    tested = [
        Tested(test.finished_at, test.verdict, test.highest_rung)
        for test in recent(session, plan.id)
        if test.finished_at is not None and test.verdict is not None
    ]
    return proof_state(plan.proof_every, tested, now)


def unproven(session: Session, now: datetime) -> list[tuple[BackupPlan, Proof]]:
    """Return every enabled plan that is not proven at `now`, in order of id: each deserves a ticket."""
    plans = session.scalars(select(BackupPlan).where(BackupPlan.enabled).order_by(BackupPlan.id))
    found = [(plan, proof(session, plan, now)) for plan in plans]
    return [(plan, state) for plan, state in found if state.state != "proven"]


def overview(session: Session, now: datetime, *, client_key: str | None = None) -> list[dict[str, Any]]:
    """Return one plain row a plan: id, client, name, engine, cron, proof, words, last_verdict, proven_at."""
    query = select(BackupPlan, Client).join(Client, Client.id == BackupPlan.client_id)
    query = query.where(BackupPlan.removed_at.is_(None))
    if client_key is not None:
        query = query.where(Client.key == client_key)
    rows = []
    for plan, client in session.execute(query.order_by(Client.key, BackupPlan.name)):
        state = proof(session, plan, now)
        last = next(iter(recent(session, plan.id, 1)), None)
        rows.append(
            {
                "id": plan.id,
                "client": client.key,
                "name": plan.name,
                "engine": plan.engine,
                "cron": plan.cron,
                "enabled": plan.enabled,
                "proof": state.state,
                "words": state.words,
                "proven_at": state.proven_at.isoformat() if state.proven_at else None,
                "last_verdict": last.verdict if last else None,
            }
        )
    return rows
