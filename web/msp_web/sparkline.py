"""Measured restore times beside the promise, as a small drawing. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

WIDTH, HEIGHT, EDGE = 120, 30, 3


@dataclass(frozen=True, slots=True)
class Spark:
    """A drawing of WIDTH x HEIGHT. `points`: (x, y, late) oldest first; `promise_y`: the height of the promise."""

    points: tuple[tuple[float, float, bool], ...]
    promise_y: float | None

    @property
    def line(self) -> str:
        """The points as an SVG polyline wants them."""
        return " ".join(f"{x},{y}" for x, y, _ in self.points)


def spark(measured: Sequence[timedelta], promised: timedelta | None) -> Spark | None:
    """Return the drawing of durations, oldest first; None if nothing was measured."""
    if not measured:
        return None
    highest = max([*measured, promised or timedelta()]) or timedelta(seconds=1)
    step = (WIDTH - 2 * EDGE) / max(len(measured) - 1, 1)

    def y(value: timedelta) -> float:
        return round(HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * (value / highest), 1)

    start = WIDTH - EDGE - step * (len(measured) - 1)  # the newest stands at the right edge
    points = [
        (round(start + step * place, 1), y(value), promised is not None and value > promised)
        for place, value in enumerate(measured)
    ]
    return Spark(tuple(points), y(promised) if promised is not None else None)
