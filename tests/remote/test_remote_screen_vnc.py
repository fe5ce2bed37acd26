"""VNC against real servers: TigerVNC, and x11vnc on Xvfb; and servers that TigerVNC would never be."""

import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import vnc
from screen_conformance import ScreenConformance, ScreenPlace
from tcp_faults import listener

from msp.remote.screen.vnc import VncTransport
from msp.remote.target import Credential, Target
from msp.secret import Secret

pytestmark = [pytest.mark.server, pytest.mark.slow]
SHORT = timedelta(seconds=10)


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


@pytest.mark.skipif(bool(vnc.missing(vnc.READER)), reason=vnc.missing(vnc.READER))
class TestTigerVnc(ScreenConformance):
    @pytest.fixture
    def place(self, tigervnc: vnc.Screen, tmp_path: Path, silent: int) -> ScreenPlace:
        return place_of(tigervnc, tmp_path, silent)


@pytest.mark.skipif(bool(vnc.missing(vnc.READER, vnc.X11VNC)), reason=vnc.missing(vnc.READER, vnc.X11VNC))
class TestX11Vnc(ScreenConformance):
    @pytest.fixture(scope="class")
    def x11vnc(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[vnc.Screen]:
        with vnc.x11vnc(tmp_path_factory.mktemp("x11vnc")) as server:
            yield server

    @pytest.fixture
    def place(self, x11vnc: vnc.Screen, tmp_path: Path, silent: int) -> ScreenPlace:
        return place_of(x11vnc, tmp_path, silent)
