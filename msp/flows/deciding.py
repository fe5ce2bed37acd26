"""May this be done, now, on this asset? The stored contract and asset, put before the pure clause rules."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from msp.assets.models import ConfigurationItem
from msp.contracts import agreements
from msp.contracts.clauses import REFUSE, BreakGlass, Decision
from msp.contracts.covers import Asset
from msp.contracts.models import Client, Contract, Site


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
) -> Decided:
    """Return what the client's contract in force at `at` says of an action on `item`."""
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
    return Decided(decision, version.id)
