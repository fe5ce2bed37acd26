"""Consoles of real machines: a shell of sshd, screens of Xtigervnc, with a browser that is a queue."""

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import sshd
import vnc
from PIL import Image

from msp.remote.consoles import rfb, serving, terminal
from msp.remote.consoles.rules import End
from msp.remote.consoles.serving import Console
from msp.remote.target import Credential, Target
from msp.remote.transport import CannotOpen, NotAdmitted
from msp.secret import Secret

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing() or "never"),
]
screens = pytest.mark.skipif(bool(vnc.missing()), reason=vnc.missing() or "never")
PLANTED = "planted-Secret-4711!"


class Page:
    """A browser as the console sees it. It has shown nothing until the test says so."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[bytes | Mapping[str, Any] | None] = asyncio.Queue()
        self.shown = bytearray()
        self.messages: list[Mapping[str, Any]] = []
        self.news = asyncio.Event()
        self.gone = False

    async def send(self, data: bytes) -> None:
        if self.gone:
            raise ConnectionResetError
        self.shown.extend(data)
        self.news.set()

    async def say(self, message: Mapping[str, Any]) -> None:
        self.messages.append(message)
        self.news.set()

    async def receive(self) -> bytes | Mapping[str, Any] | None:
        return await self.said.get()

    def type(self, text: bytes) -> None:
        self.said.put_nowait(text)

    def tell(self, **message: Any) -> None:
        self.said.put_nowait(message)

    async def until(self, true: Callable[[], object], seconds: float = 10) -> None:
        """Wait until something is true of what was shown."""
        async with asyncio.timeout(seconds):
            while not true():
                self.news.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.news.wait(), 0.1)


@asynccontextmanager
async def opened(
    console: Console, typed: Callable[[], None] = lambda: None
) -> AsyncIterator[tuple[Page, "asyncio.Task[End]"]]:
    page = Page()
    task = asyncio.create_task(serving.serve(console, page, typed))
    if console.kind == "terminal":
        page.tell(resize=[100, 30])
    try:
        yield page, task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sshd.Sshd]:
    with sshd.running(tmp_path_factory.mktemp("console-sshd"), options="ForceCommand /bin/sh") as server:
        yield server


@pytest.fixture
def target(machine: sshd.Sshd) -> Target:
    credential = Credential(user=machine.user, key_file=machine.key_file)
    return Target("box", "127.0.0.1", machine.port, credential, (machine.host_key,))


@pytest.fixture
def console(target: Target, tmp_path: Path) -> Console:
    return Console(
        1, "terminal", "full", "box", datetime(2026, 11, 22, tzinfo=UTC), target, (PLANTED,), tmp_path, 10**7
    )


def printed(console: Console) -> str:
    """Return what the recording holds."""
    assert console.recorded is not None
    lines = (console.folder / console.recorded.name).read_text("utf-8").splitlines()[1:]
    return "".join(event[2] for event in map(json.loads, lines) if event[1] == "o")


async def test_a_shell_answers_knows_its_size_and_ends_with_its_status(console: Console) -> None:
    async with opened(console) as (page, task):
        page.type(b"stty -echo size; echo width=$(tput cols)\n")
        await page.until(lambda: b"width=100" in page.shown)
        assert b"30 100" in page.shown
        page.tell(resize=[77, 20])
        page.type(b"echo now=$(tput cols)\n")
        await page.until(lambda: b"now=77" in page.shown)
        page.type(b"exit 7\n")
        end = await asyncio.wait_for(task, 10)
    assert end == End("exited", "The shell ended with status 7.")
    assert {"open": "full"} in page.messages
    assert "now=77" in printed(console)


async def test_what_is_typed_is_not_recorded_and_secrets_that_are_shown_are_masked(console: Console) -> None:
    async with opened(console) as (page, task):
        page.type(b"stty -echo; echo ready-$((1+1))\n")
        await page.until(lambda: b"ready-2" in page.shown)
        page.type(b"read x; printf 'planted-Sec'; sleep 0.3; echo 'ret-4711!'\n")
        page.type(b"typed-and-never-shown\n")
        await page.until(lambda: PLANTED.encode() in page.shown)  # the person sees what the machine shows
        page.tell(close=True)
        assert (await asyncio.wait_for(task, 10)).how == "closed"
    text = printed(console)
    assert "***" in text
    assert PLANTED not in text
    assert "typed-and-never-shown" not in text


async def test_looking_only_types_nothing(console: Console, tmp_path: Path) -> None:
    noted: list[int] = []
    async with opened(replace(console, mode="view"), lambda: noted.append(1)) as (page, task):
        await page.until(lambda: page.shown)
        page.type(f"touch {tmp_path}/typed\n".encode())
        await asyncio.sleep(0.5)
        page.tell(close=True)
        await asyncio.wait_for(task, 10)
    assert not (tmp_path / "typed").exists()
    assert noted, "who looks and types is not idle"


async def test_a_machine_that_prints_without_end_waits_for_the_browser(console: Console) -> None:
    console.most_bytes = 10**9
    async with opened(console) as (page, task):
        page.type(b"stty -echo; yes 0123456789012345678901234567890123456789\n")
        await page.until(lambda: len(page.shown) >= terminal.ON_THE_WAY)
        await asyncio.sleep(1)
        waiting = len(page.shown)
        assert waiting <= terminal.ON_THE_WAY + terminal.CHUNK
        await asyncio.sleep(0.5)
        assert len(page.shown) == waiting, "it went on although nothing was shown"
        page.tell(shown=waiting)
        await page.until(lambda: len(page.shown) > 2 * waiting - terminal.CHUNK)
        page.tell(close=True)
        await asyncio.wait_for(task, 10)


async def test_bytes_that_are_no_text_reach_the_browser_as_they_are(console: Console) -> None:
    async with opened(console) as (page, task):
        page.type(b"stty -echo; printf 'a\\377\\376b\\033[31m-%s\\n' end\n")
        await page.until(lambda: b"a\xff\xfeb\x1b[31m-end" in page.shown)
        page.tell(close=True)
        await asyncio.wait_for(task, 10)
    assert "a\ufffd\ufffdb\x1b[31m-end" in printed(console)


async def test_messages_that_mean_nothing_change_nothing(console: Console) -> None:
    async with opened(console) as (page, task):
        for message in (
            {"resize": [0, -1]},
            {"resize": "x"},
            {"shown": "y"},
            {"shown": -5},
            {},
            {"resize": [10**9, 10**9]},
        ):
            page.said.put_nowait(message)
        page.type(b"stty -echo; echo size=$(stty size)\n")
        await page.until(lambda: b"size=300 500" in page.shown)
        page.tell(close=True)
        assert (await asyncio.wait_for(task, 10)).how == "closed"


def alive(pid_file: Path) -> bool:
    return Path(f"/proc/{pid_file.read_text().strip()}").exists()


async def test_a_browser_that_goes_away_takes_the_shell_with_it(console: Console, tmp_path: Path) -> None:
    async with opened(console) as (page, task):
        page.type(f"echo $$ > {tmp_path}/pid; stty -echo; echo up-$((1+1))\n".encode())
        await page.until(lambda: b"up-2" in page.shown)
        page.said.put_nowait(None)
        assert (await asyncio.wait_for(task, 10)).how == "gone"
    await page.until(lambda: not alive(tmp_path / "pid"))


async def test_a_full_disk_ends_the_console_before_anything_is_shown_unrecorded(console: Console) -> None:
    console.most_bytes = 3000
    async with opened(console) as (page, task):
        page.type(b"stty -echo; yes\n")
        end = await asyncio.wait_for(task, 10)
    assert end.how == "recording"
    assert len(page.shown) < 3000
    assert len(printed(console)) == len(page.shown)


async def test_a_machine_with_another_key_is_not_opened(console: Console, tmp_path: Path) -> None:
    with sshd.running(tmp_path / "impostor") as other:
        wrong = replace(console, target=replace(console.target, port=other.port))
        with pytest.raises(NotAdmitted, match="not the pinned one"):
            async with opened(wrong) as (_, task):
                await asyncio.wait_for(task, 10)
    assert wrong.recorded is None


# --- screens -----------------------------------------------------------------------------------------------------
@pytest.fixture
def screen(tmp_path: Path) -> Iterator[vnc.Screen]:
    with vnc.tigervnc(tmp_path / "vnc", size="320x240") as server:
        yield server


def of_screen(console: Console, screen: vnc.Screen, password: str | None = vnc.PASSWORD, *via: Target) -> Console:
    credential = Credential(password=Secret(password) if password else None)
    where = Target("desk", "127.0.0.1", screen.port, credential, transport="vnc", via=via)
    return replace(console, kind="screen", target=where)


def greeting(page: Page) -> None:
    """Say what a viewer without a password says first, and ask for the whole screen."""
    page.type(rfb.VERSION + b"\x01" + b"\x01")
    page.type(rfb.asking_for([0]) + struct.pack(">BBHHHH", 3, 0, 0, 0, 320, 240))


def key(symbol: int) -> bytes:
    return struct.pack(">BBxxI", 4, 1, symbol) + struct.pack(">BBxxI", 4, 0, symbol)


@screens
@pytest.mark.parametrize("mode", ["view", "full"])
async def test_a_screen_needs_no_password_in_the_browser_and_looking_only_types_nothing(
    console: Console, screen: vnc.Screen, mode: str
) -> None:
    screen.terminal("cat > typed.txt", "-geometry", "20x8+0+0")
    async with opened(replace(of_screen(console, screen), mode=mode)) as (page, task):
        greeting(page)
        await page.until(lambda: len(page.shown) > 320 * 240 * 4)
        assert page.shown.startswith(rfb.VERSION + b"\x01\x01\0\0\0\0" + struct.pack(">HH", 320, 240))
        await asyncio.sleep(1)  # the terminal is up
        page.type(struct.pack(">BBHH", 5, 0, 60, 60))
        for letter in b"hello":
            page.type(key(letter))
        page.type(key(0xFF0D))
        await asyncio.sleep(1)
        page.tell(close=True)
        assert (await asyncio.wait_for(task, 10)).how == "closed"
    typed = (screen.folder / "typed.txt").read_text()
    assert typed == ("hello\n" if mode == "full" else "")


@screens
async def test_pictures_of_a_screen_show_what_was_on_it(console: Console, screen: vnc.Screen, tmp_path: Path) -> None:
    screen.show("xmessage", "-geometry", "200x100+10+10", "-bg", "red", "hello")
    await asyncio.sleep(1)
    desk = of_screen(console, screen)
    async with opened(desk) as (page, task):
        greeting(page)
        await page.until(lambda: list(tmp_path.rglob("*.png")))
        page.tell(close=True)
        await asyncio.wait_for(task, 10)
    assert desk.recorded is not None
    assert desk.recorded.pictures >= 1
    folder = (desk.folder / desk.recorded.name).with_suffix("")
    picture = Image.open(BytesIO(min(folder.glob("*.png")).read_bytes())).convert("RGB")
    assert picture.size == (320, 240)
    colours = {colour for _, colour in picture.getcolors(100_000) or ()}
    assert (255, 0, 0) in colours
    data = (desk.folder / desk.recorded.name).read_bytes()
    assert data[8:20] == rfb.VERSION
    assert vnc.PASSWORD.encode() not in data


@screens
async def test_a_screen_is_reached_through_ssh(console: Console, target: Target, screen: vnc.Screen) -> None:
    async with opened(of_screen(console, screen, vnc.PASSWORD, target)) as (page, task):
        greeting(page)
        await page.until(lambda: len(page.shown) > 320 * 240 * 4)
        page.tell(close=True)
        assert (await asyncio.wait_for(task, 10)).how == "closed"


@screens
@pytest.mark.parametrize("password", ["wrong", None])
async def test_a_screen_that_does_not_admit_us_says_why(
    console: Console, screen: vnc.Screen, password: str | None
) -> None:
    with pytest.raises(NotAdmitted, match="did not admit us"):
        async with opened(of_screen(console, screen, password)) as (_, task):
            await asyncio.wait_for(task, 15)


@screens
async def test_a_screen_whose_server_dies_is_lost(console: Console, screen: vnc.Screen) -> None:
    async with opened(of_screen(console, screen)) as (page, task):
        greeting(page)
        await page.until(lambda: len(page.shown) > 320 * 240 * 4)
        screen.server.kill()
        assert (await asyncio.wait_for(task, 10)).how == "lost"


async def test_a_server_that_is_no_screen_is_told_apart(console: Console, machine: sshd.Sshd) -> None:
    where = Target("desk", "127.0.0.1", machine.port, Credential(), transport="vnc")
    with pytest.raises(CannotOpen, match="does not answer as a VNC server"):
        async with opened(replace(console, kind="screen", target=where)) as (_, task):
            await asyncio.wait_for(task, 15)


@screens
async def test_a_viewer_that_speaks_nonsense_is_cut_off(console: Console, screen: vnc.Screen) -> None:
    async with opened(of_screen(console, screen)) as (page, task):
        greeting(page)
        page.type(b"\x42nonsense")
        end = await asyncio.wait_for(task, 10)
    assert "unknown kind 66" in end.detail
