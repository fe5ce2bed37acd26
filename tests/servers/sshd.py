"""A private OpenSSH server on loopback: own keys, free port, gone afterwards. Runs commands as the present user."""

import getpass
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/bin:/sbin") or ""


@dataclass(frozen=True)
class Sshd:
    """A running server: where it listens, whom it admits, and its public host key."""

    port: int
    user: str
    key_file: Path
    host_key: str
    folder: Path
    pid: int


def missing() -> str:
    """Return why it cannot be started here, or nothing."""
    return "" if SSHD else "OpenSSH's sshd is not installed (package openssh-server)"


def key(path: Path, kind: str = "ed25519") -> str:
    """Make a key pair unless it is there, and return the public half as in authorized_keys."""
    if not path.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(path)], check=True)
    return " ".join(path.with_suffix(".pub").read_text().split()[:2])


@contextmanager
def running(folder: Path, *, options: str = "", host_key_type: str = "ed25519") -> Iterator[Sshd]:
    """Start a server in `folder`; `options` are lines of its configuration, which come before ours and win."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    Path("/run/sshd").mkdir(exist_ok=True) if getpass.getuser() == "root" else None
    host_key = key(folder / "host", host_key_type)
    (folder / "authorized").write_text(key(folder / "user") + "\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "config").write_text(
        f"{options}\nPort {port}\nListenAddress 127.0.0.1\n"
        f"HostKey {folder / 'host'}\nAuthorizedKeysFile {folder / 'authorized'}\n"
        f"PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        f"SetEnv SHLVL=5\nPermitRootLogin yes\nMaxStartups 1000\nMaxSessions 100\nLogLevel ERROR\n"
    )
    server = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "config")], stderr=(folder / "log").open("wb"))
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if server.poll() is not None:
                raise RuntimeError((folder / "log").read_text())
            time.sleep(0.05)
        yield Sshd(port, getpass.getuser(), folder / "user", host_key, folder, server.pid)
    finally:
        server.terminate()
        server.wait(10)
