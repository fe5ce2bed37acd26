"""What just happened, for pages that are open now. Past-tense names; readers ask for "everything after id N".

Events may be pruned; what must last is evidence.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Index, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from msp.clock import utc_now
from msp.db import Model


class Event(Model):
    """One thing that happened: `ticket.changed`, `run.steps`, `visit.moved`."""

    __tablename__ = "event"
    __table_args__ = (Index("ix_event_topic", "topic", "id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    topic: Mapped[str]  # "run:12", "ticket:4", "board"
    kind: Mapped[str]
    client_id: Mapped[int | None]
    data: Mapped[dict[str, Any]] = mapped_column(JSON)


def record(
    session: Session, topic: str, kind: str, *, client_id: int | None = None, data: Mapping[str, Any] | None = None
) -> Event:
    """Tell open pages; committed with the change it tells of. `data` holds JSON values, already redacted."""
    entry = Event(at=utc_now(), topic=topic, kind=kind, client_id=client_id, data=dict(data or {}))
    session.add(entry)
    return entry


def after(session: Session, topic: str, last: int, limit: int = 500) -> list[Event]:
    """Return the events of one topic with id > `last`, oldest first."""
    query = select(Event).where(Event.topic == topic, Event.id > last).order_by(Event.id).limit(limit)
    return list(session.scalars(query))
