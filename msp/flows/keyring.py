"""The secrets that a run or a console needs, opened: ours within the transaction, another store's fetched before it.

Using one is not seeing one: what is opened goes to the machine, and to the masker of everything that comes back. Each
use, and each refusal of one, is evidence.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from msp import db, evidence
from msp.assets import reach
from msp.assets.models import ConfigurationItem
from msp.assets.reach import Reachable
from msp.contracts.models import Client
from msp.errors import MspError, NotFound, Refused
from msp.flows import credential_grants
from msp.people.credential_grants import CredentialGrant
from msp.remote.models import Run, RunHost
from msp.remote.rotations import RotationHost, SecretRotation
from msp.secret import Secret
from msp.secret_store import openbao
from msp.secret_store import reference as references
from msp.secret_store.own import OwnStore
from msp.secret_store.reference import Reference
from msp.secret_store.store import Kept, SecretStore
from msp.settings import Settings
from msp.vault import CURRENT, NEXT, OWN, PREVIOUS, Vault, VaultSecret, kind_of

RUN_LASTS = timedelta(hours=4)  # of a grant that a run gets by itself
ELSEWHERE = "bao:"  # begins the name of a secret that lies in another store than our own vault


#: What other stores answered: (client's id, reference) -> the secret, or why there is none.
Fetched = Mapping[tuple[int, str], Kept | MspError]


@dataclass(frozen=True)
class Keyring:
    """Opens references, the way the vault opens names."""

    vault: Vault
    fetched: Fetched = field(default_factory=dict)

    def get(self, session: Session, name: str, *, client_id: int = 0, which: str = CURRENT) -> Secret:
        """Return a secret by its reference; a plain name is one of our vault. Raises NotFound, Refused for a
        key of the product itself, or as its store does."""
        wanted = references.parse(name)
        if wanted.store == "vault":
            if OWN.fullmatch(wanted.name):
                raise Refused(f"{wanted} is not given to machines.", advice="Name another secret.")
            chosen = which if which != CURRENT else wanted.which
            return self.vault.get(session, wanted.name, client_id=client_id, which=chosen)
        answer = self.fetched.get((client_id, wanted.at(which if which != CURRENT else wanted.which)))
        if answer is None:
            raise NotFound(f"{wanted} was not fetched.", advice="Use it in a run or a console.")
        if isinstance(answer, MspError):
            raise answer
        row = known(session, client_id, str(wanted))
        if row is not None and wanted.which == CURRENT:  # so that the desk knows its age without asking the store
            row.changed_at, row.kind = answer.changed_at, kind_of(answer.value.value)
        return answer.value


def known(session: Session, client_id: int, secret: str, *, lock: bool = False) -> VaultSecret | None:
    """Return what the desk knows of a secret by its reference, or None. lock: nobody else begins to rotate it."""
    name = references.parse(secret)
    stored = name.name  # of ours the plain name, of another store's the whole reference
    query = select(VaultSecret).where(VaultSecret.client_id == client_id, VaultSecret.name == stored)
    if lock:
        query = db.locked(query)
    return session.scalar(query)


def elsewhere(settings: Settings, wanted: Reference, client_key: str) -> SecretStore:
    """Return the store that keeps what our vault does not; call it with no transaction open.

    Raises Refused for a secret that lies elsewhere than the client's secrets must lie.
    """
    references.check_place(wanted, settings.bao_path, client_key)
    return openbao.connected(openbao.Account.of(settings))


@contextmanager
def store_of(settings: Settings, wanted: Reference, client: Client, by: str) -> Iterator[SecretStore]:
    """Give the store of a client's secret; with our own vault a transaction is open meanwhile, and committed."""
    if wanted.store != "vault":
        yield elsewhere(settings, wanted, client.key)
        return
    with db.begin() as session:
        yield OwnStore(Vault.from_file(settings.key_path), session, client.id, by)


