"""The duty roster as stored, and what was told to whom. The rule that reads both is in escalation.py."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import JSON, CheckConstraint, ForeignKey, Index, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from msp import evidence
from msp.clock import utc_now
from msp.db import Model
from msp.desk import lines
from msp.desk.escalation import Duty, Notice
from msp.errors import Misconfigured, NotFound
from msp.people.models import User

LEVELS = (0, 1, 2)
MOST_WEEKS = 53


class RosterDuty(Model):
    """One person's turn: for which support lines (none: all), how high, from when to just before when."""

    __tablename__ = "roster_duty"
    __table_args__ = (
        CheckConstraint("begins_at < ends_at", name="begins_before_it_ends"),
        CheckConstraint("level BETWEEN 0 AND 2", name="known_level"),
        Index("ix_roster_duty_ends", "ends_at", "begins_at"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"), index=True)
    lines: Mapped[list[str]] = mapped_column(JSON)
    level: Mapped[int]  # 0: works on tickets, 1: manager, 2: the manager's manager
    begins_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    created_by: Mapped[str]


class EscalationNotice(Model):
    """Something one person was told about one ticket. `acknowledged_at`: they have taken it."""

    __tablename__ = "notice"
    __table_args__ = (Index("ix_notice_ticket_sent", "ticket_id", "sent_at"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    ticket_id: Mapped[int] = mapped_column(ForeignKey("ticket.id"))
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"), index=True)
    level: Mapped[int]
    why: Mapped[str]
    sent_at: Mapped[datetime]  # when it was decided; a worker sends it at once
    delivered_at: Mapped[datetime | None]  # None: not yet, or there is no way but the page
    failed: Mapped[str | None]  # why it could not be delivered
    acknowledged_at: Mapped[datetime | None]


def add(
    session: Session,
    user: User,
    *,
    line_names: Iterable[str],
    level: int,
    begins_at: datetime,
    ends_at: datetime,
    by: str,
    weeks: int = 1,
) -> list[RosterDuty]:
    """Put a member of staff on the roster, in each of `weeks` weeks at the same UTC time; return the duties.

    Raises Misconfigured for a client's person, an unknown line or level, or a turn that ends before it begins.
    """
    names = sorted({lines.require(name) for name in line_names})
    if user.client_id is not None or not user.active:
        raise Misconfigured(f"{user.name} is not staff.", advice="Choose a technician, dispatcher or manager.")
    if level not in LEVELS:
        raise Misconfigured(f"{level} is no level of duty.", advice="0 works on tickets, 1 and 2 are told later.")
    if not begins_at < ends_at or not 1 <= weeks <= MOST_WEEKS:
        raise Misconfigured(
            "The turn ends before it begins, or comes too often.",
            advice=f"Check its times; {MOST_WEEKS} weeks at most.",
        )
    duties = [
        RosterDuty(
            user_id=user.id,
            lines=names,
            level=level,
            begins_at=begins_at + timedelta(weeks=number),
            ends_at=ends_at + timedelta(weeks=number),
            created_by=by,
        )
        for number in range(weeks)
    ]
    session.add_all(duties)
    session.flush()
    evidence.record(
        session,
        "roster.added",
        actor=by,
        subject=("user", user.id),
        data={"lines": names, "level": level, "begins_at": begins_at.isoformat(), "weeks": weeks},
    )
    return duties


def remove(session: Session, duty_id: int, *, by: str) -> None:
    """Take a turn off the roster; raises NotFound."""
    duty = session.get(RosterDuty, duty_id) if abs(duty_id) < 2**63 else None
    if duty is None:
        raise NotFound("There is no such turn.", advice="Look at the roster again.")
    data = {"begins_at": duty.begins_at.isoformat(), "ends_at": duty.ends_at.isoformat()}
    evidence.record(session, "roster.removed", actor=by, subject=("user", duty.user_id), data=data)
    session.delete(duty)


def upcoming(session: Session, now: datetime, *, limit: int = 500) -> Sequence[tuple[RosterDuty, User]]:
    """Return the turns that are not over, with their people, the earliest first."""
    query = select(RosterDuty, User).join(User, User.id == RosterDuty.user_id).where(RosterDuty.ends_at > now)
    rows = session.execute(query.order_by(RosterDuty.begins_at, RosterDuty.level, RosterDuty.id).limit(limit))
    return [(row[0], row[1]) for row in rows]


def on_duty(session: Session, now: datetime) -> list[Duty]:
    """Return the turns that hold now, as the rule reads them; people by their log-in name."""
    query = (
        select(RosterDuty, User.email)
        .join(User, User.id == RosterDuty.user_id)
        .where(RosterDuty.begins_at <= now, RosterDuty.ends_at > now, User.active)
    )
    return [
        Duty(email, frozenset(duty.lines), duty.level, duty.begins_at, duty.ends_at)
        for duty, email in session.execute(query)
    ]


def told(session: Session, ticket_id: int) -> list[Notice]:
    """Return what was told about a ticket, as the rule reads it."""
    query = select(EscalationNotice, User.email).join(User, User.id == EscalationNotice.user_id)
    return [
        Notice(email, notice.level, notice.sent_at, notice.acknowledged_at)
        for notice, email in session.execute(query.where(EscalationNotice.ticket_id == ticket_id))
    ]


def tell(session: Session, ticket_id: int, email: str, level: int, why: str, now: datetime) -> EscalationNotice:
    """Store that somebody is told, and return the notice; sending it is the caller's."""
    user = session.scalars(select(User).where(User.email == email)).one()
    notice = EscalationNotice(ticket_id=ticket_id, user_id=user.id, level=level, why=why, sent_at=now or utc_now())
    session.add(notice)
    session.flush()
    return notice
