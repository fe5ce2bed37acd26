"""A way into hosts over SSH: a warm connection if there is one, else a new one, straight or through bastions."""

import asyncio
from collections.abc import Hashable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import timedelta

from msp.errors import MspError
from msp.remote.outcome import Outcome
from msp.remote.ssh.login import HANDSHAKES, HANDSHAKES_PER_DOOR, Logins
from msp.remote.ssh.options import check_leave
from msp.remote.ssh.pool import IDLE, MOST_IDLE, Link, Pool, bastions_of
from msp.remote.ssh.shell import SshShell
from msp.remote.target import Credential, Target
from msp.remote.transport import CannotOpen, NotAdmitted

LEAST = 60.0  # seconds that a bastion's certificate must be good for, to let another host through
CONNECT_TIMEOUT = timedelta(seconds=20)


class SshTransport:
    """A way into hosts over SSH. One object may serve many runs of one event loop: it keeps connections warm."""

    def __init__(
        self,
        *,
        handshakes: int = HANDSHAKES,
        per_door: int = HANDSHAKES_PER_DOOR,
        idle: float = IDLE,
        most_idle: int = MOST_IDLE,
    ) -> None:
        self._logins = Logins(handshakes=handshakes, per_door=per_door)
        self.pool = Pool(idle=idle, most=most_idle)
        self._bastions: dict[Hashable, asyncio.Task[Link]] = {}

    @property
    def bastions(self) -> list[Link]:
        """The connections to bastions that stand now."""
        opened = [task.result() for task in self._bastions.values() if task.done() and not _failed(task)]
        return [link for link in opened if link.is_open]

    async def close(self) -> None:
        """Close every connection, warm or in use."""
        for task in self._bastions.values():
            task.cancel()
        self._bastions.clear()
        self.pool.close()
        await asyncio.sleep(0)  # let the farewells leave

    def open(self, target: Target, *, timeout: timedelta = CONNECT_TIMEOUT) -> "Opening":
        """Connect and log in, or use a warm connection; see Transport."""
        return Opening(self, target, timeout.total_seconds())

    async def connect(self, target: Target, deadline: float, *, forwards: bool = False) -> Link:
        """Return a new connection, logged in by `deadline` of the loop's clock. Raises CannotOpen or NotAdmitted."""
        credential = await _made(target, forwards=forwards)
        over = await self._bastion(target, deadline) if target.via else None
        try:
            connection, client = await self._logins.to(target, credential, over.connection if over else None, deadline)
        except CannotOpen:
            await asyncio.sleep(0)
            if over is None or over.is_open:
                raise
            over = await self._bastion(target, deadline)  # it had died unnoticed; once more over a new connection
            connection, client = await self._logins.to(target, credential, over.connection, deadline)
        link = Link(target, credential, connection, client, over)
        self.pool.add(link)
        return link

    async def _bastion(self, target: Target, deadline: float) -> Link:
        """Return the connection to the last bastion before a host, shared by all hosts behind it."""
        hop = replace(target.via[-1], via=target.via[:-1])
        key = (bastions_of(target), await _made(hop, forwards=True))  # a fresh certificate enters it anew
        task = self._bastions.get(key)
        if task is not None and task.done() and (_failed(task) or not _serves(task.result())):
            task = None
        if task is None:
            task = self._bastions[key] = asyncio.create_task(self.connect(hop, deadline, forwards=True))
            task.add_done_callback(lambda done: self._bastion_opened(key, done))
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.shield(task)  # others wait for it too
        except TimeoutError as error:
            detail = f"The bastion {hop.where} did not let us in in time."
            raise CannotOpen(Outcome("unreachable", reason="connect", detail=detail)) from error
        except (CannotOpen, NotAdmitted) as error:
            told = replace(error.outcome, detail=f"On the way to {target.name}: {error.outcome.detail}")
            raise type(error)(told, advice=error.advice) from error

    def _bastion_opened(self, key: Hashable, task: asyncio.Task[Link]) -> None:
        """Forget a bastion that could not be reached, so that the next host tries anew; close one long unused."""
        if _failed(task):
            if self._bastions.get(key) is task:
                del self._bastions[key]
            return
        asyncio.get_running_loop().call_later(IDLE, self._bastion_idle, key, task)

    def _bastion_idle(self, key: Hashable, task: asyncio.Task[Link]) -> None:
        link = task.result()
        if link.is_open and link.users:
            asyncio.get_running_loop().call_later(IDLE, self._bastion_idle, key, task)
            return
        if self._bastions.get(key) is task:
            del self._bastions[key]
        link.close()


class Opening(AbstractAsyncContextManager[SshShell]):
    """One host opened, and given back at the end. Not a generator: that costs a warm command as much as a packet."""

    def __init__(self, transport: SshTransport, target: Target, limit: float) -> None:
        self._transport, self._target, self._limit = transport, target, limit
        self._shell: SshShell

    async def __aenter__(self) -> SshShell:
        check_leave(self._target)
        link = self._transport.pool.take(self._target)
        self._shell = SshShell(link, self._anew) if link is not None else SshShell(await self._anew())
        return self._shell

    async def _anew(self) -> Link:
        deadline = asyncio.get_running_loop().time() + self._limit
        return await self._transport.connect(self._target, deadline)

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        shell = self._shell
        if kind is None and shell.sound:
            self._transport.pool.give(shell.link)
        else:
            shell.link.close()


async def _made(target: Target, *, forwards: bool) -> Credential:
    """Return the credential to log in with, made on the spot where one of our own certificates is asked for."""
    asked = target.credential
    if asked.source is None:
        return asked
    try:
        return await asked.source.credential(asked.user, forwards=forwards)
    except MspError as error:
        detail = f"No certificate could be made for {target.where}: {error.what}"
        raise NotAdmitted(Outcome("auth_failed", detail=detail), advice=error.advice) from error


def _serves(link: Link) -> bool:
    return link.is_open and link.lasts(LEAST)


def _failed(task: asyncio.Task[Link]) -> bool:
    return task.cancelled() or task.exception() is not None
