"""Service calendars: which local hours a contract covers, and which UTC seconds those are. Pure.

A document is {tz, week: {mon..sun: [[from, to], ...]}, holidays: [dates], holidays_yearly: ["MM-DD"],
overrides: {date: [[from, to], ...]}, breaks: {date: [[from, to], ...]}}; times are "HH:MM" or "24:00".

- A date's hours are its override if it has one, else those of its weekday. `to` not after `from` runs into the
  next day, and belongs to the date on which it starts.
- A holiday closes its local date from 00:00 to 24:00, also the part of another date's night shift that falls on it.
  What a night shift of the holiday itself covers after midnight stays open: that is no holiday any more.
- An override on a holiday opens exactly its own hours that date; the holiday goes on closing everything else.
- Breaks are cut out of whatever is open, of overrides too.
- Local time becomes an instant as Python's datetime(..., tzinfo=zone) with fold=0 does it: a time that comes twice is
  the first one, one that is skipped is taken with the offset before the change. A span that becomes empty is dropped.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cached_property
from itertools import pairwise
from typing import Any, Final
from zoneinfo import ZoneInfo

from msp.contracts.fields import DAYS, parse_day, parse_minute, parse_zone
from msp.contracts.spans import Span, merged, without
from msp.contracts.spelling import refuse_misspelt
from msp.errors import Misconfigured

#: Local hours of one date: minutes after its midnight; an end past 1440 lies on the next date.
Hours = tuple[tuple[int, int], ...]

DAY: Final = 1440
KEYS: Final = ("tz", "week", "holidays", "holidays_yearly", "overrides", "breaks")
#: Covered time is known from the first day of FIRST_YEAR to the last of LAST_YEAR.
FIRST_YEAR: Final = 1900
LAST_YEAR: Final = 2399
#: A weekday and a date meet again within 40 years, 29 February included.
RECURS_WITHIN_YEARS: Final = 40


@dataclass(frozen=True, eq=False)
class Calendar:
    """The hours one contract covers, in its own zone."""

    zone: ZoneInfo
    week: tuple[Hours, ...]  # Monday first
    holidays: frozenset[date] = frozenset()
    holidays_yearly: frozenset[tuple[int, int]] = frozenset()  # (month, day)
    overrides: Mapping[date, Hours] = field(default_factory=dict)
    breaks: Mapping[date, Hours] = field(default_factory=dict)

    @property
    def opens_weekly(self) -> bool:
        return any(self.week)

    @property
    def last_override_year(self) -> int:
        """The last year in which an override opens; 0 without overrides."""
        return max((day.year for day, hours in self.overrides.items() if hours), default=0)

    @cached_property
    def endless_after_year(self) -> int | None:
        """The last year in which anything closes, if the week is open round the clock; else None."""
        week = [(n * DAY + a, n * DAY + b) for n in range(-1, 8) for a, b in self.week[n % 7]]
        if self.holidays_yearly or not any(a <= 0 and b >= 7 * DAY for a, b in merged(week)):
            return None
        return max((day.year for day in (*self.holidays, *self.overrides, *self.breaks)), default=FIRST_YEAR)

    def is_holiday(self, day: date) -> bool:
        return day in self.holidays or (day.month, day.day) in self.holidays_yearly

    def spans_of(self, day: date) -> list[Span]:
        """Return the open spans of the hours that start on `day`, in UTC seconds; they may overlap."""
        override = self.overrides.get(day)
        hours = self.week[day.weekday()] if override is None else override
        if not hours:
            return []
        spans = [(self.second(day, start), self.second(day, end)) for start, end in hours]
        spans = [(start, end) for start, end in spans if start < end]  # skipped local time: empty, dropped
        holes: list[Span] = []
        if override is None and self.is_holiday(day):
            holes.append((self.second(day, 0), self.second(day, DAY)))
        if any(end > DAY for _, end in hours) and self.is_holiday(day + timedelta(days=1)):
            holes.append((self.second(day, DAY), self.second(day, 2 * DAY)))
        if self.breaks:
            for near in (day - timedelta(days=1), day, day + timedelta(days=1)):
                holes += [(self.second(near, a), self.second(near, b)) for a, b in self.breaks.get(near, ())]
        return without(spans, holes) if holes else spans

    def second(self, day: date, minute: int) -> int:
        """Return the UTC second at which `minute` minutes of local wall time after midnight are shown."""
        if minute >= DAY:
            day, minute = day + timedelta(days=minute // DAY), minute % DAY
        local = datetime(day.year, day.month, day.day, minute // 60, minute % 60, tzinfo=self.zone)
        return int(local.timestamp())


def parse(document: Any, *, where: str = "The calendar", strict: bool = False) -> Calendar:
    """Return the calendar a document describes.

    strict: refuse intervals of one date that overlap, as when a person saves it; otherwise they count once.
    Raises Misconfigured naming the field, and if the calendar never opens.
    """
    if not isinstance(document, Mapping):
        raise Misconfigured(f"{where} must be an object with a time zone and a week.")
    refuse_misspelt(document, KEYS, where)
    if document.get("tz") is None:
        raise Misconfigured(f"{where} has no time zone.", advice='Add "tz", an IANA name such as Europe/Berlin.')
    week = _object(document, "week", where)
    for name in week:
        if name not in DAYS:
            raise Misconfigured(f"{where}: week has {name!r}, which is no day.", advice=f"Days: {', '.join(DAYS)}.")
    calendar = Calendar(
        zone=parse_zone(document["tz"], f"{where}: tz"),
        week=tuple(_hours(week.get(name) or [], f"{where}: week {name}", strict) for name in DAYS),
        holidays=frozenset(_day(text, f"{where}: holidays") for text in _list(document, "holidays", where)),
        holidays_yearly=frozenset(
            _month_day(text, f"{where}: holidays_yearly") for text in _list(document, "holidays_yearly", where)
        ),
        overrides=_dated(document, "overrides", where, strict),
        breaks=_dated(document, "breaks", where, strict=False),
    )
    if not _ever_opens(calendar):
        raise Misconfigured(f"{where} never opens.", advice="Give at least one weekday hours that no holiday closes.")
    return calendar


def _ever_opens(calendar: Calendar) -> bool:
    if any(calendar.spans_of(day) for day in calendar.overrides):
        return True
    if not calendar.opens_weekly:
        return False
    last_special = max([*calendar.holidays, *calendar.overrides, *calendar.breaks], default=date(2000, 1, 1))
    first = date(min(last_special.year, 2300), 1, 1)
    days = (first + timedelta(days=n) for n in range(366 * (RECURS_WITHIN_YEARS + 1)))
    return any(calendar.spans_of(day) for day in days)  # an ordinary calendar answers within a week


def _hours(value: Any, where: str, strict: bool) -> Hours:
    if not isinstance(value, list | tuple):
        raise Misconfigured(f'{where} must be a list of intervals such as [["09:00", "18:00"]].')
    intervals = []
    for pair in value:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise Misconfigured(f'{where}: an interval must be a pair such as ["09:00", "18:00"], not {pair!r:.80}.')
        start, end = parse_minute(pair[0], f"{where}: from"), parse_minute(pair[1], f"{where}: to")
        if start == DAY:
            raise Misconfigured(f"{where}: an interval starts at 24:00.", advice="Start it the next day at 00:00.")
        intervals.append((start, end if end > start else end + DAY))
    intervals.sort()
    if strict:
        for (_, end), (start, _) in pairwise(intervals):
            if start < end:
                raise Misconfigured(f"{where}: intervals overlap at {start // 60:02}:{start % 60:02}.")
    return tuple(intervals)  # not joined: each is turned into instants by itself


def _dated(document: Mapping[str, Any], key: str, where: str, strict: bool) -> dict[date, Hours]:
    return {
        _day(day, f"{where}: {key}"): _hours(hours, f"{where}: {key} {day}", strict)
        for day, hours in _object(document, key, where).items()
    }


def _day(value: Any, where: str) -> date:
    day = parse_day(value, where)
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise Misconfigured(f"{where}: {day} lies outside the years {FIRST_YEAR} to {LAST_YEAR}.")
    return day


def _month_day(value: Any, where: str) -> tuple[int, int]:
    try:
        month, day = value.split("-")
        found = date(2000, int(month), int(day))  # a leap year: 02-29 is a holiday in those that have it
    except (AttributeError, ValueError):
        raise Misconfigured(f"{where} must be a month and day like 12-31, not {value!r:.80}.") from None
    return found.month, found.day


def _object(document: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    value = document.get(key)
    if value is not None and not isinstance(value, Mapping):
        raise Misconfigured(f"{where}: {key} must be an object.")
    return value or {}


def _list(document: Mapping[str, Any], key: str, where: str) -> list[Any]:
    value = document.get(key)
    if value is not None and not isinstance(value, list | tuple):
        raise Misconfigured(f"{where}: {key} must be a list.")
    return list(value or ())
