"""From an item as recorded to a target: the log-in, the pins, the bastions before it."""

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Protocol

from sqlalchemy.orm import Session

from msp.assets import inventory, reach
from msp.assets.reach import Reachable
from msp.errors import Misconfigured
from msp.remote import render
from msp.remote.acts import Acts
from msp.remote.plan import Plan
from msp.remote.render import Script
from msp.remote.target import PORTS, Credential, CredentialSource, Target
from msp.remote.words import command_line
from msp.secret import Secret
from msp.vault import CURRENT


class Opener(Protocol):
    """What opens secrets: a keyring, or the vault itself."""

    def get(self, session: Session, name: str, *, client_id: int = 0, which: str = CURRENT) -> Secret: ...


class Once:
    """Opens each secret once: the hosts of a shard often share one. Use it within one transaction."""

    def __init__(self, keys: Opener) -> None:
        self._keys = keys
        self._opened: dict[tuple[str, int, str], Secret] = {}

    def get(self, session: Session, name: str, *, client_id: int = 0, which: str = CURRENT) -> Secret:
        key = (name, client_id, which)
        if key not in self._opened:
            self._opened[key] = self._keys.get(session, name, client_id=client_id, which=which)
        return self._opened[key]


def target_of(
    session: Session,
    keys: Opener,
    item: Reachable,
    *,
    which: str = CURRENT,
    certificates: CredentialSource | None = None,
    pins: Mapping[int, tuple[str, ...]] = MappingProxyType({}),
) -> Target:
    """Return where an item is reached, its log-in, the host keys that are pinned, and the bastions before it.

    keys: opens its secret. which: of the values of a secret that is being rotated. certificates: makes the
    credential of an item that is entered with a certificate of our own; without it that is Misconfigured. pins: of many
    items by number, if somebody has read them for all (inventory.all_pinned).
    """
    hops = tuple(_one(session, keys, hop, CURRENT, certificates, pins) for hop in reach.bastions(session, item))
    return _one(session, keys, item, which, certificates, pins, hops)


def _one(
    session: Session,
    keys: Opener,
    item: Reachable,
    which: str,
    certificates: CredentialSource | None,
    pins: Mapping[int, tuple[str, ...]],
    via: tuple[Target, ...] = (),
) -> Target:
    if item.id not in pins:
        pins = inventory.all_pinned(session, [item.id])
    return Target(
        name=item.name,
        address=item.address or "",
        port=item.port or PORTS.get(item.transport, 22),
        credential=_credential(session, keys, item, which, certificates),
        host_keys=pins.get(item.id, ()),
        transport=item.transport,
        platform=item.platform,
        kind=item.kind,
        asset_id=item.id,
        via=via,
        old_algorithms=tuple(item.old_algorithms or ()),
        old_algorithms_until=item.old_algorithms_until,
        plain=str(item.facts.get("plain_reason") or "") if item.facts.get("plain") is True else "",
        facts=dict(item.facts),
    )


def _credential(
    session: Session, keys: Opener, item: Reachable, which: str, certificates: CredentialSource | None
) -> Credential:
    def opened(name: str | None, which: str) -> Secret | None:
        return keys.get(session, name, client_id=item.client_id, which=which) if name else None

    user, become = item.username or "", opened(item.become_secret_name, CURRENT)
    if item.credential_kind == "ca":
        if certificates is None:
            raise Misconfigured(
                f"{item.name} is entered with certificates of our own, and none can be made here.",
                advice="Reach it by a run, or store a key for it.",
            )
        return Credential(user=user or "root", become_password=become, source=certificates)
    value = opened(item.secret_name, which)
    if value is not None and "PRIVATE KEY" in value.value:
        return Credential(user=user, private_key=value, become_password=become)
    return Credential(user=user, password=value, become_password=become)


def longest_step(plan: Plan) -> timedelta:
    """Return how long one step of a plan may take."""
    return max((step.timeout for step in plan.steps), default=timedelta(0))


def only_command(plan: Plan, *, dry_run: bool = False) -> str:
    """Return the one command line that a plan sends to every host alike, or nothing if it is not such a plan.

    A certificate can then be made for that command and no other.
    """
    if dry_run or len(plan.steps) != 1:
        return ""
    (planned,) = plan.steps
    step = planned.step
    alone = step.probe is None and step.check is None and step.undo is None and not planned.become
    if not (alone and planned.reads and step.do.kind == "shell"):
        return ""
    acts = Acts(
        dict(planned.scope),
        secrets=planned.secrets,
        timeout=planned.timeout,
        folder=planned.folder,
        what=planned.what,
    )
    try:
        act = acts.of(step, "do")
    except render.UndefinedName:  # it says something of its host, or of the time
        return ""
    return command_line(act.text) if isinstance(act, Script) else ""
