"""When could this technician be there? Free spans between shifts, absences and appointments, with the roads. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from msp.dispatch.travel import RoadEstimate

Point = tuple[float, float] | None  # latitude, longitude; None: not known
UNKNOWN_ROAD = timedelta(minutes=30)  # assumed where a place has no coordinates


class Drives(Protocol):
    """Whatever tells how long a drive takes."""

    def between(self, a: tuple[float, float], b: tuple[float, float], at: datetime | None = None) -> timedelta: ...


ROADS = RoadEstimate()


@dataclass(frozen=True, slots=True)
class Busy:
    """An appointment that stands: from, until, where."""

    starts_at: datetime
    ends_at: datetime
    place: Point


@dataclass(frozen=True, slots=True)
class Gap:
    """A free span: leave `origin` at `begins_at` or later, and be at `destination` by `ends_at`."""

    begins_at: datetime
    ends_at: datetime
    origin: Point
    destination: Point


@dataclass(frozen=True, slots=True)
class Opening:
    """A visit that fits: leave at `leaves_at`, work from `starts_at`. `detour`: road added to the day."""

    leaves_at: datetime
    starts_at: datetime
    ends_at: datetime
    travel: timedelta
    detour: timedelta


def road(a: Point, b: Point, roads: Drives = ROADS, at: datetime | None = None) -> timedelta:
    """Return the drive between two places; half an hour when one of them is not known. at: about when it begins."""
    return UNKNOWN_ROAD if a is None or b is None else roads.between(a, b, at)


def working_spans(
    shifts: Iterable[tuple[datetime, datetime]], absences: Iterable[tuple[datetime, datetime]]
) -> list[tuple[datetime, datetime]]:
    """Return shifts without absences, merged, in order."""
    spans: list[tuple[datetime, datetime]] = []
    for begin, end in sorted(shifts):
        if spans and begin <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((begin, end))
    for away, back in sorted(absences):
        cut: list[tuple[datetime, datetime]] = []
        for begin, end in spans:
            if back <= begin or away >= end:
                cut.append((begin, end))
                continue
            if begin < away:
                cut.append((begin, away))
            if back < end:
                cut.append((back, end))
        spans = cut
    return spans


def gaps(spans: Sequence[tuple[datetime, datetime]], busy: Iterable[Busy], home: Point) -> list[Gap]:
    """Return the free spans of a technician whose working spans begin and end at `home`."""
    appointments = sorted(busy, key=lambda one: one.starts_at)
    found = []
    for begin, end in spans:
        here, since = home, begin
        for one in appointments:
            if one.ends_at <= begin or one.starts_at >= end:
                continue
            if one.starts_at > since:
                found.append(Gap(since, one.starts_at, here, one.place))
            here, since = one.place, max(since, one.ends_at)
        if since < end:
            found.append(Gap(since, end, here, home))
    return found


def earliest(
    free: Iterable[Gap], place: Point, duration: timedelta, not_before: datetime, roads: Drives = ROADS
) -> Opening | None:
    """Return the first opening for a visit whose drive starts at `not_before` or later."""
    for gap in free:
        leaves = max(gap.begins_at, not_before)
        to = road(gap.origin, place, roads, leaves)
        starts = leaves + to
        back = road(place, gap.destination, roads, starts + duration)
        if starts + duration + back <= gap.ends_at:
            detour = max(timedelta(), to + back - road(gap.origin, gap.destination, roads))
            return Opening(leaves, starts, starts + duration, to, detour)
    return None


def at(
    free: Iterable[Gap],
    place: Point,
    duration: timedelta,
    starts_at: datetime,
    now: datetime,
    roads: Drives = ROADS,
) -> Opening | None:
    """Return the opening for a visit at exactly `starts_at`, or None if the way there or back does not fit."""
    for gap in free:
        to, back = road(gap.origin, place, roads, starts_at), road(place, gap.destination, roads, starts_at + duration)
        leaves = starts_at - to
        if leaves >= max(gap.begins_at, now) and starts_at + duration + back <= gap.ends_at:
            detour = max(timedelta(), to + back - road(gap.origin, gap.destination, roads))
            return Opening(leaves, starts_at, starts_at + duration, to, detour)
    return None


def latest_departure(
    free: Iterable[Gap], place: Point, duration: timedelta, due_at: datetime, roads: Drives = ROADS
) -> datetime | None:
    """Return the last instant at which a technician can leave and still be done by `due_at`; None if never."""
    best: datetime | None = None
    for gap in free:
        end = min(due_at, gap.ends_at)
        to, back = road(gap.origin, place, roads, end - duration), road(place, gap.destination, roads, end)
        done = min(due_at, gap.ends_at - back)
        leaves = done - duration - to
        if leaves >= gap.begins_at and (best is None or leaves > best):
            best = leaves
    return best
