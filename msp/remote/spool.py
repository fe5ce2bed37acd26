"""Full output on our own disk, where it is more than a run keeps: redacted, within a quota, honest when it is cut.

A file is made only for a stream that is longer than its head and tail. A full disk or a used-up quota ends the file and
is said with the result; the command, its outcome, its count and its digest are not touched by it.
"""

import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from msp.errors import Misconfigured
from msp.redact import Redactor, StreamRedactor
from msp.remote.ledger import Key
from msp.remote.output import Kept

MEGABYTE = 1024 * 1024


@dataclass(slots=True)
class Spool:
    """The folder of one run. quota: bytes that all its files may have together."""

    folder: Path
    quota: int
    redactor: Redactor
    used: int = 0

    def open(self) -> None:
        """Make the folder; raises Misconfigured if it cannot be."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise Misconfigured(
                f"The folder {self.folder} for full output cannot be made: {error.strerror}.", advice="Name another."
            ) from error

    def of(self, key: Key, host: str) -> Callable[[str], "SpoolFile"]:
        """Return what makes the file of a stream of one phase of one step on a host."""
        name = re.sub(r"[^A-Za-z0-9._-]", "_", host)[:60]
        where = f"{key.host:05d}-{name}-{key.step}-{key.phase}-{key.attempt}"
        return lambda stream: SpoolFile(self, self.folder / f"{where}.{stream}")


class SpoolFile:
    """One stream. Never raises: what it cannot keep it says at the end."""

    def __init__(self, spool: Spool, path: Path) -> None:
        self._spool, self._path = spool, path
        self._masked = StreamRedactor(spool.redactor)
        self._file = -1
        self._size = 0
        self._why = ""
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self._why = f"{error.strerror}"

    def feed(self, chunk: bytes) -> None:
        """Add what arrived."""
        self._write(self._masked.feed(chunk))

    def _write(self, data: bytes) -> None:
        if self._file < 0 or not data:
            return
        room = self._spool.quota - self._spool.used
        if len(data) > room:
            data, self._why = data[:room], f"the quota of {self._spool.quota // MEGABYTE} MB is used up"
        try:
            while data:
                written = os.write(self._file, data)
                self._size += written
                self._spool.used += written
                data = data[written:]
        except OSError as error:
            self._why = f"{error.strerror}"
        if self._why:
            self._shut()

    def _shut(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            with suppress(OSError):  # a disk may say only now that it is full; then `_why` has said it, or close does
                os.close(file)

    def __del__(self) -> None:
        self._shut()  # of a command that was cancelled

    def close(self) -> Kept:
        """End the file and return what is in it."""
        self._write(self._masked.close())
        if self._file >= 0:
            try:
                os.fsync(self._file)
            except OSError as error:
                self._why = f"{error.strerror}"
        self._shut()
        return Kept(str(self._path), self._size, self._why)
