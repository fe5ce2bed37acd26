"""Did the backup job run, in time, and did it write about as much as before? Pure, from what rung 2 saw.

This watches the job, not the backup: a job that runs on time may still write what nobody can restore.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

LATE, MISSED = 1.25, 2.0  # times the job's interval
SHRUNK, GROWN = 0.5, 3.0  # times the median of the sizes before
STATES = ("fine", "late", "missed", "failed", "size", "unknown")


@dataclass(frozen=True, slots=True)
class Seen:
    """One look: when, the newest snapshot's time, its bytes, and whether the repository could be read."""

    at: datetime
    snapshot_at: datetime | None
    bytes: int | None = None
    readable: bool = True


@dataclass(frozen=True, slots=True)
class Watched:
    """The state of one job, of STATES, and its sentence."""

    state: str
    words: str


def judge(looks: Sequence[Seen], every: timedelta, now: datetime) -> Watched:
    """Return how a job does. looks: oldest first; every: how often the job is to write."""
    if not looks:
        return Watched("unknown", "Nobody has looked at the job yet.")
    last = looks[-1]
    if not last.readable:
        return Watched("failed", f"The repository could not be read at {last.at:%Y-%m-%d %H:%M} UTC.")
    if last.snapshot_at is None:
        return Watched("unknown", "The backup does not say when it was written.")
    age = now - last.snapshot_at
    said = f"The newest backup is of {last.snapshot_at:%Y-%m-%d %H:%M} UTC"
    if age > every * MISSED:
        return Watched("missed", f"{said}: {int(age / every)} runs of the job are missing.")
    if age > every * LATE:
        return Watched("late", f"{said}: the job is late.")
    sizes = sorted(look.bytes for look in looks[:-1] if look.bytes)
    if last.bytes is not None and sizes:
        middle = sizes[len(sizes) // 2]
        if not SHRUNK * middle <= last.bytes <= GROWN * middle:
            return Watched("size", f"{said}: {last.bytes} bytes, where {middle} were usual.")
    return Watched("fine", f"{said}.")
