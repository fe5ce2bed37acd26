"""Rung 3: some restored files against the manifest or the live host, those that changed lately more often.

One file in a hundred that is wrong is found with p = 0.95 among 300 (1 - 0.99^300); the chance leans to what changed
since the last test, because an old file that was right once seldom goes wrong by itself.
"""

import heapq
import math
from collections.abc import Iterable
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


def draw(entries: Iterable[Entry], now: datetime, chance: Random, size: int = SAMPLE) -> list[Entry]:
    """Return `size` regular files drawn without replacement by weight, in the order of their paths.

    One pass and memory for the sample alone (Efraimidis and Spirakis, 2006: the largest keys u^(1/w)).
    """
    best: list[tuple[float, bytes, Entry]] = []
    for entry in entries:
        if entry.type != "-":
            continue
        drawn = (math.log(1.0 - chance.random()) / weight(entry.mtime, now), entry.path, entry)
        if len(best) < size:
            heapq.heappush(best, drawn)
        elif drawn[0] > best[0][0]:
            heapq.heapreplace(best, drawn)
    return sorted((entry for _, _, entry in best), key=lambda entry: entry.key)
