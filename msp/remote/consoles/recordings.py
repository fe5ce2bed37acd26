"""Recordings on disk: one file a console, written as it happens, hashed as it is written, within a quota."""

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from msp.errors import NotFound, Refused

MEGABYTE = 1024 * 1024


class CannotRecord(Refused):
    """What happens could not be recorded, so it must not happen."""

    code = "cannot_record"


@dataclass(frozen=True, slots=True)
class Recorded:
    """A finished recording: file within the folder, bytes, SHA-256 in hexadecimal, and how long it plays.

    pictures_sha256: over the hexadecimal SHA-256 of each picture, in order of time.
    """

    name: str
    size: int
    sha256: str
    milliseconds: int
    pictures: int = 0
    pictures_sha256: str = ""


class Tape:
    """A file that only grows. Raises CannotRecord from `write` when the disk or its limit is full."""

    def __init__(self, folder: Path, name: str, limit: int) -> None:
        self.name, self.size, self._beside, self._limit = name, 0, 0, limit
        self._hash = hashlib.sha256()
        path = folder / name
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise CannotRecord(
                f"The recording {path} cannot be made: {error.strerror}.", advice="Check the folder of recordings."
            ) from error
        self._file: BinaryIO = os.fdopen(handle, "wb", buffering=0)

    def write(self, data: bytes) -> None:
        """Append; what cannot be written whole ends the console."""
        self.charge(len(data), kept=0)
        try:
            written = self._file.write(data)
        except OSError as error:
            raise CannotRecord(
                f"The recording cannot be written: {error.strerror}.", advice="Make room on the disk."
            ) from error
        self._hash.update(data[:written])
        self.size += written
        if written != len(data):
            raise CannotRecord("The recording cannot be written whole.", advice="Make room on the disk.")

    def charge(self, count: int, *, kept: int | None = None) -> None:
        """Count bytes that belong to this recording and lie elsewhere. Raises CannotRecord beyond the limit."""
        if self.size + self._beside + count > self._limit:
            raise CannotRecord(
                f"The recording has reached its limit of {self._limit // MEGABYTE} megabytes.",
                advice="Open another console, or raise recording_limit_mb.",
            )
        self._beside += count if kept is None else kept

    def close(self, milliseconds: int) -> Recorded:
        """Put it safely on the disk and return what it is."""
        if not self._file.closed:
            with suppress(OSError):  # a full disk: the hash tells what is there
                os.fsync(self._file.fileno())
            self._file.close()
        return Recorded(self.name, self.size, self._hash.hexdigest(), milliseconds)


def used(folder: Path) -> int:
    """Return the bytes that all recordings take."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else 0


def require_room(folder: Path, quota: int) -> None:
    """Raise CannotRecord if the recordings have reached their quota of bytes."""
    if (size := used(folder)) >= quota:
        raise CannotRecord(
            f"The recordings take {size // MEGABYTE} of {quota // MEGABYTE} megabytes; no console opens unrecorded.",
            advice="Move old recordings away, or raise recordings_quota_mb.",
        )


def path_of(folder: Path, name: str) -> Path:
    """Return the file of a recording; raises NotFound if it was moved away."""
    path = folder / name
    if not name or not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
        raise NotFound("The recording is not on this machine's disk.", advice="Look where old recordings are kept.")
    return path


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a recording as it is on the disk now."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
