"""VNC against real servers: TigerVNC, and x11vnc on Xvfb; and servers that TigerVNC would never be."""

import asyncio
import socket
import struct
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sshd
import vnc
from screen_conformance import ScreenConformance, ScreenPlace, acts, processes
from tcp_faults import Relay, listener

from msp.remote.screen.vnc import VncTransport
from msp.remote.target import Credential, Target
from msp.remote.transport import CannotOpen, NotAdmitted
from msp.secret import Secret

pytestmark = [pytest.mark.server, pytest.mark.slow]
SHORT = timedelta(seconds=10)
PIXELS = struct.pack("!BBBBHHHBBBxxx", 32, 24, 0, 1, 255, 255, 255, 16, 8, 0)
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB2vpZ8LqjWzVhPJAFFDT0ixj3YkPtqVyAkGqMvBbqzU"


def target_of(server: vnc.Screen) -> Target:
    credential = Credential(password=Secret(vnc.PASSWORD))
    return Target("kiosk", "127.0.0.1", server.port, credential, transport="vnc")


@pytest.fixture(scope="module")
def silent() -> Iterator[int]:
    with listener(None) as port:
        yield port


def place_of(server: vnc.Screen, folder: Path, silent: int) -> ScreenPlace:
    target = target_of(server)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = probe.getsockname()[1]
    return ScreenPlace(
        VncTransport(),
        target,
        server,
        folder,
        stranger=replace(target, credential=Credential(password=Secret("wrong"))),
        refusing=replace(target, port=closed),
        silent=replace(target, port=silent),
        nameless=replace(target, address="no-such-host.invalid"),
    )


@pytest.fixture(scope="module")
def tigervnc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[vnc.Screen]:
    with vnc.tigervnc(tmp_path_factory.mktemp("tigervnc")) as server:
        yield server


@pytest.fixture(scope="module")
def x11vnc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[vnc.Screen]:
    with vnc.x11vnc(tmp_path_factory.mktemp("x11vnc")) as server:
        yield server


@pytest.fixture(scope="module")
def hop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with sshd.running(tmp_path_factory.mktemp("sshd")) as server:
        credential = Credential(server.user, key_file=server.key_file)
        yield Target("bastion", "127.0.0.1", server.port, credential, (server.host_key,))


@pytest.mark.skipif(bool(vnc.missing(vnc.READER)), reason=vnc.missing(vnc.READER))
class TestTigerVnc(ScreenConformance):
    @pytest.fixture
    def place(self, tigervnc: vnc.Screen, tmp_path: Path, silent: int) -> ScreenPlace:
        return place_of(tigervnc, tmp_path, silent)


@pytest.mark.skipif(bool(vnc.missing(vnc.READER, vnc.X11VNC)), reason=vnc.missing(vnc.READER, vnc.X11VNC))
class TestX11Vnc(ScreenConformance):
    @pytest.fixture
    def place(self, x11vnc: vnc.Screen, tmp_path: Path, silent: int) -> ScreenPlace:
        return place_of(x11vnc, tmp_path, silent)


@pytest.mark.skipif(bool(vnc.missing(vnc.READER)), reason=vnc.missing(vnc.READER))
class TestServersThatWillNotDo:
    async def refusal(self, target: Target, timeout: timedelta = SHORT) -> CannotOpen | NotAdmitted:
        """What opening a screen that cannot be had comes to; nothing of it stays behind."""
        with pytest.raises((CannotOpen, NotAdmitted)) as caught:
            async with VncTransport().open(target, timeout=timeout):
                pass
        assert processes() == set()
        return caught.value

    async def test_server_of_another_protocol_or_that_hangs_up_is_no_screen(self, tigervnc: vnc.Screen) -> None:
        for greeting in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"RFB 003.008\n", b"", b"RFB 000.001\n"):
            with listener(greeting) as port:
                error = await self.refusal(replace(target_of(tigervnc), port=port))
            assert str(error.outcome) == "unreachable(banner)", greeting

    async def test_server_that_only_speaks_tls_is_told(self, tmp_path: Path) -> None:
        with vnc.tigervnc(tmp_path, security="TLSVnc") as server:
            error = await self.refusal(target_of(server))
        assert str(error.outcome) == "unreachable(banner)"
        assert "VNC password" in error.advice

    async def test_server_without_a_password_is_not_trusted_with_ours(self, tmp_path: Path) -> None:
        with vnc.tigervnc(tmp_path, security="None") as server:
            error = await self.refusal(target_of(server))
            assert error.outcome.kind == "auth_failed"
            assert "asks for no password" in error.outcome.detail
            open_to_all = replace(target_of(server), credential=Credential())
            async with VncTransport().open(open_to_all, timeout=SHORT) as screen:
                assert (await screen.perform(acts("capture"), timeout=SHORT)).outcome.ok

    async def test_server_that_turns_us_away_is_told_from_a_wrong_password(self, tmp_path: Path) -> None:
        options = ("-BlacklistThreshold", "3", "-BlacklistTimeout", "60")
        with vnc.tigervnc(tmp_path, options=options) as server:
            wrong = replace(target_of(server), credential=Credential(password=Secret("wrong")))
            kinds = [str((await self.refusal(wrong)).outcome) for _ in range(5)]
        assert kinds[:2] == ["auth_failed"] * 2
        assert kinds[-1] == "unreachable(banner)"

    async def test_screen_of_impossible_size_is_refused(self, tigervnc: vnc.Screen) -> None:
        claim = b"RFB 003.003\n" + struct.pack("!I", 1) + struct.pack("!HH", 60000, 60000) + PIXELS + b"\0\0\0\1x"
        with listener(claim) as port:
            error = await self.refusal(replace(target_of(tigervnc), port=port, credential=Credential()))
        assert "60000 x 60000" in error.outcome.detail

    async def test_more_screens_than_places_wait_for_one(self, tigervnc: vnc.Screen) -> None:
        transport = VncTransport(most=1)

        async def look() -> None:
            async with transport.open(target_of(tigervnc), timeout=timedelta(seconds=3)) as screen:
                assert len(processes()) == 1
                assert (await screen.perform(acts({"wait": "1s"}), timeout=SHORT)).outcome.ok

        await asyncio.gather(*(look() for _ in range(4)))

    async def test_password_that_vnc_cannot_carry_is_told(self, tigervnc: vnc.Screen) -> None:
        error = await self.refusal(replace(target_of(tigervnc), credential=Credential(password=Secret("pässwört"))))
        assert error.outcome.kind == "auth_failed"
        assert "ASCII" in error.outcome.detail


@pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing())
class TestThroughSsh:
    async def test_screen_is_reached_through_a_forwarded_connection(self, tigervnc: vnc.Screen, hop: Target) -> None:
        transport, target = VncTransport(), replace(target_of(tigervnc), via=(hop,))
        for _ in range(2):  # the second one over the warm connection
            async with transport.open(target, timeout=SHORT) as screen:
                output = await screen.perform(acts({"press": "Return"}, "capture"), timeout=SHORT)
            assert (output.outcome.kind, len(output.pictures)) == ("ok", 3)
        await transport.close()
        assert processes() == set()

    async def test_warm_connection_that_died_unnoticed_is_opened_anew(self, tigervnc: vnc.Screen, hop: Target) -> None:
        with Relay(hop.port) as relay:
            transport, target = VncTransport(), replace(target_of(tigervnc), via=(replace(hop, port=relay.port),))
            for _ in range(2):
                async with transport.open(target, timeout=SHORT) as screen:
                    assert (await screen.perform(acts("capture"), timeout=SHORT)).outcome.ok
                relay.cut()
            await transport.close()

    async def test_bastion_that_is_not_what_is_pinned_or_finds_nobody_is_told(
        self, tigervnc: vnc.Screen, hop: Target
    ) -> None:
        impostor = replace(hop, host_keys=(OTHER_KEY,))
        cases = {
            "host_key_changed": replace(target_of(tigervnc), via=(impostor,)),
            "unreachable(refused)": replace(target_of(tigervnc), via=(hop,), port=1),
            "unreachable(dns)": replace(target_of(tigervnc), via=(hop,), address="no-such-host.invalid"),
        }
        for expected, target in cases.items():
            transport = VncTransport()
            with pytest.raises((CannotOpen, NotAdmitted)) as caught:
                async with transport.open(target, timeout=SHORT):
                    pass
            assert str(caught.value.outcome) == expected
            await transport.close()

    async def test_bastion_that_forbids_forwarding_is_told(self, tigervnc: vnc.Screen, tmp_path: Path) -> None:
        with sshd.running(tmp_path / "strict", options="AllowTcpForwarding no") as server:
            credential = Credential(server.user, key_file=server.key_file)
            hop = Target("strict", "127.0.0.1", server.port, credential, (server.host_key,))
            transport = VncTransport()
            with pytest.raises(NotAdmitted, match="does not forward") as caught:
                async with transport.open(replace(target_of(tigervnc), via=(hop,)), timeout=SHORT):
                    pass
            assert caught.value.outcome.kind == "refused"
            await transport.close()

    async def test_bastion_that_dies_leaves_what_was_sent_in_doubt(self, tigervnc: vnc.Screen, tmp_path: Path) -> None:
        with sshd.running(tmp_path / "dying") as server, Relay(server.port) as relay:
            credential = Credential(server.user, key_file=server.key_file)
            hop = Target("dying", "127.0.0.1", relay.port, credential, (server.host_key,))
            transport = VncTransport()
            async with transport.open(replace(target_of(tigervnc), via=(hop,)), timeout=SHORT) as screen:
                asyncio.get_running_loop().call_later(1.5, relay.cut)
                output = await screen.perform(acts({"press": "Return"}, {"wait": "8s"}), timeout=SHORT)
            assert (output.outcome.kind, output.outcome.in_doubt) == ("lost", True)
            await transport.close()
