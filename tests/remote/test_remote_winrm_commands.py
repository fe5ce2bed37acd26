"""The commands around Windows hosts as people type them: a run from a list, an asset with its facts and its pin."""

import subprocess
from pathlib import Path

import pytest
import winrm_peer
from test_run_command import ends, msp
from winrm_places import Places

from msp import db
from msp.assets import host_keys, inventory
from msp.contracts import agreements
from msp.errors import Misconfigured
from msp.flows import reaching
from msp.remote.winrm.access import access
from msp.secret import Secret

pytestmark = pytest.mark.slow  # every command is a process of its own
BOOK = """name: mixed
action_class: read
parameters: {v: string, s: secret}
limits: {connect: 5s, step: 20s}
steps:
  - cmd: echo by cmd
  - powershell: 'printf "%s %s" "{{ v }}" "{{ s }}" | wc -c'
"""


def test_run_from_a_list_tells_each_host_apart(peers: Places, tmp_path: Path) -> None:
    port, pin = peers.server(tls=True).server_port, peers.certificate.pin
    lost, plain = peers.server("drop").server_port, peers.server().server_port
    lines = (
        f"good localhost {port} {winrm_peer.USER} hostkey={pin}",
        f"changed localhost {port} {winrm_peer.USER} hostkey={peers.other.pin}",
        f"unknown localhost {port} {winrm_peer.USER}",
        f"stranger localhost {port} nobody hostkey={pin}",
        f"basic localhost {port} {winrm_peer.USER} auth=basic hostkey={pin}",
        f"sealed localhost {plain} {winrm_peer.USER} scheme=http",
        f"lost localhost {lost} {winrm_peer.USER} scheme=http",
        f"refused localhost {peers.port_of(listening=False)} {winrm_peer.USER} hostkey={pin}",
    )
    (tmp_path / "list").write_text("".join(f"{line} transport=winrm password=env:PW\n" for line in lines))
    (tmp_path / "mixed.yml").write_text(BOOK)
    words = ("run", "mixed.yml", "--hosts", "list", "--json", "--output", "--param", "v=it's; $x", "--param", "s=env:S")
    done = msp(tmp_path, *words, PW=winrm_peer.PASSWORD, S="planted-secret")
    assert {host: end["outcome"] for host, end in ends(done).items()} == {
        "good": "ok",
        "changed": "host_key_changed",
        "unknown": "host_key_unknown",
        "stranger": "auth_failed",
        "basic": "ok",
        "sealed": "ok",
        "lost": "lost",
        "refused": "unreachable",
    }
    assert done.returncode == 3
    assert "planted-secret" not in done.stdout + done.stderr
    assert winrm_peer.PASSWORD not in done.stdout + done.stderr


def test_asset_is_recorded_with_facts_and_pin_and_becomes_a_target(tmp_path: Path) -> None:
    def said(*words: str, status: int = 0) -> "subprocess.CompletedProcess[str]":
        done = msp(tmp_path, *words, MSP_DATA=str(tmp_path / "var"))
        assert done.returncode == status, done.stderr
        return done

    said("init")
    said("client", "add", "alfa", "--name", "Alfa")
    on = ("--client", "alfa")
    said("asset", "add", *on, "win-1", "--transport", "winrm", "--address", "10.0.0.5", "--user", "CORP\\tech",
         "--secret", "win", "--fact", "winrm_auth=kerberos", "--fact", "winrm_host=win-1.corp")  # fmt: skip
    assert f"SHA256:{'ab' * 32}" in said("asset", "pin", *on, "win-1", f"SHA256:{'AB:' * 31}AB").stdout
    said("asset", "pin", *on, "win-1", "sha256:abc", status=2)
    said("asset", "add", *on, "win-2", "--fact", "nonsense", status=2)
    said("asset", "reach", *on, "win-1", "--fact", "winrm_auth=ntlm")

    class Keys:
        def get(self, *_: object, **__: object) -> Secret:
            return Secret("hunter2")

    database = db.use(f"sqlite:///{tmp_path / 'var' / 'msp.db'}")
    with db.begin() as session:
        client = agreements.client_by_key(session, "alfa")
        item = inventory.by_name(session, client.id, "win-1")
        change = host_keys.propose(
            session, item, "SHA256:" + "CD:" * 31 + "CD", reason="The certificate was renewed.", by="anna"
        )
        assert change.public_key == "sha256:" + "cd" * 32
        host_keys.decline(session, item, change.id, by="boris")
    with db.read() as session:
        client = agreements.client_by_key(session, "alfa")
        target = reaching.target_of(session, Keys(), inventory.by_name(session, client.id, "win-1"))
    database.dispose()
    assert (target.platform, target.transport, target.port) == ("windows", "winrm", 5986)
    found = access(target)
    assert (found.auth, found.host, found.pins) == ("ntlm", "win-1.corp", frozenset({"ab" * 32}))


def test_what_is_no_fingerprint_is_refused() -> None:
    for text in ("sha256:abc", "ssh-ed25519", "sha256:" + "g" * 64):
        with pytest.raises(Misconfigured, match="not an OpenSSH public key"):
            inventory.fingerprint(text)
