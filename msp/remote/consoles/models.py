"""Console sessions as stored: who was admitted to which machine, in which mode, until when, and what was recorded."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from msp.db import Model


class ConsoleSession(Model):
    """One person's admission to one machine's console, on one ticket. The row is the grant: withdrawn, it ends."""

    __tablename__ = "console_session"
    __table_args__ = (Index("ix_console_session_state", "state"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    client_id: Mapped[int] = mapped_column(ForeignKey("client.id"), index=True)
    ticket_id: Mapped[int] = mapped_column(ForeignKey("ticket.id"), index=True)
    asset_id: Mapped[int] = mapped_column(ForeignKey("configuration_item.id"), index=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
    actor: Mapped[str]  # log-in name of that user
    kind: Mapped[str]  # one of rules.KINDS
    mode: Mapped[str]  # view, full
    state: Mapped[str]  # one of rules.STATES
    contract_version_id: Mapped[int | None] = mapped_column(ForeignKey("contract_version.id"))
    decision: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)  # effect, clause_id, text
    consent_by: Mapped[str] = mapped_column(default="")  # who at the machine agreed, where the clause asks for it
    credential_grant_id: Mapped[int | None] = mapped_column(ForeignKey("credential_grant.id"))  # whose end is ours too
    requested_at: Mapped[datetime]
    expires_at: Mapped[datetime]  # a grant that nobody has used by then is void
    nonce: Mapped[str] = mapped_column(default="")  # of the ticket that may still be used; empty once it was
    opened_at: Mapped[datetime | None]
    seen_at: Mapped[datetime | None]  # when the process that serves it last said so
    ends_by: Mapped[datetime | None]  # the limit in all, or the end of the contract's window
    withdrawn_at: Mapped[datetime | None]
    withdrawn_by: Mapped[str | None]
    ended_at: Mapped[datetime | None]
    end: Mapped[str | None]  # one of rules.ENDS
    detail: Mapped[str] = mapped_column(default="")
    browser: Mapped[str] = mapped_column(default="")  # address from which it was used
    recording: Mapped[str] = mapped_column(default="")  # file within the folder of recordings
    recording_bytes: Mapped[int] = mapped_column(default=0)
    recording_sha256: Mapped[str] = mapped_column(default="")
    recording_ms: Mapped[int] = mapped_column(default=0)  # how long it plays


class ConsoleWatcher(Model):
    """Somebody else who looks at an open console. Its person is told who, while `seen_at` is a few seconds old."""

    __tablename__ = "console_watcher"
    __table_args__ = (UniqueConstraint("console_id", "user_id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    console_id: Mapped[int] = mapped_column(ForeignKey("console_session.id"))
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
    since: Mapped[datetime]
    seen_at: Mapped[datetime]
