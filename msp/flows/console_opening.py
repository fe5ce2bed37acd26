"""What opening a console needs: the way in, its credential, the secrets to mask. No transaction waits for a network."""

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy.orm import Session

from msp import db, evidence
from msp.assets.models import ConfigurationItem
from msp.assets.reach import secrets_of
from msp.clock import utc_now
from msp.errors import MspError, Refused
from msp.flows import consoles, credential_grants, keyring, reaching
from msp.flows.keyring import Keyring
from msp.people.credential_grants import CredentialGrant
from msp.remote import ca
from msp.remote.consoles.models import ConsoleSession
from msp.remote.consoles.rules import Limits
from msp.remote.run_certificates import MARGIN, RunCertificates
from msp.remote.target import Credential, CredentialSource, Target
from msp.secret_store import reference as references
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


def load(settings: Settings, console_id: int) -> Opening:
    """Return what an open console needs. What other stores keep is fetched with no transaction open.

    Raises NotFound for a secret that is not there, Refused or Misconfigured for a machine without a way in.
    """
    with db.read() as session:
        item = session.get_one(ConfigurationItem, session.get_one(ConsoleSession, console_id).asset_id)
        wanted = keyring.of_items(session, [item])
    fetched = keyring.fetch(settings, wanted)
    with db.begin() as session:  # a first secret of a client writes its key
        return _load(session, settings, console_id, Keyring(Vault.from_file(settings.key_path), fetched))


def _load(session: Session, settings: Settings, console_id: int, keys: Keyring) -> Opening:
    console = session.get_one(ConsoleSession, console_id)
    item = session.get_one(ConfigurationItem, console.asset_id)
    now, limits = utc_now(), consoles.limits_of(console, settings)
    longest = now + ca.LONGEST - MARGIN  # of a certificate, which ends its connection
    limits = replace(limits, ends_by=min(limits.ends_by, longest))
    certificates = RunCertificates(
        keys.vault,
        item.client_id,
        console.actor,
        longest_step=limits.ends_by - now,
        terminal=True,
        console_id=console.id,
    )
    reach = screen_of if console.kind == "screen" else reaching.target_of
    target = reach(session, keys, item, certificates=certificates)
    _note_use(session, console, item, now)
    return Opening(
        console_id=console.id,
        kind=console.kind,
        mode=console.mode,
        title=item.name,
        opened_at=console.opened_at or console.requested_at,
        limits=limits,
        target=target,
        secrets=tuple(dict.fromkeys([*_secrets(session, keys, item.client_id), *_in_use(target)])),
    )


def _note_use(session: Session, console: ConsoleSession, item: ConfigurationItem, now: datetime) -> None:
    """Let the credential desk know who used what, and when."""
    named = [*secrets_of(session, item), *filter(None, [_screen_secret(item)])]
    for name in named:
        if (row := keyring.known(session, item.client_id, name)) is not None:
            row.used_at, row.used_by = now, console.actor
    if console.credential_grant_id is not None:
        credential_grants.used(session, session.get_one(CredentialGrant, console.credential_grant_id), now)
    evidence.record(
        session,
        "credential.used",
        actor=console.actor,
        subject=("console", console.id),
        client_id=console.client_id,
        data={"secrets": [str(references.parse(name)) for name in named], "grant": console.credential_grant_id},
        at=now,
    )


def _in_use(target: Target) -> list[str]:
    """Return the secrets by which a machine is entered, wherever they are kept."""
    credentials = [hop.credential for hop in (*target.via, target)]
    keys = [one.private_key.value for one in credentials if one.private_key]
    return [*keys, *(secret for one in credentials for secret in one.typed)]


def _secrets(session: Session, keys: Keyring, client_id: int) -> list[str]:
    """Return every secret of the client that opens, so that none of them is kept in a recording."""
    found = []
    for row in list(names(session, client_id)):
        try:
            found.append(keys.get(session, row.name, client_id=client_id).value)
        except MspError:  # kept elsewhere, or sealed by a key that is gone: it cannot be shown by us either
            continue
    return found


def _screen_secret(item: ConfigurationItem) -> str | None:
    """Return the name, in our vault, of the password of the screen behind a machine's log-in."""
    name = item.facts.get("vnc_secret") if item.transport == "ssh" else None
    return str(name) if name else None


def screen_of(
    session: Session, keys: Keyring, item: ConfigurationItem, *, certificates: CredentialSource | None = None
) -> Target:
    """Return where the screen of an item is served, and the machine through which it is reached over SSH.

    An item reached by `vnc` names its server itself; one reached by `ssh` may have a screen behind its log-in: the
    facts `vnc_port`, and `vnc_secret` for the name of its password. Raises Refused for a port that is none.
    """
    if item.transport != "ssh":
        return reaching.target_of(session, keys, item, certificates=certificates)
    port, name = item.facts.get("vnc_port"), _screen_secret(item)
    if not isinstance(port, int) or not 0 < port < 65536:
        raise Refused(f"{item.name} has no port for its screen.", advice="Correct its fact vnc_port.")
    return Target(
        name=item.name,
        address="127.0.0.1",
        port=port,
        credential=Credential(password=keys.get(session, name, client_id=item.client_id) if name else None),
        transport="vnc",
        platform=item.platform,
        kind=item.kind,
        asset_id=item.id,
        via=reaching.target_of(session, keys, item, certificates=certificates).way,
    )
