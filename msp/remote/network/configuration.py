"""A device's configuration as lines: what differs, how to go back, and what is kept of it. Pure.

Only indentation is understood, as IOS, NX-OS, EOS and FRR print it, or flat `set` lines as Junos prints them. Going
back is therefore proven afterwards by reading the configuration again.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import unified_diff

from msp.remote.network.platforms import Platform

_CLOSES = re.compile(r"(exit|end|quit|exit-\S+)$")
MASK = "<removed>"

_KEYWORD = (
    r"(?:password|secret|passphrase|passwd|community|key-string|authentication-key|pre-shared-key|shared-secret|psk"
    r"|wpa-psk|encrypted-password|auth-password|priv-password|area-password|domain-password|bindpw|api-token"
    r"|(?:message-digest-key \d+ )?md5|isakmp key|(?:tacacs|radius)(?:-server)?(?: host \S+)?(?: [a-z-]+ \d+)* key"
    r"|(?:md5|sha)-key|authentication text|authentication mode md5 key-string)"
)
_KIND = r"(?:(?:[0-9]|ascii|ascii-text|hex|hexadecimal|encrypted|hash|sha\d+|text|clear|plain|level \d+|type \d+)\s+)*"
_RULES = (
    re.compile(rf"(?i)(\b{_KEYWORD}\s+{_KIND})(\"[^\"]*\"|\S+)"),
    re.compile(r"(?i)(^\s*key\s+(?:\d+\s+)?)(\"[^\"]*\"|\S*[^\d\s]\S*)"),  # ` key 7 0822...`, not ` key 1` of a chain
    re.compile(r"(?i)(\b(?:auth|priv)\s+(?:md5|sha\d*|des|3des|aes)(?:[ -]\d+)?\s+)(\S+)"),
    re.compile(r"(?i)(\bsnmp-server host \S+ (?:(?:traps|informs) )?(?:version (?:1|2c) )?)(?!version)(\S+)"),
    re.compile(
        r"(?i)(\b[\w-]*(?:password|secret|passphrase|pre-shared-key|private-key|community|psk)=)(\"[^\"]*\"|\S+)"
    ),
    re.compile(r"(\")([^\"]+)(?=\"; ## SECRET-DATA)"),
)
_INNOCENT = re.compile(
    r"(?i)^\s*(?:no )?(service password|password (?:encryption|policy|history|min)|security passwords)"
)
_BLOCK = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")
_BLOCK_END = re.compile(r"-----END [A-Z ]*PRIVATE KEY-----")


class Masker:
    """Removes what is secret from lines, one after the other: passwords, communities, keys. Only by what is said."""

    def __init__(self) -> None:
        self._within = False

    def line(self, text: str) -> str | None:
        """Return a line without its secrets, or None for one within a private key."""
        if self._within:
            self._within = not _BLOCK_END.search(text)
            return None
        if _BLOCK.search(text):
            self._within = not _BLOCK_END.search(text)
            return f"{text[: len(text) - len(text.lstrip())]}{MASK}"
        if _INNOCENT.search(text):
            return text
        for rule in _RULES:
            text = rule.sub(lambda found: found[1] + MASK, text)
        return text


def masked(lines: list[str]) -> list[str]:
    """Return lines without their secrets."""
    masker = Masker()
    return [line for line in map(masker.line, lines) if line is not None]


def settled(lines: list[str], platform: Platform) -> list[str]:
    """Return a configuration without the lines that change by themselves, and without blank ones at its ends."""
    volatile = re.compile(platform.volatile or r"(?!)", re.IGNORECASE)
    kept = [line.rstrip() for line in lines if not volatile.search(line)]
    while kept and not kept[0]:
        kept.pop(0)
    while kept and not kept[-1]:
        kept.pop()
    return kept


def difference(before: list[str], after: list[str]) -> str:
    """Return the unified difference of two configurations without their secrets; empty if they are the same."""
    found = unified_diff(masked(before), masked(after), "before", "after", lineterm="")
    text = "".join(f"{line}\n" for line in found)
    if not text and _meant(before) != _meant(after):
        return "Only secrets differ; they are not shown.\n"
    return text


def same(one: list[str], other: list[str]) -> bool:
    """Whether two configurations mean the same: comments and blank lines aside."""
    return _meant(one) == _meant(other)


def _meant(lines: list[str]) -> list[str]:
    return [line for line in lines if line.strip() and line.strip() not in ("!", "#") and not line.startswith("! ")]


def holds(lines: list[str], wanted: str) -> bool:
    """Whether a line stands in a configuration just as it was sent, whatever its indentation."""
    return any(line.lstrip(" ") == wanted.lstrip(" ") for line in lines)


@dataclass(slots=True)
class _Node:
    line: str
    children: dict[str, "_Node"] = field(default_factory=dict)


def _tree(lines: list[str]) -> _Node:
    root = _Node("")
    open_nodes: list[tuple[int, _Node]] = [(-1, root)]
    for line in lines:
        text = line.strip()
        if not text or text.startswith("!") or _CLOSES.match(text):
            continue
        indent = len(line) - len(line.lstrip(" "))
        while open_nodes[-1][0] >= indent:
            open_nodes.pop()
        node = open_nodes[-1][1].children.setdefault(text, _Node(text))
        open_nodes.append((indent, node))
    return root


def way_back(
    before: list[str], after: list[str], platform: Platform, stubborn: frozenset[str] = frozenset()
) -> list[str] | None:
    """Return the lines that turn `after` into `before`; None if the platform's lines cannot be turned round.

    stubborn: sections that cannot be taken away as a whole (address families); their lines are, one by one.
    """
    if platform.inverse == "set":
        return list(_flat(before, after))
    if platform.inverse == "no":
        return list(_nested(_tree(before), _tree(after), "", stubborn))
    return None


def _flat(before: list[str], after: list[str]) -> Iterator[str]:
    known, new = set(before), set(after)
    turned = {"set": "delete", "deactivate": "activate", "activate": "deactivate"}
    for line in reversed(after):
        verb, _, rest = line.strip().partition(" ")
        if line not in known and verb in turned:
            yield f"{turned[verb]} {rest}"
    yield from (line.strip() for line in before if line not in new and line.strip())


def _nested(before: _Node, after: _Node, indent: str, stubborn: frozenset[str]) -> Iterator[str]:
    for text in reversed(after.children):
        if text not in before.children:
            if text in stubborn and after.children[text].children:
                yield indent + text
                yield from _nested(_Node(text), after.children[text], indent + " ", stubborn)
                yield f"{indent} exit"
            else:
                yield indent + negated(text)
    for text, node in before.children.items():
        if text in after.children:
            inner = list(_nested(node, after.children[text], indent + " ", stubborn))
            if inner:
                yield indent + text
                yield from inner
                yield f"{indent} exit"
        else:
            yield from _whole(node, indent)


def _whole(node: _Node, indent: str) -> Iterator[str]:
    yield indent + node.line
    if node.children:
        for child in node.children.values():
            yield from _whole(child, indent + " ")
        yield f"{indent} exit"


def negated(text: str) -> str:
    """Return the line that takes a line away, as IOS and its kin have it."""
    if text.startswith("no "):
        return text[3:]
    return "no description" if text.startswith("description ") else f"no {text}"
