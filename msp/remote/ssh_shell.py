"""One open SSH connection as a Shell: a channel per command, collected as bytes, with a deadline of our own."""

import asyncio
import shlex
from datetime import timedelta

import asyncssh

from msp.remote.outcome import Outcome, of_exit
from msp.remote.output import Collector
from msp.remote.transport import Output

GRACE = 1.0  # seconds that output may still come after the exit status; a background process may hold the stream


class _Session(asyncssh.SSHClientSession[bytes]):
    """Collects one command. `done` is set when the channel is closed, or shortly after the exit status."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.done: asyncio.Future[None] = loop.create_future()
        self.out, self.err = Collector(), Collector()
        self.status: int | None = None
        self.signal = ""
        self.ended = False
        self.left_behind = False
        self.last = loop.time()
        self._loop = loop

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        self.last = self._loop.time()
        (self.err if datatype == asyncssh.EXTENDED_DATA_STDERR else self.out).feed(data)

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


def command_line(script: str) -> str:
    """Return the one line that a log-in shell needs to run `script` in sh, or in what its #! line names."""
    first, _, _ = script.partition("\n")
    interpreter = first[2:].strip() if first.startswith("#!") else "/bin/sh"
    return f"exec {interpreter} -c {shlex.quote(script)}"


class SshShell:
    """See Shell. Commands of one connection may run at the same time."""

    def __init__(self, connection: asyncssh.SSHClientConnection) -> None:
        self._connection = connection

    @property
    def is_open(self) -> bool:
        return not self._connection.is_closed()

    @property
    def connection(self) -> asyncssh.SSHClientConnection:
        """The logged-in connection itself: for what is no command, a console or a forwarded port."""
        return self._connection

    async def run(
        self, script: str, *, timeout: timedelta, stdin: bytes = b"", idle: timedelta | None = None
    ) -> Output:
        """Run `script`; see Shell.run."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout.total_seconds()
        session = _Session(loop)
        channel: asyncssh.SSHClientChannel[bytes] | None = None
        try:
            async with asyncio.timeout_at(deadline):
                channel, _ = await self._connection.create_session(
                    lambda: session, command_line(script), encoding=None, request_pty=False
                )
                if stdin:
                    channel.write(stdin)
                channel.write_eof()
                await _finished(session, idle)
        except TimeoutError:
            stop(channel)
            waited = "in time" if loop.time() >= deadline else f"with a word for {idle}"
            detail = f"The command did not end {waited}; it was told to stop, and may live on."
            return self._output(session, Outcome("timeout", detail=detail))
        except asyncio.CancelledError:
            stop(channel)
            raise
        except (asyncssh.Error, OSError) as error:
            if channel is None and self.is_open:  # the server said no to this one request: nothing ran
                detail = f"The host would not start the command: {error}."
                return self._output(session, Outcome("failed", detail=detail))
            return self._output(session, _lost())
        if session.left_behind:
            channel.close()
        if not session.ended:
            return self._output(session, _lost())
        return self._output(session, of_exit(session.status, session.signal))

    def _output(self, session: _Session, outcome: Outcome) -> Output:
        return Output(outcome, session.out.captured(), session.err.captured())


def _lost() -> Outcome:
    return Outcome("lost", detail="The connection went after the command was sent; what it did is unknown.")


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
