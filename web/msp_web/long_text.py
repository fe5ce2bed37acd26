"""Output of any length, read by window: lines counted once, a search that stops in time. Pure but for reading.

Offsets are bytes from the start, lines count from 0. A text may grow at its end while it is read; nothing else of it
ever changes, so an offset once given stays right: a page that lost its connection asks again from where it was.
"""

import os
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Protocol

from msp.remote.output import shown

BLOCK = 64 * 1024  # bytes between two marks of the line count
CHUNK = 1024 * 1024  # bytes that a search reads at once
WINDOW = 512 * 1024  # bytes of one window at most
CLIP = 4000  # bytes of one line that are shown; the rest is in the file


class Text(Protocol):
    """Bytes that are read by place."""

    @property
    def size(self) -> int: ...

    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes from `offset` on: `length` of them, fewer only at the end."""


@dataclass(frozen=True, slots=True)
class Bytes:
    """A short text in memory."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]


@dataclass(frozen=True, slots=True)
class FileText:
    """A file, perhaps still being written. A file that is gone is empty."""

    path: Path

    @property
    def size(self) -> int:
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def read(self, offset: int, length: int) -> bytes:
        try:
            with self.path.open("rb", buffering=0) as file:
                return os.pread(file.fileno(), length, offset)
        except OSError:
            return b""


class Joined:
    """Texts one after another. All but the last have stopped growing."""

    def __init__(self, parts: Sequence[Text]) -> None:
        self._parts = parts
        self._ends = list(accumulate(part.size for part in parts))

    @property
    def size(self) -> int:
        return self._ends[-1] if self._ends else 0

    def read(self, offset: int, length: int) -> bytes:
        found: list[bytes] = []
        place = bisect_right(self._ends, offset)
        while length > 0 and place < len(self._parts):
            begins = self._ends[place - 1] if place else 0
            data = self._parts[place].read(offset - begins, min(length, self._ends[place] - offset))
            found.append(data)
            length -= len(data)
            offset, place = self._ends[place], place + 1
        return b"".join(found)


@dataclass(frozen=True, slots=True)
class Line:
    """One line as shown. `cut`: bytes of it that are left out."""

    text: str
    cut: int = 0


@dataclass(frozen=True, slots=True)
class Hit:
    """What a search came to. line and offset: where it stands, None if it does not. `stopped`: the offset at which
    time ran out, None when everything was searched."""

    line: int | None
    offset: int | None
    stopped: int | None


