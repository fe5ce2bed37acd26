"""Tar archives, plain or packed with gzip, bzip2, xz or zstd; unpacked by msp.backup.hostile."""

import bz2
import gzip
import io
import lzma
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from msp.backup import hostile
from msp.backup.case import Case
from msp.backup.engine import Listed, Probed, Restored, Snapshot
from msp.backup.engines.shared import backup_file, tree_below
from msp.backup.process import Runner, end
from msp.backup.scratch import Scratch
from msp.backup.verdict import Finding
from msp.errors import Misconfigured


@dataclass
class TarEngine:
    """One archive is one snapshot; its date is all that tells its age."""

    case: Case
    runner: Runner
    scratch: Scratch

    def version(self) -> str:
        return f"tarfile of Python {sys.version.split()[0]}"

    def check(self) -> tuple[Finding, ...]:
        path = backup_file(self.case)
        with self._stream(path) as (stream, _):
            try:
                start = stream.read(512)
            except Exception:  # noqa: BLE001  each packer has its own; the restore says what it is
                start = b""
        if len(start) < 512:
            what = f"{path} does not begin like a tar archive."
            return (Finding("repository", what, advice="Look at the job that wrote it."), _unusable())
        return ()

    def snapshots(self) -> list[Snapshot]:
        path = backup_file(self.case)
        return [Snapshot(path.name, datetime.fromtimestamp(path.stat().st_mtime, UTC), certain=False)]

    def listing(self, snapshot: Snapshot) -> Iterator[Listed] | None:
        return None

    def restore(self, snapshot: Snapshot, into: Path) -> Restored:
        with self._stream(backup_file(self.case)) as (stream, packed):
            unpacked = hostile.unpack(
                stream, into, room=self.scratch.room(), packed=lambda: os.lseek(packed, 0, os.SEEK_CUR)
            )
        if unpacked.findings:
            return Restored(into, tuple(unpacked.findings))
        return Restored(tree_below(into, self.case.root, ()))

    def probe(self, restored: Restored) -> Probed:
        return Probed()

    def boot(self, restored: Restored) -> Probed | None:
        return None

    def close(self) -> None:
        return

    @contextmanager
    def _stream(self, path: Path) -> Iterator[tuple[IO[bytes], int]]:
        """Yield the unpacked stream and the handle of the packed file."""
        with path.open("rb", buffering=0) as file:
            start = file.read(6)
            file.seek(0)
            if start.startswith(b"\x28\xb5\x2f\xfd"):
                if shutil.which("zstd") is None:
                    raise Misconfigured("The program zstd is not installed here.", advice="Install zstd.")
                process = self.runner.start(
                    ["zstd", "-dcq"], stdin=file, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
                )
                assert process.stdout is not None  # noqa: S101  asked for above
                try:
                    yield _Whole(process), file.fileno()  # type: ignore[misc]
                finally:
                    process.stdout.close()
                    end(process)
                return
            buffered = io.BufferedReader(file, 1 << 18)
            if start.startswith(b"\x1f\x8b"):
                yield gzip.GzipFile(fileobj=buffered), file.fileno()  # type: ignore[misc]
            elif start.startswith(b"BZh"):
                yield bz2.BZ2File(buffered), file.fileno()
            elif start.startswith(b"\xfd7zXZ\0"):
                yield lzma.LZMAFile(buffered), file.fileno()  # noqa: SIM115  the file beneath is closed here
            else:
                yield buffered, file.fileno()


class _Whole:
    """The stdout of an unpacker whose nonzero status is a damaged stream, not a short one."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def read(self, size: int = -1) -> bytes:
        assert self._process.stdout is not None  # noqa: S101
        data: bytes = self._process.stdout.read(size)
        if not data and self._process.wait() != 0:
            raise EOFError(f"the packed stream is damaged (status {self._process.returncode})")
        return data


def _unusable() -> Finding:
    return Finding("restore", "Nothing can be restored from it.", advice="Take an older archive.")
