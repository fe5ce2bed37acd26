"""`msp run` on a screen: a list that names it, pictures as files, their digests in the JSON lines."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import sshd
import vnc
from test_run_command import msp

pytestmark = [
    pytest.mark.server,
    pytest.mark.slow,
    pytest.mark.skipif(bool(vnc.missing(vnc.READER)), reason=vnc.missing(vnc.READER)),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[vnc.Screen]:
    with vnc.tigervnc(tmp_path_factory.mktemp("vnc")) as running:
        yield running


def test_pictures_come_as_files_that_are_what_the_lines_say(server: vnc.Screen, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text(f"till/1 127.0.0.1 {server.port} transport=vnc password=env:VNC_PASSWORD\n")
    server.terminal("echo 'till-1 login:'; sleep 60")
    done = msp(tmp_path, "run", "login-screen-check", "--hosts", "hosts", "--json", "--pictures", "seen",
               VNC_PASSWORD=vnc.PASSWORD)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    told = {shot["sha256"] for line in lines for shot in line.get("pictures", ())}
    files = sorted((tmp_path / "seen").iterdir())
    assert [file.name for file in files] == ["till_1-step1-do-1-screen.png", "till_1-step2-do-1-seen.png"]
    assert {hashlib.sha256(file.read_bytes()).hexdigest() for file in files} == told
    assert vnc.PASSWORD not in done.stdout + done.stderr


@pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing())
def test_screen_is_reached_through_a_host_of_the_list(server: vnc.Screen, tmp_path: Path) -> None:
    with sshd.running(tmp_path / "sshd") as bastion:
        (tmp_path / "hosts").write_text(
            f"till 127.0.0.1 {server.port} transport=vnc password=env:VNC_PASSWORD via=door\n"
            f"door 127.0.0.1 {bastion.port} {bastion.user} key={bastion.key_file} hostkey='{bastion.host_key}' run=no\n"
        )
        done = msp(tmp_path, "run", "screen-capture", "--hosts", "hosts", "--json", VNC_PASSWORD=vnc.PASSWORD)
    assert done.returncode == 0, done.stdout + done.stderr


def test_screen_reached_by_another_way_or_a_playbook_for_shells_is_told(server: vnc.Screen, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text(
        f"far 192.0.2.1 transport=vnc\nwrong 127.0.0.1 {server.port} transport=vnc password=env:VNC_PASSWORD\n"
    )
    done = msp(tmp_path, "run", "screen-capture", "--hosts", "hosts", "--json", VNC_PASSWORD="wrong")
    ends = {line["host"]: line for line in map(json.loads, done.stdout.splitlines()) if line["phase"] == "host"}
    assert ends["far"]["outcome"] == "refused"
    assert "unencrypted" in ends["far"]["detail"]
    assert ends["wrong"]["outcome"] == "auth_failed"
    shell = msp(tmp_path, "run", "disk-usage-report", "--hosts", "hosts", "--limit", "wrong", "--json",
                VNC_PASSWORD=vnc.PASSWORD)  # fmt: skip
    (end,) = (line for line in map(json.loads, shell.stdout.splitlines()) if line["phase"] == "host")
    assert end["outcome"] == "failed"
    assert "runs no scripts" in end["detail"]
