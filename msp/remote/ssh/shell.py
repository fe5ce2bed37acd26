"""One open SSH connection as a Shell: a channel per command, collected as bytes, with a deadline of our own."""

import asyncio
import shlex
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from math import inf

import asyncssh

from msp.remote.outcome import Outcome, of_exit
from msp.remote.output import Collector
from msp.remote.payload import Payload, Tree
from msp.remote.ssh import sftp
from msp.remote.ssh.channel import ExecChannel
from msp.remote.ssh.pool import Link
from msp.remote.sudo import Become, Dialogue
from msp.remote.transport import CannotOpen, NotAdmitted, Output
from msp.remote.winrm import bootstrap
from msp.remote.words import command_line, words_of

STALE = 5.0  # seconds in which a warm connection must take the first command, or it is taken for dead
#: Seconds after which a host that gave no channel is asked again. Where it bears one session on a connection
#: (MaxSessions 1), the one before may not have been put away yet, although it has been closed on both sides.
AGAIN = (0.01, 0.05, 0.25)
GRACE = 1.0  # seconds that output may still come after the exit status; a background process may hold the stream


@dataclass(frozen=True, slots=True)
class _Order:
    """What is to be run: one command line, what it reads, and until when (by the loop's clock)."""

    line: str
    deadline: float
    idle: timedelta | None = None
    stdin: bytes = b""
    dialogue: Dialogue | None = None
    payload: Payload | None = None


class _Command(ExecChannel):
    """Collects one command. `done` is set when the channel is closed, or shortly after the exit status."""

    def __init__(self, connection: asyncssh.SSHClientConnection, order: _Order) -> None:
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self._loop.create_future()
        self.out, self.err = Collector("stdout"), Collector("stderr")
        self.status: int | None = None
        self.signal = ""
        self.began = False  # the host has opened the channel and the command was sent
        self.no: str | None = None  # why the host would not start it
        self.ended = False
        self.left_behind = False
        self.timed_out = False
        self.last = self._loop.time()
        self._stdin, self._dialogue, self._payload = order.stdin, order.dialogue, order.payload
        self._room: asyncio.Event | None = None  # set while the far side takes more of a payload
        self._feeding: asyncio.Task[None] | None = None
        self._late: asyncio.TimerHandle | None = None
        super().__init__(connection, order.line)

    def opened(self) -> None:
        self.began = True
        if self._stdin:
            self.write(self._stdin)
        if self._dialogue is None:
            self._end_input()

    def refused(self, why: str) -> None:
        self.began, self.no = False, why or "it gave no reason"
        self._finish()

    def heard(self, data: bytes) -> None:
        self.last = self._loop.time()
        self.out.feed(data)

    def heard_error(self, data: bytes) -> None:
        self.last = self._loop.time()
        if self._dialogue is None or self._dialogue.began:
            self.err.feed(data)
            return
        passed, answer, ends = self._dialogue.hear(data)
        self.err.feed(passed)
        if answer:
            self.write(answer)
        if ends:
            self._end_input()

    def _end_input(self) -> None:
        """Send the payload, if there is one, and the end of the input."""
        if self._payload is None:
            self.write_eof()
        else:
            self._room = asyncio.Event()
            self._room.set()
            self._feeding = self._loop.create_task(self._feed(self._payload, self._room))

    async def _feed(self, payload: Payload, room: asyncio.Event) -> None:
        chunks = payload.chunks()
        with suppress(OSError):  # our own file cannot be read: its checksum tells
            while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
                await room.wait()
                self.last = self._loop.time()
                self.write(chunk)
        self.write_eof()

    def pause(self) -> None:
        if self._room is not None:
            self._room.clear()

    def resume(self) -> None:
        if self._room is not None:
            self._room.set()

    def exited(self, status: int | None, signal: str) -> None:
        self.status, self.signal, self.ended = status, signal, True
        self._late = self._loop.call_later(GRACE, self._enough)

    def over_time(self) -> None:
        """Its time is over: who waits for the end hears TimeoutError."""
        if not self.done.done():
            self.timed_out = True
            self.done.set_exception(TimeoutError())

    def _enough(self) -> None:
        self.left_behind = not self.done.done()
        self._finish()

    def closed(self) -> None:
        if self._late is not None:
            self._late.cancel()
        self._finish()

    def _finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def leave(self) -> None:
        """Send no more; what is left behind on the stream is not waited for."""
        if self._feeding is not None:
            self._feeding.cancel()
        if self.left_behind:
            self.close()


