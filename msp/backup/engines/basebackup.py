"""Physical backups of PostgreSQL by pg_basebackup: a folder of data, or a folder with base.tar and its companions.

The checksums of backup_manifest are verified, the copy recovers to a consistent state on a socket, and pg_amcheck
reads every table and index, because a cluster with damaged pages starts without a complaint. Settings of the old
server are not taken over: they name its paths and may run its commands.
"""

import contextlib
import os
import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from msp.backup import hostile
from msp.backup.assertions import postgres, private, relational
from msp.backup.assertions.postgres import Cluster, literal
from msp.backup.engine import Found, Probed, Restored, Snapshot
from msp.backup.engines.database import ADVICE, DatabaseEngine, damaged, dated
from msp.backup.engines.packed import DAMAGED, unpacked
from msp.backup.engines.shared import absent, backup_file, copy_tree, give
from msp.backup.verdict import Finding, Weight
from msp.errors import StepFailed

TAR = re.compile(r"(base|pg_wal|\d+)\.tar(\.\w+)?")
LOG = "pg_wal"
ZEROS = 1 << 30  # bytes: segments of the log are mostly zeros, so below that their packing is no sign of a bomb
STARTED = re.compile(r"^START TIME: (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (\S+)", re.MULTILINE)
#: Files of the old server that would make the copy follow another server, or run its commands.
OLD_SETTINGS = ("standby.signal", "recovery.signal", "recovery.conf", "postmaster.pid", "postmaster.opts")
SETTINGS = {
    **postgres.FAST,
    "wal_level": "replica",
    "max_prepared_transactions": "100",
    "restore_command": "",
    "archive_mode": "off",
    "shared_preload_libraries": "",
}


@dataclass
class BaseBackupEngine(DatabaseEngine):
    """One backup is one snapshot; `file` is its folder, or the base.tar in it."""

    _server: Cluster | None = field(default=None, init=False)

    def version(self) -> str:
        return self.runner.run([str(postgres.programs() / "postgres"), "--version"]).stdout.decode().strip()

    @property
    def place(self) -> Path:
        """The backup's folder."""
        path = backup_file(self.case)
        if path.is_dir():
            if not any(path.iterdir()):
                raise Found(absent(path / "PG_VERSION"))
            return path
        if not TAR.fullmatch(path.name):
            raise Found(*damaged(f"{path} is neither a folder of data nor a base.tar"))
        return path.parent

    def _archives(self) -> dict[str, Path]:
        """Return the backup's archives by what they hold: base, pg_wal, or a tablespace's number."""
        found = {match[1]: path for path in sorted(self.place.iterdir()) if (match := TAR.fullmatch(path.name))}
        return found if "base" in found else {}

    def check(self) -> tuple[Finding, ...]:
        archives = self._archives()
        if not archives:
            if not (self.place / "PG_VERSION").is_file():
                return damaged(f"{self.place} holds neither PG_VERSION nor base.tar")
            return self._verified(self.place)
        for name, path in archives.items():
            room = self.scratch.room() if name != LOG else max(self.scratch.room(), ZEROS)
            try:
                with unpacked(path, self.runner, room) as (stream, _):
                    size = 0
                    while block := stream.read(1 << 20):
                        size += len(block)
            except DAMAGED as error:
                return damaged(f"{path.name} cannot be unpacked to its end: {error}")
            if size < 1024:
                return damaged(f"{path.name} is no archive")
        return ()

    def _verified(self, data: Path) -> tuple[Finding, ...]:
        """Compare every file with backup_manifest, where there is one; older servers wrote none."""
        if not (data / "backup_manifest").is_file():
            return ()
        program = str(postgres.programs(_major(data)) / "pg_verifybackup")
        done = self.runner.run([program, "--quiet", "--exit-on-error", str(data)])
        if done.status:
            lines = [line for line in done.stderr.splitlines() if "error:" in line]
            return damaged((lines or [done.says])[0].partition("error: ")[2] or done.says)
        return ()

    def snapshots(self) -> list[Snapshot]:
        place, archives = self.place, self._archives()
        label = place / "backup_label"
        note = archives.get("base", label if label.exists() else place / "PG_VERSION")
        with contextlib.suppress(OSError, ValueError):
            match = STARTED.search(label.read_text("utf-8", "replace"))
            if match and match[2] in ("UTC", "GMT"):  # another zone's letters are ambiguous
                return [Snapshot(place.name, datetime.fromisoformat(match[1]).replace(tzinfo=UTC))]
            if match:
                return [Snapshot(place.name, dated(note, match[1]), certain=False)]
        return [Snapshot(place.name, dated(note, None), certain=False)]

    def restore(self, snapshot: Snapshot, into: Path) -> Restored:
        began, who = time.monotonic(), postgres.account()
        folder = self._stack.enter_context(private.folder(self.scratch, who, "pg"))
        data = folder / "data"
        data.mkdir(mode=0o700)
        if archives := self._archives():
            findings = self._unpack(archives, folder)
        else:
            copy_tree(self.place, data, self.scratch)
            findings = ()
        if any(finding.weight > Weight.WARN for finding in findings):
            return Restored(None, findings)
        _own_settings(data)
        give(folder, who)
        server = Cluster(self.runner, folder, who, _major(data))
        try:
            self._server = self._start(server)
        except StepFailed as error:
            what = f"The restored server does not start: {error.what}"
            advice = "Was the log of the backup's time kept with it (pg_basebackup -X stream)?"
            return Restored(None, (Finding("restore", what, advice=advice),))
        return Restored(None, seconds=time.monotonic() - began)

    def _unpack(self, archives: dict[str, Path], folder: Path) -> tuple[Finding, ...]:
        """Unpack every archive to its place in `folder`/data and compare the whole with the manifest."""
        data = folder / "data"
        targets = {"base": data, LOG: data / "pg_wal"}
        for number in archives.keys() - targets.keys():
            targets[number] = folder / f"tablespace-{number}"
        for name in sorted(archives, key=list(targets).index):
            targets[name].mkdir(mode=0o700, exist_ok=True)
            least = ZEROS // hostile.BOMB_RATIO if name == LOG else 0
            with unpacked(archives[name], self.runner) as (stream, handle):
                result = hostile.unpack(
                    stream,
                    targets[name],
                    room=self.scratch.room(),
                    packed=lambda h=handle, least=least: max(least, os.lseek(h, 0, os.SEEK_CUR)),  # type: ignore[misc]
                )
            if found := tuple(finding for finding in result.findings if finding.weight > Weight.WARN):
                return found
        if not (data / "PG_VERSION").is_file():
            return damaged("base.tar holds no PG_VERSION")
        for number in targets.keys() - {"base", LOG}:
            link = data / "pg_tblspc" / number
            link.unlink(missing_ok=True)
            link.symlink_to(targets[number])
        if (self.place / "backup_manifest").is_file():
            (data / "backup_manifest").write_bytes((self.place / "backup_manifest").read_bytes())
        findings = self._verified(data)
        (data / "tablespace_map").unlink(missing_ok=True)  # it names the old server's paths
        return findings

    def _start(self, server: Cluster) -> Cluster:
        """Start the copy; make the superuser `postgres` if the old server called its own otherwise."""
        with contextlib.ExitStack() as first:
            first.enter_context(server.running(SETTINGS))
            if postgres.ROLE not in server.psql("SELECT 1", database="template1").stderr:
                self._stack.push(first.pop_all())
                return server
        done = server.alone("CREATE ROLE postgres SUPERUSER LOGIN", SETTINGS)
        if done.status:
            raise StepFailed(f"no superuser could be made: {done.says}.")
        self._stack.enter_context(server.running(SETTINGS))
        return server

    def probe(self, restored: Restored) -> Probed:
        assert self._server is not None  # noqa: S101  restored before
        server, expect = self._server, self.case.expect.postgres
        findings = self._amcheck(server)
        database = choose(server, expect.database if expect else None, tuple(expect.rows_min) if expect else ())
        probed = relational.probe(postgres.Restored(server, database), expect, self.case.now)
        return Probed((*findings, *probed.findings), probed.age_s, probed.figures)

    def _amcheck(self, server: Cluster) -> list[Finding]:
        argv = [str(postgres.programs(server.major) / "pg_amcheck"), "-h", str(server.folder), "-p", "5432"]
        words = ["-U", "postgres", "--all", "--install-missing", "--heapallindexed"]
        done = self.runner.run([*argv, *words], account=server.who, cwd=server.folder)
        if not done.status:
            return []
        said = done.stdout.decode("utf-8", "replace").strip().splitlines()
        errors = [line for line in done.stderr.splitlines() if "error:" in line]
        if "extension control file" in done.stderr:
            what = f"Tables and indexes could not be checked: {errors[0] if errors else done.says}."
            advice = "Install PostgreSQL's own extensions (amcheck)."
            return [Finding("application", what, advice=advice, weight=Weight.ERROR)]
        first = said[0].rstrip(":") if said else (errors or [done.says])[0].rpartition("error: ")[2]
        detail = said[1].strip() if len(said) > 1 else first
        return [Finding("application", f"The data are damaged: {detail[:300]}", first[:300], ADVICE)]


