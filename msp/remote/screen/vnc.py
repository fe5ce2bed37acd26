"""VNC (RFC 6143): a screen as a way in, by vncdotool in a child process of its own for every connection.

RFB encrypts nothing but its password, so it goes through SSH (`via`) or stays on loopback, unless the asset says
`plain` with a reason. The parent opens the connection and hands it to the child; the child is killed when time is up.
"""

import asyncio
import base64
import contextlib
import json
import os
import signal
import socket
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from msp.errors import Misconfigured
from msp.remote.outcome import Outcome
from msp.remote.reach import reach
from msp.remote.screen.work import ScreenWork
from msp.remote.ssh import SshTransport
from msp.remote.target import Target
from msp.remote.transport import CannotOpen, NotAdmitted, Output, Picture, Work

SEEN: Final = Outcome("ok")  # a screen has no exit status
MOST: Final = 32  # connections at once: each is a process of some 80 MB
MARGIN: Final = 1.5  # seconds before the deadline in which the child tells what it did not see
LONGEST_LINE: Final = 64 * 1024 * 1024  # bytes of one event: at most 40 pictures of 400 KB
ROOT: Final = str(Path(__file__).resolve().parents[3])  # where this package was imported from
# All that a child is told of our environment: it reads what a foreign server sends, and needs no secret of ours.
KEPT: Final = frozenset(
    ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TESSDATA_PREFIX", "LD_LIBRARY_PATH",
     "COVERAGE_PROCESS_CONFIG")  # the last one is set by our own tests alone
)  # fmt: skip
CONNECT_TIMEOUT: Final = timedelta(seconds=20)


