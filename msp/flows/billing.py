"""A month of a contract becomes an act: fees, confirmed work, tickets with their outcome, hours left, credits.

Everything that the act prints is frozen in it, so that it reads the same for ever. Functions take a session and do not
commit.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from msp.assets.models import ConfigurationItem
from msp.clock import utc_now
from msp.contracts import act_document, act_lines, act_states, agreements, entries, service_credits
from msp.contracts.act_document import ActDocument, StoredAct
from msp.contracts.acts import month_of
from msp.contracts.block import Block
from msp.contracts.block_statement import BlockMonth, block_month
from msp.contracts.change import local_day
from msp.contracts.covers import Asset, asset_covered
from msp.contracts.fees import Device, Fee, Span, fees_of
from msp.contracts.fields import local_midnight
from msp.contracts.lines import Line
from msp.contracts.models import Act, BillingEntry, Client, Contact, Contract, ContractVersion, HourBlock, Site
from msp.contracts.money import total
from msp.contracts.outputs.act_json import digest
from msp.contracts.proration import days_in_month
from msp.desk import attainment, handled
from msp.desk.attainment import Handled
from msp.errors import Conflict


@dataclass(frozen=True, slots=True)
class Provider:
    """Who issues the act, as printed: from the settings."""

    name: str = ""
    details: str = ""  # address, tax number, account: one line


def close_month(
    session: Session,
    contract: Contract,
    period: str,
    *,
    by: str,
    provider: Provider | None = None,
    now: datetime | None = None,
) -> Act | None:
    """Make the act of a month, "2026-03", and its evidence; None if it is closed already or there is nothing to bill.

    Raises Conflict for a draft and before the month is over in the client's zone, Misconfigured for a period that is
    no month.
    """
    now = now or utc_now()
    first, last = entries.days_of(period)
    if contract.draft:
        raise Conflict(
            f"Contract {contract.reference} is a draft.", advice="Sign it first; until then it bills nothing."
        )
    client = session.get_one(Client, contract.client_id)
    zone = ZoneInfo(client.time_zone)
    if local_day(now, zone) <= last:
        raise Conflict(
            f"{period} is not over yet.", advice=f"Close it from {last + timedelta(days=1)} on, in {client.time_zone}."
        )
    fees = monthly_fees(session, contract, client, first, last)
    provider = provider or Provider()
    annex: dict[str, Any] = {
        "client": {"name": client.name, "zone": client.time_zone},
        "contract": {"reference": contract.reference, "title": contract.title},
        "provider": {"name": provider.name, "details": provider.details},
        "locale": client.locale,
        "closed_on": local_day(now, zone).isoformat(),
    }
    act = entries.close_period(session, contract, period, by, fees=fees, annex=annex, now=now)
    if act is None:
        return None
    rows = of_contract(session, contract, period, now)
    billed = {line["ticket"] for line in act.lines if line.get("ticket")}
    blocks = blocks_of(session, contract, zone, first, last)
    act.annex = {
        **(act.annex or {}),
        "blocks": asdict(blocks) if blocks else None,
        "tickets": [
            _ticket(row, zone)
            for row in rows
            if row.ticket in billed or row.is_open or (row.resolved_at or row.opened_at) >= local_midnight(first, zone)
        ],
        "credits": credit_statements(session, contract, act, rows),
    }
    session.flush()
    act_states.closed(session, act, by=by, digest=digest(document_of(session, act)))
    return act


def document_of(session: Session, act: Act, locale: str | None = None) -> ActDocument:
    """Return the document of a stored act, in the client's language unless `locale` is given.

    One that was closed without an annex takes the names of today.
    """
    annex = act.annex
    if annex is None or "client" not in annex:
        contract = session.get_one(Contract, act.contract_id)
        client = session.get_one(Client, contract.client_id)
        annex = {
            "client": {"name": client.name, "zone": client.time_zone},
            "contract": {"reference": contract.reference, "title": contract.title},
            "provider": {"name": "", "details": ""},
            "locale": client.locale,
            "closed_on": local_day(act.created_at, ZoneInfo(client.time_zone)).isoformat(),
            **(annex or {}),
        }
    stored = StoredAct(act.period, act.currency, act.lines, act.net, act.vat, act.gross, annex)
    return act_document.build(stored, locale)


@dataclass(frozen=True, slots=True)
class Closable:
    """A month that is over and has no act yet. `waiting`: proposed entries that the act would leave out."""

    contract: Contract
    client: Client
    period: str
    confirmed: int
    amount: Decimal
    waiting: int


def month_in(at: datetime, zone: str) -> str:
    """Return the month of an instant in a time zone: "2026-03"."""
    return month_of(local_day(at, ZoneInfo(zone)))


def closable(session: Session, contracts: Sequence[Contract], now: datetime) -> list[Closable]:
    """Return the months to close, the oldest first: those with unbilled entries or with recurring fees.

    Each since the contract began counts: a month that nobody closed stays until it is closed.
    """
    ids = [contract.id for contract in contracts]
    clients = {client.id: client for client in session.scalars(select(Client))}
    versions = select(ContractVersion.id, ContractVersion.contract_id).where(ContractVersion.contract_id.in_(ids))
    of_version: dict[int, int] = {row[0]: row[1] for row in session.execute(versions)}
    closed = {
        (row[0], row[1]) for row in session.execute(select(Act.contract_id, Act.period).where(Act.contract_id.in_(ids)))
    }
    months: dict[tuple[int, str], list[BillingEntry]] = {}
    by_id = {contract.id: contract for contract in contracts}
    for entry in session.scalars(
        select(BillingEntry).where(
            BillingEntry.contract_version_id.in_(of_version),
            BillingEntry.act_id.is_(None),
            BillingEntry.state != "withdrawn",
        )
    ):
        contract_id = of_version[entry.contract_version_id]
        zone = ZoneInfo(clients[by_id[contract_id].client_id].time_zone)
        months.setdefault((contract_id, month_of(local_day(entry.worked_at, zone))), []).append(entry)
    for contract in (one for one in contracts if not one.draft):
        client = clients[contract.client_id]
        today = local_day(now, ZoneInfo(client.time_zone))
        first = contract.starts_on.replace(day=1)
        while first < today.replace(day=1) and (contract.ends_on is None or first <= contract.ends_on):
            last = first.replace(day=days_in_month(first.year, first.month))
            key = (contract.id, month_of(first))
            if key not in closed and key not in months and monthly_fees(session, contract, client, first, last):
                months[key] = []
            first = last + timedelta(days=1)
    found = []
    for (contract_id, period), rows in months.items():
        contract = by_id[contract_id]
        client = clients[contract.client_id]
        over = period < month_of(local_day(now, ZoneInfo(client.time_zone)))
        if over and (contract_id, period) not in closed:
            sure = [row for row in rows if row.state == "confirmed"]
            amount = total((row.amount for row in sure), contract.currency)
            found.append(Closable(contract, client, period, len(sure), amount, len(rows) - len(sure)))
    return sorted(found, key=lambda one: (one.period, one.contract.reference))


def monthly_fees(session: Session, contract: Contract, client: Client, first: date, last: date) -> list[Fee]:
    """Return the recurring fees of a month, for the days on which the contract and each of its versions held."""
    zone = ZoneInfo(client.time_zone)
    begins = max(first, contract.starts_on)
    ends = min(last, contract.ends_on) if contract.ends_on else last
    spans: list[Span] = []
    for version in agreements.versions(session, contract.id):
        day = max(local_day(version.effective_at, zone), begins)
        if day > ends:
            break
        if spans and spans[-1].first == day:
            spans.pop()  # amended before the month began: only the latest counts
        elif spans:
            spans[-1] = Span(spans[-1].first, day - timedelta(days=1), spans[-1].lines)
        spans.append(Span(day, ends, agreements.terms_of(version).lines))
    items = session.execute(
        select(ConfigurationItem, Site.name)
        .outerjoin(Site, Site.id == ConfigurationItem.site_id)
        .where(ConfigurationItem.client_id == client.id, ConfigurationItem.status == "live")
        .order_by(ConfigurationItem.name)
    ).all()
    people = session.scalar(select(func.count()).select_from(Contact).where(Contact.client_id == client.id)) or 0

    def devices(line: Line) -> list[Device]:
        return [
            Device(item.name, local_day(item.created_at, zone))
            for item, site in items
            if asset_covered(Asset(item.name, item.kind, site), [(line.covers, line.excludes)])
        ]

    return fees_of(spans, devices, lambda _: people)


def blocks_of(session: Session, contract: Contract, zone: ZoneInfo, first: date, last: date) -> BlockMonth | None:
    """Return what a month did to the prepaid hours of a contract; None if it never had any."""
    stored = session.scalars(select(HourBlock).where(HourBlock.contract_id == contract.id))
    blocks = [Block(row.id, row.minutes, row.purchased_on, row.expires_on) for row in stored]
    if not blocks:
        return None
    versions = {version.id: version for version in agreements.versions(session, contract.id)}
    drawn = []
    for entry in session.scalars(
        select(BillingEntry).where(
            BillingEntry.contract_version_id.in_(versions),
            BillingEntry.state != "withdrawn",
            BillingEntry.prepaid_minutes > 0,
        )
    ):
        terms = agreements.terms_of(versions[entry.contract_version_id])
        line = terms.line(entry.contract_line or "")
        if line is not None and line.kind == "block_hours":
            drawn.append((local_day(entries.worked_at(session, entry), terms.zone or zone), entry.prepaid_minutes))
    return block_month(blocks, drawn, first, last)


def bounds(client: Client, period: str) -> tuple[datetime, datetime]:
    """Return the UTC instants between which a month lies in the client's zone."""
    first, last = entries.days_of(period)
    zone = ZoneInfo(client.time_zone)
    return local_midnight(first, zone), local_midnight(last + timedelta(days=1), zone)


