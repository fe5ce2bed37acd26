"""Reading a JSON object strictly: every refusal is a sentence that names the field. Pure."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from msp.contracts.money import parse_decimal
from msp.errors import Misconfigured

REQUIRED: Final[Any] = object()
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HOUR = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")


class Fields:
    """One object at `where`. `allowed`: the only keys it may have (None: any).

    Each getter returns `default` for a missing key or null, and raises Misconfigured for a required one.
    """

    def __init__(self, value: Any, where: str, allowed: Collection[str] | None = None) -> None:
        if not isinstance(value, Mapping):
            raise Misconfigured(f"{where or 'The input'} must be an object, not {_kind(value)}.")
        if allowed is not None:
            for key in value:
                if key not in allowed:
                    raise Misconfigured(
                        f"{where + ': ' if where else ''}the key {key!r} is unknown.",
                        advice=f"Known keys: {', '.join(sorted(allowed))}.",
                    )
        self.value, self.where = value, where

    def __contains__(self, key: str) -> bool:
        return self.value.get(key) is not None

    def name(self, key: str) -> str:
        """Return the full name of a field, as errors say it."""
        return f"{self.where}: {key}" if self.where else key

    def get(self, key: str, default: Any = REQUIRED) -> Any:
        """Return the raw value."""
        found = self.value.get(key)
        if found is None:
            if default is REQUIRED:
                raise Misconfigured(f"{self.name(key)} is missing.")
            return default
        return found

    def text(self, key: str, default: Any = REQUIRED) -> Any:
        """Return a text that is not empty."""
        found = self.get(key, default)
        if key in self and not (isinstance(found, str) and found.strip()):
            raise Misconfigured(f"{self.name(key)} must be a text, not {_shown(found)}.")
        return found

    def whole(self, key: str, default: Any = REQUIRED, *, least: int = 0, most: int = 10**12) -> Any:
        """Return a whole number between `least` and `most`."""
        found = self.get(key, default)
        return whole_number(found, self.name(key), least=least, most=most) if key in self else found

    def decimal(self, key: str, default: Any = REQUIRED, *, least: Decimal | None = Decimal(0)) -> Any:
        """Return a Decimal, not below `least`."""
        found = self.get(key, default)
        if key not in self:
            return found
        number = parse_decimal(found, self.name(key))
        if least is not None and number < least:
            raise Misconfigured(f"{self.name(key)} must not be below {least}, and is {number}.")
        return number

    def flag(self, key: str, default: Any = False) -> Any:
        """Return true or false."""
        found = self.get(key, default)
        if key in self and not isinstance(found, bool):
            raise Misconfigured(f"{self.name(key)} must be true or false, not {_shown(found)}.")
        return found

    def choice(self, key: str, options: Collection[str], default: Any = REQUIRED) -> Any:
        """Return one of `options`."""
        found = self.get(key, default)
        if key in self and (not isinstance(found, str) or found not in options):
            raise Misconfigured(f"{self.name(key)} must be one of {', '.join(options)}, not {_shown(found)}.")
        return found

    def day(self, key: str, default: Any = REQUIRED) -> Any:
        """Return a calendar date from YYYY-MM-DD."""
        found = self.get(key, default)
        return parse_day(found, self.name(key)) if key in self else found

    def items(self, key: str, default: Any = REQUIRED) -> list[Any]:
        """Return a list."""
        found = self.get(key, default)
        if not isinstance(found, list | tuple):
            raise Misconfigured(f"{self.name(key)} must be a list, not {_kind(found)}.")
        return list(found)

    def texts(self, key: str, known: Collection[str] = ()) -> tuple[str, ...]:
        """Return a list of texts, each of `known` if that is given; missing is empty."""
        found = self.items(key, ())
        for item in found:
            if not isinstance(item, str) or not item.strip():
                raise Misconfigured(f"{self.name(key)} must be a list of texts, and has {_shown(item)}.")
            if known and item not in known:
                raise Misconfigured(f"{self.name(key)} has {item!r}, which is none of {', '.join(known)}.")
        return tuple(found)

    def objects(self, key: str, allowed: Collection[str] | None = None, default: Any = ()) -> Iterator["Fields"]:
        """Yield the objects of a list, each named by its place, counted from 1; missing is empty, unless REQUIRED."""
        for number, item in enumerate(self.items(key, default), 1):
            yield Fields(item, f"{self.name(key)} {number}", allowed)

    def object(self, key: str, allowed: Collection[str] | None = None) -> "Fields | None":
        """Return the object under `key`, or None."""
        return Fields(self.value[key], self.name(key), allowed) if key in self else None


def whole_number(value: Any, field: str, *, least: int = 0, most: int = 10**12) -> int:
    """Return a JSON number that is whole; raises Misconfigured naming the field."""
    number = parse_decimal(value, field)
    if number != number.to_integral_value():
        raise Misconfigured(f"{field} must be a whole number, not {_shown(value)}.")
    if not least <= number <= most:
        raise Misconfigured(f"{field} must be between {least} and {most}, and is {number}.")
    return int(number)


def parse_day(value: Any, field: str) -> date:
    """Return a date from YYYY-MM-DD; raises Misconfigured naming the field."""
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        raise Misconfigured(f"{field} must be a date like 2026-03-31, not {_shown(value)}.") from None


def parse_minute(value: Any, field: str) -> int:
    """Return minutes after local midnight from "HH:MM"; "24:00" is 1440. Raises Misconfigured naming the field."""
    if value == "24:00":
        return 1440
    found = _HOUR.fullmatch(value) if isinstance(value, str) else None
    if not found:
        raise Misconfigured(f"{field} must be a time like 08:30, not {_shown(value)}.")
    return int(found[1]) * 60 + int(found[2])


def parse_instant(value: Any, field: str) -> datetime:
    """Return an aware UTC instant from ISO 8601 with an offset; raises Misconfigured naming the field."""
    try:
        instant = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        instant = None
    if instant is None or instant.tzinfo is None:
        raise Misconfigured(
            f"{field} must be an instant with its zone, not {_shown(value)}.",
            advice="Write it like 2026-03-31T18:00:00+03:00 or 2026-03-31T15:00:00Z.",
        )
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise Misconfigured(f"{field} lies outside the calendar: {_shown(value)}.") from None


def parse_zone(value: Any, field: str) -> ZoneInfo:
    """Return a time zone by its IANA name; raises Misconfigured naming the field."""
    try:
        return ZoneInfo(value)
    except (KeyError, ValueError, TypeError, AttributeError, OSError):
        raise Misconfigured(
            f"{field} must be a time zone, not {_shown(value)}.", advice="Use an IANA name such as Europe/Berlin."
        ) from None


def unique(names: Iterable[str], what: str) -> None:
    """Raise Misconfigured if a name comes twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise Misconfigured(f"{what} {name!r} comes twice.", advice="Give each its own.")
        seen.add(name)


def local_midnight(day: date, zone: ZoneInfo) -> datetime:
    """Return the UTC instant at which a local calendar date begins."""
    return datetime.combine(day, time(0), zone).astimezone(UTC)


def _kind(value: Any) -> str:
    return {dict: "an object", list: "a list", str: "a text", type(None): "null", bool: "a truth value"}.get(
        type(value), "a number"
    )


def _shown(value: Any) -> str:
    return repr(value)[:80]
