"""The use of a credential, given just in time: to one person, for one ticket, under one clause, for a while."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from msp.db import Model

LONGEST = timedelta(hours=12)
USUAL = timedelta(hours=1)
WAITING, GIVEN, DECLINED, WITHDRAWN, REFUSED, EXPIRED = (
    "waiting", "given", "declined", "withdrawn", "refused", "expired",
)  # fmt: skip


class CredentialGrant(Model):
    """One person may use one secret on one asset for one ticket, from `starts_at` until just before `ends_at`."""

    __tablename__ = "credential_grant"
    __table_args__ = (Index("ix_credential_grant_holder", "client_id", "secret", "actor"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    client_id: Mapped[int] = mapped_column(ForeignKey("client.id"), index=True)
    secret: Mapped[str]  # reference: vault:NAME or bao:MOUNT/PATH#FIELD
    actor: Mapped[str]  # who may use it
    ticket_id: Mapped[int] = mapped_column(ForeignKey("ticket.id"), index=True)
    asset_id: Mapped[int | None] = mapped_column(ForeignKey("configuration_item.id"))  # None: named by a run itself
    run_id: Mapped[int | None] = mapped_column(ForeignKey("run.id"))  # the run for which it was given by itself
    reason: Mapped[str] = mapped_column(default="")
    state: Mapped[str]  # waiting, given, declined, withdrawn, refused, expired
    decision: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)  # effect, clause_id, text, approver
    asked_at: Mapped[datetime]
    lasts: Mapped[timedelta]  # of use, once given
    answer_by: Mapped[datetime | None]  # until when a waiting one may be given
    decided_at: Mapped[datetime | None]
    decided_by: Mapped[str] = mapped_column(default="")
    starts_at: Mapped[datetime | None]
    ends_at: Mapped[datetime | None]
    withdrawn_at: Mapped[datetime | None]
    withdrawn_by: Mapped[str] = mapped_column(default="")
    withdrawn_why: Mapped[str] = mapped_column(default="")
    used_at: Mapped[datetime | None]
    uses: Mapped[int] = mapped_column(default=0)

    @property
    def clause_id(self) -> str | None:
        """The clause that gave it or asked for somebody's word."""
        return self.decision.get("clause_id")

    def holds(self, now: datetime) -> bool:
        """Return whether the secret may be used under this grant now."""
        return (
            self.state == GIVEN
            and self.starts_at is not None
            and self.ends_at is not None
            and self.starts_at <= now < self.ends_at
        )

    def forbids(self, now: datetime) -> bool:
        """Return whether it was withdrawn and would still hold if it had not been."""
        return self.state == WITHDRAWN and self.ends_at is not None and now < self.ends_at
