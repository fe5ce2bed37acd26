"""Remove secrets from bytes and text before anything is stored, logged or shown.

Each secret is looked for raw, base64 (all three alignments), URL-encoded, hexadecimal and JSON-escaped.
"""

import base64
import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, quote_plus

MASK = "***"
SHORTEST = 4  # shorter values would blank out ordinary text


def _forms(secret: str) -> set[bytes]:
    raw = secret.encode("utf-8", "surrogateescape")
    forms = {
        raw,
        quote(raw, safe="").encode(),
        quote_plus(raw).encode(),
        raw.hex().encode(),
        raw.hex().upper().encode(),
    }
    forms.add(json.dumps(secret)[1:-1].encode())
    forms.add(secret.replace("'", "'\\''").encode("utf-8", "surrogateescape"))  # as a shell quotes it
    for shift in range(3):  # base64 of text around the secret, in each of its three alignments
        encoded = base64.b64encode(b"\0" * shift + raw)
        head = (0, 2, 3)[shift]
        tail = len(encoded) - (0, 3, 2)[(shift + len(raw)) % 3]
        core = encoded[head:tail]
        if len(core) >= SHORTEST:
            forms |= {core, core.replace(b"+", b"-").replace(b"/", b"_")}
    return {form for form in forms if len(form) >= SHORTEST}


def forms_of(secrets: Iterable[str]) -> set[bytes]:
    """Return every form in which secrets are looked for; a secret of many lines also line by line."""
    known: set[bytes] = set()
    for secret in secrets:
        known |= _forms(secret)
        for line in secret.splitlines():
            if len(line) >= 8:
                known |= _forms(line)
    return known


class Redactor:
    """Knows a run's secrets and masks every form of them."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._learned: set[str] = set()
        self._known: set[bytes] = set()
        self._longest = 0
        self._pattern: re.Pattern[bytes] | None = None
        #: A pattern, a text, and what it came to: what a fleet is sent is the same text for each host.
        self._last: tuple[re.Pattern[bytes] | None, str, str] = (None, "", "")
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """Add secrets; a secret of many lines is also masked line by line."""
        new = set(secrets) - self._learned
        if not new and self._pattern:
            return
        self._learned |= new
        self._known |= forms_of(new)
        forms = sorted(self._known, key=len, reverse=True)
        self._longest = len(forms[0]) if forms else 0
        self._pattern = re.compile(b"|".join(map(re.escape, forms))) if forms else None

    def data(self, value: bytes) -> bytes:
        """Return `value` with every known secret masked."""
        return self._pattern.sub(MASK.encode(), value) if self._pattern else value

    def text(self, value: str) -> str:
        """Return `value` with every known secret masked; bytes that are not UTF-8 survive as surrogates."""
        pattern = self._pattern
        if pattern is None or not value:
            return value
        by, known, masked = self._last
        if by is not pattern or known is not value:
            data = pattern.sub(MASK.encode(), value.encode("utf-8", "surrogateescape"))
            masked = data.decode("utf-8", "surrogateescape")
            self._last = (pattern, value, masked)
        return masked

    def tree(self, value: Any) -> Any:
        """Return a JSON value with every string in it masked, keys included."""
        match value:
            case str():
                return self.text(value)
            case dict():
                return {self.text(str(key)): self.tree(item) for key, item in value.items()}
            case list() | tuple():
                return [self.tree(item) for item in value]
            case _:
                return value


class StreamRedactor:
    """Masks secrets in a stream whose chunks may cut a secret in two."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor, self._kept = redactor, b""

    def feed(self, chunk: bytes) -> bytes:
        """Return what may be shown now; the last bytes wait for their continuation."""
        keep = max(self._redactor._longest - 1, 0)  # noqa: SLF001  same module, one idea
        whole = self._redactor.data(self._kept + chunk)
        cut = max(len(whole) - keep, 0)
        self._kept = whole[cut:]
        return whole[:cut]

    def close(self) -> bytes:
        """Return the rest."""
        rest, self._kept = self._redactor.data(self._kept), b""
        return rest
