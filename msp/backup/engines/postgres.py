"""Dumps by pg_dump: custom, tar, directory and plain (also packed), restored into a throwaway cluster.

`pg_restore -l` succeeds on a truncated dump, so every byte is read first; a plain dump must show its last line.
A plain dump is a script for psql, which knows commands of the shell: those are taken for an attack.
"""

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from msp.backup.assertions import postgres, relational
from msp.backup.assertions.postgres import DATABASE, LOADER, Cluster
from msp.backup.engine import Found, Probed, Restored, Snapshot
from msp.backup.engines.database import DatabaseEngine, dated
from msp.backup.engines.packed import DAMAGED, unpacked
from msp.backup.engines.shared import backup_file, dump_damaged
from msp.backup.process import Done
from msp.backup.verdict import Finding, Weight
from msp.errors import Misconfigured

TRAILERS = (b"-- PostgreSQL database dump complete", b"-- PostgreSQL database cluster dump complete")
FORMATS = ("custom", "plain", "directory", "tar")
LACKING = re.compile(r"extension .* is not available|could not open extension control file|unsupported version")
EXTENSION = re.compile(r'permission denied to create extension "([\w-]+)"')
DENIED = re.compile(r"permission denied|must be (superuser|owner)|only superuser", re.IGNORECASE)
OUTSIDE = re.compile(r"COPY (to|from) (a file|or from (a file|an external program))|external program|lo_(im|ex)port")
#: Entries of an archive's table of contents that only a superuser may make, and that no data depend on.
SUPERUSERS = re.compile(r"^\d+; \d+ \d+ (EVENT TRIGGER|PUBLICATION|SUBSCRIPTION|COMMENT - (EXTENSION|EVENT))")
ROLE = re.compile(r'role "([^"]+)" does not exist')
#: Statements about owners, rights and the database itself: true on the old server, not in a throwaway one.
ELSEWHERE = re.compile(
    rb"^(ALTER .* OWNER TO |GRANT |REVOKE |ALTER DEFAULT PRIVILEGES |SET SESSION AUTHORIZATION |SET ROLE |"
    rb"CREATE DATABASE |ALTER DATABASE |DROP DATABASE |SET transaction_timeout |SET idle_session_timeout |"
    rb"(CREATE|ALTER) (EVENT TRIGGER|PUBLICATION|SUBSCRIPTION) |COMMENT ON (EXTENSION|EVENT TRIGGER) |"
    rb"\\connect |\\restrict |\\unrestrict )"
)
TOKENS = re.compile(rb"--|/\*|[eE]?'|\"[^\"]*\"|\$(?:[A-Za-z_\x80-\xff][\w\x80-\xff]*)?\$|\\")


