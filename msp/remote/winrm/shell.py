"""One open shell on a Windows host: a script at a time, with a deadline of our own.

Every blocking call is made in one thread that belongs to this shell, so a `Session` never meets a second thread.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, TypeVar

from winrm.exceptions import WinRMError, WinRMOperationTimeoutError, WSManFaultError

from msp.remote.outcome import Outcome, of_exit
from msp.remote.output import Collector
from msp.remote.transport import CannotOpen, NotAdmitted, Output
from msp.remote.winrm import bootstrap, clixml
from msp.remote.winrm.access import Access
from msp.remote.winrm.session import OPERATION, Session
from msp.remote.winrm.wire import Broken, unreachable

T = TypeVar("T")
UTF8 = 65001  # code page of everything that commands print
PIECE = 64 * 1024  # bytes of standard input in one request
LEFT_ALONE = "PT900S"  # after so long without a request the host ends a shell and what runs in it
PARTING = 2.0  # seconds for telling a command to stop, and again for closing the shell
NOT_FOUND = 2150858843  # the shell is gone: it was left alone for too long, or the service was restarted
DENIED = 5
ABNORMAL: Final = {0xC0000005: "access violation", 0xC000013A: "broken off", 0xC00000FD: "stack overflow",
                   0xC0000135: "a library is missing", 0xC0000142: "a library did not start",
                   0xC0000409: "it found itself damaged", 0xE0434352: "an exception of .NET"}  # fmt: skip
NO_SCRIPT = "A Windows host takes scripts that begin with #!powershell or #!cmd, and no other."


def of_windows_exit(code: int) -> Outcome:
    """Return the outcome of a command by its exit code; Windows ends a crashed one with an NTSTATUS error.

    Source: [MS-ERREF] 2.3: errors of the system begin with 0xC00. A negative status (`exit -1`) is told as such.
    """
    code &= 0xFFFFFFFF
    if code >> 20 != 0xC00 and code not in ABNORMAL:
        return of_exit(code - (1 << 32) if code >> 31 else code)
    why = ABNORMAL.get(code)
    detail = f"Windows ended the command: 0x{code:08X}{f', {why}' if why else ''}."
    return Outcome("killed", signal=f"0x{code:08X}", detail=detail)


@dataclass
class _Task:
    """One command: what it printed so far, and until when it may run. Shared by two threads, written by one."""

    sent: bootstrap.Sent
    deadline: float
    idle: float | None
    heard: Callable[[bytes, bytes], None] | None = None
    out: Collector = field(default_factory=Collector)
    err: Collector = field(default_factory=lambda: Collector("stderr"))
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.last = time.monotonic()
        self._reader = clixml.Reader() if self.sent.powershell else None

    def feed(self, out: bytes, err: bytes) -> None:
        if out:
            self.out.feed(out)
        if err:
            err = self._reader.feed(err) if self._reader else err
            self.err.feed(err)
        if out or err:
            self.last = time.monotonic()
            if self.heard is not None:
                self.heard(out, err)

    def output(self, outcome: Outcome) -> Output:
        if self._reader and (rest := self._reader.end()):
            self.err.feed(rest)
            if self.heard is not None:
                self.heard(b"", rest)
        return Output(outcome, self.out.captured(), self.err.captured())

    def left(self) -> float:
        """Seconds until it is told to stop, by its deadline or its silence."""
        until = self.deadline if self.idle is None else min(self.deadline, self.last + self.idle)
        return until - time.monotonic()


class WinRmShell:
    """See Shell. Scripts begin with #!powershell or #!cmd; those of one shell run one after another."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="winrm")
        self._turn = asyncio.Lock()
        self._session: Session | None = None  # touched by its own thread, but for `wire.cut`
        self._id = ""

    async def open(self, timeout: timedelta) -> None:
        """Log in and open a shell; raises CannotOpen or NotAdmitted."""
        deadline = time.monotonic() + timeout.total_seconds()
        opening = self._thread.submit(self._open, deadline)
        try:
            async with asyncio.timeout(timeout.total_seconds() + 0.5):  # looking up a name knows no time limit
                await _result(opening)
        except TimeoutError as error:
            raise unreachable("connect", f"{self._access.where} could not be reached in time.", "Is it up?") from error

    async def run(
        self,
        script: str,
        *,
        timeout: timedelta,
        stdin: bytes = b"",
        idle: timedelta | None = None,
        heard: Callable[[bytes, bytes], None] | None = None,
    ) -> Output:
        """Run `script`; see Shell.run. heard: takes what came on both streams, as it comes and in another thread."""
        sent = bootstrap.sent(script, stdin)
        if sent is None:
            return Output(Outcome("failed", detail=NO_SCRIPT))
        deadline = time.monotonic() + timeout.total_seconds()
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                await self._turn.acquire()
        except TimeoutError:
            return Output(Outcome("not_started", detail="Another command was still at work on this connection."))
        try:
            task = _Task(sent, deadline, idle.total_seconds() if idle else None, heard)
            work = self._thread.submit(self._run, task)
            try:
                return await _result(work)
            except asyncio.CancelledError:
                task.stop.set()
                if self._session is not None:
                    self._session.wire.cut()
                await _ended(work, 2 * PARTING)
                raise
        finally:
            self._turn.release()

    async def close(self) -> None:
        """Close the shell on the host, if it still answers, and the connection."""
        closing = self._thread.submit(self._close)
        self._thread.shutdown(wait=False)
        if not await _ended(closing, PARTING + 1) and self._session is not None:
            self._session.wire.cut()

    # What follows runs in the thread of this shell.

    def _open(self, deadline: float) -> None:
        access = self._access
        self._session = Session(access, deadline)
        try:
            self._id = self._new_shell(max(deadline - time.monotonic(), 0.5))
        except WSManFaultError as error:
            raise self._no_shell(error) from error
        except Broken as error:
            raise unreachable("banner", f"{access.where} stopped answering: {error.what}") from error
        except (WinRMOperationTimeoutError, WinRMError) as error:
            raise unreachable("banner", f"{access.where} would not open a shell: {error}.") from error

    def _no_shell(self, error: WSManFaultError) -> CannotOpen | NotAdmitted:
        where = self._access.where
        if error.wsman_fault_code == DENIED:
            detail = f"{where} knows {self._access.user} and gives no right to a shell."
            advice = "Make the account a member of Remote Management Users, or an administrator."
            return NotAdmitted(Outcome("auth_failed", detail=detail), advice=advice)
        said = error.reason.strip().rstrip(".")
        return unreachable("banner", f"{where} would not open a shell: {said}.", "Are too many shells open there?")

    @property
    def _live(self) -> Session:
        if self._session is None:
            raise Broken("The connection is closed.", sent=False)
        return self._session

    def _new_shell(self, seconds: float) -> str:
        with self._live.within(seconds) as protocol:
            return protocol.open_shell(codepage=UTF8, idle_timeout=LEFT_ALONE, noprofile=True)

    def _again(self, deadline: float) -> Session:
        """Return a session that works: this one, or a new one for the same shell if the connection is gone."""
        if self._session is None or not self._session.alive:
            if self._session is not None:
                self._session.close()
            self._session = None
            self._session = Session(self._access, deadline)
        return self._session

    def _run(self, task: _Task) -> Output:
        command = ""
        try:
            command = self._start(task)
            outcome = self._drive(command, task)
        except (CannotOpen, NotAdmitted) as error:
            return task.output(error.outcome)  # nothing was sent
        except WSManFaultError as error:
            if not command:
                detail = f"The host would not start the command: {error.reason.strip()}"
                return task.output(Outcome("failed", detail=detail))
            detail = f"The host knows nothing of the command any more: {error.reason.strip()} What it did is unknown."
            outcome = Outcome("lost", detail=detail)
        except (Broken, WinRMError) as error:
            said = error.what if isinstance(error, Broken) else str(error)
            if not command and isinstance(error, Broken) and not error.sent:
                return task.output(Outcome("not_started", detail=said))
            outcome = Outcome("lost", detail=f"{said} The command had been sent; what it did is unknown.")
        if command:
            self._end(command, gone=outcome.kind == "lost" and not task.stop.is_set())
        return task.output(outcome)

    def _start(self, task: _Task) -> str:
        """Send the command line and return the command's id. Nothing has run if this raises what is not Broken.

        The script is not run before all of standard input has arrived, so a command without it has done nothing.
        """
        command, _, arguments = task.sent.command.partition(" ")
        for attempt in (1, 2):
            session = self._again(task.deadline)
            try:
                with session.within(min(OPERATION, task.left())) as protocol:
                    return protocol.run_command(self._id, command, [arguments], console_mode_stdin=False)
            except WSManFaultError as error:
                if attempt == 2 or error.wsman_fault_code != NOT_FOUND:
                    raise
                self._id = self._new_shell(min(OPERATION, task.left()))
            except Broken as error:
                if attempt == 2 or error.sent:
                    raise
                session.wire.cut()  # so that it is made anew
        raise AssertionError

    def _drive(self, command: str, task: _Task) -> Outcome:
        """Give the command its standard input, take what it prints, and return how it ended."""
        session, stdin = self._live, task.sent.stdin
        for begin in range(0, len(stdin), PIECE):
            if task.left() <= 0:
                break
            with session.within(min(OPERATION, task.left())) as protocol:
                piece = stdin[begin : begin + PIECE]
                protocol.send_command_input(self._id, command, piece, end=begin + PIECE >= len(stdin))
        while (left := task.left()) > 0:
            try:
                with session.within(min(OPERATION, left)) as protocol:
                    out, err, code, done = protocol.get_command_output_raw(self._id, command)
            except WinRMOperationTimeoutError:
                continue
            except Broken:
                if task.left() <= 0 and not task.stop.is_set():
                    break
                raise
            task.feed(out, err)
            if done:
                return of_windows_exit(code)
        waited = (
            "in time" if time.monotonic() >= task.deadline else f"with a word for {timedelta(seconds=task.idle or 0)}"
        )
        return Outcome("timeout", detail=f"The command did not end {waited}; it was told to stop, and may live on.")

    def _end(self, command: str, *, gone: bool) -> None:
        """Tell the host to end a command, or to forget one that has ended; a host that is gone is not asked."""
        if gone:
            return
        with suppress(CannotOpen, NotAdmitted, Broken, WinRMError, WinRMOperationTimeoutError):
            session = self._again(time.monotonic() + PARTING)
            with session.within(PARTING) as protocol:
                protocol.cleanup_command(self._id, command)

    def _close(self) -> None:
        session = self._session
        if session is None:
            return
        if session.alive and self._id:
            with suppress(Broken, WinRMError, WinRMOperationTimeoutError), session.within(PARTING - 1) as protocol:
                protocol.close_shell(self._id, close_session=False)
        session.close()


async def _result(work: "Future[T]") -> T:
    """Wait for what a thread returns or raises; the thread goes on when the waiting is cancelled."""
    waiting = asyncio.wrap_future(work)
    waiting.add_done_callback(lambda done: done.cancelled() or done.exception())  # somebody has looked
    return await asyncio.shield(waiting)


async def _ended(work: "Future[Any]", seconds: float) -> bool:
    """Wait until a thread is done, at most so long; what it raises is not asked for."""
    with suppress(Exception):
        async with asyncio.timeout(seconds):
            await _result(work)
    return work.done()
