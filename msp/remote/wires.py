"""The one event loop on which a long-lived process does its remote work, and the transports that live on it.

A worker drives many runs, each from a thread of its own. Their connections can only stay warm from one run to the
next if all of them live on one loop.
"""

import asyncio
import atexit
import contextlib
import importlib
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from msp import plugins
from msp.remote.transport import Transport

T = TypeVar("T")
CLOSING = 5.0  # seconds that closing may take


class Wires:
    """Runs coroutines on a thread of its own, which starts when it is first needed. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._owner = 0
        self._transports: dict[str, Transport] = {}

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work` and return or raise what it does; waits for it. The context of the caller goes with it."""
        return asyncio.run_coroutine_threadsafe(work, self._running()).result()

    def transport(self, name: str) -> Transport:
        """Return the transport of a name, kept until `close`. To be called by what `run` runs."""
        if name not in self._transports:
            self._transports[name] = plugins.load("msp.transports", name)()
        return self._transports[name]

    def close(self) -> None:
        """Close every transport and end the thread. What still runs is cancelled."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
            transports, self._transports = list(self._transports.values()), {}
        if loop is None or thread is None or self._owner != os.getpid():
            return

        async def end() -> None:
            for transport in transports:
                await transport.close()
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for task in rest:
                task.cancel()
            if rest:
                await asyncio.wait(rest, timeout=CLOSING / 2)

        with contextlib.suppress(TimeoutError):  # the process ends soon, and its connections with it
            asyncio.run_coroutine_threadsafe(end(), loop).result(CLOSING)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(CLOSING)

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._owner != os.getpid():  # a forked child has the object and not the thread
                self._transports = {}
                self._owner = os.getpid()
                self._loop = _new_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="wires", daemon=True)
                self._thread.start()
                atexit.register(self.close)
            return self._loop


def _new_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop, of the faster kind if somebody installed it."""
    try:
        loop: asyncio.AbstractEventLoop = importlib.import_module("uvloop").new_event_loop()
    except ImportError:
        loop = asyncio.new_event_loop()
    return loop
