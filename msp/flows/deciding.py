"""May this be done, now, on this asset? The stored contract and asset, put before the pure clause rules."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from msp.assets.models import ConfigurationItem
from msp.contracts import agreements, ledger, terms
from msp.contracts.clauses import ALLOW, ASK, EXPIRES_S, REFUSE, BreakGlass, Decision
from msp.contracts.covers import Asset
from msp.contracts.models import Client, Contract, ContractVersion, Site


@dataclass(frozen=True, slots=True)
class Decided:
    """What one contract version says of one asset at one instant."""

    decision: Decision
    version_id: int | None

    def as_dict(self) -> dict[str, Any]:
        """Return what a run and its evidence keep: effect, clause and its words, approver, price."""
        said = self.decision
        return {
            "effect": said.effect,
            "rule": said.rule,
            "clause_id": said.clause_id,
            "text": said.text,
            "text_ru": said.text_ru,
            "way_out": said.way_out,
            "way_out_ru": said.way_out_ru,
            "approver": said.approver,
            "price": None if said.price is None else str(said.price),
            "next_at": None if said.next_at is None else said.next_at.isoformat(),
            "contract_version": self.version_id,
            "break_glass": None
            if said.break_glass is None
            else {"approver": said.break_glass.approver, "reason": said.break_glass.reason},
        }


NO_CONTRACT = Decision(
    effect=REFUSE,
    rule="not_in_force",
    clause_id=None,
    text="This client has no contract in force.",
    text_ru="У клиента нет действующего договора.",
    way_out="Ask the account manager for a contract that is in force.",
    way_out_ru="Обратитесь к менеджеру за действующим договором.",
)


def decide(
    session: Session,
    item: ConfigurationItem,
    action_class: str,
    *,
    actor: str,
    at: datetime,
    break_glass: BreakGlass | None = None,
    prepaid: bool = True,
) -> Decided:
    """Return what the client's contract in force at `at` says of an action on `item`.

    prepaid: what the clauses allow is asked for when it would go beyond the client's prepaid hours; False when the
    work has begun, because nobody stops half-way for money.
    """
    version = agreements.version_in_force(session, item.client_id, at)
    if version is None:
        return Decided(NO_CONTRACT, None)
    client = session.get_one(Client, item.client_id)
    site = session.get(Site, item.site_id) if item.site_id else None
    contract = session.get_one(Contract, version.contract_id)
    decision = agreements.terms_of(version).decide(
        action_class=action_class,
        asset=Asset(item.name, item.kind, site.name if site else None),
        at=at,
        zone=ZoneInfo(client.time_zone),
        actor=actor,
        in_force=agreements.in_force(contract, client),
        break_glass=break_glass,
    )
    if prepaid and decision.effect == ALLOW and decision.break_glass is None and action_class != "read":
        decision = _beyond_prepaid(session, version, item, site, decision, at.astimezone(ZoneInfo(client.time_zone)))
    return Decided(decision, version.id)


def _beyond_prepaid(
    session: Session,
    version: ContractVersion,
    item: ConfigurationItem,
    site: Site | None,
    decision: Decision,
    at: datetime,
) -> Decision:
    """Turn what is allowed into a question when the block of hours that it is taken from does not reach."""
    line = terms.line_for(
        agreements.terms_of(version),
        site=site.name if site else None,
        asset=item.name,
        asset_class=item.kind,
        work="remote",
    )
    if line is None or line.kind != "block_hours":
        return decision
    bought, left = ledger.balance(session, version.contract_id, at.date())
    if not bought or left >= max(line.increment, line.minimum):
        return decision
    rate = line.overage_rate()
    price = f" at {rate.per_hour} {line.currency} an hour" if rate else ""
    price_ru = f" по {rate.per_hour} {line.currency} в час" if rate else ""
    return replace(
        decision,
        effect=ASK,
        rule="prepaid",
        text=f"{decision.text} The prepaid hours are used up; more is billed{price}.",
        text_ru=f"{decision.text_ru} Предоплаченные часы исчерпаны; сверх них — оплата{price_ru}.",
        way_out="Ask the client's approver, or sell another block of hours.",
        way_out_ru="Запросите согласование клиента или оформите новый пакет часов.",
        approver="client_approver",
        expires_s=EXPIRES_S,
    )
