"""Contracts as people read them: hours as a week, promises as a table, clauses as sentences, versions side by side."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from flask import Blueprint, render_template, request
from sqlalchemy import select
from sqlalchemy.orm import Session

from msp.assets.models import ConfigurationItem
from msp.clock import utc_now
from msp.contracts import calendar as calendars
from msp.contracts import terms as agreed
from msp.contracts.clauses import ACTION_CLASSES, Decision
from msp.contracts.covers import Asset
from msp.contracts.models import Client, Contract, ContractVersion, HourBlock, Site
from msp.errors import Misconfigured, NotFound
from msp.flows import renewals
from msp_web import clause_words, dates, language
from msp_web.access import actor, requires, scoped, visible
from msp_web.unit import read_only

bp = Blueprint("contracts", __name__, url_prefix="/contracts")

DAY = 1440  # minutes


@dataclass(frozen=True, slots=True)
class Week:
    """A service calendar as a grid: for each weekday the share of each hour that is open, 0 to 60 minutes."""

    name: str
    zone: str
    days: tuple[tuple[int, ...], ...]
    hours: tuple[tuple[str, ...], ...]  # the same in words, for who does not see the grid
    holidays: int


def week_of(name: str, document: Any) -> Week:
    """Return the grid of one calendar document; hours past midnight stand on the day into which they run."""
    read = calendars.parse(document)
    days = [[0] * 24 for _ in range(7)]
    words: list[tuple[str, ...]] = []
    for weekday, spans in enumerate(read.week):
        words.append(tuple(f"{clause_words.clock_time(begin)}–{clause_words.clock_time(end)}" for begin, end in spans))
        for begin, end in spans:
            for minute in range(begin, end):
                days[(weekday + minute // DAY) % 7][minute % DAY // 60] += 1
    grid = tuple(tuple(min(60, share) for share in day) for day in days)
    return Week(name, str(read.zone), grid, tuple(words), len(read.holidays) + len(read.holidays_yearly))


@bp.get("/")
@requires("contract.see")
def index() -> str:
    """List contracts, those that end first on top."""
    with read_only() as session:
        query = visible(select(Contract, Client), Contract).join(Client, Client.id == Contract.client_id)
        if text := request.args.get("q", "").strip():
            query = query.where(Contract.reference.icontains(text, autoescape=True))
        rows = session.execute(
            query.order_by(Contract.ends_on.is_(None), Contract.ends_on, Contract.id).limit(500)
        ).all()
        blocks = session.scalars(visible(select(HourBlock), HourBlock))
        left: dict[int, int] = {}
        for block in blocks:
            if block.expires_on is None or block.expires_on >= utc_now().date():
                left[block.contract_id] = left.get(block.contract_id, 0) + block.balance_minutes
        granted = actor().granted
        return render_template(
            "contracts/index.html",
            rows=rows,
            left=left,
            today=utc_now().date(),
            ending=renewals.ending(session, utc_now(), client_ids=None if granted is None else sorted(granted)),
        )


def versions_of(session: Session, contract: Contract) -> list[ContractVersion]:
    query = select(ContractVersion).where(ContractVersion.contract_id == contract.id)
    return list(session.scalars(visible(query, ContractVersion).order_by(ContractVersion.number.desc())))


def in_force(versions: list[ContractVersion], at: datetime) -> ContractVersion | None:
    """Return the version in force at an instant, of versions newest first; the first one before any is."""
    return next((one for one in versions if one.effective_at <= at), versions[-1] if versions else None)


@bp.get("/<int:contract_id>")
@requires("contract.see")
def show(contract_id: int) -> str:
    """Show one version (default: the one in force) in words, and try a question on it."""
    with read_only() as session:
        contract = scoped(session, Contract, contract_id)
        client = scoped(session, Client, contract.client_id)
        versions = versions_of(session, contract)
        number = request.args.get("version", "")
        version = next((one for one in versions if str(one.number) == number), in_force(versions, utc_now()))
        terms, faults, weeks = None, [], []
        if version is not None:
            try:
                terms = agreed.parse(version.terms)
                weeks = [week_of(name, document) for name, document in terms.calendars.items()]
            except Misconfigured as error:
                faults = [language.said(error.what)]
        items = select(ConfigurationItem).where(ConfigurationItem.client_id == client.id)
        assets = list(session.scalars(visible(items, ConfigurationItem).order_by(ConfigurationItem.name)))
        answer = tried(session, terms, client, assets) if terms else None
        return render_template(
            "contracts/show.html",
            contract=contract,
            client=client,
            versions=versions,
            version=version,
            terms=terms,
            faults=faults,
            weeks=weeks,
            assets=assets,
            actions=ACTION_CLASSES,
            answer=answer,
            parts_of=clause_words.parts,
            blocks=list(session.scalars(visible(blocks_of(contract), HourBlock))),
        )


def blocks_of(contract: Contract) -> Any:
    return select(HourBlock).where(HourBlock.contract_id == contract.id).order_by(HourBlock.purchased_on)


def tried(session: Session, terms: agreed.Terms, client: Client, assets: list[ConfigurationItem]) -> Decision | None:
    """Return what the terms say of the action in the address; None if none is asked."""
    item = next((one for one in assets if str(one.id) == request.args.get("asset")), None)
    action = request.args.get("action", "")
    if item is None or action not in ACTION_CLASSES:
        return None
    at = utc_now()
    if text := request.args.get("at", ""):
        at = dates.instant(text, language.zone())
    site = session.get(Site, item.site_id) if item.site_id else None
    asset = Asset(item.name, item.kind, site.name if site else None)
    return terms.decide(action_class=action, asset=asset, at=at, zone=ZoneInfo(client.time_zone))


@bp.get("/<int:contract_id>/compare")
@requires("contract.see")
def compare(contract_id: int) -> str:
    """Show two versions side by side: what changed, place by place."""
    with read_only() as session:
        contract = scoped(session, Contract, contract_id)
        by_number = {str(one.number): one for one in versions_of(session, contract)}
        old, new = by_number.get(request.args.get("old", "")), by_number.get(request.args.get("new", ""))
        if old is None or new is None:
            raise NotFound("This contract has no such versions.", advice="Choose two of its list.")
        changes = agreed.differences(old.terms, new.terms)
        return render_template("contracts/compare.html", contract=contract, old=old, new=new, changes=changes)
