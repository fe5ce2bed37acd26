"""A terms document as the fields of a page, and the fields as a document again. Pure, but for the reader's language.

Fields are named by place: `cal-0-mon`, `line-1-P2-resolution`, `clause-3-w0-from`. What a page has no field for stays
as it was in the document; what cannot be read stays too, and is told beside its field.
"""

import copy
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flask_babel import gettext

from msp.contracts import terms
from msp.contracts.clauses import ACTION_CLASSES
from msp.contracts.fields import DAYS
from msp.contracts.lines import MONEY
from msp.contracts.policy import MILESTONES
from msp_web import terms_covers, terms_promises, terms_rows, terms_vat
from msp_web.terms_draft import (
    Draft,
    Values,
    given,
    hours_of,
    hours_text,
    names_of,
    names_text,
    put,
    shown,
    without_nulls,
)

#: Whole numbers of a line: how its time is rounded, included and carried over, and how soon somebody is on site.
WHOLE = (
    "increment",
    "minimum",
    "included_minutes",
    "rollover_cap_minutes",
    "rollover_months",
    "onsite_minutes",
)
CLAUSE_TEXTS = ("id", "text", "text_ru", "effect", "outside", "approver", "price")
CLAUSE_LISTS = ("asset_classes", "assets", "sites")


def empty(currency: str, zone: str) -> dict[str, Any]:
    """Return what a contract without a version starts from: office hours, and nothing promised yet."""
    week = {day: [["09:00", "17:00"]] for day in DAYS[:5]}
    return {"currency": currency, "zone": zone, "calendars": {"office": {"tz": zone, "week": week}}, "lines": []}


def opened(document: Mapping[str, Any]) -> Draft:
    """Return the draft of a document as it is stored."""
    plain = without_nulls(copy.deepcopy(dict(document)))
    return Draft(plain, plain, values_of(plain))


def of_json(text: str, before: Mapping[str, Any]) -> Draft:
    """Return the draft of a document that was typed as JSON; `before` stays where it cannot be read."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        draft = opened(before)
        draft.tell("raw", gettext("This is not JSON: %(error)s", error=str(error)))
        return draft
    if not isinstance(document, dict):
        draft = opened(before)
        draft.tell("raw", gettext("The terms must be a JSON object."))
        return draft
    document = without_nulls(document)
    draft = opened(document if has_places(document) else before)
    for sentence in terms.problems(document):
        draft.tell("raw", sentence)
    return draft


def has_places(document: Any) -> bool:
    """Return whether a document has the shape that the fields name, whatever is wrong within it."""

    def objects(value: Any) -> bool:
        return all(isinstance(one, dict) for one in value)

    if not isinstance(document, dict):
        return False
    calendars, lines, clauses = (document.get(key) for key in ("calendars", "lines", "clauses"))
    if not isinstance(calendars or {}, dict) or not all(isinstance(one or [], list) for one in (lines, clauses)):
        return False
    if not objects((calendars or {}).values()) or not objects([*(lines or []), *(clauses or [])]):
        return False
    rows = [line.get("targets", {}) for line in lines or []]
    weeks = [calendar.get("week", {}) for calendar in (calendars or {}).values()]
    if not objects([*rows, *weeks]) or not objects(row for found in rows for row in found.values()):
        return False
    windows = [clause.get("windows", []) for clause in clauses or []]
    if not all(isinstance(one, list) and objects(one) for one in windows):
        return False
    try:
        values_of(document)
    except (AttributeError, TypeError, ValueError):  # lists of other things than texts or objects
        return False
    return True


def of_fields(values: Mapping[str, Sequence[str]], before: Mapping[str, Any]) -> Draft:
    """Return the draft that the fields of a page make of `before`, with every problem beside its field."""
    typed = {name: list(found) for name, found in values.items()}
    draft = Draft(copy.deepcopy(dict(before)), before, typed, stood=values_of(before))
    places = dict([*_calendars(draft), *terms_rows.freezes(draft), *_lines(draft), *_clauses(draft)])
    places.update([*terms_vat.vat(draft, draft.document, "vat", "vat"), *terms_promises.restore(draft)])
    for sentence in terms.problems(draft.document):
        known = [place for place in places if sentence.startswith(place)]
        name = places[max(known, key=len)] if known else ""
        if name not in draft.problems:
            draft.tell(name, sentence)
    if not draft.problems:
        draft.shown, draft.values = draft.document, values_of(draft.document)
    return draft


def clause_of(values: Mapping[str, Sequence[str]], before: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return the clause that the fields of one place make; {} for a place that the page does not have."""
    stored = before.get("clauses", [])
    if not 0 <= number <= len(stored):
        return {}
    clause = copy.deepcopy(dict([*stored, {}][number]))
    typed = {name: list(found) for name, found in values.items()}
    draft = Draft({}, before, typed, stood=values_of(before))
    _clause(draft, clause, f"clause-{number}")
    return clause


