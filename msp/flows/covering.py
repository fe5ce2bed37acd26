"""Is this asset covered now, and by what? The contract, its line, and what its clauses say of every kind of action."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from msp.assets.models import ConfigurationItem
from msp.contracts import agreements, terms
from msp.contracts.clauses import ACTION_CLASSES, REFUSE, Decision
from msp.contracts.lines import Line
from msp.contracts.models import Contract, ContractVersion
from msp.flows import deciding


@dataclass(frozen=True, slots=True)
class Coverage:
    """What stands behind one asset at one instant. `line` None: no line of the contract takes it."""

    item: ConfigurationItem
    at: datetime
    contract: Contract | None
    version: ContractVersion | None
    line: Line | None
    decisions: tuple[tuple[str, Decision], ...]  # (class of action, what is said of it)

    @property
    def covered(self) -> bool:
        """Whether a line takes the asset; what may be done on it without asking is said by the decisions."""
        return self.line is not None and not any(one.rule == "not_covered" for _, one in self.decisions)

    def as_dict(self) -> dict[str, Any]:
        return {
            "asset": self.item.name,
            "at": self.at.isoformat(),
            "covered": self.covered,
            "contract": self.contract.reference if self.contract else None,
            "version": self.version.number if self.version else None,
            "line": {"id": self.line.id, "name": self.line.name} if self.line else None,
            "actions": {
                name: {"effect": one.effect, "clause": one.clause_id, "text": one.text} for name, one in self.decisions
            },
        }


def of(session: Session, item: ConfigurationItem, at: datetime, *, actor: str) -> Coverage:
    """Return what the client's contract in force at `at` says of an asset."""
    contract = agreements.contract_for(session, item.client_id, at)
    version = agreements.version_at(session, contract.id, at) if contract else None
    said = [(name, deciding.decide(session, item, name, actor=actor, at=at).decision) for name in ACTION_CLASSES]
    if version is None:
        return Coverage(item, at, None, None, None, tuple(said))
    line = terms.line_for(
        agreements.terms_of(version),
        site=agreements.site_name(session, item.site_id),
        asset=item.name,
        asset_class=item.kind,
    )
    if any(one.effect == REFUSE and one.rule == "not_covered" for _, one in said):
        line = None  # such as an asset without a site, where the line lists sites
    return Coverage(item, at, contract, version, line, tuple(said))
