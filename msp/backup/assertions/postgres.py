"""A throwaway PostgreSQL cluster on a Unix socket, and what a restored database must answer.

Nothing listens on the network. As root, the server runs as an unprivileged account, because PostgreSQL refuses root
and because a dump is somebody else's code.
"""

# ruff: noqa: S608  every name goes through `quoted` or `literal`
import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from msp.backup.assertions.relational import Answer
from msp.backup.process import Done, Runner, end, kill
from msp.backup.scratch import Scratch, default_base, scratch
from msp.errors import Misconfigured, StepFailed

DATABASE = "restored"
START = 60  # seconds until the server must answer
SOCKET_LIMIT = 80  # bytes of the folder's name; the kernel allows 107 for the whole path
FAST = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum": "off",
    "max_wal_size": "4GB",
    "shared_buffers": "64MB",
    "logging_collector": "off",
    "timezone": "UTC",
}
NULL = "\N{SYMBOL FOR NULL}"


def programs() -> Path:
    """Return the folder of the newest server programs here; raises Misconfigured if there are none."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if found:
        return max(found, key=lambda path: int(path.parent.name) if path.parent.name.isdigit() else 0)
    initdb = shutil.which("initdb")
    if initdb is None:
        raise Misconfigured("PostgreSQL is not installed here.", advice="Install the package postgresql.")
    return Path(initdb).resolve().parent


def account() -> pwd.struct_passwd | None:
    """Return whom the server runs as when we are root, else None: ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise Misconfigured("There is no account to run PostgreSQL as.", advice="Create the account postgres.")


@dataclass
class Cluster:
    """One private server. `folder` holds its data and its socket."""

    runner: Runner
    folder: Path
    who: pwd.struct_passwd | None
    process: "subprocess.Popen[bytes] | None" = None

    def client(self, name: str, *words: str, database: str = "postgres") -> list[str]:
        return [str(programs() / name), "-h", str(self.folder), "-p", "5432", "-U", "postgres", "-d", database, *words]

    def psql(self, sql: str, *, database: str = DATABASE, read_only: bool = True) -> Done:
        """Run one statement; its rows come as lines, columns separated by tabs."""
        options = "-c statement_timeout=600s" + (" -c default_transaction_read_only=on" if read_only else "")
        words = ["-XAtq", "-F", "\t", "-P", f"null={NULL}", "-v", "ON_ERROR_STOP=1", "-f", "-"]
        with tempfile.TemporaryFile() as script:
            script.write(sql.encode("utf-8", "surrogateescape"))
            script.seek(0)
            return self.runner.run(
                self.client("psql", *words, database=database),
                stdin=script,
                account=self.who,
                env={"PGOPTIONS": options, "PGCLIENTENCODING": "UTF8", "HOME": str(self.folder)},
                cwd=self.folder,
                noted=False,
            )

    def create(self, database: str = DATABASE) -> None:
        """Make the database anew, empty."""
        for sql in (f'DROP DATABASE IF EXISTS "{database}"', f'CREATE DATABASE "{database}" TEMPLATE template0'):
            done = self.psql(sql, database="postgres", read_only=False)
            if done.status:
                raise StepFailed(f"The private PostgreSQL refused: {done.says}.")

    def start(self) -> None:
        """Create the cluster and wait until it answers; raises StepFailed with the server's own words."""
        data = self.folder / "data"
        words = ["-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        home = {"HOME": str(self.folder)}
        done = self.runner.run(
            [str(programs() / "initdb"), *words], account=self.who, env=home, cwd=self.folder, deadline=300
        )
        if done.status:
            raise StepFailed(f"The private PostgreSQL could not be created: {done.says}.")
        settings = [word for name, value in FAST.items() for word in ("-c", f"{name}={value}")]
        argv = [str(programs() / "postgres"), "-D", str(data), "-k", str(self.folder), "-p", "5432", *settings]
        log = self.folder / "log"
        with log.open("wb") as file:
            self.process = self.runner.start(
                argv, account=self.who, last_signal="QUIT", env=home, cwd=self.folder, stdout=file, stderr=file
            )
        ends = time.monotonic() + START
        while not (self.folder / ".s.PGSQL.5432").exists() or self.psql("SELECT 1", database="postgres").status:
            if self.process.poll() is not None or time.monotonic() > ends:
                words_said = log.read_text("utf-8", "replace").strip().splitlines()
                raise StepFailed(f"The private PostgreSQL does not answer: {words_said[-1] if words_said else ''}.")
            time.sleep(0.05)

    def stop(self) -> None:
        """End the server and everything it started."""
        if self.process is not None and self.process.poll() is None:
            kill(self.process, 3)  # SIGQUIT: immediate shutdown, the data are thrown away anyhow
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
        if self.process is not None:
            end(self.process)


@contextlib.contextmanager
def cluster(runner: Runner, space: Scratch) -> Iterator[Cluster]:
    """Run a private server in scratch (or beside it, where its account cannot enter) and stop it at the end."""
    with contextlib.ExitStack() as stack:
        who = account()
        try:
            folder = space.folder_of(who, "pg")
            if len(os.fsencode(folder)) > SOCKET_LIMIT:
                raise Misconfigured(f"{folder} is too long a name for a socket.")
        except Misconfigured:
            base = next((base for base in map(default_base, (None, "/tmp", "/var/tmp")) if _open_to(base, who)), None)  # noqa: S108
            if base is None:
                raise
            space = stack.enter_context(scratch(base, quota=space.quota))
            folder = space.folder_of(who, "pg")
        server = Cluster(runner, folder, who)
        stack.callback(server.stop)
        server.start()
        yield server


def _open_to(base: Path, who: pwd.struct_passwd | None) -> bool:
    """Say whether an account may pass through every folder above `base`, and a socket's name fits there."""
    if len(os.fsencode(base)) > SOCKET_LIMIT - 30:
        return False
    return who is None or all(parent.stat().st_mode & 0o001 for parent in base.parents)


def quoted(name: str) -> str:
    """Return a table's name, with or without its schema, as SQL."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split(".", 1))


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@dataclass(frozen=True)
class Restored:
    """One restored database of a private server, as the assertions ask it."""

    cluster: Cluster
    database: str = DATABASE

    def ask(self, sql: str) -> Answer:
        done = self.cluster.psql(sql, database=self.database)
        if done.status:
            said = next((line for line in done.stderr.splitlines() if "ERROR:" in line), done.says)
            error = said.rpartition("ERROR:")[2].strip()
            return Answer(error=error, absent="does not exist" in error)
        line = done.stdout.decode("utf-8", "replace").split("\n")[0]
        return Answer(None if line == NULL else line)

    def size(self) -> tuple[int, int]:
        system = "('pg_catalog', 'information_schema')"
        tables = self.ask(f"SELECT count(*) FROM pg_tables WHERE schemaname NOT IN {system}").value
        size = self.ask("SELECT pg_database_size(current_database())").value
        return int(tables or 0), int(size or 0)

    def quoted(self, table: str) -> str:
        return quoted(table)

    def columns(self, table: str) -> set[str]:
        found = self.cluster.psql(
            "SELECT attname FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped "
            f"AND attrelid = to_regclass({literal(quoted(table))})",
            database=self.database,
        )
        return set(found.stdout.decode("utf-8", "replace").split("\n"))

    def index_fault(self, name: str) -> str:
        valid = self.ask(
            "SELECT bool_or(i.indisvalid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
            f"WHERE c.relname = {literal(name.rpartition('.')[2])}"
        ).value
        return "" if valid == "t" else "missing" if valid is None else "not valid"
