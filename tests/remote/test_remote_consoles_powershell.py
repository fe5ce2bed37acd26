"""PowerShell over WinRM as a console: the line editor against a terminal, and the whole against the WinRM peer."""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from test_remote_consoles_served import Page, opened, printed
from winrm_places import Places

from msp.remote.consoles.line_editor import LineEditor, width
from msp.remote.consoles.powershell import PIECES, Folder, PowerShell
from msp.remote.consoles.rules import End
from msp.remote.consoles.serving import Console
from msp.remote.transport import NotAdmitted, Output

PLANTED = "planted-Secret-4711!"
WAIT = 20
BEGAN = datetime(2026, 11, 22, tzinfo=UTC)


@asynccontextmanager
async def at_prompt(
    peers: Places, folder: Path, mode: str = "full"
) -> AsyncIterator[tuple[Page, "asyncio.Task[End]", Console]]:
    console = Console(1, "terminal", mode, "win", BEGAN, peers.target(tls=True), (PLANTED,), folder, 10**7)
    async with opened(console) as (page, task):
        await page.until(lambda: b"PS />" in page.shown, WAIT)
        yield page, task, console


async def test_lines_run_in_their_folder_with_errors_apart_and_are_recorded_masked(
    peers: Places, tmp_path: Path
) -> None:
    async with at_prompt(peers, tmp_path) as (page, task, console):
        page.type(f"cd {tmp_path}\rpwd; echo bad >&2\recho {PLANTED}-shown; exit 3\recho columns=$COLUMNS\r".encode())
        await page.until(lambda: b"columns=99\r\n" in page.shown, WAIT)
        text = page.shown.decode()
        assert f"PS {tmp_path}> pwd" in text
        assert f"\r\n{tmp_path}\r\n" in text
        assert re.search("\x1b\\[91mbad\\s+\x1b\\[0m", text)
        assert "\x1d" not in text
        page.type("echo Привет-мир\r".encode())
        await page.until(lambda: page.shown.decode().count("Привет-мир") > 1, WAIT)
        page.type(b"exit\r")
        end = await asyncio.wait_for(task, WAIT)
    assert end == End("exited", "The person left it.")
    assert f"{PLANTED}-shown" in text
    assert PLANTED not in printed(console)
    assert "columns=99" in printed(console)


async def test_output_comes_while_the_line_is_at_work_and_a_break_ends_it_and_keeps_the_folder(
    peers: Places, tmp_path: Path
) -> None:
    async with at_prompt(peers, tmp_path) as (page, _, _console):
        page.type(f"cd {tmp_path}\r".encode())
        await page.until(lambda: f"PS {tmp_path}> ".encode() in page.shown, WAIT)
        page.type(b"echo be$((1+1))gun; sleep 60; touch ended\r")
        await page.until(lambda: b"be2gun" in page.shown, WAIT)
        page.type(b"echo typed ahead and forgotten\r\x03")
        await page.until(lambda: b"^C" in page.shown, WAIT)
        page.type(b"echo still-$((2+2))\r")
        await page.until(lambda: b"still-4" in page.shown, WAIT)
        assert b"\nforgotten" not in page.shown
    assert not (tmp_path / "ended").exists()
    assert peers.server(tls=True).peer.at_work == []


class Stuck:
    """A host that prints more than is shown, and goes on for long."""

    def __init__(self) -> None:
        self.lines = 0

    async def run(self, script: str, *, heard: Callable[[bytes, bytes], None], **_: Any) -> Output:
        self.lines += 1
        for _piece in range(PIECES):
            await asyncio.to_thread(heard, b"x", b"")
        await asyncio.sleep(60)
        raise AssertionError


class Broken:
    """A host whose connection has a fault."""

    async def run(self, script: str, **_: Any) -> Output:
        raise ZeroDivisionError


async def test_a_second_break_while_nothing_is_shown_leaves_a_console_that_goes_on() -> None:
    host = Stuck()
    shell = PowerShell(host, 80)  # type: ignore[arg-type]
    shell.begin()
    await asyncio.sleep(0.5)
    for _ in range(2):
        await shell.write(b"\x03")
        await asyncio.sleep(0.05)
    shown = b""
    while b"^C" not in shown or b"> " not in shown:
        shown += await asyncio.wait_for(shell.read(), 5)
    await shell.write(b"dir\r")
    await asyncio.sleep(0.05)
    assert host.lines == 2
    await shell.close()