class Lines:
    """The line count of one text, made while it grows. Safe to share between threads."""

    def __init__(self) -> None:
        self._counts: list[int] = []  # newlines up to the end of each whole block
        self._lock = Lock()
        self.size = self.total = 0  # bytes and lines counted so far
        self.complete = False  # whether that is all there is now

    def catch_up(self, text: Text, *, seconds: float = 0.5) -> None:
        """Count what is new, for `seconds` at most; what is left is counted the next time."""
        until = monotonic() + seconds
        with self._lock:
            size = text.size
            if size < self.size:  # another text in its place
                self._counts.clear()
            while (len(self._counts) + 1) * BLOCK <= size and monotonic() < until:
                block = text.read(len(self._counts) * BLOCK, BLOCK)
                self._counts.append(self._before(len(self._counts)) + block.count(b"\n"))
            done = len(self._counts) * BLOCK
            rest = text.read(done, size - done) if size - done < BLOCK else b""
            self.complete = size - done < BLOCK
            self.size = done + len(rest)
            ends_open = self.size > 0 and text.read(self.size - 1, 1) != b"\n"
            self.total = self._before(len(self._counts)) + rest.count(b"\n") + ends_open

    def _before(self, block: int) -> int:
        return self._counts[block - 1] if block else 0

    def start_of(self, text: Text, line: int) -> int:
        """Return the offset at which a line begins; the size if there are fewer lines."""
        if line <= 0:
            return 0
        block = bisect_left(self._counts, line)
        data = text.read(block * BLOCK, min(BLOCK, self.size - block * BLOCK))
        parts = data.split(b"\n", line - self._before(block))
        if len(parts) <= line - self._before(block):
            return self.size
        return block * BLOCK + len(data) - len(parts[-1])

    def line_at(self, text: Text, offset: int) -> int:
        """Return the line in which an offset lies."""
        offset = max(0, min(offset, self.size))
        block = min(offset // BLOCK, len(self._counts))
        return self._before(block) + text.read(block * BLOCK, offset - block * BLOCK).count(b"\n")

    def window(self, text: Text, first: int, count: int) -> tuple[list[Line], int]:
        """Return up to `count` lines from `first` on, and the offset after them."""
        found: list[Line] = []
        start = self.start_of(text, first)
        data, at = text.read(start, min(WINDOW, self.size - start)), 0
        while len(found) < count and start + at < self.size:
            end = data.find(b"\n", at)
            if end < 0 and start + len(data) < self.size:  # the line goes on beyond what was read
                start, at = start + at, 0
                stop = self.start_of(text, first + len(found) + 1)
                data = text.read(start, CLIP)
                length = stop - start - (text.read(stop - 1, 1) == b"\n")
                found.append(Line(shown(data[:length]), max(length - CLIP, 0)))
                start = stop
                data = text.read(start, min(WINDOW, self.size - start))
                continue
            end = len(data) if end < 0 else end
            found.append(Line(shown(data[at : min(end, at + CLIP)].rstrip(b"\r")), max(end - at - CLIP, 0)))
            at = end + 1
        return found, min(start + at, self.size)

    def find(self, text: Text, words: str, begin: int, *, back: bool = False, seconds: float = 0.5) -> Hit:
        """Return where `words` stand next: from the offset `begin` on, or before it. Upper and lower case are alike."""
        places, until = _finder(words), monotonic() + seconds
        overlap = 4 * len(words) + 4
        begin = max(0, min(begin, self.size))
        while True:
            low = max(0, begin - CHUNK) if back else begin
            high = begin if back else min(begin + CHUNK, self.size)
            data = text.read(low, min(high - low + (overlap if back else 0), self.size - low))
            place = places(data, high - low, back)
            if place is not None:
                return Hit(self.line_at(text, low + place), low + place, None)
            if (low == 0) if back else (high >= self.size):
                return Hit(None, None, None)
            begin = low if back else high - overlap
            if monotonic() > until:
                return Hit(None, None, begin)


def _finder(words: str) -> Callable[[bytes, int, bool], int | None]:
    """Return a function (data, end, back) -> place of the first or last find that begins before `end`, or None."""
    if words.isascii() and "\\x" not in words:
        plain = words.lower().encode()

        def by_bytes(data: bytes, end: int, back: bool) -> int | None:
            data, stop = data.lower(), end + len(plain) - 1
            place = data.rfind(plain, 0, stop) if back else data.find(plain, 0, stop)
            return None if place < 0 else place

        return by_bytes
    wanted = pattern(words)

    def by_pattern(data: bytes, end: int, back: bool) -> int | None:
        places = [found.start() for found in islice(wanted.finditer(data), None if back else 1) if found.start() < end]
        return places[-1] if places else None

    return by_pattern


_TOKEN = re.compile(r"\\x[0-9a-f]{2}|.", re.IGNORECASE | re.DOTALL)


def pattern(words: str) -> re.Pattern[bytes]:
    """Return what finds `words` in bytes. An escape as it is shown, like \\x1b, also finds the byte it stands for."""
    parts: list[bytes] = []
    for token in _TOKEN.findall(words):
        if len(token) == 4:
            byte = bytes.fromhex(token[2:])
            kinds = [token.encode(), byte, byte.decode("latin-1").encode()]
        else:
            kinds = sorted({one.encode("utf-8", "replace") for one in (token, token.lower(), token.upper())})
        escaped = list(dict.fromkeys(re.escape(one) for one in kinds))
        parts.append(escaped[0] if len(escaped) == 1 else b"(?:" + b"|".join(escaped) + b")")
    return re.compile(b"".join(parts))
