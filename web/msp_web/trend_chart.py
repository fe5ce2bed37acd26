"""A trend as a drawing made on the server: time from left to right, durations upwards, the promise as steps. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from msp.backup.trend import Trend, thinned

WIDTH, HEIGHT = 720, 200
LEFT, RIGHT, TOP, BOTTOM = 76, 12, 12, 26
FAR = 4  # times what was measured: a promise beyond would press everything to the ground
MOST = 240  # points; more cannot be told apart
#: Distances between the lines of the grid, in seconds.
STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400]
STEPS += [172800, 345600, 604800, 1209600, 2592000, 7776000]


@dataclass(frozen=True, slots=True)
class Dot:
    """One test. `y` None: it measured nothing, and is marked at the foot."""

    x: float
    y: float | None
    late: bool
    failed: bool
    test: int
    at: datetime
    measured: timedelta | None


@dataclass(frozen=True, slots=True)
class Chart:
    """What the template draws, in units of its view box."""

    dots: tuple[Dot, ...]
    line: str  # points of the measured line
    promise: str  # points of the promised one; empty: nothing was promised
    beyond: timedelta | None  # a promise so far above what was measured that it lies outside; drawn at the upper edge
    rows: tuple[tuple[float, timedelta], ...]  # (height, what it stands for)
    months: tuple[tuple[float, datetime], ...]  # (place, the first instant of a month)


def draw(trend: Trend, zone: ZoneInfo, now: datetime) -> Chart | None:
    """Return the drawing of a trend; None with less than two measurements. `zone`: of the months beneath."""
    if len(trend.timed) < 2:
        return None
    points = thinned(trend.points, MOST)
    first, last = points[0].at, max(points[-1].at, now)
    span = max(last - first, timedelta(days=1))
    promises = [point.promised for point in points]
    measured = max([point.measured for point in trend.timed if point.measured is not None])
    measured = measured or timedelta(seconds=1)
    highest = max([measured, *(one for one in promises if one is not None and one <= measured * FAR)])
    beyond = max((one for one in promises if one is not None and one > highest), default=None)
    step = next((one for one in STEPS if highest.total_seconds() / one <= 4), STEPS[-1])
    top = timedelta(seconds=step * -(-highest.total_seconds() // step))

    def x(at: datetime) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * ((at - first) / span), 1)

    def y(value: timedelta) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(value / top, 1.0), 1)

    dots = tuple(
        Dot(x(one.at), None if one.measured is None else y(one.measured), one.late, one.verdict == "fail", one.test,
            one.at, one.measured)
        for one in points
    )  # fmt: skip
    rows = tuple(
        (y(timedelta(seconds=step * n)), timedelta(seconds=step * n))
        for n in range(int(top.total_seconds() // step) + 1)
    )
    return Chart(
        dots,
        " ".join(f"{dot.x},{dot.y}" for dot in dots if dot.y is not None),
        _steps([(x(point.at), y(point.promised)) for point in points if point.promised is not None], x(last)),
        beyond,
        rows,
        _months(first, last, zone, x),
    )


def _steps(corners: list[tuple[float, float]], end: float) -> str:
    """Return a line that keeps its height until it changes."""
    line: list[str] = []
    height = None
    for place, at in corners:
        if height is not None and at != height:
            line.append(f"{place},{height}")
        if at != height:
            line.append(f"{place},{at}")
        height = at
    return " ".join([*line, f"{end},{height}"]) if height is not None else ""


def _months(
    first: datetime, last: datetime, zone: ZoneInfo, x: Callable[[datetime], float]
) -> tuple[tuple[float, datetime], ...]:
    """Return where months begin, those that have room for a name."""
    begin = first.astimezone(zone).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    found: list[tuple[float, datetime]] = []
    while begin <= last:
        if begin >= first and (not found or x(begin) - found[-1][0] >= 48) and x(begin) <= WIDTH - RIGHT - 20:
            found.append((x(begin), begin))
        begin = (begin + timedelta(days=32)).replace(day=1)
    return tuple(found)
