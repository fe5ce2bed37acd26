"""Tickets as stored: an append-only event log, and beside it a cache for lists."""

import unicodedata
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, UniqueConstraint
from sqlalchemy.engine.default import DefaultExecutionContext
from sqlalchemy.orm import Mapped, mapped_column

from msp.db import Model

#: Letters of a subject that a search looks at; an index of PostgreSQL takes entries of 2,700 bytes at most.
SOUGHT = 500


def folded(text: str) -> str:
    """Return text as searches compare it: the same on every database, which fold letters beyond ASCII differently."""
    return unicodedata.normalize("NFKC", text).casefold()


def _sought(context: DefaultExecutionContext) -> str:
    given: dict[str, Any] = context.get_current_parameters()  # type: ignore[no-untyped-call]
    return folded(given["subject"])[:SOUGHT]


class Ticket(Model):
    """An incident, service request, problem or change. Everything below `opened_at` is derived from the log."""

    __tablename__ = "ticket"
    __table_args__ = (
        # the list by time left, also of one client or by words: both are told from the index alone
        Index("ix_ticket_open_by_time_left", "is_open", "next_due_at", "id", "client_id", "sought"),
        Index("ix_ticket_client_open", "client_id", "is_open", "next_due_at"),
        Index("ix_ticket_next_wake", "next_wake_at"),
        Index("ix_ticket_escalate", "escalate_at"),
        # counted in the order in which they are grouped: six times as fast as sorting them first
        Index("ix_ticket_counters", "is_open", "line", "breached", "assignee_id"),
        Index("ix_ticket_client_counters", "client_id", "is_open", "line", "breached", "assignee_id"),
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
    subject: Mapped[str]  # never changed
    sought: Mapped[str] = mapped_column(default=_sought)  # the subject as a search compares it
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
