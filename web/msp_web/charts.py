"""Bars as a small drawing, made on the server: no script, no inline style. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

WIDTH, LABEL, FIGURE, STEP, BAR = 640, 170, 110, 26, 16


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its name, length as a share of the longest (0 to 1), the figure in words, and its tone."""

    name: str
    share: float
    figure: str
    tone: str = "blue"


@dataclass(frozen=True, slots=True)
class Chart:
    """What the template draws; all lengths in the units of its view box."""

    bars: Sequence[Bar]

    @property
    def height(self) -> int:
        return max(len(self.bars), 1) * STEP

    @property
    def rows(self) -> list[tuple[int, int, Bar]]:
        """Return (top, length, bar) of each row."""
        return [(place * STEP, round(self.room * bar.share), bar) for place, bar in enumerate(self.bars)]

    @property
    def room(self) -> int:
        return WIDTH - LABEL - FIGURE


def tone_of(percent: Decimal | None) -> str:
    """Return the tone of an attainment in percent."""
    if percent is None:
        return "grey"
    return "green" if percent >= 95 else "orange" if percent >= 85 else "red"


def shares(values: Iterable[tuple[str, Decimal | int | None, str, str]]) -> Chart:
    """Return the chart of (name, percent of 100, figure, tone)."""
    return Chart(tuple(Bar(name, float(value or 0) / 100, figure, tone) for name, value, figure, tone in values))
