"""What a script reads besides its short input: a file or a whole folder, chunk by chunk and never whole in memory."""

import hashlib
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from msp.errors import Misconfigured

LARGEST_WHOLE = 32 * 1024 * 1024  # bytes for a way in that cannot stream
CHUNK = 256 * 1024  # bytes read at once


@dataclass(frozen=True, slots=True)
class Tree:
    """A folder and all folders and files below it, parents first."""

    folder: Path
    below: tuple[Path, ...]

    @property
    def files(self) -> int:
        """How many files it has."""
        return sum(not path.is_dir() for path in self.below)


@dataclass(frozen=True, slots=True)
class Payload:
    """`chunks` begins anew at each call, so that every host gets all of it. `size` in bytes."""

    size: int
    chunks: Callable[[], Iterator[bytes]]
    tree: Tree | None = None  # what the stream is made of

    def whole(self, limit: int, host: str) -> bytes:
        """Return all of it; raises Misconfigured beyond `limit` bytes."""
        if self.size > limit:
            raise Misconfigured(
                f"{host} is reached in a way that takes {limit // 1024**2} MB at most, and the file is larger.",
                advice="Fetch it on the host itself, or reach the host by SSH.",
            )
        return b"".join(self.chunks())


def of_file(path: Path) -> tuple[Payload, str]:
    """Return the content of a file, and its SHA-256. Raises OSError."""
    seen = path.stat()
    return Payload(seen.st_size, partial(read, path)), _digest(path, seen.st_mtime_ns, seen.st_size)


def of_folder(folder: Path) -> tuple[Payload, str]:
    """Return the files below a folder as one tar stream, and the SHA-256 over their sorted `sha256sum` lines.

    Owners are left away, modes and times kept. Raises OSError, or Misconfigured for what cannot be copied faithfully.
    """
    files = sorted(path for path in folder.rglob("*"))
    lines = []
    for path in files:
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise Misconfigured(f"{path} is neither a file nor a folder.", advice="Copy files and folders only.")
        if "\n" in name or "\\" in name:
            raise Misconfigured(f"{path} has a newline or a backslash in its name.", advice="Rename it.")
        if path.is_file():
            seen = path.stat()
            lines.append(
                f"{_digest(path, seen.st_mtime_ns, seen.st_size)}  ./{name}\n".encode("utf-8", "surrogateescape")
            )
    size = sum(path.stat().st_size + 1024 for path in files)
    tree = Tree(folder, tuple(files))
    return Payload(size, partial(_tar, tree), tree), hashlib.sha256(b"".join(sorted(lines))).hexdigest()


@lru_cache(maxsize=4096)
def _digest(path: Path, changed: int, size: int) -> str:
    """`changed` and `size` are those of the file now, so that a changed one is read again."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(path: Path) -> Iterator[bytes]:
    """Yield a file's content in pieces. Raises OSError."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def _tar(tree: Tree) -> Iterator[bytes]:
    """Yield a tar stream (POSIX.1-1988 with GNU's long names), as every tar reads it."""
    for path in tree.below:
        seen, is_dir = path.stat(), path.is_dir()
        info = tarfile.TarInfo(path.relative_to(tree.folder).as_posix())
        info.mode, info.mtime = seen.st_mode & 0o777, int(seen.st_mtime)
        info.type, info.size = (tarfile.DIRTYPE, 0) if is_dir else (tarfile.REGTYPE, seen.st_size)
        yield info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
        if is_dir:
            continue
        left = info.size
        for chunk in read(path):  # a file that grows or shrinks meanwhile keeps the size that was announced
            yield chunk[:left]
            left -= min(left, len(chunk))
        if left or info.size % tarfile.BLOCKSIZE:
            yield b"\0" * (left + -info.size % tarfile.BLOCKSIZE)
    yield b"\0" * (2 * tarfile.BLOCKSIZE)
