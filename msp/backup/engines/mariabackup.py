"""Physical backups of MariaDB by mariabackup: a folder or a stream, prepared and started as a throwaway server.

Every page has a checksum, which rung 1 reads; a prepared copy that starts shows that the log was whole; the tables
are checked and asked by the server itself.
"""

import contextlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from msp.backup.assertions import mariadb, private, relational
from msp.backup.assertions.mariadb import Server
from msp.backup.engine import Found, Probed, Restored, Snapshot
from msp.backup.engines import xbstream
from msp.backup.engines.database import ADVICE, DatabaseEngine, damaged, dated
from msp.backup.engines.packed import DAMAGED, unpacked
from msp.backup.engines.shared import absent, backup_file, copy_tree, give
from msp.backup.scratch import QuotaExceeded
from msp.backup.verdict import Finding, Weight
from msp.errors import StepFailed

INFO = ("xtrabackup_info", "mariadb_backup_info")
CHECKPOINTS = ("xtrabackup_checkpoints", "mariadb_backup_checkpoints")
WHOLE = ("full-backuped", "full-prepared", "log-applied")
PAGES = re.compile(r".*\.(ibd|new)|ibdata\d+|undo\d+")  # .new: a table made while the backup ran
#: Settings of the old server that its files depend on; what else stands in backup-my.cnf is not taken over.
SHAPES = re.compile(r"^(innodb_(data_file_path|page_size|undo_tablespaces|checksum_algorithm))=([\w:;.]+)$", re.M)  # noqa: FURB167
SMALL = 1 << 16