def values_of(document: Mapping[str, Any]) -> Values:
    """Return what stands in each field for a document."""
    found = terms_rows.values_of(document) | terms_vat.values_of("vat", document.get("vat", {}))
    found |= terms_promises.restore_values(document.get("restore", {}))
    for number, calendar in enumerate(document.get("calendars", {}).values()):
        found[f"cal-{number}-tz"] = [calendar.get("tz", "")]
        for day in DAYS:
            found[f"cal-{number}-{day}"] = [hours_text(calendar.get("week", {}).get(day, []))]
        for key in ("holidays", "holidays_yearly"):
            found[f"cal-{number}-{key}"] = [" ".join(calendar.get(key, []))]
    for number, line in enumerate(document.get("lines", [])):
        for key in ("id", "kind", "name", "calendar", *MONEY):
            found[f"line-{number}-{key}"] = [shown(line.get(key))]
        for key in WHOLE:
            found[f"line-{number}-{key}"] = [shown(line.get(key))]
        found |= terms_covers.values_of(f"line-{number}", line)
        found |= terms_promises.line_values(f"line-{number}", line)
        found |= terms_vat.values_of(f"line-{number}-vat", line.get("vat", {}))
        for priority, row in line.get("targets", {}).items():
            for milestone in MILESTONES:
                found[f"line-{number}-{priority}-{milestone}"] = [shown(row.get(milestone))]
    for number, clause in enumerate(document.get("clauses", [])):
        for key in CLAUSE_TEXTS:
            found[f"clause-{number}-{key}"] = [shown(clause.get(key))]
        found[f"clause-{number}-actions"] = list(clause.get("action_classes", []))
        for key in CLAUSE_LISTS:
            found[f"clause-{number}-{key}"] = [names_text(clause.get(key, []))]
    return found


def _calendars(draft: Draft) -> Iterator[tuple[str, str]]:
    """Read the hours; yield (beginning of an error, field)."""
    calendars = draft.document.get("calendars", {})
    for number, (name, calendar) in enumerate(list(calendars.items())):
        where, own = f"calendars: {name}", f"cal-{number}"
        if draft.has(f"{own}-drop", "1"):
            del calendars[name]
            continue
        if (zone := given(draft, f"{own}-tz")) is not None:
            calendar["tz"] = zone
        week = copy.copy(calendar.get("week", {}))
        for day in DAYS:
            if (text := given(draft, f"{own}-{day}")) is not None:
                hours = hours_of(text)
                if hours is None:
                    draft.tell(f"{own}-{day}", gettext("Write hours like 08:00-12:00, 12:30-17:30."))
                else:
                    put(week, day, hours)
            yield f"{where}: week {day}", f"{own}-{day}"
        if week != calendar.get("week", {}):
            calendar["week"] = week
        for key in ("holidays_yearly", "holidays"):
            if (text := given(draft, f"{own}-{key}")) is not None:
                put(calendar, key, re.split(r"[\s,;]+", text) if text else [])
            yield f"{where}: {key}", f"{own}-{key}"
        yield from terms_rows.dated(draft, calendar, where, own)
        yield f"{where}: tz", f"{own}-tz"
        yield where, f"{own}-tz"
    if added := given(draft, "cal-new-name"):
        if added in calendars:
            draft.tell("cal-new-name", gettext("There are hours of this name already."))
        else:
            like = calendars.get(draft.value("cal-new-like")) or next(iter(calendars.values()), None)
            fresh = empty("", draft.document.get("zone") or "UTC")["calendars"]["office"]
            draft.document.setdefault("calendars", {})[added] = copy.deepcopy(like or fresh)


