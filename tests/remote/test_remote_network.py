"""The network CLI against a real router (FRR's vtysh behind sshd): change, proof, ways back, hostile values."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import frr
import pytest
from playing import Played, play

from msp.errors import Misconfigured
from msp.remote import render
from msp.remote.network.part import Network
from msp.remote.network.transport import NetworkDevice, NetworkTransport
from msp.remote.network.work import Line, Look, NetworkWork
from msp.remote.target import Credential, Target
from msp.remote.transport import Output
from msp.secret import Secret

LONG = timedelta(seconds=30)


def lines(*texts: str) -> tuple[Line, ...]:
    return tuple(Line(text, text) for text in texts)


@pytest.fixture
async def transport() -> AsyncIterator[NetworkTransport]:
    opened = NetworkTransport()
    yield opened
    await opened.close()


async def one(transport: NetworkTransport, target: Target, work: NetworkWork, timeout: timedelta = LONG) -> Output:
    async with transport.open(target) as device:
        return await device.perform(work, timeout=timeout)


@pytest.fixture
async def device(transport: NetworkTransport, rtr1: Target) -> AsyncIterator[NetworkDevice]:
    async with transport.open(rtr1) as opened:
        yield opened


def cut(router: frr.Frr, once_there: str) -> None:
    """Cut every connection to the router as soon as a line stands in its configuration."""
    for _ in range(500):
        if once_there in router.vtysh("show running-config"):
            break
        time.sleep(0.02)
    for pid in Path(f"/proc/{router.server.pid}/task/{router.server.pid}/children").read_text().split():
        os.kill(int(pid), signal.SIGKILL)


@pytest.mark.server
class TestRouter:
    """FRR, for real."""

    async def test_show_answers_without_echo_and_prompt_and_without_secrets(self, device: NetworkDevice) -> None:
        output = await device.perform(NetworkWork("1", show=("show running-config",)), timeout=LONG)
        assert output.outcome.ok
        text = output.stdout.decode()
        assert text.startswith("Building configuration...")
        assert text.endswith("end\n")
        assert " neighbor 192.0.2.9 password <removed>\n" in text
        assert "planted-bgp-secret" not in text

    async def test_private_key_from_the_vault_lets_us_in(
        self, transport: NetworkTransport, rtr1: Target, router: frr.Frr
    ) -> None:
        credential = Credential(router.server.user, private_key=Secret(router.server.key_file.read_text()))
        output = await one(transport, replace(rtr1, credential=credential), NetworkWork("1", show=("show version",)))
        assert b"FRRouting" in output.stdout

    async def test_command_that_is_not_known_is_failed_and_named(self, device: NetworkDevice) -> None:
        output = await device.perform(NetworkWork("1", show=("show ip route", "show bogus")), timeout=LONG)
        assert str(output.outcome) == "failed(2)"
        assert "`show bogus`: % Unknown command" in output.outcome.detail
        assert b"198.51.100.0/24" in output.stdout

    @pytest.mark.parametrize(
        ("look", "status"),
        [
            (Look(("show ip route",), "198.51.100.0/24"), 0),
            (Look(("show ip route",), "203.0.113.0/24"), 1),
            (Look(("show ip route",), "203.0.113.0/24", absent=True), 0),
            (Look(("show ip route",), r"^S>\* 198\.51\.100\.0/24 .*blackhole", pattern=True), 0),
            (Look(("show ip route",), r"^S.*203", pattern=True), 1),
        ],
    )
    async def test_what_is_expected_of_an_answer_decides(self, device: NetworkDevice, look: Look, status: int) -> None:
        output = await device.perform(NetworkWork("1", show=look.show, looks=(look,)), timeout=LONG)
        assert output.status == status

    async def test_change_shows_its_difference_keeps_a_version_and_can_be_undone(
        self, device: NetworkDevice, router: frr.Frr
    ) -> None:
        before = router.vtysh("show running-config")
        change = NetworkWork(
            "Step 1",
            config=lines(
                "interface uplink0",
                " description to the new provider",
                " ip address 192.0.2.130/25",
                "ip route 203.0.113.0/24 192.0.2.9",
                "router bgp 64512",
                " neighbor 192.0.2.10 remote-as 64514",
                " address-family ipv4 unicast",
                "  network 203.0.113.0/24",
            ),
        )
        output = await device.perform(change, timeout=LONG)
        assert output.outcome.ok, output.outcome
        said = output.stdout.decode()
        assert "- description to the provider\n+ description to the new provider\n" in said
        assert "+  network 203.0.113.0/24\n" in said
        assert output.configuration is not None
        assert "to the new provider" in output.configuration.text
        assert "planted-bgp-secret" not in output.configuration.text + said + output.stderr.decode()
        assert "203.0.113.0/24" in router.vtysh("show running-config")
        undone = await device.perform(NetworkWork("Step 1", revert=True), timeout=LONG)
        assert undone.outcome.ok, undone.outcome
        assert router.vtysh("show running-config") == before

    async def test_undo_survives_a_new_log_in_and_only_the_same_run_knows_what_was_there(
        self, transport: NetworkTransport, rtr1: Target, router: frr.Frr
    ) -> None:
        assert (
            await one(transport, rtr1, NetworkWork("Step 1", config=lines("ip route 203.0.113.0/24 Null0")))
        ).outcome.ok
        other = NetworkTransport()
        unknown = await one(other, rtr1, NetworkWork("Step 1", revert=True))
        await other.close()
        assert unknown.outcome.kind == "failed"
        assert "not known any more" in unknown.outcome.detail
        assert (await one(transport, rtr1, NetworkWork("Step 1", revert=True))).outcome.ok
        assert "203.0.113.0" not in router.vtysh("show running-config")

    async def test_removed_section_comes_back_with_its_secrets(self, device: NetworkDevice, router: frr.Frr) -> None:
        before = router.vtysh("show running-config")
        gone = await device.perform(NetworkWork("Step 1", config=lines("no router bgp 64512")), timeout=LONG)
        assert gone.outcome.ok
        assert "- neighbor 192.0.2.9 password <removed>" in gone.stdout.decode()
        assert (await device.perform(NetworkWork("Step 1", revert=True), timeout=LONG)).outcome.ok
        assert router.vtysh("show running-config") == before
        assert "planted-bgp-secret" in before

    async def test_rejected_line_is_named_and_the_lines_before_it_are_taken_back(
        self, device: NetworkDevice, router: frr.Frr
    ) -> None:
        before = router.vtysh("show running-config")
        work = NetworkWork(
            "1", config=lines("interface uplink0", " description half", "bogus line", "ip route 1.0.0.0/8 Null0")
        )
        output = await device.perform(work, timeout=LONG)
        assert str(output.outcome) == "failed(2)"
        assert "rejected line 3, `bogus line`: % Unknown command" in output.outcome.detail
        assert "Everything was taken back" in output.outcome.detail
        assert router.vtysh("show running-config") == before

    async def test_verification_that_fails_takes_the_change_back(self, device: NetworkDevice, router: frr.Frr) -> None:
        before = router.vtysh("show running-config")
        look = Look(("show ip route",), "203.0.114.0/24")
        work = NetworkWork("1", config=lines("ip route 203.0.113.0/24 Null0"), looks=(look,), save=True)
        output = await device.perform(work, timeout=LONG)
        assert str(output.outcome) == "failed(1)"
        assert "203.0.114.0/24" in output.outcome.detail
        assert "+ip route 203.0.113.0/24 Null0" in output.stdout.decode()
        assert router.vtysh("show running-config") == before
        assert "203.0.113.0" not in router.stored

    async def test_deadman_proves_the_change_from_a_new_log_in_and_says_who_would_have_taken_it_back(
        self, device: NetworkDevice, router: frr.Frr
    ) -> None:
        look = Look(("show ip route",), r"^S>\* 203\.0\.113\.0/24", pattern=True)
        work = NetworkWork("Step 1", config=lines("ip route 203.0.113.0/24 Null0"), looks=(look,),
                           within=timedelta(seconds=5), deadman=timedelta(seconds=60), save=True)  # fmt: skip
        output = await device.perform(work, timeout=LONG)
        assert output.outcome.ok, output.outcome
        assert "new log-in" in output.outcome.detail
        assert "frr has no timer" in output.outcome.detail
        assert "203.0.113.0/24" in router.stored
        assert (await device.perform(NetworkWork("Step 1", revert=True, save=True), timeout=LONG)).outcome.ok
        assert "203.0.113.0/24" not in router.stored

    @pytest.mark.slow
    async def test_deadman_takes_the_change_back_over_the_old_log_in_when_no_new_one_comes(
        self, transport: NetworkTransport, rtr1: Target, router: frr.Frr
    ) -> None:
        before = router.vtysh("show running-config")
        look = Look(("show ip route",), "203.0.113.0/24")
        work = NetworkWork(
            "1", config=lines("ip route 203.0.113.0/24 Null0"), looks=(look,), deadman=timedelta(seconds=3)
        )
        async with transport.open(rtr1) as device:
            os.kill(router.server.pid, signal.SIGSTOP)  # those who are in stay in, nobody comes in
            try:
                output = await device.perform(work, timeout=LONG)
            finally:
                os.kill(router.server.pid, signal.SIGCONT)
        assert output.outcome.kind == "failed"
        assert "Nobody can log in any more" in output.outcome.detail
        assert "Everything was taken back" in output.outcome.detail
        assert router.vtysh("show running-config") == before

    async def test_save_is_believed_only_when_the_device_says_that_it_is_written(
        self, device: NetworkDevice, router: frr.Frr
    ) -> None:
        etc, gone = router.folder / "etc", router.folder / "gone"
        router.configure("ip route 203.0.113.0/24 Null0")
        try:
            assert (await device.perform(NetworkWork("1", save=True), timeout=LONG)).outcome.ok
            assert "203.0.113.0/24" in router.stored
            etc.rename(gone)
            failed = await device.perform(NetworkWork("1", save=True), timeout=LONG)
            assert failed.outcome.kind == "failed"
            assert "did not confirm" in failed.outcome.detail or "rejected" in failed.outcome.detail
        finally:
            gone.rename(etc)
            router.configure("no ip route 203.0.113.0/24 Null0")

    @pytest.mark.slow
    async def test_two_runs_change_a_device_one_after_the_other(
        self, transport: NetworkTransport, rtr1: Target, router: frr.Frr
    ) -> None:
        async with transport.open(rtr1) as first, transport.open(rtr1) as second:
            slow = NetworkWork("1", config=lines("ip route 203.0.113.0/24 Null0"), within=timedelta(seconds=4),
                               looks=(Look(("show ip route",), "never"),))  # fmt: skip
            held = asyncio.create_task(first.perform(slow, timeout=LONG))
            await asyncio.sleep(1.5)
            quick = NetworkWork("2", config=lines("ip route 203.0.114.0/24 Null0"))
            turned_away = await second.perform(quick, timeout=timedelta(seconds=0.5))
            assert "another run" in turned_away.outcome.detail
            assert turned_away.outcome.kind == "failed"
            waited = await second.perform(quick, timeout=LONG)
            assert (await held).outcome.status == 1
            assert waited.outcome.ok
            assert waited.stdout.count(b"\n+") == 2  # its own line and the header; nothing of the other
        router.configure("no ip route 203.0.114.0/24 Null0")

    async def test_connection_cut_in_a_change_without_deadman_is_in_doubt(
        self, transport: NetworkTransport, rtr1: Target, router: frr.Frr
    ) -> None:
        async with transport.open(rtr1) as device:
            many = lines(*(f"ip route 203.0.113.{n}/32 Null0" for n in range(100)))
            task = asyncio.create_task(device.perform(NetworkWork("1", config=many), timeout=LONG))
            await asyncio.to_thread(cut, router, "203.0.113.5/32")
            output = await task
        assert (output.outcome.kind, output.outcome.in_doubt) == ("lost", True)
        router.configure(*(f"no ip route 203.0.113.{n}/32 Null0" for n in range(100)))

    async def test_connection_cut_in_a_change_with_deadman_is_taken_back_from_a_new_log_in(
        self, transport: NetworkTransport, rtr1: Target, router: frr.Frr
    ) -> None:
        before = router.vtysh("show running-config")
        async with transport.open(rtr1) as device:
            many = lines(*(f"ip route 203.0.113.{n}/32 Null0" for n in range(100)))
            work = NetworkWork("1", config=many, looks=(Look(("show version",), "FRR"),), deadman=timedelta(seconds=20))
            task = asyncio.create_task(device.perform(work, timeout=LONG))
            await asyncio.to_thread(cut, router, "203.0.113.5/32")
            output = await task
        assert output.outcome.kind == "failed"
        assert "before every line was sent. Everything was taken back" in output.outcome.detail
        assert router.vtysh("show running-config") == before


BOUNCE = """\
name: describe
action_class: change
parameters: {text: {type: string}}
limits: {connect: 20s, step: 30s}
steps:
  - name: describe
    probe: {network: {show: show running-config, contains: " description {{ text }}", absent: true}}
    do:
      network:
        config: |
          interface uplink0
           description {{ text }}
    check: {network: {show: show running-config, contains: " description {{ text }}"}}
    undo: {network: {revert: true}}
  - name: something else fails
    changes: false
    do: {network: {show: show version, contains: no such thing}}
