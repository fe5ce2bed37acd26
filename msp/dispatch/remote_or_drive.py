"""Try remotely first, or send somebody now? By numbers, never by habit. Pure.

Trying first costs its minutes. While somebody can still leave in time after a failed try, trying first costs nothing
that was promised. Past that point both ways risk the promise, and the way with the smaller chance of breaking it is
advised; going and trying at once is advised where a technician can leave while the try runs.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

TRY, DRIVE, BOTH = "remote", "drive", "both"
HOPELESS = 0.15  # below this chance a try only delays


@dataclass(frozen=True, slots=True)
class Record:
    """How a playbook did on such tickets: of `tried` it solved `worked`, in about `takes`."""

    playbook: str
    worked: int
    tried: int
    takes: timedelta

    @property
    def chance(self) -> float:
        """Return the chance that it works next time (rule of succession: two tries are imagined, one that worked)."""
        return (self.worked + 1) / (self.tried + 2)


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do first. `fails_at`: when a try that fails is over. `leave_by`: the point of no return, if any."""

    choose: str  # remote, drive, both
    record: Record
    fails_at: datetime
    leave_by: datetime | None = None
    in_time: bool = True  # somebody could still leave in time after a failed try


def decide(record: Record, now: datetime, *, due_at: datetime | None, leave_by: datetime | None) -> Advice:
    """Return what to do first.

    due_at: when the work must be done, None without a promise. leave_by: the last instant at which somebody with the
    skill and the part can leave and still be done by then; None if nobody is asked for.
    """
    fails_at = now + record.takes
    if leave_by is None or fails_at <= leave_by:
        choice = DRIVE if record.chance < HOPELESS and leave_by is not None else TRY
        return Advice(choice, record, fails_at, leave_by)
    if now < leave_by:  # a visit that leaves now is in time, one after a failed try is not
        return Advice(BOTH if record.chance >= HOPELESS else DRIVE, record, fails_at, leave_by, in_time=False)
    remote_in_time = due_at is None or fails_at <= due_at  # no visit can be in time any more
    hopeful = remote_in_time and record.chance >= HOPELESS
    return Advice(BOTH if hopeful else DRIVE, record, fails_at, leave_by, in_time=False)
