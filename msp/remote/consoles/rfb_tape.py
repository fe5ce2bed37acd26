"""The recording of a screen: what its server said, and pictures of it as key frames. Never what was typed.

File: records of (milliseconds, length, bytes), both numbers four bytes, the most significant first. The bytes are RFB
as a viewer without a password hears it from the first word on, so that any viewer can be fed with them.
Pictures: `<milliseconds>.png` in a folder of the same name.
"""

import hashlib
import os
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from msp.remote.consoles.masking import SameLength
from msp.remote.consoles.recordings import CannotRecord, Recorded, Tape


class RfbRecorder:
    """Writes one screen's stream and pictures as they come; secrets on its clipboard are masked."""

    def __init__(self, tape: Tape, pictures: Path, *, secrets: Iterable[str], clock: Callable[[], float]) -> None:
        """pictures: the folder for key frames. clock: seconds, never going back."""
        self._tape, self._pictures, self._clock, self._zero = tape, pictures, clock, clock()
        self._masker = SameLength(secrets)
        self._digests: list[str] = []

    def heard(self, data: bytes) -> None:
        """Record what the server said now. Raises CannotRecord."""
        self._record(self._masker.feed(data))

    def picture(self, png: bytes) -> None:
        """Record a picture of the screen as it is now. Raises CannotRecord."""
        name = self._pictures / f"{self._now()}.png"
        self._tape.charge(len(png))
        try:
            self._pictures.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.fdopen(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(png)
        except OSError as error:
            raise CannotRecord(
                f"A picture of the screen cannot be written: {error.strerror}.", advice="Make room on the disk."
            ) from error
        self._digests.append(hashlib.sha256(png).hexdigest())

    def close(self) -> Recorded:
        """End the recording. Never raises: what does not fit any more is left out."""
        with suppress(CannotRecord):
            self._record(self._masker.close())
        together = hashlib.sha256("".join(self._digests).encode()).hexdigest()
        recorded = self._tape.close(self._now())
        return replace(recorded, pictures=len(self._digests), pictures_sha256=together if self._digests else "")

    def _now(self) -> int:
        return int((self._clock() - self._zero) * 1000)

    def _record(self, data: bytes) -> None:
        if data:
            self._tape.write(struct.pack(">II", self._now(), len(data)) + data)
