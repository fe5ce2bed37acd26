"""A throwaway MariaDB server on a Unix socket, and what a restored database must answer.

Nothing listens on the network. A dump is somebody else's code: it is loaded by an account without rights over files,
plug-ins and settings, into a server that may read and write files only in its own folder.
"""

# ruff: noqa: S608  every name goes through `quoted` or `literal`
import contextlib
import pwd
import re
import secrets
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from msp.backup.assertions import private
from msp.backup.assertions.relational import Answer
from msp.backup.case import Relational
from msp.backup.process import Done, Runner
from msp.backup.scratch import Scratch
from msp.backup.verdict import Finding
from msp.errors import Misconfigured, StepFailed

DATABASE = "restored"
LOADER = "loader"
SYSTEM = "('mysql', 'sys', 'information_schema', 'performance_schema')"
MISSING = ("(1146)", "ERROR 1146", "ERROR 1049")  # no such table, no such database
DEFINER = re.compile(r"user specified as a definer \('([^']*)'@'([^']*)'\) does not exist")
PRIVATE = {
    "skip-networking": "",
    "skip-log-bin": "",
    "skip-name-resolve": "",
    "local-infile": "0",
    "symbolic-links": "0",  # no table outside the folder of data
    "event-scheduler": "OFF",
    "log-bin-trust-function-creators": "1",
    "performance-schema": "0",
    "max-allowed-packet": "1G",
    "default-time-zone": "+00:00",
    "innodb-buffer-pool-size": "64M",
    "innodb-flush-log-at-trx-commit": "0",
    "debug-no-sync": "",  # the data are thrown away anyhow
    "innodb-doublewrite": "0",
    "innodb-buffer-pool-load-at-startup": "0",
    "innodb-buffer-pool-dump-at-shutdown": "0",
}


def program(*names: str) -> str:
    """Return the first of these programs that is installed; raises Misconfigured if none is."""
    for name in names:
        found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/usr/libexec")
        if found:
            return found
    raise Misconfigured(f"The program {names[0]} is not installed here.", advice="Install the package mariadb-server.")


def account() -> pwd.struct_passwd | None:
    """Return whom the server runs as when we are root, else None: ourselves. `mysql` owns this machine's databases."""
    return private.account("nobody", "mysql")


def quoted(name: str) -> str:
    """Return a table's name, with or without its database, as SQL."""
    return ".".join("`" + part.replace("`", "``") + "`" for part in name.split(".", 1))


