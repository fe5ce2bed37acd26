"""What the network CLI makes of faults: what applies of the conformance of transports, on a recorded device."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sshd
from conformance import elsewhere
from replay import MUCH, Replay
from ssh_faults import FaultFleet
from standing import no_secret

from msp.errors import Refused, Unreachable
from msp.remote.inventory import read_hosts
from msp.remote.network.transport import NetworkTransport
from msp.remote.network.work import Line, Look, NetworkWork
from msp.remote.target import Credential, Target
from msp.remote.transport import CannotOpen, NotAdmitted, Output
from msp.secret import Secret

LONG = timedelta(seconds=30)


def of_replay(device: Replay, **changes: Any) -> Target:
    recording = device.recording
    credential = Credential(recording["user"], password=Secret(recording["password"]))
    target = Target("sw1", "127.0.0.1", device.port, credential, (device.host_key,), transport="network",
                    platform=recording["platform"], kind="network")  # fmt: skip
    return replace(target, **changes)


@pytest.fixture(scope="module")
def recorded() -> Iterator[Replay]:
    with Replay("cisco_ios", prompt="SW-ACC-01#") as device:
        yield device


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Target]]:
    folder = tmp_path_factory.mktemp("faults")
    with FaultFleet(folder, ["refuse", "silent", "slam"]) as fleet:
        found = read_hosts(fleet.write_list(folder / "hosts"), secret=no_secret)
        yield {fleet.kind_of[one.name]: replace(one, transport="network", platform="frr") for one in found}


@pytest.fixture
async def transport() -> AsyncIterator[NetworkTransport]:
    opened = NetworkTransport()
    yield opened
    await opened.close()


async def one(transport: NetworkTransport, target: Target, work: NetworkWork, timeout: timedelta = LONG) -> Output:
    async with transport.open(target) as device:
        return await device.perform(work, timeout=timeout)


async def test_password_lets_us_in_and_the_pager_is_answered(transport: NetworkTransport, recorded: Replay) -> None:
    async with transport.open(of_replay(recorded)) as device:
        output = await device.perform(NetworkWork("1", show=("show version",)), timeout=LONG)
    assert output.outcome.ok, output.outcome
    assert output.stdout.startswith(b"Cisco IOS Software")
    assert output.stdout.endswith(b"24 Gigabit Ethernet interfaces\n")


async def test_wrong_password_is_told(transport: NetworkTransport, recorded: Replay) -> None:
    stranger = of_replay(recorded, credential=Credential("netops", password=Secret("wrong-Passw0rd")))
    with pytest.raises(NotAdmitted) as caught:
        async with transport.open(stranger):
            pass
    assert caught.value.outcome.kind == "auth_failed"
    assert "wrong-Passw0rd" not in str(caught.value.outcome.detail)


async def test_another_key_than_the_pinned_one_is_refused(
    transport: NetworkTransport, recorded: Replay, faults: dict[str, Target]
) -> None:
    with pytest.raises(Refused, match="host key") as caught:
        async with transport.open(of_replay(recorded, host_keys=faults["silent"].host_keys)):
            pass
    assert isinstance(caught.value, NotAdmitted)
    assert caught.value.outcome.kind == "host_key_changed"


async def test_key_of_another_type_than_the_pinned_one_is_refused(
    transport: NetworkTransport, recorded: Replay, tmp_path: Path
) -> None:
    subprocess.run(  # noqa: ASYNC221
        ["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", str(tmp_path / "rsa")], check=True
    )
    rsa = " ".join((tmp_path / "rsa.pub").read_text().split()[:2])
    with pytest.raises(NotAdmitted) as caught:
        async with transport.open(of_replay(recorded, host_keys=(rsa,))):
            pass
    assert caught.value.outcome.kind == "host_key_changed"


async def test_key_that_nobody_pinned_is_refused_and_shown(transport: NetworkTransport, recorded: Replay) -> None:
    with pytest.raises(NotAdmitted) as caught:
        async with transport.open(of_replay(recorded, host_keys=())):
            pass
    assert caught.value.outcome.kind == "host_key_unknown"
    assert "SHA256:" in caught.value.what


@pytest.mark.parametrize("reason", ["refused", "banner", "dns"])
async def test_unreachable_tells_why_and_in_time(
    transport: NetworkTransport, faults: dict[str, Target], reason: str
) -> None:
    nameless = elsewhere(faults["silent"], address="no-such-host.invalid")
    target = {"refused": faults["refuse"], "banner": faults["silent"], "dns": nameless}[reason]
    began = time.monotonic()
    with pytest.raises(Unreachable) as caught:
        async with transport.open(target, timeout=timedelta(seconds=3)):
            pass
    assert isinstance(caught.value, CannotOpen)
    assert str(caught.value.outcome) == f"unreachable({reason})"
    assert time.monotonic() - began < 8


async def test_device_that_hangs_up_before_its_banner_is_unreachable(
    transport: NetworkTransport, faults: dict[str, Target]
) -> None:
    with pytest.raises(CannotOpen) as caught:
        async with transport.open(faults["slam"]):
            pass
    assert str(caught.value.outcome) == "unreachable(banner)"


async def test_platform_that_is_not_spoken_here_is_told_before_anything_is_sent(
    transport: NetworkTransport, faults: dict[str, Target]
) -> None:
    with pytest.raises(NotAdmitted, match="platform toaster"):
        async with transport.open(replace(faults["refuse"], platform="toaster")):
            pass


async def test_deadline_ends_a_hanging_command_keeps_its_lines_and_the_device_can_be_asked_again(
    transport: NetworkTransport, recorded: Replay
) -> None:
    async with transport.open(of_replay(recorded)) as device:
        began = time.monotonic()
        work = NetworkWork("1", show=("show hang",))
        output = await device.perform(work, timeout=timedelta(seconds=1.5))
        assert (output.outcome.kind, output.outcome.in_doubt) == ("timeout", True)
        assert time.monotonic() - began < 4
        assert output.stdout == b"one line\n"
        again = await device.perform(NetworkWork("2", show=("show vlan brief",)), timeout=LONG)
    assert b"OFFICE" in again.stdout


async def test_lost_connection_is_in_doubt_and_keeps_what_was_said(
    transport: NetworkTransport, recorded: Replay
) -> None:
    output = await one(transport, of_replay(recorded), NetworkWork("1", show=("show cut",)))
    assert (output.outcome.kind, output.outcome.in_doubt, output.status) == ("lost", True, None)
    assert output.stdout == b"one line\n"


async def test_cancelling_kills_the_process(transport: NetworkTransport, recorded: Replay) -> None:
    async with transport.open(of_replay(recorded)) as device:
        process: Any = device._process
        task = asyncio.create_task(device.perform(NetworkWork("1", show=("show hang",)), timeout=LONG))
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert process._process.returncode == -signal.SIGKILL


async def test_process_that_dies_leaves_an_unknown_end(transport: NetworkTransport, recorded: Replay) -> None:
    async with transport.open(of_replay(recorded)) as device:
        process: Any = device._process
        task = asyncio.create_task(device.perform(NetworkWork("1", show=("show hang",)), timeout=LONG))
        await asyncio.sleep(0.5)
        os.kill(process._process.pid, signal.SIGKILL)
        assert (await task).outcome.kind == "lost"


async def test_invalid_utf8_arrives_as_bytes_and_escapes_steer_nothing(
    transport: NetworkTransport, recorded: Replay
) -> None:
    output = await one(transport, of_replay(recorded), NetworkWork("1", show=("show garbage",)))
    assert output.outcome.ok
    assert output.stdout == b"caf\xe9 red \xff\xfe\n"


@pytest.mark.slow
async def test_fifty_megabytes_are_counted_and_both_ends_kept(transport: NetworkTransport, recorded: Replay) -> None:
    output = await one(transport, of_replay(recorded), NetworkWork("1", show=("show much",)), timedelta(seconds=120))
    assert output.outcome.ok
    assert output.out.size == MUCH + 4
    assert output.out.tail.endswith(b"xEND\n") or output.out.tail.endswith(b"\nEND\n")


async def test_work_of_another_kind_is_refused(transport: NetworkTransport, recorded: Replay) -> None:
    class Click:
        text = "click"

    async with transport.open(of_replay(recorded)) as device:
        output = await device.perform(Click(), timeout=LONG)
    assert output.outcome.kind == "failed"


@pytest.mark.parametrize("key_type", ["ssh-rsa", "ecdsa-sha2-nistp256"])
async def test_pinned_key_of_any_type_lets_us_in(transport: NetworkTransport, key_type: str) -> None:
    with Replay("cisco_ios", key_type=key_type, prompt="SW-ACC-01#") as device:
        output = await one(transport, of_replay(device), NetworkWork("1", show=("show version",)))
    assert output.outcome.ok


@pytest.fixture(scope="module")
def bastion(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    if sshd.missing():
        pytest.skip(sshd.missing())
    with sshd.running(tmp_path_factory.mktemp("bastion")) as server:
        key = Secret(server.key_file.read_text())
        yield Target("jump", "127.0.0.1", server.port, Credential(server.user, private_key=key), (server.host_key,))


@pytest.mark.server
async def test_device_behind_a_bastion_is_reached_and_proven_from_a_new_log_in(
    transport: NetworkTransport, bastion: Target
) -> None:
    with Replay("cisco_ios", prompt="SW-ACC-01#") as device:
        lines = (Line(text, text) for text in ("interface GigabitEthernet1/0/7", "description Printer, 2nd floor"))
        work = NetworkWork("1", config=tuple(lines), looks=(Look(("show vlan brief",), "OFFICE"),),
                           deadman=timedelta(minutes=5))  # fmt: skip
        output = await one(transport, of_replay(device, via=(bastion,)), work)
        assert output.outcome.ok, output.outcome
        assert device.asked.count("terminal length 0") == 2
        nowhere = of_replay(device, via=(bastion,), port=1)
        with pytest.raises(CannotOpen) as caught:
            async with transport.open(nowhere):
                pass
    assert str(caught.value.outcome) == "unreachable(refused)"
