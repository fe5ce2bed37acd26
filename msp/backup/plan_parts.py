"""What a person decides of a backup plan: the same parts when it is made and when it is changed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from msp.backup import ladder as ladders
from msp.backup.ladder import LadderStep


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanParts:
    """The parts of a plan. proof_every: how old its proof may get; every: how often its job writes, None if unknown."""

    name: str
    case: Mapping[str, Any]  # without its secret
    cron: str
    time_zone: str
    proof_every: timedelta
    asset_id: int | None = None
    secret_name: str | None = None
    ladder: tuple[LadderStep, ...] = ()
    limits: Mapping[str, Any] = field(default_factory=dict)
    every: timedelta | None = None

    def columns(self, engine: str) -> dict[str, Any]:
        """Return the columns of a plan with these parts; engine: that of its case."""
        return {
            "name": self.name,
            "engine": engine,
            "case": dict(self.case),
            "asset_id": self.asset_id,
            "secret_name": self.secret_name,
            "cron": self.cron,
            "time_zone": self.time_zone,
            "proof_every": self.proof_every,
            "ladder": ladders.plain(self.ladder),
            "limits": dict(self.limits),
            "every": self.every,
        }
