"""The stream that `mariabackup --stream=xbstream` writes: files in chunks, each with its checksum.

Read here rather than by mbstream, which writes wherever the names in a stream say.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

MAGIC = b"XBSTCK01"
LONGEST_NAME = 1 << 12
LARGEST_CHUNK = 1 << 28


class Damaged(Exception):
    """The stream is not what was written; the text says where."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of one file; `payload` is None where the file ends."""

    path: bytes
    offset: int
    payload: bytes | None


def chunks(stream: IO[bytes]) -> Iterator[Chunk]:
    """Yield every chunk after checking it; raises Damaged at the first that is not whole, or if a file never ends."""
    unfinished: set[bytes] = set()
    number = 0
    while head := stream.read(14):
        number += 1
        if len(head) < 14 or not head.startswith(MAGIC):
            raise Damaged(f"chunk {number} does not begin like one")
        kind = head[9:10]
        (length,) = struct.unpack("<I", head[10:14])
        if length > LONGEST_NAME or kind not in b"PE":
            raise Damaged(f"chunk {number} is of no known kind")
        path = _exactly(stream, length, number)
        if kind == b"E":
            unfinished.discard(path)
            yield Chunk(path, 0, None)
            continue
        size, offset, checksum = struct.unpack("<QQI", _exactly(stream, 20, number))
        if size > LARGEST_CHUNK:
            raise Damaged(f"chunk {number} claims {size} bytes")
        payload = _exactly(stream, size, number)
        if zlib.crc32(payload) != checksum:
            raise Damaged(f"chunk {number} of {path.decode('utf-8', 'replace')} has a wrong checksum")
        unfinished.add(path)
        yield Chunk(path, offset, payload)
    if unfinished or not number:
        name = min(unfinished, default=b"").decode("utf-8", "replace")
        raise Damaged(f"it ends in the middle of {name}" if name else "it is empty")


def _exactly(stream: IO[bytes], size: int, number: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise Damaged(f"it ends in chunk {number}")
    return data


def outside(path: bytes) -> bool:
    """Say whether a name would leave the folder it is restored to."""
    return path.startswith(b"/") or b"\0" in path or b".." in path.split(b"/") or not path
