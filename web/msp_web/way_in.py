"""The way in to an item as pages show it: the hosts on it, and leave for old algorithms with its end and reason."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp.assets import inventory, reach
from msp.assets.models import ConfigurationItem
from msp.evidence import Evidence
from msp.remote.target import PORTS
from msp_web.access import visible


@dataclass(frozen=True)
class Hop:
    """One host on the way. `pins`: host keys that it may show."""

    item: ConfigurationItem
    port: int
    pins: int


@dataclass(frozen=True)
class Leave:
    """Leave for old algorithms as it was given."""

    algorithms: tuple[str, ...]
    until: datetime
    reason: str
    by: str
    holds: bool


def hops_of(session: Session, item: ConfigurationItem) -> list[Hop]:
    """Return the hosts on the way, the nearest to us first and the item itself last."""
    return [
        Hop(one, one.port or PORTS.get(one.transport, 22), len(inventory.pinned(session, one.id)))
        for one in (*reach.bastions(session, item), item)
    ]


def leave_of(session: Session, item: ConfigurationItem, now: datetime) -> Leave | None:
    """Return the leave for old algorithms that an item has, or had until it ended, with who gave it and why."""
    if not item.old_algorithms or item.old_algorithms_until is None:
        return None
    query = select(Evidence).where(
        Evidence.subject_kind == "asset",
        Evidence.subject_id == str(item.id),
        Evidence.kind == "asset.old_algorithms_allowed",
    )
    given = session.scalar(visible(query.order_by(Evidence.id.desc()).limit(1), Evidence))
    until = item.old_algorithms_until
    return Leave(
        algorithms=tuple(item.old_algorithms),
        until=until,
        reason=str(given.data.get("reason", "")) if given else "",
        by=given.actor if given else "",
        holds=now < until,
    )
