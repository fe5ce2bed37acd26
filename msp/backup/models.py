"""Backup plans and restore tests as stored. What a result means is decided in verdict.py and plans.py."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, LargeBinary, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from msp.db import Model


class BackupPlan(Model):
    """One backup that a contract wants proven: where it is, how it is tested, and how old a proof may grow."""

    __tablename__ = "backup_plan"
    __table_args__ = (
        Index(
            "one_plan_of_a_name",
            "client_id",
            "name",
            unique=True,
            sqlite_where=text("removed_at IS NULL"),
            postgresql_where=text("removed_at IS NULL"),
        ),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    client_id: Mapped[int] = mapped_column(ForeignKey("client.id"))
    asset_id: Mapped[int | None] = mapped_column(ForeignKey("configuration_item.id"), index=True)
    name: Mapped[str]
    engine: Mapped[str]  # restic, borg, pg_dump, tar, tree, qcow2, or a plug-in's name
    case: Mapped[dict[str, Any]] = mapped_column(JSON)  # the case document, without its secret
    secret_name: Mapped[str | None]  # in the vault, under this client
    cron: Mapped[str]  # five fields, nominal times in `time_zone`
    time_zone: Mapped[str]
    proof_every: Mapped[timedelta]  # the clause: a proof older than this leaves the plan unproven
    enabled: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime]
    ladder: Mapped[list[Any]] = mapped_column(JSON, default=list)  # ladder.py: which rungs when; empty: all by `cron`
    limits: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)  # ladder.py: nice, ionice, window, jitter_s
    every: Mapped[timedelta | None]  # how often the job writes a snapshot; None: nobody watches it
    removed_at: Mapped[datetime | None]  # then it is off; its tests stay, and it can be put back
    enabled_before: Mapped[bool] = mapped_column(default=True)  # what `enabled` was when it was removed
    trigger_digest: Mapped[str | None] = mapped_column(unique=True)  # SHA-256 of the token that the backup job holds


class BackupDraft(Model):
    """A plan that somebody is still writing, new or of a plan that stands. Nothing is tested by it on schedule."""

    __tablename__ = "backup_draft"
    id: Mapped[int] = mapped_column(primary_key=True)
    client_id: Mapped[int] = mapped_column(ForeignKey("client.id"), index=True)
    asset_id: Mapped[int | None] = mapped_column(ForeignKey("configuration_item.id"), index=True)
    plan_id: Mapped[int | None] = mapped_column(ForeignKey("backup_plan.id"), index=True)  # None: a new one
    by: Mapped[str]
    created_at: Mapped[datetime]
    changed_at: Mapped[datetime]
    answers: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)  # drafts.py: what was answered so far
    trial_number: Mapped[int] = mapped_column(default=0)  # of the first restore asked for last; begins anywhere
    trial_state: Mapped[str | None]  # of drafts.TRIAL_STATES; None: never asked for
    trial: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)  # how far it is, then what it found


class RestoreTest(Model):
    """One restore test. `verdict` is null while it runs; error means that nothing was learned about the backup."""

    __tablename__ = "restore_test"
    __table_args__ = (
        UniqueConstraint("plan_id", "nominal"),  # a cron instant is tested once, whoever claims it
        Index("ix_restore_test_plan_started", "plan_id", "started_at"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    plan_id: Mapped[int] = mapped_column(ForeignKey("backup_plan.id"))
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    verdict: Mapped[str | None]  # pass, warn, fail, error
    reasons: Mapped[list[str]] = mapped_column(JSON, default=list)  # of verdict.REASONS
    rungs: Mapped[list[Any]] = mapped_column(JSON, default=list)
    result: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)  # the verdict object as printed
    rto: Mapped[timedelta | None]
    rpo: Mapped[timedelta | None]
    snapshot: Mapped[str | None]
    highest_rung: Mapped[int] = mapped_column(default=0)  # 1 to 6; 4 or more is a proof
    ticket_id: Mapped[int | None] = mapped_column(ForeignKey("ticket.id"), index=True)
    nominal: Mapped[str | None]  # the schedule's instant in the plan's zone; null on demand


class RestorePicture(Model):
    """What a booted machine's screen showed. Its SHA-256 stands in the test's result, and so in the evidence."""

    __tablename__ = "restore_picture"
    __table_args__ = (UniqueConstraint("restore_test_id", "name"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    restore_test_id: Mapped[int] = mapped_column(ForeignKey("restore_test.id"))
    name: Mapped[str]
    sha256: Mapped[str]
    png: Mapped[bytes] = mapped_column(LargeBinary)


class BackupWatch(Model):
    """What the daily look at a plan's job saw last: the newest snapshot and how it compares with those before."""

    __tablename__ = "backup_watch"
    plan_id: Mapped[int] = mapped_column(ForeignKey("backup_plan.id"), primary_key=True)
    looked_at: Mapped[datetime]
    state: Mapped[str]  # of watch.STATES
    words: Mapped[str]
    snapshot: Mapped[str | None]
    snapshot_at: Mapped[datetime | None]
    seen: Mapped[list[Any]] = mapped_column(JSON, default=list)  # newest last: [snapshot, ISO 8601, bytes or null]


class BackupDrill(Model):
    """One fault planted into a copy, and whether the tester caught it. A test that cannot fail proves nothing."""

    __tablename__ = "backup_drill"
    __table_args__ = (Index("ix_backup_drill_engine_at", "engine", "at"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    engine: Mapped[str]
    fault: Mapped[str]  # of drill.FAULTS, or "good" for the copy without any
    caught: Mapped[bool]
    verdict: Mapped[str]
    reasons: Mapped[list[str]] = mapped_column(JSON, default=list)
    words: Mapped[str]
    at: Mapped[datetime]
    seconds: Mapped[float]


class RepositoryLease(Model):
    """Which restore test reads a repository now: one at a time. A test begun anew after a crash holds it still."""

    __tablename__ = "repository_lease"
    location: Mapped[str] = mapped_column(primary_key=True)  # SHA-256 of where it is
    test_id: Mapped[int]
    until: Mapped[datetime]
