"""What a contract promises beside its targets, as fields: proofs of backups, time boxes, credits and visits.

Pure, but for the reader's language: spans are shown and typed in the reader's units.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from flask_babel import gettext

from msp.contracts import service_credits as by_attainment
from msp.contracts.fields import whole_number
from msp.errors import Misconfigured
from msp_web.terms_draft import Draft, Values, given, minutes_of, places_of, put, shown

#: Spans of a restore, in seconds as the document has them.
SPANS = ("proof_every_s", "rpo_s", "rto_s")
#: What a step of service credits says, both in percent.
STEP = by_attainment.KEYS
#: What a visit takes, in minutes.
VISIT = ("travel_min", "repair_min")
_UNITS = {"d": 86400, "h": 3600, "min": 60, "s": 1}
_PART = re.compile(r"(\d{1,9})\s*([^\W\d_]+)\.?\s*")
_CLOCK = re.compile(r"(\d{1,6}):([0-5]\d)")


def restore_values(restore: Mapping[str, Any]) -> Values:
    """Return what stands in the fields of what is promised of restores."""
    return {f"restore-{key}": [span_text(restore.get(key))] for key in SPANS}


def restore(draft: Draft) -> Iterator[tuple[str, str]]:
    """Read what is promised of restores; yield (beginning of an error, field)."""
    agreed = dict(draft.document.get("restore", {}))
    for key in SPANS:
        name = f"restore-{key}"
        if (text := given(draft, name)) is not None:
            seconds = span_of(text) if text else None
            if text and seconds is None:
                draft.tell(name, gettext("Write a time with its unit, like 7 d, 4 h or 90 min, or as 1:30."))
            else:
                put(agreed, key, seconds)
        yield f"restore: {key}", name
    if agreed != draft.document.get("restore", {}):
        put(draft.document, "restore", agreed)
    yield "restore", f"restore-{SPANS[0]}"


def span_text(value: Any) -> str:
    """Return seconds as they are typed: `7 d`, `1 h 30 min`, in the reader's units; what is none as it is written."""
    try:
        left = whole_number(value, "", least=1)
    except Misconfigured:
        return shown(value)
    parts = []
    for unit, seconds in _UNITS.items():
        count, left = divmod(left, seconds)
        if count:
            parts.append(_said(unit, count))
    return " ".join(parts)


def span_of(text: str) -> int | None:
    """Return the seconds of a span that was typed, in the reader's units or the English ones; None if it is none."""
    if match := _CLOCK.fullmatch(text.strip()):
        return (int(match[1]) * 60 + int(match[2])) * 60 or None
    units = _UNITS | {_said(unit, "").strip(): seconds for unit, seconds in _UNITS.items()}
    parts = list(_PART.finditer(text.strip().lower()))
    if "".join(part[0] for part in parts) != text.strip().lower() or any(part[2] not in units for part in parts):
        return None
    return sum(int(part[1]) * units[part[2]] for part in parts) or None


def _said(unit: str, count: int | str) -> str:
    """Return so many of a unit, in the reader's language."""
    said = {
        "d": lambda: gettext("%(n)s d", n=count),
        "h": lambda: gettext("%(n)s h", n=count),
        "min": lambda: gettext("%(n)s min", n=count),
        "s": lambda: gettext("%(n)s s", n=count),
    }
    return str(said[unit]())


def line_values(own: str, line: Mapping[str, Any]) -> Values:
    """Return what stands in the fields of a line's time boxes, service credits and visits."""
    found: Values = {}
    for place, (name, box) in enumerate(line.get("ola", {}).items()):
        found[f"{own}-ola-{place}-line"] = [name]
        found[f"{own}-ola-{place}-minutes"] = [shown(box.get("minutes"))]
        found[f"{own}-ola-{place}-calendar"] = [shown(box.get("calendar"))]
    for place, step in enumerate(line.get("service_credits", [])):
        for key in STEP:
            found[f"{own}-credit-{place}-{key}"] = [shown(step.get(key))]
    visit = line.get("latest_dispatch", {})
    for key in ("calendar", *VISIT):
        found[f"{own}-dispatch-{key}"] = [shown(visit.get(key))]
    return found