def _lines(draft: Draft) -> Iterator[tuple[str, str]]:
    kept: list[dict[str, Any]] = []
    stored = draft.document.get("lines", [])
    for number, line in enumerate([*stored, {}]):  # the last one of the page is for a new line
        own = f"line-{number}"
        if draft.has(f"{own}-drop", "1"):
            continue
        if number == len(stored) and not given(draft, f"{own}-id") and not given(draft, f"{own}-name"):
            continue
        kept.append(line)
        where = f"lines {len(kept)}"
        for key in ("id", "kind") if number == len(stored) else ():
            put(line, key, given(draft, f"{own}-{key}"))
            yield f"{where}: {key}", f"{own}-{key}"
        for key in ("name", "calendar", *MONEY):
            if (text := given(draft, f"{own}-{key}")) is not None:
                put(line, key, text)
            yield f"{where}: {key}", f"{own}-{key}"
        for key in WHOLE:
            if (text := given(draft, f"{own}-{key}")) is not None:
                put(line, key, int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else text)
            yield f"{where}: {key}", f"{own}-{key}"
        yield from _targets(draft, line, where, own)
        yield from terms_rows.tariffs(draft, line, where, own)
        yield from terms_promises.boxes(draft, line, where, own)
        yield from terms_promises.steps(draft, line, where, own)
        yield from terms_promises.dispatch(draft, line, where, own)
        yield from terms_covers.covers(draft, line, where, own)
        yield from terms_vat.vat(draft, line, f"{where}: vat", f"{own}-vat")
        yield f"{where}: targets", f"{own}-new"
        yield where, f"{own}-name"
        yield f"The line '{line.get('id')}'", f"{own}-id"
    if kept or stored:
        draft.document["lines"] = kept


def _targets(draft: Draft, line: dict[str, Any], where: str, own: str) -> Iterator[tuple[str, str]]:
    added = given(draft, f"{own}-new")
    if added and added not in line.get("targets", {}):
        line.setdefault("targets", {})[added] = {}
    for priority, row in list(line.get("targets", {}).items()):
        for milestone in MILESTONES:
            name = f"{own}-{'new' if priority == added else priority}-{milestone}"
            terms_promises.minutes(draft, row, milestone, name)
            yield f"{where}: targets {priority}: {milestone}", name
        if draft.has(f"{own}-{priority}-drop", "1"):
            del line["targets"][priority]
    if line.get("targets") == {}:
        del line["targets"]


def _clauses(draft: Draft) -> Iterator[tuple[str, str]]:
    kept: list[dict[str, Any]] = []
    stored = draft.document.get("clauses", [])
    for number, clause in enumerate([*stored, {}]):  # the last row of the page is for a new one
        own = f"clause-{number}"
        if draft.has(f"{own}-drop", "1"):
            continue
        _clause(draft, clause, own)
        if number == len(stored) and not clause.get("id") and not clause.get("text"):
            continue
        kept.append(clause)
        where = f"clauses {len(kept)}"
        for key in ("id", "text", "effect", "outside", "approver", "price", *CLAUSE_LISTS):
            yield f"{where}: {key}", f"{own}-{key}"
        yield f"{where}: windows", f"{own}-windows"
        yield where, f"{own}-id"
    put(draft.document, "clauses", kept)


def _clause(draft: Draft, clause: dict[str, Any], own: str) -> None:
    """Put the fields of one clause into it."""
    for key in CLAUSE_TEXTS:
        if (text := given(draft, f"{own}-{key}")) is not None:
            put(clause, key, text)
    for key in CLAUSE_LISTS:
        if (text := given(draft, f"{own}-{key}")) is not None:
            put(clause, key, names_of(text))
    if f"{own}-effect" in draft.values:  # boxes that are not ticked are not sent
        ticked = [one for one in ACTION_CLASSES if draft.has(f"{own}-actions", one)]
        if set(ticked) != set(clause.get("action_classes", [])):
            put(clause, "action_classes", ticked)
        put(clause, "windows", list(terms_rows.windows(draft, own, clause.get("windows", []))))
        own_spans = [one for one in clause.get("freezes", []) if not isinstance(one, str)]
        put(clause, "freezes", [*draft.values.get(f"{own}-freezes", ()), *own_spans])
