"""WinRM as a transport: a shell of its own for each host, opened over a connection that has proven who is there."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from msp.remote.target import Target
from msp.remote.winrm.access import access
from msp.remote.winrm.shell import WinRmShell

CONNECT_TIMEOUT = timedelta(seconds=20)


class WinRmTransport:
    """A way into Windows hosts. A host costs one thread, one connection and one shell of the host's quota."""

    async def close(self) -> None:
        """Nothing is kept open between hosts."""

    @asynccontextmanager
    async def open(self, target: Target, *, timeout: timedelta = CONNECT_TIMEOUT) -> AsyncIterator[WinRmShell]:
        """Log in and open a shell; see Transport."""
        shell = WinRmShell(access(target))
        try:
            await shell.open(timeout)
            yield shell
        finally:
            await shell.close()