async def test_a_fault_of_ours_ends_the_console_instead_of_leaving_it_without_a_prompt() -> None:
    shell = PowerShell(Broken(), 80)  # type: ignore[arg-type]
    shell.begin()
    while await asyncio.wait_for(shell.read(), 5):
        pass
    assert (await shell.end()).how == "lost"


async def test_looking_only_runs_nothing(peers: Places, tmp_path: Path) -> None:
    async with at_prompt(peers, tmp_path, "view") as (page, task, _):
        page.type(f"touch {tmp_path}/typed\r".encode())
        page.tell(close=True)
        assert (await asyncio.wait_for(task, WAIT)).how == "closed"
    assert not (tmp_path / "typed").exists()


async def test_who_is_not_admitted_never_sees_a_prompt(peers: Places, tmp_path: Path) -> None:
    server = peers.fresh(tls=True, fault="deny")
    console = Console(1, "terminal", "full", "win", BEGAN, peers.reaching(server), (), tmp_path, 10**7)
    async with opened(console) as (_, task):
        with pytest.raises(NotAdmitted, match="no right to a shell"):
            await asyncio.wait_for(task, WAIT)


class Screen:
    """A terminal that understands what the editor says, and nothing else."""

    def __init__(self, columns: int) -> None:
        self.columns, self.rows, self.row, self.column = columns, [""], 0, 0
        self.waits = False  # the last column is written; the next character goes to the next row

    def show(self, text: str) -> None:
        for part in re.findall(r"\x1b\[\d*[A-Za-z]|[\s\S]", text):
            if part[0] == "\x1b":
                count = int(part[2:-1] or 1)
                self.waits = False
                match part[-1]:
                    case "A":
                        self.row -= count
                    case "C":
                        self.column += count
                    case "J":
                        self.rows = [*self.rows[: self.row], self.rows[self.row][: self.column]]
                assert 0 <= self.row < len(self.rows)
                assert self.column < self.columns
            elif part == "\r":
                self.column, self.waits = 0, False
            elif part == "\n":
                self._down()
            elif part != "\a":
                if self.waits:
                    self.column = 0
                    self._down()
                line = self.rows[self.row].ljust(self.column)
                self.rows[self.row] = line[: self.column] + part + line[self.column + 1 :]
                self.waits = self.column + 1 == self.columns
                self.column += not self.waits

    def _down(self) -> None:
        self.row, self.waits = self.row + 1, False
        if self.row == len(self.rows):
            self.rows.append("")


@pytest.mark.parametrize("columns", [2, 7, 10, 80])
def test_what_is_edited_is_what_stands_on_the_screen(columns: int) -> None:
    chance = random.Random(columns)
    keys = [
        "a",
        "b",
        " ",
        "\x7f",
        "\x1b[D",
        "\x1b[C",
        "\x1b[H",
        "\x1b[F",
        "\x1b[3~",
        "\x1b[A",
        "\x1b[B",
        "\x17",
        "\x15",
    ]
    for _ in range(60):
        editor, screen = LineEditor(columns), Screen(columns)
        screen.show(editor.begin("PS> "))
        for key in chance.choices(keys, weights=[9, 9, 4, 3, 3, 2, 1, 1, 2, 1, 1, 1, 0.3], k=60):
            shown, line, rest = editor.feed(key)
            assert (line, rest) == (None, "")
            screen.show(shown)
        *_, typed = editor.feed("\r")[1:2]
        assert "".join(row.ljust(columns) for row in screen.rows).rstrip() == f"PS> {typed}".rstrip()


def test_keys_that_arrive_in_pieces_and_lines_that_arrive_together() -> None:
    editor = LineEditor(80)
    editor.begin("> ")
    assert editor.feed("one\x1b[")[1:] == (None, "\x1b[")
    assert editor.feed("\x1b[Dx\rtwo\r\nthree")[1:] == ("onxe", "two\r\nthree")
    editor.begin("> ")
    assert editor.feed("two\r\nthree")[1:] == ("two", "three")
    editor.begin("> ")
    assert editor.feed("\x1b[A\x1b[A\r")[1] == "onxe"
    editor.begin("> ")
    assert editor.feed("typed\x03rest")[1:] == ("", "rest")
    assert (width("日本"), width("é"), width("e\u0301")) == (4, 1, 1)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
def test_folder_is_taken_out_wherever_the_output_is_cut(size: int) -> None:
    sent = b"a\x1db\n\x1dL3RtcA==\x1d"  # a program's own mark before ours
    folder = Folder()
    shown = b"".join(folder.feed(sent[at : at + size]) for at in range(0, len(sent), size)) + folder.close()
    assert (shown, folder.path) == (b"a\x1db\r\n", "/tmp")
