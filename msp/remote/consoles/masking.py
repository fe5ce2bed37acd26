"""Mask secrets in what a terminal shows, also where the terminal's own control sequences stand within them. Pure.

A shell that wraps a long line or redraws it puts escape sequences, carriage returns and line feeds between the
letters of a secret; so secrets are looked for in the visible text alone, and masked where they stand.
"""

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence

from msp.redact import MASK, forms_of

#: What a terminal does not show: control sequences (ECMA-48), and the space and return by which a line is wrapped.
#: No text of a sequence goes beyond the next escape, so that hostile output costs no more than any other.
CONTROL = re.compile(
    rb"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI
    rb"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)"  # OSC, DCS, SOS, PM, APC with their text
    rb"|\x1b[ -/]*[0-Z\\^_`-~]"  # two- and three-byte sequences
    rb"| \r(?!\n)"
    rb"|[\x00-\x1a\x1c-\x1f\x7f]"
)
#: A control sequence that has begun and may go on in the next piece.
BEGUN = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)?\Z")
#: The beginning of a sequence that carries text.
STRING = re.compile(rb"\x1b[\]PX^_]")
LONGEST_SEQUENCE = 4096  # bytes after which a begun sequence is taken for text


class Masker:
    """Masks secrets in a stream of terminal output. What may be the beginning of one waits for what follows."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {CONTROL.sub(b"", form) for form in forms_of(secrets)}
        self._forms = sorted((form for form in forms if len(form) >= 4), key=len, reverse=True)
        self._pattern = re.compile(_alternatives(self._forms)) if self._forms else None
        self._longest = len(self._forms[0]) if self._forms else 0
        self._by_head: dict[bytes, list[bytes]] = defaultdict(list)
        for form in self._forms:
            for length in (1, 2, 3, 4):
                self._by_head[form[:length]].append(form)
        self._kept = b""

    @property
    def waiting(self) -> bool:
        """Whether something is held back."""
        return bool(self._kept)

    def feed(self, chunk: bytes) -> bytes:
        """Return what may be kept now."""
        if self._pattern is None:
            return chunk
        data = self._kept + chunk
        if STRING.search(data):  # a window's title is not in the visible text, and is shown all the same
            data = self._pattern.sub(MASK.encode(), data)
        masked, cut = self._mask(data, self._pattern)
        self._kept = masked[cut:]
        return masked[:cut]

    def close(self) -> bytes:
        """Return the rest."""
        rest, self._kept = self._kept, b""
        return rest

    def _mask(self, data: bytes, pattern: re.Pattern[bytes]) -> tuple[bytes, int]:
        """Return `data` with secrets masked, and from where it must wait for its continuation."""
        begun = BEGUN.search(data)
        end = begun.start() if begun and len(data) - begun.start() <= LONGEST_SEQUENCE else len(data)
        seen, starts, places = _visible(data, end)
        pieces: list[bytes] = []
        last = 0
        for found in pattern.finditer(seen):
            first = _place(found.start(), starts, places)
            final = _place(found.end() - 1, starts, places) + 1
            pieces += [data[last:first], MASK.encode(), b"".join(CONTROL.findall(data[first:final]))]
            last = final
        held = self._begins(seen)
        if held is None and seen.endswith(b" "):  # the space by which a line is wrapped, within a secret
            held = self._begins(seen[:-1])
        waits = _place(held, starts, places) if held is not None else end
        if last > waits:
            waits = last  # it begins within what is masked already
        head = b"".join(pieces) + data[last:waits]
        return head + data[waits:], len(head)

    def _begins(self, seen: bytes) -> int | None:
        """Return where, at the end of the visible text, a secret may have begun."""
        for at in range(max(len(seen) - self._longest + 1, 0), len(seen)):
            forms = self._by_head.get(seen[at : at + 4])
            if forms and any(len(form) > len(seen) - at and form.startswith(seen[at:]) for form in forms):
                return at
        return None


class SameLength:
    """Masks secrets in bytes whose lengths must not change: a clipboard within the protocol of screens."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._forms = sorted(forms_of(secrets), key=len, reverse=True)
        self._pattern = re.compile(_alternatives(self._forms)) if self._forms else None
        self._longest = len(self._forms[0]) if self._forms else 0
        self._heads = {form[:length] for form in self._forms for length in (1, 2, 3, 4)}
        self._kept = b""

    def feed(self, chunk: bytes) -> bytes:
        """Return what may be kept now; what may be the beginning of a secret waits."""
        if self._pattern is None:
            return chunk
        data = self._pattern.sub(lambda found: b"*" * len(found[0]), self._kept + chunk)
        waits = next((at for at in range(max(len(data) - self._longest + 1, 0), len(data)) if self._begins(data, at)),
                     len(data))  # fmt: skip
        self._kept = data[waits:]
        return data[:waits]

    def close(self) -> bytes:
        """Return the rest."""
        rest, self._kept = self._kept, b""
        return rest

    def _begins(self, data: bytes, at: int) -> bool:
        if data[at : at + 4] not in self._heads:
            return False
        rest = data[at:]
        return any(len(form) > len(rest) and form.startswith(rest) for form in self._forms)


def _alternatives(forms: Sequence[bytes], depth: int = 3) -> bytes:
    """Return a pattern for any of `forms`, the longest first, that costs the same however many they are."""
    if depth == 0 or len(forms) < 3:
        return b"|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))
    groups: dict[bytes, list[bytes]] = defaultdict(list)
    for form in forms:
        groups[form[:1]].append(form[1:])
    return b"|".join(
        re.escape(head) + b"(?:" + _alternatives(rest, depth - 1) + b")" for head, rest in sorted(groups.items())
    )


def _visible(data: bytes, end: int) -> tuple[bytes, list[int], list[int]]:
    """Return the visible text of data[:end], with where its unbroken pieces begin in it and in `data`."""
    pieces: list[bytes] = []
    starts: list[int] = []
    places: list[int] = []
    length = at = 0
    for found in CONTROL.finditer(data, 0, end):
        if found.start() > at:
            pieces.append(data[at : found.start()])
            starts.append(length)
            places.append(at)
            length += found.start() - at
        at = found.end()
    if end > at:
        pieces.append(data[at:end])
        starts.append(length)
        places.append(at)
    return b"".join(pieces), starts, places


def _place(index: int, starts: list[int], places: list[int]) -> int:
    """Return where a byte of the visible text stands in the data."""
    piece = bisect_right(starts, index) - 1
    return places[piece] + index - starts[piece]
