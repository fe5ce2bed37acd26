"""Who must be told that a ticket needs somebody, and when again. Pure: a decision from values, no database.

Functional escalation moves a ticket along the support lines when a line's time box is used up. Hierarchic escalation
tells people: first whoever is on duty for the line, then the manager, then the manager's manager; it is repeated
until somebody takes it. Nobody is woken outside the roster while somebody on duty has not yet been asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from msp.desk.lines import following

#: Share of the target that is used up -> how high the news goes (0: on duty, 1: manager, 2: the manager's manager).
LEVELS: tuple[tuple[float, int], ...] = ((0.5, 0), (0.75, 0), (0.9, 1), (1.0, 2))
REPEAT = timedelta(minutes=15)  # until somebody takes it


@dataclass(frozen=True, slots=True)
class Duty:
    """One person's turn on the roster: for which lines, how high, from when to when (aware instants, end excluded)."""

    person: str
    lines: frozenset[str]
    level: int  # 0: works on tickets, 1: manager, 2: the manager's manager
    begins_at: datetime
    ends_at: datetime

    def holds(self, line: str, level: int, at: datetime) -> bool:
        return level == self.level and (not self.lines or line in self.lines) and self.begins_at <= at < self.ends_at


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that was sent before. `acknowledged_at`: the link in it was followed."""

    person: str
    level: int
    sent_at: datetime
    acknowledged_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """What the clocks say of a ticket. `share` of the target is used up; `box_over`: its line's time box is too."""

    line: str
    share: float
    taken: bool  # somebody works on it
    paused: bool = False
    box_over: bool = False
    past_latest_dispatch: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now: move to another line, tell these people, and look again at `again_at` at the latest."""

    move_to: str | None
    tell: tuple[str, ...]
    level: int | None
    why: str
    again_at: datetime | None


QUIET = Decision(None, (), None, "", None)


def decide(
    standing: Standing, roster: Sequence[Duty], sent: Sequence[Notice], now: datetime, *, repeat: timedelta = REPEAT
) -> Decision:
    """Return what to do about a ticket now.

    A paused ticket escalates to nobody. A taken one tells nobody below the level that the clock has reached since it
    was taken: only a new level is news to the people above. An acknowledged notice is not repeated at its level.
    """
    if standing.paused:
        return QUIET
    move_to = following(standing.line) if standing.box_over else None
    level = reached(standing)
    if level is None:
        return Decision(move_to, (), None, f"The time box of {standing.line} is used up." if move_to else "", None)
    line = move_to or standing.line
    why = _why(standing)
    if standing.taken and level == 0:
        return Decision(move_to, (), None, why, None)
    people = _on_duty(roster, line, level, now)
    due, again_at = _due_now(people, level, sent, now, repeat)
    if not people:
        return Decision(move_to, (), level, f"{why} Nobody is on the roster for {line}.", now + repeat)
    return Decision(move_to, tuple(due), level, why, again_at)


def reached(standing: Standing) -> int | None:
    """Return how high the news goes by now; None while nothing is at risk."""
    level: int | None = None
    for share, high in LEVELS:
        if standing.share >= share:
            level = high
    if standing.past_latest_dispatch:
        level = max(level or 0, 1)
    return level


def _on_duty(roster: Sequence[Duty], line: str, level: int, now: datetime) -> list[str]:
    """Return who is on duty at this level, else at the next higher one: news that nobody hears is no news."""
    for high in range(level, 3):
        people = sorted({duty.person for duty in roster if duty.holds(line, high, now)})
        if people:
            return people
    return []


def _due_now(
    people: Sequence[str], level: int, sent: Sequence[Notice], now: datetime, repeat: timedelta
) -> tuple[list[str], datetime | None]:
    """Return whom to tell now, and when the next repetition is due; None once somebody has acknowledged."""
    mine = [notice for notice in sent if notice.level >= level]
    if any(notice.acknowledged_at is not None for notice in mine):
        return [], None
    due = []
    next_at: datetime | None = None
    for person in people:
        last = max((notice.sent_at for notice in mine if notice.person == person), default=None)
        if last is None or now - last >= repeat:
            due.append(person)
            candidate = now + repeat
        else:
            candidate = last + repeat
        next_at = candidate if next_at is None else min(next_at, candidate)
    return due, next_at


def _why(standing: Standing) -> str:
    parts = []
    if standing.past_latest_dispatch:
        parts.append("The last moment to send a technician has passed.")
    if standing.share >= 1.0:
        parts.append("It is late.")
    else:
        parts.append(f"{standing.share:.0%} of its time is used up.")
    if standing.box_over:
        parts.append(f"The time box of {standing.line} is used up.")
    return " ".join(parts)
