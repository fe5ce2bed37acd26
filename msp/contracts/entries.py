"""What was worked becomes a billing entry, and confirmed entries an act, at the terms in force on the date of work.

Functions take a session and do not commit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, and_, func, select, update
from sqlalchemy.orm import Session

from msp.clock import utc_now
from msp.contracts import acts, block, ledger, line_bill, tariffs, vat
from msp.contracts.agreements import terms_of, version_at, version_in_force
from msp.contracts.change import local_day
from msp.contracts.fields import local_midnight, parse_day
from msp.contracts.lines import Line
from msp.contracts.models import (
    CONFIRMED,
    DRAFT,
    PROPOSED,
    WITHDRAWN,
    Act,
    BillingEntry,
    Client,
    Contract,
    ContractVersion,
)
from msp.contracts.money import minor_units, total
from msp.contracts.proration import days_in_month
from msp.contracts.terms import line_for
from msp.errors import Conflict, Misconfigured


@dataclass(frozen=True, slots=True)
class Worked:
    """Some work for a client. `minutes` from `begun_at`; names as the contract knows them, None where unknown."""

    client_id: int
    begun_at: datetime
    minutes: int
    ticket_id: int | None = None
    run_id: int | None = None
    appointment_id: int | None = None
    evidence_id: int | None = None
    service: str | None = None
    role: str | None = None
    site: str | None = None
    asset: str | None = None
    asset_class: str | None = None
    work: str | None = None  # "remote" or "onsite"


def propose_entry(session: Session, worked: Worked, *, now: datetime | None = None) -> BillingEntry:
    """Bill some work by the contract line that takes it and return the proposed entry; prepaid hours are debited.

    Raises Misconfigured for negative minutes, without a contract in force on the date of work, or without a line.
    Raises Conflict if the act of that month is closed: a correction is a new entry of today.
    """
    if worked.minutes < 0:
        raise Misconfigured(f"{worked.minutes} minutes cannot be worked.")
    version = version_in_force(session, worked.client_id, worked.begun_at)
    if version is None:
        raise Misconfigured(
            f"No contract was in force on {worked.begun_at:%Y-%m-%d}.", advice="Add the contract, then the entry."
        )
    client = session.get_one(Client, worked.client_id)
    terms = terms_of(version)
    zone = terms.zone or ZoneInfo(client.time_zone)
    line = line_for(
        terms,
        service=worked.service,
        role=worked.role,
        site=worked.site,
        asset=worked.asset,
        asset_class=worked.asset_class,
        work=worked.work,
    )
    if line is None:
        raise Misconfigured(
            "No line of the contract takes this work.", advice="Add a line for time and materials to the contract."
        )
    day = local_day(worked.begun_at, zone)
    if _closed(session, version.contract_id, acts.month_of(day)):
        raise Conflict(
            f"The act of {acts.month_of(day)} is closed.", advice="Enter a correction on a day of an open month."
        )
    segments = tariffs.split(worked.begun_at, worked.minutes, line.tariffs, zone)
    billed = line_bill.minutes_billed(line, segments)
    paid = _paid_minutes(session, version.contract_id, line, billed, day, zone)
    priced = line_bill.price(
        line,
        segments,
        paid_minutes=paid,
        fee_due=_fee_due(session, line, worked),
        money_left=_money_left(session, version.contract_id, line, day, zone),
    )
    entry = BillingEntry(
        client_id=worked.client_id,
        contract_version_id=version.id,
        contract_line=line.id,
        ticket_id=worked.ticket_id,
        run_id=worked.run_id,
        appointment_id=worked.appointment_id,
        worked_at=worked.begun_at,
        minutes=worked.minutes,
        billed_minutes=priced.billed_minutes,
        prepaid_minutes=paid,
        amount=priced.amount,
        currency=line.currency,
        reason=priced.reason,
        evidence_id=worked.evidence_id,
        state=PROPOSED,
        created_at=now or utc_now(),
    )
    session.add(entry)
    session.flush()
    return entry


def confirm(session: Session, entry: BillingEntry, by: str) -> None:
    """Let an entry go into the act of its month; raises Conflict unless it is proposed."""
    if entry.state != PROPOSED:
        raise Conflict(f"Billing entry {entry.id} is {entry.state}.", advice="Only a proposed entry is confirmed.")
    entry.state, entry.confirmed_by = CONFIRMED, by


def withdraw(session: Session, entry: BillingEntry) -> None:
    """Take an entry back and give its prepaid minutes back to the block; raises Conflict once it is in an act."""
    query = update(BillingEntry).where(
        BillingEntry.id == entry.id, BillingEntry.act_id.is_(None), BillingEntry.state != WITHDRAWN
    )
    if session.execute(query.values(state=WITHDRAWN).returning(BillingEntry.id)).first() is None:
        raise Conflict(
            f"Billing entry {entry.id} is in an act or withdrawn already.", advice="Correct it by a new entry."
        )
    session.refresh(entry)
    version = session.get_one(ContractVersion, entry.contract_version_id)
    line = terms_of(version).line(entry.contract_line or "")
    if line is not None and line.kind == "block_hours":
        day = local_day(entry.worked_at, _zone(session, version))
        ledger.credit(session, version.contract_id, entry.prepaid_minutes, day)


def close_period(
    session: Session,
    contract: Contract,
    period: str,
    by: str,
    *,
    fees: Sequence[tuple[Decimal, str]] = (),
    now: datetime | None = None,
) -> Act | None:
    """Put the confirmed entries of a month, "2026-03", into one act and return it; None if there is nothing to put.

    fees: (amount, reason) of each recurring line, already prorated; supplied on the last day of the month.
    Closing a closed month returns None: one act a contract and month (R13). VAT is that of each line's date of
    supply (R9). Raises Misconfigured for a period that is no month.
    """
    first = parse_day(f"{period}-01", "The period")
    last = first.replace(day=days_in_month(first.year, first.month))
    version = _version_on(session, contract.id, last)
    if version is None or _closed(session, contract.id, period):
        return None
    zone, agreed = _zone(session, version), terms_of(version).vat
    rows = {
        row.id: row
        for row in session.scalars(
            select(BillingEntry)
            .where(_of_contract(contract.id), _in_month(first, zone))
            .order_by(BillingEntry.worked_at, BillingEntry.id)
        )
    }
    digits = minor_units(contract.currency)
    billable = (acts.Billable(row.id, row.amount, row.act_id, row.state == CONFIRMED) for row in rows.values())
    found = acts.close(billable, period, digits)
    taken = [row for row in rows.values() if found and row.id in found.entries]
    if not (taken or fees):
        return None
    supplied = [(amount, last, agreed) for amount, _ in fees]
    supplied += [(row.amount, local_day(row.worked_at, zone), _vat_of(session, row) or agreed) for row in taken]
    net, tax, gross = _taxed(supplied, contract.currency, digits)
    act = Act(
        contract_id=contract.id,
        period=period,
        state=DRAFT,
        currency=contract.currency,
        lines=[{"reason": reason, "amount": str(amount)} for amount, reason in fees]
        + [
            {"reason": row.reason, "amount": str(row.amount), "entry": row.id, "evidence": row.evidence_id}
            for row in taken
        ],
        net=net,
        vat=tax,
        gross=gross,
        created_at=now or utc_now(),
        created_by=by,
    )
    session.add(act)
    session.flush()
    for row in taken:
        row.act_id = act.id
    session.flush()
    return act


def _taxed(
    supplied: Sequence[tuple[Decimal, date, vat.VatTerms | None]], currency: str, digits: int
) -> tuple[Decimal, Decimal | None, Decimal]:
    """Return (net, VAT or None, gross) of lines: (amount, date of supply, VAT terms or None for no VAT)."""
    groups: dict[tuple[vat.VatTerms, Decimal | None], list[tuple[Decimal, date]]] = {}
    untaxed = [amount for amount, _, agreed in supplied if agreed is None]
    for amount, day, agreed in supplied:
        if agreed is not None:
            groups.setdefault((agreed, vat.rate_on(agreed.rates, day)), []).append((amount, day))
    taxed = [
        vat.tax([amount for amount, _ in lines], agreed, lines[0][1], digits) for (agreed, _), lines in groups.items()
    ]
    net = total([*untaxed, *(part.net for part in taxed)], currency)
    without = all(rate is None for _, rate in groups)
    tax = total((part.vat for part in taxed), currency)
    return net, None if without else tax, net + tax


def _vat_of(session: Session, entry: BillingEntry) -> vat.VatTerms | None:
    line = terms_of(session.get_one(ContractVersion, entry.contract_version_id)).line(entry.contract_line or "")
    return line.vat if line else None


def _paid_minutes(session: Session, contract_id: int, line: Line, billed: int, day: date, zone: ZoneInfo) -> int:
    """Return how many minutes a block (debited here) or the month's included minutes pay for."""
    if line.kind == "block_hours":
        return ledger.debit(session, contract_id, billed, day)[0]
    if not line.included_minutes:
        return 0
    used = session.scalar(
        select(func.sum(BillingEntry.prepaid_minutes)).where(*_same_line(contract_id, line, day, zone))
    )
    return block.draw(line.included_minutes - (used or 0), billed)[0]