class VncTransport:
    """A way to screens. Log-ins to one server go one after the other: TigerVNC turns bursts away."""

    def __init__(self, *, most: int = MOST) -> None:
        """most: connections at once. Further hosts wait for a place, and that is not their connect timeout."""
        self._places = asyncio.Semaphore(most)
        self._log_ins: dict[tuple[str, str, int], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._ssh = SshTransport()

    async def close(self) -> None:
        """Nothing is kept open between hosts."""
        await self._ssh.close()

    @asynccontextmanager
    async def open(self, target: Target, *, timeout: timedelta = CONNECT_TIMEOUT) -> AsyncIterator["VncScreen"]:
        """Connect and log in; see Transport."""
        screen = VncScreen(self, target)
        async with self._places:
            try:
                await screen.connect(timeout)
                yield screen
            finally:
                await screen.close()

    async def connected(self, target: Target, stack: AsyncExitStack, deadline: float, *, blind: bool) -> "_Child":
        """Return a logged-in child; what it needs is put on `stack`. Raises CannotOpen or NotAdmitted."""
        via = target.via[-1].name if target.via else ""
        lock = self._log_ins[via, target.address, target.port]
        try:
            async with asyncio.timeout_at(deadline):
                await lock.acquire()
        except TimeoutError as error:
            detail = f"{target.where} could not be asked in time: another log-in to it was waiting before."
            raise CannotOpen(Outcome("unreachable", reason="banner", detail=detail)) from error
        try:
            sock = await reach(target, self._ssh, stack, deadline, service="VNC", bare=bool(target.plain))
            child = await _Child.start(sock, target, blind=blind)
            stack.push_async_callback(child.kill)
            await child.log_in(target, deadline)
            return child
        finally:
            lock.release()


class VncScreen:
    """An open screen; a Performer. Connects again by itself after an act was cut off."""

    def __init__(self, transport: VncTransport, target: Target) -> None:
        self._transport, self._target = transport, target
        self._stack = AsyncExitStack()
        self._child: _Child | None = None
        self._typed_secret = False

    async def connect(self, timeout: timedelta) -> None:
        """Log in within `timeout`. Raises CannotOpen or NotAdmitted."""
        deadline = asyncio.get_running_loop().time() + timeout.total_seconds()
        self._child = await self._transport.connected(self._target, self._stack, deadline, blind=self._typed_secret)

    async def close(self) -> None:
        """End the child, and the tunnel with it."""
        self._child = None
        await self._stack.aclose()
        self._stack = AsyncExitStack()

    async def perform(self, work: Work, *, timeout: timedelta) -> Output:
        """Do the acts of a screen step; see Performer. Past `timeout` the child is killed."""
        if not isinstance(work, ScreenWork):
            raise Misconfigured(f"{self._target.name} is a screen; only steps of kind screen can be done on it.")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout.total_seconds()
        if self._child is None:
            await self.connect(timeout)
        child = self._child
        if child is None:
            raise Misconfigured(f"{self._target.name} has no open screen.")
        self._typed_secret = self._typed_secret or any(one.get("secret") for one in work.acts)
        seconds = deadline - loop.time()
        try:
            async with asyncio.timeout_at(deadline):
                end = await child.ask({"acts": work.acts, "seconds": seconds - min(MARGIN, seconds / 5)})
        except TimeoutError:
            sent = await child.cut()
            await self.close()
            return Output(self._cut_short("did not end in time", "timeout", sent=sent))
        except asyncio.CancelledError:
            await self.close()
            raise
        pictures = tuple(map(_picture, end["pictures"]))
        outcome = self._outcome(end["kind"], end["detail"], sent=child.sent)
        if end["kind"] not in ("ok", "not_seen", "cannot_tell"):
            await self.close()
        return Output(outcome, pictures=pictures)

    def _outcome(self, kind: str, detail: str, *, sent: bool) -> Outcome:
        match kind:
            case "ok":
                return SEEN
            case "not_seen":
                return Outcome("failed", status=1, detail=_sentence(detail))
            case "cannot_tell" | "fault":
                return Outcome("failed", detail=_sentence(detail))
            case _:
                return self._cut_short(f"went: {detail}", "lost", sent=sent)

    def _cut_short(self, what: str, kind: Any, *, sent: bool) -> Outcome:
        """What may have had an effect is in doubt; what only looked is not."""
        if sent:
            said = "The connection" if kind == "lost" else "The step"
            return Outcome(kind, detail=f"{said} {what}, after keys or clicks were sent; what they did is unknown.")
        said = f"The screen of {self._target.where}"
        return Outcome("unreachable", reason="connect", detail=f"{said} {what}; nothing had been typed or clicked.")


def _picture(shot: dict[str, str]) -> Picture:
    return Picture(shot["name"], base64.b64decode(shot["png"]), datetime.fromisoformat(shot["taken_at"]))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."


class _Child:
    """The process that speaks RFB. Its end, however it comes, is an event like any other."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.sent = False  # keys or clicks of the present request may have gone out

    @classmethod
    async def start(cls, sock: socket.socket, target: Target, *, blind: bool) -> "_Child":
        """Start a child that owns `sock`. The password goes through its standard input."""
        path = os.pathsep.join(filter(None, (ROOT, os.environ.get("PYTHONPATH"))))
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "msp.remote.screen.child", str(sock.fileno()), str(int(sock.family)),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
                pass_fds=(sock.fileno(),), start_new_session=True, limit=LONGEST_LINE,
                env={name: value for name, value in os.environ.items() if name in KEPT} | {"PYTHONPATH": path},
            )  # fmt: skip
        finally:
            sock.close()
        child = cls(process)
        password = target.credential.password
        await child._write({"password": password.value if password else None, "blind": blind})
        return child

    async def _write(self, message: dict[str, Any]) -> None:
        stream = self._process.stdin
        if stream is None:
            return
        with contextlib.suppress(ConnectionError):  # a dead child is told by the end of its events
            stream.write(json.dumps(message).encode() + b"\n")
            await stream.drain()

    async def _event(self) -> dict[str, Any]:
        stream = self._process.stdout
        line = await stream.readline() if stream else b""
        if not line.endswith(b"\n"):
            return {"event": "gone", "kind": "lost", "detail": "its process ended"}
        found: dict[str, Any] = json.loads(line)
        if found["event"] == "sending":
            self.sent = True
        return found

    async def log_in(self, target: Target, deadline: float) -> None:
        """Wait until the screen is there. Raises CannotOpen or NotAdmitted."""
        try:
            async with asyncio.timeout_at(deadline):
                event = await self._event()
        except TimeoutError as error:
            detail = f"{target.where} took the connection and then said nothing."
            raise CannotOpen(Outcome("unreachable", reason="banner", detail=detail)) from error
        if event["event"] == "ready":
            return
        detail, where = event["detail"], target.where
        match event["kind"]:
            case "auth_failed":
                outcome = Outcome("auth_failed", detail=f"{where} did not admit us: {detail}.")
                raise NotAdmitted(outcome, advice="Check the VNC password of the asset.")
            case "busy":
                outcome = Outcome("unreachable", reason="banner", detail=f"{where} turns us away for now: {detail}.")
                raise CannotOpen(outcome, advice="Too many log-ins failed; wait a minute before the next one.")
            case "protocol":
                said = f"{where} does not speak VNC as we expect: {detail}."
                advice = "Let its server offer VNC password authentication; the way there is encrypted by SSH."
                raise CannotOpen(Outcome("unreachable", reason="banner", detail=said), advice=advice)
            case _:
                detail = f"{where} hung up before its screen was there."
                raise CannotOpen(Outcome("unreachable", reason="banner", detail=detail))

    async def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return how a request ended: kind, detail and pictures."""
        self.sent = False
        await self._write(request)
        while True:
            event = await self._event()
            if event["event"] == "end":
                return event
            if event["event"] == "gone":
                return {**event, "pictures": []}

    async def cut(self) -> bool:
        """Kill the child and return whether it had told that it sends; what it told last still counts."""
        await self.kill()
        while (await self._event())["event"] != "gone":
            pass
        return self.sent

    async def kill(self) -> None:
        """End the process and what it started (the reader of text), now."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()
