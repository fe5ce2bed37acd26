"""Amended contracts: the terms in force on the date of work decide, not those of the day of billing (R12). Pure."""

from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from typing import TypeVar
from zoneinfo import ZoneInfo

from msp.errors import Misconfigured

Version = TypeVar("Version")


def in_force(versions: Sequence[Version], on: date, starts_on: Callable[[Version], date]) -> Version:
    """Return the latest version that starts on or before `on`.

    Raises Misconfigured if none does, or if two versions start on the same day: neither could be preferred.
    """
    refuse_same_day(starts_on(version) for version in versions)
    known = [version for version in versions if starts_on(version) <= on]
    if not known:
        raise Misconfigured(f"No version of the contract is in force on {on}.", advice="Check the date of work.")
    return max(known, key=starts_on)


def refuse_same_day(days: Iterable[date]) -> None:
    """Raise Misconfigured if two versions of one contract start on the same day."""
    seen: set[date] = set()
    for day in days:
        if day in seen:
            raise Misconfigured(
                f"Two versions of the contract start on {day}.", advice="Put both changes into one version."
            )
        seen.add(day)


def local_day(instant: datetime, zone: ZoneInfo) -> date:
    """Return the client's calendar date of an instant: the date of work."""
    return instant.astimezone(zone).date()