def _money_left(session: Session, contract_id: int, line: Line, day: date, zone: ZoneInfo) -> Decimal:
    """Return what is left of the month's fee: a retainer in money is drawn at the line's rate."""
    rate = line.time_rate()
    if line.kind != "retainer_money" or rate is None:
        return Decimal(0)
    spent = (
        line_bill.value(line, tariffs.split(begun, minutes, line.tariffs, zone))
        for begun, minutes in session.execute(
            select(BillingEntry.worked_at, BillingEntry.minutes).where(*_same_line(contract_id, line, day, zone))
        )
    )
    return line.prices["monthly_fee"] - total(spent, line.currency)


def _fee_due(session: Session, line: Line, worked: Worked) -> bool:
    """Return whether this work is the first of its visit (call-out fee) or of its ticket (price per ticket)."""
    if line.kind == "call_out":
        if worked.appointment_id is None:
            return worked.work == "onsite"
        same: ColumnElement[bool] = BillingEntry.appointment_id == worked.appointment_id
    elif worked.ticket_id is None:
        return True
    else:
        same = BillingEntry.ticket_id == worked.ticket_id
    query = select(BillingEntry.id).where(same, BillingEntry.contract_line == line.id, BillingEntry.state != WITHDRAWN)
    return session.scalar(query.limit(1)) is None


