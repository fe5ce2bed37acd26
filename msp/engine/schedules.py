"""Schedules as stored: which are due, enqueue each fire once, record each miss. Times are computed in cron.py."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp import evidence
from msp.db import inserting
from msp.engine import crashpoints, queues
from msp.engine.cron import Fire, jitter_of, parse
from msp.engine.models import Schedule, ScheduleFire
from msp.errors import Misconfigured, NotFound

BATCH = 100  # schedules a transaction
MISSES = 500  # missed fires of one schedule that get a row of their own at one tick; the rest are only counted


@dataclass(frozen=True, slots=True)
class Fired:
    """What one tick did for one schedule. nominal: the fire enqueued, if any; missed: those that were not."""

    key: str
    nominal: str | None
    missed: tuple[str, ...]


def upsert(
    session: Session,
    *,
    key: str,
    handler: str,
    cron: str,
    now: datetime,
    time_zone: str = "UTC",
    payload: Mapping[str, Any] | None = None,
    queue: str = queues.RESTORES,
    grace: timedelta = timedelta(hours=1),
    jitter: timedelta = timedelta(),
    enabled: bool = True,
    client_id: int | None = None,
) -> Schedule:
    """Create or change the schedule `key` and return it. The next fire is the first one after `now`.

    Changing only what is run keeps the fire that is pending. A fire found more than `grace` after its time is
    recorded as missed, not run. jitter: each schedule is delayed by a share of it that is always the same.
    The handler's payload gets `nominal` added. Raises Misconfigured for a cron line or zone that means nothing.
    """
    times = parse(cron, time_zone)
    if not key.strip() or "~" in key:
        raise Misconfigured(f"{key!r} cannot name a schedule.", advice="Name what it is, like restore_test:7.")
    if enabled and times.after(now) is None:
        raise Misconfigured(f"Schedule {cron!r} never fires.", advice="There is no such day in the calendar.")
    row = session.scalar(select(Schedule).where(Schedule.key == key).with_for_update())
    if row is None:
        row = Schedule(key=key, next_due_at=None, next_nominal=None, last_nominal=None)
        session.add(row)
        before = None
    else:
        before = (row.cron, row.time_zone, row.jitter, row.enabled)
    row.queue, row.handler, row.payload, row.client_id = queue, handler, dict(payload or {}), client_id
    row.cron, row.time_zone, row.grace, row.jitter, row.enabled = cron, time_zone, grace, jitter, enabled
    if before != (cron, time_zone, jitter, enabled):
        _next(row, times.after(now) if enabled else None)
    session.flush()
    return row


def remove(session: Session, key: str) -> None:
    """Disable a schedule; its fires stay on record. Raises NotFound."""
    row = session.scalar(select(Schedule).where(Schedule.key == key).with_for_update())
    if row is None:
        raise NotFound(f"There is no schedule {key}.")
    row.enabled = False
    _next(row, None)


def _next(row: Schedule, fire: Fire | None) -> None:
    row.next_nominal = fire.nominal if fire else None
    row.next_due_at = fire.at + jitter_of(row.key, row.jitter) if fire else None


def due_tick(session: Session, now: datetime) -> list[Fired]:
    """Enqueue what is due at `now` and set each schedule's next fire; up to 100 schedules.

    Any number of tickers may do this at once: each row is taken by one, and a fire has one name. Of several
    fires overdue the newest within grace is run and the others are recorded as missed. Call it again, in a new
    transaction, while it returns something.
    """
    query = (
        select(Schedule)
        .where(Schedule.enabled, Schedule.next_due_at <= now)
        .order_by(Schedule.next_due_at)
        .limit(BATCH)
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )
    fired = [_fire(session, row, now) for row in session.scalars(query).all()]
    crashpoints.at("due.before")
    return fired


def _fire(session: Session, row: Schedule, now: datetime) -> Fired:
    times, delay = parse(row.cron, row.time_zone), jitter_of(row.key, row.jitter)
    overdue: list[Fire] = []
    fire = Fire(row.next_nominal, times.at(row.next_nominal)) if row.next_nominal else times.after(now)
    uncounted = False
    while fire is not None and fire.at + delay <= now:
        overdue.append(fire)
        if len(overdue) == MISSES and fire.at + delay < now - row.grace:
            uncounted = True
            fire = times.after(max(fire.at, now - delay - row.grace - timedelta(seconds=1)))
        else:
            fire = times.after(fire.at)
    _next(row, fire)
    newest = overdue[-1] if overdue and overdue[-1].at + delay >= now - row.grace else None
    missed = [item for item in overdue if item is not newest]
    insert = inserting(session.get_bind().dialect.name)
    rows = [
        {
            "schedule_id": row.id,
            "nominal": item.nominal,
            "state": "enqueued" if item is newest else "missed",
            "due_at": item.at + delay,
            "at": now,
        }
        for item in overdue
    ]
    if rows:
        session.execute(insert(ScheduleFire).values(rows).on_conflict_do_nothing())
    if missed:
        data = {"schedule": row.key, "first": missed[0].nominal, "last": missed[-1].nominal, "count": len(missed)}
        evidence.record(
            session,
            "schedule.missed",
            actor="worker",
            subject=("schedule", row.key),
            client_id=row.client_id,
            data=data | ({"and_more": True} if uncounted else {}),
        )
    if newest is not None:
        row.last_nominal = newest.nominal
        queues.enqueue(
            session,
            row.queue,
            row.handler,
            {**row.payload, "nominal": newest.nominal},
            job_id=f"{row.key}@{newest.nominal}",
            partition=row.client_id or 0,
            client_id=row.client_id,
        )
    session.flush()
    return Fired(row.key, newest.nominal if newest else None, tuple(item.nominal for item in missed))
