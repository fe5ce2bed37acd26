"""Days and instants as people type them into an address or a form: read in one place, within years that are lived in.

Python knows the years 1 to 9999, and adding a week or a time zone to the first or last of them is an error of ours.
"""

from datetime import UTC, date, datetime, tzinfo

from msp.errors import Misconfigured

YEARS = range(2000, 2101)


def day(text: str) -> date:
    """Return a day. Raises Misconfigured."""
    try:
        found = date.fromisoformat(text)
    except ValueError as error:
        raise Misconfigured(f"{text[:20]!r} is no day.", advice="Write it as 2027-06-30.") from error
    return within(found)


def month(text: str) -> date:
    """Return the first day of a month. Raises Misconfigured."""
    try:
        found = date.fromisoformat(f"{text}-01")
    except ValueError as error:
        raise Misconfigured(f"{text[:20]!r} is no month.", advice="Write it as 2027-06.") from error
    return within(found)


def instant(text: str, zone: tzinfo) -> datetime:
    """Return an instant in UTC; a text without an offset is of `zone`. Raises Misconfigured."""
    found = _date_and_time(text)
    return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)


def wall(text: str) -> datetime:
    """Return a date and time as a clock on a wall shows them, without a zone. Raises Misconfigured."""
    return _date_and_time(text).replace(tzinfo=None)


def _date_and_time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise Misconfigured("That is not a date and time.", advice="Choose it from the calendar.") from error
    within(found)
    return found


def within(found: date) -> date:
    """Return a day or instant that lies in the years known here. Raises Misconfigured."""
    if found.year not in YEARS:
        raise Misconfigured(f"The year {found.year} is out of reach.", advice="Give one from 2000 to 2100.")
    return found
