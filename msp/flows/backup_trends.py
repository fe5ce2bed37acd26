"""Restore times and ages of data against the contract's restore clause, as it stood when each test was made."""

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp.backup import trend
from msp.backup.models import BackupPlan, RestoreTest
from msp.backup.trend import Trend
from msp.contracts import agreements
from msp.contracts.terms import Restore


def restore_clause(session: Session, client_id: int, at: datetime) -> Restore | None:
    """Return the restore clause of the contract version in force at an instant."""
    version = agreements.version_in_force(session, client_id, at)
    return agreements.terms_of(version).restore if version else None


def promised(session: Session, plan: BackupPlan, measure: str) -> Callable[[datetime], timedelta | None]:
    """Return what was promised of a plan at an instant: by the contract in force then, else by the plan's own case."""
    own = dict(plan.case.get("expect") or {}).get(f"{measure}_s")
    mine = timedelta(seconds=float(own)) if isinstance(own, int | float) else None
    known: dict[datetime, timedelta | None] = {}

    def at(instant: datetime) -> timedelta | None:
        day = instant.replace(minute=0, second=0, microsecond=0)  # a version begins at the start of a day somewhere
        if day not in known:
            clause = restore_clause(session, plan.client_id, instant)
            said = getattr(clause, f"{measure}_s") if clause else None
            known[day] = timedelta(seconds=said) if said is not None else mine
        return known[day]

    return at


def of_plan(session: Session, plan: BackupPlan, now: datetime) -> tuple[Trend, Trend]:
    """Return a plan's trends of restore time (RTO) and age of data (RPO) over the last year."""
    query = select(RestoreTest).where(
        RestoreTest.plan_id == plan.id,
        RestoreTest.finished_at.is_not(None),
        RestoreTest.finished_at >= now - trend.SPAN,
    )
    tests = list(session.scalars(query))
    first, second = (trend.trend(measure, tests, promised(session, plan, measure), now) for measure in trend.MEASURES)
    return first, second
