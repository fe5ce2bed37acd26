"""A ZIP archive without compression or dates: the same files give the same bytes, and every byte has one right value.

Any unzip program opens it (PKWARE APPNOTE 6.3, method 0). Because the layout follows from the files alone, a reader can
tell a changed byte of the container from a changed byte of a file. Pure.
"""

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_DAY_ONE = 0x0021  # 1 January 1980, the earliest date that the format knows
_UTF8 = 0x0800
LARGEST = 0xFFFF_FFFE  # bytes; more would need ZIP64


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of the archive: a file's header, a file's content, or the table of contents."""

    what: str
    data: bytes


def header(name: str, content: bytes) -> bytes:
    """Return what stands before a file."""
    raw, crc = name.encode(), zlib.crc32(content)
    return _LOCAL.pack(b"PK\3\4", 20, _UTF8, 0, 0, _DAY_ONE, crc, len(content), len(content), len(raw), 0) + raw


def first_file(data: bytes) -> tuple[str, bytes]:
    """Return name and content of an archive's first file as its header tells them; raises ValueError if it lies."""
    if len(data) < _LOCAL.size:
        raise ValueError("the archive is too short")
    signature, *_, size, _, length, extra = _LOCAL.unpack_from(data)
    begin = _LOCAL.size + length + extra
    if signature != b"PK\3\4" or begin + size > len(data):
        raise ValueError("the archive does not begin as it should")
    return data[_LOCAL.size : _LOCAL.size + length].decode("utf-8", "replace"), data[begin : begin + size]


def parts(files: Sequence[tuple[str, bytes]]) -> Iterator[Part]:
    """Yield the archive of these files, in order. Raises ValueError for more than the format carries."""
    if sum(len(content) for _, content in files) > LARGEST or len(files) > 0xFFFF:
        raise ValueError("too much for one archive")
    directory, at = [], 0
    for name, content in files:
        head = header(name, content)
        yield Part(f"the header of {name}", head)
        yield Part(name, content)
        fixed = _LOCAL.unpack_from(head)[1:10]
        rest = (0, 0, 0, 0, 0o100644 << 16, at)
        directory.append(_CENTRAL.pack(b"PK\1\2", 20 | 3 << 8, *fixed, *rest) + name.encode())
        at += len(head) + len(content)
    table = b"".join(directory)
    end = _END.pack(b"PK\5\6", 0, 0, len(files), len(files), len(table), at, 0)
    yield Part("the table of contents", table + end)