"""


async def played(rtr1: Target, text: str, document: str = BOUNCE, **options: Any) -> Played:
    return await play(document, [rtr1], {"text": text}, **options)


@pytest.mark.server
async def test_playbook_probes_does_checks_and_undoes_on_a_router(rtr1: Target, router: frr.Frr) -> None:
    before = router.vtysh("show running-config")
    done = await played(rtr1, "Büro 2, left-hand rack")
    assert done.phases() == ["1 probe ok", "1 do ok", "1 check ok", "2 do failed(1)", "1 undo ok"]
    assert "+ description Büro 2, left-hand rack" in done.of(1, "do").out.data.decode()
    assert router.vtysh("show running-config") == before
    dry = await played(rtr1, "dry", dry_run=True)
    assert "description dry" in dry.of(1, "do").rendered
    assert (await played(rtr1, "to the provider")).phases()[0] == "1 probe skipped"


@pytest.mark.server
def test_msp_run_speaks_with_a_router(router: frr.Frr, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text(router.line)
    command = [sys.executable, "-m", "msp", "run", "frr-config-backup", "--hosts", str(tmp_path / "hosts"), "--json"]
    environment = {**os.environ, "MSP_DATA": str(tmp_path)}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=environment, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(row) for row in done.stdout.splitlines()]
    assert [row["outcome"] for row in rows if row.get("step") == 2] == ["ok"]
    assert "planted-bgp-secret" not in done.stdout + done.stderr


HOSTILE = [
    "x\nno router bgp 64512",
    "x\r\nno router bgp 64512",
    "x\x1a",
    "x\x03no router bgp 64512",
    "x\x15no router bgp 64512",
    "x\x7f\x7f",
    "x\tshow",
    "x\u2028no router bgp 64512",
    "x | include y",
    "x ? y",
    "? ",
    "a  b",
    "trailing ",
    "!",
    "# no comment",
    "; no router bgp 64512",
    "$(reboot) `reboot` && reboot",
    "'quoted' \"double\"",
    "back\\slash",
    "ünï 漢字",
    "x" * 200,
    "x" * 600,
    "exit",
    "{{ 7 * 7 }}",
    "\x1b[A",
]


@pytest.mark.server
@pytest.mark.slow
async def test_hostile_values_arrive_verbatim_or_are_refused_and_never_become_a_command(
    device: NetworkDevice, router: frr.Frr
) -> None:
    part = Network.model_validate({"config": "interface uplink0\n description {{ text }}"})
    before = router.vtysh("show running-config")
    arrived = []
    for number, value in enumerate(HOSTILE):
        try:
            work = part.work(lambda template, v=value: render.text(template, {"text": v}), None, f"Step {number}, do")  # type: ignore[misc]
        except Misconfigured:
            continue
        output = await device.perform(work, timeout=LONG)
        now = router.vtysh("show running-config")
        assert "router bgp 64512" in now, value
        if output.outcome.ok:
            assert f"\n description {value}\n" in now, value
            arrived.append(value)
            router.configure("interface uplink0", "description to the provider")
        assert router.vtysh("show running-config") == before, value
    assert {"x ? y", "; no router bgp 64512", "$(reboot) `reboot` && reboot", "ünï 漢字"} <= set(arrived)
    assert not {value for value in HOSTILE if "\n" in value or "\x1a" in value or "|" in value} & set(arrived)
