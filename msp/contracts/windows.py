"""When a clause holds: weekly maintenance windows and named freezes, in local time. Pure.

A window belongs to the local day on which it begins; `to` at or before `from` runs into the next day. Local time
becomes an instant as everywhere here: `datetime(..., tzinfo=zone)` with fold 0.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from msp.contracts.fields import DAYS, Fields, local_midnight, parse_minute
from msp.errors import Misconfigured

_DAY = 1440
#: How far ahead the next window is looked for: longer than any freeze that makes sense.
HORIZON_DAYS = 400


@dataclass(frozen=True, slots=True)
class Window:
    """A weekly window: on `weekdays` (Monday is 0) from minute `begins` to minute `ends` after local midnight.

    `ends` may lie beyond 1440: the window runs into the next day.
    """

    weekdays: frozenset[int]
    begins: int
    ends: int

    def span_of(self, day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
        """Return the UTC span of the window that begins on a local day."""
        return _instant(day, self.begins, zone), _instant(day, self.ends, zone)

    def span_at(self, at: datetime, zone: ZoneInfo) -> tuple[datetime, datetime] | None:
        """Return the span that holds `at`, closed at its start and open at its end, or None."""
        today = at.astimezone(zone).date()
        for day in (today, today - timedelta(days=1)):
            if day.weekday() in self.weekdays:
                begin, end = self.span_of(day, zone)
                if begin <= at < end:
                    return begin, end
        return None


@dataclass(frozen=True, slots=True)
class Freeze:
    """Days on which nothing may be changed, first and last included, such as the end of the year."""

    name: str
    first: date
    last: date

    def span(self, zone: ZoneInfo) -> tuple[datetime, datetime]:
        """Return the UTC span from the start of the first to the end of the last local day."""
        return local_midnight(self.first, zone), local_midnight(self.last + timedelta(days=1), zone)


def window_at(windows: Iterable[Window], at: datetime, zone: ZoneInfo) -> tuple[datetime, datetime] | None:
    """Return the span of the first window that holds `at`, or None."""
    return next((span for window in windows if (span := window.span_at(at, zone))), None)


def freeze_at(freezes: Iterable[Freeze], at: datetime, zone: ZoneInfo) -> Freeze | None:
    """Return the first freeze that holds `at`, or None."""
    today = at.astimezone(zone).date()
    return next((freeze for freeze in freezes if freeze.first <= today <= freeze.last), None)


def next_start(windows: Sequence[Window], freezes: Sequence[Freeze], at: datetime, zone: ZoneInfo) -> datetime | None:
    """Return the first instant from `at` on that lies in a window (any time if there is none) and in no freeze.

    None if there is no such instant within HORIZON_DAYS.
    """
    instant: datetime | None = at.astimezone(UTC)
    limit = at + timedelta(days=HORIZON_DAYS)
    while instant is not None and instant <= limit:
        if windows:
            instant = _enter(windows, instant, zone)
        if instant is None:
            return None
        freeze = freeze_at(freezes, instant, zone)
        if freeze is None:
            return instant
        instant = freeze.span(zone)[1]
    return None


def next_outside(windows: Sequence[Window], freezes: Sequence[Freeze], at: datetime, zone: ZoneInfo) -> datetime | None:
    """Return the first instant from `at` on that lies in no window and in no freeze; None as in `next_start`."""
    instant = at.astimezone(UTC)
    limit = at + timedelta(days=HORIZON_DAYS)
    while instant <= limit:
        if freeze := freeze_at(freezes, instant, zone):
            instant = freeze.span(zone)[1]
        elif span := window_at(windows, instant, zone):
            instant = span[1]
        else:
            return instant
    return None


def parse_window(fields: Fields) -> Window:
    """Return a window from {"days": ["sat"], "from": "22:00", "to": "04:00"}; without days it is every day."""
    days = fields.texts("days", DAYS) or DAYS
    begins, ends = (parse_minute(fields.get(key), fields.name(key)) for key in ("from", "to"))
    if begins == _DAY:
        raise Misconfigured(f"{fields.name('from')} must be before 24:00.")
    return Window(frozenset(DAYS.index(day) for day in days), begins, ends if ends > begins else ends + _DAY)


def parse_freeze(fields: Fields) -> Freeze:
    """Return a freeze from {"name", "from", "to"} with both days included."""
    freeze = Freeze(fields.text("name"), fields.day("from"), fields.day("to"))
    if freeze.last < freeze.first:
        raise Misconfigured(f"{fields.where}: the freeze ends on {freeze.last}, before it begins on {freeze.first}.")
    return freeze


def _enter(windows: Sequence[Window], at: datetime, zone: ZoneInfo) -> datetime | None:
    """Return the first instant from `at` on inside a window; every window comes within two weeks."""
    if window_at(windows, at, zone):
        return at
    today = at.astimezone(zone).date()
    spans = (
        window.span_of(day, zone)
        for window in windows
        for day in (today + timedelta(days=number) for number in range(-1, 16))
        if day.weekday() in window.weekdays
    )
    return min((begin for begin, end in spans if at <= begin < end), default=None)  # empty where the clock skips it


def _instant(day: date, minute: int, zone: ZoneInfo) -> datetime:
    days, minute = divmod(minute, _DAY)
    local = datetime.combine(day + timedelta(days=days), time(minute // 60, minute % 60), zone)
    return local.astimezone(UTC)
