"""A throwaway PostgreSQL cluster on a Unix socket, and what a restored database must answer.

Nothing listens on the network. As root, the server runs as an unprivileged account, because PostgreSQL refuses root
and because a dump is somebody else's code.
"""

# ruff: noqa: S608  every name goes through `quoted` or `literal`
import contextlib
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from msp.backup.assertions import private
from msp.backup.assertions.relational import Answer
from msp.backup.process import Done, Runner
from msp.backup.scratch import Scratch
from msp.errors import Misconfigured, StepFailed

DATABASE = "restored"
LOADER = "loader"
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
ROLE = 'role "postgres" does not exist'
LOCALE = "Add the locale that it names to this machine (locale-gen)."
NULL = "\N{SYMBOL FOR NULL}"


def programs(major: str | None = None) -> Path:
    """Return the folder of the server programs of a major version, or of the newest here.

    Raises Misconfigured if they are not installed.
    """
    found = [path.parent for path in Path("/usr/lib/postgresql").glob(f"{major or '*'}/bin/initdb")]
    if found:
        return max(found, key=lambda path: int(path.parent.name) if path.parent.name.isdigit() else 0)
    initdb = shutil.which("initdb")
    if initdb is None or (major and major not in _version(initdb)):
        what = f"PostgreSQL {major} is not installed here." if major else "PostgreSQL is not installed here."
        raise Misconfigured(what, advice=f"Install the package postgresql{'-' + major if major else ''}.")
    return Path(initdb).resolve().parent


def _version(program: str) -> list[str]:
    """Return the words and numbers of what a program says its version is."""
    done = subprocess.run([program, "--version"], capture_output=True, check=False)
    return re.split(r"[\s.]+", done.stdout.decode("utf-8", "replace"))


def account() -> pwd.struct_passwd | None:
    """Return whom the server runs as when we are root, else None: ourselves."""
    return private.account("postgres", "nobody")


@dataclass
class Cluster:
    """One private server. `folder` holds its data and its socket."""

    runner: Runner
    folder: Path
    who: pwd.struct_passwd | None
    major: str | None = None  # None: the newest version here

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def client(self, name: str, *words: str, database: str = "postgres", user: str = "postgres") -> list[str]:
        place = ["-h", str(self.folder), "-p", "5432", "-U", user, "-d", database]
        return [str(programs(self.major) / name), *place, *words]

    def psql(self, sql: str, *, database: str = DATABASE, read_only: bool = True, user: str = "postgres") -> Done:
        """Run one statement; its rows come as lines, columns separated by tabs."""
        options = "-c statement_timeout=600s" + (" -c default_transaction_read_only=on" if read_only else "")
        words = ["-XAtq", "-F", "\t", "-P", f"null={NULL}", "-v", "ON_ERROR_STOP=1", "-f", "-"]
        with tempfile.TemporaryFile() as script:
            script.write(sql.encode("utf-8", "surrogateescape"))
            script.seek(0)
            return self.runner.run(
                self.client("psql", *words, database=database, user=user),
                stdin=script,
                account=self.who,
                env={"PGOPTIONS": options, "PGCLIENTENCODING": "UTF8", "HOME": str(self.folder)},
                cwd=self.folder,
                noted=False,
            )

    def create(self, database: str = DATABASE) -> None:
        """Make the database anew, empty."""
        for sql in (f'DROP DATABASE IF EXISTS "{database}"', f'CREATE DATABASE "{database}" TEMPLATE template0'):
            self._do(sql, "postgres")

    def create_for_loader(self, extensions: Iterable[str] = ()) -> None:
        """Make the database anew for the account that loads a dump: it owns the database, and is no superuser.

        A superuser's statements may run programs and write files. extensions: what only a superuser may create.
        """
        if not self.psql(f"SELECT 1 FROM pg_roles WHERE rolname = '{LOADER}'", database="postgres").stdout:
            self._do(f"CREATE ROLE {LOADER} LOGIN BYPASSRLS", "postgres")
        self.create()
        self._do(f'ALTER DATABASE "{DATABASE}" OWNER TO {LOADER}', "postgres")
        self._do(f"ALTER SCHEMA public OWNER TO {LOADER}", DATABASE)
        for name in extensions:
            self._do(f"CREATE EXTENSION {quoted(name)}", DATABASE)

    def _do(self, sql: str, database: str) -> None:
        done = self.psql(sql, database=database, read_only=False)
        if done.status:
            raise StepFailed(f"The private PostgreSQL refused: {done.says}.")

    def initialise(self) -> None:
        """Create an empty cluster; raises StepFailed with initdb's own words."""
        words = ["-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        home = {"HOME": str(self.folder)}
        done = self.runner.run(
            [str(programs(self.major) / "initdb"), *words], account=self.who, env=home, cwd=self.folder, deadline=300
        )
        if done.status:
            raise StepFailed(f"The private PostgreSQL could not be created: {done.says}.")

    def alone(self, sql: str, settings: Mapping[str, str]) -> Done:
        """Run one statement without a server, as whoever created the cluster."""
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        argv = [str(programs(self.major) / "postgres"), "--single", "-j", "-D", str(self.data), *words, "template1"]
        with tempfile.TemporaryFile() as script:
            script.write(f"{sql};\n\n".encode())
            script.seek(0)
            home = {"HOME": str(self.folder)}
            return self.runner.run(argv, stdin=script, account=self.who, env=home, cwd=self.folder)

    def _answers(self) -> bool:
        if not (self.folder / ".s.PGSQL.5432").exists():
            return False
        done = self.psql("SELECT 1", database="template1")
        if "not recognized by setlocale" in done.stderr:
            raise Misconfigured(f"A language of the old server is not known here: {done.says}.", advice=LOCALE)
        return not done.status or ROLE in done.stderr

    @contextlib.contextmanager
    def running(self, settings: Mapping[str, str] = FAST) -> Iterator[Self]:
        """Run the server on its data until the block ends; raises StepFailed with the server's own words."""
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        argv = [
            str(programs(self.major) / "postgres"),
            "-D",
            str(self.data),
            "-k",
            str(self.folder),
            "-p",
            "5432",
            *words,
        ]
        with private.server(
            self.runner,
            argv,
            place=self.folder,
            who=self.who,
            answers=self._answers,
            stop_signal=3,  # SIGQUIT: immediate shutdown, the data are thrown away anyhow
            what="PostgreSQL",
        ):
            yield self


@contextlib.contextmanager
def cluster(runner: Runner, space: Scratch) -> Iterator[Cluster]:
    """Run a private, empty server in scratch (or beside it, where its account cannot enter) and stop it at the end."""
    who = account()
    with private.folder(space, who, "pg") as folder:
        server = Cluster(runner, folder, who)
        server.initialise()
        with server.running():
            yield server


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
    user: str = "postgres"  # whose rights views and functions are asked with

    def ask(self, sql: str) -> Answer:
        done = self.cluster.psql(sql, database=self.database, user=self.user)
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

    def largest(self, most: int) -> list[str]:
        done = self.cluster.psql(
            "SELECT CASE schemaname WHEN 'public' THEN '' ELSE schemaname || '.' END || tablename FROM pg_tables "
            "WHERE schemaname NOT IN ('pg_catalog', 'information_schema') AND schemaname || tablename !~ '[.\\n]' "
            f"ORDER BY pg_relation_size(format('%I.%I', schemaname, tablename)::regclass) DESC, 1 LIMIT {most}",
            database=self.database,
            user=self.user,
        )
        return [] if done.status else done.stdout.decode("utf-8", "replace").splitlines()

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
