"""What opening a console needs, read in one short transaction: the way in, its credential, the secrets to mask."""

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp.assets.models import ConfigurationItem, Relationship
from msp.errors import MspError, Refused
from msp.flows import consoles, reaching
from msp.remote.consoles.models import ConsoleSession
from msp.remote.consoles.rules import Limits
from msp.remote.target import Credential, Target
from msp.settings import Settings
from msp.vault import Vault, names


@dataclass(frozen=True, slots=True)
class Opening:
    """Everything that serving a console needs; nothing in it is a stored object.

    target: the machine whose shell it is, or the screen's server with the way to it through SSH.
    """

    console_id: int
    kind: str
    mode: str
    title: str
    opened_at: datetime
    limits: Limits
    target: Target
    secrets: tuple[str, ...]


def load(session: Session, settings: Settings, console_id: int) -> Opening:
    """Return what an open console needs. Raises NotFound for its secret, Refused for a screen without a safe way."""
    console = session.get_one(ConsoleSession, console_id)
    item = session.get_one(ConfigurationItem, console.asset_id)
    vault = Vault.from_file(settings.key_path)
    reach = screen_of if console.kind == "screen" else reaching.target_of
    return Opening(
        console_id=console.id,
        kind=console.kind,
        mode=console.mode,
        title=item.name,
        opened_at=console.opened_at or console.requested_at,
        limits=consoles.limits_of(console, settings),
        target=reach(session, vault, item),
        secrets=tuple(_secrets(session, vault, item.client_id)),
    )


def _secrets(session: Session, vault: Vault, client_id: int) -> list[str]:
    """Return every secret of the client that opens, so that none of them is kept in a recording."""
    found = []
    for row in list(names(session, client_id)):
        try:
            found.append(vault.get(session, row.name, client_id=client_id).value)
        except MspError:  # kept elsewhere, or sealed by a key that is gone: it cannot be shown by us either
            continue
    return found


def screen_of(session: Session, vault: Vault, item: ConfigurationItem) -> Target:
    """Return where the screen of an item is served, and the machine through which it is reached over SSH.

    An item reached by `vnc` names its server itself; one reached by `ssh` may have a screen behind its log-in: the
    facts `vnc_port`, and `vnc_secret` for the name of its password. Raises Refused for a port that is none.
    """
    if item.transport != "ssh":
        target = reaching.target_of(session, vault, item)
        return replace(target, port=item.port or 5900, via=target.via or _through(session, vault, item))
    port, name = item.facts.get("vnc_port"), item.facts.get("vnc_secret")
    if not isinstance(port, int) or not 0 < port < 65536:
        raise Refused(f"{item.name} has no port for its screen.", advice="Correct its fact vnc_port.")
    password = vault.get(session, str(name), client_id=item.client_id) if name else None
    return Target(
        name=item.name,
        address="127.0.0.1",
        port=port,
        credential=Credential(password=password),
        transport="vnc",
        platform=item.platform,
        kind=item.kind,
        asset_id=item.id,
        via=reaching.target_of(session, vault, item).way,
    )


def _through(session: Session, vault: Vault, item: ConfigurationItem) -> tuple[Target, ...]:
    """Return the SSH host through which an item is reached, as the relationships record it."""
    query = (
        select(ConfigurationItem)
        .join(Relationship, Relationship.target_id == ConfigurationItem.id)
        .where(
            Relationship.source_id == item.id,
            Relationship.kind == "connects_through",
            ConfigurationItem.transport == "ssh",
        )
    )
    through = session.scalar(query.limit(1))
    return () if through is None else reaching.target_of(session, vault, through).way
