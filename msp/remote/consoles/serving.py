"""One console from end to end: reach the machine, record, join it with the browser until one of them ends it."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from msp.remote.consoles import camera, screen, terminal
from msp.remote.consoles.cast import CastRecorder
from msp.remote.consoles.recordings import CannotRecord, Recorded, Tape
from msp.remote.consoles.rfb_tape import RfbRecorder
from msp.remote.consoles.rules import End, recording_name
from msp.remote.consoles.wire import Wire
from msp.remote.ssh import SshTransport
from msp.remote.target import Target
from msp.remote.transport import CannotOpen, NotAdmitted

HELLO = 5.0  # seconds for the browser to say how large it is
USUAL = (80, 24)  # columns and rows of one that does not say


@dataclass
class Console:
    """What is served. `recorded` is set when its recording is closed, also when serving was cancelled."""

    console_id: int
    kind: str
    mode: str
    title: str
    began: datetime
    target: Target
    secrets: tuple[str, ...]
    folder: Path
    most_bytes: int
    recorded: Recorded | None = None

    def tape(self) -> Tape:
        """Return a new file for its recording."""
        return Tape(self.folder, recording_name(self.console_id, self.began, self.kind), self.most_bytes)


async def serve(console: Console, wire: Wire, typed: Callable[[], None]) -> End:
    """Serve until it ends and return how. Raises CannotOpen, NotAdmitted or CannotRecord if it never began."""
    async with AsyncExitStack() as stack:
        ssh = SshTransport()  # of its own: a console's connection is never a run's
        stack.push_async_callback(ssh.close)
        serve_kind = _screen if console.kind == "screen" else _terminal
        return await serve_kind(console, wire, typed, stack, ssh)


async def _terminal(
    console: Console, wire: Wire, typed: Callable[[], None], stack: AsyncExitStack, ssh: SshTransport
) -> End:
    columns, rows = await _size(wire)
    windows = console.target.transport == "winrm"
    opened = None if windows else await stack.enter_async_context(ssh.open(console.target))
    recorder = CastRecorder(
        console.tape(),
        columns=columns,
        rows=rows,
        title=console.title,
        began=console.began,
        secrets=console.secrets,
        clock=time.monotonic,
    )

    def close() -> None:
        console.recorded = recorder.close()

    stack.callback(close)
    shell: terminal.Shown
    if opened is None:
        from msp.remote.consoles import powershell  # its libraries are slow to import, and most hosts need none

        shell = await stack.enter_async_context(powershell.shell(console.target, columns))
    else:
        shell = await stack.enter_async_context(
            terminal.shell(opened.link.connection, (columns, rows), console.target.where)
        )
    await wire.say({"open": console.mode})
    return await terminal.converse(wire, shell, recorder, mode=console.mode, typed=typed)


async def _screen(
    console: Console, wire: Wire, typed: Callable[[], None], stack: AsyncExitStack, ssh: SshTransport
) -> End:
    # The camera is first: where a later viewer puts an earlier one out, the person stays. Where a second one is not
    # let in at all, the camera goes, and there are no pictures.
    behind = await stack.enter_async_context(AsyncExitStack())
    eye: screen.Server | None = await behind.enter_async_context(screen.connect(console.target, ssh))
    try:
        server = await stack.enter_async_context(screen.connect(console.target, ssh))
    except (CannotOpen, NotAdmitted):
        await behind.aclose()
        eye = None
        server = await stack.enter_async_context(screen.connect(console.target, ssh))
    tape = console.tape()
    pictures = (console.folder / tape.name).with_suffix("")
    recorder = RfbRecorder(tape, pictures, secrets=console.secrets, clock=time.monotonic)

    def close() -> None:
        console.recorded = recorder.close()

    stack.callback(close)
    tasks: list[asyncio.Task[End | None]] = []
    tasks.append(asyncio.create_task(screen.converse(wire, server, recorder, mode=console.mode, typed=typed)))
    if eye is not None:
        tasks.append(asyncio.create_task(_film(eye, recorder)))
    try:
        while True:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if (end := task.result()) is not None:
                    return end
                tasks.remove(task)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _film(eye: screen.Server, recorder: RfbRecorder) -> End | None:
    """Return nothing when the film is over and the console goes on; an end if pictures cannot be kept."""
    try:
        await camera.film(eye, recorder.picture)
    except CannotRecord as error:
        return End("recording", error.what)
    return None


async def _size(wire: Wire) -> terminal.Size:
    try:
        async with asyncio.timeout(HELLO):
            said = await wire.receive()
    except TimeoutError:
        return USUAL
    return (terminal.size_of(said) if isinstance(said, dict) else None) or USUAL
