"""What was worked becomes a billing entry, and confirmed entries an act, at the terms in force on the date of work.

Functions take a session and do not commit.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from msp import events, evidence
from msp.clock import utc_now
from msp.contracts import act_lines, act_reason, acts, block, ledger, line_bill, rollover, tariffs
from msp.contracts.act_vat import tax_lines
from msp.contracts.agreements import terms_of, version_at, version_in_force
from msp.contracts.change import local_day
from msp.contracts.fees import Fee
from msp.contracts.fields import local_midnight, parse_day
from msp.contracts.holding import hold, hold_contract
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
from msp.contracts.terms import Terms, line_for
from msp.contracts.vat import VatTerms
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
    client = session.get_one(Client, worked.client_id)  # held: what nobody holds is read again below
    version = version_in_force(session, worked.client_id, worked.begun_at)
    if version is None:
        raise Misconfigured(
            f"No contract was in force on {worked.begun_at:%Y-%m-%d}.", advice="Add the contract, then the entry."
        )
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
    hold_contract(session, version.contract_id)
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
    if line.kind == "block_hours" and paid:
        _warn(session, version.contract_id, entry, paid, day)
    return entry


def _warn(session: Session, contract_id: int, entry: BillingEntry, paid: int, day: date) -> None:
    """Record that a block has reached 80 or 95 %: the client and the account manager are told from there."""
    bought, left = ledger.balance(session, contract_id, day)
    for level in block.warnings_crossed(bought, left + paid, left):
        data = {"percent": level, "left_minutes": left, "bought_minutes": bought, "entry": entry.id}
        evidence.record(
            session,
            "block.used",
            actor="billing",
            subject=("contract", contract_id),
            client_id=entry.client_id,
            data=data,
        )
        events.record(session, f"contract:{contract_id}", "block.used", client_id=entry.client_id, data=data)


def confirm(session: Session, entry: BillingEntry, by: str) -> None:
    """Let an entry go into the act of its month; raises Conflict unless it is proposed and that month is open."""
    hold(session, entry)
    if entry.state != PROPOSED:
        raise Conflict(f"Billing entry {entry.id} is {entry.state}.", advice="Only a proposed entry is confirmed.")
    version = session.get_one(ContractVersion, entry.contract_version_id)
    period = acts.month_of(local_day(entry.worked_at, _zone(session, version)))
    if _closed(session, version.contract_id, period):
        raise Conflict(
            f"The act of {period} was closed without entry {entry.id}.", advice="Carry it over into an open month."
        )
    entry.state, entry.confirmed_by = CONFIRMED, by


def withdraw(session: Session, entry: BillingEntry) -> None:
    """Take an entry back and give its prepaid minutes back to the block; raises Conflict once it is in an act."""
    hold(session, entry)
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
    fees: Sequence[tuple[Decimal, str] | Fee] = (),
    annex: Mapping[str, Any] | None = None,
    now: datetime | None = None,
) -> Act | None:
    """Put the confirmed entries of a month, "2026-03", into one act and return it; None if there is nothing to put.

    fees: (amount, reason) of each recurring line, already prorated; supplied on the last day of the month.
    annex: what else the act freezes, see act_document.py; how VAT came about is added to it.
    Closing a closed month returns None: one act a contract and month (R13). VAT is that of each line's date of
    supply (R9). Raises Misconfigured for a period that is no month.
    """
    first, last = days_of(period)
    hold_contract(session, contract.id)
    version = _version_on(session, contract.id, last)
    if version is None or _closed(session, contract.id, period):
        return None
    zone, terms = _zone(session, version), terms_of(version)
    rows = {
        row.id: row
        for row in session.scalars(
            select(BillingEntry)
            .where(_of_contract(contract.id), _in_month(first, zone))
            .order_by(BillingEntry.worked_at, BillingEntry.id)
            .execution_options(populate_existing=True)  # a page may have read some before we held the contract
        )
    }
    digits = minor_units(contract.currency)
    billable = (acts.Billable(row.id, row.amount, row.act_id, row.state == CONFIRMED) for row in rows.values())
    found = acts.close(billable, period, digits)
    taken = [row for row in rows.values() if found and row.id in found.entries]
    if not (taken or fees):
        return None
    recurring = [Fee(*fee) for fee in fees]
    lines = [act_lines.of_fee(fee.amount, fee.reason, fee.printed) for fee in recurring]
    agreed = [_vat_of_line(terms.line(fee.printed.get("clause") or ""), terms) for fee in recurring]
    days = [last for _ in lines]
    for row in taken:
        line, printed = _printed(session, row, zone)
        lines += printed
        agreed += [_vat_of_line(line, terms) for _ in printed]
        days += [date.fromisoformat(one["worked_on"]) for one in printed]
    bill = tax_lines(
        [(Decimal(one["amount"]), day, vat) for one, day, vat in zip(lines, days, agreed, strict=True)],
        contract.currency,
    )
    for stored, rate in zip(lines, bill.rates, strict=True):
        stored["vat_rate"] = None if rate is None else str(rate)
    act = Act(
        contract_id=contract.id,
        period=period,
        state=DRAFT,
        currency=contract.currency,
        lines=lines,
        net=bill.net,
        vat=bill.vat,
        gross=bill.gross,
        annex={**annex, "vat": bill.printed()} if annex is not None else None,
        created_at=now or utc_now(),
        created_by=by,
    )
    session.add(act)
    session.flush()
    for row in taken:
        row.act_id = act.id
    session.flush()
    return act


def days_of(period: str) -> tuple[date, date]:
    """Return the first and the last day of a month, "2026-03"; raises Misconfigured for anything else."""
    first = parse_day(f"{period}-01", "The period")
    return first, first.replace(day=days_in_month(first.year, first.month))


def worked_at(session: Session, row: BillingEntry) -> datetime:
    """Return when an entry was worked, also one that was carried over into the month that bills it."""
    of = row if row.carried_from is None else session.get_one(BillingEntry, row.carried_from)
    return of.worked_at


def _printed(session: Session, row: BillingEntry, zone: ZoneInfo) -> tuple[Line | None, list[dict[str, Any]]]:
    """Return the contract line of an entry, as of the day of work, and the lines of the act that it makes."""
    line = terms_of(session.get_one(ContractVersion, row.contract_version_id)).line(row.contract_line or "")
    begun = worked_at(session, row)
    work = act_lines.Work(
        entry=row.id,
        evidence=row.evidence_id,
        ticket=row.ticket_id,
        worked_on=local_day(begun, zone),
        minutes=row.minutes,
        billed_minutes=row.billed_minutes,
        prepaid_minutes=row.prepaid_minutes,
        amount=row.amount,
        reason=row.reason,
        carried=row.carried_from is not None,
    )
    segments = tariffs.split(begun, row.minutes, line.tariffs, zone) if line else ()
    return line, act_lines.of_work(line, work, segments)


def reasons(session: Session, rows: Iterable[BillingEntry], locale: str) -> dict[int, str]:
    """Return why each entry costs what it does, by id, in a language: as its act will say it."""
    found = {}
    for row in rows:
        version = session.get_one(ContractVersion, row.contract_version_id)
        _, printed = _printed(session, row, _zone(session, version))
        found[row.id] = "; ".join(act_reason.reason(line, row.currency, locale) for line in printed)
    return found


def _vat_of_line(line: Line | None, terms: Terms) -> VatTerms | None:
    return (line.vat if line else None) or terms.vat


def _paid_minutes(session: Session, contract_id: int, line: Line, billed: int, day: date, zone: ZoneInfo) -> int:
    """Return how many minutes a block (debited here) or the month's included minutes pay for."""
    if line.kind == "block_hours":
        return ledger.debit(session, contract_id, billed, day)[0]
    if not line.included_minutes:
        return 0
    used = session.scalar(
        select(func.sum(BillingEntry.prepaid_minutes)).where(*_same_line(contract_id, line, day, zone))
    )
    available = line.included_minutes + _carried(session, contract_id, line, day, zone)
    return block.draw(available - (used or 0), billed)[0]


