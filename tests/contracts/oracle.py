"""A slow and obvious reading of calendars and ticket histories, minute by minute; shares no code with the product."""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


def minute_of(instant: datetime) -> int:
    return int(instant.timestamp()) // 60


def wall(day: date, text: str, zone: ZoneInfo) -> datetime:
    """The instant of a local time; 24:00 is the next date's 00:00."""
    if text == "24:00":
        day, text = day + timedelta(days=1), "00:00"
    hour, minute = text.split(":")
    return datetime(day.year, day.month, day.day, int(hour), int(minute), tzinfo=zone).astimezone(UTC)


def painted(document: dict[str, Any], day: date, intervals: Iterable[list[str]]) -> Iterable[int]:
    zone = ZoneInfo(document["tz"])
    for begin, end in intervals:
        to_day = day if end > begin else day + timedelta(days=1)
        yield from range(minute_of(wall(day, begin, zone)), minute_of(wall(to_day, end, zone)))


def open_minutes(document: dict[str, Any], first: date, days: int) -> set[int]:
    """Every open UTC minute of the hours that start within `days` days from `first`."""
    zone, found = ZoneInfo(document["tz"]), set()
    holidays, yearly = document.get("holidays", []), document.get("holidays_yearly", [])
    dates = [first + timedelta(days=n) for n in range(days)]
    breaks = {
        minute
        for day in dates
        for minute in painted(document, day, document.get("breaks", {}).get(day.isoformat(), []))
    }
    for day in dates:
        override = document.get("overrides", {}).get(day.isoformat())
        hours = document.get("week", {}).get(DAYS[day.weekday()], []) if override is None else override
        for minute in painted(document, day, hours):
            local = datetime.fromtimestamp(minute * 60, zone).date() if holidays or yearly else day
            is_holiday = local.isoformat() in holidays or local.isoformat()[5:] in yearly
            if minute in breaks or (is_holiday and not (override is not None and local == day)):
                continue
            found.add(minute)
    return found


def deadline(opened: set[int], start: int, seconds: int, pauses: Sequence[tuple[int, int]] = ()) -> int | None:
    """Walk until `seconds` are counted; None beyond the painted days."""
    at, limit = start, (max(opened, default=0) + 1) * 60
    while at < limit:
        rest = 60 - at % 60  # of this minute
        if at // 60 not in opened:
            at += rest
        elif any(a < at + rest and at < b for a, b in pauses):  # second by second
            seconds -= not any(a <= at < b for a, b in pauses)
            at += 1
            if not seconds:
                return at
        elif rest >= seconds:
            return at + seconds
        else:
            seconds, at = seconds - rest, at + rest
    return None


def counted(opened: set[int], start: int, end: int) -> int:
    """Open seconds from start to end, minute by minute."""
    minutes = range(start // 60, end // 60 + 1)
    return sum(min(end, m * 60 + 60) - max(start, m * 60) for m in minutes if m in opened)
