"""One open SSH connection as a Shell: a channel per command, collected as bytes, with a deadline of our own."""

import asyncio
import shlex
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

import asyncssh

from msp.remote.outcome import Outcome, of_exit
from msp.remote.output import Collector
from msp.remote.payload import Payload, Tree
from msp.remote.ssh import sftp
from msp.remote.ssh.pool import Link
from msp.remote.sudo import Become, Dialogue
from msp.remote.transport import CannotOpen, NotAdmitted, Output
from msp.remote.winrm import bootstrap
from msp.remote.words import command_line, words_of

STALE = 5.0  # seconds in which a warm connection must take the first command, or it is taken for dead
GRACE = 1.0  # seconds that output may still come after the exit status; a background process may hold the stream


class _Session(asyncssh.SSHClientSession[bytes]):
    """Collects one command. `done` is set when the channel is closed, or shortly after the exit status."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, dialogue: Dialogue | None = None, payload: Payload | None = None
    ) -> None:
        self.done: asyncio.Future[None] = loop.create_future()
        self.out, self.err = Collector("stdout"), Collector("stderr")
        self.status: int | None = None
        self.signal = ""
        self.opened = False  # the host has opened the channel; the command is sent next
        self.ended = False
        self.left_behind = False
        self.last = loop.time()
        self._loop, self._dialogue, self._payload = loop, dialogue, payload
        self._room = asyncio.Event()  # the far side takes more
        self._room.set()
        self._feeding: asyncio.Task[None] | None = None
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self.opened, self._channel = True, chan

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        self.last = self._loop.time()
        if datatype != asyncssh.EXTENDED_DATA_STDERR:
            self.out.feed(data)
        elif self._dialogue is None or self._dialogue.began:
            self.err.feed(data)
        elif self._channel is not None:
            passed, answer, ends = self._dialogue.hear(data)
            self.err.feed(passed)
            if answer:
                self._channel.write(answer)
            if ends:
                self.end_input()

    def end_input(self) -> None:
        """Send the payload, if there is one, and the end of the input."""
        if self._channel is None:
            return
        if self._payload is None:
            self._channel.write_eof()
        else:
            self._feeding = self._loop.create_task(self._feed(self._channel, self._payload))

    async def _feed(self, channel: asyncssh.SSHClientChannel[bytes], payload: Payload) -> None:
        chunks = payload.chunks()
        with suppress(OSError):  # the command reads no further, or our own file cannot be read: its checksum tells
            while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
                await self._room.wait()
                self.last = self._loop.time()
                channel.write(chunk)
        with suppress(OSError):
            channel.write_eof()

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    def stop_feeding(self) -> None:
        """Send no more."""
        if self._feeding is not None:
            self._feeding.cancel()

    def exit_status_received(self, status: int) -> None:
        self.status, self.ended = status, True
        self._loop.call_later(GRACE, self._enough)

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        self.signal, self.ended = signal, True
        self._loop.call_later(GRACE, self._enough)

    def _enough(self) -> None:
        if not self.done.done():
            self.left_behind = True
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


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
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout.total_seconds()
        anew, self._anew = self._anew, None
        patience = None if anew is None else STALE
        output = await self._run(line, deadline, stdin, idle, dialogue, payload, patience=patience)
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
        return await self._run(line, deadline, stdin, idle, dialogue, payload)

    async def _run(
        self,
        line: str,
        deadline: float,
        stdin: bytes,
        idle: timedelta | None,
        dialogue: Dialogue | None,
        payload: Payload | None,
        *,
        patience: float | None = None,
    ) -> Output:
        """Run one command line. The outcome is _NOT_SENT only when it certainly was not sent."""
        loop = asyncio.get_running_loop()
        connection, session = self.link.connection, _Session(loop, dialogue, payload)
        channel: asyncssh.SSHClientChannel[bytes] | None = None

        def stale() -> None:
            if not session.opened:
                connection.abort()

        timer = loop.call_later(patience, stale) if patience is not None else None
        try:
            async with asyncio.timeout_at(deadline):
                channel, _ = await connection.create_session(lambda: session, line, encoding=None, request_pty=False)
                if stdin:
                    channel.write(stdin)
                if dialogue is None:
                    session.end_input()
                await _finished(session, idle)
        except TimeoutError:
            stop(channel)
            self.sound = False
            waited = "in time" if loop.time() >= deadline else f"with a word for {idle}"
            detail = f"The command did not end {waited}; it was told to stop, and may live on."
            return self._output(session, Outcome("timeout", detail=detail))
        except asyncio.CancelledError:
            stop(channel)
            raise
        except (asyncssh.Error, OSError) as error:
            if (
                channel is None and self.is_open and not _was_dead(error)
            ):  # the server said no to this one request: nothing ran
                detail = f"The host would not start the command: {error}."
                return self._output(session, Outcome("failed", detail=detail))
            self.sound = False
            return self._output(session, self._lost() if session.opened else _NOT_SENT)
        finally:
            session.stop_feeding()
            if timer is not None:
                timer.cancel()
        if session.left_behind:
            channel.close()
        if not session.ended:
            self.sound = False
            return self._output(session, self._lost())
        if dialogue is not None and not dialogue.began:
            return self._output(session, dialogue.outcome(session.status))
        return self._output(session, of_exit(session.status, session.signal))

    def _output(self, session: _Session, outcome: Outcome) -> Output:
        return Output(outcome, session.out.captured(), session.err.captured())

    def _lost(self) -> Outcome:
        why = "The connection went after the command was sent"
        if self.link.expired:
            why = "The certificate's time was over while the command was at work, so its session was closed"
        return Outcome("lost", detail=f"{why}; what it did is unknown.")


def _was_dead(error: Exception) -> bool:
    """Whether asyncssh found its connection gone when it was to open a channel: it knows before it tells."""
    return isinstance(error, asyncssh.ChannelOpenError) and error.reason == "SSH connection closed"


_NOT_SENT = Outcome(
    "unreachable", reason="connect", detail="The connection had gone before the command could be sent; nothing ran."
)


def stop(channel: asyncssh.SSHClientChannel[bytes] | None) -> None:
    """Signal a command and close its channel; whether the far side obeys is not known."""
    if channel is None:
        return
    try:
        channel.send_signal("TERM")
        channel.send_signal("KILL")
        channel.close()
    except OSError:  # the channel is closing already
        pass


async def _finished(session: _Session, idle: timedelta | None) -> None:
    """Wait for the end of a command; raises TimeoutError after `idle` without output."""
    if idle is None:
        await session.done
        return
    loop = asyncio.get_running_loop()
    while not session.done.done():
        left = session.last + idle.total_seconds() - loop.time()
        if left <= 0:
            raise TimeoutError
        await asyncio.wait([session.done], timeout=left)
