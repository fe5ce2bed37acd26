"""What must be known after a crash: which effects were claimed, and what came of them.

The runner asks before every effect on a host and tells every result, in batches. Implementations: MemoryLedger
here, for runs that nobody resumes, and the database's in sql_ledger.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from msp.remote.outcome import Outcome
from msp.remote.output import NOTHING, Captured
from msp.remote.transport import Configuration, Picture

Phase = Literal["connect", "probe", "do", "check", "undo"]
_WAY: tuple[Phase, ...] = ("connect", "probe", "do", "check")
Verdict = Literal["granted", "finished", "in_doubt"]


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """One phase of one step on one host. `host` is the host's position in the run; attempts count from 1."""

    host: int
    step: int
    phase: Phase
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What one phase did; redacted already."""

    key: Key
    host: str
    name: str
    outcome: Outcome
    rendered: str
    started_at: datetime
    finished_at: datetime
    out: Captured = NOTHING
    err: Captured = NOTHING
    pictures: tuple[Picture, ...] = ()
    configuration: Configuration | None = None


@dataclass(frozen=True, slots=True)
class HostEnd:
    """How a host ended: exactly one for every host of a run. `visit`: the playbook asks for a visit."""

    position: int
    host: str
    outcome: Outcome
    started_at: datetime | None
    finished_at: datetime
    visit: bool = False


@dataclass(frozen=True, slots=True)
class History:
    """What an earlier, interrupted execution of the same run left behind."""

    records: Mapping[Key, StepRecord] = field(default_factory=dict)
    doubts: frozenset[Key] = frozenset()  # claimed, and no result known
    ran: frozenset[Key] = frozenset()  # finished, or found to have happened, whatever their results say

    def undone(self) -> frozenset[int]:
        """Return the hosts on which undoing was begun."""
        return frozenset(key.host for key in (*self.records, *self.doubts) if key.phase == "undo")

    def last_done(self, host: int, step: int, attempts: int) -> int:
        """Return the last attempt whose act was done, or the first."""
        if not self.records:
            return 1
        known = ((attempt, self.records.get(Key(host, step, "do", attempt))) for attempt in range(attempts, 0, -1))
        return next((attempt for attempt, record in known if record is not None and record.outcome.ok), 1)

    def last(self, host: int, step: int) -> StepRecord | None:
        """Return what was told last of a step on its way forward."""
        told = [
            one for key, one in self.records.items() if (key.host, key.step) == (host, step) and key.phase != "undo"
        ]
        return max(told, key=lambda one: (one.finished_at, one.key.attempt, _WAY.index(one.key.phase)), default=None)


class Ledger(Protocol):
    """Remembers effects. Each method is one transaction; `blocking` ones are called in a thread."""

    blocking: bool

    def history(self) -> History:
        """Return what is known from before."""

    def write(
        self, records: Sequence[StepRecord], ends: Sequence[HostEnd], claims: Sequence[Key]
    ) -> Mapping[Key, Verdict]:
        """Store results and ends of hosts, and claim effects; all or nothing. Return a verdict for every claim.

        granted: act now. finished: it ran before. in_doubt: it may have run, do not act.
        """

    def resolve(self, key: Key, *, ran: bool) -> None:
        """Settle an effect in doubt by what a read-only probe found. Not run: it may be claimed again."""

    def token(self, key: Key) -> str:
        """Return a word that marks this effect's process on the far side, or "" when nobody will look for it."""


@dataclass(slots=True)
class MemoryLedger:
    """Forgets when the process ends. `records` and `ends` are in the order in which they came."""

    blocking: bool = False
    records: list[StepRecord] = field(default_factory=list)
    ends: list[HostEnd] = field(default_factory=list)
    claimed: set[Key] = field(default_factory=set)
    finished: set[Key] = field(default_factory=set)
    mark: str = ""  # of the tokens, so that no two runs share one; without it there are none
    keep: bool = True  # False: count nothing, keep nothing; the listener has seen it

    def history(self) -> History:
        records = {record.key: record for record in self.records}
        return History(records, frozenset(self.claimed - self.finished), frozenset(self.claimed & self.finished))

    def write(
        self, records: Sequence[StepRecord], ends: Sequence[HostEnd], claims: Sequence[Key]
    ) -> Mapping[Key, Verdict]:
        if self.keep:
            self.records += records
            self.ends += ends
        self.finished |= {record.key for record in records if not record.outcome.in_doubt}
        verdicts: dict[Key, Verdict] = {}
        for key in claims:
            verdicts[key] = "finished" if key in self.finished else "in_doubt" if key in self.claimed else "granted"
            self.claimed.add(key)
        return verdicts

    def resolve(self, key: Key, *, ran: bool) -> None:
        if ran:
            self.finished.add(key)
        else:
            self.claimed.discard(key)

    def token(self, key: Key) -> str:
        return f"msp-{self.mark}-{key.host}-{key.step}-{key.phase}-{key.attempt}" if self.mark else ""
