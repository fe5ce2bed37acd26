"""Playbooks on Windows hosts over WinRM: kinds, values, secrets, what is refused, what is found again after a crash."""

import asyncio
import hashlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import winrm_peer
from playing import Played, play
from test_remote_injection import HOSTILE
from winrm_places import Places

from msp.remote.ledger import MemoryLedger
from msp.remote.target import Target
from msp.remote.winrm import bootstrap
from msp.remote.winrm.transport import WinRmTransport

HEAD = "name: t\naction_class: change\nlimits: {connect: 5s, step: 20s}\n"


@pytest.fixture
def server(peers: Places) -> winrm_peer.Server:
    return peers.fresh()


@pytest.fixture
def target(peers: Places, server: winrm_peer.Server) -> Target:
    return peers.reaching(server)


async def done(target: Target, steps: str, parameters: dict[str, Any] | None = None, **options: Any) -> Played:
    return await play(HEAD + steps, [target], parameters or {}, **options)


async def test_step_is_probed_done_checked_and_undone_by_either_kind(target: Target, tmp_path: Path) -> None:
    steps = (
        "parameters: {file: string}\nsteps:\n"
        '- {name: a, probe: {cmd: "[ ! -e {{ file }} ]"}, do: {cmd: "echo 1 > {{ file }}"},'
        " check: {powershell: 'test -s \"{{ file }}\"'}, undo: {powershell: 'rm \"{{ file }}\"'}}\n"
        "- {name: b, do: {cmd: exit 7}, check: {cmd: 'true'}, when: file != 'x'}\n"
    )
    file = tmp_path / "file"
    played = await done(target, steps, {"file": str(file)})
    assert played.phases() == ["1 probe ok", "1 do ok", "1 check ok", "2 do failed(7)", "1 undo ok"]
    assert not file.exists()
    file.touch()
    assert (await done(target, steps, {"file": str(file)})).phases()[0] == "1 probe skipped"


async def test_hostile_values_and_secrets_arrive_verbatim(
    target: Target, server: winrm_peer.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = (
        "parameters: {v: string, s: secret}\nsteps:\n"
        """- {powershell: 'printf "%s|%s|" "{{ v }}" "{{ s }}"', changes: false}\n"""
    )
    for number, value in enumerate([*HOSTILE, "\u2019; exit 9 #", "--%"]):
        if value == "":
            continue
        monkeypatch.setenv("HOSTILE", secret := f"{number}-secret-{value}")
        played = await done(target, steps, {"v": value, "s": "env:HOSTILE"})
        assert played.outcome.ok, value
        out = played.of(1, "do").out
        assert out.sha256 == hashlib.sha256(f"{value}|{secret}|".encode()).hexdigest(), value
        assert secret.encode() not in out.data
        assert secret not in played.of(1, "do").rendered
    assert "secret" not in " ".join(server.peer.lines)
    assert len(set(server.peer.lines)) == 1  # one command line for all of them


@pytest.mark.parametrize(
    "step",
    [
        "shell: echo x",
        "file: {path: /x, content: y}",
        "service: {name: x, state: started}",
        "package: {name: x}",
        "wait_for: {port: 80}",
        "http: http://127.0.0.1/",
    ],
)
async def test_kinds_made_of_sh_are_refused_on_windows_before_anything_is_sent(
    target: Target, server: winrm_peer.Server, step: str
) -> None:
    check = ", check: 'true'" if step.startswith("shell") else ""
    played = await done(target, f"steps: [{{do: {{{step}}}{check}}}]")
    assert played.outcome.kind == "failed"
    assert "win-1 is a Windows host" in played.outcome.detail
    assert "Use powershell or cmd" in played.outcome.detail
    assert server.peer.lines == []


async def test_scripts_for_windows_are_refused_elsewhere() -> None:
    for kind in ("powershell", "cmd"):
        played = await play(HEAD + f"steps: [{{{kind}: exit 0, changes: false}}]")
        assert "are for Windows, and here is a linux host" in played.outcome.detail


async def test_standard_error_of_powershell_is_told_as_text(target: Target) -> None:
    played = await done(target, "steps: [{powershell: 'echo \"no <such> thing\" >&2; exit 3', changes: false}]")
    assert str(played.outcome) == "failed(3)"
    assert played.of(1, "do").err.data == b"no <such> thing\n"


async def test_dry_run_sends_probes_only(target: Target, server: winrm_peer.Server) -> None:
    steps = "steps: [{probe: {cmd: exit 0}, do: {cmd: echo no}, check: {cmd: exit 0}}]"
    assert (await done(target, steps, dry_run=True)).phases() == ["1 probe ok", "1 do skipped"]
    assert len(server.peer.lines) == 1


async def test_command_is_found_again_by_its_token(target: Target, server: winrm_peer.Server) -> None:
    async with WinRmTransport().open(target) as shell, WinRmTransport().open(target) as other:
        script = bootstrap.head("cmd", "run-7") + "sleep 30"
        task = asyncio.create_task(shell.run(script, timeout=timedelta(seconds=40)))
        await asyncio.sleep(0.4)
        question = timedelta(seconds=5)
        assert (await other.run(bootstrap.ALIVE % "run-7", timeout=question)).status == 0
        assert (await other.run(bootstrap.ALIVE % "run", timeout=question)).status == 1
        task.cancel()
        await asyncio.wait([task])
        assert (await other.run(bootstrap.ALIVE % "run-7", timeout=question)).status == 1
    assert sum(line.startswith("set MSP_STEP=run-7& powershell.exe ") for line in server.peer.lines) == 1
    await done(target, "steps: [{cmd: exit 0, check: {cmd: exit 0}}]", ledger=MemoryLedger(mark="run"))
    assert [line.startswith("set MSP_STEP=") for line in server.peer.lines[-2:]] == [True, False]