def _same_line(contract_id: int, line: Line, day: date, zone: ZoneInfo) -> tuple[ColumnElement[bool], ...]:
    return (
        _of_contract(contract_id),
        _in_month(day.replace(day=1), zone),
        BillingEntry.contract_line == line.id,
        BillingEntry.state != WITHDRAWN,
    )


def _of_contract(contract_id: int) -> ColumnElement[bool]:
    of = select(ContractVersion.id).where(ContractVersion.contract_id == contract_id)
    return BillingEntry.contract_version_id.in_(of)


def _in_month(first: date, zone: ZoneInfo) -> ColumnElement[bool]:
    after = first + timedelta(days=days_in_month(first.year, first.month))
    return and_(
        BillingEntry.worked_at >= local_midnight(first, zone), BillingEntry.worked_at < local_midnight(after, zone)
    )


def _closed(session: Session, contract_id: int, period: str) -> bool:
    return session.scalar(select(Act.id).where(Act.contract_id == contract_id, Act.period == period)) is not None


def _version_on(session: Session, contract_id: int, day: date) -> ContractVersion | None:
    """Return the version whose terms hold at the end of a day."""
    contract = session.get_one(Contract, contract_id)
    zone = ZoneInfo(session.get_one(Client, contract.client_id).time_zone)
    return version_at(session, contract_id, local_midnight(day + timedelta(days=1), zone))


def _zone(session: Session, version: ContractVersion) -> ZoneInfo:
    contract = session.get_one(Contract, version.contract_id)
    return terms_of(version).zone or ZoneInfo(session.get_one(Client, contract.client_id).time_zone)
