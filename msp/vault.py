"""The vault: secrets at rest under AES-256-GCM, a data key per client, the master key in a file of mode 0600.

A secret is bound to its client and name as associated data, so a row moved to another client does not open. A secret
being rotated has up to two more versions: `next` is not yet in force, `previous` no longer; both stay until the
rotation is proven. Secrets whose value another store keeps stand here by name alone, so that the desk knows their age.
"""

import os
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import ForeignKey, LargeBinary, UniqueConstraint, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from msp import log, master_key
from msp.clock import utc_now
from msp.db import Model, locked
from msp.errors import Conflict, Misconfigured, NotFound
from msp.master_key import create_key_file as create_key_file
from msp.secret import Secret as Secret  # given out by the vault, so known here too

NONCE = 12  # bytes; NIST SP 800-38D
KINDS = ("password", "ssh_key", "other")
CURRENT, NEXT, PREVIOUS = "current", "next", "previous"
#: Keys that the product makes for itself. Nobody names them for a machine, sees them or replaces them.
OWN = re.compile(r"ssh-ca-\d+|proof pack signing key")


class VaultKey(Model):
    """The data key of one client (0: the provider), wrapped by the master key."""

    __tablename__ = "vault_key"
    id: Mapped[int] = mapped_column(primary_key=True)
    client_id: Mapped[int] = mapped_column(unique=True)
    wrapped: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime]


