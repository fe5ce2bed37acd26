"""Rung 3: some restored files against the manifest or the live host, those that changed lately more often.

One file in a hundred that is wrong is found with p = 0.95 among 300 (1 - 0.99^300); the chance leans to what changed
since the last test, because an old file that was right once seldom goes wrong by itself.
"""

import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from random import Random

from msp.backup.manifest import Entry

SAMPLE = 300
HALF_LIFE = 30 * 86400.0  # seconds after which a file's change weighs half
FLOOR = 0.05  # weight of a file that never changes; nothing is beyond being drawn


def weight(mtime: float | None, now: datetime) -> float:
    """Return how much a file's last change (seconds since 1970) weighs: 1 for now, falling to `FLOOR`."""
    if mtime is None:
        return 1.0
    age = max(0.0, now.timestamp() - mtime)
    return max(FLOOR, math.exp2(-age / HALF_LIFE))


@dataclass(slots=True)
class Draw:
    """Regular files drawn without replacement by weight, from entries that come one after the other.

    One pass and memory for the sample alone (Efraimidis and Spirakis, 2006: the largest keys u^(1/w)).
    """

    now: datetime
    chance: Random
    size: int = SAMPLE
    _best: list[tuple[float, bytes, Entry]] = field(default_factory=list)

    def add(self, entry: Entry) -> None:
        """Give one entry its chance."""
        if entry.type != "-":
            return
        drawn = (math.log(1.0 - self.chance.random()) / weight(entry.mtime, self.now), entry.path, entry)
        if len(self._best) < self.size:
            heapq.heappush(self._best, drawn)
        elif drawn[0] > self._best[0][0]:
            heapq.heapreplace(self._best, drawn)

    def drawn(self) -> list[Entry]:
        """Return the sample in the order of its paths."""
        return sorted((entry for _, _, entry in self._best), key=lambda entry: entry.key)


def draw(entries: Iterable[Entry], now: datetime, chance: Random, size: int = SAMPLE) -> list[Entry]:
    """Return `size` regular files drawn without replacement by weight, in the order of their paths."""
    drawing = Draw(now, chance, size)
    for entry in entries:
        drawing.add(entry)
    return drawing.drawn()
