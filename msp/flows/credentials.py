"""The credential desk: every secret by client with its age, who uses it, who may; stored, replaced, shown, forgotten.

A value goes in and comes out to machines. That a person sees one is the exception: it needs a right of its own and a
reason, the contract's consent, and leaves the secret marked as to be rotated.
"""

import re
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp import evidence
from msp.assets.models import ConfigurationItem
from msp.clock import utc_now
from msp.contracts.models import Client
from msp.errors import Conflict, Misconfigured, NotFound, Refused
from msp.flows import credential_grants
from msp.flows.keyring import known
from msp.people.access import Actor, may
from msp.people.credential_grants import GIVEN, CredentialGrant
from msp.remote.rotations import OPEN, SecretRotation
from msp.secret import Secret
from msp.secret_store import reference as references
from msp.secret_store.age import Age, Policy, age_of
from msp.settings import Settings
from msp.vault import KINDS, OWN, Vault, VaultSecret, names

LONGEST = 100_000  # characters of one secret
LETTERS = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # none that look alike
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/ -]{0,119}")


@dataclass(frozen=True, slots=True)
class Row:
    """One secret on the desk. Never its value. `client` None: the provider's own."""

    secret: VaultSecret
    client: Client | None
    age: Age
    assets: tuple[ConfigurationItem, ...]
    grants: tuple[CredentialGrant, ...]  # in force
    rotating: bool

    @property
    def is_own(self) -> bool:
        """Whether it is a key that the product made for itself."""
        return OWN.fullmatch(self.secret.name) is not None

    def as_dict(self) -> dict[str, Any]:
        """Return what lists and programs are given."""
        row = self.secret
        return {
            "client": self.client.key if self.client else "provider",
            "name": row.name,
            "store": "vault" if row.sealed is not None else "openbao",
            "kind": row.kind,
            "state": self.age.state,
            "age_days": self.age.days,
            "limit_days": self.age.limit.days,
            "changed_at": row.changed_at.isoformat() if row.changed_at else None,
            "changed_by": row.changed_by,
            "rotated_at": row.rotated_at.isoformat() if row.rotated_at else None,
            "used_at": row.used_at.isoformat() if row.used_at else None,
            "used_by": row.used_by,
            "assets": [item.name for item in self.assets],
            "may_use": [grant.actor for grant in self.grants],
        }


def policy_of(settings: Settings) -> Policy:
    """Return after how many days each kind of secret is too old."""
    return Policy(settings.password_days, settings.ssh_key_days, settings.other_secret_days)


def desk(
    session: Session,
    policy: Policy,
    now: datetime,
    *,
    client_ids: Collection[int] | None = None,
    kind: str = "",
    state: str = "",
    text: str = "",
) -> list[Row]:
    """Return the secrets of these clients (None: all, and the provider's own), the worst first.

    client_ids: 0 is the provider. kind, state: one of vault.KINDS, age.STATES; text: part of a name.
    """
    found = [row for row in names(session) if client_ids is None or row.client_id in client_ids]
    found = [row for row in found if not OWN.fullmatch(row.name)]  # the product's own keys open no machine
    clients = {client.id: client for client in session.scalars(select(Client))}
    assets = _assets(session, {row.client_id for row in found})
    grants: dict[tuple[int, str], list[CredentialGrant]] = {}
    for grant in session.scalars(select(CredentialGrant).where(CredentialGrant.state == GIVEN)):
        if grant.holds(now):
            grants.setdefault((grant.client_id, grant.secret), []).append(grant)
    rotating = {
        (row.client_id, row.secret)
        for row in session.scalars(select(SecretRotation).where(SecretRotation.state.in_(OPEN)))
    }
    rows = [
        Row(
            secret=row,
            client=clients.get(row.client_id),
            age=age_of(row.kind, row.changed_at, row.exposed_at, policy, now),
            assets=tuple(assets.get((row.client_id, row.reference), ())),
            grants=tuple(grants.get((row.client_id, row.reference), ())),
            rotating=(row.client_id, row.reference) in rotating,
        )
        for row in found
        if (not kind or row.kind == kind) and (not text or text.lower() in row.name.lower())
    ]
    rows = [row for row in rows if not state or row.age.state == state]
    return sorted(rows, key=lambda row: (*row.age.rank, row.secret.client_id, row.secret.name))


def _assets(session: Session, client_ids: Collection[int]) -> dict[tuple[int, str], list[ConfigurationItem]]:
    query = select(ConfigurationItem).where(ConfigurationItem.client_id.in_(sorted(client_ids)))
    found: dict[tuple[int, str], list[ConfigurationItem]] = {}
    for item in session.scalars(query.order_by(ConfigurationItem.name)):
        own = None if item.credential_kind == "ca" else item.secret_name
        for name in dict.fromkeys(one for one in (own, item.become_secret_name) if one):
            try:
                found.setdefault((item.client_id, str(references.parse(name))), []).append(item)
            except Misconfigured:
                continue  # reaching the asset says so
    return found


def used_by(session: Session, row: VaultSecret) -> Sequence[ConfigurationItem]:
    """Return the assets that are reached with a secret, by name."""
    return _assets(session, {row.client_id}).get((row.client_id, row.reference), [])


def generate(length: int = 24) -> Secret:
    """Return a new password: letters and digits that no shell, file or keyboard stumbles over; 139 bits at 24."""
    return Secret("".join(secrets.choice(LETTERS) for _ in range(length)))


