"""Private keys in memory: read once, never asked for a passphrase, with the certificate beside them."""

from functools import lru_cache
from pathlib import Path

import asyncssh

from msp.remote.outcome import Outcome
from msp.remote.target import Credential
from msp.remote.transport import NotAdmitted


@lru_cache(maxsize=1024)
def _from_file(path: Path, changed: int) -> tuple[asyncssh.SSHKeyPair, ...]:
    """`changed` is the file's time of change, so that a renewed key is read again."""
    certificate = path.with_name(path.name + "-cert.pub")
    source = (str(path), str(certificate)) if certificate.exists() else str(path)
    return tuple(asyncssh.load_keypairs([source]))


def key_pairs(credential: Credential) -> list[asyncssh.SSHKeyPair]:
    """Return the key pairs of a credential, none for a password. Raises NotAdmitted with what is wrong with it."""
    try:
        if credential.key_file:
            return list(_from_file(credential.key_file, credential.key_file.stat().st_mtime_ns))
        if credential.private_key:
            key = asyncssh.import_private_key(credential.private_key.value)
            if credential.certificate:
                return list(asyncssh.load_keypairs([(key, asyncssh.import_certificate(credential.certificate))]))
            return list(asyncssh.load_keypairs([key]))
    except OSError as error:
        detail = f"The key file {credential.key_file} cannot be read: {error.strerror}."
        raise NotAdmitted(Outcome("auth_failed", detail=detail), advice="Name a private key that exists.") from error
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, ValueError) as error:
        which = credential.key_file or "from the vault"
        detail = f"The private key {which} cannot be used: {error}."
        advice = "Give an OpenSSH private key without a passphrase; keep it in the vault."
        raise NotAdmitted(Outcome("auth_failed", detail=detail), advice=advice) from error
    return []
