"""The parent's end of a worker process: orders out, what it says in, sockets handed over, killed when time is up."""

import asyncio
import contextlib
import json
import os
import socket
import struct
import sys
from typing import Any

_LENGTH = struct.Struct(">I")
LONGEST = 256 * 1024 * 1024  # bytes of one message: a configuration


class Gone(Exception):
    """The process ended without saying how: it crashed, or somebody killed it."""


class Process:
    """One running worker."""

    def __init__(self, process: asyncio.subprocess.Process, sockets: socket.socket) -> None:
        self._process, self._sockets = process, sockets

    @classmethod
    async def start(cls) -> "Process":
        """Start one in a session of its own, so that a Ctrl-C meant for us does not cut it in the middle."""
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # the folder that we stand in holds no modules of ours
                "-m",
                "msp.remote.network.worker",
                str(theirs.fileno()),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,  # a traceback could quote a password
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return cls(process, ours)

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    async def order(self, message: dict[str, Any]) -> None:
        """Send one order. Raises Gone."""
        data = json.dumps(message).encode()
        assert self._process.stdin  # noqa: S101  asked for above
        try:
            self._process.stdin.write(_LENGTH.pack(len(data)) + data)
            await self._process.stdin.drain()
        except ConnectionError as error:
            raise Gone from error

    async def heard(self) -> dict[str, Any]:
        """Return the next thing that it says. Raises Gone."""
        assert self._process.stdout  # noqa: S101  asked for above
        try:
            size = _LENGTH.unpack(await self._process.stdout.readexactly(_LENGTH.size))[0]
            if size > LONGEST:
                raise Gone
            return dict(json.loads(await self._process.stdout.readexactly(size)))
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Gone from error

    def hand_over(self, found: socket.socket | dict[str, Any]) -> None:
        """Give it the connected socket that it asked for, or say why there is none."""
        with contextlib.suppress(OSError):
            if isinstance(found, socket.socket):
                socket.send_fds(self._sockets, [b"{}"], [found.fileno()])
                found.close()
            else:
                self._sockets.sendall(json.dumps(found).encode())

    async def kill(self) -> None:
        """End it at once; whatever it was doing stays as it is."""
        self._sockets.close()
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, 9)
        with contextlib.suppress(ProcessLookupError):
            await self._process.wait()
        self._process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001  there is no public way