def choose(server: Cluster, named: str | None, tables: tuple[str, ...]) -> str:
    """Return the database that is asked: the one named, the only one, or the one with most expected tables.

    Raises Found if the named one is not in the backup.
    """
    sql = "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname"
    there = [
        line for line in server.psql(sql, database="template1").stdout.decode("utf-8", "replace").split("\n") if line
    ]
    if named is not None:
        if named in there:
            return named
        what, where = f"The backup holds no database {named}.", ", ".join(there)
        raise Found(Finding("missing", what, where, "Look which server the job backs up."))
    own = [name for name in there if name != "postgres"]
    if len(own) <= 1 or not tables:
        return own[0] if own else "postgres"
    wanted = ", ".join(literal(name.rpartition(".")[2]) for name in tables)

    def hits(name: str) -> int:
        count = server.psql(f"SELECT count(*) FROM pg_tables WHERE tablename IN ({wanted})", database=name)  # noqa: S608
        return int(count.stdout or b"0")

    return max(own, key=hits)


def _major(data: Path) -> str:
    try:
        major = (data / "PG_VERSION").read_text("ascii").strip()
    except (OSError, ValueError) as error:
        raise Found(*damaged(f"PG_VERSION cannot be read: {error}")) from error
    if not re.fullmatch(r"\d+(\.\d+)?", major):
        raise Found(*damaged(f"PG_VERSION holds {major[:20]!r}"))
    return major


def _own_settings(data: Path) -> None:
    """Replace what the old server's administrator set by nothing, and let only this machine's socket in."""
    for name in OLD_SETTINGS:
        (data / name).unlink(missing_ok=True)
    for name, text in {
        "postgresql.conf": "",
        "postgresql.auto.conf": "",
        "pg_hba.conf": "local all all trust\n",
        "pg_ident.conf": "",
    }.items():
        (data / name).unlink(missing_ok=True)
        (data / name).write_text(text)
