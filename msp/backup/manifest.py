"""A manifest: what a tree holds, one entry a path, names as bytes, in an order that can be merged.

The order is by path components (a, a/x, a.b), which is the order of a walk that sorts each folder's names; so two
trees of any size are compared with the memory of one folder. In JSON, names that are not UTF-8 are
surrogate-escaped. Nothing here follows a symbolic link.
"""

import hashlib
import heapq
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from msp.errors import Misconfigured, NotFound

TYPES = {
    stat.S_IFREG: "-",
    stat.S_IFDIR: "d",
    stat.S_IFLNK: "l",
    stat.S_IFBLK: "b",
    stat.S_IFCHR: "c",
    stat.S_IFIFO: "p",
    stat.S_IFSOCK: "s",
}
BLOCK = 1 << 18
SAMPLE = 4096  # bytes kept of a file's beginning and middle, to tell text from noise
RUN = 50_000  # entries sorted in memory at once


@dataclass(slots=True)
class Entry:
    """One path. `mode` holds permission bits only; `mtime` is seconds since 1970; None means not known."""

    path: bytes
    type: str
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    mtime: float | None = None
    sha256: str | None = None
    target: bytes | None = None  # of a symbolic link
    hardlink: bytes | None = None  # the first path with the same inode
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    sample: bytes = b""  # never stored
    changed: float | None = None  # of a living file: its ctime, which nobody can set back; never stored

    @property
    def key(self) -> bytes:
        return key(self.path)


def key(path: bytes) -> bytes:
    """Return what sorts a path by its components."""
    return path.replace(b"/", b"\0")


def text(path: bytes) -> str:
    """Return a path as JSON holds it: UTF-8, anything else surrogate-escaped."""
    return path.decode("utf-8", "surrogateescape")


def raw(name: str) -> bytes:
    """Return the bytes of a path as JSON holds it."""
    return name.encode("utf-8", "surrogateescape")


def shown(path: bytes) -> str:
    """Return a path for people and for output that must be valid UTF-8."""
    return path.decode("utf-8", "backslashreplace")


def walk(root: Path, *, own: bool = False, on_error: Callable[[bytes, OSError], None] | None = None) -> Iterator[Entry]:
    """Yield every entry below `root` in order, with checksums; `root` itself is left out.

    own: the tree is our scratch, so modes that shut us out may be lifted while we read.
    on_error: called for what cannot be read; without it the error is raised.
    """
    first: dict[tuple[int, int], tuple[bytes, str | None, bytes]] = {}
    base = os.fsencode(root)
    buffer = memoryview(bytearray(BLOCK))

    def below(folder: bytes, prefix: bytes) -> Iterator[Entry]:
        try:
            names = _names(folder, own)
        except OSError as error:
            if on_error is None:
                raise
            on_error(prefix.rstrip(b"/"), error)
            return
        names.sort()
        for name in names:
            full, path = folder + b"/" + name, prefix + name
            try:
                info = os.lstat(full)
                entry = _entry(full, path, info)
                if entry.type == "-":
                    seen = first.get((info.st_dev, info.st_ino)) if info.st_nlink > 1 else None
                    if seen:
                        entry.hardlink, entry.sha256, entry.sample = seen
                    else:
                        entry.sha256, entry.sample = _digest(full, info, buffer, own)
                        if info.st_nlink > 1:
                            first[info.st_dev, info.st_ino] = (path, entry.sha256, entry.sample)
            except OSError as error:
                if on_error is None:
                    raise
                on_error(path, error)
                continue
            yield entry
            if entry.type == "d":
                yield from below(full, path + b"/")

    yield from below(base, b"")


