"""Dumps by mariadb-dump or mysqldump (also packed), loaded into a throwaway MariaDB.

A dump that was cut after a `;` loads without a complaint and lacks rows, so the line that ends a dump is required.
Loading runs statements that somebody else wrote: the client takes none of its own commands from it, and the account
that loads may not touch files or settings.
"""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from msp.backup.assertions import mariadb, relational
from msp.backup.assertions.mariadb import DATABASE, Server
from msp.backup.engine import Found, Probed, Restored, Snapshot
from msp.backup.engines.database import DatabaseEngine, dated
from msp.backup.engines.packed import DAMAGED, unpacked
from msp.backup.engines.shared import backup_file, dump_damaged
from msp.backup.verdict import Finding, Weight

TRAILER = re.compile(rb"^-- Dump completed(?: on (\d{4}-\d\d-\d\d) +(\d\d?:\d\d:\d\d))?\s*\Z", re.MULTILINE)
CLIENT_COMMAND = re.compile(
    r"(near|Unknown command) '\\+[!.TPRrueG#-]"
)  # what the server says to a command meant for the client
LACKING = re.compile(r"Unknown (collation|character set|storage engine)|ERROR (1273|1115|1286|1524) ")
#: Statements about accounts, replication and the server itself: true on the old server, not in a throwaway one.
ELSEWHERE = re.compile(
    rb"^(/\*M?!\d+ )?(CHANGE MASTER TO |SET @@?GLOBAL|SET GLOBAL |GRANT |REVOKE |CREATE (OR REPLACE )?(USER|ROLE) |"
    rb"ALTER USER |SET PASSWORD |SET DEFAULT ROLE |INSTALL |UNINSTALL |CREATE (OR REPLACE )?SERVER |FLUSH |"
    rb"CREATE DATABASE [^`]*`(mysql|sys|performance_schema|information_schema)`|"
    rb"(RESET|STOP|START) (MASTER|SLAVE|REPLICA)|SET @@SESSION\.SQL_LOG_BIN|SET @MYSQLDUMP_TEMP_LOG_BIN)",
    re.IGNORECASE,
)
DENIED = re.compile(r"ERROR (1044|1045|1142|1143|1227|1290|1370) ")
USE = re.compile(rb"^USE `((?:[^`]|``)*)`;")
OWN_DATABASES = (b"mysql", b"sys", b"performance_schema", b"information_schema")
PIECE = 1 << 20  # bytes of a line looked at together; a line of data may be much longer


@dataclass
class MariadbDumpEngine(DatabaseEngine):
    """One dump is one snapshot."""

    _server: Server | None = field(default=None, init=False)
    _end: bytes | None = field(default=None, init=False)

    def version(self) -> str:
        return self.runner.run([mariadb.program("mariadb", "mysql"), "--version"]).stdout.decode().strip()

    def check(self) -> tuple[Finding, ...]:
        path = backup_file(self.case)
        try:
            end = self._last()
        except DAMAGED as error:
            return dump_damaged(f"{path} cannot be unpacked to its end: {error}")
        if TRAILER.search(end) is None:
            return dump_damaged(f"{path} stops before the line that ends a dump")
        return ()

    def _last(self) -> bytes:
        """Return the dump's last bytes, after reading all of it once."""
        if self._end is None:
            end = b""
            with unpacked(backup_file(self.case), self.runner, self.scratch.room()) as (stream, _):
                while block := stream.read(PIECE):
                    end = (end + block)[-4096:]
            self._end = end
        return self._end

    def snapshots(self) -> list[Snapshot]:
        path, said = backup_file(self.case), None
        with contextlib.suppress(*DAMAGED):
            match = TRAILER.search(self._last())
            if match and match[1]:
                said = f"{match[1].decode()} {match[2].decode().zfill(8)}"
        return [Snapshot(path.name, dated(path, said), certain=False)]

    def _watch(self) -> None:
        """Keep the databases within the quota; what an empty server needs does not count."""
        if self._server is not None:
            files = self._server.data.glob("*/*")
            self.within_quota(file for file in files if file.parent.name not in ("mysql", "sys", "performance_schema"))

    def restore(self, snapshot: Snapshot, into: Path) -> Restored:
        self._server = server = self._stack.enter_context(mariadb.server(self.runner, self.scratch))
        argv = server.client(f"--database={DATABASE}")
        done = self.load(server, argv, own_data, env={}, watch=self._watch)
        self._watch()
        if done.status:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            first = (lines or [done.says])[0].strip()[:300]
            if CLIENT_COMMAND.search(done.stderr):
                what = "The dump holds a command for the client itself, which no dump program writes."
                raise Found(Finding("hostile", what, first, "Do not run it; look where it came from."))
            if DENIED.search(done.stderr):
                what = f"The dump asks for rights that loading data does not need: {first}."
                advice = "Look at that statement and where the dump came from; load it by hand where it is trusted."
                raise Found(Finding("restore", what, advice=advice, weight=Weight.ERROR))
            if LACKING.search(done.stderr):
                what = f"This machine lacks what the dump needs: {first}."
                advice = "Install the server that wrote it, in its version."
                raise Found(Finding("restore", what, advice=advice, weight=Weight.ERROR))
            what = f"The dump does not restore: {first}"
            return Restored(None, (Finding("restore", what, advice="Take an older dump; look at the job."),))
        return Restored(None, seconds=done.seconds)

    def probe(self, restored: Restored) -> Probed:
        assert self._server is not None  # noqa: S101  restored before
        expect = self.case.expect.mariadb
        database = mariadb.choose(self._server, expect)
        return relational.probe(mariadb.Restored(self._server, database), expect, self.case.now)


def own_data(dump: IO[bytes]) -> Iterator[bytes]:
    """Yield a dump's bytes without what belongs to the old server: its accounts, settings and own databases.

    Dump programs write newlines inside values as backslash n, so a line that begins like a statement is one; only
    bodies of routines have lines of their own, and stand between two changes of the delimiter.
    """
    begins, statement_begins, skipping, routine, dropping = True, True, False, False, False
    while piece := dump.readline(PIECE):
        if begins and statement_begins:
            use = USE.match(piece)
            if use and not routine:
                skipping = use[1] in OWN_DATABASES
            if piece.startswith(b"DELIMITER "):
                routine = piece.strip() != b"DELIMITER ;"
            dropping = not routine and ELSEWHERE.match(piece) is not None
        if not skipping and not dropping:
            yield piece
        begins = piece.endswith(b"\n")
        statement_begins = not dropping or piece.rstrip().endswith(b";")
