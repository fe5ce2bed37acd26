"""A TCP connection to the first address of a host that takes one; why there is none is one of the closed outcomes."""

import asyncio
import errno
import socket
from collections.abc import Iterable
from typing import Any

from msp.remote.outcome import Outcome
from msp.remote.target import Target
from msp.remote.transport import CannotOpen

Addresses = list[tuple[Any, ...]]  # as getaddrinfo gives them


async def addresses(target: Target) -> Addresses:
    """Return the addresses of the target's name; raises CannotOpen(dns). The caller keeps the deadline."""
    loop = asyncio.get_running_loop()
    try:
        return list(await loop.getaddrinfo(target.address, target.port, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError) as error:
        detail = f"The name {target.address!r} of {target.name} is not known to DNS."
        raise CannotOpen(Outcome("unreachable", reason="dns", detail=detail), advice="Check the address.") from error


async def connected(target: Target, found: Iterable[tuple[Any, ...]], *, service: str) -> socket.socket:
    """Return a connected socket, trying one address after the other; raises CannotOpen(refused or connect; not_started
    where this machine has no file left for it).

    service: what should listen there, for the advice. The caller keeps the deadline.
    """
    loop = asyncio.get_running_loop()
    problem: OSError | None = None
    for family, kind, protocol, _, address in found:
        sock = _socket(target, family, kind, protocol)
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
    if isinstance(problem, ConnectionRefusedError):
        outcome = Outcome("unreachable", reason="refused", detail=f"{target.where} refused the connection.")
        raise CannotOpen(outcome, advice=f"Is its {service} server running?")
    detail = f"{target.where} cannot be connected to: {problem.strerror if problem else 'no address'}."
    raise CannotOpen(Outcome("unreachable", reason="connect", detail=detail))


def _socket(target: Target, family: int, kind: int, protocol: int) -> socket.socket:
    try:
        return socket.socket(family, kind, protocol)
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        detail = f"{target.where} was not called: too many files are open on our own machine."
        advice = "Let fewer hosts be at work at once (parallel), or raise the limit (LimitNOFILE, ulimit -n)."
        raise CannotOpen(Outcome("not_started", detail=detail), advice=advice) from error


def too_late(target: Target) -> CannotOpen:
    """Return what to raise when the deadline passed before the host took the connection."""
    detail = f"{target.where} did not answer the connection request in time."
    return CannotOpen(Outcome("unreachable", reason="connect", detail=detail), advice="Is it up?")
