"""Values in scripts for Windows, so that they arrive exactly as they are, or are refused. Pure.

PowerShell: a value becomes a variable, assigned before the script as a literal and referred to in it; PowerShell never
parses a variable again. A secret is read from standard input and stands in no text. Where no variable can stand, in
single quotes, the value is written out with every kind of quote doubled.
cmd has no such thing: it replaces %NAME% before it reads the line. There a value is written out, in double quotes, as
long as nothing in it means anything there; all else, and every secret, is refused.
Sources: about_Quoting_Rules and about_Parsing of PowerShell; the phases of cmd's parser as documented for SET and CALL.
"""

import base64
import re
from collections.abc import Sequence
from typing import Any, Literal

from msp.errors import Misconfigured
from msp.secret import Secret

MARK = "\0"
Place = Literal["bare", "double", "single", "document", "literal", "comment"]
SINGLE = "'\u2018\u2019\u201a\u201b"  # PowerShell takes typographic quotes for plain ones
DOUBLE = '"\u201c\u201d\u201e'
_BEFORE = " \t\n(,;={[|&!"  # what may stand on the left of a bare value
_AFTER = " \t\n),;}]|&"
_ENDS_LINE = "\r\n"  # PowerShell ends a line at either
_HERE_ENDS = re.compile(rf"[{_ENDS_LINE}][{DOUBLE}]@")
_LITERAL_ENDS = re.compile(rf"[{_ENDS_LINE}][{SINGLE}]@")
_FOOTER = re.compile(rf"(?:\A|[{_ENDS_LINE}\v\f\x85\u2028\u2029])\s*[{SINGLE}]@")  # or what may be taken for one
_LINE_END = re.compile(f"[{_ENDS_LINE}]")
_SINGLE_ENDS = re.compile(rf"[{SINGLE}]{{2}}|[{SINGLE}]")
_PLAIN = re.compile(r"[A-Za-z0-9_+:./\\-]+")  # means itself to cmd, bare and in quotes
_AGAIN = re.compile(r"(?i)\b(call|for|cmd|start|powershell)\b|\|")  # a part of the line is read a second time
USE_POWERSHELL = "Use a powershell step, which carries any value."


class _PowerShell:
    """Walks a script once and notes where each MARK stands. `stack`: code, double quotes, here-document."""

    def __init__(self, script: str) -> None:
        self._text, self._at = script, 0
        self.places: list[tuple[Place, int]] = []

    def walk(self) -> list[tuple[Place, int]]:
        text, stack = self._text, ["code"]
        while self._at < len(text):
            char, top = text[self._at], stack[-1]
            if char == MARK:
                place: Place = "bare" if top in ("code", "group") else "document" if top == "here" else "double"
                self.places.append((place, self._at))
            elif char == "`":
                self._at += 0 if text[self._at + 1 : self._at + 2] == MARK else 1
            elif text.startswith("${", self._at):
                end = text.find("}", self._at)
                self._at = len(text) if end < 0 else end
                if MARK in text[: self._at].rpartition("${")[2]:
                    raise Misconfigured("A value stands in the name of a variable.", advice="Use Get-Variable.")
            elif top in ("code", "group"):
                self._code(char, stack)
            elif char == "$" and text[self._at + 1 : self._at + 2] == "(":
                stack.append("group")
                self._at += 1
            elif top == "here":
                if _HERE_ENDS.match(text, self._at):
                    stack.pop()
                    self._at += 2
            elif char in DOUBLE:
                if text[self._at + 1 : self._at + 2] in tuple(DOUBLE):
                    self._at += 1  # doubled: a quote itself
                else:
                    stack.pop()
            self._at += 1
        return self.places

    def _code(self, char: str, stack: list[str]) -> None:
        text, at = self._text, self._at
        if char == "@" and text[at + 1 : at + 2] in tuple(SINGLE + DOUBLE) and _ends_line(text, at + 2):
            if text[at + 1] in DOUBLE:
                stack.append("here")
                self._at += 1
            else:
                found = _LITERAL_ENDS.search(text, at)
                self._skip(found.end() if found else len(text), "literal")
        elif char in SINGLE:
            found = _SINGLE_ENDS.search(text, at + 1)
            while found and len(found[0]) == 2:  # doubled: a quote itself
                found = _SINGLE_ENDS.search(text, found.end())
            self._skip(found.end() if found else len(text), "single")
        elif char in DOUBLE:
            stack.append("double")
        elif char == "<" and text.startswith("<#", at):
            end = text.find("#>", at)
            self._skip(len(text) if end < 0 else end + 2, "comment")
        elif char == "#" and (at == 0 or text[at - 1] in " \t\r\n(){};,|&"):
            found = _LINE_END.search(text, at)
            self._skip(found.start() if found else len(text), "comment")
        elif char == "(":
            stack.append("group")
        elif char == ")" and len(stack) > 1:
            stack.pop()
        elif text.startswith("--%", at):
            raise Misconfigured("--% keeps variables from being read.", advice="Give arguments without --%.")

    def _skip(self, end: int, place: Place) -> None:
        self.places += [(place, at) for at in range(self._at, end) if self._text[at] == MARK]
        self._at = end - 1


