"""The channel of one command: against real servers with every cipher, servers that break the protocol, and alone."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncssh
import pytest
import sshd
from asyncssh.constants import (
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EOF,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_OPEN,
    MSG_CHANNEL_OPEN_CONFIRMATION,
    MSG_CHANNEL_REQUEST,
    MSG_CHANNEL_WINDOW_ADJUST,
)
from asyncssh.packet import SSHPacket, String, UInt32
from hypothesis import given
from hypothesis import strategies as st
from tcp_faults import Relay

from msp.remote.ssh import SshTransport, options
from msp.remote.ssh.channel import HIGH, PACKET, WINDOW, ExecChannel
from msp.remote.target import Credential, Target
from msp.remote.transport import Output

SHORT = timedelta(seconds=20)


def target_of(server: sshd.Sshd, port: int = 0) -> Target:
    credential = Credential(server.user, key_file=server.key_file)
    return Target("real", "127.0.0.1", port or server.port, credential, (server.host_key,))


async def told(target: Target, script: str, stdin: bytes = b"", timeout: timedelta = SHORT) -> Output:
    transport = SshTransport()
    try:
        async with transport.open(target) as shell:
            return await shell.run(script, stdin=stdin, timeout=timeout)
    finally:
        await transport.close()


CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes256-ctr")


@pytest.mark.server
@pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing())
@pytest.mark.parametrize("cipher", CIPHERS)
async def test_command_arrives_whole_both_ways_with_every_cipher_and_through_new_keys(
    cipher: str, tmp_path: Path
) -> None:
    sent = bytes(range(256)) * 4096  # a megabyte; new keys after each quarter of one
    script = "cat > there; cat there there there there; sha256sum < there >&2; rm there; exit 3"
    with sshd.running(tmp_path / "sshd", options=f"Ciphers {cipher}\nRekeyLimit 256K") as server:
        output = await told(target_of(server), f"cd {tmp_path} && {script}", sent)
    assert (output.outcome.kind, output.status) == ("failed", 3)
    assert (output.out.size, output.out.sha256) == (4 * len(sent), hashlib.sha256(sent * 4).hexdigest())
    assert output.stderr.split() == [hashlib.sha256(sent).hexdigest().encode(), b"-"]


@pytest.mark.server
@pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing())
async def test_commands_of_one_connection_do_not_mix(tmp_path: Path) -> None:
    with sshd.running(tmp_path / "sshd") as server:
        transport = SshTransport()
        async with transport.open(target_of(server)) as shell:

            async def one(number: int) -> Output:
                script = f"cat; for i in 1 2 3 4 5; do echo {number}; echo {number} >&2; done; exit {number}"
                return await shell.run(script, stdin=b"%d\n" % number * 1000, timeout=SHORT)

            outputs = await asyncio.gather(*(one(number) for number in range(40)))
        await transport.close()
    for number, output in enumerate(outputs):
        assert output.status == number
        assert output.stdout == b"%d\n" % number * 1005
        assert output.stderr == b"%d\n" % number * 5


@pytest.mark.server
@pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing())
async def test_host_that_bears_one_session_runs_one_command_after_the_other(tmp_path: Path) -> None:
    with sshd.running(tmp_path / "sshd", options="MaxSessions 1") as server:
        transport = SshTransport()
        for number in range(4):  # over the same connection, given back in between
            async with transport.open(target_of(server)) as shell:
                outputs = [await shell.run(f"echo {number} {turn}", timeout=SHORT) for turn in range(5)]
                assert [output.stdout for output in outputs] == [b"%d %d\n" % (number, turn) for turn in range(5)]
        assert len(transport.pool) == 1
        await transport.close()


@pytest.mark.server
@pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing())
async def test_host_that_falls_silent_is_missed_after_the_keepalives_and_one_that_talks_is_asked_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    callback = asyncssh.SSHClientConnection._keepalive_timer_callback

    def ring(connection: Any) -> None:
        asked.append(1)
        callback(connection)

    monkeypatch.setattr(asyncssh.SSHClientConnection, "_keepalive_timer_callback", ring)
    monkeypatch.setattr(options, "KEEPALIVE", 0.4)
    with sshd.running(tmp_path / "sshd") as server, Relay(server.port) as relay:
        transport = SshTransport()
        async with transport.open(target_of(server, relay.port)) as shell:
            talk = "for i in 1 2 3 4 5 6 7 8 9 10; do echo $i; sleep 0.1; done"
            assert (await shell.run(talk, timeout=SHORT)).outcome.ok
            assert not asked
            await asyncio.sleep(1)
            assert 1 <= len(asked) <= 3
            assert (await shell.run("echo on", timeout=SHORT)).stdout == b"on\n"  # they were answered
            running = asyncio.create_task(shell.run("sleep 20", timeout=SHORT))
            await asyncio.sleep(0.3)
            relay.freeze()
            assert (await asyncio.wait_for(running, 5)).outcome.kind == "lost"
        await transport.close()


@pytest.mark.server
@pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing())
async def test_packet_that_was_changed_on_the_way_ends_the_connection_and_is_never_taken(tmp_path: Path) -> None:
    with sshd.running(tmp_path / "sshd") as server, Relay(server.port) as relay:
        transport = SshTransport()
        async with transport.open(target_of(server, relay.port)) as shell:
            assert (await shell.run("echo whole", timeout=SHORT)).stdout == b"whole\n"
            relay.spoil()
            output = await shell.run("echo changed", timeout=SHORT)
        assert not output.outcome.ok
        assert output.outcome.kind in ("lost", "unreachable")
        assert output.stdout == b""
        assert len(transport.pool) == 0
        await transport.close()


class _Odd(asyncssh.SSHServerSession[bytes]):
    def __init__(self, act: Callable[[Any], None]) -> None:
        self._act = act

    def connection_made(self, chan: Any) -> None:
        self._channel = chan

    def exec_requested(self, command: str) -> bool:
        return "refused" not in command

    def session_started(self) -> None:
        self._act(self._channel)


class _Host(asyncssh.SSHServer):
    def __init__(self, act: Callable[..., Any] | None) -> None:
        self._act = act

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return True

    def session_requested(self) -> Any:
        if asyncio.iscoroutinefunction(self._act):
            return self._act()
        return False if self._act is None else _Odd(self._act)


@asynccontextmanager
async def odd(folder: Path, act: Callable[..., Any] | None) -> AsyncIterator[Target]:
    """Serve a host that does `act` with the channel of a command instead of running it; None: it opens no channel.

    An `act` that is a coroutine is waited for before the channel opens.
    """
    user, host = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    user.write_private_key(str(folder / "user"))
    async with asyncssh.listen(
        "127.0.0.1", 0, server_factory=lambda: _Host(act), server_host_keys=[host], encoding=None
    ) as server:
        line = host.export_public_key("openssh").decode().strip()
        yield Target("odd", "127.0.0.1", server.get_port(), Credential("root", key_file=folder / "user"), (line,))


def _says(kind: int, data: bytes) -> Callable[[Any], None]:
    def act(channel: Any) -> None:
        channel.send_packet(kind, data)
        channel.exit(0)

    return act


def _asks(channel: Any) -> None:
    channel._send_request(b"odd@example.com", want_reply=True)
    channel._request_waiters.append(asyncio.get_running_loop().create_future())
    channel.write(b"asked\n")
    channel.exit(0)


def _stays(channel: Any) -> None:
    channel.write(b"done\n")
    channel._send_request(b"exit-status", UInt32(0))


@pytest.mark.parametrize(
    ("act", "kind", "printed"),
    [
        pytest.param(None, "failed", b"", id="no-channel"),
        pytest.param(
            _says(MSG_CHANNEL_EXTENDED_DATA, UInt32(7) + String(b"of no kind")), "lost", b"", id="unknown-data"
        ),
        pytest.param(_says(MSG_CHANNEL_DATA, UInt32(1000) + b"short"), "lost", b"", id="wrong-length"),
        pytest.param(_says(MSG_CHANNEL_DATA, b""), "lost", b"", id="nothing"),
        pytest.param(_says(MSG_CHANNEL_REQUEST, String(b"exit-status")), "lost", b"", id="half-a-request"),
        pytest.param(_says(MSG_CHANNEL_WINDOW_ADJUST, UInt32(0xFFFFFFFF)), "ok", b"", id="much-room"),
        pytest.param(_says(120, b"of no kind that we know"), "ok", b"", id="unknown-packet"),
        pytest.param(_asks, "ok", b"asked\n", id="asks"),
        pytest.param(_stays, "ok", b"done\n", id="stays-open"),
        pytest.param(lambda channel: channel.exit_with_signal("KILL"), "killed", b"", id="signal"),
        pytest.param(lambda channel: channel.close(), "lost", b"", id="no-status"),
        pytest.param(lambda channel: channel.get_connection().abort(), "lost", b"", id="gone"),
    ],
)
async def test_host_that_does_odd_things_ends_with_one_true_outcome(
    act: Callable[[Any], None] | None, kind: str, printed: bytes, tmp_path: Path
) -> None:
    async with odd(tmp_path, act) as target:
        output = await told(target, "true", b"input")
    assert (output.outcome.kind, output.stdout) == (kind, printed)


async def test_host_that_will_not_start_a_command_says_so_and_serves_the_next_one(tmp_path: Path) -> None:
    async with odd(tmp_path, lambda channel: channel.exit(0)) as target:
        transport = SshTransport()
        async with transport.open(target) as shell:
            no = await shell.run("refused", timeout=SHORT)
            assert no.outcome.kind == "failed"
            assert "would not start the command" in no.outcome.detail
            assert (await shell.run("true", timeout=SHORT)).outcome.ok
        await transport.close()


async def test_host_that_opens_no_channel_and_gives_no_reason_has_failed_and_is_not_gone(tmp_path: Path) -> None:
    async def no() -> None:
        raise asyncssh.ChannelOpenError(asyncssh.OPEN_RESOURCE_SHORTAGE, "")

    async with odd(tmp_path, no) as target:
        output = await told(target, "true")
    assert output.outcome.kind == "failed"
    assert output.outcome.detail == "The host would not start the command: it gave no reason."


async def test_command_that_waited_in_vain_for_its_channel_was_never_sent(tmp_path: Path) -> None:
    async def never() -> None:
        await asyncio.sleep(60)

    async with odd(tmp_path, never) as target:
        output = await told(target, "true", timeout=timedelta(seconds=0.5))
    assert (output.outcome.kind, output.outcome.reason) == ("unreachable", "connect")
    assert output.outcome.detail.endswith("nothing ran.")


class Wire:
    """Stands where the connection does, and keeps what a channel says on it."""

    def __init__(self) -> None:
        self.said: list[tuple[int, bytes]] = []
        self.channels: list[Any] = []

    def add_channel(self, channel: Any) -> int:
        self.channels.append(channel)
        return 5

    def remove_channel(self, number: int) -> None:
        self.channels.clear()

    def send_packet(self, kind: int, *args: bytes, handler: Any = None) -> None:
        self.said.append((kind, b"".join(args)))


class Heard(ExecChannel):
    """Keeps what a channel tells."""

    def __init__(self, wire: Wire) -> None:
        self.told: list[Any] = []
        super().__init__(wire, "id -u")  # type: ignore[arg-type]

    def heard(self, data: bytes) -> None:
        self.told.append(data)

    def pause(self) -> None:
        self.told.append("pause")

    def resume(self) -> None:
        self.told.append("resume")

    def closed(self) -> None:
        self.told.append("closed")


def opened(room: int = 1000, largest: int = 100) -> tuple[Wire, Heard]:
    wire = Wire()
    channel = Heard(wire)
    channel.take(MSG_CHANNEL_OPEN_CONFIRMATION, UInt32(9) + UInt32(room) + UInt32(largest))
    return wire, channel


def test_channel_asks_for_a_session_and_then_for_the_command_as_the_rfc_writes_it() -> None:
    wire, _ = opened()
    assert wire.said == [
        (MSG_CHANNEL_OPEN, String("session") + UInt32(5) + UInt32(WINDOW) + UInt32(PACKET)),
        (MSG_CHANNEL_REQUEST, UInt32(9) + String("exec") + b"\1" + String("id -u")),
    ]


@given(
    parts=st.lists(st.binary(max_size=500), max_size=20),
    rooms=st.lists(st.integers(0, 400), max_size=40),
    largest=st.integers(1, 200),
)
def test_input_arrives_whole_and_in_order_and_never_beyond_the_room(
    parts: list[bytes], rooms: list[int], largest: int
) -> None:
    wire, channel = opened(room := rooms[0] if rooms else 0, largest)
    for part, more in zip(parts, [*rooms[1:], *[0] * len(parts)], strict=False):
        channel.write(part)
        channel.take(MSG_CHANNEL_WINDOW_ADJUST, UInt32(more))
        room += more
        assert sum(len(data) - 8 for kind, data in wire.said if kind == MSG_CHANNEL_DATA) <= room
    channel.write_eof()
    channel.write(b"too late")
    channel.take(MSG_CHANNEL_WINDOW_ADJUST, UInt32(100_000))
    sent = [SSHPacket(data[4:]).get_string() for kind, data in wire.said if kind == MSG_CHANNEL_DATA]
    assert b"".join(sent) == b"".join(parts)
    assert all(0 < len(part) <= largest for part in sent)
    assert [kind for kind, _ in wire.said].count(MSG_CHANNEL_EOF) == 1
    assert wire.said[-1][0] == MSG_CHANNEL_EOF


def test_source_of_input_pauses_while_the_host_takes_none() -> None:
    _, channel = opened(room=0)
    channel.write(b"x" * (HIGH + 1))
    assert channel.told == ["pause"]
    channel.take(MSG_CHANNEL_WINDOW_ADJUST, UInt32(HIGH))
    assert channel.told == ["pause", "resume"]


def test_room_for_output_is_given_back_by_halves_and_more_than_the_room_is_refused() -> None:
    wire, channel = opened()
    chunk = b"x" * PACKET
    for _ in range(WINDOW // PACKET // 2):
        channel.take(MSG_CHANNEL_DATA, String(chunk))
    assert [kind for kind, _ in wire.said].count(MSG_CHANNEL_WINDOW_ADJUST) == 0
    channel.take(MSG_CHANNEL_DATA, String(b"x"))
    assert wire.said[-1] == (MSG_CHANNEL_WINDOW_ADJUST, UInt32(9) + UInt32(WINDOW // 2 + 1))
    with pytest.raises(asyncssh.ProtocolError, match="more than it may"):
        channel.take(MSG_CHANNEL_DATA, String(b"x" * (WINDOW + 1)))


def test_channel_that_was_given_up_before_it_was_opened_never_sends_its_command() -> None:
    wire = Wire()
    channel = Heard(wire)
    channel.kill()
    channel.take(MSG_CHANNEL_OPEN_CONFIRMATION, UInt32(9) + UInt32(1000) + UInt32(100))
    assert [kind for kind, _ in wire.said] == [MSG_CHANNEL_OPEN, MSG_CHANNEL_CLOSE]
    channel.take(MSG_CHANNEL_CLOSE, b"")
    assert channel.told == ["closed"]
    assert wire.channels == []


def test_what_comes_after_our_close_is_dropped_and_what_comes_on_no_channel_is_refused() -> None:
    wire, channel = opened()
    channel.kill()
    channel.take(MSG_CHANNEL_DATA, String(b"late"))
    assert channel.told == []
    kinds = [kind for kind, _ in wire.said[2:]]
    assert kinds == [MSG_CHANNEL_REQUEST, MSG_CHANNEL_REQUEST, MSG_CHANNEL_CLOSE]
    with pytest.raises(asyncssh.ProtocolError, match="twice"):
        channel.take(MSG_CHANNEL_OPEN_CONFIRMATION, UInt32(9) + UInt32(1000) + UInt32(100))
    channel.take(MSG_CHANNEL_CLOSE, b"")
    with pytest.raises(asyncssh.ProtocolError, match="not open"):
        channel.take(MSG_CHANNEL_DATA, String(b"later"))
    with pytest.raises(asyncssh.ProtocolError, match="no packet of any size"):
        opened(largest=0)
