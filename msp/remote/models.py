"""Runs as stored: what was asked, what each host answered, who allowed it. Rules are in outcome.py and runner.py."""

from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import JSON, ForeignKey, Index, LargeBinary, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from msp.db import Model


class Run(Model):
    """One playbook, as it was when it ran, on a list of hosts."""

    __tablename__ = "run"
    __table_args__ = (Index("ix_run_state", "state", "not_before"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    client_id: Mapped[int | None] = mapped_column(ForeignKey("client.id"), index=True)  # None: ad-hoc hosts
    ticket_id: Mapped[int | None] = mapped_column(ForeignKey("ticket.id"), index=True)
    contract_version_id: Mapped[int | None] = mapped_column(ForeignKey("contract_version.id"))
    playbook: Mapped[str]
    playbook_version: Mapped[str]
    digest: Mapped[str]  # SHA-256 of `document`
    document: Mapped[str]  # the playbook as run
    parameters: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)  # secrets as "vault:name" only
    action_class: Mapped[str]  # read, change, disruptive, access
    actor: Mapped[str]
    state: Mapped[str]  # awaiting_approval, queued, running, succeeded, failed, in_doubt, cancelled, refused, expired
    dry_run: Mapped[bool] = mapped_column(default=False)
    decision: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)  # effect, clause_id, text
    approval_digest: Mapped[str | None]  # of what the approver saw; a changed run needs a new approval
    requested_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    not_before: Mapped[datetime | None]
    not_after: Mapped[datetime | None]
    max_fail: Mapped[int | None]  # how many hosts may fail; one more, and no further host is started
    parallel: Mapped[int]  # hosts at work at once
    lease_until: Mapped[datetime | None]  # of a run that a command drives itself: later than that, its process is dead


class RunHost(Model):
    """One host of a run. Exactly one outcome each: the sum over outcomes is the number of hosts."""

    __tablename__ = "run_host"
    __table_args__ = (UniqueConstraint("run_id", "position"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id"))
    asset_id: Mapped[int | None] = mapped_column(ForeignKey("configuration_item.id"), index=True)
    name: Mapped[str]
    position: Mapped[int]  # 0, 1, 2 ... as asked
    shard: Mapped[int] = mapped_column(default=0)  # hosts of one shard are driven by one worker
    state: Mapped[str] = mapped_column(default="waiting")  # waiting, running, finished
    outcome: Mapped[str | None]  # one of outcome.KINDS
    status: Mapped[int | None]  # exit status of the step that decided
    detail: Mapped[str] = mapped_column(default="")
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    asked_times: Mapped[int] = mapped_column(default=0)  # in vain, of a host that the run waits for
    waits_until: Mapped[datetime | None]  # when the run gives up waiting for the host to answer


class EndedHost(Protocol):
    """What is told of a host that has ended: the host itself, or a row of ENDED where there are many."""

    asset_id: int | None
    name: str
    outcome: str | None
    status: int | None
    detail: str


ENDED = tuple(getattr(RunHost, name) for name in EndedHost.__annotations__)


class StepResult(Model):
    """What one phase of one step did on one host. Everything in it is redacted before it is stored."""

    __tablename__ = "step_result"
    __table_args__ = (UniqueConstraint("run_host_id", "step", "phase", "attempt"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id"), index=True)
    run_host_id: Mapped[int] = mapped_column(ForeignKey("run_host.id"))
    step: Mapped[int]  # 1, 2, 3 ... after loops and includes are unrolled
    phase: Mapped[str]  # probe, do, check, undo
    attempt: Mapped[int] = mapped_column(default=1)
    name: Mapped[str]
    outcome: Mapped[str]
    status: Mapped[int | None]
    detail: Mapped[str] = mapped_column(default="")
    rendered: Mapped[str] = mapped_column(default="")
    stdout_head: Mapped[bytes] = mapped_column(LargeBinary, default=b"")
    stdout_tail: Mapped[bytes] = mapped_column(LargeBinary, default=b"")
    stdout_bytes: Mapped[int] = mapped_column(default=0)
    stdout_sha256: Mapped[str] = mapped_column(default="")
    stderr_head: Mapped[bytes] = mapped_column(LargeBinary, default=b"")
    stderr_tail: Mapped[bytes] = mapped_column(LargeBinary, default=b"")
    stderr_bytes: Mapped[int] = mapped_column(default=0)
    stderr_sha256: Mapped[str] = mapped_column(default="")
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime]


class RunPicture(Model):
    """What a screen showed during one phase of one step: evidence, with its digest in the chain."""

    __tablename__ = "run_picture"
    __table_args__ = (UniqueConstraint("run_host_id", "step", "phase", "attempt", "position"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id"), index=True)
    run_host_id: Mapped[int] = mapped_column(ForeignKey("run_host.id"))
    step: Mapped[int]
    phase: Mapped[str]  # probe, do, check, undo
    attempt: Mapped[int] = mapped_column(default=1)
    position: Mapped[int]  # 0, 1, 2 ... in the order in which they were taken
    name: Mapped[str]  # before, after, seen, not seen, or as the playbook calls it
    png: Mapped[bytes] = mapped_column(LargeBinary)  # at most some hundred kilobytes
    sha256: Mapped[str]  # of `png`, in hex
    taken_at: Mapped[datetime]


class DeviceConfiguration(Model):
    """A configuration of a router or switch as runs found it, without its secrets. A new row only when it differs."""

    __tablename__ = "device_configuration"
    __table_args__ = (UniqueConstraint("asset_id", "version"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    asset_id: Mapped[int] = mapped_column(ForeignKey("configuration_item.id"))
    version: Mapped[int]  # 1, 2, 3 ... of the asset
    run_id: Mapped[int | None] = mapped_column(ForeignKey("run.id"), index=True)  # that found it first
    text: Mapped[str]
    sha256: Mapped[str]  # of `text` in UTF-8
    taken_at: Mapped[datetime]
    seen_at: Mapped[datetime]  # when a run last found just this


class Approval(Model):
    """A question to the person the contract names: may this run, exactly as digested, go ahead?"""

    __tablename__ = "approval"
    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id"), index=True)
    digest: Mapped[str]  # over playbook, parameters and hosts as shown to the approver
    rule: Mapped[str]  # who may decide
    requested_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    decided_at: Mapped[datetime | None]
    decided_by: Mapped[str | None]
    decision: Mapped[str | None]  # approved, declined
    reason: Mapped[str] = mapped_column(default="")
