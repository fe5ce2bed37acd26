"""What the clocks of a ticket show, as values: due times, breaches, warnings. The rules are in clock_rules.py. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from msp.contracts.policy import OUTCOMES

_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Change:
    """What set or moved a clock's goal: the priority from `at` on and its target.

    goal_s: counted seconds from the clock's start at which it is due from now on; None: nothing is promised.
    """

    at: datetime
    priority: str
    target_s: int | None
    goal_s: int | None
    clause: str = ""


@dataclass(frozen=True, slots=True)
class Stop:
    """A time that a clock did not count. `until` None: still. `why`: the state, or "no_access"."""

    since: datetime
    until: datetime | None
    why: str


@dataclass(frozen=True, slots=True)
class Warn:
    """When `percent` of the target is used up, in counted time."""

    at: datetime
    percent: int


@dataclass(frozen=True, slots=True)
class Clock:
    """One promise of one ticket, as of an instant. Seconds are open and not stopped: counted time."""

    name: str  # first_response, next_reply, resolution, onsite_arrival
    started_at: datetime
    due: datetime | None  # None while stopped, or if nothing is promised
    breached: bool
    elapsed_s: int  # until it was met or stopped, else until the instant asked about
    goal_s: int | None  # the target, moved by priority changes (R6); None: nothing is promised
    met_at: datetime | None = None
    paused: bool = False
    stopped: str | None = None  # outcome: merged, cancelled, out_of_scope
    warnings: tuple[Warn, ...] = ()  # of a running clock, past ones too
    changes: tuple[Change, ...] = ()
    stops: tuple[Stop, ...] = ()
    calendar: str = ""  # its name, for people

    @property
    def remaining_s(self) -> int | None:
        """Target minus elapsed; below 0 when late. None if nothing is promised."""
        return None if self.goal_s is None else self.goal_s - self.elapsed_s

    @property
    def is_running(self) -> bool:
        return self.due is not None and self.met_at is None

    def wakes(self) -> Iterator[datetime]:
        """Yield the instants at which this clock changes by itself: warnings, and the first late second."""
        if self.is_running and self.due:
            yield from (warning.at for warning in self.warnings)
            yield self.due + _SECOND


@dataclass(frozen=True, slots=True)
class LineUse:
    """What one support line has used of its time box (OLA)."""

    line: str
    elapsed_s: int
    limit_s: int | None  # None: no box
    breached: bool
    runs_out_at: datetime | None  # first second over the box, if the ticket stays; None unless it runs there now


@dataclass(frozen=True, slots=True)
class Clocks:
    """All clocks of one ticket as of an instant. Everything here can be cached by the version of its log."""

    as_of: datetime
    state: str
    priority: str
    line: str
    paused: bool
    stopped: str | None
    first_response: Clock
    next_reply: Clock | None  # None: no client message waits for an answer
    resolution: Clock
    onsite_arrival: Clock | None  # None: not requested, or not promised
    ola: tuple[LineUse, ...] | None  # None: the contract has no time boxes
    latest_dispatch_at: datetime | None  # point of no return; None unless the resolution runs
    answered: tuple[Clock, ...] = ()  # next replies that were given, in order

    @property
    def running(self) -> tuple[Clock, ...]:
        """The clocks that run now, nearest due first."""
        clocks = (self.first_response, self.next_reply, self.resolution, self.onsite_arrival)
        return tuple(sorted((c for c in clocks if c and c.is_running), key=lambda c: c.due or self.as_of))

    @property
    def first_response_due(self) -> datetime | None:
        """When the first response is due; None once it is given, or while it is not running."""
        return self.first_response.due if self.first_response.is_running else None

    @property
    def resolution_due(self) -> datetime | None:
        """When the resolution is due; None once resolved, or while it is not running."""
        return self.resolution.due if self.resolution.is_running else None

    @property
    def next_due(self) -> datetime | None:
        """The nearest due time of a running clock; lists sort by it."""
        return self.running[0].due if self.running else None

    @property
    def next_due_name(self) -> str | None:
        return self.running[0].name if self.running else None

    @property
    def time_left(self) -> timedelta | None:
        """Wall time until `next_due`; below zero when late."""
        return self.next_due - self.as_of if self.next_due else None

    @property
    def resolved_at(self) -> datetime | None:
        return self.resolution.met_at

    @property
    def breached(self) -> bool:
        """Whether any promise to the client was broken, kept late ones included."""
        clocks = (self.first_response, self.next_reply, self.resolution, self.onsite_arrival, *self.answered)
        return any(clock.breached for clock in clocks if clock)

    @property
    def counts(self) -> bool:
        """Whether the ticket counts in the percentage of kept promises."""
        return self.stopped not in OUTCOMES

    @property
    def next_wake(self) -> datetime | None:
        """The next instant at which anything here changes by itself: a warning, a breach, the point of no return."""
        wakes = [at for clock in self.running for at in clock.wakes()]
        wakes += [use.runs_out_at for use in self.ola or () if use.runs_out_at]
        wakes += [self.latest_dispatch_at] if self.latest_dispatch_at else []
        return min((at for at in wakes if at > self.as_of), default=None)