def boxes(draft: Draft, line: dict[str, Any], where: str, own: str) -> Iterator[tuple[str, str]]:
    """Read the time boxes of support lines; yield (beginning of an error, field)."""
    places = places_of(draft, rf"{own}-ola-(\d+)-line")
    stored, found = list(line.get("ola", {}).items()), dict[str, dict[str, Any]]()
    for place in places:
        row = f"{own}-ola-{place}"
        name, box = draft.value(f"{row}-line").strip(), {}
        if place < len(stored):
            name, box = name if given(draft, f"{row}-line") is not None else stored[place][0], dict(stored[place][1])
        if not name:
            if draft.value(f"{row}-minutes").strip():
                draft.tell(f"{row}-line", gettext("Name the support line, like L1."))
            continue
        if name in found:
            draft.tell(f"{row}-line", gettext("This support line stands here twice."))
            continue
        minutes(draft, box, "minutes", f"{row}-minutes")
        if (calendar := given(draft, f"{row}-calendar")) is not None:
            put(box, "calendar", calendar)
        found[name] = box
        for key in ("minutes", "calendar"):
            yield f"{where}: ola {name}: {key}", f"{row}-{key}"
        yield f"{where}: ola {name}", f"{row}-line"
    if places and found != line.get("ola", {}):
        put(line, "ola", found)
    yield f"{where}: ola", f"{own}-ola-0-line"


def steps(draft: Draft, line: dict[str, Any], where: str, own: str) -> Iterator[tuple[str, str]]:
    """Read the steps of service credits; yield (beginning of an error, field)."""
    places = places_of(draft, rf"{own}-credit-(\d+)-{STEP[0]}")
    stored, found = line.get("service_credits", []), list[dict[str, Any]]()
    for place in places:
        row = f"{own}-credit-{place}"
        if not any(draft.value(f"{row}-{key}").strip() for key in STEP):
            continue
        step = dict(stored[place]) if place < len(stored) else {}
        for key in STEP:
            if (text := given(draft, f"{row}-{key}")) is not None:
                put(step, key, text.removesuffix("%").rstrip().replace(",", "."))
        found.append(step)
        for key in STEP:
            yield f"{where}: service_credits {len(found)}: {key}", f"{row}-{key}"
    if places and found != stored:
        put(line, "service_credits", found)
    yield f"{where}: service_credits", f"{own}-credit-0-{STEP[0]}"


def dispatch(draft: Draft, line: dict[str, Any], where: str, own: str) -> Iterator[tuple[str, str]]:
    """Read what a visit takes, from which its latest dispatch follows; yield (beginning of an error, field)."""
    visit = dict(line.get("latest_dispatch", {}))
    for key in VISIT:
        minutes(draft, visit, key, f"{own}-dispatch-{key}")
        yield f"{where}: latest_dispatch: {key}", f"{own}-dispatch-{key}"
    if (calendar := given(draft, f"{own}-dispatch-calendar")) is not None:
        put(visit, "calendar", calendar)
    if visit != line.get("latest_dispatch", {}):
        put(line, "latest_dispatch", visit if any(key in visit for key in ("calendar", *VISIT)) else None)
    yield f"{where}: latest_dispatch", f"{own}-dispatch-calendar"


def minutes(draft: Draft, target: dict[str, Any], key: str, name: str) -> None:
    """Read minutes; what cannot be read stays as it was and is told."""
    if (text := given(draft, name)) is not None:
        read = minutes_of(text) if text else None
        if text and read is None:
            draft.tell(name, gettext("Write minutes like 240, or hours and minutes like 4:00."))
        else:
            put(target, key, read)
