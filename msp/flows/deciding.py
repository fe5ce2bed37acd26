"""May this be done, now, on this asset? The stored contract and asset, put before the pure clause rules."""

from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from msp.assets.reach import Reachable
from msp.contracts import agreements, ledger, terms
from msp.contracts.clauses import ALLOW, ASK, EXPIRES_S, REFUSE, BreakGlass, Decision
from msp.contracts.covers import Asset
from msp.contracts.models import Client, ContractVersion, Site
from msp.contracts.terms import Terms


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


@dataclass(frozen=True, slots=True)
class _Covered:
    """What holds for one client at the instant in question."""

    version: ContractVersion
    terms: Terms
    zone: ZoneInfo
    in_force: tuple[datetime, datetime | None]
    named: frozenset[str]  # assets that the terms name
    #: What a clause said of assets that the terms do not name: it cannot tell those of one kind at one site apart.
    said: dict[Hashable, Decision] = field(default_factory=dict)


class Deciding:
    """Asks the contracts about many assets at one instant; each client's contract is read once."""

    def __init__(self, session: Session, at: datetime) -> None:
        self._session, self._at = session, at
        self._covered: dict[int, _Covered | None] = {}
        self._sites: dict[int | None, Site | None] = {None: None}

    def _of(self, client_id: int) -> _Covered | None:
        if client_id not in self._covered:
            client = self._session.get_one(Client, client_id)  # held: what nobody holds is read again below
            contract = agreements.contract_for(self._session, client_id, self._at)
            version = agreements.version_at(self._session, contract.id, self._at) if contract else None
            covered = None
            if contract is not None and version is not None:
                in_force = agreements.in_force(contract, client)
                agreed = agreements.terms_of(version)
                covered = _Covered(version, agreed, ZoneInfo(client.time_zone), in_force, agreed.assets)
            self._covered[client_id] = covered
        return self._covered[client_id]

    def decide(
        self,
        item: Reachable,
        action_class: str,
        *,
        actor: str,
        break_glass: BreakGlass | None = None,
        prepaid: bool = True,
    ) -> Decided:
        """Return what the contract says of an action on `item`; see `decide`."""
        covered = self._of(item.client_id)
        if covered is None:
            return Decided(NO_CONTRACT, None)
        if item.site_id not in self._sites:
            self._sites[item.site_id] = self._session.get(Site, item.site_id)
        site = self._sites[item.site_id]
        named = item.name in covered.named
        alike = None if named else (item.kind, item.site_id, action_class, actor, break_glass)
        decision = covered.said.get(alike)
        if decision is None:
            decision = covered.terms.decide(
                action_class=action_class,
                asset=Asset(item.name, item.kind, site.name if site else None),
                at=self._at,
                zone=covered.zone,
                actor=actor,
                in_force=covered.in_force,
                break_glass=break_glass,
            )
            if alike and decision.rule == "clause":  # other rules speak of the asset by name
                covered.said[alike] = decision
        if prepaid and decision.effect == ALLOW and decision.break_glass is None and action_class != "read":
            here = self._at.astimezone(covered.zone)
            decision = _beyond_prepaid(self._session, covered, item, site, decision, here)
        return Decided(decision, covered.version.id)


def decide(
    session: Session,
    item: Reachable,
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
    asked = Deciding(session, at)
    return asked.decide(item, action_class, actor=actor, break_glass=break_glass, prepaid=prepaid)


def _beyond_prepaid(
    session: Session,
    covered: _Covered,
    item: Reachable,
    site: Site | None,
    decision: Decision,
    at: datetime,
) -> Decision:
    """Turn what is allowed into a question when the block of hours that it is taken from does not reach."""
    line = terms.line_for(
        covered.terms,
        site=site.name if site else None,
        asset=item.name,
        asset_class=item.kind,
        work="remote",
    )
    if line is None or line.kind != "block_hours":
        return decision
    contract_id, least = covered.version.contract_id, max(line.increment, line.minimum)
    bought, _ = ledger.balance(session, contract_id, at.date())
    if not bought or not ledger.would_exceed(session, contract_id, least, at.date()):
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
