"""The monthly planted-fault drill of each engine in use: recorded as evidence, red on the board when one gets by."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp import db, evidence
from msp.backup import drill
from msp.backup.models import BackupDrill, BackupPlan
from msp.clock import utc_now
from msp.engine import queues
from msp.settings import Settings

HANDLER = "backup.drill"
EVERY = timedelta(days=31)


def record(session: Session, outcomes: Sequence[drill.Outcome], now: datetime, *, by: str) -> None:
    """Store one drill of one engine, with its evidence in the provider's chain."""
    for one in outcomes:
        row = BackupDrill(
            engine=one.engine, fault=one.fault, caught=one.caught, verdict=one.verdict, reasons=list(one.reasons),
            words=one.words, at=now, seconds=one.seconds,
        )  # fmt: skip
        session.add(row)
    session.flush()
    if outcomes:
        data = {one.fault: {"caught": one.caught, "verdict": one.verdict, "words": one.words} for one in outcomes}
        evidence.record(
            session, "backup.drilled", actor=by, subject=("backup_engine", outcomes[0].engine), data=data, at=now
        )


def last(session: Session) -> dict[str, list[BackupDrill]]:
    """Return the outcomes of each engine's newest drill."""
    found: dict[str, list[BackupDrill]] = {}
    for row in session.scalars(select(BackupDrill).order_by(BackupDrill.at.desc(), BackupDrill.id)):
        known = found.setdefault(row.engine, [])
        if not known or known[0].at == row.at:
            known.append(row)
    return found


def state(rows: Sequence[BackupDrill], now: datetime) -> str:
    """Return passed, failed (a fault got by, or the good backup was blamed), or never (none held in due time). Pure."""
    held = [row for row in rows if row.verdict != drill.SKIPPED]
    if any(not row.caught for row in held):
        return "failed"
    return "passed" if held and now - held[0].at <= EVERY * 1.5 else "never"


def ask(session: Session, now: datetime) -> int:
    """Queue the drill of each engine in use that had none for a month; once a month each."""
    known, asked = last(session), 0
    for engine in session.scalars(select(BackupPlan.engine).where(BackupPlan.enabled).distinct()):
        rows = known.get(engine, [])
        if engine in drill.names() and not (rows and now - rows[0].at < EVERY):
            job_id = f"drill:{engine}:{now:%Y-%m-%d}"
            asked += queues.enqueue(session, queues.RESTORES, HANDLER, {"engine": engine}, job_id=job_id)
    return asked


def perform(settings: Settings, engine: str) -> None:
    """Do one engine's drill and record it."""
    base = settings.scratch_path.resolve()
    base.mkdir(parents=True, exist_ok=True, mode=0o700)
    outcomes = drill.drill(engine, base, utc_now())
    with db.begin() as session:
        record(session, outcomes, utc_now(), by="worker")
