"""Tariffs by the clock: an entry that crosses into after-hours, a weekend or a holiday is split there (R3). Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from zoneinfo import ZoneInfo

from msp.contracts.fields import Fields, local_midnight, parse_day
from msp.contracts.rounding import Segment
from msp.contracts.windows import Window, parse_window, window_at
from msp.errors import Misconfigured

KEYS = ("name", "multiplier", "windows", "dates")
ORDINARY = "ordinary"
_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Tariff:
    """A multiplier of the hourly rate, in weekly windows and on whole local days such as holidays."""

    name: str
    multiplier: Decimal
    windows: tuple[Window, ...] = ()
    dates: frozenset[date] = frozenset()

    def holds(self, at: datetime, zone: ZoneInfo) -> bool:
        """Return whether the tariff is on at an instant."""
        return at.astimezone(zone).date() in self.dates or window_at(self.windows, at, zone) is not None


def tariff_at(tariffs: Sequence[Tariff], at: datetime, zone: ZoneInfo) -> tuple[str, Decimal]:
    """Return (name, multiplier) of the first tariff that is on, else (ORDINARY, 1)."""
    return next(
        ((tariff.name, tariff.multiplier) for tariff in tariffs if tariff.holds(at, zone)), (ORDINARY, Decimal(1))
    )


def split(begin: datetime, minutes: int, tariffs: Sequence[Tariff], zone: ZoneInfo) -> tuple[Segment, ...]:
    """Return the segments of `minutes` of work from `begin`, in order, each within one tariff.

    Windows begin at whole minutes, so a boundary inside a worked minute counts that minute to the tariff before it.
    """
    begin = begin.astimezone(UTC)
    end = begin + minutes * _MINUTE
    cuts = [begin, *sorted({cut for cut in _boundaries(begin, end, tariffs, zone) if begin < cut < end}), end]
    segments: list[Segment] = []
    counted = 0
    for start, stop in pairwise(cuts):
        upto = -((begin - stop) // _MINUTE)  # whole minutes up to here, the broken one included
        name, multiplier = tariff_at(tariffs, start, zone)
        if segments and segments[-1].tariff == name:
            segments[-1] = Segment(segments[-1].minutes + upto - counted, multiplier, name)
        elif upto > counted:
            segments.append(Segment(upto - counted, multiplier, name))
        counted = upto
    return tuple(segments)


def parse_tariff(fields: Fields) -> Tariff:
    """Return a tariff from {"name", "multiplier", "windows": [...], "dates": [...]}; it needs one of the two."""
    tariff = Tariff(
        fields.text("name"),
        fields.decimal("multiplier"),
        tuple(parse_window(window) for window in fields.objects("windows", ("days", "from", "to"))),
        frozenset(parse_day(day, fields.name("dates")) for day in fields.texts("dates")),
    )
    if not tariff.windows and not tariff.dates:
        raise Misconfigured(f"{fields.where}: the tariff never holds.", advice="Give it windows or dates.")
    return tariff


def _boundaries(begin: datetime, end: datetime, tariffs: Sequence[Tariff], zone: ZoneInfo) -> Iterator[datetime]:
    day = begin.astimezone(zone).date() - timedelta(days=1)
    while local_midnight(day, zone) <= end:
        yield local_midnight(day, zone)
        for tariff in tariffs:
            for window in tariff.windows:
                if day.weekday() in window.weekdays:
                    yield from window.span_of(day, zone)
        day += timedelta(days=1)