def of_contract(session: Session, contract: Contract, period: str, now: datetime) -> list[Handled]:
    """Return the tickets of a contract's month, judged as of its end."""
    client = session.get_one(Client, contract.client_id)
    start, end = bounds(client, period)
    versions = {version.id for version in agreements.versions(session, contract.id)}
    rows = handled.read(session, start, end, now, client_ids=[client.id])
    return [row for row in rows if row.contract_version_id in versions]


def credit_statements(session: Session, contract: Contract, act: Act, rows: Sequence[Handled]) -> list[dict[str, Any]]:
    """Return the service credit statement of each line that agrees credits, in JSON's own types."""
    client = session.get_one(Client, contract.client_id)
    start, end = bounds(client, act.period)
    version = agreements.version_at(session, contract.id, end - timedelta(microseconds=1))
    found = []
    for line in agreements.terms_of(version).lines if version else ():
        if not line.service_credits:
            continue
        own = [row for row in rows if row.contract_line == line.id]
        judged = [
            service_credits.Judged(row.ticket, one.outcome == attainment.KEPT)
            for row, one in attainment.judgements(own, start, end)
        ]
        base = act_lines.net_of_clause(act.lines, line.id)
        owed = service_credits.statement(line.id, line.service_credits, judged, base, contract.currency)
        found.append(
            {
                "clause": line.id,
                "name": line.name,
                "counted": owed.counted,
                "kept": owed.kept,
                "attainment": _text(owed.attainment),
                "below": _text(owed.step.below if owed.step else None),
                "credit_percent": _text(owed.step.credit_percent if owed.step else None),
                "base": str(owed.base),
                "amount": str(owed.amount),
                "broken": list(owed.broken),
            }
        )
    return found


def _ticket(row: Handled, zone: ZoneInfo) -> dict[str, Any]:
    resolved = row.resolved_at if not row.is_open else None
    return {
        "ticket": row.ticket,
        "subject": row.subject,
        "priority": row.priority,
        "opened": f"{row.opened_at.astimezone(zone):%Y-%m-%d %H:%M}",
        "resolved": f"{resolved.astimezone(zone):%Y-%m-%d %H:%M}" if resolved else "",
        "minutes": row.minutes,
        "first_response": row.first_response.outcome,
        "resolution": row.resolution.outcome,
    }


def _text(value: Decimal | None) -> str | None:
    return None if value is None else str(value)
