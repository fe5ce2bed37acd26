"""PowerShell over WinRM as a terminal: a line at a time, each line a PowerShell of its own on one open connection.

WinRM has no terminal: programs that ask, draw a screen or wait for keys do not work, and the page says so. From line to
line the folder is kept, variables are not. What the host prints is shown as it comes.
"""

import asyncio
import base64
import codecs
import contextlib
import re
from collections.abc import AsyncIterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from msp.remote.consoles.line_editor import BREAK, LineEditor
from msp.remote.consoles.rules import End
from msp.remote.target import Target
from msp.remote.transport import Output
from msp.remote.winrm.shell import WinRmShell
from msp.remote.winrm.transport import WinRmTransport

LONGEST = timedelta(days=1)  # of one line; the console's own limits are shorter
AHEAD = 64 * 1024  # characters typed while a line is at work
PIECES = 64  # pieces of output that may wait to be shown
LEAVE = ("exit", "logout", "quit")
CLEAR = ("cls", "clear", "clear-host")
_MARK = b"\x1d"  # around the folder, after everything else
LONGEST_MARK = 8192

#: Never changes; the folder, the line and the width of the window are its standard input.
LINE: Final = """#!powershell
$msp_where=&$msp_text $msp_in[0];$msp_line=&$msp_text $msp_in[1];$msp_wide=[int]$msp_in[2]
$ErrorActionPreference='Continue'
if($msp_where){Set-Location -LiteralPath $msp_where}
try{.([ScriptBlock]::Create($msp_line))|Out-String -Stream -Width $msp_wide|
ForEach-Object{[Console]::Out.WriteLine($_)}}
catch{[Console]::Out.WriteLine(($_|Out-String -Width $msp_wide).TrimEnd())}
$msp_mark=[Convert]::ToBase64String([Text.Encoding]::UTF8.GetBytes((Get-Location).Path))
[Console]::Out.Write([char]29+$msp_mark+[char]29)
"""


def _encoded(text: str) -> bytes:
    return base64.b64encode(text.encode("utf-8", "surrogateescape"))


