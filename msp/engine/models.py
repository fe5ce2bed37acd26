"""What the engine stores of its own: effect claims, worker leases, schedules and their fires.

DBOS keeps its working state in tables of its own beside these; what must last stands here and in evidence.
"""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from msp.db import Model


class EffectClaim(Model):
    """One remote effect that was about to happen. Committed before the host is touched.

    state: claimed -> finished, or claimed -> in_doubt -> resolved. A second look at an unfinished claim
    means that somebody died (or still works) between claim and finish: the effect is in doubt.
    """

    __tablename__ = "effect_claim"
    __table_args__ = (
        UniqueConstraint("run_id", "host_id", "step", "phase", "attempt"),
        Index("ix_effect_claim_state", "state"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int]
    host_id: Mapped[int]
    step: Mapped[int]  # number of the step in the playbook, from 0
    phase: Mapped[str]  # "do", "verify", "undo" ...: one step may touch a host more than once
    attempt: Mapped[int] = mapped_column(default=1)
    state: Mapped[str]  # claimed | finished | in_doubt | resolved
    worker: Mapped[str]
    claimed_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    resolution: Mapped[str | None]  # ran | not_ran | probe_ran | probe_not_ran
    resolved_by: Mapped[str | None]
    note: Mapped[str] = mapped_column(default="")


class WorkerLease(Model):
    """One worker's slot, held as long as its heartbeat is fresh. The slot name is DBOS's executor id."""

    __tablename__ = "worker_lease"
    name: Mapped[str] = mapped_column(primary_key=True)
    pid: Mapped[int]
    hostname: Mapped[str]
    started_at: Mapped[datetime]
    heartbeat_at: Mapped[datetime]
    version: Mapped[str]  # of the product
    draining: Mapped[bool] = mapped_column(default=False)


class Job(Model):
    """One piece of work put on a queue. DBOS carries it; what it is, and how it ended, stands here."""

    __tablename__ = "job"
    __table_args__ = (Index("ix_job_state", "state"),)
    id: Mapped[str] = mapped_column(primary_key=True)  # given by the caller: the same id twice is one job
    queue: Mapped[str]
    handler: Mapped[str]
    payload: Mapped[dict[str, Any]]
    partition: Mapped[str | None]  # client id as text on the queue `runs`
    priority: Mapped[int | None]  # 1 is most urgent
    client_id: Mapped[int | None]  # whose chain of evidence tells of a failure
    state: Mapped[str]  # queued (waiting or running) | done | failed | stopped | cancelled
    round: Mapped[int] = mapped_column(default=1)  # times it was put on the queue: retries and hand-backs too
    tries: Mapped[int] = mapped_column(default=0)  # failures that may be retried
    takeovers: Mapped[int] = mapped_column(default=0)  # times its worker died; stopped after three
    error: Mapped[str | None]
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class Schedule(Model):
    """A cron line in a time zone that enqueues a handler; the stored due time is what tickers look at."""

    __tablename__ = "schedule"
    __table_args__ = (Index("ix_schedule_next_due_at", "next_due_at"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(unique=True)  # "restore_test:7"
    queue: Mapped[str]
    handler: Mapped[str]
    payload: Mapped[dict[str, Any]]
    cron: Mapped[str]  # five fields, crontab(5); weekdays 0-7 or names
    time_zone: Mapped[str]  # IANA name
    next_due_at: Mapped[datetime | None]  # jitter included; None when disabled or never again
    next_nominal: Mapped[str | None]  # "2026-10-25T02:30" local, or "2026-10-25T00:30Z" for hourly or finer
    last_nominal: Mapped[str | None]  # the last one enqueued
    grace: Mapped[timedelta]  # a fire later than this is recorded as missed
    jitter: Mapped[timedelta]
    enabled: Mapped[bool] = mapped_column(default=True)
    client_id: Mapped[int | None]  # whose chain of evidence tells of missed fires


class ScheduleFire(Model):
    """One nominal time of one schedule: enqueued once, or missed and said so."""

    __tablename__ = "schedule_fire"
    __table_args__ = (UniqueConstraint("schedule_id", "nominal"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    schedule_id: Mapped[int] = mapped_column(ForeignKey("schedule.id"))
    nominal: Mapped[str]
    state: Mapped[str]  # enqueued | missed
    due_at: Mapped[datetime]
    at: Mapped[datetime]
