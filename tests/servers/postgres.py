"""A private PostgreSQL cluster for tests: on loopback, as an unprivileged account, gone afterwards.

`python tests/servers/postgres.py` starts one, prints its URL for MSP_TEST_POSTGRES, and stops it at Ctrl-C.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ACCOUNTS = ("postgres", "nobody")  # who may run it when the tests run as root, which PostgreSQL refuses


def programs() -> Path | None:
    """Return the folder of initdb and postgres, or None if PostgreSQL is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    if found:
        return found[-1].parent
    initdb = shutil.which("initdb")
    return Path(initdb).parent if initdb else None


def _account() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    for name in ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise RuntimeError("There is no unprivileged account to run PostgreSQL with.")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Cluster:
    """A cluster in a folder of its own. `stop` kills it as a power cut would; `start` lets it recover."""

    def __init__(self, folder: Path) -> None:
        found = programs()
        if found is None:
            raise RuntimeError("PostgreSQL is not installed.")
        self.programs, self.folder, self.account, self.port = found, folder, _account(), free_port()
        self.url = f"postgresql+psycopg://msp@127.0.0.1:{self.port}/postgres"
        if self.account:
            os.chown(folder, self.account["user"], self.account["group"])
        self._run("initdb", "-D", folder / "data", "-U", "msp", "-A", "trust", "-N", "-E", "UTF8")

    def _run(self, program: str, *arguments: str | Path) -> None:
        subprocess.run(
            [self.programs / program, *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            **self.account,
        )

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = f"-c listen_addresses=127.0.0.1 -c port={self.port} -c unix_socket_directories={self.folder}"
        data, log = self.folder / "data", self.folder / "log"
        self._run("pg_ctl", "-D", data, "-w", "-l", log, "-o", f"{options} -c fsync=off", "start")

    def stop(self) -> None:
        """Stop it without a checkpoint; every connection breaks."""
        self._run("pg_ctl", "-D", self.folder / "data", "-m", "immediate", "-w", "stop")


@contextmanager
def running() -> Iterator[Cluster]:
    """Yield a started cluster and remove it afterwards; it may take three seconds."""
    folder = Path(tempfile.mkdtemp(prefix="msp-postgres-"))
    try:
        cluster = Cluster(folder)
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def cluster() -> Iterator[str]:
    """Yield the SQLAlchemy URL of a superuser on a fresh cluster."""
    with running() as found:
        yield found.url


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # leave through the context, which stops the server
    with suppress(KeyboardInterrupt), cluster() as address:
        print(address, flush=True)
        signal.pause()
