"""The master key in its file, and how a new one takes its place without a moment in which nothing opens.

While the key is changed the new one lies beside the old as FILE.new. Whoever opens the vault tries both, so a crash
before or after the commit that wraps the data keys anew leaves a vault that opens.
"""

import os
import secrets
from datetime import datetime
from pathlib import Path

from msp.errors import Conflict, Misconfigured

BYTES = 32


def create_key_file(path: Path) -> None:
    """Write a new master key, readable by its owner alone. Raises Conflict if there is one already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise Conflict(
            f"The key file {path} exists already.", advice="Keep it: it opens every stored secret."
        ) from error
    with os.fdopen(handle, "w") as file:
        file.write(secrets.token_hex(BYTES) + "\n")
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(path)


def read(path: Path) -> bytes:
    """Return the master key; raises Misconfigured if it is missing, broken or readable by others."""
    try:
        mode, text = path.stat().st_mode, path.read_text("ascii").strip()
        key = bytes.fromhex(text)
    except FileNotFoundError as error:
        raise Misconfigured(f"The key file {path} is missing.", advice="Run msp init, or restore it.") from error
    except (ValueError, OSError) as error:
        raise Misconfigured(f"The key file {path} cannot be read.", advice="Restore it from your safe.") from error
    if mode & 0o077:
        raise Misconfigured(f"The key file {path} is readable by others.", advice=f"Run chmod 600 {path}.")
    if len(key) != BYTES:
        raise Misconfigured(f"The key file {path} does not hold {BYTES} bytes.", advice="Restore it from your safe.")
    return key


def read_all(path: Path) -> list[bytes]:
    """Return the master key, and the one that is about to take its place if a change was begun."""
    keys = [read(path)]
    if fresh_path(path).exists():
        keys.append(read(fresh_path(path)))
    return keys


def fresh_path(path: Path) -> Path:
    """Return where the new key lies while it is not yet in force."""
    return path.with_name(path.name + ".new")


def begin_change(path: Path) -> bytes:
    """Return the new key, written beside the old one; the one of a change that was cut short is taken up again."""
    fresh = fresh_path(path)
    if not fresh.exists():
        half = fresh.with_name(fresh.name + ".part")
        half.unlink(missing_ok=True)
        create_key_file(half)
        half.replace(fresh)  # so that nobody ever reads half a key
        _sync_folder(path)
    return read(fresh)


def end_change(path: Path, now: datetime) -> Path:
    """Put the new key in force and return where the old one is kept."""
    kept = path.with_name(f"{path.name}.{now:%Y%m%dT%H%M%S%f}Z")
    os.link(path, kept)
    fresh_path(path).replace(path)
    _sync_folder(path)
    return kept


def _sync_folder(path: Path) -> None:
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