@dataclass
class MariabackupEngine(DatabaseEngine):
    """One full backup is one snapshot; `file` is its folder, or its stream (also packed)."""

    _server: Server | None = field(default=None, init=False)
    _notes: dict[str, str] | None = field(default=None, init=False)

    def version(self) -> str:
        done = self.runner.run([mariadb.program("mariadb-backup", "mariabackup"), "--version"])
        return (done.stdout.decode("utf-8", "replace") or done.stderr).strip().partition("\n")[0]

    def check(self) -> tuple[Finding, ...]:
        path, notes = backup_file(self.case), self._texts()
        kind = _value(notes, CHECKPOINTS, "backup_type")
        if not any(name in notes for name in INFO) or kind is None:
            return damaged(f"{path} lacks the notes that mariabackup writes at its end")
        if kind not in WHOLE:
            what = f"{path} is an addition ({kind}) that restores nothing by itself."
            return (Finding("missing", what, advice="Name a full backup."),)
        compressed = _value(notes, INFO, "compressed") or "N"
        if compressed not in ("N", "0"):
            what = f"The files in {path} are compressed one by one ({compressed}), which is not read here."
            raise Found(Finding("restore", what, advice="Pack the stream instead.", weight=Weight.ERROR))
        if path.is_dir():
            for file in sorted(path.rglob("*")):
                if file.is_file() and PAGES.fullmatch(file.name):
                    done = self.runner.run([mariadb.program("innochecksum"), str(file)], noted=False)
                    if done.status:
                        first = (done.stderr.strip().splitlines() or [done.says])[0]
                        return damaged(f"{file.relative_to(path)}: {first}")
        return ()

    def _texts(self) -> dict[str, str]:
        """Return the small files of notes by name; a stream is read to its end for them, and checked by that."""
        if self._notes is not None:
            return self._notes
        path, wanted = backup_file(self.case), (*INFO, *CHECKPOINTS, "backup-my.cnf")
        notes: dict[str, str] = {}
        if path.is_dir():
            if not any(path.iterdir()):
                raise Found(absent(path / "ibdata1"))
            for name in wanted:
                with contextlib.suppress(OSError), (path / name).open("rb") as file:
                    notes[name] = file.read(SMALL).decode("utf-8", "replace")
        else:
            with self._chunks() as chunks:
                for chunk in chunks:
                    if chunk.payload is not None and (name := os.fsdecode(chunk.path)) in wanted:
                        notes[name] = notes.get(name, "") + chunk.payload[:SMALL].decode("utf-8", "replace")
        self._notes = notes
        return notes

    @contextlib.contextmanager
    def _chunks(self) -> Iterator[Iterator[xbstream.Chunk]]:
        path = backup_file(self.case)
        try:
            with unpacked(path, self.runner, self.scratch.room()) as (stream, _):
                yield xbstream.chunks(stream)
        except (xbstream.Damaged, *DAMAGED) as error:
            raise Found(*damaged(f"{path}: {error}")) from error

    def snapshots(self) -> list[Snapshot]:
        path = backup_file(self.case)
        note = next((path / name for name in INFO if (path / name).exists()), path)
        said = _value(self._texts(), INFO, "start_time")
        return [Snapshot(path.name, dated(note, said), certain=False)]

    def restore(self, snapshot: Snapshot, into: Path) -> Restored:
        began, who = time.monotonic(), mariadb.account()
        folder = self._stack.enter_context(private.folder(self.scratch, who, "my"))
        server = Server(self.runner, folder, who)
        server.data.mkdir(mode=0o700)
        source = backup_file(self.case)
        if source.is_dir():
            _no_tables_elsewhere(*(file.name for file in source.rglob("*.isl")))
            copy_tree(source, server.data, self.scratch)
        else:
            self._unpack(server.data)
        give(server.data, who)
        done = self.runner.run(
            [
                mariadb.program("mariadb-backup", "mariabackup"),
                "--no-defaults",
                "--prepare",
                f"--target-dir={server.data}",
            ],
            account=who,
            env={"HOME": str(folder), "TMPDIR": str(folder)},
            cwd=folder,
        )
        if done.status or "completed OK!" not in done.stderr:
            errors = [line for line in done.stderr.splitlines() if "ERROR" in line or "FATAL" in line]
            what = f"The backup cannot be prepared: {(errors or [done.says])[-1][:300]}"
            return Restored(None, (Finding("restore", what, advice=ADVICE),))
        shapes = [f"--{name}={value}" for name, _, value in SHAPES.findall(self._texts().get("backup-my.cnf", ""))]
        server.settings["skip-grant-tables"] = ""  # the old server's accounts are asked nothing
        try:
            self._server = self._stack.enter_context(server.running(shapes))
        except StepFailed as error:
            return Restored(None, (Finding("restore", f"The restored server does not start: {error.what}"),))
        return Restored(None, seconds=time.monotonic() - began)

    def _unpack(self, data: Path) -> None:
        room, written = self.scratch.room(), 0
        with self._chunks() as chunks:
            for chunk in chunks:
                name = os.fsdecode(chunk.path)
                if xbstream.outside(chunk.path):
                    what = "The stream wants to write outside its folder."
                    raise Found(Finding("hostile", what, name, "Do not restore it; look where it came from."))
                _no_tables_elsewhere(name)
                file = data / name
                file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                if chunk.payload is None:
                    file.touch()
                    continue
                written = max(written + len(chunk.payload), chunk.offset + len(chunk.payload))
                if written > room:
                    raise QuotaExceeded(
                        f"The backup needs more than the {room} bytes the test may use.",
                        advice="Raise scratch_quota_bytes, or make room for scratch.",
                    )
                with file.open("r+b" if file.exists() else "xb") as out:
                    out.seek(chunk.offset)
                    out.write(chunk.payload)

    def probe(self, restored: Restored) -> Probed:
        assert self._server is not None  # noqa: S101  restored before
        expect = self.case.expect.mariadb
        findings = mariadb.check_tables(self._server)
        database = mariadb.choose(self._server, expect)
        probed = relational.probe(mariadb.Restored(self._server, database), expect, self.case.now)
        return Probed((*findings, *probed.findings), probed.age_s, probed.figures)


def _value(notes: dict[str, str], files: tuple[str, ...], name: str) -> str | None:
    """Return the value of `name = value` in the first of these files that is there."""
    for file in files:
        match = re.search(rf"^{name} *= *(.*)$", notes.get(file, ""), re.MULTILINE)
        if match:
            return match[1].strip()
    return None


def _no_tables_elsewhere(*names: str) -> None:
    lost = [name for name in names if name.endswith(".isl")]
    if lost:
        what = f"The table of {lost[0]} lay outside the server's folder, which a test does not follow."
        raise Found(Finding("restore", what, advice="Move the table into the folder.", weight=Weight.ERROR))
