"""One-use tickets that open a console's connection: signed, good for 30 seconds, bound to who, what and how. Pure.

The signature proves that we wrote the ticket; that it was not used before is a conditional update of the stored nonce.
"""

import base64
import binascii
import hmac
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from msp.errors import Refused

LONGEST = 2048  # characters of a ticket; ours have about 300


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a connection may be used for. `expires_at` is aware, whole seconds are kept."""

    console_id: int
    user_id: int
    ticket_id: int
    asset_id: int
    kind: str
    mode: str
    nonce: str
    expires_at: datetime


class BadTicket(Refused):
    """A ticket that opens nothing: forged, too old, used before, or for something else."""

    code = "bad_ticket"

    def __init__(self, what: str) -> None:
        super().__init__(what, advice="Open the console again from its ticket or machine.")


def _mac(key: bytes, body: bytes) -> bytes:
    return hmac.digest(key, b"msp console ticket 1\0" + body, "sha256")


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _data(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def sign(key: bytes, ticket: Ticket) -> str:
    """Return the ticket as text that fits into an address. key: 32 bytes that only our own processes know."""
    said = asdict(ticket) | {"expires_at": int(ticket.expires_at.timestamp())}
    body = json.dumps(said, sort_keys=True, separators=(",", ":")).encode()
    return f"{_text(body)}.{_text(_mac(key, body))}"


def read(key: bytes, text: str, now: datetime) -> Ticket:
    """Return what a ticket says. Raises BadTicket if it is not ours, was changed, or is older than its life."""
    head, _, tail = text.partition(".") if len(text) <= LONGEST and text.isascii() else ("", "", "")
    try:
        body, mac = _data(head), _data(tail)
    except (binascii.Error, ValueError):
        body, mac = b"", b""
    if not body or not hmac.compare_digest(mac, _mac(key, body)):
        raise BadTicket("This is no ticket of ours.")
    said: dict[str, Any] = json.loads(body)
    ticket = Ticket(**(said | {"expires_at": datetime.fromtimestamp(said["expires_at"], UTC)}))
    if now > ticket.expires_at:
        raise BadTicket("The ticket is too old.")
    return ticket
