"""One day of the dispatch board as places in percent of its width. Pure: the page only draws it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from msp.dispatch.models import Shift, Technician
from msp.dispatch.visits import Board, BoardVisit

EARLIEST, LATEST = 7, 19  # hours that are always shown
SHORTEST = 1.2  # percent: a bar that can still be hit


@dataclass(frozen=True, slots=True)
class Bar:
    """A visit. Places in percent; `travel`: (x, width) of the way there."""

    visit: BoardVisit
    x: float
    width: float
    travel: tuple[float, float] | None
    level: int = 0  # visits that overlap stand below each other


@dataclass(frozen=True, slots=True)
class Span:
    """Working time, on-call time or absence."""

    kind: str
    x: float
    width: float
    shift: Shift


@dataclass(frozen=True, slots=True)
class Lane:
    """One technician's day."""

    technician: Technician
    spans: tuple[Span, ...]
    bars: tuple[Bar, ...]

    @property
    def levels(self) -> int:
        """How many visits stand below each other at most; at least one place is kept."""
        return max((bar.level for bar in self.bars), default=0) + 1

    @property
    def absent(self) -> bool:
        return any(span.kind == "absence" for span in self.spans)

    @property
    def on_call(self) -> bool:
        return any(span.kind == "on_call" for span in self.spans)


@dataclass(frozen=True, slots=True)
class Day:
    """The whole picture. `hours`: (x, instant) of each tick; `now_x`: None unless now is on it."""

    begins: datetime
    ends: datetime
    hours: tuple[tuple[float, datetime], ...]  # UTC, as are `begins` and `ends`
    now_x: float | None
    lanes: tuple[Lane, ...]


def draw(board: Board, midnight: datetime, next_midnight: datetime, now: datetime) -> Day:
    """Return the day between two local midnights (aware, in the viewer's zone), cut to the hours that matter."""
    begins, ends = (
        edge.astimezone(UTC) for edge in _range(board, midnight, next_midnight)
    )  # real hours, not the wall's
    length = (ends - begins).total_seconds()

    def x(at: datetime) -> float:
        share = (at - begins).total_seconds() / length
        return round(min(max(share, 0.0), 1.0) * 100, 3)

    def bar(visit: BoardVisit) -> Bar:
        one = visit.appointment
        left, right = x(one.starts_at), x(one.ends_at)
        there = x(one.starts_at - one.travel)
        travel = (there, round(left - there, 3)) if one.travel and left > there else None
        return Bar(visit, left, max(round(right - left, 3), SHORTEST), travel)

    lanes = [
        Lane(
            row.technician,
            tuple(
                Span(shift.kind, x(shift.starts_at), round(x(shift.ends_at) - x(shift.starts_at), 3), shift)
                for shift in sorted(row.shifts, key=lambda shift: shift.kind == "absence")
            ),
            _stacked([bar(visit) for visit in row.visits]),
        )
        for row in board.rows
    ]
    return Day(begins, ends, tuple(_hours(begins, ends, x)), x(now) if begins <= now <= ends else None, tuple(lanes))


def _stacked(bars: list[Bar]) -> tuple[Bar, ...]:
    """Return bars with the first level that is free where each begins; what stands is placed before proposals."""
    found: list[Bar] = []
    for bar in sorted(bars, key=lambda one: (one.visit.appointment.state == "proposed", one.x)):
        taken = {other.level for other in found if bar.x < other.x + other.width and other.x < bar.x + bar.width}
        level = next(level for level in range(len(found) + 1) if level not in taken)
        found.append(replace(bar, level=level))
    return tuple(sorted(found, key=lambda one: one.x))


def _range(board: Board, midnight: datetime, next_midnight: datetime) -> tuple[datetime, datetime]:
    """Return whole hours that hold everything of the day, and at least the usual ones."""
    first, last = midnight.replace(hour=EARLIEST), midnight.replace(hour=LATEST)
    for row in board.rows:
        for visit in row.visits:
            first = min(first, visit.appointment.starts_at - visit.appointment.travel)
            last = max(last, visit.appointment.ends_at)
        for shift in row.shifts:
            if shift.kind != "absence":
                first, last = min(first, shift.starts_at), max(last, shift.ends_at)
    zone = midnight.tzinfo
    first = max(first, midnight).astimezone(zone).replace(minute=0, second=0, microsecond=0)
    last = min(last, next_midnight).astimezone(zone)
    if last.minute or last.second or last.microsecond:
        last = last.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    return first, last


def _hours(begins: datetime, ends: datetime, x: Callable[[datetime], float]) -> list[tuple[float, datetime]]:
    step = timedelta(hours=1 if ends - begins <= timedelta(hours=14) else 2)
    found = []
    at = begins
    while at < ends:
        found.append((x(at), at))
        at += step
    return found
