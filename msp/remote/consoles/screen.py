"""A screen over VNC: our side logs in to its server, the viewer in the browser needs no password and learns none."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

from msp.remote.consoles import rfb
from msp.remote.consoles.recordings import CannotRecord
from msp.remote.consoles.rfb_tape import RfbRecorder
from msp.remote.consoles.rules import End
from msp.remote.consoles.terminal import CLOSED, GONE
from msp.remote.consoles.wire import Wire
from msp.remote.outcome import Outcome
from msp.remote.reach import reach
from msp.remote.ssh import SshTransport
from msp.remote.target import Target
from msp.remote.transport import CannotOpen, NotAdmitted

CHUNK = 65536  # bytes read at once
CONNECT = 20.0  # seconds until the server's first picture may be asked for
LONGEST_NAME = 4096  # bytes of a desktop's name
MOST_PIXELS = 40_000_000  # of a screen; a hostile server may claim any size


@dataclass(frozen=True, slots=True)
class Server:
    """A screen's server that has let us in. `init`: its ServerInit message, whole."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    init: bytes

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        width, height = struct.unpack_from(">HH", self.init)
        return int(width), int(height)


@asynccontextmanager
async def connect(target: Target, ssh: SshTransport) -> AsyncIterator[Server]:
    """Reach a screen's server and log in, sharing the screen with whoever looks already.

    Raises CannotOpen or NotAdmitted, as a transport does.
    """
    deadline = asyncio.get_running_loop().time() + CONNECT
    async with AsyncExitStack() as stack:
        sock = await reach(target, ssh, stack, deadline, service="VNC", bare=bool(target.plain))
        reader, writer = await asyncio.open_connection(sock=sock, limit=CHUNK)
        stack.callback(writer.transport.abort)
        try:
            async with asyncio.timeout_at(deadline):
                init = await _log_in(target, reader, writer)
        except (TimeoutError, asyncio.IncompleteReadError, OSError, ValueError) as error:
            detail = f"{target.where} does not answer as a VNC server: {error or 'silence'}."
            raise CannotOpen(Outcome("unreachable", reason="banner", detail=detail)) from error
        yield Server(reader, writer, init)


async def _log_in(target: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    version = await reader.readexactly(12)
    if not version.startswith(b"RFB 003.") or not version[8:11].isdigit():
        raise ValueError("its first words are not RFB")
    minor = min(int(version[8:11]), 8)
    minor = minor if minor >= 7 else 3
    writer.write(b"RFB 003.%03d\n" % minor)
    chosen = await _security(target, reader, writer, minor)
    if chosen == rfb.VNC_AUTH:
        password = target.credential.password
        if password is None:
            raise _not_admitted(target, "it asks for a password and none is kept")
        writer.write(rfb.answer(await reader.readexactly(16), password.value))
    if (chosen == rfb.VNC_AUTH or minor >= 8) and (result := await _number(reader)) != 0:
        why = await _reason(reader) if minor >= 8 else f"result {result}"
        raise _not_admitted(target, why)
    writer.write(b"\x01")  # shared: whoever looks already goes on looking
    head = await reader.readexactly(24)
    width, height = struct.unpack_from(">HH", head)
    length = struct.unpack_from(">I", head, 20)[0]
    if not 0 < width * height <= MOST_PIXELS or length > LONGEST_NAME:
        raise ValueError(f"it claims a screen of {width} x {height} pixels")
    return head + await reader.readexactly(length)


async def _security(target: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, minor: int) -> int:
    """Choose how to log in: with the password that is kept, else without one."""
    if minor < 7:
        offered = {await _number(reader)}
    else:
        count = (await reader.readexactly(1))[0]
        offered = set(await reader.readexactly(count)) if count else {0}
    if offered == {0}:
        raise _not_admitted(target, await _reason(reader))
    wanted = rfb.VNC_AUTH if target.credential.password is not None else rfb.NONE
    if wanted not in offered:
        raise _not_admitted(target, f"it offers only the security types {', '.join(map(str, sorted(offered)))}")
    if minor >= 7:
        writer.write(bytes([wanted]))
    return wanted


async def _number(reader: asyncio.StreamReader) -> int:
    return int.from_bytes(await reader.readexactly(4), "big")


async def _reason(reader: asyncio.StreamReader) -> str:
    length = min(await _number(reader), LONGEST_NAME)
    return (await reader.readexactly(length)).decode("utf-8", "replace").strip(" .")


def _not_admitted(target: Target, why: str) -> NotAdmitted:
    detail = f"{target.where} did not admit us: {why}."
    return NotAdmitted(Outcome("auth_failed", detail=detail), advice="Check the password in the vault.")


async def greet(wire: Wire, server: Server, recorder: RfbRecorder, gate: rfb.Gate) -> bytes:
    """Tell the viewer what a server without a password would; return what it has said beyond its greeting."""
    heard = bytearray()

    async def hear(count: int) -> bytes:
        while len(heard) < count:
            said = await wire.receive()
            if said is None:
                raise ConnectionResetError
            if isinstance(said, bytes):
                heard.extend(said)
        taken = bytes(heard[:count])
        del heard[:count]
        return taken

    async def tell(data: bytes) -> None:
        recorder.heard(data)
        await wire.send(data)

    await tell(rfb.VERSION)
    if await hear(12) != rfb.VERSION:
        raise rfb.NotRfb("The viewer speaks another version.", advice="Load the page again.")
    await tell(bytes([1, rfb.NONE]))
    if await hear(1) != bytes([rfb.NONE]):
        raise rfb.NotRfb("The viewer wants another way to log in.", advice="Load the page again.")
    await tell(b"\0\0\0\0")
    await hear(1)  # whether to share; we have shared already
    await tell(server.init)
    return gate.feed(bytes(heard))


async def converse(wire: Wire, server: Server, recorder: RfbRecorder, *, mode: str, typed: Callable[[], None]) -> End:
    """Join viewer and server until one of them ends it. `typed` is called whenever somebody types or points."""
    gate = rfb.Gate(mode)
    try:
        async with asyncio.timeout(CONNECT):
            server.writer.write(await greet(wire, server, recorder, gate))
        await wire.say({"open": mode})
    except (TimeoutError, OSError):
        return GONE
    except CannotRecord as error:
        return End("recording", error.what)
    tasks = {
        asyncio.create_task(_down(wire, server, recorder)),
        asyncio.create_task(_up(wire, server, gate, typed)),
    }
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _down(wire: Wire, server: Server, recorder: RfbRecorder) -> End:
    while True:
        try:
            data = await server.reader.read(CHUNK)
        except OSError:
            data = b""
        if not data:
            return End("lost", "The screen's server closed the connection.")
        try:
            recorder.heard(data)
            await wire.send(data)
        except CannotRecord as error:
            return End("recording", error.what)
        except OSError:
            return GONE


async def _up(wire: Wire, server: Server, gate: rfb.Gate, typed: Callable[[], None]) -> End:
    while (said := await wire.receive()) is not None:
        if not isinstance(said, bytes):
            if said.get("close"):
                return CLOSED
            continue
        try:
            passed = gate.feed(said)
        except rfb.NotRfb as error:
            return End("lost", error.what)
        if gate.acted:
            gate.acted = False
            typed()
        with suppress(OSError):  # it has ended, and says so to whoever reads
            server.writer.write(passed)
            await server.writer.drain()
    return GONE
