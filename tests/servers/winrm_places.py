"""Hosts for tests of WinRM: a peer by each way to log in, with targets that reach it and targets that must not."""

import datetime
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import winrm_peer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from msp.remote.target import Credential, Target
from msp.remote.transport import Output
from msp.remote.winrm.shell import WinRmShell
from msp.remote.winrm.transport import WinRmTransport
from msp.secret import Secret

CREDENTIAL = Credential(winrm_peer.USER, password=Secret(winrm_peer.PASSWORD))


@dataclass
class Certificate:
    """A certificate of its own making, valid for localhost, and its pin."""

    file: Path
    key: Path
    pin: str


def certificate(folder: Path, name: str) -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / f"{name}.pem", folder / f"{name}.key"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return Certificate(*files, f"sha256:{made.fingerprint(hashes.SHA256()).hex()}")


class ByCmd:
    """Runs what has no interpreter of Windows as a `cmd` script, which the peer hands to /bin/sh."""

    def __init__(self, shell: WinRmShell) -> None:
        self._shell = shell

    async def run(self, script: str, **options: Any) -> Output:
        return await self._shell.run(f"#!cmd\n{script}", **options)


class ByCmdTransport(WinRmTransport):
    """WinRM to a peer whose cmd.exe is /bin/sh, for suites that speak sh."""

    @asynccontextmanager
    async def open(self, target: Target, **options: Any) -> AsyncIterator[Any]:
        async with super().open(target, **options) as shell:
            yield ByCmd(shell)


class Places:
    """Peers that are started when they are first asked for, and stopped together."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self._known: dict[tuple[str, bool], winrm_peer.Server] = {}
        self.certificate = certificate(folder, "host")
        self.other = certificate(folder, "other")

    def server(self, fault: str = "", *, tls: bool = False) -> winrm_peer.Server:
        """Return the peer of a kind; the same for all who ask."""
        if (fault, tls) not in self._known:
            self._known[fault, tls] = self.fresh(fault=fault, tls=tls)
        return self._known[fault, tls]

    def fresh(self, *, tls: bool = False, **options: Any) -> winrm_peer.Server:
        """Return a peer of one's own."""
        files = (self.certificate.file, self.certificate.key) if tls else None
        return self._stack.enter_context(winrm_peer.serving(winrm_peer.Peer(self._folder, **options), files))

    def target(self, auth: str = "ntlm", fault: str = "", *, tls: bool = False) -> Target:
        return self.reaching(self.server(fault, tls=tls), auth)

    def reaching(self, server: winrm_peer.Server, auth: str = "ntlm") -> Target:
        return Target(
            "win-1",
            "localhost",
            server.server_port,
            CREDENTIAL,
            (self.certificate.pin,) if server.tls else (),
            transport="winrm",
            platform="windows",
            facts={"winrm_auth": auth, "winrm_scheme": "https" if server.tls else "http"},
        )

    def port_of(self, *, listening: bool) -> int:
        """Return a port that refuses, or one that takes connections and says nothing."""
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        if listening:
            sock.listen(20)
        self._stack.callback(sock.close)
        return int(sock.getsockname()[1])


@contextmanager
def places(folder: Path) -> Iterator[Places]:
    """Yield peers; the accounts file has to be named in NTLM_USER_FILE."""
    with ExitStack() as stack:
        yield Places(folder, stack)
