"""An effect followed to its end: asked for after a lost connection, ended by its token when its time is over."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Protocol

from msp.errors import Misconfigured
from msp.remote import traces
from msp.remote.outcome import Outcome
from msp.remote.transport import CannotOpen, NotAdmitted, Output

KILLING = timedelta(seconds=3)  # that ending commands by force may take, of all that a host may take
TRIES = 3  # connections that may be lost while the host is asked how a command ended
MARGIN = timedelta(seconds=2)  # before the deadline, for the answer of the host


class Way(Protocol):
    """The connection to a host, as far as following needs it."""

    @property
    def is_open(self) -> bool: ...

    async def shell(self) -> object: ...

    async def drop(self) -> None: ...


class Following:
    """Follows one marked command. `run` runs a script as the account of the step; `left` is the step's time."""

    def __init__(
        self, token: str, way: Way, run: Callable[[str, timedelta], Awaitable[Output]], left: Callable[[], timedelta]
    ) -> None:
        self._token, self._way, self._run, self._left = token, way, run, left

    async def ended(self) -> Outcome | None:
        """Ask the host how the command ended, waiting while it is at work; None if the host does not know."""
        output = await self._asked()
        return traces.told(output.stdout) if output else None

    async def reattached(self) -> Outcome | None:
        """Reach the host again before the step's deadline and ask the same."""
        pause = 0.0
        for _ in range(TRIES):
            while not await self._reached(pause):
                pause = min(pause * 2 + 0.5, 15)
                if self._left().total_seconds() <= pause:
                    return None
            try:
                output = await self._asked()
            except (NotAdmitted, Misconfigured):
                return None
            if output is None or output.outcome.kind != "lost":
                return traces.told(output.stdout) if output else None
            await self._way.drop()
        return None

    async def _reached(self, pause: float) -> bool:
        await asyncio.sleep(pause)
        try:
            async with asyncio.timeout(self._left().total_seconds()):
                await self._way.shell()
        except (CannotOpen, TimeoutError):
            return False
        except (NotAdmitted, Misconfigured):
            return True  # asking says the same, and ends it
        return True

    async def _asked(self) -> Output | None:
        return await self._run(traces.ask(self._token, self._left() - MARGIN), self._left()) if self._token else None

    async def killed(self, within: timedelta) -> bool:
        """End the command and all that it started, if the connection stands; return whether nothing is left of it."""
        if not self._token or not self._way.is_open or within <= timedelta(0):
            return False
        try:
            return (await self._run(traces.kill(self._token), within)).outcome.ok
        except (CannotOpen, NotAdmitted, Misconfigured):
            return False
