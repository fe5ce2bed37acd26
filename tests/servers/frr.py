"""A private FRR router (zebra, staticd, bgpd) in a network namespace of its own, reached by SSH: a real router CLI.

sshd gives everybody who logs in `vtysh` as the only command, as a router does. Nothing outside the folder is touched.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sshd

DAEMONS = ("zebra", "staticd", "bgpd")
BINARIES = Path("/usr/lib/frr")
CONFIGURATION = """\
frr defaults traditional
hostname rtr1
service integrated-vtysh-config
!
ip route 198.51.100.0/24 Null0
!
interface uplink0
 description to the provider
 ip address 192.0.2.1/24
exit
!
router bgp 64512
 bgp router-id 192.0.2.1
 no bgp default ipv4-unicast
 neighbor 192.0.2.9 remote-as 64513
 neighbor 192.0.2.9 password planted-bgp-secret
exit
"""


@dataclass(frozen=True)
class Frr:
    """A running router. `server` is the sshd in front of it."""

    server: sshd.Sshd
    folder: Path

    @property
    def line(self) -> str:
        """The router as a line of a list for `msp run --hosts`."""
        server = self.server
        return (
            f"rtr1 127.0.0.1 {server.port} {server.user} key={server.key_file} "
            f'hostkey="{server.host_key}" transport=network platform=frr kind=network'
        )

    @property
    def stored(self) -> str:
        """The configuration that it would start with."""
        return (self.folder / "etc" / "frr.conf").read_text()

    def vtysh(self, *commands: str) -> str:
        """Return what the router itself answers, not over SSH: the judge of tests."""
        words = [word for command in commands for word in ("-c", command)]
        return subprocess.run(
            [*_vtysh(self.folder), *words], capture_output=True, text=True, check=False, timeout=30
        ).stdout

    def configure(self, *lines: str) -> None:
        """Change the running configuration behind everybody's back."""
        self.vtysh("configure terminal", *lines)


def missing() -> str:
    """Return why it cannot be started here, or nothing."""
    if not (shutil.which("vtysh") and all((BINARIES / daemon).exists() for daemon in DAEMONS)):
        return "FRR is not installed (package frr)"
    if os.geteuid() != 0:
        return "FRR needs root for a network namespace of its own"
    return sshd.missing()


def _vtysh(folder: Path) -> list[str]:
    return ["vtysh", "--vty_socket", str(folder / "run"), "--config_dir", str(folder / "etc")]


@contextmanager
def running(ssh: Path, *, options: str = "") -> Iterator[Frr]:
    """Start a router with its sshd in the folder `ssh`; `options` are further lines for that sshd.

    The router itself lives in a folder of its own: its daemons run as another user, who may not enter pytest's.
    """
    folder = Path(tempfile.mkdtemp(prefix="frr-"))
    folder.chmod(0o711)
    run, etc = folder / "run", folder / "etc"
    for path in (run, etc):
        path.mkdir()
    (etc / "frr.conf").write_text(CONFIGURATION)
    (etc / "vtysh.conf").write_text("hostname rtr1\nservice integrated-vtysh-config\n")
    for path in (run, etc):
        shutil.chown(path, "frr", "frr")
    steps = [
        "set -e",
        "hostname rtr1",
        "ip link set lo up",
        "ip link add uplink0 type bridge",
        "ip link set uplink0 up",
    ]
    for daemon in DAEMONS:
        steps.append(
            f"{BINARIES / daemon} -d -P 0 --vty_socket {run} -z {run}/zserv.api -i {run}/{daemon}.pid "
            f"-f {etc}/{daemon}.conf --log file:{run}/{daemon}.log" + (" -p 0" if daemon == "bgpd" else "")
        )
        (etc / f"{daemon}.conf").touch()
    try:
        started = subprocess.run(
            ["unshare", "-n", "-u", "sh", "-c", "\n".join(steps)], check=False, capture_output=True, text=True
        )
        if started.returncode:
            raise RuntimeError(
                f"{started.stderr}{started.stdout}" + "".join(log.read_text() for log in run.glob("*.log"))
            )
        for _ in range(100):
            if all((run / f"{daemon}.vty").exists() for daemon in DAEMONS):
                break
            time.sleep(0.05)
        subprocess.run([*_vtysh(folder), "-b"], check=True, capture_output=True)
        command = " ".join(_vtysh(folder))
        with sshd.running(ssh, options=f"ForceCommand {command}\n{options}") as server:
            yield Frr(server, folder)
    finally:
        for path in run.glob("*.pid"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(path.read_text()), signal.SIGKILL)  # they keep nothing, and ask nobody
        shutil.rmtree(folder, ignore_errors=True)
