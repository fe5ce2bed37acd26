"""What a command and the standby say to each other: length and JSON, and three file descriptors with the word to go."""

import json
import os
import socket
import struct
import sys
from pathlib import Path
from typing import Any, Final

SOCKET: Final = "standby.sock"
LONGEST: Final = 4 * 1024 * 1024  # bytes of a message; the environment is the most of it
_LENGTH: Final = struct.Struct("!I")
_PEER: Final = struct.Struct("3i")  # pid, uid, gid


def stamp() -> dict[str, Any]:
    """Return what must be alike for one process to carry out the command of another."""
    return {
        "prefix": sys.prefix,
        "package": str(Path(__file__).resolve().parents[1]),
        "python": list(sys.version_info[:3]),
        "namespaces": [os.readlink(f"/proc/self/ns/{kind}") for kind in ("mnt", "net", "pid")],  # noqa: PTH115
        "environment": [os.environ.get(name, "") for name in ("PYTHONPATH", "PYTHONHOME", "PYTHONUTF8")],
    }


def address(folder: Path) -> tuple[str, int]:
    """Return the socket's address and the descriptor to close afterwards: a path of any length by way of its folder."""
    opened = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return f"/proc/self/fd/{opened}/{SOCKET}", opened


def is_ours(peer: socket.socket) -> bool:
    """Return whether the process at the other end runs as the same account."""
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    return bool(_PEER.unpack(raw)[1] == os.geteuid())


def pack(message: dict[str, Any]) -> bytes:
    """Return a message as it is sent."""
    data = json.dumps(message).encode("ascii")
    return _LENGTH.pack(len(data)) + data


def receive(peer: socket.socket, *, descriptors: int = 0) -> tuple[dict[str, Any], list[int]]:
    """Return the next message and what descriptors came with it. Raises EOFError, or ValueError for no message."""
    fds: list[int] = []
    if descriptors:
        head, fds, _, _ = socket.recv_fds(peer, _LENGTH.size, descriptors)
    else:
        head = peer.recv(_LENGTH.size)
    head += _exactly(peer, _LENGTH.size - len(head)) if head else b""
    if not head:
        raise EOFError("the other end has gone")
    size = _LENGTH.unpack(head)[0]
    if size > LONGEST:
        raise ValueError(f"a message of {size} bytes")
    found = json.loads(_exactly(peer, size))
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found, fds


def _exactly(peer: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        part = peer.recv(size)
        if not part:
            raise EOFError("the other end has gone")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
