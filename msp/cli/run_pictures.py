"""`msp run --pictures`: what screens showed, as files."""

import re
from collections.abc import Callable
from pathlib import Path

from msp.errors import Misconfigured
from msp.remote.ledger import HostEnd, StepRecord

Listener = Callable[[StepRecord | HostEnd], None]


def folder_for(name: str) -> Path:
    """Return a folder for pictures, made if need be. Raises Misconfigured."""
    folder = Path(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Misconfigured(f"{folder} cannot hold pictures: {error.strerror}.", advice="Name a folder.") from error
    return folder


def keeping(folder: Path, listener: Listener) -> Listener:
    """Return a listener that writes pictures into `folder` before it hands on what it is told."""

    def tell(what: StepRecord | HostEnd) -> None:
        if isinstance(what, StepRecord):
            for number, shot in enumerate(what.pictures, 1):
                (folder / file_name(what, number, shot.name)).write_bytes(shot.png)
        listener(what)

    return tell


def file_name(record: StepRecord, number: int, name: str) -> str:
    """Return `till-1-step2-do-1-before.png`: one name for every picture of a run."""
    key = record.key
    again = f"-attempt{key.attempt}" if key.attempt > 1 else ""
    host, called = (re.sub(r"[^\w.-]+", "_", word).strip(".") or "_" for word in (record.host, name))
    return f"{host}-step{key.step}-{key.phase}{again}-{number}-{called}.png"
