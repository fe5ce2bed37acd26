"""What the roads really took, from visits that are over: one factor for all, and one per hour of the week. Pure.

A factor multiplies the free-flow time. Few drives prove little, so an hour's factor is drawn toward the factor for all
by as much as PRIOR drives of that kind would (empirical shrinkage); the median keeps a flat tyre from counting.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median
from zoneinfo import ZoneInfo

PRIOR = 5  # drives
FEWEST = 10  # drives, below which nothing is concluded
SLOWEST, FASTEST = 4.0, 0.4
HOURS = 168  # Monday 00:00 is 0


@dataclass(frozen=True, slots=True)
class Drive:
    """One finished drive: when it began, what was expected without traffic, and what it took."""

    left_at: datetime
    expected: timedelta
    took: timedelta


@dataclass(frozen=True, slots=True)
class Factors:
    """`overall` for every hour that has none of its own in `hours`."""

    overall: float = 1.0
    hours: dict[int, float] = field(default_factory=dict)
    drives: int = 0

    def at(self, instant: datetime | None, zone: ZoneInfo) -> float:
        """Return the factor for a drive that begins then; without an instant the one for all."""
        return self.overall if instant is None else self.hours.get(hour_of_week(instant, zone), self.overall)


def hour_of_week(instant: datetime, zone: ZoneInfo) -> int:
    """Return 0 for Monday 00:00 to 01:00 local time, up to 167."""
    local = instant.astimezone(zone)
    return local.weekday() * 24 + local.hour


def calibrate(drives: Iterable[Drive], zone: ZoneInfo) -> Factors:
    """Return factors from finished drives; with fewer than FEWEST usable ones, those that change nothing."""
    usable = [
        (hour_of_week(drive.left_at, zone), drive.took / drive.expected)
        for drive in drives
        if drive.expected >= timedelta(minutes=3) and timedelta() < drive.took < timedelta(hours=12)
    ]
    ratios = [ratio for _, ratio in usable]
    if len(ratios) < FEWEST:
        return Factors(drives=len(ratios))
    overall = _sane(median(ratios))
    by_hour: dict[int, list[float]] = {}
    for hour, ratio in usable:
        by_hour.setdefault(hour, []).append(ratio)
    hours = {
        hour: round(_sane((median(found) * len(found) + overall * PRIOR) / (len(found) + PRIOR)), 3)
        for hour, found in sorted(by_hour.items())
        if len(found) > 1
    }
    return Factors(round(overall, 3), hours, len(ratios))


def _sane(factor: float) -> float:
    return min(max(factor, FASTEST), SLOWEST)
