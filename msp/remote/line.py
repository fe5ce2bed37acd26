"""The connection to one host of a run, whatever its way in."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import cast

from msp.errors import Misconfigured
from msp.remote.target import Target
from msp.remote.transport import Fading, Performer, Shell, Transport, speaks


class Line:
    """The connection to one host, opened when it is first needed and again after it broke."""

    def __init__(self, transports: Callable[[str], Transport], target: Target, limit: timedelta) -> None:
        """limit: for connecting and logging in."""
        self._transports, self._target, self._limit = transports, target, limit
        self._way: AbstractAsyncContextManager[Shell | Performer] | None = None
        self._opened: Shell | Performer | None = None

    async def open(self) -> Shell | Performer:
        """Return what is open, opening it if need be; raises CannotOpen or NotAdmitted."""
        if self._opened is None:
            way = self._transports(self._target.transport).open(self._target, timeout=self._limit)
            self._opened, self._way = await way.__aenter__(), way
        return self._opened

    async def shell(self) -> Shell:
        """Return the open shell; raises Misconfigured where the way in has none."""
        opened = await self.open()
        if not speaks(opened, Shell):
            what = f"{self._target.name} is reached by {self._target.transport}, which runs no scripts."
            raise Misconfigured(what, advice="Use the steps made for it, or reach the host by SSH or WinRM.")
        return cast("Shell", opened)

    async def performer(self) -> Performer:
        """Return what is open for acts that are no scripts; raises Misconfigured where there are only shells."""
        opened = await self.open()
        if not speaks(opened, Performer):
            what = f"{self._target.name} is reached by {self._target.transport}, which only runs scripts."
            raise Misconfigured(what, advice="Steps of kinds network and screen need a host reached that way.")
        return cast("Performer", opened)

    @property
    def is_open(self) -> bool:
        return self._opened is not None

    async def outlasting(self, time: timedelta) -> None:
        """Give back what would end before `time` has passed; the next command opens anew."""
        opened: object = self._opened
        if speaks(opened, Fading) and not cast("Fading", opened).lasts(time):
            await self.drop()

    async def drop(self) -> None:
        """Close for good; the next command opens anew, over a connection of its own."""
        opened: object = self._opened
        if isinstance(opened, Fading):
            opened.retire()
        await self.close()

    async def close(self) -> None:
        """Give the connection back; it may be kept warm."""
        self._opened, (way, self._way) = None, (self._way, None)
        if way is not None:
            await way.__aexit__(None, None, None)
