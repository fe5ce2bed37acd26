"""Key revocation lists as OpenSSH reads them (PROTOCOL.krl, format 1): bytes in, bytes out. Pure."""

import base64
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

MAGIC = b"SSHKRL\n\0"
FORMAT = 1
_CERTIFICATES, _KEYS = 1, 2
_SERIAL_LIST = 0x20


@dataclass(frozen=True, slots=True)
class Revoked:
    """What one certificate authority takes back: certificates by serial number."""

    authority: str  # public key as in authorized_keys
    serials: Sequence[int]


def blob(public_key: str) -> bytes:
    """Return a public key from its authorized_keys form as it goes over the wire (RFC 4253, 6.6)."""
    return base64.b64decode(public_key.split()[1])


def _string(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def _section(kind: int, content: bytes) -> bytes:
    return bytes([kind]) + _string(content)


def build(
    revoked: Iterable[Revoked], keys: Iterable[str] = (), *, version: int, made_at: datetime, comment: str = ""
) -> bytes:
    """Return a revocation list for sshd's RevokedKeys.

    keys: whole public keys that no longer count; a certificate signed by one of them does not count either.
    version: grows from list to list. A list that revokes nothing is valid.
    """
    head = MAGIC + struct.pack(">IQQQ", FORMAT, version, int(made_at.timestamp()), 0) + _string(b"")
    parts = [head, _string(comment.encode())]
    for one in revoked:
        if one.serials:
            serials = b"".join(struct.pack(">Q", serial) for serial in sorted(set(one.serials)))
            content = _string(blob(one.authority)) + _string(b"") + _section(_SERIAL_LIST, serials)
            parts.append(_section(_CERTIFICATES, content))
    whole = b"".join(_string(one) for one in sorted({blob(key) for key in keys}))
    if whole:
        parts.append(_section(_KEYS, whole))
    return b"".join(parts)
