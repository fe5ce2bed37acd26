"""Warm connections against a real sshd: reused only for the same way, credential and pin, and never when dead."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sshd

from msp.remote.ssh import SshTransport
from msp.remote.target import Credential, Target
from msp.remote.transport import NotAdmitted
from msp.remote.wires import Wires

pytestmark = [pytest.mark.server, pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing())]
SHORT = timedelta(seconds=10)
#: The process of sshd that serves the connection: it tells one connection from another.
SERVED_BY = "echo $PPID"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sshd.Sshd]:
    with sshd.running(tmp_path_factory.mktemp("sshd")) as server:
        yield server


def target_of(server: sshd.Sshd) -> Target:
    return Target(
        "real", "127.0.0.1", server.port, Credential(server.user, key_file=server.key_file), (server.host_key,)
    )


async def served_by(transport: SshTransport, target: Target) -> int:
    async with transport.open(target) as shell:
        return int((await shell.run(SERVED_BY, timeout=SHORT)).stdout)


async def test_second_use_finds_the_connection_warm(server: sshd.Sshd) -> None:
    transport, target = SshTransport(), target_of(server)
    assert await served_by(transport, target) == await served_by(transport, target)
    await transport.close()


async def test_two_uses_at_once_have_a_connection_each(server: sshd.Sshd) -> None:
    transport, target = SshTransport(), target_of(server)
    async with transport.open(target) as one, transport.open(target) as other:
        first, second = [(await shell.run(SERVED_BY, timeout=SHORT)).stdout for shell in (one, other)]
    assert first != second
    assert len(transport.pool) == 2
    await transport.close()


async def test_changed_pin_never_meets_a_warm_connection(server: sshd.Sshd, tmp_path: Path) -> None:
    transport, target = SshTransport(), target_of(server)
    await served_by(transport, target)
    with sshd.running(tmp_path / "other") as other:
        stranger = replace(target, host_keys=(other.host_key,))
        with pytest.raises(NotAdmitted) as caught:
            await served_by(transport, stranger)
    assert caught.value.outcome.kind == "host_key_changed"
    assert len(transport.pool) == 0  # the old one was closed on the way
    await transport.close()


async def test_another_credential_never_meets_a_warm_connection(server: sshd.Sshd, tmp_path: Path) -> None:
    transport, target = SshTransport(), target_of(server)
    await served_by(transport, target)
    (tmp_path / "copy").write_bytes(server.key_file.read_bytes())
    (tmp_path / "copy").chmod(0o600)
    with_copy = replace(target, credential=Credential(server.user, key_file=tmp_path / "copy"))
    first = await served_by(transport, with_copy)
    assert await served_by(transport, with_copy) == first
    await transport.close()


async def test_connection_that_died_idle_is_opened_anew_and_the_command_runs_once(server: sshd.Sshd) -> None:
    transport, target = SshTransport(), target_of(server)
    os.kill(await served_by(transport, target), signal.SIGKILL)
    assert await served_by(transport, target) > 0
    await transport.close()


async def test_connection_frozen_while_idle_is_given_up_before_anything_is_sent(
    server: sshd.Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("msp.remote.ssh.shell.STALE", 0.5)
    transport, target = SshTransport(), target_of(server)
    frozen = await served_by(transport, target)
    os.kill(frozen, signal.SIGSTOP)
    try:
        async with transport.open(target) as shell:
            output = await shell.run(f"echo once >> {tmp_path}/effect", timeout=SHORT)
    finally:
        os.kill(frozen, signal.SIGCONT)
    assert output.outcome.ok
    await asyncio.sleep(0.3)
    assert (tmp_path / "effect").read_text() == "once\n"
    await transport.close()


async def test_unused_connections_are_closed_after_a_while_and_beyond_the_limit(server: sshd.Sshd) -> None:
    transport, target = SshTransport(idle=0.3, most_idle=1), target_of(server)
    async with transport.open(target), transport.open(target):
        pass
    assert len(transport.pool) == 1
    await asyncio.sleep(0.5)
    assert len(transport.pool) == 0
    await transport.close()


async def test_connection_with_a_command_that_hung_is_not_used_again(server: sshd.Sshd) -> None:
    transport, target = SshTransport(), target_of(server)
    async with transport.open(target) as shell:
        assert (await shell.run("sleep 20", timeout=timedelta(seconds=0.3))).outcome.kind == "timeout"
    assert len(transport.pool) == 0
    await transport.close()


async def test_close_ends_connections_in_use(server: sshd.Sshd) -> None:
    transport, target = SshTransport(), target_of(server)
    async with transport.open(target) as shell:
        running = asyncio.create_task(shell.run("sleep 20", timeout=timedelta(seconds=30)))
        await asyncio.sleep(0.3)
        await transport.close()
        assert (await asyncio.wait_for(running, 5)).outcome.kind == "lost"


def test_runs_of_one_process_share_warm_connections(server: sshd.Sshd) -> None:
    wires, target = Wires(), target_of(server)

    async def one_run() -> int:
        transport = wires.transport("ssh")
        assert isinstance(transport, SshTransport)
        return await served_by(transport, target)

    try:
        assert wires.run(one_run()) == wires.run(one_run())
    finally:
        wires.close()
    assert wires.run(one_run()) > 0  # works again after it was closed
    wires.close()


@pytest.mark.slow
async def test_warm_step_costs_a_fraction_of_a_login(server: sshd.Sshd) -> None:
    """The figures stand in the reference; here only the order of magnitude is promised."""
    transport, target = SshTransport(), target_of(server)

    async def many(count: int) -> float:
        began = time.process_time()
        for _ in range(count):
            await served_by(transport, target)
        return (time.process_time() - began) / count

    await many(3)
    warm = await many(30)
    await transport.close()
    cold_transport = SshTransport(most_idle=0)
    began = time.process_time()
    for _ in range(10):
        await served_by(cold_transport, target)
    cold = (time.process_time() - began) / 10
    await cold_transport.close()
    assert warm < cold / 2, f"warm {warm * 1000:.2f} ms, cold {cold * 1000:.2f} ms"
