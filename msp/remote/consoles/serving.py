"""One console from end to end: reach the machine, record, join it with the browser until one of them ends it."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from msp.remote.consoles import terminal
from msp.remote.consoles.cast import CastRecorder
from msp.remote.consoles.recordings import Recorded, Tape
from msp.remote.consoles.rules import End
from msp.remote.consoles.wire import Wire
from msp.remote.ssh import SshTransport
from msp.remote.target import Target

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

    def tape(self, ending: str) -> Tape:
        """Return a new file for its recording."""
        name = f"{self.began:%Y-%m}/console-{self.console_id}.{ending}"
        return Tape(self.folder, name, self.most_bytes)


async def serve(console: Console, wire: Wire, typed: Callable[[], None]) -> End:
    """Serve until it ends and return how. Raises CannotOpen, NotAdmitted or CannotRecord if it never began."""
    async with AsyncExitStack() as stack:
        ssh = SshTransport()  # of its own: a console's connection is never a run's
        stack.push_async_callback(ssh.close)
        return await _terminal(console, wire, typed, stack, ssh)


async def _terminal(
    console: Console, wire: Wire, typed: Callable[[], None], stack: AsyncExitStack, ssh: SshTransport
) -> End:
    columns, rows = await _size(wire)
    opened = await stack.enter_async_context(ssh.open(console.target))
    recorder = CastRecorder(
        console.tape("cast"),
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
    shell = await stack.enter_async_context(
        terminal.shell(opened.link.connection, (columns, rows), console.target.where)
    )
    await wire.say({"open": console.mode})
    return await terminal.converse(wire, shell, recorder, mode=console.mode, typed=typed)


async def _size(wire: Wire) -> terminal.Size:
    try:
        async with asyncio.timeout(HELLO):
            said = await wire.receive()
    except TimeoutError:
        return USUAL
    return (terminal.size_of(said) if isinstance(said, dict) else None) or USUAL