def fetch(settings: Settings, wanted: Iterable[tuple[int, str, str]]) -> Fetched:
    """Fetch what other stores keep of (client's id, client's key, reference). No transaction may be open: it waits."""
    found: dict[tuple[int, str], Kept | MspError] = {}
    for client_id, client_key, text in dict.fromkeys(wanted):
        try:
            parsed = references.parse(text)
            if parsed.store != "bao":
                continue
            found[client_id, text] = elsewhere(settings, parsed, client_key).get(parsed)
        except MspError as error:
            found[client_id, text] = error
    return found


def of_items(session: Session, items: Iterable[ConfigurationItem]) -> list[tuple[int, str, str]]:
    """Return what `fetch` needs to open the credentials of these items."""
    named = [(item.client_id, name) for item in items for name in reach.secrets_of(session, item) if _elsewhere(name)]
    keys = _keys_of(session, {client_id for client_id, _ in named})
    return [(client_id, keys[client_id], name) for client_id, name in named]


def of_run(session: Session, run_id: int, shard: int) -> list[tuple[int, str, str]]:
    """Return what `fetch` needs to drive one shard of a run: its hosts' credentials and its secret parameters."""
    run = session.get_one(Run, run_id)
    one_of_each = (
        select(func.min(ConfigurationItem.id))
        .join(RunHost, RunHost.asset_id == ConfigurationItem.id)
        .where(
            RunHost.run_id == run.id,
            RunHost.shard == shard,
            RunHost.outcome.is_(None),
            or_(
                ConfigurationItem.bastion_id.is_not(None),
                ConfigurationItem.secret_name.startswith(ELSEWHERE),
                ConfigurationItem.become_secret_name.startswith(ELSEWHERE),
            ),
        )
        .group_by(
            ConfigurationItem.client_id,
            ConfigurationItem.bastion_id,
            ConfigurationItem.credential_kind,
            ConfigurationItem.secret_name,
            ConfigurationItem.become_secret_name,
        )
    )
    hosts = session.scalars(select(ConfigurationItem).where(ConfigurationItem.id.in_(one_of_each)))
    wanted = of_items(session, hosts)
    own = [value for value in run.parameters.values() if isinstance(value, str) and _elsewhere(value)]
    if run.client_id and own:
        key = _keys_of(session, {run.client_id})[run.client_id]
        wanted += [(run.client_id, key, value) for value in own]
    if wanted and values_in_use(session, run):
        for client_id, key, name in list(wanted):
            parsed = references.parse(name)
            wanted += [(client_id, key, parsed.at(which)) for which in (NEXT, PREVIOUS)]
    return wanted


def _elsewhere(name: str) -> bool:
    return name.startswith(ELSEWHERE)


def _keys_of(session: Session, client_ids: set[int]) -> dict[int, str]:
    if not client_ids:
        return {}
    rows = session.execute(select(Client.id, Client.key).where(Client.id.in_(sorted(client_ids))))
    return {row[0]: row[1] for row in rows}


def for_run(session: Session, run: Run, hosts: Iterable[tuple[int, Reachable]], now: datetime) -> set[int]:
    """Note the use of every secret that a run opens, and return the hosts (by id) that may not be reached.

    hosts: the id of each in the run, and the item that it is.

    A grant that somebody withdrew on this ticket keeps its secret shut, a secret among the run's own parameters every
    host; otherwise the clause that let the run begin is the grant's clause.
    """
    if run.client_id is None:
        return set()
    hosts = list(hosts)
    own = {str(references.parse(value)) for value in _named(run)}
    alike: dict[Hashable, list[tuple[int, Reachable]]] = {}  # reached with the same secrets
    for host_id, item in hosts:
        way = item.bastion_id, item.credential_kind, item.secret_name, item.become_secret_name
        alike.setdefault(way, []).append((host_id, item))
    by_secret: dict[str, list[tuple[int, Reachable]]] = {}
    for group in alike.values():
        for name in reach.secrets_of(session, group[0][1]):
            by_secret.setdefault(str(references.parse(name)), []).extend(group)
    secrets = own | set(by_secret)
    if not secrets:
        return set()
    standing = credential_grants.standing(
        session, client_id=run.client_id, actor=run.actor, ticket_id=run.ticket_id, secrets=secrets, now=now
    )
    shut: set[int] = set()
    opened: list[dict[str, Any]] = []
    for secret in sorted(secrets):
        grant = standing.get(secret)
        names = [item.name for _, item in by_secret.get(secret, [])]
        if grant is not None and grant.forbids(now):
            data = {"secret": secret, "grant": grant.id, "run": run.id, "hosts": names}
            _prove(session, run, "credential.refused", secret, data, now)
            for host_id, _ in hosts if secret in own else by_secret[secret]:
                host = session.get_one(RunHost, host_id)
                host.state, host.outcome, host.finished_at = "finished", "refused", now
                host.detail = credential_grants.why_forbidden(grant)
                shut.add(host.id)
            continue
        grant = grant or _granted(session, run, secret, now)
        credential_grants.used(session, grant, now)
        _note_use(session, run.client_id, secret, run.actor, now)
        opened.append({"secret": secret, "grant": grant.id, "clause": grant.clause_id, "hosts": names})
    if opened:
        data = {"run": run.id, "ticket": run.ticket_id, "secrets": opened}
        _prove(session, run, "credential.used", opened[0]["secret"], data, now)
    return shut


