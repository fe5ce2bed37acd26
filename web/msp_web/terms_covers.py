"""What a line of a contract covers, and what it leaves out, as fields: lists of names, and which kind of work. Pure.

Fields are named by place: `line-1-covers-sites`, `line-1-excludes-work`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from msp.contracts.covers import KEYS
from msp_web.terms_draft import Draft, Values, given, names_of, names_text, put

#: What a line has of them.
SETS = ("covers", "excludes")
NAMES = tuple(key for key in KEYS if key != "work")


def values_of(own: str, line: Mapping[str, Any]) -> Values:
    """Return what stands in the fields of what a line covers and leaves out."""
    found: Values = {}
    for part in SETS:
        listed = line.get(part, {})
        for key in NAMES:
            found[f"{own}-{part}-{key}"] = [names_text(listed.get(key, []))]
        found[f"{own}-{part}-work"] = [" ".join(sorted(set(listed.get("work", []))))]
    return found


def covers(draft: Draft, line: dict[str, Any], where: str, own: str) -> Iterator[tuple[str, str]]:
    """Read what a line covers and leaves out; yield (beginning of an error, field)."""
    for part in SETS:
        listed = dict(line.get(part, {}))
        for key in KEYS:
            name = f"{own}-{part}-{key}"
            if (text := given(draft, name)) is not None:
                put(listed, key, text.split() if key == "work" else names_of(text))
            yield f"{where}: {part}: {key}", name
        if listed != line.get(part, {}):
            put(line, part, listed)
        yield f"{where}: {part}", f"{own}-{part}-{KEYS[0]}"
