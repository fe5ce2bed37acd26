"""Field work as stored: technicians, shifts, parts, stock, work orders and appointments (TMF697, TMF646).

Planning rules are pure and live beside this file; what the closed loop does with these rows is in visits.py.
"""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import JSON, CheckConstraint, ForeignKey, Index, LargeBinary, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from msp.db import Model


class Technician(Model):
    """A person who drives to sites. `skills` maps a skill's name to a level, 1 and up."""

    __tablename__ = "technician"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("user.id"), index=True)
    name: Mapped[str] = mapped_column(unique=True)
    phone: Mapped[str | None]
    latitude: Mapped[float | None]  # degrees, where the shifts begin and end
    longitude: Mapped[float | None]
    time_zone: Mapped[str] = mapped_column(default="UTC")
    skills: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    active: Mapped[bool] = mapped_column(default=True)


class Shift(Model):
    """A span in which a technician works (shift, on_call) or does not (absence), in UTC."""

    __tablename__ = "shift"
    __table_args__ = (
        CheckConstraint("starts_at < ends_at", name="starts_before_it_ends"),
        Index("ix_shift_technician_starts", "technician_id", "starts_at"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    technician_id: Mapped[int] = mapped_column(ForeignKey("technician.id"))
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    overtime: Mapped[timedelta] = mapped_column(default=timedelta())  # allowed after ends_at
    kind: Mapped[str] = mapped_column(default="shift")  # shift, absence, on_call


class Part(Model):
    """A spare part by its stock keeping unit."""

    __tablename__ = "part"
    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    minimum: Mapped[int] = mapped_column(default=0)  # order more when all stock together falls below it


class Stock(Model):
    """How many of one part lie in a technician's van, or in the depot when `technician_id` is None."""

    __tablename__ = "stock"
    __table_args__ = (
        UniqueConstraint("part_id", "technician_id"),
        Index(  # NULLs are distinct in the constraint above: one depot row per part needs its own
            "uq_stock_part_depot",
            "part_id",
            unique=True,
            sqlite_where=text("technician_id IS NULL"),
            postgresql_where=text("technician_id IS NULL"),
        ),
        CheckConstraint("quantity >= 0", name="quantity_not_negative"),
        CheckConstraint("reserved >= 0 AND reserved <= quantity", name="reserved_within_quantity"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    part_id: Mapped[int] = mapped_column(ForeignKey("part.id"))
    technician_id: Mapped[int | None] = mapped_column(ForeignKey("technician.id"), index=True)
    quantity: Mapped[int] = mapped_column(default=0)
    reserved: Mapped[int] = mapped_column(default=0)  # promised to appointments, still on the shelf


class WorkOrder(Model):
    """Work that needs somebody on site: what for, with which skills and parts, and by when.

    `state`: proposed, planned, confirmed, on_the_way, working, done, cancelled.
    """

    __tablename__ = "work_order"
    __table_args__ = (Index("ix_work_order_state_due", "state", "due_at"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    client_id: Mapped[int] = mapped_column(ForeignKey("client.id"), index=True)
    site_id: Mapped[int | None] = mapped_column(ForeignKey("site.id"))
    ticket_id: Mapped[int | None] = mapped_column(ForeignKey("ticket.id"), index=True)
    run_id: Mapped[int | None] = mapped_column(ForeignKey("run.id"), unique=True)  # a failed run proposes exactly one
    summary: Mapped[str]
    reason: Mapped[str] = mapped_column(default="")
    skills: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)  # skill -> least level
    parts: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)  # sku -> quantity
    duration: Mapped[timedelta]
    state: Mapped[str] = mapped_column(default="proposed")
    due_at: Mapped[datetime | None]
    latest_dispatch_at: Mapped[datetime | None]  # the point of no return: leave by then, or be late
    created_at: Mapped[datetime]
    log: Mapped[list[Any]] = mapped_column(JSON, default=list)  # what was tried remotely, already redacted
    checklist: Mapped[list[Any]] = mapped_column(JSON, default=list)  # {"text"} or {"text", "playbook"}, in order


class Appointment(Model):
    """A technician's visit for a work order. Times exclude travel, which comes before `starts_at`.

    `state`: proposed, confirmed, on_the_way, working, done, cancelled.
    """

    __tablename__ = "appointment"
    __table_args__ = (
        CheckConstraint("starts_at < ends_at", name="starts_before_it_ends"),
        Index("ix_appointment_technician_starts", "technician_id", "starts_at"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    work_order_id: Mapped[int] = mapped_column(ForeignKey("work_order.id"), index=True)
    technician_id: Mapped[int] = mapped_column(ForeignKey("technician.id"))
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    travel: Mapped[timedelta] = mapped_column(default=timedelta())  # to get there
    state: Mapped[str] = mapped_column(default="proposed")
    promised_from: Mapped[datetime | None]  # the window of arrival told to the client
    promised_until: Mapped[datetime | None]
    version: Mapped[int] = mapped_column(default=1)  # grows with every change; a stale page is refused
    changed_at: Mapped[datetime | None]  # when `version` last grew


class FieldAction(Model):
    """What a technician did on site, as the phone sent it. The phone makes the id: sent twice, it counts once."""

    __tablename__ = "field_action"
    __table_args__ = (Index("ix_field_action_appointment", "appointment_id", "received_at"),)
    id: Mapped[str] = mapped_column(primary_key=True)  # UUID
    appointment_id: Mapped[int] = mapped_column(ForeignKey("appointment.id"))
    kind: Mapped[str]  # on_the_way, working, done, check, photo, part, time, sign, leftover
    state: Mapped[str]  # applied, conflict
    actor: Mapped[str]
    at: Mapped[datetime]  # when it was done, by the phone's clock
    received_at: Mapped[datetime]
    base: Mapped[int]  # the appointment's version that the phone had seen
    data: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    answer: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)  # what the phone was told


class VisitPicture(Model):
    """A photo taken on site (before, after), or the drawn signature."""

    __tablename__ = "visit_picture"
    action_id: Mapped[str] = mapped_column(ForeignKey("field_action.id"), primary_key=True)
    appointment_id: Mapped[int] = mapped_column(ForeignKey("appointment.id"), index=True)
    kind: Mapped[str]  # before, after, signature
    mime: Mapped[str]
    content: Mapped[bytes] = mapped_column(LargeBinary)
    sha256: Mapped[str]


class Handover(Model):
    """A visit that a technician was told to make and no longer makes: who has it in a calendar takes it out."""

    __tablename__ = "handover"
    id: Mapped[int] = mapped_column(primary_key=True)
    appointment_id: Mapped[int] = mapped_column(ForeignKey("appointment.id"), index=True)
    technician_id: Mapped[int] = mapped_column(ForeignKey("technician.id"), index=True)
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    version: Mapped[int]  # of the appointment, once it was somebody else's
    at: Mapped[datetime]


class CalendarFeed(Model):
    """A calendar address that shows the visits of one technician or of one site, until it is withdrawn."""

    __tablename__ = "calendar_feed"
    __table_args__ = (
        CheckConstraint("(technician_id IS NULL) != (site_id IS NULL)", name="of_a_technician_or_a_site"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    technician_id: Mapped[int | None] = mapped_column(ForeignKey("technician.id"), index=True)
    site_id: Mapped[int | None] = mapped_column(ForeignKey("site.id"), index=True)
    client_id: Mapped[int | None] = mapped_column(ForeignKey("client.id"), index=True)  # of the site
    token_sha256: Mapped[str] = mapped_column(unique=True)  # the address itself is shown once and not kept
    created_at: Mapped[datetime]
    created_by: Mapped[str]
    read_at: Mapped[datetime | None]
    withdrawn_at: Mapped[datetime | None]


class RoadTime(Model):
    """The drive between two places without traffic, as a map service told it; places are rounded to 4 decimals."""

    __tablename__ = "road_time"
    from_lat: Mapped[float] = mapped_column(primary_key=True)
    from_lon: Mapped[float] = mapped_column(primary_key=True)
    to_lat: Mapped[float] = mapped_column(primary_key=True)
    to_lon: Mapped[float] = mapped_column(primary_key=True)
    seconds: Mapped[float | None]  # None: the service knows no road
    service: Mapped[str]
    asked_at: Mapped[datetime] = mapped_column(index=True)


class RoadFactor(Model):
    """How much longer than without traffic drives really take. `hour` of the week, Monday 00:00 is 0; -1: overall."""

    __tablename__ = "road_factor"
    hour: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    factor: Mapped[float]
    drives: Mapped[int]
    found_at: Mapped[datetime]


class Depot(Model):
    """Where the stock lies that is in nobody's van: technicians fetch parts there. There is one."""

    __tablename__ = "depot"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    address: Mapped[str | None]
    latitude: Mapped[float | None]  # degrees
    longitude: Mapped[float | None]


class Replan(Model):
    """A better plan for some days that a dispatcher asked the planner for, and what became of it.

    `state`: queued, working, ready, failed, accepted, discarded, undone. `changes`: see changes.py.
    """

    __tablename__ = "replan"
    __table_args__ = (CheckConstraint("begins_at < ends_at", name="begins_before_it_ends"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    asked_by: Mapped[str]
    asked_at: Mapped[datetime]
    begins_at: Mapped[datetime]  # visits that start from here
    ends_at: Mapped[datetime]  # until here may move
    seconds: Mapped[int]  # that the planner may take
    client_ids: Mapped[list[Any] | None] = mapped_column(JSON)  # whose visits may move; None: everybody's
    state: Mapped[str] = mapped_column(default="queued")
    progress: Mapped[float] = mapped_column(default=0.0)  # 0 to 1
    stopping: Mapped[bool] = mapped_column(default=False)  # show what was found by now
    problem: Mapped[str] = mapped_column(default="")  # why it failed
    figures: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    changes: Mapped[list[Any]] = mapped_column(JSON, default=list)
    decided_by: Mapped[str | None]
    decided_at: Mapped[datetime | None]
    undo: Mapped[list[Any]] = mapped_column(JSON, default=list)  # what was there before


class Reservation(Model):
    """Parts of one stock that an appointment holds; given back when it is cancelled, used up when it is done."""

    __tablename__ = "reservation"
    __table_args__ = (UniqueConstraint("appointment_id", "stock_id"), CheckConstraint("quantity > 0", name="some"))
    id: Mapped[int] = mapped_column(primary_key=True)
    appointment_id: Mapped[int] = mapped_column(ForeignKey("appointment.id"))
    stock_id: Mapped[int] = mapped_column(ForeignKey("stock.id"), index=True)
    quantity: Mapped[int]