def forbidden(session: Session, run: Run, items: Iterable[ConfigurationItem], now: datetime) -> dict[int, str]:
    """Return why a run may not go on, by the id of each item whose credential somebody withdrew meanwhile.

    A withdrawn secret among the run's own parameters shuts every item.
    """
    if run.client_id is None:
        return {}
    own = {str(references.parse(value)) for value in _named(run)}
    takes = {item.id: own | {str(references.parse(name)) for name in reach.secrets_of(session, item)} for item in items}
    secrets = {secret for wanted in takes.values() for secret in wanted}
    if not secrets:
        return {}
    standing = credential_grants.standing(
        session, client_id=run.client_id, actor=run.actor, ticket_id=run.ticket_id, secrets=secrets, now=now
    )
    shut = {secret: grant for secret, grant in sorted(standing.items()) if grant.forbids(now)}
    found: dict[int, str] = {}
    for asset_id, wanted in takes.items():
        for secret, grant in shut.items():
            if secret in wanted:
                found.setdefault(asset_id, credential_grants.why_forbidden(grant))
    return found


def values_in_use(session: Session, run: Run) -> dict[int, str]:
    """Return which value of its credential each asset takes (by id), where a rotation that this run serves knows better
    than `current`."""
    rotation = session.scalar(select(SecretRotation).where(SecretRotation.run_id == run.id))
    if rotation is None:
        return {}
    new, old = (CURRENT, PREVIOUS) if rotation.in_force else (NEXT, CURRENT)
    rows = session.scalars(select(RotationHost).where(RotationHost.rotation_id == rotation.id))
    return {row.asset_id: new if row.new_works else old for row in rows if row.new_works or row.old_works}


def _named(run: Run) -> list[str]:
    """Return the references among a run's parameters; only secrets are written so."""
    return [
        value
        for value in run.parameters.values()
        if isinstance(value, str)
        and value.startswith(("vault:", "bao:"))
        and not value.endswith(("@next", "@previous"))
    ]


def _granted(session: Session, run: Run, secret: str, now: datetime) -> CredentialGrant:
    return credential_grants.give_to_run(
        session,
        client_id=run.client_id or 0,
        actor=run.actor,
        ticket_id=run.ticket_id or 0,
        run_id=run.id,
        secret=secret,
        decision={key: run.decision.get(key) for key in ("effect", "clause_id", "text", "approver")},
        lasts=RUN_LASTS,
        now=now,
    )


def _note_use(session: Session, client_id: int, secret: str, by: str, now: datetime) -> None:
    row = known(session, client_id, secret)
    if row is None:
        wanted = references.parse(secret)
        if wanted.store == "vault":
            return  # it is missing, and opening it says so
        row = VaultSecret(client_id=client_id, name=wanted.name, kind="other", sealed=None, changed_by="")
        session.add(row)
    row.used_at, row.used_by = now, by


def _prove(session: Session, run: Run, kind: str, secret: str, data: dict[str, Any], now: datetime) -> None:
    evidence.record(
        session, kind, actor=run.actor, subject=("secret", secret), client_id=run.client_id, data=data, at=now
    )
