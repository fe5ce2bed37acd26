"""Included minutes that were not used: up to a cap, for some months, oldest first (R5). Pure."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rollover:
    """What one month leaves. `carried` goes on, by month of origin, oldest first; its sum is within the cap."""

    next_month_minutes: int
    expired_minutes: int
    carried: tuple[int, ...]


def close_month(monthly: int, carried: Sequence[int], used: int, *, cap: int, months: int) -> Rollover:
    """Return what the next month may use, and what is lost.

    monthly: minutes included each month. carried: what came from earlier months, oldest first; the last of them is
    from the month before this one. used: minutes worked; carried ones are used first, the oldest of them first.
    cap: most minutes that may be carried on altogether; over it the oldest are lost first.
    months: how many months after its own a minute lives; 0 carries nothing.
    """
    left = []
    for minutes in (*carried, monthly):
        taken = min(minutes, used)
        used -= taken
        left.append(minutes - taken)
    kept: list[int] = []
    room = cap
    for minutes in reversed(left[-months:] if months else []):  # newest first: they live longest
        kept.insert(0, min(minutes, room))
        room -= kept[0]
    return Rollover(monthly + sum(kept), sum(left) - sum(kept), tuple(kept))