@dataclass
class PgDumpEngine(DatabaseEngine):
    """One dump is one snapshot."""

    _server: Cluster | None = field(default=None, init=False)

    def version(self) -> str:
        return self.runner.run([str(postgres.programs() / "pg_restore"), "--version"]).stdout.decode().strip()

    @property
    def format(self) -> str:
        """The dump's format: as the case says, else as the file looks."""
        path = backup_file(self.case)
        if self.case.format is not None:
            if self.case.format not in FORMATS:
                known = ", ".join(FORMATS)
                raise Misconfigured(f"{self.case.format!r} is no format of pg_dump.", advice=f"Known: {known}.")
            return self.case.format
        if path.is_dir():
            return "directory"
        with path.open("rb") as file:
            start = file.read(5)
        return "custom" if start == b"PGDMP" else "tar" if tarfile.is_tarfile(path) else "plain"

    def check(self) -> tuple[Finding, ...]:
        path, kind = backup_file(self.case), self.format
        if kind == "plain":
            end = self._end(path)
            if not any(trailer in end for trailer in TRAILERS):
                return dump_damaged(f"{path} stops before the line that ends a dump")
            return ()
        if kind == "tar" and not tar_is_whole(path):  # pg_restore reads a cut member as if it ended there
            return dump_damaged(f"{path} ends before the archive does")
        done = self._pg_restore("-f", "/dev/null")
        if done.status:
            if LACKING.search(done.stderr):
                what = f"The dump cannot be read here: {done.says}."
                raise Found(Finding("restore", what, advice="Install a newer PostgreSQL.", weight=Weight.ERROR))
            return dump_damaged(f"{path} cannot be read to its end: {done.says}")
        return ()

    def _end(self, path: Path) -> bytes:
        end = b""
        try:
            with unpacked(path, self.runner, self.scratch.room()) as (stream, _):
                while block := stream.read(1 << 20):
                    end = (end + block)[-4096:]
        except DAMAGED:
            return b""
        return end

    def _pg_restore(self, *words: str, server: Cluster | None = None) -> Done:
        path, program = backup_file(self.case), str(postgres.programs() / "pg_restore")
        env = {"PGOPTIONS": "-c statement_timeout=0"}
        argv = server.client("pg_restore", *words, database=DATABASE, user=LOADER) if server else [program, *words]
        if path.is_dir():
            return self.runner.run([*argv, str(path)], env=env, watch=self._watch)
        with path.open("rb") as file:
            who = server.who if server else None
            return self.runner.run(argv, env=env, stdin=file, account=who, cwd=Path("/"), watch=self._watch)

    def snapshots(self) -> list[Snapshot]:
        path, said = backup_file(self.case), None
        if self.format != "plain":
            listed = self._pg_restore("-l").stdout.decode("utf-8", "replace")
            match = re.search(r"Archive created at (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)", listed)
            said = match[1] if match else None
        return [Snapshot(path.name, dated(path, said), certain=False)]

    def _watch(self) -> None:
        """Keep the cluster within the quota."""
        if self._server is not None:
            self.within_quota((self._server.data / "base").glob("*/*"))

    def restore(self, snapshot: Snapshot, into: Path) -> Restored:
        self._server = server = self._stack.enter_context(postgres.cluster(self.runner, self.scratch))
        roles, extensions = set[str](), list[str]()
        left_out = self._left_out(server) if self.format != "plain" else []
        while True:
            server.create_for_loader(extensions)
            if self.format == "plain":
                words = ["-Xq", "-v", "ON_ERROR_STOP=1", "-f", "-"]
                argv = server.client("psql", *words, database=DATABASE, user=LOADER)
                done = self.load(server, argv, harmless, env={"PGCLIENTENCODING": "UTF8"}, watch=self._watch)
            else:
                words = ["--exit-on-error", "--no-owner", "--no-privileges", *left_out]
                done = self._pg_restore(*words, server=server)
            role, extension = ROLE.search(done.stderr), EXTENSION.search(done.stderr)
            if done.status and role is not None and role[1] not in roles and len(roles) < 100:
                roles.add(role[1])  # roles are not in a dump; what needs one is kept, its rights are not judged
                name = role[1].replace('"', '""')
                server.psql(f'CREATE ROLE "{name}" NOLOGIN', database="postgres", read_only=False)
            elif done.status and extension is not None and extension[1] not in extensions:
                extensions.append(extension[1])  # it is this machine's own code, not the dump's
            else:
                break
        self._watch()
        return self._judge(done)

    def _left_out(self, server: Cluster) -> list[str]:
        """Return the words that leave out of an archive what only a superuser may make and no data depend on."""
        listed = self._pg_restore("-l").stdout.decode("utf-8", "surrogateescape").splitlines()
        kept = [line for line in listed if not SUPERUSERS.match(line)]
        if kept == listed:
            return []
        file = server.folder / "entries"
        file.write_bytes("\n".join(kept).encode("utf-8", "surrogateescape") + b"\n")
        file.chmod(0o644)
        return ["-L", str(file)]

    def _judge(self, done: Done) -> Restored:
        """Return what the end of the restore means; raises Found for what cannot be laid to the backup's charge."""
        if not done.status:
            return Restored(None, seconds=done.seconds)
        lines = [line for line in done.stderr.splitlines() if "error" in line.lower()]
        first = (lines or [done.says])[0].strip()[:300]
        if OUTSIDE.search(done.stderr):
            what = "The dump wants to run a program or to touch a file, which pg_dump never writes."
            raise Found(Finding("hostile", what, first, "Do not load it elsewhere; look where it came from."))
        if LACKING.search(done.stderr):
            what = f"This machine lacks what the dump needs: {first}."
            raise Found(Finding("restore", what, advice="Install the extension.", weight=Weight.ERROR))
        if DENIED.search(done.stderr):
            what = f"The dump asks for rights that loading data does not need: {first}."
            advice = "Look at that statement and where the dump came from; load it by hand where it is trusted."
            raise Found(Finding("restore", what, advice=advice, weight=Weight.ERROR))
        what = f"The dump does not restore: {first}"
        return Restored(None, (Finding("restore", what, advice="Take an older dump; look at the job."),))

    def probe(self, restored: Restored) -> Probed:
        assert self._server is not None  # noqa: S101  restored before
        return relational.probe(postgres.Restored(self._server, user=LOADER), self.case.expect.postgres, self.case.now)


def tar_is_whole(path: Path) -> bool:
    """Say whether an archive holds all of its last member and the empty block that ends it."""
    try:
        with tarfile.open(path) as archive:
            *_, last = archive
    except (tarfile.TarError, OSError, ValueError):
        return False
    end = last.offset_data + -(-last.size // 512) * 512
    return path.stat().st_size >= end + 512


def harmless(lines: IO[bytes]) -> Iterator[bytes]:
    """Yield a dump's lines without owners, rights and database commands; raises Found at a command for the shell.

    Follows quotes, dollar quotes, comments and COPY data, in which a backslash means nothing to psql.
    """
    inside, copying = b"", False  # inside: what ends the present quote or comment
    dropping = False  # the rest of a statement whose first line was left out
    for line in lines:
        if dropping:
            dropping = not line.rstrip().endswith(b";")
            continue
        if copying:
            copying = line.rstrip(b"\r\n") != b"\\."
            yield line
            continue
        if not inside and ELSEWHERE.match(line):
            dropping = not line.startswith(b"\\") and not line.rstrip().endswith(b";")
            continue
        start, at = inside, 0
        while at < len(line):
            if inside == b"e'":
                match = re.compile(rb"\\.|'", re.DOTALL).search(line, at)
                if match is None:
                    break
                at, inside = match.end(), b"" if match[0] == b"'" else inside
            elif inside:
                found = line.find(inside, at)
                if found < 0:
                    break
                at, inside = found + len(inside), b""
            else:
                match = TOKENS.search(line, at)
                if match is None or match[0] == b"--":
                    break
                at, token = match.end(), match[0]
                if token == b"\\":
                    what = "The dump holds a command for psql itself, which pg_dump never writes."
                    where = line[:120].decode("utf-8", "replace").strip()
                    raise Found(Finding("hostile", what, where, "Do not run it; look where it came from."))
                if token == b"/*":
                    inside = b"*/"
                elif token in (b"e'", b"E'"):
                    inside = b"e'"
                elif token in (b"'", b"$$") or token.startswith(b"$"):
                    inside = token
        if not start and not inside and line.startswith(b"COPY ") and line.rstrip().endswith(b"FROM stdin;"):
            copying = True
        yield line
