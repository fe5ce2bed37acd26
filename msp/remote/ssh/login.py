"""Dialling and logging in, straight or through a bastion, with limits on handshakes in flight."""

import asyncio
import socket
from collections.abc import Callable, Hashable

import asyncssh

from msp.remote import dial
from msp.remote.outcome import Outcome
from msp.remote.ssh.connection import Connection
from msp.remote.ssh.options import OptionsBook
from msp.remote.target import Credential, Target
from msp.remote.transport import CannotOpen, NotAdmitted

HANDSHAKES = 64  # in flight at once, on all hosts together
HANDSHAKES_PER_DOOR = 8  # sshd starts dropping at 10 connections that have not logged in (MaxStartups)
PATIENCE = 1.5  # seconds after which a silent host no longer holds a place among the handshakes
_HUNG_UP = "hung up before its banner."


class Client(asyncssh.SSHClient):
    """Remembers what the far side showed, to tell a changed key from an unknown one and a banner from silence."""

    def __init__(self) -> None:
        self.offered = ""  # fingerprint of a host key that is not pinned
        self.key_ok = False  # the key exchange is over: the pinned key answered
        self.lost: Callable[[], None] | None = None  # called when the connection has gone

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self.offered = key.get_fingerprint()
        return False

    def begin_auth(self, username: str) -> None:
        self.key_ok = True

    def connection_lost(self, exc: Exception | None) -> None:
        if self.lost is not None:
            self.lost()


class Logins:
    """Logs in. Limits handshakes in flight over all hosts, and per door: an address, or a bastion before it."""

    def __init__(self, *, handshakes: int = HANDSHAKES, per_door: int = HANDSHAKES_PER_DOOR) -> None:
        self._all = asyncio.Semaphore(handshakes)
        self._per_door = per_door
        self._doors: dict[Hashable, tuple[asyncio.Semaphore, list[None]]] = {}
        self._book = OptionsBook()

    async def to(
        self, target: Target, credential: Credential, bastion: asyncssh.SSHClientConnection | None, deadline: float
    ) -> tuple[asyncssh.SSHClientConnection, Client]:
        """Return a logged-in connection. Raises CannotOpen or NotAdmitted. deadline: in the loop's time."""
        loop = asyncio.get_running_loop()
        options = self._book.of(target, credential)
        door: Hashable = (target.via[-1].address, target.via[-1].port) if target.via else target.address
        pause = 0.1
        while True:
            try:
                return await self._once(target, options, door, bastion, deadline)
            except CannotOpen as error:
                # A host that hangs up before its banner sheds load (MaxStartups); nothing was sent, so ask again.
                if not error.outcome.detail.endswith(_HUNG_UP) or loop.time() + pause >= deadline or pause > 1:
                    raise
                await asyncio.sleep(pause)
                pause *= 3

    async def _once(
        self,
        target: Target,
        options: asyncssh.SSHClientConnectionOptions,
        door: Hashable,
        bastion: asyncssh.SSHClientConnection | None,
        deadline: float,
    ) -> tuple[asyncssh.SSHClientConnection, Client]:
        loop = asyncio.get_running_loop()
        sock = await _dial(target, deadline) if bastion is None else None
        semaphore, users = self._doors.setdefault(door, (asyncio.Semaphore(self._per_door), []))
        users.append(None)
        place = _Place(self._all, semaphore)
        impatient: asyncio.TimerHandle | None = None
        client = Client()  # ours to ask afterwards; a connection forgets its client when it fails
        connection: asyncssh.SSHClientConnection | None = None
        try:
            await place.take(target, deadline)
            impatient = loop.call_later(PATIENCE, place.leave)
            options.waiter = loop.create_future()
            options.protocol_factory = lambda: client
            async with asyncio.timeout_at(deadline):
                connection = await _begin(target, options, sock, bastion)
                await options.waiter
        except BaseException as error:
            if connection is not None:
                connection.abort()
            elif sock is not None:
                sock.close()
            if isinstance(error, (TimeoutError, OSError, asyncssh.Error)):
                raise _explained(target, error, client) from error
            raise
        else:
            return connection, client
        finally:
            if impatient is not None:
                impatient.cancel()
            place.leave()
            users.pop()
            if not users:
                self._doors.pop(door, None)


async def _begin(
    target: Target,
    options: asyncssh.SSHClientConnectionOptions,
    sock: socket.socket | None,
    bastion: asyncssh.SSHClientConnection | None,
) -> asyncssh.SSHClientConnection:
    """Start the protocol on a socket, or on a channel of the bastion; raises CannotOpen if that cannot be had."""
    loop = asyncio.get_running_loop()

    kind = asyncssh.SSHClientConnection if target.old_algorithms else Connection

    def protocol() -> asyncssh.SSHClientConnection:
        return kind(loop, options, wait="auth")

    if bastion is None:
        _, connection = await loop.create_connection(protocol, sock=sock)
        return connection
    try:
        _, tunnelled = await bastion.create_connection(protocol, target.address, target.port)  # type: ignore[arg-type]
    except asyncssh.ChannelOpenError as error:
        raise _not_forwarded(target, error) from error
    except (asyncssh.Error, OSError) as error:
        detail = f"The bastion {target.via[-1].name} went while connecting to {target.where}."
        raise CannotOpen(Outcome("unreachable", reason="connect", detail=detail)) from error
    return tunnelled  # type: ignore[return-value]  # a connection is a session of the bastion's channel too


