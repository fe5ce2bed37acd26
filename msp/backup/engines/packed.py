"""Backup files packed with gzip, bzip2, xz, zstd or lz4, told by how they begin, read as a stream."""

import bz2
import gzip
import io
import lzma
import os
import shutil
import subprocess
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from msp.backup import hostile
from msp.backup.process import Runner, end
from msp.backup.scratch import QuotaExceeded
from msp.errors import Misconfigured

OUTSIDE = {b"\x28\xb5\x2f\xfd": "zstd", b"\x04\x22\x4d\x18": "lz4"}  # Python reads the others itself
#: What the packers raise when a stream is damaged or ends too early.
DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError)


@contextmanager
def unpacked(path: Path, runner: Runner, room: int | None = None) -> Iterator[tuple[IO[bytes], int]]:
    """Yield the unpacked stream of a file, and the handle of the file itself. A plain file is its own stream.

    room: bytes that may be written; reading raises Found at a bomb. None: whoever reads counts for himself.
    """
    with _opened(path, runner) as (stream, handle, packed):
        if packed and room is not None:
            yield io.BufferedReader(_Bounded(stream, handle, room, path.name), 1 << 18), handle
        else:
            yield stream, handle


@contextmanager
def _opened(path: Path, runner: Runner) -> Iterator[tuple[IO[bytes], int, bool]]:
    with path.open("rb", buffering=0) as file:
        start = file.read(6)
        file.seek(0)
        program = OUTSIDE.get(start[:4])
        if program:
            if shutil.which(program) is None:
                raise Misconfigured(f"The program {program} is not installed here.", advice=f"Install {program}.")
            process = runner.start([program, "-dcq"], stdin=file, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            assert process.stdout is not None  # noqa: S101  asked for above
            try:
                yield io.BufferedReader(_Whole(process), 1 << 18), file.fileno(), True
            finally:
                process.stdout.close()
                end(process)
            return
        buffered = io.BufferedReader(file, 1 << 18)
        if start.startswith(b"\x1f\x8b"):
            yield gzip.GzipFile(fileobj=buffered), file.fileno(), True  # type: ignore[misc]
        elif start.startswith(b"BZh"):
            yield bz2.BZ2File(buffered), file.fileno(), True
        elif start.startswith(b"\xfd7zXZ\0"):
            yield lzma.LZMAFile(buffered), file.fileno(), True  # noqa: SIM115  the file beneath is closed here
        else:
            yield buffered, file.fileno(), False


class _Bounded(io.RawIOBase):
    """A stream that ends at a bomb: more than there is room for, out of far less."""

    def __init__(self, stream: IO[bytes], handle: int, room: int, name: str) -> None:
        self._stream, self._handle, self._room, self._name, self._read = stream, handle, room, name, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count: int = self._stream.readinto(buffer)  # type: ignore[attr-defined]
        self._read += count
        if self._read > self._room:
            packed = max(1 << 16, os.lseek(self._handle, 0, os.SEEK_CUR))
            if self._read > hostile.BOMB_RATIO * packed:
                what = f"It unpacks to more than the {self._room} bytes there is room for."
                raise hostile.bomb(self._name, QuotaExceeded(what, advice="Raise scratch_quota_bytes."))
        return count


class _Whole(io.RawIOBase):
    """The stdout of an unpacker whose nonzero status is a damaged stream, not a short one."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        assert self._process.stdout is not None  # noqa: S101
        count: int = self._process.stdout.readinto(buffer)  # type: ignore[attr-defined]
        if not count and self._process.wait() != 0:
            raise EOFError(f"the packed stream is damaged (status {self._process.returncode})")
        return count
