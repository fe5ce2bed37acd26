"""One run at a time changes a device. Held over all processes of this machine; dies with the process that holds it.

Between machines the queue's limit of one job per host does the same.
"""

import asyncio
import fcntl
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

AGAIN = 0.2  # seconds between two attempts


def _folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"msp-devices-{os.geteuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise OSError(f"{folder} belongs to somebody else")
    return folder


@asynccontextmanager
async def held(address: str, port: int, deadline: float) -> AsyncIterator[bool]:
    """Hold a device until the block ends. Yields False if somebody else held it until `deadline` (loop's clock)."""
    loop = asyncio.get_running_loop()
    name = hashlib.sha256(f"{address} {port}".encode()).hexdigest()[:32]
    descriptor = os.open(_folder() / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if loop.time() + AGAIN >= deadline:
                    yield False
                    return
                await asyncio.sleep(AGAIN)
            else:
                yield True
                return
    finally:
        os.close(descriptor)