def _not_forwarded(target: Target, error: asyncssh.ChannelOpenError) -> CannotOpen:
    """Say why a bastion gave no way to a host; sshd passes on what its own connect said."""
    said, bastion = error.reason.lower(), target.via[-1].name
    if error.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED:
        detail = f"The bastion {bastion} does not forward connections to {target.where}."
        advice = "Look at AllowTcpForwarding and PermitOpen there."
        return CannotOpen(Outcome("unreachable", reason="connect", detail=detail), advice=advice)
    if "refused" in said:
        detail = f"{target.where} refused the connection of the bastion {bastion}."
        return CannotOpen(Outcome("unreachable", reason="refused", detail=detail), advice="Is its SSH server running?")
    if "resolv" in said or "name" in said:
        detail = f"The bastion {bastion} does not know the name {target.address!r} of {target.name}."
        return CannotOpen(Outcome("unreachable", reason="dns", detail=detail), advice="Check the address.")
    detail = f"{target.where} cannot be connected to from the bastion {bastion}: {error.reason}."
    return CannotOpen(Outcome("unreachable", reason="connect", detail=detail))


class _Place:
    """A place among the handshakes in flight; left once, at the end or when patience is over."""

    def __init__(self, *limits: asyncio.Semaphore) -> None:
        self._limits, self._held = limits, False

    async def take(self, target: Target, deadline: float) -> None:
        taken: list[asyncio.Semaphore] = []
        try:
            async with asyncio.timeout_at(deadline):
                for limit in reversed(self._limits):
                    await limit.acquire()
                    taken.append(limit)
        except BaseException as error:
            for limit in taken:
                limit.release()
            if isinstance(error, TimeoutError):
                detail = f"{target.where} could not be asked in time: too many log-ins are waiting before it."
                raise CannotOpen(Outcome("unreachable", reason="banner", detail=detail)) from error
            raise
        self._held = True

    def leave(self) -> None:
        if self._held:
            self._held = False
            for limit in self._limits:
                limit.release()


async def _dial(target: Target, deadline: float) -> socket.socket:
    """Return a connected TCP socket, trying every address of the name, or raise CannotOpen."""
    try:
        async with asyncio.timeout_at(deadline):
            return await dial.connected(target, await dial.addresses(target), service="SSH")
    except TimeoutError as error:
        raise dial.too_late(target) from error


def _explained(target: Target, error: BaseException, client: Client) -> CannotOpen | NotAdmitted:
    """Sort what went wrong while logging in into the closed list of outcomes."""
    where = target.where
    offered, key_ok = client.offered, client.key_ok
    if offered or isinstance(error, asyncssh.HostKeyNotVerifiable):
        if target.host_keys:
            detail = f"The host key of {where} is not the pinned one: it shows {offered or 'another key'}."
            advice = "Somebody may stand between. Ask the client; pin the new key only once it is confirmed."
            return NotAdmitted(Outcome("host_key_changed", detail=detail), advice=advice)
        detail = f"No host key of {where} is pinned; it shows {offered or 'a key we cannot read'}."
        return NotAdmitted(Outcome("host_key_unknown", detail=detail), advice="Compare it with the client and pin it.")
    if isinstance(error, asyncssh.PermissionDenied):
        detail = f"{where} did not admit {target.credential.user or 'root'}: {error.reason}."
        return NotAdmitted(Outcome("auth_failed", detail=detail), advice="Check the user, the key and its rights.")
    if isinstance(error, asyncssh.KeyExchangeFailed):
        detail = f"{where} and we share no way to talk safely: {error.reason}."
        return CannotOpen(Outcome("unreachable", reason="banner", detail=detail))
    if key_ok:
        detail = f"{where} stopped answering while logging in."
        return CannotOpen(Outcome("unreachable", reason="banner", detail=detail))
    if isinstance(error, TimeoutError):
        detail = f"{where} took the connection and then said nothing."
        return CannotOpen(Outcome("unreachable", reason="banner", detail=detail))
    if isinstance(error, (asyncssh.ConnectionLost, OSError)):
        return CannotOpen(Outcome("unreachable", reason="banner", detail=f"{where} {_HUNG_UP}"))
    detail = f"{where} does not speak SSH as we expect: {error}."
    return CannotOpen(Outcome("unreachable", reason="banner", detail=detail))
