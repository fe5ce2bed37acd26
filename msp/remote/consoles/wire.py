"""What a console talks to: the browser at the other end of a WebSocket. And how much may be on its way there."""

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol


class Wire(Protocol):
    """One browser. Bytes are what a terminal or screen says and hears; messages are about it."""

    async def send(self, data: bytes) -> None:
        """Send bytes; waits while the line is full. Raises OSError once the browser is gone."""

    async def say(self, message: Mapping[str, Any]) -> None:
        """Send a message. Raises OSError once the browser is gone."""

    async def receive(self) -> bytes | Mapping[str, Any] | None:
        """Return what the browser sent next: bytes, a message, or None when it hung up."""


class Window:
    """How many bytes may be on their way before the browser says that it has shown them: back-pressure to the end."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._open = asyncio.Event()
        self._open.set()

    async def take(self, count: int) -> None:
        """Wait for room, then count these bytes as on their way."""
        await self._open.wait()
        self._left -= count
        if self._left <= 0:
            self._open.clear()

    def shown(self, count: int) -> None:
        """Take the browser's word that it has shown so many bytes."""
        self._left += max(count, 0)
        if self._left > 0:
            self._open.set()
