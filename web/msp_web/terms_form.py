"""A terms document as the fields of a page, and the fields as a document again. Pure, but for the reader's language.

Fields are named by place: `cal-0-mon`, `line-1-P2-resolution`, `clause-3-w0-from`. What a page has no field for stays
as it was in the document; what cannot be read stays too, and is told beside its field.
"""

import copy
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flask_babel import gettext

from msp.contracts import terms
from msp.contracts.clauses import ACTION_CLASSES
from msp.contracts.fields import DAYS
from msp.contracts.lines import MONEY
from msp.contracts.policy import MILESTONES

_SPAN = re.compile(r"(\d{1,2}):?(\d{2})?\s*[-–—]\s*(\d{1,2}):?(\d{2})?")
_NUMBER = re.compile(r"\d{1,6}")
_CLOCK = re.compile(r"(\d{1,4}):([0-5]\d)")

Values = dict[str, list[str]]


@dataclass
class Draft:
    """A document in the making. `values`: what stands in each field; `problems`: what is wrong, by field ("": none).

    shown: the document whose places the fields name: the one before, as long as something is wrong with the new one.
    """

    document: dict[str, Any]
    shown: Mapping[str, Any]
    values: Values
    problems: dict[str, list[str]] = field(default_factory=dict)

    def value(self, name: str) -> str:
        return (self.values.get(name) or [""])[0]

    def has(self, name: str, value: str) -> bool:
        return value in self.values.get(name, ())

    def tell(self, name: str, sentence: str) -> None:
        self.problems.setdefault(name, []).append(sentence)

    @property
    def kept(self) -> str:
        """The document shown, as the page carries it to its next answer."""
        return json.dumps(self.shown, ensure_ascii=False)

    @property
    def text(self) -> str:
        """The document as people edit it who know JSON."""
        return json.dumps(self.document, ensure_ascii=False, indent=2)


def empty(currency: str, zone: str) -> dict[str, Any]:
    """Return what a contract without a version starts from: office hours, and nothing promised yet."""
    week = {day: [["09:00", "17:00"]] for day in DAYS[:5]}
    return {"currency": currency, "zone": zone, "calendars": {"office": {"tz": zone, "week": week}}, "lines": []}


def opened(document: Mapping[str, Any]) -> Draft:
    """Return the draft of a document as it is stored."""
    plain = copy.deepcopy(dict(document))
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
    except (TypeError, ValueError):  # lists of other things than texts
        return False
    return True


def of_fields(values: Mapping[str, Sequence[str]], before: Mapping[str, Any]) -> Draft:
    """Return the draft that the fields of a page make of `before`, with every problem beside its field."""
    typed = {name: list(found) for name, found in values.items()}
    draft = Draft(copy.deepcopy(dict(before)), before, typed)
    places = dict([*_calendars(draft), *_lines(draft), *_clauses(draft)])
    for sentence in terms.problems(draft.document):
        known = [place for place in places if sentence.startswith(place)]
        name = places[max(known, key=len)] if known else ""
        if name not in draft.problems:
            draft.tell(name, sentence)
    if not draft.problems:
        draft.shown, draft.values = draft.document, values_of(draft.document)
    return draft


def values_of(document: Mapping[str, Any]) -> Values:
    """Return what stands in each field for a document."""
    found: Values = {}
    for number, calendar in enumerate(document.get("calendars", {}).values()):
        found[f"cal-{number}-tz"] = [calendar.get("tz", "")]
        for day in DAYS:
            found[f"cal-{number}-{day}"] = [hours_text(calendar.get("week", {}).get(day, []))]
        for key in ("holidays", "holidays_yearly"):
            found[f"cal-{number}-{key}"] = [" ".join(calendar.get(key, []))]
    for number, line in enumerate(document.get("lines", [])):
        found[f"line-{number}-name"] = [line.get("name", "")]
        found[f"line-{number}-calendar"] = [line.get("calendar") or ""]
        for key in MONEY:
            found[f"line-{number}-{key}"] = [str(line.get(key) or "")]
        for priority, row in line.get("targets", {}).items():
            for milestone in MILESTONES:
                found[f"line-{number}-{priority}-{milestone}"] = [str(row.get(milestone) or "")]
    for number, clause in enumerate(document.get("clauses", [])):
        for key in ("id", "text", "text_ru", "effect", "outside", "approver", "price"):
            found[f"clause-{number}-{key}"] = [str(clause.get(key) or "")]
        found[f"clause-{number}-actions"] = list(clause.get("action_classes", []))
        for key in ("asset_classes", "assets", "sites"):
            found[f"clause-{number}-{key}"] = [", ".join(clause.get(key, []))]
        for place, window in enumerate(clause.get("windows", [])):
            found[f"clause-{number}-w{place}-days"] = list(window.get("days") or DAYS)
            found[f"clause-{number}-w{place}-from"] = [window.get("from", "")]
            found[f"clause-{number}-w{place}-to"] = [window.get("to", "")]
    return found


def hours_text(hours: Sequence[Sequence[str]]) -> str:
    """Return hours as they are typed: `08:00-12:00, 12:30-17:30`."""
    return ", ".join(f"{begin}-{end}" for begin, end in hours)