def store(
    session: Session,
    vault: Vault,
    *,
    name: str,
    value: Secret,
    client_id: int,
    by: str,
    kind: str = "",
    new: bool | None = None,
) -> VaultSecret:
    """Store or replace a secret in our vault. new: True if there must be none of that name, False if there must.

    Raises Misconfigured for a name or value that cannot be, Conflict or NotFound by `new`, Conflict while the secret
    is being rotated.
    """
    if not NAME.fullmatch(name):
        raise Misconfigured(
            f"{name!r} cannot name a secret.", advice="Use letters, digits, spaces and . _ / - ; at most 120."
        )
    if kind and kind not in KINDS:
        raise Misconfigured(f"There is no kind {kind!r} of secret.", advice=f"Known: {', '.join(KINDS)}.")
    if not value.value or len(value.value) > LONGEST or "\0" in value.value:
        raise Misconfigured("The secret is empty, too long, or holds a NUL.", advice="Type it again.")
    _not_own(name)
    before = known(session, client_id, f"vault:{name}")
    if new is True and before is not None:
        raise Conflict(f"There is already a secret {name}.", advice="Replace that one, or choose another name.")
    if new is False and before is None:
        raise NotFound(f"There is no secret {name}.", advice="Look it up on the desk.")
    _not_rotating(session, client_id, f"vault:{name}")
    row = vault.put(session, name, value.value, by=by, client_id=client_id, kind=kind)
    kind_of_act = "secret.stored" if before is None else "secret.replaced"
    _prove(session, kind_of_act, row, by, {"kind": row.kind})
    return row


def delete(session: Session, vault: Vault, row: VaultSecret, *, by: str) -> None:
    """Forget a secret that no asset uses. Raises Conflict with the assets that do, or while it is being rotated."""
    _not_own(row.name)
    users = used_by(session, row)
    if users:
        raise Conflict(
            f"{row.name} opens {', '.join(item.name for item in users[:5])}.", advice="Give them another secret first."
        )
    _not_rotating(session, row.client_id, row.reference)
    _prove(session, "secret.deleted", row, by, {"kind": row.kind})
    if row.sealed is None:
        session.delete(row)  # what another store keeps stays there
        session.flush()
    else:
        vault.delete(session, row.name, client_id=row.client_id)


def let_see(
    session: Session, row: VaultSecret, *, actor: Actor, reason: str, ticket_id: int | None, now: datetime | None = None
) -> None:
    """Decide whether this person may see a secret now, and mark it as seen; the caller then shows it, once.

    The right alone is not enough: where an asset uses the secret the contract is asked for its use on a ticket.
    Raises Refused (commit nothing then), Misconfigured without a reason or a ticket.
    """
    now = now or utc_now()
    if not may(actor, "credential.reveal", row.client_id or None):
        raise Refused("Your role does not see secrets.", advice="Use it without seeing: run a playbook, or a console.")
    _not_own(row.name)
    if len(reason.strip()) < 5:
        raise Misconfigured("A reason is missing.", advice="Say what you need to see it for.")
    clause = None
    users = used_by(session, row)
    if row.client_id and users:
        if ticket_id is None:
            raise Misconfigured("A ticket is missing.", advice="Name the ticket that you need it for.")
        grant = _grant(session, row, users[0], actor, ticket_id, reason, now)
        credential_grants.used(session, grant, now)
        clause = grant.clause_id
    row.exposed_at, row.exposed_why = now, f"{actor.name}: {reason.strip()}"
    row.used_at, row.used_by = now, actor.name
    _prove(session, "credential.revealed", row, actor.name, {"reason": reason.strip(), "ticket": ticket_id,
                                                             "clause": clause}, now)  # fmt: skip


def _grant(
    session: Session,
    row: VaultSecret,
    item: ConfigurationItem,
    actor: Actor,
    ticket_id: int,
    reason: str,
    now: datetime,
) -> CredentialGrant:
    """Return the grant under which this person may use the secret on a ticket, asking for it if there is none."""
    held = credential_grants.standing(
        session, client_id=row.client_id, actor=actor.name, ticket_id=ticket_id, secrets=[row.reference], now=now
    ).get(row.reference)
    if held is not None and held.forbids(now):
        raise Refused(credential_grants.why_forbidden(held), advice="Ask for it anew.")
    grant = held or credential_grants.ask(
        session, asset_id=item.id, ticket_id=ticket_id, actor=actor, reason=reason, now=now
    )
    if not grant.holds(now):
        said = grant.decision
        raise Refused(
            str(said.get("text") or "The contract does not allow it."),
            advice=f"Ask for the credential; {said.get('approver') or 'the contract'} decides.",
        )
    return grant


def attention(session: Session, policy: Policy, now: datetime, client_ids: Collection[int] | None = None) -> int:
    """Return how many secrets are too old, or were seen and not rotated since."""
    return sum(
        1 for row in desk(session, policy, now, client_ids=client_ids) if row.age.state in ("overdue", "exposed")
    )


def _not_own(name: str) -> None:
    if OWN.fullmatch(name):
        raise Refused(f"{name} is a key of the product itself.", advice="Nobody sees it; msp ca replaces an authority.")


def _not_rotating(session: Session, client_id: int, secret: str) -> None:
    query = select(SecretRotation.id).where(
        SecretRotation.client_id == client_id, SecretRotation.secret == secret, SecretRotation.state.in_(OPEN)
    )
    if session.scalar(query.limit(1)) is not None:
        raise Conflict("This secret is being rotated.", advice="Wait until that has ended.")


def _prove(
    session: Session, kind: str, row: VaultSecret, by: str, data: dict[str, Any], now: datetime | None = None
) -> None:
    evidence.record(
        session,
        kind,
        actor=by,
        subject=("secret", row.reference),
        client_id=row.client_id or None,
        data={"name": row.name, **data},
        at=now,
    )
