"""Clients, their signed contracts and what was worked for them, as stored.

What a contract means is said elsewhere: terms.py reads a version's document, clauses.py decides actions,
billing rules are pure modules beside them. Here stands only what must be true of every row.
"""

from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import JSON, CheckConstraint, ForeignKey, Index, UniqueConstraint, event
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Mapped, Mapper, mapped_column, object_session

from msp.clock import utc_now
from msp.db import Model
from msp.errors import Conflict

#: The kinds of contracts and of their lines; what each bills is said in terms.py.
KINDS = (
    "call_out",
    "t_and_m",
    "block_hours",
    "retainer_money",
    "fixed_scope",
    "per_device",
    "per_user",
    "per_ticket",
)
#: The states of a billing entry, and of an act.
PROPOSED, CONFIRMED, WITHDRAWN = "proposed", "confirmed", "withdrawn"
DRAFT, SENT, ACCEPTED, DISPUTED = "draft", "sent", "accepted", "disputed"


class Client(Model):
    """Whom we serve. `key` is the short name of addresses, files and commands."""

    __tablename__ = "client"
    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(unique=True)  # lower-case letters, digits and hyphens
    name: Mapped[str]
    time_zone: Mapped[str] = mapped_column(default="UTC")  # IANA name
    locale: Mapped[str] = mapped_column(default="en")
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class Site(Model):
    """A place of a client where things stand and technicians go."""

    __tablename__ = "site"
    __table_args__ = (UniqueConstraint("client_id", "name"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    client_id: Mapped[int] = mapped_column(ForeignKey("client.id"))
    name: Mapped[str]
    address: Mapped[str] = mapped_column(default="")
    latitude: Mapped[float | None]  # degrees, WGS 84
    longitude: Mapped[float | None]
    time_zone: Mapped[str | None]  # None: the client's


class Contact(Model):
    """A person at the client. `approves`: may say yes to what the contract only allows when asked."""

    __tablename__ = "contact"
    __table_args__ = (UniqueConstraint("client_id", "email"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    client_id: Mapped[int] = mapped_column(ForeignKey("client.id"))
    name: Mapped[str]
    email: Mapped[str | None]
    phone: Mapped[str | None]
    approves: Mapped[bool] = mapped_column(default=False)


class Contract(Model):
    """An agreement, in force from `starts_on` to `ends_on`, both days included, in the client's zone, once signed."""

    __tablename__ = "contract"
    __table_args__ = (CheckConstraint("ends_on IS NULL OR starts_on < ends_on", name="starts_before_it_ends"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    client_id: Mapped[int] = mapped_column(ForeignKey("client.id"), index=True)
    reference: Mapped[str] = mapped_column(unique=True)  # as printed on the signed paper
    title: Mapped[str] = mapped_column(default="")
    kind: Mapped[str]  # the kind of its main line: one of KINDS
    currency: Mapped[str]  # ISO 4217
    starts_on: Mapped[date]
    ends_on: Mapped[date | None]  # None: until cancelled
    draft: Mapped[bool] = mapped_column(default=False)  # not signed yet: never in force


class ContractVersion(Model):
    """The terms from `effective_at` until the next version's. Never changed: an amendment is a new version."""

    __tablename__ = "contract_version"
    __table_args__ = (
        UniqueConstraint("contract_id", "number", name="uq_contract_version_number"),
        UniqueConstraint("contract_id", "effective_at", name="uq_contract_version_effective_at"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    contract_id: Mapped[int] = mapped_column(ForeignKey("contract.id"))
    number: Mapped[int]  # 1, 2, ... within the contract
    effective_at: Mapped[datetime]
    terms: Mapped[dict[str, Any]] = mapped_column(JSON)  # see terms.py
    digest: Mapped[str]  # terms.digest(terms): what was signed
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    created_by: Mapped[str]


@event.listens_for(ContractVersion, "before_update")
@event.listens_for(ContractVersion, "before_delete")
def refuse_to_change(_mapper: Mapper[Any], _connection: Connection, version: ContractVersion) -> None:
    """Raise Conflict: tickets, runs and bills were judged by these terms."""
    session = object_session(version)
    if session and version not in session.deleted and not session.is_modified(version):
        return  # touched, and set to what it was
    raise Conflict(
        f"Version {version.number} of a contract cannot be changed or deleted.",
        advice="Add a version with the new terms and the instant from which they hold.",
    )


class Act(Model):
    """The acceptance act of one contract for one calendar month. Closing a month again makes no second one."""

    __tablename__ = "act"
    __table_args__ = (
        UniqueConstraint("contract_id", "period"),
        CheckConstraint("state IN ('draft', 'sent', 'accepted', 'disputed')", name="known_state"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    contract_id: Mapped[int] = mapped_column(ForeignKey("contract.id"))
    period: Mapped[str]  # "2026-03"
    state: Mapped[str] = mapped_column(default=DRAFT)
    currency: Mapped[str]
    lines: Mapped[list[Any]] = mapped_column(JSON)  # as printed: see act_lines.py
    net: Mapped[Decimal]
    vat: Mapped[Decimal | None]  # None: no VAT, which is not 0 %
    gross: Mapped[Decimal]
    annex: Mapped[dict[str, Any] | None] = mapped_column(JSON)  # frozen at closing: see act_document.py
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    created_by: Mapped[str]


class BillingEntry(Model):
    """Time worked for a client: proposed by a run or a visit, confirmed by a person, then put into one act."""

    __tablename__ = "billing_entry"
    __table_args__ = (
        Index("ix_billing_entry_client_worked", "client_id", "worked_at"),
        CheckConstraint("minutes >= 0 AND billed_minutes >= 0", name="minutes_not_negative"),
        CheckConstraint("state IN ('proposed', 'confirmed', 'withdrawn')", name="known_state"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    client_id: Mapped[int] = mapped_column(ForeignKey("client.id"))
    contract_version_id: Mapped[int] = mapped_column(ForeignKey("contract_version.id"))  # in force when it was worked
    contract_line: Mapped[str | None]  # id of the line that took it
    ticket_id: Mapped[int | None] = mapped_column(ForeignKey("ticket.id"), index=True)
    run_id: Mapped[int | None] = mapped_column(ForeignKey("run.id"))
    appointment_id: Mapped[int | None] = mapped_column(ForeignKey("appointment.id"))
    worked_at: Mapped[datetime]
    minutes: Mapped[int]  # as worked
    billed_minutes: Mapped[int]  # as rounded by the contract
    prepaid_minutes: Mapped[int] = mapped_column(default=0)  # of these, what a block or the included minutes pay for
    amount: Mapped[Decimal]  # what the client pays beyond what is included
    currency: Mapped[str]
    reason: Mapped[str]  # clause, tariff and rounding, in words
    evidence_id: Mapped[int | None] = mapped_column(ForeignKey("evidence.id"))
    state: Mapped[str] = mapped_column(default=PROPOSED)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    confirmed_by: Mapped[str | None]
    act_id: Mapped[int | None] = mapped_column(ForeignKey("act.id"), index=True)  # one act at most
    #: The entry that its own closed month left out, and whose minutes count there: this one only bills it later.
    carried_from: Mapped[int | None] = mapped_column(ForeignKey("billing_entry.id"), index=True)


class HourBlock(Model):
    """Prepaid minutes. The balance changes only through ledger.debit; the database refuses less than zero."""

    __tablename__ = "hour_block"
    __table_args__ = (
        Index("ix_hour_block_drain", "contract_id", "expires_on", "purchased_on"),
        CheckConstraint("balance_minutes >= 0 AND balance_minutes <= minutes", name="never_overdrawn"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    contract_id: Mapped[int] = mapped_column(ForeignKey("contract.id"))
    purchased_on: Mapped[date]
    expires_on: Mapped[date | None]  # the last day it may be used; None: never expires
    minutes: Mapped[int]  # as bought
    balance_minutes: Mapped[int]
