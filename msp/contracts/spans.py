"""Spans of time in whole UTC seconds since 1970: closed at the start, open at the end. Pure."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

#: (start, end) in UTC seconds since 1970; start < end.
Span = tuple[int, int]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)


def to_second(instant: datetime) -> int:
    """Return the whole second in which an aware instant lies."""
    return (instant - _EPOCH) // _SECOND


def to_instant(second: int) -> datetime:
    """Return the aware UTC instant of a second."""
    return datetime.fromtimestamp(second, UTC)


def printed(second: int) -> str:
    """Return a second as YYYY-MM-DDTHH:MM:SSZ, the only way instants leave the clocks."""
    return to_instant(second).isoformat()[:19] + "Z"


def merged(spans: Iterable[Span]) -> list[Span]:
    """Return the union of `spans` in order: what overlaps or touches is one span, empty ones are dropped."""
    union: list[Span] = []
    for start, end in sorted(spans):
        if start >= end:
            continue
        if union and start <= union[-1][1]:
            if end > union[-1][1]:
                union[-1] = (union[-1][0], end)
        else:
            union.append((start, end))
    return union


def without(spans: Iterable[Span], holes: Sequence[Span]) -> list[Span]:
    """Return what is left of `spans` outside `holes`, which may come in any order and overlap."""
    cuts = merged(holes)
    left: list[Span] = []
    for span_start, end in spans:
        start = span_start
        for hole_start, hole_end in cuts:
            if hole_end <= start:
                continue
            if hole_start >= end:
                break
            if hole_start > start:
                left.append((start, hole_start))
            start = hole_end
        if start < end:
            left.append((start, end))
    return left
