"""A private Kerberos realm on loopback: a key distribution centre in a folder, on a free port, gone afterwards."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
REALM = "MSP.TEST"


@dataclass(frozen=True)
class Realm:
    """Set `environment` in the process that logs in or serves."""

    user: str  # with realm
    service: str  # name of the host in the service's principal
    environment: dict[str, str]


def missing() -> str:
    """Return why it cannot be started here, or nothing."""
    try:
        import gssapi  # noqa: F401
        import krb5  # noqa: F401
    except ImportError:
        return "gssapi and krb5 are not installed (extra kerberos)"
    absent = [name for name in ("krb5kdc", "kdb5_util", "kadmin.local") if not shutil.which(name, path=PATH)]
    return f"{', '.join(absent)} not installed (packages krb5-kdc, krb5-admin-server)" if absent else ""


@contextmanager
def running(folder: Path, user: str, password: str, service: str = "localhost") -> Iterator[Realm]:
    """Start a realm with one person and the service HTTP/`service`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "krb5.conf").write_text(
        f"[libdefaults]\ndefault_realm = {REALM}\ndns_lookup_realm = false\ndns_lookup_kdc = false\nrdns = false\n"
        f"dns_canonicalize_hostname = false\nudp_preference_limit = 1\n"
        f"[realms]\n{REALM} = {{\nkdc = 127.0.0.1:{port}\n}}\n[domain_realm]\nlocalhost = {REALM}\n"
    )
    (folder / "kdc.conf").write_text(
        f"[kdcdefaults]\nkdc_listen = 127.0.0.1:{port}\nkdc_tcp_listen = 127.0.0.1:{port}\n"
        f"[realms]\n{REALM} = {{\ndatabase_name = {folder}/principal\nkey_stash_file = {folder}/stash\n"
        f"acl_file = {folder}/acl\nsupported_enctypes = aes256-cts:normal\n}}\n"
    )
    environment = {
        "KRB5_CONFIG": str(folder / "krb5.conf"),
        "KRB5_KDC_PROFILE": str(folder / "kdc.conf"),
        "KRB5_KTNAME": str(folder / "keytab"),
        "KRB5CCNAME": f"FILE:{folder / 'cache'}",
        "KRB5RCACHENAME": "none:",
    }
    everything = os.environ | environment | {"PATH": PATH}

    def run(*command: str) -> None:
        subprocess.run(command, env=everything, check=True, capture_output=True)

    run("kdb5_util", "create", "-s", "-r", REALM, "-P", "master")
    run("kadmin.local", "-r", REALM, "addprinc", "-pw", password, user)
    run("kadmin.local", "-r", REALM, "addprinc", "-randkey", f"HTTP/{service}")
    run("kadmin.local", "-r", REALM, "ktadd", "-k", str(folder / "keytab"), f"HTTP/{service}")
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(["krb5kdc", "-n", "-r", REALM], env=everything, stdout=log, stderr=log)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if server.poll() is not None:
                raise RuntimeError((folder / "log").read_text())
            time.sleep(0.05)
        yield Realm(f"{user}@{REALM}", service, environment)
    finally:
        server.terminate()
        server.wait(10)
