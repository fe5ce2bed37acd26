"""Public holidays of a year as rows that a manager reviews and signs into a calendar; never a live feed.

What a contract counts is the list that was signed. A law that changes afterwards, or a newer list of the library,
changes no due time: it is another version of the contract.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from msp.contracts.fields import DAYS
from msp.errors import Misconfigured

YEARS = range(1950, 2101)


@dataclass(frozen=True, slots=True)
class Holiday:
    """One row. `names` in the language asked for, where the library knows it."""

    day: date
    name: str

    def as_dict(self) -> dict[str, str]:
        return {"day": self.day.isoformat(), "weekday": DAYS[self.day.weekday()], "name": self.name}


def of_year(country: str, subdivision: str | None, year: int, *, language: str = "en_US") -> list[Holiday]:
    """Return the public holidays of a country (ISO 3166-1, such as DE) or one of its subdivisions, by day.

    Raises Misconfigured for a country, subdivision or year that the library does not know. Moved working days are
    no holidays and are not here: they are overrides.
    """
    import holidays  # 60 ms, and only a manager asks once a year

    if year not in YEARS:
        raise Misconfigured(f"{year} is no year that can be listed.", advice=f"Use {YEARS[0]} to {YEARS[-1]}.")
    known = holidays.list_supported_countries(include_aliases=False)
    if country not in known:
        raise Misconfigured(f"No holidays are known for the country {country!r}.", advice="Use ISO 3166-1, such as DE.")
    if subdivision and subdivision not in known[country]:
        raise Misconfigured(
            f"{country} has no subdivision {subdivision!r}.", advice=f"Known: {', '.join(known[country]) or 'none'}."
        )
    found = holidays.country_holidays(country, subdiv=subdivision, years=year, language=language)
    return [Holiday(day, name) for day, name in sorted(found.items())]


def merged(terms: Mapping[str, Any], calendar: str | None, rows: Sequence[Holiday]) -> tuple[dict[str, Any], int]:
    """Return the terms document with the rows among a calendar's holidays, and how many of them are new.

    calendar: its name; None: the only one. Raises Misconfigured if there is no such calendar.
    """
    calendars = terms.get("calendars")
    known = list(calendars) if isinstance(calendars, Mapping) else []
    if calendar is None and len(known) == 1:
        calendar = known[0]
    if calendar is None or not isinstance(calendars, Mapping) or calendar not in known:
        raise Misconfigured(
            f"The terms have no calendar {calendar!r}." if calendar else "The terms have not just one calendar.",
            advice=f"Name one: {', '.join(known) or 'add a calendar first'}.",
        )
    document = calendars[calendar]
    if not isinstance(document, Mapping) or not isinstance(document.get("holidays") or [], list):
        raise Misconfigured(f"calendars: {calendar}: holidays must be a list.", advice="Check the terms first.")
    before = list(document.get("holidays") or [])
    new = [row.day.isoformat() for row in rows if row.day.isoformat() not in before]
    changed = {**document, "holidays": sorted([*before, *new], key=str)}
    return {**terms, "calendars": {**calendars, calendar: changed}}, len(new)