def hours_of(text: str) -> list[list[str]] | None:
    """Return the hours that were typed, also as `8-12, 12:30-17:30`; None if they are none."""
    found = []
    for part in re.split(r"[,;]", text):
        if not part.strip():
            continue
        match = _SPAN.fullmatch(part.strip())
        if match is None:
            return None
        found.append([f"{int(match[at]):02}:{match[at + 1] or '00'}" for at in (1, 3)])
    return found


def minutes_of(text: str) -> int | None:
    """Return minutes from `90` or `1:30`; None if it is neither."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return int(text)
    match = _CLOCK.fullmatch(text)
    return int(match[1]) * 60 + int(match[2]) if match else None


def _given(draft: Draft, name: str) -> str | None:
    """Return what was typed, None where the page had no such field."""
    return draft.value(name).strip() if name in draft.values else None


def _put(target: dict[str, Any], key: str, value: Any) -> None:
    """Store a value; an empty one takes the key away, so that a document says only what was agreed."""
    if value in ("", [], None):
        target.pop(key, None)
    else:
        target[key] = value


def _calendars(draft: Draft) -> Iterator[tuple[str, str]]:
    """Read the hours; yield (beginning of an error, field)."""
    for number, (name, calendar) in enumerate(draft.document.get("calendars", {}).items()):
        where, own = f"calendars: {name}", f"cal-{number}"
        if (zone := _given(draft, f"{own}-tz")) is not None:
            calendar["tz"] = zone
        week = calendar.setdefault("week", {})
        for day in DAYS:
            if (text := _given(draft, f"{own}-{day}")) is None:
                continue
            hours = hours_of(text)
            if hours is None:
                draft.tell(f"{own}-{day}", gettext("Write hours like 08:00-12:00, 12:30-17:30."))
            else:
                _put(week, day, hours)
            yield f"{where}: week {day}", f"{own}-{day}"
        for key in ("holidays_yearly", "holidays"):
            if (text := _given(draft, f"{own}-{key}")) is not None:
                _put(calendar, key, re.split(r"[\s,;]+", text) if text else [])
            yield f"{where}: {key}", f"{own}-{key}"
        yield f"{where}: tz", f"{own}-tz"
        yield where, f"{own}-tz"


def _lines(draft: Draft) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(draft.document.get("lines", [])):
        where, own = f"lines {number + 1}", f"line-{number}"
        for key in ("name", "calendar", *MONEY):
            if (text := _given(draft, f"{own}-{key}")) is not None:
                _put(line, key, text)
            yield f"{where}: {key}", f"{own}-{key}"
        added = _given(draft, f"{own}-new")
        if added and added not in line.get("targets", {}):
            line.setdefault("targets", {})[added] = {}
        for priority, row in list(line.get("targets", {}).items()):
            for milestone in MILESTONES:
                name = f"{own}-{'new' if priority == added else priority}-{milestone}"
                if (text := _given(draft, name)) is None:
                    continue
                minutes = minutes_of(text) if text else None
                if text and minutes is None:
                    draft.tell(name, gettext("Write minutes like 240, or hours and minutes like 4:00."))
                else:
                    _put(row, milestone, minutes)
                yield f"{where}: targets {priority}: {milestone}", name
            if draft.has(f"{own}-{priority}-drop", "1"):
                del line["targets"][priority]
        if line.get("targets") == {}:
            del line["targets"]
        yield where, f"{own}-name"


def _clauses(draft: Draft) -> Iterator[tuple[str, str]]:
    kept: list[dict[str, Any]] = []
    stored = draft.document.get("clauses", [])
    for number, clause in enumerate([*stored, {}]):  # the last row of the page is for a new one
        own = f"clause-{number}"
        if draft.has(f"{own}-drop", "1"):
            continue
        for key in ("id", "text", "text_ru", "effect", "outside", "approver", "price"):
            if (text := _given(draft, f"{own}-{key}")) is not None:
                _put(clause, key, text)
        for key in ("asset_classes", "assets", "sites"):
            if (text := _given(draft, f"{own}-{key}")) is not None:
                _put(clause, key, [part.strip() for part in text.split(",") if part.strip()])
        if f"{own}-effect" in draft.values:  # boxes that are not ticked are not sent
            _put(clause, "action_classes", [one for one in ACTION_CLASSES if draft.has(f"{own}-actions", one)])
            _put(clause, "windows", list(_windows(draft, own)))
        if number == len(stored) and not clause.get("id") and not clause.get("text"):
            continue
        kept.append(clause)
        where = f"clauses {len(kept)}"
        for key in ("id", "text", "effect", "outside", "approver", "price", "asset_classes", "assets", "sites"):
            yield f"{where}: {key}", f"{own}-{key}"
        yield f"{where}: windows", f"{own}-windows"
        yield where, f"{own}-id"
    _put(draft.document, "clauses", kept)


def _windows(draft: Draft, own: str) -> Iterator[dict[str, Any]]:
    for name in sorted(name for name in draft.values if re.fullmatch(rf"{own}-w\d+-from", name)):
        row = name.removesuffix("-from")
        begins, ends = draft.value(name).strip(), draft.value(f"{row}-to").strip()
        if begins or ends:
            days = [day for day in DAYS if draft.has(f"{row}-days", day)]
            yield {"days": days or list(DAYS), "from": begins, "to": "24:00" if ends == "00:00" else ends}
