"""The vault: secrets at rest under AES-256-GCM, a data key per client, the master key in a file of mode 0600.

A secret is bound to its client and name as associated data, so a row moved to another client does not open.
"""

import os
import secrets
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import LargeBinary, UniqueConstraint, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from msp import log
from msp.clock import utc_now
from msp.db import Model
from msp.errors import Conflict, Misconfigured, NotFound
from msp.secret import Secret as Secret  # given out by the vault, so known here too

NONCE = 12  # bytes; NIST SP 800-38D


class VaultKey(Model):
    """The data key of one client (0: the provider), wrapped by the master key."""

    __tablename__ = "vault_key"
    id: Mapped[int] = mapped_column(primary_key=True)
    client_id: Mapped[int] = mapped_column(unique=True)
    wrapped: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime]


class VaultSecret(Model):
    """One secret under its name; only ciphertext is stored."""

    __tablename__ = "vault_secret"
    __table_args__ = (UniqueConstraint("client_id", "name"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    client_id: Mapped[int]
    name: Mapped[str]
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    changed_at: Mapped[datetime]
    changed_by: Mapped[str]


def create_key_file(path: Path) -> None:
    """Write a new master key, readable by its owner alone. Raises Conflict if there is one already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise Conflict(
            f"The key file {path} exists already.", advice="Keep it: it opens every stored secret."
        ) from error
    with os.fdopen(handle, "w") as file:
        file.write(secrets.token_hex(32) + "\n")


def _seal(key: bytes, plain: bytes, bound_to: str) -> bytes:
    nonce = os.urandom(NONCE)
    return nonce + AESGCM(key).encrypt(nonce, plain, bound_to.encode())


def _open(key: bytes, sealed: bytes, bound_to: str, what: str) -> bytes:
    try:
        return AESGCM(key).decrypt(sealed[:NONCE], sealed[NONCE:], bound_to.encode())
    except InvalidTag as error:
        raise Misconfigured(
            f"{what} does not open with this master key.", advice="Restore the key file that belongs to this database."
        ) from error


class Vault:
    """Seals and opens secrets with the master key of one installation."""

    def __init__(self, master: bytes) -> None:
        self._master = master

    @classmethod
    def from_file(cls, path: Path) -> "Vault":
        """Read the master key; raises Misconfigured if it is missing, broken or readable by others."""
        try:
            mode, text = path.stat().st_mode, path.read_text("ascii").strip()
            key = bytes.fromhex(text)
        except FileNotFoundError as error:
            raise Misconfigured(f"The key file {path} is missing.", advice="Run msp init, or restore it.") from error
        except (ValueError, OSError) as error:
            raise Misconfigured(f"The key file {path} cannot be read.", advice="Restore it from your safe.") from error
        if mode & 0o077:
            raise Misconfigured(f"The key file {path} is readable by others.", advice=f"Run chmod 600 {path}.")
        if len(key) != 32:
            raise Misconfigured(f"The key file {path} does not hold 32 bytes.", advice="Restore it from your safe.")
        return cls(key)

    def _data_key(self, session: Session, client_id: int) -> bytes:
        row = session.scalar(select(VaultKey).where(VaultKey.client_id == client_id))
        if row is None:
            key = os.urandom(32)
            wrapped = _seal(self._master, key, f"data-key:{client_id}")
            session.add(VaultKey(client_id=client_id, wrapped=wrapped, created_at=utc_now()))
            session.flush()
            return key
        return _open(self._master, row.wrapped, f"data-key:{client_id}", "The client's data key")

    def put(self, session: Session, name: str, value: str, *, by: str, client_id: int = 0) -> None:
        """Store or replace a secret of one client (0: the provider)."""
        sealed = _seal(
            self._data_key(session, client_id), value.encode("utf-8", "surrogateescape"), f"{client_id}:{name}"
        )
        row = session.scalar(select(VaultSecret).where(VaultSecret.client_id == client_id, VaultSecret.name == name))
        if row is None:
            row = VaultSecret(client_id=client_id, name=name)
            session.add(row)
        row.sealed, row.changed_at, row.changed_by = sealed, utc_now(), by
        session.flush()

    def get(self, session: Session, name: str, *, client_id: int = 0) -> Secret:
        """Return a secret for use, and teach this process's log to mask it. Raises NotFound."""
        row = session.scalar(select(VaultSecret).where(VaultSecret.client_id == client_id, VaultSecret.name == name))
        if row is None:
            raise NotFound(f"There is no secret {name!r} for this client.", advice="Add it with msp vault put.")
        plain = _open(self._data_key(session, client_id), row.sealed, f"{client_id}:{name}", f"Secret {name!r}")
        value = plain.decode("utf-8", "surrogateescape")
        log.redactor.learn([value])
        return Secret(value)

    def rewrap(self, session: Session, new_master: bytes) -> int:
        """Wrap every data key under `new_master` and return how many; secrets themselves stay as they are."""
        rows = list(session.scalars(select(VaultKey)))
        for row in rows:
            key = _open(self._master, row.wrapped, f"data-key:{row.client_id}", "A data key")
            row.wrapped = _seal(new_master, key, f"data-key:{row.client_id}")
        self._master = new_master
        return len(rows)


def names(session: Session, client_id: int | None = None) -> Iterator[VaultSecret]:
    """Yield stored secrets (sealed) in order of client and name."""
    query = select(VaultSecret).order_by(VaultSecret.client_id, VaultSecret.name)
    yield from session.scalars(query if client_id is None else query.where(VaultSecret.client_id == client_id))
