"""Damage that any disk may do to a file."""

import os
from pathlib import Path


def flip(file: Path, at: int | None = None) -> None:
    """Turn one bit of a file, in its middle unless told where."""
    file.chmod(0o600)
    with file.open("r+b") as opened:
        opened.seek(file.stat().st_size // 2 if at is None else at)
        byte = opened.read(1)
        opened.seek(-1, os.SEEK_CUR)
        opened.write(bytes([byte[0] ^ 0x10]))


def cut(file: Path, size: int | None = None) -> None:
    """Cut a file short, to its half unless told how long it stays."""
    file.chmod(0o600)
    os.truncate(file, file.stat().st_size // 2 if size is None else size)


def largest(folder: Path, pattern: str = "**/*") -> Path:
    """Return the largest file below a folder."""
    return max((path for path in folder.glob(pattern) if path.is_file()), key=lambda path: path.stat().st_size)