def _ends_line(text: str, at: int) -> bool:
    return _LINE_END.split(text[at:], maxsplit=1)[0].strip(" \t") == ""


def powershell(body: str, values: Sequence[Any], what: str) -> tuple[str, list[str]]:
    """Return a script in which each MARK of `body` is filled, and the secrets in order of their lines on stdin.

    Raises Misconfigured for a value that cannot stand where it does.
    """
    pieces = body.split(MARK)
    filled = [pieces[0]]
    assigned: list[str] = []
    secrets: list[str] = []

    def reference(given: Any) -> str:
        """A value as an expression."""
        if given is None:
            return "$null"
        if isinstance(given, bool):
            return "$true" if given else "$false"
        if isinstance(given, int | float):
            return str(given) if given >= 0 else f"({given})"
        if isinstance(given, Secret):
            if given.value not in secrets:
                secrets.append(_whole(given.value, what))
            return f"${{msp_s{secrets.index(given.value) + 1}}}"
        name = f"msp_{len(assigned) + 1}"
        assigned.append(f"${name}={_literal(_whole(str(given), what))}\n")
        return f"${{{name}}}"

    for given, (place, at), piece in zip(values, _PowerShell(body).walk(), pieces[1:], strict=True):
        if place in ("single", "literal", "comment"):
            filled.append(_written_out(given, place, what))
        elif place == "bare":
            _stands_alone(body, at, given, what)
            if isinstance(given, list | tuple):
                filled.append(f"@({','.join(reference(item) for item in given)})")
            else:
                filled.append(reference(given))
        else:
            if isinstance(given, list | tuple):
                raise Misconfigured(f"{what}: a list stands in quotes.", advice="Write it without quotes.")
            filled.append(reference(given if isinstance(given, Secret) else _text(given)))
        filled.append(piece)
    ends = len(_FOOTER.findall("".join(filled)))  # also one that a value and the text around it make together
    if ends != len(_FOOTER.findall(body)):
        raise Misconfigured(f"{what}: a value ends the here-document it stands in.", advice='Use @" and "@.')
    readings = [f"$msp_s{n}=&$msp_text $msp_in[{n - 1}]\n" for n in range(1, len(secrets) + 1)]
    return "".join([*readings, *assigned, *filled]), secrets


def lines(secrets: Sequence[str]) -> bytes:
    """Return the standard input that carries secrets to a PowerShell script."""
    return b"".join(base64.b64encode(secret.encode()) + b"\n" for secret in secrets)


def _text(given: Any) -> str:
    if given is True or given is False:
        return "true" if given else "false"
    return "" if given is None else str(given)