def named(root: Path, paths: Iterable[bytes]) -> Iterator[Entry]:
    """Yield the entries at some paths below a living tree; what is not there, cannot be read, or climbs is left out.

    A file that changes while it is read gets the later times of change.
    """
    base, buffer = os.path.realpath(os.fsencode(root)), memoryview(bytearray(BLOCK))
    for path in paths:
        full = base + b"/" + path
        folder = os.path.dirname(full)  # noqa: PTH120  names are bytes
        if b"\0" in path or os.path.realpath(folder) != os.path.normpath(folder) or b".." in path.split(b"/"):
            continue  # through a link is not below the root
        try:
            info = os.lstat(full)
            entry = Entry(path, TYPES[stat.S_IFMT(info.st_mode)], size=info.st_size)
            if entry.type == "-":
                entry.sha256, _ = _digest(full, info, buffer, False)
                info = os.lstat(full)
            entry.mtime, entry.changed = info.st_mtime_ns / 1e9, info.st_ctime_ns / 1e9
        except OSError:
            continue
        yield entry


def _names(folder: bytes, own: bool) -> list[bytes]:
    try:
        return os.listdir(folder)  # noqa: PTH208  names are bytes
    except PermissionError:
        if not own:
            raise
        os.chmod(folder, os.lstat(folder).st_mode | stat.S_IRWXU)  # noqa: PTH101  names are bytes
        return os.listdir(folder)  # noqa: PTH208  names are bytes


def _entry(full: bytes, path: bytes, info: os.stat_result) -> Entry:
    kind = TYPES[stat.S_IFMT(info.st_mode)]
    entry = Entry(
        path, kind, stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid, info.st_size, info.st_mtime_ns / 1e9
    )
    if kind == "l":
        entry.target = os.readlink(full)  # noqa: PTH115  names are bytes
    try:
        names = os.listxattr(full, follow_symlinks=False)
        if names:
            entry.xattrs = {os.fsencode(n): os.getxattr(full, n, follow_symlinks=False) for n in names}
    except OSError:
        pass  # a file system without them, or a name gone meanwhile
    return entry


