"""SSH, by asyncssh, tuned and strict: pinned host keys from our own records, exactly the credential given, bytes only.

No known_hosts file, agent, GSSAPI, ssh_config or compression is consulted. `conn.run()` is never used: it decodes,
and one invalid byte truncates the output silently and closes the connection.
"""

import asyncio
import copy
import socket
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import lru_cache

import asyncssh

from msp.remote.credentials import key_pairs
from msp.remote.outcome import Outcome
from msp.remote.ssh_shell import SshShell
from msp.remote.target import Credential, Target
from msp.remote.transport import CannotOpen, NotAdmitted

CONNECT_TIMEOUT = timedelta(seconds=20)
KEEPALIVE = 30  # seconds between keepalives; three unanswered ones end the connection
HANDSHAKES = 64  # in flight at once, on all hosts together
HANDSHAKES_PER_ADDRESS = 8  # sshd starts dropping at 10 connections that have not logged in (MaxStartups)
PATIENCE = 1.5  # seconds after which a silent host no longer holds a place among the handshakes
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes256-ctr")
KEX = ("curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256", "diffie-hellman-group16-sha512",
       "diffie-hellman-group14-sha256")  # fmt: skip
KEY_TYPES = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "rsa-sha2-512",
             "rsa-sha2-256")  # fmt: skip


class _Client(asyncssh.SSHClient):
    """Remembers what the far side showed, to tell a changed key from an unknown one and a banner from silence."""

    def __init__(self) -> None:
        self.offered = ""  # fingerprint of a host key that is not pinned
        self.key_ok = False  # the key exchange is over: the pinned key answered

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self.offered = key.get_fingerprint()
        return False

    def begin_auth(self, username: str) -> None:
        self.key_ok = True


@lru_cache(maxsize=4096)
def pinned(line: str) -> asyncssh.SSHKey:
    """Return a public key from its authorized_keys form; raises NotAdmitted if it cannot be read."""
    try:
        return asyncssh.import_public_key(line)
    except asyncssh.KeyImportError as error:
        raise NotAdmitted(
            Outcome("host_key_unknown", detail=f"The pinned host key cannot be read: {error}."),
            advice="Pin it again as it stands in the host's /etc/ssh/ssh_host_ed25519_key.pub.",
        ) from error


