"""Rows of a terms document as fields: special days, windows, freezes, tariffs. The last row is for a new one.

A row is named by its place: `cal-0-overrides-1-hours`, `line-0-tariff-2-w0-from`, `freeze-0-name`. A row that was
emptied goes; one that cannot be read stays as it was and is told beside its field.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flask_babel import gettext

from msp.contracts.fields import DAYS
from msp_web.terms_draft import Draft, Values, hours_of, hours_text, places_of, put, shown, untouched

#: Days of a calendar that differ from their week: in place of its hours, or cut out of them.
DATED = ("overrides", "breaks")
_FREEZE = ("name", "from", "to")


def values_of(document: Mapping[str, Any]) -> Values:
    """Return what stands in the rows of a document."""
    found: Values = {}
    for number, calendar in enumerate(document.get("calendars", {}).values()):
        for key in DATED:
            for place, (day, hours) in enumerate(sorted(calendar.get(key, {}).items())):
                found[f"cal-{number}-{key}-{place}-day"] = [str(day)]
                found[f"cal-{number}-{key}-{place}-hours"] = [hours_text(hours)]
    for number, freeze in enumerate(document.get("freezes", [])):
        for key in _FREEZE:
            found[f"freeze-{number}-{key}"] = [str(freeze.get(key) or "")]
    for number, line in enumerate(document.get("lines", [])):
        for place, tariff in enumerate(line.get("tariffs", [])):
            own = f"line-{number}-tariff-{place}"
            found[f"{own}-name"] = [shown(tariff.get("name"))]
            found[f"{own}-multiplier"] = [shown(tariff.get("multiplier"))]
            found[f"{own}-dates"] = [" ".join(tariff.get("dates", []))]
            found.update(window_values(own, tariff.get("windows", [])))
    for number, clause in enumerate(document.get("clauses", [])):
        found.update(window_values(f"clause-{number}", clause.get("windows", [])))
        found[f"clause-{number}-freezes"] = [one for one in clause.get("freezes", []) if isinstance(one, str)]
    return found


def window_values(own: str, windows: Sequence[Mapping[str, Any]]) -> Values:
    """Return what stands in the fields of weekly windows; one without days is every day."""
    found: Values = {}
    for place, window in enumerate(windows):
        found[f"{own}-w{place}-days"] = list(window.get("days") or DAYS)
        found[f"{own}-w{place}-from"] = [window.get("from", "")]
        found[f"{own}-w{place}-to"] = [window.get("to", "")]
    return found


def windows(draft: Draft, own: str, stored: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the weekly windows that were typed; one that was not touched as it is stored."""
    for place in places_of(draft, rf"{own}-w(\d+)-from"):
        row = f"{own}-w{place}"
        if place < len(stored) and untouched(draft, row):
            yield stored[place]
            continue
        begins, ends = draft.value(f"{row}-from").strip(), draft.value(f"{row}-to").strip()
        if begins or ends:
            days = [day for day in DAYS if draft.has(f"{row}-days", day)]
            yield {"days": days or list(DAYS), "from": begins, "to": "24:00" if ends == "00:00" else ends}


def dated(draft: Draft, calendar: dict[str, Any], where: str, own: str) -> Iterator[tuple[str, str]]:
    """Read the special days of a calendar; yield (beginning of an error, field)."""
    for key in DATED:
        places = places_of(draft, rf"{own}-{key}-(\d+)-day")
        if not places:
            continue
        before, found = calendar.get(key, {}), dict[str, Any]()
        for place in places:
            row = f"{own}-{key}-{place}"
            day, typed = draft.value(f"{row}-day").strip(), draft.value(f"{row}-hours").strip()
            if not day:
                if typed:
                    draft.tell(f"{row}-day", gettext("Choose the day."))
                continue
            if day in found:
                draft.tell(f"{row}-day", gettext("This day stands here twice."))
                continue
            hours = hours_of(typed)
            if hours is None:
                draft.tell(f"{row}-hours", gettext("Write hours like 08:00-12:00, 12:30-17:30."))
                found[day] = before.get(day, [])
            elif not hours and key == "breaks":
                draft.tell(f"{row}-hours", gettext("Say from when until when it is closed."))
            else:
                found[day] = hours
            yield f"{where}: {key} {day}", f"{row}-hours"
        put(calendar, key, found)
        yield f"{where}: {key}", f"{own}-{key}-{places[0]}-day"


def freezes(draft: Draft) -> Iterator[tuple[str, str]]:
    """Read the freezes; a clause that names one goes on naming it by its new name."""
    places = places_of(draft, r"freeze-(\d+)-name")
    if not places:
        return
    stored = draft.document.get("freezes", [])
    kept: list[dict[str, Any]] = []
    renamed: dict[str, str] = {}
    for place in places:
        values = {key: draft.value(f"freeze-{place}-{key}").strip() for key in _FREEZE}
        if not any(values.values()):
            continue
        kept.append({key: value for key, value in values.items() if value})
        if place < len(stored):
            renamed[str(stored[place].get("name"))] = values["name"]
        where = f"freezes {len(kept)}"
        for key in _FREEZE:
            yield f"{where}: {key}", f"freeze-{place}-{key}"
        yield where, f"freeze-{place}-to"
        yield f"The freeze '{values['name']}'", f"freeze-{place}-name"
    put(draft.document, "freezes", kept)
    names = {str(freeze.get("name")) for freeze in kept}
    for clause in draft.document.get("clauses", []):
        named = [renamed.get(one, one) if isinstance(one, str) else one for one in clause.get("freezes", [])]
        put(clause, "freezes", [one for one in named if not isinstance(one, str) or one in names])
    for name in [name for name in draft.values if re.fullmatch(r"clause-\d+-freezes", name)]:
        ticked = [renamed.get(one, one) for one in draft.values[name]]
        draft.values[name] = [one for one in ticked if one in names]


def tariffs(draft: Draft, line: dict[str, Any], where: str, own: str) -> Iterator[tuple[str, str]]:
    """Read the tariffs of a line; yield (beginning of an error, field)."""
    places = places_of(draft, rf"{own}-tariff-(\d+)-name")
    if not places:
        return
    kept: list[dict[str, Any]] = []
    stored = line.get("tariffs", [])
    for place in places:
        row = f"{own}-tariff-{place}"
        tariff: dict[str, Any] = {}
        if place < len(stored) and untouched(draft, row):
            tariff = stored[place]
        else:
            for key in ("name", "multiplier"):
                put(tariff, key, draft.value(f"{row}-{key}").strip())
            before = stored[place].get("windows", []) if place < len(stored) else []
            put(tariff, "windows", list(windows(draft, row, before)))
            typed = draft.value(f"{row}-dates").strip()
            put(tariff, "dates", re.split(r"[\s,;]+", typed) if typed else [])
        if not tariff:
            continue
        kept.append(tariff)
        at = f"{where}: tariffs {len(kept)}"
        for key in ("name", "multiplier", "dates", "windows"):
            yield f"{at}: {key}", f"{row}-{key}"
        yield at, f"{row}-name"
    put(line, "tariffs", kept)
    yield f"{where}: the tariff", f"{own}-tariff-{places[0]}-name"
