"""Which value of a secret holds on each host? Asked by fresh log-ins; the answer decides how a rotation goes on.

The new value comes in force only when it has opened every host, and the old one is forgotten only then; a rotation is
rolled back only when the old value has opened every host. While neither is certain both are kept.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp import db
from msp.assets.models import ConfigurationItem
from msp.clock import utc_now
from msp.contracts.models import Client
from msp.desk import tickets
from msp.engine import crashpoints
from msp.errors import MspError, NotFound
from msp.flows import driving, keyring, reaching, rotating
from msp.flows.keyring import Fetched, Keyring
from msp.remote.rotations import (
    BACKING,
    CHECKING,
    DONE,
    PROVING,
    ROLLED_BACK,
    STUCK,
    WITHDRAWING,
    RotationHost,
    SecretRotation,
)
from msp.remote.ssh import SshTransport
from msp.remote.target import Target
from msp.remote.transport import NotAdmitted
from msp.secret_store import reference as references
from msp.secret_store.store import Kept
from msp.settings import Settings
from msp.vault import CURRENT, NEXT, PREVIOUS, Vault, row_of, version_of

PATIENCE = timedelta(seconds=20)  # for one log-in
AT_ONCE = 20  # hosts
TRIES = 4  # rounds of log-ins before a person is asked
PAUSE = timedelta(seconds=20)  # after the first round; doubled for each further one


@dataclass(frozen=True, slots=True)
class Found:
    """What a log-in with each value said. None: the host was not reached, so it is not known."""

    old_works: bool | None
    new_works: bool | None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class _Ways:
    """How one host is reached with each value; None where the store has no such value any more."""

    asset_id: int
    old: Target | None
    new: Target | None


def prove(settings: Settings, rotation_id: int, state: str) -> None:
    """Do the log-ins of a rotation in this state and let it go on; it may be begun again at any time."""
    if state == rotating.TIDY:
        rotating.tidy(settings, rotation_id)
        return
    with db.read() as session:
        rotation = session.get(SecretRotation, rotation_id)
        if rotation is None or rotation.state != state:
            return  # somebody else has gone on with it
        client = session.get_one(Client, rotation.client_id)
        wanted = references.parse(rotation.secret)
        asked = [(client.id, client.key, wanted.at(which)) for which in (CURRENT, NEXT, PREVIOUS)]
    fetched = keyring.fetch(settings, asked)
    unreachable = next((one for one in fetched.values() if isinstance(one, MspError) and one.retry), None)
    if unreachable is not None:
        raise unreachable
    with db.begin() as session:
        in_force = rotation.in_force or _promoted_elsewhere(wanted, client.id, fetched)
        ways = _ways(session, settings, rotation, in_force, fetched)
    found = driving.WIRES.run(_ask_all(ways))
    crashpoints.at("rotation.logged_in")
    proven = bool(found) and all(one.new_works for one in found.values())
    if proven and not in_force and wanted.store != "vault":
        with keyring.store_of(settings, wanted, client, rotation.asked_by) as store:
            store.promote(wanted)
        in_force = True
        crashpoints.at("rotation.promoted")
    with db.begin() as session:
        conclude(session, settings, rotation_id, state, found, in_force=in_force)
    crashpoints.at("rotation.concluded")


def _promoted_elsewhere(wanted: references.Reference, client_id: int, fetched: Fetched) -> bool:
    """Return whether another store has the new value in force already: we died right after telling it."""
    return isinstance(fetched.get((client_id, wanted.at(PREVIOUS))), Kept) and isinstance(
        fetched.get((client_id, wanted.at(NEXT))), NotFound
    )


def _ways(
    session: Session, settings: Settings, rotation: SecretRotation, in_force: bool, fetched: Fetched
) -> list[_Ways]:
    keys = Keyring(Vault.from_file(settings.key_path), fetched)
    new, old = (CURRENT, PREVIOUS) if in_force else (NEXT, CURRENT)

    def target(item: ConfigurationItem, which: str) -> Target | None:
        try:
            return reaching.target_of(session, keys, item, which=which)
        except NotFound:
            return None

    items = [session.get_one(ConfigurationItem, host.asset_id) for host in rotating.hosts_of(session, rotation)]
    return [_Ways(item.id, target(item, old), target(item, new)) for item in items]


async def _ask_all(ways: Sequence[_Ways]) -> dict[int, Found]:
    slots = asyncio.Semaphore(AT_ONCE)
    transport = SshTransport()  # of its own: a connection that is still warm would prove nothing

    async def ask(way: _Ways) -> tuple[int, Found]:
        async with slots:
            new, said = await _log_in(transport, way.new)
            old, other = await _log_in(transport, way.old)
            return way.asset_id, Found(old, new, said or other)

    try:
        return dict(await asyncio.gather(*(ask(way) for way in ways)))
    finally:
        await transport.close()


async def _log_in(transport: SshTransport, target: Target | None) -> tuple[bool | None, str]:
    if target is None:
        return False, ""
    try:
        async with transport.open(target, timeout=PATIENCE) as shell:
            output = await shell.run("true", timeout=PATIENCE)
    except NotAdmitted as error:
        admitted = False if error.outcome.kind == "auth_failed" else None
        return admitted, "" if admitted is False else error.what
    except MspError as error:
        return None, error.what
    return (True, "") if output.outcome.kind in ("ok", "failed") else (None, str(output.outcome))


def conclude(
    session: Session,
    settings: Settings,
    rotation_id: int,
    state: str,
    found: Mapping[int, Found],
    *,
    in_force: bool,
    now: datetime | None = None,
) -> None:
    """Write down what the log-ins said and take the next step of the rotation, in one transaction."""
    now = now or utc_now()
    rotation = session.scalars(db.locked(select(SecretRotation).where(SecretRotation.id == rotation_id))).one()
    if rotation.state != state:
        return
    hosts = rotating.hosts_of(session, rotation)
    for host in hosts:
        said = found.get(host.asset_id, Found(None, None))
        host.old_works, host.new_works, host.found = said.old_works, said.new_works, said.detail
        host.proven_at = now if said.new_works or said.old_works else host.proven_at
    if in_force and not rotation.in_force:
        rotation.in_force = True
        _note_change(session, rotation, now)
    every_new, every_old = all(host.new_works for host in hosts), all(host.old_works for host in hosts)
    if every_new:
        _new_holds(session, settings, rotation, hosts, now)
    elif any(host.new_works is None or host.old_works is None for host in hosts) and rotation.tries + 1 < TRIES:
        rotation.tries += 1
        rotating.ask_proof(session, rotation, state, now, pause=PAUSE * 2 ** (rotation.tries - 1))
    elif rotation.in_force:
        _stuck(session, rotation, hosts, "The new value is in force and does not open every host any more.", now)
    elif every_old and not _new_key_left(rotation, hosts):
        rotating.end(session, rotation, ROLLED_BACK, "The old value holds on every host.", now)
    elif state == PROVING and all(host.old_works or host.new_works for host in hosts):
        _put_back(session, settings, rotation, hosts, now)
    else:
        _stuck(session, rotation, hosts, "On some host neither value could be proven; both are kept.", now)


def _new_holds(
    session: Session, settings: Settings, rotation: SecretRotation, hosts: Sequence[RotationHost], now: datetime
) -> None:
    wanted = references.parse(rotation.secret)
    if rotation.state == CHECKING and not rotation.in_force:
        pass  # it was to be put back, and holds everywhere all the same: then it is the one
    if not rotation.in_force:
        vault = Vault.from_file(settings.key_path)
        if version_of(session, row_of(session, wanted.name, rotation.client_id), NEXT) is not None:
            vault.promote(session, wanted.name, by=rotation.asked_by, client_id=rotation.client_id)
        rotation.in_force = True
    left = [host for host in hosts if host.old_works is not False]
    if not left or rotation.kind == "password":
        rotating.end(session, rotation, DONE, "A fresh log-in has proven the new value on every host.", now)
    elif rotation.state == CHECKING and rotation.tries + 1 >= 2:
        _stuck(session, rotation, left, "The new key holds; the old one is still admitted.", now)
    else:
        tries = rotation.tries
        run = rotating.request(
            session, settings, rotation, {"phase": "withdraw"}, [host.asset_id for host in left], now
        )
        rotation.state, rotation.tries = WITHDRAWING, tries + 1
        if run.state == "refused":
            _stuck(session, rotation, left, f"The old key may not be withdrawn now: {run.decision.get('text')}", now)


def _new_key_left(rotation: SecretRotation, hosts: Iterable[RotationHost]) -> bool:
    return rotation.kind == "ssh_key" and any(host.new_works for host in hosts)


def _put_back(
    session: Session, settings: Settings, rotation: SecretRotation, hosts: Sequence[RotationHost], now: datetime
) -> None:
    """Ask for the run that puts the old value back where the new one was set."""
    wanted = references.parse(rotation.secret)
    given: dict[str, Any] = {"phase": "back"}
    if rotation.kind == "password":
        given = {"old_password": wanted.at(NEXT), "new_password": wanted.at(CURRENT)}
    changed = [host.asset_id for host in hosts if host.new_works]
    run = rotating.request(session, settings, rotation, given, changed, now)
    rotation.state = BACKING
    if run.state == "refused":
        _stuck(session, rotation, hosts, f"The old value may not be put back now: {run.decision.get('text')}", now)


def _stuck(session: Session, rotation: SecretRotation, hosts: Iterable[RotationHost], what: str, now: datetime) -> None:
    """End as stuck, and open a ticket: both values are kept until a person has looked."""
    names = [
        session.get_one(ConfigurationItem, host.asset_id).name
        for host in hosts
        if not (host.new_works and host.old_works is False)
    ]
    rotating.end(session, rotation, STUCK, f"{what} ({', '.join(names[:10])})", now)
    opening = tickets.Opening(
        client_id=rotation.client_id,
        subject=f"The rotation of {rotation.secret} is stuck",
        priority="P2",
        channel="monitoring",
        text=f"{rotation.found} Look at the hosts, then let rotation {rotation.id} be checked again.",
        symptom="rotation_stuck",
        dedup_key=f"rotation:{rotation.id}",
        nearest=True,
    )
    tickets.open_ticket(session, opening, by="worker", now=now)


def _note_change(session: Session, rotation: SecretRotation, now: datetime) -> None:
    row = keyring.known(session, rotation.client_id, rotation.secret)
    if row is not None:
        row.changed_at = row.rotated_at = now
        row.changed_by, row.exposed_at, row.exposed_why = rotation.asked_by, None, ""


def gave_up(session: Session, payload: dict[str, Any], what: str) -> None:
    """Keep both values and ask a person when the log-ins could not be done at all."""
    query = select(SecretRotation).where(SecretRotation.id == int(payload["rotation_id"]))
    rotation = session.scalar(db.locked(query))
    if rotation is not None and rotation.state == payload["state"]:
        _stuck(session, rotation, rotating.hosts_of(session, rotation), what, utc_now())
