"""Plain directory trees, as rsync or rclone leave them; copied to scratch like any restore."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from msp.backup.case import Case
from msp.backup.engine import Found, Listed, Probed, Restored, Snapshot
from msp.backup.engines.shared import absent
from msp.backup.manifest import TYPES
from msp.backup.process import Runner
from msp.backup.scratch import Scratch
from msp.backup.verdict import Finding


@dataclass
class TreeEngine:
    """One tree is one snapshot, as old as the newest thing in it. `repo` or `file` is the folder, `root` one inside."""

    case: Case
    runner: Runner
    scratch: Scratch

    @property
    def source(self) -> Path:
        return Path(self.case.location) / self.case.root

    def version(self) -> str:
        return self.runner.run(["cp", "--version"]).stdout.decode("utf-8", "replace").partition("\n")[0]

    def check(self) -> tuple[Finding, ...]:
        base = Path(self.case.location)
        if not base.is_dir():
            return (absent(base),)
        return ()

    def snapshots(self) -> list[Snapshot]:
        if not self.source.is_dir():
            what = f"The backup holds no folder {self.case.root!r}."
            raise Found(Finding("missing", what, str(self.source), "Look what the backup job copies."))
        newest = self.source.stat().st_mtime
        for folder, _, names in os.walk(os.fsencode(self.source)):
            for name in names:
                newest = max(newest, os.lstat(folder + b"/" + name).st_mtime)
        when = datetime.fromtimestamp(newest, UTC)
        return [Snapshot(self.source.name, when, certain=False, bounds=False)]

    def listing(self, snapshot: Snapshot) -> Iterator[Listed] | None:
        return _below(os.fsencode(self.source), b"")

    def restore(self, snapshot: Snapshot, into: Path) -> Restored:
        done = self.runner.run(["cp", "-a", "--sparse=auto", "--", f"{self.source}/.", str(into)])
        if done.status:
            what = f"Copying back failed: {done.says}."
            return Restored(into, (Finding("restore", what, advice="Check the disk that holds the backup."),))
        return Restored(into)

    def restore_some(self, snapshot: Snapshot, paths: Sequence[bytes], into: Path) -> Restored:
        names = into.parent / "sample.names"
        names.write_bytes(
            b"".join(path + b"\0" for path in paths if os.path.lexists(os.fsencode(self.source) + b"/" + path))
        )
        packed = into.parent / "sample.tar"
        tar = ["tar", "--xattrs", "--xattrs-include=*", "--acls", "-f", str(packed)]
        choose = ["-c", "-C", str(self.source), "--null", "--no-recursion", "-T", str(names)]
        for words in ([*tar, *choose], [*tar, "-x", "-p", "-C", str(into)]):
            done = self.runner.run(words)
            if done.status:
                what = f"Copying back failed: {done.says}."
                return Restored(into, (Finding("restore", what, advice="Check the disk that holds the backup."),))
        return Restored(into)

    def probe(self, restored: Restored) -> Probed:
        return Probed()

    def boot(self, restored: Restored) -> Probed | None:
        return None

    def close(self) -> None:
        return


def _below(folder: bytes, prefix: bytes) -> Iterator[Listed]:
    with os.scandir(folder) as items:
        for item in items:
            info = item.stat(follow_symlinks=False)
            kind = TYPES[info.st_mode & 0o170000]
            yield Listed(prefix + item.name, kind, info.st_size)
            if kind == "d":
                yield from _below(item.path, prefix + item.name + b"/")
