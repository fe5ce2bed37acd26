"""An act as canonical JSON: sorted keys, no spaces, amounts as text. Its SHA-256 names the act in evidence. Pure."""

import hashlib
from dataclasses import asdict
from datetime import date
from decimal import Decimal
from typing import Any

from msp.contracts.act_document import ActDocument
from msp.evidence import canonical


def write(document: ActDocument) -> bytes:
    """Return the document's every value, in one line."""
    return canonical(_plain(asdict(document))) + b"\n"


def digest(document: ActDocument) -> str:
    """Return the SHA-256 of the file that `write` gives."""
    return hashlib.sha256(write(document)).hexdigest()


def _plain(value: Any) -> Any:
    match value:
        case Decimal():
            return str(value)
        case date():
            return value.isoformat()
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            return value