class VaultSecret(Model):
    """One secret under its name; only ciphertext is stored. `sealed` None: another store keeps the value."""

    __tablename__ = "vault_secret"
    __table_args__ = (UniqueConstraint("client_id", "name"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    client_id: Mapped[int]
    name: Mapped[str]
    kind: Mapped[str] = mapped_column(default="other")  # one of KINDS
    sealed: Mapped[bytes | None] = mapped_column(LargeBinary)
    changed_at: Mapped[datetime | None]  # None: another store keeps it and has not been asked yet
    changed_by: Mapped[str]
    rotated_at: Mapped[datetime | None]  # when a rotation was last proven
    used_at: Mapped[datetime | None]
    used_by: Mapped[str] = mapped_column(default="")
    exposed_at: Mapped[datetime | None]  # somebody has seen it: to be rotated
    exposed_why: Mapped[str] = mapped_column(default="")

    @property
    def reference(self) -> str:
        """How it is named where stores are told apart: `vault:NAME`, or `bao:MOUNT/PATH#FIELD`."""
        return self.name if self.sealed is None else f"vault:{self.name}"


class VaultVersion(Model):
    """A version of a secret that is not in force: `next`, or `previous`."""

    __tablename__ = "vault_version"
    __table_args__ = (UniqueConstraint("secret_id", "which"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    secret_id: Mapped[int] = mapped_column(ForeignKey("vault_secret.id"))
    which: Mapped[str]  # next, previous
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    made_at: Mapped[datetime]
    made_by: Mapped[str]


def _seal(key: bytes, plain: bytes, bound_to: str) -> bytes:
    nonce = os.urandom(NONCE)
    return nonce + AESGCM(key).encrypt(nonce, plain, bound_to.encode())


def _open(keys: list[bytes], sealed: bytes, bound_to: str, what: str) -> bytes:
    for key in keys:
        try:
            return AESGCM(key).decrypt(sealed[:NONCE], sealed[NONCE:], bound_to.encode())
        except InvalidTag:
            continue
    raise Misconfigured(
        f"{what} does not open with this master key.", advice="Restore the key file that belongs to this database."
    )


def kind_of(value: str) -> str:
    """Return what kind of secret a value is; what is not a private key counts as a password."""
    return "ssh_key" if "PRIVATE KEY-----" in value else "password"


def row_of(session: Session, name: str, client_id: int, *, lock: bool = False) -> VaultSecret:
    """Return what is known of a secret. Raises NotFound."""
    query = select(VaultSecret).where(VaultSecret.client_id == client_id, VaultSecret.name == name)
    if lock:
        query = locked(query)
    row = session.scalar(query)
    if row is None:
        raise NotFound(f"There is no secret {name!r} for this client.", advice="Add it with msp vault put.")
    return row


def version_of(session: Session, row: VaultSecret, which: str) -> VaultVersion | None:
    """Return a version that is not in force, or None."""
    query = select(VaultVersion).where(VaultVersion.secret_id == row.id, VaultVersion.which == which)
    return session.scalar(query.execution_options(populate_existing=True))


class Vault:
    """Seals and opens secrets with the master key of one installation."""

    def __init__(self, master: bytes, *others: bytes, path: Path | None = None) -> None:
        """master: seals. others: open too, while the master key is being changed. path: read anew if none opens."""
        self._masters, self._path = [master, *others], path

    @classmethod
    def from_file(cls, path: Path) -> "Vault":
        """Read the master key; raises Misconfigured if it is missing, broken or readable by others."""
        return cls(*master_key.read_all(path), path=path)

    def _unwrapped(self, row: VaultKey) -> bytes:
        bound = f"data-key:{row.client_id}"
        try:
            return _open(self._masters, row.wrapped, bound, "The client's data key")
        except Misconfigured:
            if self._path is None:
                raise
            self._masters = master_key.read_all(self._path)  # it may have been changed since we read it
            return _open(self._masters, row.wrapped, bound, "The client's data key")

    def _data_key(self, session: Session, client_id: int, *, keep: bool = False) -> bytes:
        """Return a client's data key. keep: nobody replaces it until we commit, so what it seals stays openable."""
        query = select(VaultKey).where(VaultKey.client_id == client_id)
        if keep:
            query = query.with_for_update(read=True).execution_options(populate_existing=True)
        row = session.scalar(query)
        if row is None:
            key = os.urandom(32)
            wrapped = _seal(self._masters[0], key, f"data-key:{client_id}")
            session.add(VaultKey(client_id=client_id, wrapped=wrapped, created_at=utc_now()))
            session.flush()
            return key
        return self._unwrapped(row)

    def _sealed(self, session: Session, name: str, value: str, client_id: int) -> bytes:
        key = self._data_key(session, client_id, keep=True)
        return _seal(key, value.encode("utf-8", "surrogateescape"), f"{client_id}:{name}")

    def put(
        self, session: Session, name: str, value: str, *, by: str, client_id: int = 0, kind: str = ""
    ) -> VaultSecret:
        """Store or replace a secret of one client (0: the provider); versions of an earlier rotation go with it."""
        sealed = self._sealed(session, name, value, client_id)
        query = select(VaultSecret).where(VaultSecret.client_id == client_id, VaultSecret.name == name)
        row = session.scalar(locked(query))
        if row is None:
            row = VaultSecret(client_id=client_id, name=name)
            session.add(row)
        else:
            for which in (NEXT, PREVIOUS):
                self.drop(session, row, which)
        row.sealed, row.changed_at, row.changed_by = sealed, utc_now(), by
        row.kind = kind or kind_of(value)
        row.exposed_at, row.exposed_why = None, ""
        session.flush()
        return row

    def get(self, session: Session, name: str, *, client_id: int = 0, which: str = CURRENT) -> Secret:
        """Return a secret for use, and teach this process's log to mask it. Raises NotFound."""
        row = row_of(session, name, client_id)
        if which == CURRENT:
            sealed = row.sealed
        else:
            version = version_of(session, row, which)
            sealed = version.sealed if version else None
        if sealed is None:
            raise NotFound(f"Secret {name!r} has no {which} value here.", advice="Look at it on the credential desk.")
        plain = _open([self._data_key(session, client_id)], sealed, f"{client_id}:{name}", f"Secret {name!r}")
        value = plain.decode("utf-8", "surrogateescape")
        log.redactor.learn([value])
        return Secret(value)

    def stage(self, session: Session, name: str, value: str, *, by: str, client_id: int = 0) -> None:
        """Keep a value as `next` beside the one in force. Raises NotFound; Conflict if there is a next one already."""
        row_of(session, name, client_id)  # so that one that does not exist leaves no key behind
        sealed = self._sealed(session, name, value, client_id)  # the key is locked before the secret, as by `reseal`
        row = row_of(session, name, client_id, lock=True)
        if version_of(session, row, NEXT) is not None:
            raise Conflict(f"Secret {name!r} is being rotated already.", advice="Let that end first.")
        session.add(VaultVersion(secret_id=row.id, which=NEXT, sealed=sealed, made_at=utc_now(), made_by=by))
        session.flush()

    def promote(self, session: Session, name: str, *, by: str, client_id: int = 0) -> None:
        """Put `next` in force; what was in force is `previous` until it is dropped. Raises NotFound."""
        row = row_of(session, name, client_id, lock=True)
        fresh = version_of(session, row, NEXT)
        if fresh is None or row.sealed is None:
            raise NotFound(f"Secret {name!r} has no next value.", advice="Begin the rotation again.")
        self.drop(session, row, PREVIOUS)
        row.sealed, fresh.sealed, fresh.which = fresh.sealed, row.sealed, PREVIOUS
        row.changed_at = row.rotated_at = utc_now()
        row.changed_by, row.exposed_at, row.exposed_why = by, None, ""
        session.flush()

    def drop(self, session: Session, row: VaultSecret, which: str) -> bool:
        """Forget a version that is not in force; return whether there was one."""
        version = version_of(session, row, which)
        if version is not None:
            session.delete(version)
            session.flush()
        return version is not None

    def delete(self, session: Session, name: str, *, client_id: int = 0) -> None:
        """Forget a secret and all its versions. Raises NotFound."""
        row = row_of(session, name, client_id, lock=True)
        for which in (NEXT, PREVIOUS):
            self.drop(session, row, which)
        session.delete(row)
        session.flush()

    def rewrap(self, session: Session, new_master: bytes) -> int:
        """Wrap every data key under `new_master` and return how many; secrets themselves stay as they are."""
        rows = list(session.scalars(locked(select(VaultKey))))
        for row in rows:
            row.wrapped = _seal(new_master, self._unwrapped(row), f"data-key:{row.client_id}")
        self._masters = [new_master]
        session.flush()
        return len(rows)

    def reseal(self, session: Session) -> int:
        """Give every client a new data key, seal every secret under it, and return how many secrets."""
        count = 0
        anew = {"populate_existing": True}
        for holder in session.scalars(select(VaultKey).order_by(VaultKey.id).with_for_update(), execution_options=anew):
            old, fresh = self._unwrapped(holder), os.urandom(32)
            secrets = select(VaultSecret).where(VaultSecret.client_id == holder.client_id).order_by(VaultSecret.id)
            for row in list(session.scalars(secrets.with_for_update(), execution_options=anew)):
                bound = f"{row.client_id}:{row.name}"
                kept = select(VaultVersion).where(VaultVersion.secret_id == row.id)
                versions = list(session.scalars(kept, execution_options=anew))
                sealings: list[VaultSecret | VaultVersion] = [row, *versions]
                for one in sealings:
                    if one.sealed is not None:
                        one.sealed = _seal(fresh, _open([old], one.sealed, bound, f"Secret {row.name!r}"), bound)
                        count += 1
            holder.wrapped = _seal(self._masters[0], fresh, f"data-key:{holder.client_id}")
            holder.created_at = utc_now()
        session.flush()
        return count


def names(session: Session, client_id: int | None = None) -> Iterator[VaultSecret]:
    """Yield stored secrets (sealed) in order of client and name."""
    query = select(VaultSecret).order_by(VaultSecret.client_id, VaultSecret.name)
    yield from session.scalars(query if client_id is None else query.where(VaultSecret.client_id == client_id))
