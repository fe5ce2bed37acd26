"""This very machine as a host: for the provider's own servers, for trying playbooks, for demonstrations."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from msp.remote.outcome import Outcome, of_exit
from msp.remote.output import Collector
from msp.remote.payload import Payload
from msp.remote.sudo import Become, Dialogue
from msp.remote.target import Target
from msp.remote.transport import Output
from msp.remote.words import words_of

CHUNK = 64 * 1024  # bytes read at once
GRACE = 1.0  # seconds that output may still come after the exit


class LocalShell:
    """Runs scripts as child processes in a session of their own, so that a deadline ends all of them."""

    def __init__(self, folder: Path | None = None, environment: Mapping[str, str] | None = None) -> None:
        self._folder, self._environment = folder, environment

    async def run(
        self, script: str, *, timeout: timedelta, stdin: bytes = b"", idle: timedelta | None = None
    ) -> Output:
        """Run `script`; see Shell.run."""
        return await self._run(words_of(script), timeout, stdin, idle)

    async def run_as(
        self, become: Become, script: str, *, timeout: timedelta, stdin: bytes = b"", idle: timedelta | None = None
    ) -> Output:
        """Run `script` as another account; see Becomes.run_as."""
        dialogue = Dialogue(become, stdin)
        return await self._run(dialogue.line(words_of(script)), timeout, b"", idle, dialogue)

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
            return await self._run(words_of(script), timeout, stdin, idle, None, payload)
        dialogue = Dialogue(become, stdin)
        return await self._run(dialogue.line(words_of(script)), timeout, b"", idle, dialogue, payload)

    async def _run(
        self,
        words: list[str],
        timeout: timedelta,
        stdin: bytes,
        idle: timedelta | None,
        dialogue: Dialogue | None = None,
        payload: Payload | None = None,
    ) -> Output:
        out, err = Collector("stdout"), Collector("stderr")
        loop = asyncio.get_running_loop()
        try:
            process = await asyncio.create_subprocess_exec(
                *words,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=self._folder,
                env=None if self._environment is None else dict(self._environment),
                start_new_session=True,
            )
        except FileNotFoundError:
            if dialogue is not None:
                return Output(dialogue.outcome(127))
            return Output(Outcome("failed", status=127, detail=f"There is no {words[0]} here."))
        except OSError as error:
            return Output(Outcome("failed", detail=f"The command cannot be started: {error.strerror}."))
        last = [loop.time()]

        async def pump(stream: asyncio.StreamReader | None, into: Collector) -> None:
            while stream and (chunk := await stream.read(CHUNK)):
                last[0] = loop.time()
                if into is err and dialogue is not None and not dialogue.began:
                    passed, answer, ends = dialogue.hear(chunk)
                    into.feed(passed)
                    await feed(answer, ends=ends)
                else:
                    into.feed(chunk)

        async def feed(data: bytes, *, ends: bool) -> None:
            if process.stdin:
                with contextlib.suppress(ConnectionError):
                    process.stdin.write(data)
                    await process.stdin.drain()
                    chunks = payload.chunks() if payload is not None and ends else iter(())
                    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
                        last[0] = loop.time()
                        process.stdin.write(chunk)
                        await process.stdin.drain()
                if ends:
                    process.stdin.close()

        tasks = [asyncio.create_task(pump(process.stdout, out)), asyncio.create_task(pump(process.stderr, err)),
                 asyncio.create_task(feed(stdin, ends=dialogue is None))]  # fmt: skip
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                await _ended(process, last, idle)
            await asyncio.wait(tasks, timeout=GRACE)  # a process left in the background may hold the streams
        except (TimeoutError, asyncio.CancelledError) as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, asyncio.CancelledError):
                raise
            detail = "The command did not end in time; it was told to stop, and may live on."
            return Output(Outcome("timeout", detail=detail), out.captured(), err.captured())
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001  there is no public way
        code = process.returncode or 0
        if dialogue is not None and not dialogue.began:
            return Output(dialogue.outcome(code), out.captured(), err.captured())
        name = signal.Signals(-code).name.removeprefix("SIG") if code < 0 else ""
        return Output(of_exit(None if name else code, name), out.captured(), err.captured())


async def _ended(process: asyncio.subprocess.Process, last: list[float], idle: timedelta | None) -> None:
    """Wait for the exit of a process; raises TimeoutError after `idle` without output.

    Looks for the exit itself: `process.wait()` also waits until nobody holds the streams any more.
    """
    loop = asyncio.get_running_loop()
    pause = 0.002
    while process.returncode is None:
        if idle is not None and loop.time() - last[0] >= idle.total_seconds():
            raise TimeoutError
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, 0.05)


class LocalTransport:
    """Opens this machine. `folder` and `environment` are those of the commands."""

    def __init__(self, folder: Path | None = None, environment: Mapping[str, str] | None = None) -> None:
        self._shell = LocalShell(folder, environment)

    async def close(self) -> None:
        """Nothing is kept open."""

    @asynccontextmanager
    async def open(self, target: Target, *, timeout: timedelta = timedelta(0)) -> AsyncIterator[LocalShell]:
        """Always succeeds; see Transport."""
        yield self._shell
