"""The way to a service of a host: a socket to loopback, one through SSH, or one over a network where that is safe.

Screens use it (RFB, RFC 6143, encrypts nothing but its password), and routers, whose SSH a process of its own speaks.
"""

import asyncio
import ipaddress
import socket
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import asyncssh

from msp.remote import dial
from msp.remote.outcome import Outcome
from msp.remote.ssh import SshTransport
from msp.remote.target import Target
from msp.remote.transport import CannotOpen, NotAdmitted

CHUNK: Final = 64 * 1024  # bytes carried at once between a tunnel and the child
IDLE: Final = 15  # seconds of silence after which the system asks whether the other side still lives


async def reach(
    target: Target, ssh: SshTransport, stack: AsyncExitStack, deadline: float, *, service: str, bare: bool
) -> socket.socket:
    """Return a connected socket; what holds it open is put on `stack`. Raises CannotOpen or NotAdmitted.

    deadline: of the loop's clock. `target.via` is the way through SSH, its last host opens the connection.
    service: what listens there, for sentences. bare: it may cross a network without SSH around it.
    """
    if target.via:
        return await _through(target, ssh, stack, deadline, service)
    try:
        async with asyncio.timeout_at(deadline):
            addresses = await dial.addresses(target)
    except TimeoutError as error:
        detail = f"DNS did not answer for {target.address!r} of {target.name} in time."
        raise CannotOpen(Outcome("unreachable", reason="dns", detail=detail)) from error
    if not bare and not all(_is_loopback(address) for *_, address in addresses):
        detail = f"{target.where} is no loopback address, and {service} would cross the network unencrypted."
        advice = "Name the SSH host to go through (`via`), or let the asset say `plain` with a reason."
        raise NotAdmitted(Outcome("refused", detail=detail), advice=advice)
    try:
        async with asyncio.timeout_at(deadline):
            sock = await dial.connected(target, addresses, service=service)
    except TimeoutError as error:
        raise dial.too_late(target) from error
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE)
    return sock


def _is_loopback(address: tuple[Any, ...]) -> bool:
    return ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback


async def _through(
    target: Target, ssh: SshTransport, stack: AsyncExitStack, deadline: float, service: str
) -> socket.socket:
    """Open a forwarded connection in memory: no port of ours listens, so nobody else on this machine can use it."""
    loop = asyncio.get_running_loop()
    hop = replace(target.via[-1], via=target.via[:-1])
    for last in (False, True):  # a connection kept warm may have died unnoticed
        async with AsyncExitStack() as trial:
            left = timedelta(seconds=max(deadline - loop.time(), 0.01))
            shell = await trial.enter_async_context(ssh.open(hop, timeout=left))
            try:
                async with asyncio.timeout_at(deadline):
                    reader, writer = await shell.link.connection.open_connection(
                        target.address, target.port, encoding=None
                    )
            except (TimeoutError, asyncssh.Error, OSError) as error:
                if isinstance(error, asyncssh.ChannelOpenError) and (last or shell.is_open):
                    raise _not_forwarded(target, hop, error, service) from error
                shell.sound = False
                if last or isinstance(error, TimeoutError):
                    detail = f"{hop.name} did not open a way to {target.where}."
                    raise CannotOpen(Outcome("unreachable", reason="connect", detail=detail)) from error
                continue
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            pump = asyncio.create_task(_carry(ours, reader, writer))
            stack.push_async_callback(trial.pop_all().aclose)
            stack.push_async_callback(_end, pump)
            return theirs
    raise AssertionError("the second trial ends the loop")


def _not_forwarded(
    target: Target, hop: Target, error: asyncssh.ChannelOpenError, service: str
) -> CannotOpen | NotAdmitted:
    """Say why there is no way from a host to the service; sshd passes on what its own connect said."""
    said = error.reason.lower()
    if error.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED:
        detail = f"{hop.name} does not forward connections to {target.where}."
        return NotAdmitted(Outcome("refused", detail=detail), advice="Look at AllowTcpForwarding and PermitOpen there.")
    if "resolv" in said or "name" in said:
        detail = f"{hop.name} does not know the name {target.address!r} of {target.name}."
        return CannotOpen(Outcome("unreachable", reason="dns", detail=detail), advice="Check the address.")
    if "timed out" in said:
        detail = f"{target.where} did not answer {hop.name} in time."
        return CannotOpen(Outcome("unreachable", reason="connect", detail=detail), advice="Is it up?")
    detail = f"{target.where} refused the connection of {hop.name}: {error.reason}."
    return CannotOpen(
        Outcome("unreachable", reason="refused", detail=detail), advice=f"Is its {service} server running?"
    )


async def _carry(sock: socket.socket, reader: "asyncssh.SSHReader[bytes]", writer: "asyncssh.SSHWriter[bytes]") -> None:
    """Carry bytes between a socket and a forwarded connection until either ends."""
    loop = asyncio.get_running_loop()

    async def out() -> None:
        while data := await loop.sock_recv(sock, CHUNK):
            writer.write(data)
            await writer.drain()

    async def back() -> None:
        while data := await reader.read(CHUNK):
            await loop.sock_sendall(sock, data)

    ways = [asyncio.create_task(out()), asyncio.create_task(back())]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        sock.close()
        writer.close()


async def _end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait([task])
