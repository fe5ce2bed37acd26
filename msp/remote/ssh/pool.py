"""Connections that stay open between uses: one in use by one host's run at a time, closed after five idle minutes.

A step over a warm connection costs a sixth of a log-in. What may be reused is decided at each use: same way, same
credential, and the key that the host showed is still pinned.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Hashable

import asyncssh

from msp.remote.ssh.login import Client
from msp.remote.ssh.options import is_pinned
from msp.remote.target import Credential, Target

IDLE = 300.0  # seconds that an unused connection is kept
MOST_IDLE = 1000  # connections kept unused, about 31 KB each


def way_to(target: Target) -> Hashable:
    """Return what tells one way to a log-in from another: address, port and user, of the bastions before it too."""
    return tuple((hop.address, hop.port, hop.credential.user) for hop in (*target.via, target))


def asked_of(target: Target) -> Hashable:
    """Return what must be unchanged for a warm connection to be used, besides the pin of the host itself."""
    return (target.credential, bastions_of(target), target.old_algorithms)


def bastions_of(target: Target) -> Hashable:
    """Return the bastions before a host with the credentials and the pins that they were entered with."""
    return tuple((hop.address, hop.port, hop.credential, hop.host_keys) for hop in target.via)


class Link:
    """One logged-in connection. `over` is the bastion's connection that it runs through, if any."""

    def __init__(
        self,
        target: Target,
        credential: Credential,
        connection: asyncssh.SSHClientConnection,
        client: Client,
        over: "Link | None" = None,
    ) -> None:
        self.way, self.credential, self.connection, self.over = way_to(target), credential, connection, over
        self.asked = asked_of(target)
        self.users = 0
        self.expired = False
        self.idle: asyncio.TimerHandle | None = None
        self.ends_at: float | None = None
        self._pool: Pool | None = None
        if over is not None:
            over.users += 1
        client.lost = self._gone
        if credential.valid_until is not None:
            loop = asyncio.get_running_loop()
            self.ends_at = loop.time() + credential.seconds_left()
            self._end = loop.call_at(self.ends_at, self._expire)

    @property
    def is_open(self) -> bool:
        return not self.connection.is_closed()

    def lasts(self, seconds: float) -> bool:
        """Whether its certificate, and those of the bastions before it, are good for that long."""
        if self.ends_at is not None and asyncio.get_running_loop().time() + seconds > self.ends_at:
            return False
        return self.over is None or self.over.lasts(seconds)

    def keep_in(self, pool: "Pool") -> None:
        """Let a pool know when it is gone."""
        self._pool = pool

    def close(self) -> None:
        """End it, also while a command runs on it."""
        if self.is_open:
            self.connection.close()
        else:
            self.connection.abort()

    def _expire(self) -> None:
        """A server does not end a session when its certificate's time is over, so we do."""
        self.expired = True
        self.close()

    def _gone(self) -> None:
        if self.idle is not None:
            self.idle.cancel()
        if self.ends_at is not None:
            self._end.cancel()
        if self._pool is not None:
            self._pool.forget(self)
        if self.over is not None:
            over, self.over = self.over, None
            over.users -= 1


class Pool:
    """Idle connections, the least recently used first; and all that are open, so that `close` ends them too."""

    def __init__(self, *, idle: float = IDLE, most: int = MOST_IDLE) -> None:
        self._idle_seconds, self._most = idle, most
        self._idle: OrderedDict[Link, None] = OrderedDict()
        self._by_way: dict[Hashable, list[Link]] = {}
        self._open: set[Link] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._idle)

    def add(self, link: Link) -> None:
        """Know a new connection, which is in use."""
        link.keep_in(self)
        self._open.add(link)

    def take(self, target: Target) -> Link | None:
        """Return an idle connection that may be used for `target` now, or None.

        One whose host key is no longer pinned, or whose credential is another one now, is closed on the way.
        """
        while links := self._by_way.get(way_to(target)):
            link = links[-1]
            self._unlist(link)
            shown = link.connection.get_server_host_key()
            if link.is_open and link.asked == asked_of(target) and is_pinned(shown, target):
                return link
            link.close()
        return None

    def give(self, link: Link) -> None:
        """Take back a connection that is not used any more, and keep it for a while."""
        if self._closed or not link.is_open or not link.lasts(1):
            link.close()
            return
        self._idle[link] = None
        self._by_way.setdefault(link.way, []).append(link)
        link.idle = asyncio.get_running_loop().call_later(self._idle_seconds, self._tired, link)
        while len(self._idle) > self._most:
            self._tired(next(iter(self._idle)))

    def forget(self, link: Link) -> None:
        """A connection has gone."""
        self._unlist(link)
        self._open.discard(link)

    def close(self) -> None:
        """Close every connection, also those in use."""
        self._closed = True
        for link in tuple(self._open):
            link.close()

    def _tired(self, link: Link) -> None:
        self._unlist(link)
        link.close()

    def _unlist(self, link: Link) -> None:
        if link.idle is not None:
            link.idle.cancel()
            link.idle = None
        if self._idle.pop(link, False) is None:
            links = self._by_way[link.way]
            links.remove(link)
            if not links:
                del self._by_way[link.way]
