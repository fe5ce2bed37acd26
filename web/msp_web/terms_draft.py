"""What is being made of a terms document on a page, and how single fields are read. Pure."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_SPAN = re.compile(r"(\d{1,2}):?(\d{2})?\s*[-–—]\s*(\d{1,2}):?(\d{2})?")
_NUMBER = re.compile(r"\d{1,6}")
_CLOCK = re.compile(r"(\d{1,4}):([0-5]\d)")

Values = dict[str, list[str]]


@dataclass
class Draft:
    """A document in the making. `values`: what stands in each field; `problems`: what is wrong, by field ("": none).

    shown: the document whose places the fields name: the one before, as long as something is wrong with the new one.
    stood: what stood in each field of it; a field that says so still keeps its part of the document as it is written.
    """

    document: dict[str, Any]
    shown: Mapping[str, Any]
    values: Values
    problems: dict[str, list[str]] = field(default_factory=dict)
    stood: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def value(self, name: str) -> str:
        return (self.values.get(name) or [""])[0]

    def has(self, name: str, value: str) -> bool:
        return value in self.values.get(name, ())

    def tell(self, name: str, sentence: str) -> None:
        self.problems.setdefault(name, []).append(sentence)

    def fails(self, own: str) -> bool:
        """Return whether something is wrong with a field whose name begins so: what holds it is shown open."""
        return any(name.startswith(f"{own}-") for name in self.problems)

    @property
    def kept(self) -> str:
        """The document shown, as the page carries it to its next answer."""
        return json.dumps(self.shown, ensure_ascii=False)

    @property
    def text(self) -> str:
        """The document as people edit it who know JSON."""
        return json.dumps(self.document, ensure_ascii=False, indent=2)


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


def names_text(names: Sequence[str]) -> str:
    """Return names as they are typed: `srv-1, srv-2`."""
    return ", ".join(names)


def names_of(text: str) -> list[str]:
    """Return the names that were typed."""
    return [part.strip() for part in text.split(",") if part.strip()]


def fits(names: Sequence[str]) -> bool:
    """Return whether a field can say these names: none has a comma, another line, or a space at its ends."""
    return names_of(names_text(names)) == list(names) and not any(len(name.splitlines()) > 1 for name in names)


def given(draft: Draft, name: str) -> str | None:
    """Return what was typed; None where the page had no such field, or where it says what it said before.

    What was not touched is not read again: a field may show less than the document says (7.5 minutes, a comma in a
    name), and a browser sends lines with other ends than it was given, or none in a field of one line.
    """
    if name not in draft.values:
        return None
    text = draft.value(name).replace("\r\n", "\n").strip()
    stood = draft.stood.get(name) or ()
    before = {one.strip() for one in stood} | {one.replace("\r", "").replace("\n", "").strip() for one in stood}
    return None if text in before else text


def places_of(draft: Draft, pattern: str) -> list[int]:
    """Return the numbers of the rows that were sent, in order; `pattern` has the number as its group."""
    found = (re.fullmatch(pattern, name) for name in draft.values)
    return sorted({int(match[1]) for match in found if match})


def untouched(draft: Draft, own: str) -> bool:
    """Return whether every field of a row says what stood there; `own` is how their names begin."""
    names = {name for name in (*draft.values, *draft.stood) if name.startswith(f"{own}-")}
    sent, stood = ([sorted(filter(None, said.get(name, ()))) for name in names] for said in (draft.values, draft.stood))
    return sent == stood


def without_nulls(value: Any) -> Any:
    """Return a document without keys that say null, which says nothing; a rate of null says that there is no VAT."""
    if isinstance(value, dict):
        return {key: without_nulls(one) for key, one in value.items() if one is not None or key == "rate"}
    return [without_nulls(one) for one in value] if isinstance(value, list) else value


def shown(value: Any) -> str:
    """Return a single value as its field shows it: nothing for null, and 0 for 0."""
    return "" if value is None else str(value)


def put(target: dict[str, Any], key: str, value: Any) -> None:
    """Store a value; an empty one takes the key away, so that a document says only what was agreed."""
    if value in ("", [], {}, None):
        target.pop(key, None)
    else:
        target[key] = value
