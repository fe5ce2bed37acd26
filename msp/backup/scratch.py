"""Where restored data may lie: a private folder with a quota that is gone afterwards, whatever happened.

Every folder has a lock file beside it that its process holds while it lives; the kernel lets go when the process
dies, so a sweeper can tell a left-over (after kill -9 or a power cut) from a test that is running.
"""

import errno
import fcntl
import os
import pwd
import secrets
import shutil
import signal
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msp.errors import Misconfigured, StepFailed

PREFIX = "restore-"
LOCK = ".lock"
SHARED = "msp-scratch-"  # begins the name of a folder that goes when its last test ends


class QuotaExceeded(StepFailed):
    """The restored data would need more room than the test may use."""

    code = "quota"


def default_base(below: str | None = None) -> Path:
    """Return the folder for tests without an installation: one per account, under the system's temporary folder."""
    return Path(below or tempfile.gettempdir()) / f"{SHARED}{os.getuid()}"


def remove(path: Path) -> None:
    """Remove a tree whatever the modes inside it are; a tree that is not there is fine."""

    def insist(function: Any, name: str, error: Any) -> None:
        if isinstance(error[1], FileNotFoundError):
            return
        for place in (os.path.dirname(name), name):  # noqa: PTH120  bytes or text, as rmtree gives it
            if not os.path.islink(place):  # noqa: PTH114
                os.chmod(place, stat.S_IRWXU)  # noqa: PTH101
        if function is os.open or function is os.scandir:  # a folder that could not be listed
            shutil.rmtree(name, ignore_errors=True)
        else:
            function(name)

    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    elif path.exists():
        shutil.rmtree(path, onerror=insist)


def _prepare(base: Path) -> None:
    base.mkdir(mode=0o711, parents=True, exist_ok=True)
    info = base.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid() or info.st_mode & 0o022:
        raise Misconfigured(
            f"The scratch folder {base} belongs to somebody else or others may write to it.",
            advice="Set `scratch` to a folder of this account with mode 0711 or less.",
        )


def sweep(base: Path) -> list[str]:
    """Remove what dead restore tests left in `base`; return the names removed, sorted."""
    swept = []
    if not base.is_dir():
        return []
    for lock in sorted(base.glob(f"{PREFIX}*{LOCK}")):
        with _held(lock) as mine:
            if mine:
                name = lock.name.removesuffix(LOCK)
                _end_programs(base / name)
                for tree in (base / name, *base.glob(f"{name}.*")):
                    if tree != lock:
                        remove(tree)
                lock.unlink(missing_ok=True)
                swept.append(name)
    return swept


def _end_programs(place: Path) -> None:
    """End what is still at work for a dead test. The kernel ends a test's programs with it; a server that was just
    starting may have lived on."""
    for number, seconds in ((signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):  # databases end tidily by the first
        ends = time.monotonic() + seconds
        for pid in _at_work(place):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        while _at_work(place) and time.monotonic() < ends:
            time.sleep(0.05)


def _at_work(place: Path) -> list[int]:
    """Return the programs that stand in a test's folders, or were started with a path in them."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes()
            where = str((process / "cwd").readlink())
            if words and (where.startswith(str(place)) or os.fsencode(place) in words):
                found.append(int(process.name))
    return [pid for pid in found if pid != os.getpid()]


@contextmanager
def _held(lock: Path) -> Iterator[bool]:
    """Try to take a lock file without waiting; yield whether it is ours."""
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        yield False
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        yield False
    finally:
        os.close(handle)


@dataclass(slots=True)
class Scratch:
    """One test's private folder and what it may still write."""

    path: Path
    quota: int | None  # bytes of apparent size: engines lose holes, so holes count
    _extra: list[Path] = field(default_factory=list)

    def folder(self, name: str) -> Path:
        """Return a new private folder inside."""
        path = self.path / name
        path.mkdir(mode=0o700)
        return path

    def folder_of(self, account: pwd.struct_passwd | None, name: str) -> Path:
        """Return a new private folder that belongs to another account (None: to this one), beside the own folder.

        Raises Misconfigured if that account could not reach it.
        """
        if account is None:
            return self.folder(name)
        path = self.path.with_name(f"{self.path.name}.{name}")
        for parent in path.parents:
            if not parent.stat().st_mode & stat.S_IXOTH:
                raise Misconfigured(
                    f"The account {account.pw_name} cannot reach {path.parent}: {parent} is closed to it.",
                    advice="Set `scratch` to a folder whose parents others may enter (mode 0711).",
                )
        path.mkdir(mode=0o700)
        self._extra.append(path)
        os.chown(path, account.pw_uid, account.pw_gid)
        return path

    def require(self, size: int) -> None:
        """Raise QuotaExceeded if `size` bytes may not or cannot be written here."""
        if self.quota is not None and size > self.quota:
            raise QuotaExceeded(
                f"The backup restores to {size} bytes and the test may use {self.quota}.",
                advice="Raise scratch_quota_bytes, or test a part of it.",
            )
        free = shutil.disk_usage(self.path).free
        if size > free:
            raise QuotaExceeded(
                f"The backup restores to {size} bytes and {free} are free in {self.path.parent}.",
                advice="Make room, or set `scratch` to a larger disk.",
            )

    def room(self) -> int:
        """Return how many bytes a restore may write at most: the quota, and never the last 64 MB of the disk."""
        free = max(0, shutil.disk_usage(self.path).free - (64 << 20))
        return free if self.quota is None else min(free, self.quota)

    def remove(self) -> None:
        """Remove everything that the test wrote."""
        for path in (*self._extra, self.path):
            remove(path)


@contextmanager
def scratch(base: Path, *, quota: int | None = None) -> Iterator[Scratch]:
    """Open a private folder under `base`, after sweeping left-overs there; it is gone when the block ends."""
    _prepare(base)
    sweep(base)
    name = PREFIX + secrets.token_hex(8)
    lock = base / (name + LOCK)
    handle = _own_lock(lock)
    space = Scratch(base / name, quota)
    try:
        space.path.mkdir(mode=0o700)
        yield space
    finally:
        try:
            space.remove()
            lock.unlink(missing_ok=True)
        finally:
            os.close(handle)
            if base.name.startswith(SHARED):
                with suppress(OSError):  # another test still works there
                    base.rmdir()


def _own_lock(lock: Path) -> int:
    """Create and hold a lock file; a sweeper that came between the two steps has removed it, so look again."""
    while True:
        try:
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError:  # the test that ended last has just removed the empty folder
            _prepare(lock.parent)
            continue
        fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            if os.fstat(handle).st_ino == lock.lstat().st_ino:
                os.write(handle, f"{os.getpid()}\n".encode())
                return handle
        except FileNotFoundError:
            pass
        os.close(handle)
