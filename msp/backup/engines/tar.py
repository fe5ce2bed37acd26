"""Tar archives, plain or packed with gzip, bzip2, xz or zstd; unpacked by msp.backup.hostile."""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from msp.backup import hostile
from msp.backup.case import Case
from msp.backup.engine import Listed, Probed, Restored, Snapshot
from msp.backup.engines.packed import unpacked
from msp.backup.engines.shared import backup_file, tree_below
from msp.backup.process import Runner
from msp.backup.scratch import Scratch
from msp.backup.verdict import Finding


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
        with unpacked(path, self.runner) as (stream, _):
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
        with unpacked(backup_file(self.case), self.runner) as (stream, packed):
            result = hostile.unpack(
                stream, into, room=self.scratch.room(), packed=lambda: os.lseek(packed, 0, os.SEEK_CUR)
            )
        if result.findings:
            return Restored(into, tuple(result.findings))
        return Restored(tree_below(into, self.case.root, ()))

    def probe(self, restored: Restored) -> Probed:
        return Probed()

    def boot(self, restored: Restored) -> Probed | None:
        return None

    def close(self) -> None:
        return


def _unusable() -> Finding:
    return Finding("restore", "Nothing can be restored from it.", advice="Take an older archive.")
