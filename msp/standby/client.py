"""The command's side: hand over, pass signals on, end as the work ended."""

import os
import resource
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, Final

from msp.standby import wire

PASSED_ON: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGCONT)
ANSWER: Final = 2.0  # seconds for the first word; one that is busy or stuck keeps nobody waiting


def hand_over(folder: Path, arguments: Sequence[str]) -> int | None:
    """Have the standby of the installation in `folder` carry out `msp ARGUMENTS`; return its exit status.

    None: there is none, or it must not do it; then do it here. Nothing has been done in that case. arguments: as
    typed; empty when a program calls, which has no standing to hand over.
    """
    if not arguments:
        return None
    try:
        peer = _connect(folder)
    except OSError:
        return None
    with peer:
        try:
            peer.settimeout(ANSWER)
            peer.sendall(wire.pack(_standing(arguments)))
            if "ready" not in wire.receive(peer)[0]:
                return None
        except (OSError, EOFError, ValueError):
            return None
        with suppress(OSError):  # from here on it is not done twice: whoever has gone is found out by waiting
            socket.send_fds(peer, [wire.pack({"go": True})], [0, 1, 2])
        return _wait(peer)


def _connect(folder: Path) -> socket.socket:
    address, opened = wire.address(folder)
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        peer.connect(address)
        if not wire.is_ours(peer):
            raise PermissionError("another account's")
    except OSError:
        peer.close()
        raise
    finally:
        os.close(opened)
    return peer


def _standing(arguments: Sequence[str]) -> dict[str, Any]:
    mask = os.umask(0o077)
    os.umask(mask)
    return {
        "stamp": wire.stamp(),
        "arguments": list(arguments),
        "folder": str(Path.cwd()),
        "environment": dict(os.environ),
        "umask": mask,
        "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    }


def _wait(peer: socket.socket) -> int:
    """Wait for the end and return its status, ending by the same signal if it was one."""
    peer.settimeout(None)

    def pass_on(number: int, _frame: FrameType | None) -> None:
        with suppress(OSError):
            peer.sendall(wire.pack({"signal": number}))

    def stop(_number: int, _frame: FrameType | None) -> None:
        pass_on(signal.SIGSTOP, None)
        os.kill(os.getpid(), signal.SIGSTOP)

    before = {number: signal.signal(number, pass_on) for number in PASSED_ON}
    before[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, stop)
    try:
        status = int(wire.receive(peer)[0]["status"])
    except (OSError, EOFError, ValueError):
        print("msp: The process that carried this out has gone.", file=sys.stderr)  # noqa: T201  no click here yet
        print("     Look at the list of runs for what was done.", file=sys.stderr)  # noqa: T201
        return 3
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return abs(status)
