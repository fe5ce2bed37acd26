"""Tickets as stored: an append-only event log, and beside it a cache for lists."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from msp.db import Model


class Ticket(Model):
    """An incident, service request, problem or change. Everything below `opened_at` is derived from the log."""

    __tablename__ = "ticket"
    __table_args__ = (
        Index("ix_ticket_open_by_time_left", "is_open", "next_due_at"),
        Index("ix_ticket_client_open", "client_id", "is_open", "next_due_at"),
        Index("ix_ticket_next_wake", "next_wake_at"),
        Index("ix_ticket_escalate", "escalate_at"),
        Index("ix_ticket_counters", "is_open", "client_id", "line", "breached", "assignee_id", "next_due_at"),
        UniqueConstraint("client_id", "dedup_key"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    client_id: Mapped[int] = mapped_column(ForeignKey("client.id"))
    site_id: Mapped[int | None] = mapped_column(ForeignKey("site.id"))
    contact_id: Mapped[int | None] = mapped_column(ForeignKey("contact.id"))
    asset_id: Mapped[int | None] = mapped_column(ForeignKey("configuration_item.id"), index=True)
    contract_version_id: Mapped[int | None] = mapped_column(ForeignKey("contract_version.id"))  # pinned at opening
    contract_line: Mapped[str | None]
    kind: Mapped[str]  # incident, request, problem, change
    subject: Mapped[str]
    symptom: Mapped[str | None]  # what suggests a playbook: disk_full, service_down, ...
    dedup_key: Mapped[str | None]  # one ticket per (asset, symptom) or per proof that failed
    opened_at: Mapped[datetime]
    # derived from the log
    log_version: Mapped[int] = mapped_column(default=0)  # seq of the last event that the cache has seen
    state: Mapped[str] = mapped_column(default="open")
    is_open: Mapped[bool] = mapped_column(default=True)
    priority: Mapped[str]
    line: Mapped[str] = mapped_column(default="L1")
    assignee_id: Mapped[int | None] = mapped_column(ForeignKey("user.id"), index=True)
    first_response_due_at: Mapped[datetime | None]
    resolution_due_at: Mapped[datetime | None]
    next_due_at: Mapped[datetime | None]  # the nearest promise not yet kept; lists sort by it
    latest_dispatch_at: Mapped[datetime | None]
    next_wake_at: Mapped[datetime | None]  # when a clock next changes by itself: warning, breach
    escalate_at: Mapped[datetime | None]  # when escalation next looks at it; None while nothing is at risk
    paused: Mapped[bool] = mapped_column(default=False)
    breached: Mapped[bool] = mapped_column(default=False)
    resolved_at: Mapped[datetime | None]


class TicketEvent(Model):
    """One entry of a ticket's log; `kind` and `data` are those of the clock rules plus our own."""

    __tablename__ = "ticket_event"
    __table_args__ = (UniqueConstraint("ticket_id", "seq"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    ticket_id: Mapped[int] = mapped_column(ForeignKey("ticket.id"))
    seq: Mapped[int]
    at: Mapped[datetime]  # when it happened; never before the entry before it
    kind: Mapped[str]
    actor: Mapped[str]
    public: Mapped[bool]  # the client may read it
    text: Mapped[str] = mapped_column(default="")
    data: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)


class Article(Model):
    """A piece of knowledge: what to do when this symptom shows. May name the playbook that does it."""

    __tablename__ = "article"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    text: Mapped[str]
    symptom: Mapped[str | None]
    playbook: Mapped[str | None]
    public: Mapped[bool] = mapped_column(default=False)
    changed_at: Mapped[datetime]
    changed_by: Mapped[str]
