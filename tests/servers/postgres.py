"""A private PostgreSQL cluster for tests: on loopback, as an unprivileged account, gone afterwards.

`python tests/servers/postgres.py` starts one, prints its URL for MSP_TEST_POSTGRES, and stops it at Ctrl-C.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def cluster() -> Iterator[str]:
    """Yield the SQLAlchemy URL of a superuser on a fresh cluster; it may take three seconds."""
    bin_folder, account = programs(), _account()
    if bin_folder is None:
        raise RuntimeError("PostgreSQL is not installed.")
    folder = Path(tempfile.mkdtemp(prefix="msp-postgres-"))
    data, port = folder / "data", free_port()
    try:
        if account:
            os.chown(folder, account["user"], account["group"])
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        subprocess.run(
            [bin_folder / "initdb", "-D", data, "-U", "msp", "-A", "trust", "-N", "-E", "UTF8"],
            check=True,
            capture_output=True,
            cwd=folder,
            env=environment,
            **account,
        )
        options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder}"
        subprocess.run(
            [bin_folder / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options + " -c fsync=off", "start"],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=folder,
            env=environment,
            **account,
        )
        try:
            yield f"postgresql+psycopg://msp@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run(
                [bin_folder / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop"],
                stdout=subprocess.DEVNULL,
                check=False,
                cwd=folder,
                env=environment,
                **account,
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    with cluster() as address:
        print(address, flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
