"""Many hosts on loopback, served by real OpenSSH: 16 addresses 127.0.x.y a server, for speed and crash tests.

A command learns which host it is on from the third word of SSH_CONNECTION.
"""

import getpass
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import sshd

PER_SERVER = 16  # addresses that one sshd can listen on


@dataclass(frozen=True)
class Host:
    """One address of the fleet; `host_key` as in authorized_keys."""

    name: str
    address: str
    port: int
    host_key: str


@dataclass(frozen=True)
class Fleet:
    """Running hosts, all of the present user and one key."""

    hosts: tuple[Host, ...]
    user: str
    key_file: Path
    servers: tuple["subprocess.Popen[bytes]", ...] = ()

    def write_list(self, path: Path) -> Path:
        """Write the list for `msp run --hosts` and return its path."""
        lines = (
            f'{host.name} {host.address} {host.port} {self.user} key={self.key_file} hostkey="{host.host_key}"\n'
            for host in self.hosts
        )
        path.write_text("".join(lines))
        return path

    def write_known_hosts(self, path: Path) -> Path:
        """Write an OpenSSH known_hosts of exactly these hosts and return its path."""
        path.write_text("".join(f"[{host.address}]:{host.port} {host.host_key}\n" for host in self.hosts))
        return path

    def as_json(self) -> str:
        """Return what a program of another tool needs to know."""
        hosts = [{"name": host.name, "address": host.address, "port": host.port} for host in self.hosts]
        return json.dumps({"user": self.user, "key": str(self.key_file), "hosts": hosts})


def addresses(count: int) -> list[str]:
    """Return `count` distinct loopback addresses, from 127.0.1.1."""
    return [f"127.0.{1 + number // 250}.{1 + number % 250}" for number in range(count)]


def _answers(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0


@contextmanager
def running(folder: Path, count: int, *, options: str = "") -> Iterator[Fleet]:
    """Start `count` hosts in `folder`; `options` are further lines of every server's configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    if getpass.getuser() == "root":
        Path("/run/sshd").mkdir(exist_ok=True)
    user_key = sshd.key(folder / "user")
    (folder / "authorized").write_text(f"{user_key}\n")
    hosts: list[Host] = []
    servers: list[subprocess.Popen[bytes]] = []
    wanted = addresses(count)
    home = folder / "home"
    home.mkdir(exist_ok=True)
    with ExitStack() as stack:
        for number, begin in enumerate(range(0, count, PER_SERVER)):
            group = wanted[begin : begin + PER_SERVER]
            host_key = sshd.key(folder / f"host-{number}")
            with socket.socket() as probe:
                probe.bind((group[0], 0))
                port = probe.getsockname()[1]
            config = folder / f"config-{number}"
            config.write_text(
                f"Port {port}\n"
                + "".join(f"ListenAddress {address}\n" for address in group)
                + f"HostKey {folder / f'host-{number}'}\nAuthorizedKeysFile {folder / 'authorized'}\n"
                + "PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin yes\n"
                + "KbdInteractiveAuthentication no\nMaxStartups 1000\nMaxSessions 100\nLogLevel ERROR\n"
                # bash under sshd would read .bashrc for every command; what steps leave behind goes with the folder
                + f"SetEnv SHLVL=5 HOME={home}\n{options}\n"
            )
            log = stack.enter_context((folder / f"log-{number}").open("wb"))
            server = subprocess.Popen([sshd.SSHD, "-D", "-e", "-f", str(config)], stderr=log)
            # On a machine of its own it would not interrupt whoever reaches it.
            os.sched_setscheduler(server.pid, os.SCHED_BATCH, os.sched_param(0))
            servers.append(server)
            stack.callback(server.wait, 10)
            stack.callback(server.terminate)
            hosts += [Host(f"h{begin + place:04d}", address, port, host_key) for place, address in enumerate(group)]
        for host in hosts[::PER_SERVER]:
            end = time.monotonic() + 20
            while not _answers(host.address, host.port):
                if time.monotonic() > end:
                    raise RuntimeError(f"no sshd answers on {host.address}:{host.port}")
                time.sleep(0.02)
        yield Fleet(tuple(hosts), getpass.getuser(), folder / "user", tuple(servers))
