"""What a command printed: bytes, counted and hashed whole, kept at both ends, shown without control characters."""

import hashlib
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from msp.redact import Redactor

HEAD = TAIL = 64 * 1024  # bytes kept of each stream
MARGIN = 8 * 1024  # kept in memory beyond that, so that a secret cut by an edge is still recognised
WHOLE = HEAD + TAIL + 2 * MARGIN  # bytes of a stream of which nothing is left out yet

_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F, *range(0x80, 0xA0)) if code not in (0x09, 0x0A)}
_ESCAPES |= dict.fromkeys((0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)), "\\u")  # text direction
for _code in [code for code, text in _ESCAPES.items() if text == "\\u"]:
    _ESCAPES[_code] = f"\\u{_code:04x}"


def shown(data: bytes) -> str:
    """Return bytes as text that cannot steer a terminal or a page: controls and bad UTF-8 as visible escapes.

    Tab and newline stay; a carriage return before a newline is dropped.
    """
    return data.decode("utf-8", "backslashreplace").replace("\r\n", "\n").translate(_ESCAPES)


@dataclass(frozen=True, slots=True)
class Kept:
    """The file that holds a whole stream, secrets masked. `why`: what ended it before its time, "" when it is whole."""

    file: str
    size: int  # bytes in the file
    why: str = ""


class Sink(Protocol):
    """Takes a whole stream. Never raises; what went wrong is said by `close`."""

    def feed(self, chunk: bytes) -> None: ...

    def close(self) -> Kept: ...


#: What makes the sink of a stream ("stdout", "stderr") of the command at hand; None: only both ends are kept.
KEEPING: ContextVar[Callable[[str], Sink] | None] = ContextVar("KEEPING", default=None)


@dataclass(frozen=True, slots=True)
class Captured:
    """One stream. `head` and `tail` never overlap; when `omitted` is 0 they are the whole stream."""

    head: bytes = b""
    tail: bytes = b""
    size: int = 0  # bytes sent by the far side, all of them
    sha256: str = hashlib.sha256().hexdigest()  # over all of them
    omitted: int = 0  # bytes between head and tail that were counted and hashed but not kept
    kept: Kept | None = None  # where all of it is, if it was to be kept and is longer than both ends

    @property
    def data(self) -> bytes:
        """What was kept, with a line that says how much is missing, if any is."""
        if not self.omitted:
            return self.head + self.tail
        return self.head + b"\n[... %d bytes left out ...]\n" % self.omitted + self.tail

    def redacted(self, redactor: Redactor) -> "Captured":
        """Return it with secrets masked and cut to what is stored. `size` and `sha256` stay those of the stream."""
        if not self.omitted:
            whole = redactor.data(self.head + self.tail)
            head, tail = whole[:HEAD], whole[max(HEAD, len(whole) - TAIL) :]
            return Captured(head, tail, self.size, self.sha256, len(whole) - len(head) - len(tail), self.kept)
        head, tail = redactor.data(self.head), redactor.data(self.tail)
        head = head[: min(HEAD, max(len(head) - MARGIN, 0))]  # what lies at a cut may be half a secret
        tail = tail[max(len(tail) - TAIL, min(MARGIN, len(tail))) :]
        return Captured(head, tail, self.size, self.sha256, self.size - len(head) - len(tail), self.kept)


NOTHING = Captured()


class Collector:
    """Takes a stream chunk by chunk in bounded memory (at most 2 x 72 KB and one chunk).

    stream: its name, for the file of all of it where one is wanted (KEEPING).
    """

    __slots__ = ("_digest", "_head", "_keep", "_kept", "_sink", "_stream", "_tail", "_tail_size", "size")

    def __init__(self, stream: str = "stdout") -> None:
        self.size = 0
        self._stream, self._keep = stream, KEEPING.get()
        self._sink: Sink | None = None
        self._kept: Kept | None = None
        self._digest = hashlib.sha256()
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_size = 0

    def feed(self, chunk: bytes) -> None:
        """Add what arrived."""
        self.size += len(chunk)
        self._digest.update(chunk)
        if self._keep is not None and self.size > WHOLE:
            self._pass_on(chunk)
        room = HEAD + MARGIN - len(self._head)
        if room > 0:
            self._head += chunk[:room]
            chunk = chunk[room:]
        if chunk:
            self._tail.append(chunk[-(TAIL + MARGIN) :])
            self._tail_size += len(self._tail[-1])
            while self._tail_size - len(self._tail[0]) >= TAIL + MARGIN:
                self._tail_size -= len(self._tail.popleft())

    def _pass_on(self, chunk: bytes) -> None:
        if self._sink is None and self._keep is not None:  # the first chunk that does not fit: nothing is lost yet
            self._sink = self._keep(self._stream)
            self._sink.feed(bytes(self._head))
            for part in self._tail:
                self._sink.feed(part)
        if self._sink is not None:
            self._sink.feed(chunk)

    def captured(self) -> Captured:
        """Return the stream, which has ended."""
        if self._sink is not None:
            self._kept, self._sink, self._keep = self._sink.close(), None, None
        if not self.size:
            return Captured()
        tail = b"".join(self._tail)
        if self.size > len(self._head) + len(tail):
            tail = tail[-(TAIL + MARGIN) :]
        omitted = self.size - len(self._head) - len(tail)
        return Captured(bytes(self._head), tail, self.size, self._digest.hexdigest(), omitted, self._kept)
