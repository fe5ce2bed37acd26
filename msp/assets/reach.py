"""How an item is reached: through which bastions, with which credential, and with which leave for old algorithms."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp import evidence
from msp.assets.models import ConfigurationItem
from msp.clock import utc_now
from msp.errors import Misconfigured

MOST_HOPS = 5
CREDENTIALS = ("secret", "ca")
#: What SSH servers of the last decade may still need, and what we no longer speak unless an item has leave for it.
OLD_ALGORITHMS = {
    "ssh-rsa": "host keys and log-ins signed with SHA-1",
    "ssh-dss": "host keys of type DSA",
    "diffie-hellman-group14-sha1": "key exchange with SHA-1",
    "diffie-hellman-group-exchange-sha1": "key exchange with SHA-1",
    "diffie-hellman-group1-sha1": "key exchange over 1024 bits",
    "aes128-cbc": "cipher open to plaintext recovery",
    "aes256-cbc": "cipher open to plaintext recovery",
    "3des-cbc": "cipher with 64-bit blocks",
    "hmac-sha1": "integrity with SHA-1",
}


class Reachable(Protocol):
    """What is known of an item that is to be reached: the item itself, or a row of COLUMNS where there are many."""

    id: int
    client_id: int
    site_id: int | None
    name: str
    kind: str
    platform: str
    transport: str
    address: str | None
    port: int | None
    username: str | None
    secret_name: str | None
    credential_kind: str
    become_secret_name: str | None
    bastion_id: int | None
    old_algorithms: list[str]
    old_algorithms_until: datetime | None
    facts: dict[str, Any]


COLUMNS = tuple(getattr(ConfigurationItem, name) for name in Reachable.__annotations__)


def bastions(session: Session, item: Reachable) -> list[ConfigurationItem]:
    """Return the bastions before an item, the nearest to us first. Raises Misconfigured for a way in circles."""
    found: list[ConfigurationItem] = []
    hop = item
    while hop.bastion_id is not None:
        hop = session.get_one(ConfigurationItem, hop.bastion_id)
        if hop.id == item.id or hop in found or len(found) == MOST_HOPS:
            raise Misconfigured(
                f"The way to {item.name} leads through {hop.name} and never arrives.",
                advice="Correct the bastions with msp asset reach.",
            )
        found.insert(0, hop)
    return found


def secrets_of(session: Session, item: Reachable) -> list[str]:
    """Return the names of every secret that reaching an item takes: its own, sudo's, and those of its bastions."""
    names = [one.secret_name for one in (*bastions(session, item), item) if one.credential_kind != "ca"]
    return list(dict.fromkeys(name for name in (*names, item.become_secret_name) if name))


def change(session: Session, item: ConfigurationItem, *, by: str, **changes: Any) -> None:
    """Change how an item is reached, and prove who did so.

    changes: address, port, username, secret_name, credential_kind, become_secret_name, bastion_id, facts.
    Raises Misconfigured for a bastion of another client, one that is not reached by SSH, or a way in circles.
    """
    if changes.get("credential_kind", "secret") not in CREDENTIALS:
        raise Misconfigured(
            f"Unknown kind of credential {changes['credential_kind']!r}.", advice=f"Known: {', '.join(CREDENTIALS)}."
        )
    before = {name: getattr(item, name) for name in changes}
    for name, value in changes.items():
        setattr(item, name, value)
    if item.bastion_id is not None:
        bastion = session.get_one(ConfigurationItem, item.bastion_id)
        if bastion.client_id != item.client_id:
            raise Misconfigured(
                f"{bastion.name} belongs to another client.", advice="Name a bastion of the same client."
            )
        if bastion.transport != "ssh":
            raise Misconfigured(
                f"{bastion.name} is reached by {bastion.transport}; a bastion is reached by SSH.",
                advice="Name another bastion.",
            )
    most = len(bastions(session, item)) + _deepest_behind(session, item)
    if most > MOST_HOPS:
        raise Misconfigured(
            f"What is reached through {item.name} would stand behind {most} bastions.", advice=f"At most {MOST_HOPS}."
        )
    data = {"asset": item.name, "before": before, "after": changes}
    evidence.record(
        session, "asset.reach_changed", actor=by, subject=("asset", item.id), client_id=item.client_id, data=data
    )
    session.flush()


def _deepest_behind(session: Session, item: ConfigurationItem) -> int:
    """Return how many connections lead on from an item to the farthest one that is reached through it."""
    depth, behind = 0, [item.id]
    while depth <= MOST_HOPS:
        query = select(ConfigurationItem.id).where(ConfigurationItem.bastion_id.in_(behind))
        behind = list(session.scalars(query))
        if not behind:
            break
        depth += 1
    return depth


def allow_old(
    session: Session,
    item: ConfigurationItem,
    algorithms: Sequence[str],
    until: datetime | None,
    *,
    by: str,
    reason: str,
) -> None:
    """Give an item leave for old SSH algorithms until an instant, or take it away (no algorithms).

    Raises Misconfigured for an algorithm that is not among OLD_ALGORITHMS, and for leave without end or reason.
    """
    unknown = [name for name in algorithms if name not in OLD_ALGORITHMS]
    if unknown:
        raise Misconfigured(
            f"{unknown[0]!r} is no old algorithm that can be allowed.", advice=f"Known: {', '.join(OLD_ALGORITHMS)}."
        )
    if algorithms and (until is None or until <= utc_now()):
        raise Misconfigured("Leave for old algorithms needs an end to come.", advice="Give the day it ends.")
    if algorithms and not reason.strip():
        raise Misconfigured("Leave for old algorithms needs a reason.", advice="Say why it cannot be renewed yet.")
    item.old_algorithms, item.old_algorithms_until = list(algorithms), until if algorithms else None
    kind = "asset.old_algorithms_allowed" if algorithms else "asset.old_algorithms_withdrawn"
    data = {"asset": item.name, "algorithms": list(algorithms), "until": until and until.isoformat(), "reason": reason}
    evidence.record(session, kind, actor=by, subject=("asset", item.id), client_id=item.client_id, data=data)
    session.flush()
