"""Backup plans and restore tests as stored. What a result means is decided in verdict.py and plans.py."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from msp.db import Model


class BackupPlan(Model):
    """One backup that a contract wants proven: where it is, how it is tested, and how old a proof may grow."""

    __tablename__ = "backup_plan"
    __table_args__ = (UniqueConstraint("client_id", "name"),)
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