def _carried(session: Session, contract_id: int, line: Line, day: date, zone: ZoneInfo) -> int:
    """Return the included minutes that earlier months left (R5), counted anew from the first month of the contract."""
    if not (line.rollover_cap_minutes and line.rollover_months):
        return 0
    month, this = session.get_one(Contract, contract_id).starts_on.replace(day=1), day.replace(day=1)
    used: dict[str, int] = {}
    drawn = select(BillingEntry.worked_at, BillingEntry.prepaid_minutes).where(
        _of_contract(contract_id),
        BillingEntry.contract_line == line.id,
        _counts(),
        BillingEntry.worked_at < local_midnight(this, zone),
    )
    for at, minutes in session.execute(drawn):
        period = acts.month_of(local_day(at, zone))
        used[period] = used.get(period, 0) + minutes
    carried: tuple[int, ...] = ()
    while month < this:
        carried = rollover.close_month(
            line.included_minutes,
            carried,
            used.get(acts.month_of(month), 0),
            cap=line.rollover_cap_minutes,
            months=line.rollover_months,
        ).carried
        month += timedelta(days=days_in_month(month.year, month.month))
    return sum(carried)


def _money_left(session: Session, contract_id: int, line: Line, day: date, zone: ZoneInfo) -> Decimal:
    """Return what is left of the month's fee: a retainer in money is drawn at the rate of the day of work (R12)."""
    if line.kind != "retainer_money" or line.time_rate() is None:
        return Decimal(0)
    rows = session.scalars(select(BillingEntry).where(*_same_line(contract_id, line, day, zone)))
    return line.prices["monthly_fee"] - total((_drawn(session, row) for row in rows), line.currency)


def _drawn(session: Session, row: BillingEntry) -> Decimal:
    """Return what an entry drew from its month's fee: its worth by its own version, less what it bills beyond."""
    version = session.get_one(ContractVersion, row.contract_version_id)
    line = terms_of(version).line(row.contract_line or "")
    if line is None or line.kind != "retainer_money" or not row.minutes:
        return Decimal(0)
    segments = tariffs.split(row.worked_at, row.minutes, line.tariffs, _zone(session, version))
    return line_bill.value(line, segments) - row.amount


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
        _counts(),
    )


def _counts() -> ColumnElement[bool]:
    """Whether an entry draws on its month: one that was carried over draws on the month of its work, not a later."""
    later = aliased(BillingEntry)
    carried = select(later.id).where(later.carried_from == BillingEntry.id, later.state != WITHDRAWN).exists()
    return and_(BillingEntry.carried_from.is_(None), or_(BillingEntry.state != WITHDRAWN, carried))


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
