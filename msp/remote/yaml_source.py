"""Read YAML so that every value knows its line and column, and nothing means more than it says. Pure.

Only what a playbook needs: no aliases, no tags, no second document, no key twice; `yes`, `off` and `012` stay text.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

LARGEST = 256 * 1024  # bytes of one playbook
_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)\.[0-9]+")
_WORDS = {"": None, "~": None, "null": None, "true": True, "True": True, "false": False, "False": False}

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing wrong with a file; line and column begin at 1."""

    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.line}:{self.column}: {self.message}"


class Faulty(ValueError):
    """A file that cannot mean what it says, with every fault found."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = sorted(set(faults))


@dataclass(slots=True)
class Source:
    """A document as plain values, and where each of them and each key stands."""

    value: Any = None
    values: dict[Path, tuple[int, int]] = field(default_factory=dict)
    keys: dict[Path, tuple[int, int]] = field(default_factory=dict)
    blocks: dict[Path, tuple[int, int]] = field(default_factory=dict)  # first line and column of a block scalar's text

    def at(self, path: Path, *, key: bool = False) -> tuple[int, int]:
        """Return (line, column) of the value at `path` (or of its key), or of what encloses it."""
        while path:
            found = (self.keys if key else self.values).get(path)
            if found:
                return found
            path = path[:-1]
        return self.values.get((), (1, 1))

    def real(self, path: Path) -> Path:
        """Return where a value of the model stands in the file: short forms leave parts of the path away."""
        found: list[str | int] = []
        value = self.value
        for part in path:
            part = "assert" if part == "assert_" else part
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                continue
            found.append(part)
        return tuple(found)

    def fault(self, path: Path, message: str, *, key: bool = False, line: int = 0) -> Fault:
        """Return a fault at `path`; `line` counts from 1 within a text of several lines."""
        path = self.real(path)
        if line and path in self.blocks:
            first, column = self.blocks[path]
            return Fault(first + line - 1, column, message)
        return Fault(*self.at(path, key=key), message)


def read(text: bytes | str) -> Source:
    """Return the document in `text`. Raises Faulty."""
    if len(text) > LARGEST:
        raise Faulty([Fault(1, 1, f"The file is larger than {LARGEST // 1024} KB; move data out of the playbook.")])
    try:
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
        loader = yaml.SafeLoader(decoded)
        for token in yaml.scan(decoded, Loader=yaml.SafeLoader):
            if isinstance(token, yaml.AnchorToken | yaml.AliasToken | yaml.TagToken):
                what = "tags" if isinstance(token, yaml.TagToken) else "anchors and aliases"
                mark = token.start_mark
                raise Faulty([Fault(mark.line + 1, mark.column + 1, f"YAML {what} are not used in playbooks.")])
        node = loader.get_single_node()
    except UnicodeDecodeError as error:
        line = text[: error.start].count(b"\n") + 1 if isinstance(text, bytes) else 1
        raise Faulty([Fault(line, 1, "The file is not UTF-8 text.")]) from error
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark or error.context_mark
        said = " ".join(part for part in (error.context, error.problem) if part)
        line, column = (at.line + 1, at.column + 1) if at else (1, 1)
        raise Faulty([Fault(line, column, f"This is not valid YAML: {said}.")]) from error
    except (yaml.YAMLError, RecursionError) as error:
        position: int = getattr(error, "position", None) or 0
        line = decoded[:position].count("\n") + 1
        raise Faulty(
            [Fault(line, 1, f"This is not valid YAML: {getattr(error, 'reason', 'nested too deep')}.")]
        ) from error
    source = Source()
    if node is None:
        raise Faulty([Fault(1, 1, "The file is empty; `msp playbook new NAME` writes a beginning.")])
    faults: list[Fault] = []
    try:
        source.value = _plain(node, (), source, faults)
    except RecursionError:
        faults.append(Fault(1, 1, "The file is nested too deep."))
    if faults:
        raise Faulty(faults)
    return source


def _plain(node: yaml.Node, path: Path, source: Source, faults: list[Fault]) -> Any:
    mark = node.start_mark
    source.values[path] = (mark.line + 1, mark.column + 1)
    if isinstance(node, yaml.ScalarNode):
        if node.style in ("|", ">"):
            source.blocks[path] = (mark.line + 2, mark.column + 1)
        return _scalar(node, path)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*path, n), source, faults) for n, item in enumerate(node.value)]
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        at = key_node.start_mark
        if not isinstance(key_node, yaml.ScalarNode):
            faults.append(Fault(at.line + 1, at.column + 1, "A key must be a word."))
            continue
        key = key_node.value
        if key in found:
            faults.append(Fault(at.line + 1, at.column + 1, f"Key {key!r} stands here twice."))
        source.keys[(*path, key)] = (at.line + 1, at.column + 1)
        found[key] = _plain(value_node, (*path, key), source, faults)
    return found


def _scalar(node: yaml.ScalarNode, path: Path) -> Any:
    text: str = node.value
    if node.style is not None or path in (("version",), ("name",)):  # version: 1.10 means what it says
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text) and len(text) < 19:
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) and len(text) < 19 else text
