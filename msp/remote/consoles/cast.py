"""The recording of a terminal: asciicast version 2, what it printed and its size, never what was typed.

Source: https://docs.asciinema.org/manual/asciicast/v2/
"""

import codecs
import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from typing import Any

from msp.remote.consoles.masking import Masker
from msp.remote.consoles.recordings import CannotRecord, Recorded, Tape


class CastRecorder:
    """Writes one terminal's output as it comes, secrets masked, invalid UTF-8 as replacement characters."""

    def __init__(
        self, tape: Tape, *, columns: int, rows: int, title: str, began: datetime, secrets: Iterable[str],
        clock: Callable[[], float],
    ) -> None:  # fmt: skip
        """clock: seconds, never going back; `began` is the wall clock at its present reading."""
        self._tape, self._clock, self._zero = tape, clock, clock()
        self._masker = Masker(secrets)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._line({
            "version": 2, "width": columns, "height": rows, "timestamp": int(began.timestamp()), "title": title,
            "env": {"TERM": "xterm-256color"},
        })  # fmt: skip

    def output(self, data: bytes) -> None:
        """Record what the terminal printed now. Raises CannotRecord."""
        self._event("o", self._decoder.decode(self._masker.feed(data)))

    def resized(self, columns: int, rows: int) -> None:
        """Record the terminal's new size."""
        self._event("r", f"{columns}x{rows}")

    def close(self) -> Recorded:
        """Record what was held back and end. Never raises: what does not fit any more is left out."""
        with suppress(CannotRecord):
            self._event("o", self._decoder.decode(self._masker.close(), final=True))
        return self._tape.close(int((self._clock() - self._zero) * 1000))

    def _event(self, kind: str, text: str) -> None:
        if text:
            self._line([round(self._clock() - self._zero, 6), kind, text])

    def _line(self, value: Any) -> None:
        self._tape.write(json.dumps(value, ensure_ascii=False, separators=(", ", ": ")).encode() + b"\n")
