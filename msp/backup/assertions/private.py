"""Where a throwaway database server runs: whose account, which folder, and how it is stopped.

Database servers refuse root, and a backup is somebody else's code: as root, they run as an account without rights.
"""

import contextlib
import os
import pwd
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from msp.backup.process import Runner, end, kill
from msp.backup.scratch import Scratch, default_base, scratch
from msp.errors import Misconfigured, StepFailed

SOCKET_LIMIT = 80  # bytes of the folder's name; the kernel allows 107 for the whole path
START = 120  # seconds until a server must answer


def account(*names: str) -> pwd.struct_passwd | None:
    """Return the first of these accounts that is here when we are root, else None: ourselves."""
    if os.geteuid() != 0:
        return None
    for name in names:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise Misconfigured("There is no account to run a database as.", advice=f"Create the account {names[0]}.")


@contextlib.contextmanager
def folder(space: Scratch, who: pwd.struct_passwd | None, name: str) -> Iterator[Path]:
    """Yield a folder of `who` in scratch, or beside it where that account cannot enter or a socket's name is too long.

    It is gone with the scratch space, or at the end where it lies elsewhere.
    """
    with contextlib.ExitStack() as stack:
        try:
            made = space.folder_of(who, name)
            if len(os.fsencode(made)) > SOCKET_LIMIT:
                raise Misconfigured(f"{made} is too long a name for a socket.")
        except Misconfigured:
            base = next((base for base in map(default_base, (None, "/tmp", "/var/tmp")) if _open_to(base, who)), None)  # noqa: S108
            if base is None:
                raise
            made = stack.enter_context(scratch(base, quota=space.quota)).folder_of(who, name)
        yield made


def _open_to(base: Path, who: pwd.struct_passwd | None) -> bool:
    """Say whether an account may pass through every folder above `base`, and a socket's name fits there."""
    if len(os.fsencode(base)) > SOCKET_LIMIT - 30:
        return False
    return who is None or all(parent.stat().st_mode & 0o001 for parent in base.parents)


@contextlib.contextmanager
def server(
    runner: Runner,
    argv: Sequence[str],
    *,
    place: Path,
    who: pwd.struct_passwd | None,
    answers: Callable[[], bool],
    stop_signal: int,
    what: str,
) -> "Iterator[subprocess.Popen[bytes]]":
    """Run a server in `place` until the block ends; its words are in `place`/log.

    answers: says whether it can be asked. stop_signal: one that does not wait for clients.
    Raises StepFailed with the server's own last line if it ends or stays silent.
    """
    log = place / "log"
    with log.open("wb") as file:
        process = runner.start(
            argv,
            account=who,
            last_signal="QUIT" if stop_signal == 3 else "KILL",
            env={"HOME": str(place), "TMPDIR": str(place)},
            cwd=place,
            stdout=file,
            stderr=file,
        )
    try:
        ends = time.monotonic() + START
        while not answers():
            if process.poll() is not None or time.monotonic() > ends:
                raise StepFailed(f"The private {what} does not answer: {last_words(log)}.")
            time.sleep(0.05)
        yield process
    finally:
        if process.poll() is None:
            kill(process, stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
        end(process)


def last_words(log: Path) -> str:
    """Return the most telling line of a server's log."""
    lines = log.read_text("utf-8", "replace").strip().splitlines() if log.exists() else []
    telling = [line for line in lines if any(word in line for word in ("FATAL", "PANIC", "[ERROR]"))]
    return (telling or lines or [""])[-1][:300]