def _whole(text: str, what: str) -> str:
    """Return a text that Windows can carry; raises Misconfigured for NUL and for bytes that were no text."""
    if MARK in text:
        raise Misconfigured("A value holds a NUL character, which no shell can carry.", advice="Remove it.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Misconfigured(f"{what}: a value is not valid Unicode.", advice="Give text, not bytes.") from error
    return text


def _literal(text: str) -> str:
    if text.isprintable():
        return f"'{_doubled(text)}'"
    return f"&$msp_text '{base64.b64encode(text.encode()).decode()}'"


def _doubled(text: str) -> str:
    return re.sub(f"([{SINGLE}])", r"\1\1", text)


def _written_out(given: Any, place: Place, what: str) -> str:
    if isinstance(given, Secret | list | tuple):
        kind = "a secret" if isinstance(given, Secret) else "a list"
        raise Misconfigured(f"{what}: {kind} cannot stand there.", advice="Write it without single quotes.")
    text = _whole(_text(given), what)
    if place == "comment":
        return re.sub(r"[^\w .:/\\-]", "_", text)  # nothing that could end it, or mean anything should it be none
    if place == "literal":
        return text  # looked at when it stands in its line
    return _doubled(text)


def _stands_alone(body: str, at: int, given: Any, what: str) -> None:
    """Raise Misconfigured for a bare value that is a part of a word: only quotes say where it ends."""
    if isinstance(given, int) and not isinstance(given, bool):
        return
    before, after = body[at - 1] if at else "\n", body[at + 1 : at + 2] or "\n"
    if before not in _BEFORE + MARK or after not in _AFTER + MARK or MARK in (before, after):
        raise Misconfigured(f"{what}: a value stands in the middle of a word.", advice="Put the word in double quotes.")


def cmd(body: str, values: Sequence[Any], what: str) -> str:
    """Return a batch file in which each MARK of `body` is filled; raises Misconfigured for what cannot be carried."""
    pieces, given = body.split(MARK), iter(values)
    lines, filled = body.split("\n"), [pieces[0]]
    for number, line in enumerate(lines):
        quoted = False
        for at, char in enumerate(line):
            if char == '"' and (quoted or line[at - 1 : at] != "^"):
                quoted = not quoted
            elif char == MARK:
                filled.append(_word(next(given), line, at, quoted, body, f"{what}, line {number + 1}"))
                filled.append(pieces[len(filled) // 2])
    return "".join(filled)


def _word(given: Any, line: str, at: int, quoted: bool, body: str, what: str) -> str:
    if isinstance(given, Secret):
        raise Misconfigured(f"{what}: a secret would stand on a command line of cmd.", advice=USE_POWERSHELL)
    if isinstance(given, list | tuple):
        if quoted:
            raise Misconfigured(f"{what}: a list stands in quotes.", advice="Write it without quotes.")
        return " ".join(_word(item, line, at, quoted, body, what) for item in given)
    text = _whole(_text(given), what)
    ends = line[at + 1 : at + 2] == '"'
    if _PLAIN.fullmatch(text) and not (quoted and ends and text.endswith("\\")):
        return text
    if not quoted:
        advice = f'Put it in double quotes: "{{{{ ... }}}}". {USE_POWERSHELL}'
        raise Misconfigured(f"{what}: {text!r} cannot stand in a cmd script without quotes.", advice=advice)
    if '"' in text or not all(char.isprintable() for char in text):
        raise Misconfigured(f"{what}: cmd cannot carry a quote or a control character.", advice=USE_POWERSHELL)
    if text.endswith("\\") and ends:
        raise Misconfigured(f"{what}: a backslash before the closing quote would hide it.", advice=USE_POWERSHELL)
    if set(text) & set("%^!") and _AGAIN.search(line):
        raise Misconfigured(f"{what}: cmd reads this line twice, and {text!r} would change.", advice=USE_POWERSHELL)
    if "!" in text and "delayedexpansion" in body.lower():
        raise Misconfigured(f"{what}: delayed expansion would change {text!r}.", advice=USE_POWERSHELL)
    return text.replace("%", "%%")