class SshShell:
    """See Shell. Commands of one connection may run at the same time.

    anew: connects again; given for a warm connection, which may have died unnoticed before its first command.
    """

    def __init__(self, link: Link, anew: Callable[[], Awaitable[Link]] | None = None) -> None:
        self.link = link
        self.sound = True  # nothing happened that speaks against using the connection again
        self._anew = anew

    @property
    def is_open(self) -> bool:
        return self.link.is_open

    def lasts(self, time: timedelta) -> bool:
        """Whether the connection may be used for that long; see Fading."""
        return self.link.lasts(time.total_seconds())

    def retire(self) -> None:
        """Do not keep the connection; see Fading."""
        self.sound = False

    async def run(
        self, script: str, *, timeout: timedelta, stdin: bytes = b"", idle: timedelta | None = None
    ) -> Output:
        """Run `script`; see Shell.run. Scripts for Windows are understood by OpenSSH on Windows."""
        if (windows := bootstrap.sent(script, stdin)) is not None:
            return await self._told(windows.by_ssh, timeout, idle, windows.stdin)
        return await self._told(command_line(script), timeout, idle, stdin)

    async def run_as(
        self, become: Become, script: str, *, timeout: timedelta, stdin: bytes = b"", idle: timedelta | None = None
    ) -> Output:
        """Run `script` as another account; see Becomes.run_as."""
        dialogue = Dialogue(become, stdin)
        line = "exec " + shlex.join(dialogue.line(words_of(script)))
        return await self._told(line, timeout, idle, dialogue=dialogue)

    async def run_fed(
        self,
        payload: Payload,
        script: str,
        *,
        timeout: timedelta,
        stdin: bytes = b"",
        idle: timedelta | None = None,
        become: Become | None = None,
    ) -> Output:
        """Run `script`, which reads a payload; see Takes.run_fed."""
        if become is None:
            return await self._told(command_line(script), timeout, idle, stdin, payload=payload)
        dialogue = Dialogue(become, stdin)
        line = "exec " + shlex.join(dialogue.line(words_of(script)))
        return await self._told(line, timeout, idle, dialogue=dialogue, payload=payload)

    async def put(self, tree: Tree, folder: str, *, timeout: timedelta) -> Outcome:
        """Write a tree by SFTP; see Puts.put."""
        outcome = await sftp.put(self.link.connection, tree, folder, timeout)
        self.sound = self.sound and outcome.kind in ("ok", "failed")
        return outcome

    async def _told(
        self,
        line: str,
        timeout: timedelta,
        idle: timedelta | None,
        stdin: bytes = b"",
        dialogue: Dialogue | None = None,
        payload: Payload | None = None,
    ) -> Output:
        deadline = asyncio.get_running_loop().time() + timeout.total_seconds()
        order = _Order(line, deadline, idle, stdin, dialogue, payload)
        anew, self._anew = self._anew, None
        output = await self._run(order, None if anew is None else STALE)
        if output.outcome is not _NOT_SENT or anew is None:
            return output
        self.link.close()
        try:
            async with asyncio.timeout_at(deadline):
                self.link, self.sound = await anew(), True
        except (CannotOpen, NotAdmitted) as error:
            return Output(error.outcome)
        except TimeoutError:
            detail = "The connection had died, and the time was over before a new one stood."
            return Output(Outcome("unreachable", reason="connect", detail=detail))
        return await self._run(order)

    async def _run(self, order: _Order, patience: float | None = None) -> Output:
        """Run one command line, asking again where the host gives no channel yet."""
        loop = asyncio.get_running_loop()
        for pause in (*AGAIN, inf):
            output, unopened = await self._once(order, patience)
            if not unopened or loop.time() + pause >= order.deadline:
                break
            await asyncio.sleep(pause)
        return output

    async def _once(self, order: _Order, patience: float | None) -> tuple[Output, bool]:
        """Return how a command ended, and whether the host gave no channel for it.

        The outcome is _NOT_SENT only when it certainly was not sent.
        """
        loop = asyncio.get_running_loop()
        connection = self.link.connection
        try:
            command = _Command(connection, order)
        except asyncssh.ChannelOpenError:  # asyncssh knows that its connection has gone before it tells
            self.sound = False
            return Output(_NOT_SENT), False

        def stale() -> None:
            if not command.began:
                connection.abort()

        timer = loop.call_later(patience, stale) if patience is not None else None
        limit = loop.call_at(order.deadline, command.over_time)
        try:
            await _finished(command, order.idle)
        except TimeoutError:
            command.kill()
            self.sound = False
            if not command.began:  # and it will not be sent any more
                return Output(_NOT_OPENED), False
            waited = "in time" if command.timed_out else f"with a word for {order.idle}"
            detail = f"The command did not end {waited}; it was told to stop, and may live on."
            return _output(command, Outcome("timeout", detail=detail)), False
        except asyncio.CancelledError:
            command.kill()
            raise
        finally:
            command.leave()
            limit.cancel()
            if timer is not None:
                timer.cancel()
        if command.no is not None and self.is_open:  # the server said no to this one request: nothing ran
            outcome = Outcome("failed", detail=f"The host would not start the command: {command.no}.")
        elif not command.ended:
            self.sound = False
            outcome = self._lost() if command.began else _NOT_SENT
        elif order.dialogue is not None and not order.dialogue.began:
            outcome = order.dialogue.outcome(command.status)
        else:
            outcome = of_exit(command.status, command.signal)
        return _output(command, outcome), command.unopened and self.is_open

    def _lost(self) -> Outcome:
        why = "The connection went after the command was sent"
        if self.link.expired:
            why = "The certificate's time was over while the command was at work, so its session was closed"
        return Outcome("lost", detail=f"{why}; what it did is unknown.")


_NOT_SENT = Outcome(
    "unreachable", reason="connect", detail="The connection had gone before the command could be sent; nothing ran."
)
_NOT_OPENED = Outcome(
    "unreachable", reason="connect", detail="The host opened no channel for the command in time; nothing ran."
)


def _output(command: _Command, outcome: Outcome) -> Output:
    return Output(outcome, command.out.captured(), command.err.captured())


async def _finished(command: _Command, idle: timedelta | None) -> None:
    """Wait for the end of a command; raises TimeoutError when its time is over, or after `idle` without output."""
    loop = asyncio.get_running_loop()
    while idle is not None and not command.done.done():
        left = command.last + idle.total_seconds() - loop.time()
        if left <= 0:
            raise TimeoutError
        await asyncio.wait([command.done], timeout=left)
    await command.done
