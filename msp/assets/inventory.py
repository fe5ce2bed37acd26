"""Configuration items as recorded: added, related, their host keys pinned."""

import base64
import binascii
import hashlib
import re
from collections.abc import Collection
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp import evidence
from msp.assets.impact import KINDS, Edge, Hit, impact_of
from msp.assets.models import ConfigurationItem, HostKey, Relationship
from msp.clock import utc_now
from msp.errors import Conflict, Misconfigured, NotFound

MANY: Final = 500  # items in one query
_CERTIFICATE = re.compile(r"sha256:[0-9a-f]{64}")


def add(session: Session, *, client_id: int, name: str, kind: str, by: str, **fields: Any) -> ConfigurationItem:
    """Record a new item of a client. Raises Conflict if the client has one of that name."""
    known = select(ConfigurationItem.id).where(ConfigurationItem.client_id == client_id, ConfigurationItem.name == name)
    if session.scalar(known):
        raise Conflict(
            f"This client already has an item named {name}.", advice="Choose another name, or edit that one."
        )
    item = ConfigurationItem(client_id=client_id, name=name, kind=kind, created_at=utc_now(), **fields)
    session.add(item)
    session.flush()
    evidence.record(
        session,
        "asset.added",
        actor=by,
        subject=("asset", item.id),
        client_id=client_id,
        data={"name": name, "kind": kind, "address": item.address},
    )
    return item


def relate(session: Session, source: ConfigurationItem, kind: str, target: ConfigurationItem) -> Relationship:
    """Record that `source` needs `target`. Raises Misconfigured for an unknown kind or two clients' items."""
    if kind not in KINDS:
        raise Misconfigured(f"Unknown relationship {kind!r}.", advice=f"Known: {', '.join(KINDS)}.")
    if source.client_id != target.client_id:
        raise Misconfigured(
            f"{source.name} and {target.name} belong to different clients.", advice="Relate items of one client."
        )
    link = Relationship(source_id=source.id, target_id=target.id, kind=kind)
    session.add(link)
    session.flush()
    return link


def edges_of(session: Session, client_id: int) -> list[Edge]:
    """Return every relationship of one client as plain edges."""
    query = (
        select(Relationship)
        .join(ConfigurationItem, ConfigurationItem.id == Relationship.source_id)
        .where(ConfigurationItem.client_id == client_id)
        .order_by(Relationship.id)
    )
    return [Edge(link.source_id, link.target_id, link.kind) for link in session.scalars(query)]


def impact(session: Session, item: ConfigurationItem) -> list[Hit]:
    """Return what is hit when `item` fails."""
    return impact_of(item.id, edges_of(session, item.client_id))


def by_name(session: Session, client_id: int, name: str) -> ConfigurationItem:
    """Return a client's item; raises NotFound."""
    query = select(ConfigurationItem).where(ConfigurationItem.client_id == client_id, ConfigurationItem.name == name)
    item = session.scalar(query)
    if item is None:
        raise NotFound(f"This client has no item named {name}.", advice="`msp asset list` shows them.")
    return item


def fingerprint(public_key: str) -> str:
    """Return the SHA256 fingerprint as OpenSSH prints it; raises Misconfigured for what is not a key.

    The pin of a certificate (sha256: and 64 hexadecimal digits) is its own fingerprint.
    """
    if _CERTIFICATE.fullmatch(public_key):
        return public_key.replace("sha256", "SHA256", 1)
    try:
        blob = base64.b64decode(public_key.split()[1], validate=True)
    except (IndexError, binascii.Error) as error:
        raise Misconfigured(
            "That is not an OpenSSH public key.",
            advice="Paste the line `ssh-ed25519 AAAA...`, or sha256: and the fingerprint of a certificate.",
        ) from error
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def as_stored(public_key: str) -> str:
    """Return a host key as it is stored; programs show a certificate in capitals, with colons between the digits."""
    kind, _, digits = public_key.strip().partition(":")
    return f"sha256:{digits.replace(':', '').lower()}" if kind.lower() == "sha256" else public_key


def pin(session: Session, item: ConfigurationItem, public_key: str, *, by: str) -> HostKey:
    """Pin a host key, or a certificate by its fingerprint; what was pinned before is withdrawn and kept as history."""
    public_key = as_stored(public_key)
    mark = fingerprint(public_key)
    now = utc_now()
    for old in pinned(session, item.id):
        old.withdrawn_at = now
    key = HostKey(asset_id=item.id, public_key=" ".join(public_key.split()[:2]), pinned_at=now, pinned_by=by)
    session.add(key)
    session.flush()
    evidence.record(
        session,
        "host_key.pinned",
        actor=by,
        subject=("asset", item.id),
        client_id=item.client_id,
        data={"fingerprint": mark, "asset": item.name},
    )
    return key


def all_pinned(session: Session, asset_ids: Collection[int]) -> dict[int, tuple[str, ...]]:
    """Return the public keys that are valid now, by number of the item; items without any are absent."""
    found: dict[int, tuple[str, ...]] = {}
    numbers = list(asset_ids)
    for begin in range(0, len(numbers), MANY):
        query = (
            select(HostKey.asset_id, HostKey.public_key)
            .where(HostKey.asset_id.in_(numbers[begin : begin + MANY]), HostKey.withdrawn_at.is_(None))
            .order_by(HostKey.id)
        )
        for asset_id, key in session.execute(query):
            found[asset_id] = (*found.get(asset_id, ()), key)
    return found


def pinned(session: Session, asset_id: int) -> list[HostKey]:
    """Return the keys that are valid for an item now."""
    query = select(HostKey).where(HostKey.asset_id == asset_id, HostKey.withdrawn_at.is_(None)).order_by(HostKey.id)
    return list(session.scalars(query))