class Folder:
    """Takes what a line prints and gives it on, but for the folder that it ended in."""

    def __init__(self) -> None:
        self.path = ""
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Return what is to be shown now, with the line ends of a terminal."""
        data, shown = self._held + data, b""
        while (begin := data.find(_MARK)) >= 0:
            end = data.find(_MARK, begin + 1)
            if end < 0 and len(data) - begin <= LONGEST_MARK:
                break
            if end >= 0 and re.fullmatch(rb"[A-Za-z0-9+/]+=*", data[begin + 1 : end]):
                with contextlib.suppress(ValueError):  # a program may print such marks too
                    self.path = base64.b64decode(data[begin + 1 : end]).decode("utf-8", "replace")
                shown, data = shown + data[:begin], data[end + 1 :]
            else:
                shown, data = shown + data[: begin + 1], data[begin + 1 :]
        begin = len(data) if begin < 0 else begin
        self._held = data[begin:]
        return _lines(shown + data[:begin])

    def close(self) -> bytes:
        """Return what was held back."""
        rest, self._held = self._held, b""
        return _lines(rest)


def _lines(data: bytes) -> bytes:
    """Return output with the line ends of a terminal; one return more does no harm."""
    return data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


class PowerShell:
    """See the module. It is read, written and resized like a Terminal."""

    def __init__(self, shell: WinRmShell, columns: int) -> None:
        self._shell, self._editor, self._columns = shell, LineEditor(columns), columns
        self._out: asyncio.Queue[bytes] = asyncio.Queue(PIECES)
        self._decoder = codecs.getincrementaldecoder("utf-8")("ignore")
        self._keys = ""  # typed and not yet taken
        self._work: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._folder, self._stopped = Folder(), False
        self._at_host = False  # a line is at work there and can be stopped
        self._where = ""
        self._ended: End | None = None
        self._taking = asyncio.Lock()

    def begin(self) -> None:
        """Ask the host where we are; its prompt is the first that is shown."""
        self._start("")

    async def read(self) -> bytes:
        """Return what is to be shown next; nothing at the end."""
        if self._ended is not None and self._out.empty():
            return b""
        return await self._out.get()

    async def write(self, data: bytes) -> None:
        """Take keys. While a line is at work Ctrl+C stops it, and everything else waits for its end."""
        self._keys += self._decoder.decode(data)
        if self._work is not None:
            if BREAK in self._keys:
                self._keys = ""
                if self._at_host and not self._stopped:  # later it is at its own last words
                    self._stopped = True
                    self._work.cancel()
            self._keys = self._keys[:AHEAD]
            return
        await self._advance()

    def resize(self, columns: int, rows: int) -> None:
        """Note how wide the window is."""
        self._columns = columns
        self._editor.resize(columns)

    async def end(self) -> End:
        """Return how it ended."""
        return self._ended or End("lost", "The connection to the machine was lost.")

    async def close(self) -> None:
        """Stop what is at work."""
        self._ended = self._ended or End("gone", "")
        self._stopped = True
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)

    async def _advance(self) -> None:
        """Take keys until a line is entered."""
        async with self._taking:
            while self._work is None and self._ended is None and self._keys:
                keys, self._keys = self._keys, ""
                shown, line, self._keys = self._editor.feed(keys)
                await self._show(shown)
                if line is None:
                    return
                word = line.strip().lower()
                if word in LEAVE:
                    await self._finish(End("exited", "The person left it."))
                elif word in CLEAR or not word:
                    await self._show("\x1b[2J\x1b[H" if word else "")
                    await self._prompt()
                else:
                    self._start(line)

    def _start(self, line: str) -> None:
        self._stopped = False
        self._work = self._loop.create_task(self._run(line))
        self._work.add_done_callback(self._broke)

    def _broke(self, work: asyncio.Task[None]) -> None:
        """End the console when a line ended by a fault of ours: whoever waits for the prompt would wait for ever."""
        if self._ended is None and (work.cancelled() or work.exception() is not None):
            self._ended = End("lost", "The connection to the machine was lost.")
            with contextlib.suppress(asyncio.QueueFull):
                self._out.put_nowait(b"")

    async def _show(self, text: str) -> None:
        if text:
            await self._out.put(text.encode("utf-8", "replace"))

    async def _prompt(self) -> None:
        await self._show(self._editor.begin(f"PS {self._where}> "))

    async def _finish(self, end: End) -> None:
        self._ended = end
        await self._out.put(b"")

    async def _run(self, line: str) -> None:
        """Run one line and show the prompt after it. Cancelled, it tells the host to stop and goes on."""
        self._folder = Folder()
        stdin = b"\n".join((_encoded(self._where), _encoded(line), str(max(self._columns - 1, 20)).encode()))
        output: Output | None = None
        self._at_host = True
        try:
            output = await self._shell.run(LINE, timeout=LONGEST, stdin=stdin, heard=self._heard)
        except asyncio.CancelledError:
            if self._ended is not None:
                raise
        finally:
            self._at_host = False
        await self._out.put(self._folder.close() or b"\x1b[0m")
        self._where = self._folder.path or self._where
        if output is None:
            await self._show("^C\r\n")
        elif output.outcome.kind not in ("ok", "failed"):
            if output.outcome.kind not in ("killed", "not_started"):
                await self._finish(End("lost", output.outcome.detail))
                return
            await self._show(output.outcome.detail + "\r\n")
        elif output.outcome.status is None:  # the host would not start it
            await self._show(output.outcome.detail + "\r\n")
        await self._prompt()
        self._work = None
        await self._advance()

    def _heard(self, out: bytes, err: bytes) -> None:
        """Take output, in the thread of the connection; it waits here while nothing more can be shown."""
        red = b"\x1b[91m" + _lines(err) + b"\x1b[0m" if err else b""
        if shown := self._folder.feed(out) + red:
            waiting: Future[None] = asyncio.run_coroutine_threadsafe(self._out.put(shown), self._loop)
            while True:
                try:
                    waiting.result(0.2)
                except NotYet:
                    if self._stopped:
                        waiting.cancel()
                        break
                else:
                    break


@asynccontextmanager
async def shell(target: Target, columns: int) -> AsyncIterator[PowerShell]:
    """Log in and give a PowerShell. Raises CannotOpen or NotAdmitted."""
    async with WinRmTransport().open(target) as opened:
        terminal = PowerShell(opened, columns)
        terminal.begin()
        try:
            yield terminal
        finally:
            await terminal.close()