def literal(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


@dataclass
class Server:
    """One private server. `folder` holds its data and its socket; `user` is whom questions are asked as."""

    runner: Runner
    folder: Path
    who: pwd.struct_passwd | None
    user: str = "root"
    admin: str = "root"
    settings: dict[str, str] = field(default_factory=lambda: dict(PRIVATE))

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def socket(self) -> Path:
        return self.folder / "s"

    def client(self, *words: str, user: str | None = None) -> list[str]:
        """Return the client's argument vector; commands of the client itself are data to it, never run."""
        options = ["--no-defaults", "--protocol=socket", f"--socket={self.socket}", "-u", user or self.user]
        options += ["--binary-mode", "--batch", "--local-infile=0", "--max-allowed-packet=1G"]
        return [program("mariadb", "mysql"), *options, "--default-character-set=utf8mb4", *words]

    def sql(self, text: str, *, database: str = "", user: str | None = None, read_only: bool = False) -> Done:
        """Run statements; rows come as lines, columns separated by tabs."""
        words = ["-N", *([f"--database={database}"] if database else [])]
        if read_only:
            words.append("--init-command=SET SESSION tx_read_only = 1, max_statement_time = 600")
        return self.runner.run(
            [*self.client(*words, user=user), "-e", text],
            account=self.who,
            env={"HOME": str(self.folder)},
            cwd=self.folder,
            noted=False,
        )

    def initialise(self) -> None:
        """Create an empty folder of data; raises StepFailed with the program's own words."""
        words = ["--no-defaults", f"--datadir={self.data}", "--auth-root-authentication-method=normal"]
        done = self.runner.run(
            [program("mariadb-install-db", "mysql_install_db"), *words, "--skip-test-db", "--debug-no-sync"],
            account=self.who,
            env={"HOME": str(self.folder), "TMPDIR": str(self.folder)},
            cwd=self.folder,
            deadline=300,
        )
        if done.status:
            raise StepFailed(f"The private MariaDB could not be created: {done.says}.")

    @contextlib.contextmanager
    def running(self, more: Sequence[str] = ()) -> Iterator[Self]:
        """Run the server on its data until the block ends; raises StepFailed with the server's own words."""
        for name in ("files", "plugins"):
            (self.folder / name).mkdir(mode=0o700, exist_ok=True)
            if self.who is not None:
                shutil.chown(self.folder / name, self.who.pw_uid, self.who.pw_gid)
        places = {
            "datadir": self.data,
            "socket": self.socket,
            "pid-file": self.folder / "pid",
            "tmpdir": self.folder,
            "secure-file-priv": self.folder / "files",
            "plugin-dir": self.folder / "plugins",
        }
        settings: Mapping[str, object] = {**self.settings, **places}
        words = [f"--{name}={value}" if value != "" else f"--{name}" for name, value in settings.items()]
        with private.server(
            self.runner,
            [program("mariadbd", "mysqld"), "--no-defaults", *words, *more],
            place=self.folder,
            who=self.who,
            answers=lambda: self.socket.exists() and not self.sql("SELECT 1", user=self.admin).status,
            stop_signal=signal.SIGKILL,  # the data are thrown away anyhow
            what="MariaDB",
        ):
            yield self

    def admit_loader(self) -> None:
        """Create the account that loads a dump, and hide the one with all rights behind a name nobody can guess.

        The loader may do anything in any database but the server's own, and may name anybody as a view's or routine's
        definer; so no account with further rights may have a name that a dump could use.
        """
        admin, loader = f"admin_{secrets.token_hex(12)}", f"{LOADER}@localhost"
        sql = (
            f"CREATE DATABASE {DATABASE}; CREATE USER {loader}; GRANT SET USER ON *.* TO {loader}; "
            f"GRANT ALL ON `%`.* TO {loader}; GRANT SHOW VIEW ON mysql.* TO {loader}; "  # the closer name decides
            f"CREATE USER {admin}@localhost; GRANT ALL ON *.* TO {admin}@localhost WITH GRANT OPTION; "
        )
        done = self.sql(sql, user="root")
        if not done.status:
            self.admin, self.user = admin, LOADER
            kept = f"('{admin}', '{LOADER}', 'mariadb.sys')"
            names = self.sql(f"SELECT user, host FROM mysql.global_priv WHERE user NOT IN {kept}", user=admin)
            rows = [line.split("\t") for line in names.stdout.decode().splitlines()]
            drop = "; ".join(f"DROP USER {literal(user)}@{literal(host)}" for user, host in rows)
            done = self.sql(drop, user=admin)
        if done.status:
            raise StepFailed(f"The private MariaDB refused: {done.says}.")


@contextlib.contextmanager
def server(runner: Runner, space: Scratch) -> Iterator[Server]:
    """Run a private, empty server in scratch (or beside it, where its account cannot enter) and stop it at the end."""
    who = account()
    with private.folder(space, who, "my") as folder:
        made = Server(runner, folder, who)
        made.initialise()
        with made.running():
            made.admit_loader()
            yield made


@dataclass(frozen=True)
class Restored:
    """One restored database of a private server, as the assertions ask it."""

    server: Server
    database: str

    def ask(self, sql: str) -> Answer:
        tried: set[str] = set()
        while True:
            done = self.server.sql(sql, database=self.database, read_only=True)
            if not done.status:
                lines = done.stdout.decode("utf-8", "replace").split("\n")
                return Answer(None if lines[0] == "NULL" or lines == [""] else lines[0])
            definer = DEFINER.search(done.stderr)
            if definer is None or definer[0] in tried:
                error = done.says
                return Answer(error=error, absent=any(code in error for code in MISSING))
            tried.add(definer[0])  # accounts are not in a dump; what they define is kept, their rights are not judged
            who = f"{literal(definer[1])}@{literal(definer[2])}"
            sql_of = f"CREATE USER IF NOT EXISTS {who}; GRANT SELECT, EXECUTE ON *.* TO {who}"
            self.server.sql(sql_of, user=self.server.admin)

    def size(self) -> tuple[int, int]:
        row = self.server.sql(
            "SELECT count(*), coalesce(sum(data_length + index_length), 0) FROM information_schema.tables "
            f"WHERE table_type = 'BASE TABLE' AND table_schema NOT IN {SYSTEM}"
        )
        numbers = row.stdout.decode("ascii", "replace").split()
        return (int(numbers[0]), int(numbers[1])) if len(numbers) == 2 else (0, 0)

    def largest(self, most: int) -> list[str]:
        done = self.server.sql(
            "SELECT concat(table_schema, '.', table_name) FROM information_schema.tables "
            f"WHERE table_type = 'BASE TABLE' AND table_schema NOT IN {SYSTEM} "
            "AND concat(table_schema, table_name) NOT RLIKE '[.\\n]' "
            f"ORDER BY data_length DESC, 1 LIMIT {most}"
        )
        return [] if done.status else done.stdout.decode("utf-8", "replace").splitlines()

    def quoted(self, table: str) -> str:
        return quoted(table)

    def _where(self, table: str) -> str:
        schema, _, name = table.rpartition(".")
        return f"table_schema = {literal(schema or self.database)} AND table_name = {literal(name)}"

    def columns(self, table: str) -> set[str]:
        found = self.server.sql(f"SELECT column_name FROM information_schema.columns WHERE {self._where(table)}")
        return set(found.stdout.decode("utf-8", "replace").split("\n"))

    def index_fault(self, name: str) -> str:
        table, _, index = name.rpartition(".")
        of = f" AND {self._where(table)}" if table else f" AND table_schema = {literal(self.database)}"
        sql = f"SELECT count(*) FROM information_schema.statistics WHERE index_name = {literal(index)}{of}"
        return "missing" if self.ask(sql).value in (None, "0") else ""


def databases(server: Server) -> list[str]:
    """Return the databases that hold tables, the system's own left out."""
    sql = f"SELECT DISTINCT table_schema FROM information_schema.tables WHERE table_schema NOT IN {SYSTEM}"
    return [line for line in server.sql(sql).stdout.decode("utf-8", "replace").split("\n") if line]


def choose(server: Server, expect: Relational | None) -> str:
    """Return the database that bare names mean: the one named, the only one, or the one with most expected tables."""
    if expect is not None and expect.database:
        return expect.database
    there = databases(server)
    wanted = ", ".join(literal(name) for name in (expect.rows_min if expect else {}) if "." not in name)
    if len(there) > 1 and wanted:
        sql = f"SELECT table_schema FROM information_schema.tables WHERE table_name IN ({wanted}) GROUP BY 1"
        best = server.sql(f"{sql} ORDER BY count(*) DESC, 1 LIMIT 1").stdout.decode("utf-8", "replace").strip()
        return best or there[0]
    return there[0] if there else DATABASE


def check_tables(server: Server) -> list[Finding]:
    """Let the server read every page of every table (CHECK TABLE); return what it says against them."""
    sql = f"SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema NOT IN {SYSTEM} "
    listed = server.sql(sql + "AND table_type = 'BASE TABLE'").stdout.decode("utf-8", "replace")
    findings = []
    for line in listed.splitlines():
        name = ".".join("`" + part.replace("`", "``") + "`" for part in line.split("\t", 1))
        done = server.sql(f"CHECK TABLE {name}")
        rows = [row.split("\t") for row in done.stdout.decode("utf-8", "replace").splitlines()]
        bad = [row[-1] for row in rows if len(row) == 4 and row[2] in ("error", "Error", "status") and row[3] != "OK"]
        if done.status or bad:
            what = f"The table {name.replace('`', '')} is damaged: {done.says if done.status else bad[0]}."
            findings.append(Finding("application", what, name, "Restore an older backup of it."))
    return findings
