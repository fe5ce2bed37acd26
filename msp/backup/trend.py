"""How long restores took and how old their data were, month after month, against what was promised then. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Any

SPAN = timedelta(days=366)  # that a trend looks back
MEASURES = ("rto", "rpo")


@dataclass(frozen=True, slots=True)
class Point:
    """One finished test. `promised`: by the contract that was in force then; None: nobody promised anything."""

    at: datetime
    test: int
    verdict: str
    measured: timedelta | None  # None: the test learned nothing of it
    promised: timedelta | None

    @property
    def kept(self) -> bool | None:
        """Whether the promise was kept, which no failed test does; None where nothing was measured or promised."""
        if self.promised is None or self.verdict == "error":
            return None
        if self.verdict == "fail":  # however fast it was: the business had not come back
            return False
        return None if self.measured is None else not self.late

    @property
    def late(self) -> bool:
        """Whether it took longer, or lost more, than was promised."""
        return self.measured is not None and self.promised is not None and self.measured > self.promised


@dataclass(frozen=True, slots=True)
class Trend:
    """One measure, rto or rpo, over time, the oldest first."""

    measure: str
    points: tuple[Point, ...]

    @property
    def timed(self) -> list[Point]:
        """The points at which something was measured."""
        return [point for point in self.points if point.measured is not None]

    @property
    def last(self) -> Point | None:
        """The newest of them."""
        return self.timed[-1] if self.timed else None

    @property
    def worst(self) -> Point | None:
        """The one that took longest or lost most."""
        return max(self.timed, key=lambda point: point.measured or timedelta(), default=None)

    @property
    def judged(self) -> int:
        """How many were held against a promise."""
        return sum(point.kept is not None for point in self.points)

    @property
    def kept(self) -> int:
        """How many of these kept it."""
        return sum(point.kept is True for point in self.points)

    @property
    def failed(self) -> int:
        """How many of these failed, and so did not keep it, however fast they were."""
        return sum(point.kept is False and point.verdict == "fail" for point in self.points)

    @property
    def change(self) -> float | None:
        """By how much the median of the newer half exceeds that of the older: 0.5 is half as much again.

        None with fewer than six measurements: two or three tests make no trend.
        """
        values = [(point.measured or timedelta()).total_seconds() for point in self.timed]
        if len(values) < 6:
            return None
        before, after = median(values[: len(values) // 2]), median(values[len(values) // 2 :])
        return None if before == 0 else after / before - 1

    def plain(self) -> dict[str, Any]:
        """Return the figures as JSON values; durations in seconds."""
        return {
            "tests": len(self.points),
            "measured": len(self.timed),
            "judged": self.judged,
            "kept": self.kept,
            "last_s": _seconds(self.last),
            "worst_s": _seconds(self.worst),
            "promised_s": self.points[-1].promised.total_seconds()
            if self.points and self.points[-1].promised
            else None,
            "change": None if self.change is None else round(self.change, 4),
            "points": [
                {
                    "at": point.at.isoformat(),
                    "test": point.test,
                    "verdict": point.verdict,
                    "measured_s": _seconds(point),
                    "promised_s": point.promised.total_seconds() if point.promised else None,
                }
                for point in self.points
            ],
        }


def _seconds(point: Point | None) -> float | None:
    return point.measured.total_seconds() if point and point.measured is not None else None


Promise = Callable[[datetime], timedelta | None]


def trend(measure: str, tests: Iterable[Any], promised: Promise, now: datetime, span: timedelta = SPAN) -> Trend:
    """Return the trend of one of MEASURES over finished restore tests, in any order.

    promised: what held at an instant. Tests that lie further back than `span` are left out.
    """
    points = [
        Point(test.finished_at, test.id, test.verdict, measured(test, measure), promised(test.finished_at))
        for test in tests
        if test.finished_at is not None and test.verdict is not None and now - span <= test.finished_at <= now
    ]
    return Trend(measure, tuple(sorted(points, key=lambda point: (point.at, point.test))))


def measured(test: Any, measure: str) -> timedelta | None:
    """Return what a test measured, to the millisecond where it said so; the column keeps whole seconds."""
    exact = (test.result or {}).get(f"{measure}_s")
    if isinstance(exact, int | float) and not isinstance(exact, bool):
        return timedelta(seconds=max(exact, 0.0))
    kept: timedelta | None = getattr(test, measure)
    return kept


def thinned(points: Sequence[Point], most: int) -> list[Point]:
    """Return at most `most` points that keep the shape: of each stretch of time the worst one."""
    if len(points) <= most:
        return list(points)
    first, last = points[0].at, points[-1].at
    width = (last - first) / most or timedelta(seconds=1)
    worst: dict[int, Point] = {}
    for point in points:
        place = min(int((point.at - first) / width), most - 1)
        known = worst.get(place)
        if known is None or (point.measured or timedelta()) >= (known.measured or timedelta()):
            worst[place] = point
    return [worst[place] for place in sorted(worst)]