def _digest(full: bytes, info: os.stat_result, buffer: memoryview, own: bool) -> tuple[str, bytes]:
    """Return (SHA-256 in hexadecimal, sample of beginning and middle)."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        handle = os.open(full, flags)
    except PermissionError:
        if not own:
            raise
        os.chmod(full, info.st_mode | stat.S_IRUSR)  # noqa: PTH101  names are bytes
        handle = os.open(full, flags)
    into = [buffer]
    try:
        digest, sample, middle, read = hashlib.sha256(), b"", info.st_size // 2, 0
        while count := os.readv(handle, into):
            if read == 0:
                sample = bytes(buffer[: min(count, SAMPLE)])
            elif read <= middle < read + count and middle > BLOCK:
                sample += bytes(buffer[: min(count, SAMPLE)])
            digest.update(buffer if count == BLOCK else buffer[:count])
            read += count
            if own and read == info.st_size:
                break  # in our scratch nobody adds to a file, so its end need not be looked for
        return digest.hexdigest(), sample
    finally:
        os.close(handle)


def plain(entry: Entry) -> dict[str, Any]:
    """Return an entry as its JSON object; fields that do not apply are left out."""
    values: dict[str, Any] = {
        "type": entry.type,
        "mode": entry.mode,
        "uid": entry.uid,
        "gid": entry.gid,
        "size": entry.size,
        "mtime": entry.mtime,
    }
    if entry.sha256 is not None:
        values["sha256"] = entry.sha256
    if entry.target is not None:
        values["target"] = text(entry.target)
    if entry.hardlink is not None:
        values["hardlink"] = text(entry.hardlink)
    if entry.xattrs:
        values["xattrs"] = {text(name): value.hex() for name, value in sorted(entry.xattrs.items())}
    return values


def write(entries: Iterable[Entry], file: IO[str]) -> int:
    """Write a manifest as one JSON object, a line an entry, and return how many."""
    count = 0
    file.write("{")
    for entry in entries:
        file.write(",\n" if count else "\n")
        file.write(f"{json.dumps(text(entry.path))}: {json.dumps(plain(entry))}")
        count += 1
    file.write("\n}\n")
    return count


def _parse(name: str, values: Any, where: str) -> Entry:
    """Return the entry that a pair of the JSON object describes; raises Misconfigured."""
    try:
        kind = values.get("type", "-")
        if kind not in TYPES.values():
            raise ValueError(f"type {kind!r}")
        mtime = values.get("mtime")
        if mtime is not None:
            mtime = float(mtime)
            mtime = mtime / 1e9 if mtime > 1e14 else mtime  # nanoseconds, as some tools write them
        target, hardlink, mode = values.get("target"), values.get("hardlink"), values.get("mode")
        return Entry(
            raw(name.removeprefix("./")),
            kind,
            None if mode is None else stat.S_IMODE(int(mode)),
            values.get("uid"),
            values.get("gid"),
            values.get("size"),
            mtime,
            values.get("sha256"),
            None if target is None else raw(target),
            None if hardlink is None else raw(hardlink.removeprefix("./")),
            {raw(n): bytes.fromhex(v) for n, v in (values.get("xattrs") or {}).items()},
        )
    except (AttributeError, TypeError, ValueError) as error:
        raise Misconfigured(
            f"{where}: the entry {name!r} is not one of a manifest: {error}.",
            advice="Make it with msp backup manifest.",
        ) from error


def read(path: Path) -> Iterator[Entry]:
    """Yield the entries of a manifest in the file's own order, without holding it in memory.

    Raises NotFound or Misconfigured.
    """
    for name, values in _pairs(path):
        if name not in ("", "."):
            yield _parse(name, values, str(path))


def _pairs(path: Path) -> Iterator[tuple[str, Any]]:
    decoder, space = json.JSONDecoder(), " \t\r\n"
    buffer, at, over = "", 0, False

    def broken(what: str) -> Misconfigured:
        return Misconfigured(f"{path} is not a manifest: {what}.", advice="Make it with msp backup manifest.")

    try:
        file = path.open(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise NotFound(f"The manifest {path} cannot be read: {error.strerror}.", advice="Name the file.") from error
    with file:

        def more() -> bool:
            nonlocal buffer, at, over
            chunk = "" if over else file.read(1 << 20)
            over = over or not chunk
            buffer, at = buffer[at:] + chunk, 0
            return bool(chunk)

        def token() -> str:
            nonlocal at
            while True:
                while at < len(buffer) and buffer[at] in space:
                    at += 1
                if at < len(buffer):
                    return buffer[at]
                if not more():
                    raise broken("it ends too early")

        def value() -> Any:
            nonlocal at
            token()
            while True:
                try:
                    found, at = decoder.raw_decode(buffer, at)
                    return found
                except ValueError as error:
                    if not more():
                        raise broken(str(error)) from error

        if token() != "{":
            raise broken("it is not an object")
        at += 1
        while token() != "}":
            name = value()
            if not isinstance(name, str) or token() != ":":
                raise broken("a path is missing")
            at += 1
            yield name, value()
            if token() == ",":
                at += 1
            elif token() != "}":
                raise broken("a comma is missing")


def _is_in_order(path: Path) -> bool:
    before = b""
    for name, _ in _pairs(path):
        here = key(raw(name.removeprefix("./")))
        if here < before:
            return False
        before = here
    return True


def in_order(path: Path, scratch: Path) -> Iterator[Entry]:
    """Yield the entries of a manifest in the order of `walk`, sorting in runs on disk where they do not fit.

    Raises NotFound or Misconfigured.
    """
    if _is_in_order(path):  # as ours are: looking first is cheaper than sorting
        yield from read(path)
        return
    runs: list[IO[str]] = []
    chunk: list[tuple[bytes, str]] = []

    def spill() -> None:
        chunk.sort()
        run = tempfile.TemporaryFile("w+", dir=scratch, encoding="utf-8")  # noqa: SIM115  closed below
        run.writelines(f"{line}\n" for _, line in chunk)
        run.seek(0)
        runs.append(run)
        chunk.clear()

    def lines(run: IO[str]) -> Iterator[tuple[bytes, str]]:
        for line in run:
            yield key(raw(json.loads(line)[0].removeprefix("./"))), line

    try:
        for name, values in _pairs(path):
            if name in ("", "."):
                continue
            chunk.append((key(raw(name.removeprefix("./"))), json.dumps([name, values])))
            if len(chunk) >= RUN:
                spill()
        chunk.sort()
        for _, line in heapq.merge(chunk, *map(lines, runs)):
            name, values = json.loads(line)
            yield _parse(name, values, str(path))
    finally:
        for run in runs:
            run.close()
