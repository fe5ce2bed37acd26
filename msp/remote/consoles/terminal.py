"""A terminal over SSH: a shell with a pty, shown in a browser, recorded before it is shown."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol

import asyncssh

from msp.remote.consoles.cast import CastRecorder
from msp.remote.consoles.recordings import CannotRecord
from msp.remote.consoles.rules import End
from msp.remote.consoles.wire import Window, Wire
from msp.remote.outcome import Outcome
from msp.remote.transport import CannotOpen

CHUNK = 32768  # bytes read at once
ON_THE_WAY = 512 * 1024  # bytes that the browser may still have to show
LARGEST = (500, 300)  # columns and rows
Size = tuple[int, int]


class Shown(Protocol):
    """What a terminal in the browser is joined with."""

    async def read(self) -> bytes:
        """Return what it printed next; nothing at its end. The far side waits while we do not read."""

    async def write(self, data: bytes) -> None:
        """Type; waits while the far side does not take it."""

    def resize(self, columns: int, rows: int) -> None:
        """Tell it its new size."""

    async def end(self) -> End:
        """Return how it ended, once it has nothing more to say."""


class Terminal:
    """An open shell with a pty; see Shown."""

    def __init__(self, process: asyncssh.SSHClientProcess[bytes]) -> None:
        self._process = process

    async def read(self) -> bytes:
        """See Shown.read."""
        try:
            return await self._process.stdout.read(CHUNK)
        except (asyncssh.Error, OSError):
            return b""

    async def write(self, data: bytes) -> None:
        """See Shown.write."""
        try:
            self._process.stdin.write(data)
            await self._process.stdin.drain()
        except (asyncssh.Error, OSError):
            return  # it has ended, and says so to whoever reads

    def resize(self, columns: int, rows: int) -> None:
        """Tell the shell its new size."""
        if not self._process.is_closing():
            self._process.change_terminal_size(columns, rows)

    async def end(self) -> End:
        """Return how it ended, once it has nothing more to say."""
        try:
            async with asyncio.timeout(1):
                await self._process.wait_closed()
        except (TimeoutError, asyncssh.Error, OSError):
            pass
        if self._process.exit_signal:
            return End("exited", f"The shell was killed by {self._process.exit_signal[0]}.")
        if self._process.exit_status is not None:
            return End("exited", f"The shell ended with status {self._process.exit_status}.")
        return End("lost", "The connection to the machine was lost.")


@asynccontextmanager
async def shell(connection: asyncssh.SSHClientConnection, size: Size, name: str) -> AsyncIterator[Terminal]:
    """Start the log-in shell of a connection with a pty of (columns, rows). Raises CannotOpen if it gives none."""
    try:
        process = await connection.create_process(
            term_type="xterm-256color", term_size=size, encoding=None, stderr=asyncssh.STDOUT
        )
    except (asyncssh.Error, OSError) as error:
        detail = f"{name} admitted us and gives no terminal: {error}."
        raise CannotOpen(Outcome("unreachable", reason="refused", detail=detail)) from error
    try:
        yield Terminal(process)
    finally:
        process.close()


def size_of(message: Mapping[str, Any]) -> Size | None:
    """Return the (columns, rows) that a message asks for, within reason; None if it asks for none."""
    match message.get("resize"):
        case [int(columns), int(rows)] if columns > 0 and rows > 0:
            return min(columns, LARGEST[0]), min(rows, LARGEST[1])
    return None


async def converse(wire: Wire, terminal: Shown, recorder: CastRecorder, *, mode: str, typed: Callable[[], None]) -> End:
    """Join browser and shell until one of them ends it. `typed` is called whenever somebody types.

    In mode `view` what is typed is dropped. Nothing is shown that was not recorded first.
    """
    window = Window(ON_THE_WAY)
    tasks = {
        asyncio.create_task(_down(wire, terminal, recorder, window)),
        asyncio.create_task(_up(wire, terminal, recorder, window, mode, typed)),
    }
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _down(wire: Wire, terminal: Shown, recorder: CastRecorder, window: Window) -> End:
    try:
        while data := await terminal.read():
            recorder.output(data)
            await window.take(len(data))
            await wire.send(data)
        return await terminal.end()
    except CannotRecord as error:
        return End("recording", error.what)
    except OSError:
        return GONE


async def _up(
    wire: Wire, terminal: Shown, recorder: CastRecorder, window: Window, mode: str, typed: Callable[[], None]
) -> End:
    while (said := await wire.receive()) is not None:
        if isinstance(said, bytes):
            typed()
            if mode == "full":
                await terminal.write(said)
            continue
        if isinstance(count := said.get("shown"), int):
            window.shown(count)
        if size := size_of(said):
            terminal.resize(*size)
            try:
                recorder.resized(*size)
            except CannotRecord as error:
                return End("recording", error.what)
        if said.get("close"):
            return CLOSED
    return GONE


CLOSED = End("closed", "Closed by the person who opened it.")
GONE = End("gone", "The browser went away.")