class SshTransport:
    """A way into hosts over SSH. Limits handshakes in flight, over all hosts and per address."""

    def __init__(self, *, handshakes: int = HANDSHAKES, per_address: int = HANDSHAKES_PER_ADDRESS) -> None:
        self._all = asyncio.Semaphore(handshakes)
        self._per: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(per_address))
        self._bases: dict[Credential, asyncssh.SSHClientConnectionOptions] = {}

    async def close(self) -> None:
        """Nothing is kept open between hosts."""

    def _options(self, target: Target) -> asyncssh.SSHClientConnectionOptions:
        """Return connection options; built once per credential, because building them costs as much as a step."""
        base = self._bases.get(target.credential)
        if base is None:
            credential = target.credential
            methods = [name for name, given in (("publickey", not credential.password or _has_key(credential)),
                                                ("password", credential.password),
                                                ("keyboard-interactive", credential.password)) if given]  # fmt: skip
            base = asyncssh.SSHClientConnectionOptions(
                config=None,
                client_factory=_Client,
                username=credential.user or "root",
                client_keys=key_pairs(credential) or None,
                password=credential.password.value if credential.password else None,
                preferred_auth=methods,
                agent_path=None,
                agent_forwarding=False,
                gss_host=None,
                gss_kex=False,
                gss_auth=False,
                host_based_auth=False,
                x509_trusted_certs=None,
                compression_algs=None,
                encryption_algs=list(CIPHERS),
                kex_algs=list(KEX),
                known_hosts=([], [], []),
                keepalive_interval=KEEPALIVE,
                connect_timeout=None,
                login_timeout=None,
            )
            self._bases[target.credential] = base
        options = copy.copy(base)
        keys = [pinned(line) for line in target.host_keys]
        options.host, options.port = target.address, target.port
        options.known_hosts = (keys, [], [], [], [], [], [])
        first = [name for key in keys for name in (alg.decode() for alg in key.sig_algorithms) if name in KEY_TYPES]
        # every type is offered, pinned types first: a host that shows another key is "changed", not "no match"
        options.server_host_key_algs = list(dict.fromkeys([*first, *KEY_TYPES]))
        return options

    @asynccontextmanager
    async def open(self, target: Target, *, timeout: timedelta = CONNECT_TIMEOUT) -> AsyncIterator[SshShell]:
        """Connect and log in; see Transport."""
        connection = await self._connect(target, timeout.total_seconds())
        try:
            yield SshShell(connection)
        finally:
            connection.abort() if connection.is_closed() else connection.close()

    async def _connect(self, target: Target, seconds: float) -> asyncssh.SSHClientConnection:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        options = self._options(target)
        pause = 0.1
        while True:
            sock = await _dial(target, deadline)
            try:
                return await self._log_in(target, options, sock, deadline)
            except CannotOpen as error:
                # A host that hangs up before its banner sheds load (MaxStartups); nothing was sent, so ask again.
                if not error.outcome.detail.endswith(_HUNG_UP) or loop.time() + pause >= deadline or pause > 1:
                    raise
                await asyncio.sleep(pause)
                pause *= 3

    async def _log_in(
        self, target: Target, options: asyncssh.SSHClientConnectionOptions, sock: socket.socket, deadline: float
    ) -> asyncssh.SSHClientConnection:
        loop = asyncio.get_running_loop()
        place = _Place(self._all, self._per[target.address])
        await place.take(sock, target, deadline)
        impatient = loop.call_later(PATIENCE, place.leave)
        options.waiter = loop.create_future()
        client = _Client()  # ours to ask afterwards; a connection forgets its client when it fails
        options.protocol_factory = lambda: client
        connection: asyncssh.SSHClientConnection | None = None
        try:
            async with asyncio.timeout_at(deadline):
                _, protocol = await loop.create_connection(
                    lambda: asyncssh.SSHClientConnection(loop, options, wait="auth"), sock=sock
                )
                connection = protocol
                await options.waiter
        except BaseException as error:
            if connection is not None:
                connection.abort()
            else:
                sock.close()
            if isinstance(error, (TimeoutError, OSError, asyncssh.Error)):
                raise _explained(target, error, client) from error
            raise
        else:
            return connection
        finally:
            impatient.cancel()
            place.leave()


_HUNG_UP = "hung up before its banner."


def _has_key(credential: Credential) -> bool:
    return bool(credential.key_file or credential.private_key)


class _Place:
    """A place among the handshakes in flight; left once, at the end or when patience is over."""

    def __init__(self, *limits: asyncio.Semaphore) -> None:
        self._limits, self._held = limits, False

    async def take(self, sock: socket.socket, target: Target, deadline: float) -> None:
        taken: list[asyncio.Semaphore] = []
        try:
            async with asyncio.timeout_at(deadline):
                for limit in reversed(self._limits):
                    await limit.acquire()
                    taken.append(limit)
        except BaseException as error:
            for limit in taken:
                limit.release()
            sock.close()
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
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout_at(deadline):
            try:
                found = await loop.getaddrinfo(target.address, target.port, type=socket.SOCK_STREAM)
            except (OSError, UnicodeError) as error:
                detail = f"The name {target.address!r} of {target.name} is not known to DNS."
                raise CannotOpen(
                    Outcome("unreachable", reason="dns", detail=detail), advice="Check the address."
                ) from error
            problem: OSError | None = None
            for family, kind, proto, _, address in found:
                sock = socket.socket(family, kind, proto)
                sock.setblocking(False)
                try:
                    await loop.sock_connect(sock, address)
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                except OSError as error:
                    sock.close()
                    problem = error
                except BaseException:
                    sock.close()
                    raise
                else:
                    return sock
    except TimeoutError as error:
        detail = f"{target.where} did not answer the connection request in time."
        raise CannotOpen(Outcome("unreachable", reason="connect", detail=detail), advice="Is it up?") from error
    if isinstance(problem, ConnectionRefusedError):
        detail = f"{target.where} refused the connection."
        raise CannotOpen(Outcome("unreachable", reason="refused", detail=detail), advice="Is its SSH server running?")
    said = problem.strerror if problem else "no address"
    detail = f"{target.where} cannot be connected to: {said}."
    raise CannotOpen(Outcome("unreachable", reason="connect", detail=detail))


def _explained(target: Target, error: BaseException, client: _Client) -> CannotOpen | NotAdmitted:
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
