"""The commands around SSH, as people type them: an authority, the way to an item, a run with certificates."""

import json
import subprocess
from pathlib import Path

import pytest
import sshd
from test_run_command import ECHO, ends, msp

pytestmark = [
    pytest.mark.slow,  # every command is a process of its own
    pytest.mark.server,
    pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing()),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ca")
    assert msp(folder, "init", MSP_DATA=str(folder / "var")).returncode == 0
    (folder / "echo.yml").write_text(ECHO)
    return folder


def said(folder: Path, *words: str, status: int = 0) -> "subprocess.CompletedProcess[str]":
    done = msp(folder, *words, MSP_DATA=str(folder / "var"))
    assert done.returncode == status, done.stderr
    return done


def test_run_by_certificate_from_the_making_of_the_authority_to_its_end(folder: Path) -> None:
    public_key = said(folder, "ca", "create", "--source-address", "127.0.0.0/8").stdout.strip()
    said(folder, "ca", "create", status=1)  # there is one
    (folder / "ca.pub").write_text(public_key + "\n")
    said(folder, "ca", "krl", "--output", "krl")
    options = f"TrustedUserCAKeys {folder}/ca.pub\nRevokedKeys {folder}/krl\nLogLevel INFO"
    with sshd.running(folder / "sshd", options=options) as server:
        (folder / "list").write_text(
            f'real 127.0.0.1 {server.port} {server.user} credential=ca hostkey="{server.host_key}"\n'
        )
        assert ends(said(folder, "run", "echo.yml", "--hosts", "list", "--json"))["real"]["outcome"] == "ok"
        shown = [json.loads(line) for line in said(folder, "ca", "show", "--json").stdout.splitlines()]
        assert shown[0]["public_key"] == public_key
        assert (shown[1]["serial"], shown[1]["run"], shown[1]["state"]) == (1, 1, "valid")
        assert f"ID {shown[1]['key_id']} (serial 1)" in (server.folder / "log").read_text()
        said(folder, "ca", "revoke", "--run", "1", "--reason", "a test")
        said(folder, "ca", "revoke", "--authority", "1")
        said(folder, "ca", "krl", "--output", "krl")
        done = said(folder, "run", "echo.yml", "--hosts", "list", "--json", status=1)
        assert ends(done)["real"]["outcome"] == "auth_failed"
    assert "private" not in said(folder, "evidence", "verify").stdout.lower()


def test_way_to_an_item_is_changed_and_shown(folder: Path) -> None:
    said(folder, "client", "add", "alfa", "--name", "Alfa")
    for name in ("edge", "web"):
        done = msp(folder, "asset", "add", "--client", "alfa", name, "--address", name, MSP_DATA=str(folder / "var"))
        if done.returncode:
            pytest.fail(done.stderr)
    changed = said(folder, "asset", "reach", "--client", "alfa", "web", "--via", "edge", "--credential", "ca")
    assert "edge - web" in changed.stdout
    assert (
        "never arrives" in said(folder, "asset", "reach", "--client", "alfa", "edge", "--via", "web", status=2).stderr
    )
    allowed = said(folder, "asset", "old-algorithms", "--client", "alfa", "web", "--allow", "ssh-rsa",
                   "--until", "2099-01-01", "--reason", "renewal")  # fmt: skip
    assert "ssh-rsa until 2099-01-01" in allowed.stdout
    said(folder, "asset", "old-algorithms", "--client", "alfa", "web", "--withdraw")


def test_list_that_asks_for_certificates_without_an_installation_is_explained(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("a 127.0.0.1 22 root credential=ca\n")
    (tmp_path / "echo.yml").write_text(ECHO)
    done = msp(tmp_path, "run", "echo.yml", "--hosts", "list")
    assert done.returncode == 2
    assert "msp ca create" in done.stderr
