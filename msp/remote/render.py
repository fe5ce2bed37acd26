"""Fill in templates: sandboxed, an undefined name is an error, and values reach the shell exactly as they are.

In a script a value is quoted by default: a plain word is written out, anything else becomes a variable that is
assigned before the script and only referred to in it. A secret is read from standard input, so it stands neither
in the rendered text nor on the far side's process list. `| raw` is the explicit way out.
"""

import base64
import json
import posixpath
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, Undefined, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from msp.errors import Misconfigured
from msp.remote.payload import Payload
from msp.remote.shell_places import MARK, Place, places
from msp.secret import Secret

_PLAIN = re.compile(r"[A-Za-z0-9_@%+:,./-]+")  # means itself bare, quoted and in a here-document
_SHELLS = ("sh", "bash", "dash", "ksh", "ash", "zsh")
_COLLECTED = "_values"
_FORBIDDEN = (nodes.Macro, nodes.CallBlock, nodes.FilterBlock, nodes.AssignBlock, nodes.Import, nodes.FromImport,
              nodes.Include, nodes.Extends, nodes.Block)  # fmt: skip


class Raw(str):
    """Text that goes into a script unquoted because the playbook says so."""

    __slots__ = ()


class UndefinedName(Misconfigured):
    """A template uses a name that has no value (yet)."""


@dataclass(frozen=True, slots=True)
class Script:
    """What goes over the wire. `shown` is what may be stored and displayed: `text` never holds a secret."""

    text: str
    stdin: bytes = b""
    reads_secrets: int = 0  # lines of stdin that are secrets
    payload: Payload | None = None  # what it reads after `stdin`
    staged: "Staged | None" = None  # the same without the program that takes the payload in


@dataclass(frozen=True, slots=True)
class Staged:
    """How a folder is put in place whose files came one by one: what makes room for them, places them, tidies up."""

    begin: Script
    place: Script
    end: Script


@pass_context
def _finalize(context: Context, value: Any) -> Any:
    """Put a mark where a value stands, and keep the value; text mode keeps none and gets the value itself."""
    if isinstance(value, Undefined):
        str(value)  # raises, with the name
    collected = context.get(_COLLECTED)
    if collected is None:
        return value.value if isinstance(value, Secret) else "" if value is None else value
    if isinstance(value, Raw):
        return _without_nul(str(value))
    collected.append(value)
    return MARK


def _without_nul(text: str) -> str:
    if MARK in text:
        raise Misconfigured("A value holds a NUL character, which no shell can carry.", advice="Remove it.")
    return text


def _split(given: Any, by: str | None = None) -> list[str]:
    return str(given).split(by)


class _Environment(ImmutableSandboxedEnvironment):
    def make_globals(self, d: Any) -> Any:
        """Return the names that every template sees, as one plain dict: they never change, and each use copies them."""
        return {**self.globals, **(d or {})}


def _environment() -> ImmutableSandboxedEnvironment:
    environment = _Environment(
        undefined=StrictUndefined, finalize=_finalize, keep_trailing_newline=True, autoescape=False
    )
    environment.filters |= {
        "raw": lambda value: Raw(value),
        "quote": lambda value: shlex.quote(str(value)),
        "basename": lambda value: posixpath.basename(str(value)),
        "dirname": lambda value: posixpath.dirname(str(value)),
        "b64encode": lambda value: base64.b64encode(str(value).encode("utf-8", "surrogateescape")).decode(),
        "json": lambda value: json.dumps(value, ensure_ascii=False),
        "from_json": lambda value: json.loads(value),
        "split": _split,
    }
    for name in ("safe", "escape", "e", "forceescape", "urlize", "xmlattr", "random", "pprint", "tojson"):
        environment.filters.pop(name, None)
    return environment


ENVIRONMENT = _environment()
BUILT_IN = frozenset(ENVIRONMENT.globals)
_template = lru_cache(maxsize=2048)(ENVIRONMENT.from_string)


@lru_cache(maxsize=2048)
def _expression(source: str) -> Callable[..., Any]:
    compiled: Callable[..., Any] = ENVIRONMENT.compile_expression(source, undefined_to_none=False)
    return compiled


def names_in(source: str, *, expression: bool = False, secrets: Iterable[str] = ()) -> list[tuple[str, int]]:
    """Return (name, line) of every variable a template needs from outside.

    Raises TemplateSyntaxError, also for what is not offered here (macros, includes) and for a secret that is
    used for anything but being written out.
    """
    hidden = set(secrets)
    tree = ENVIRONMENT.parse("{{ (" + bare_expression(source) + ") }}" if expression else source)
    for node in tree.find_all(_FORBIDDEN):
        raise TemplateSyntaxError("macros, blocks, includes and set-blocks are not offered here", node.lineno)
    assigned = {name.name for name in tree.find_all(nodes.Name) if name.ctx != "load"}
    plain = {id(part) for output in tree.find_all(nodes.Output) for part in output.nodes}
    found = []
    for name in tree.find_all(nodes.Name):
        if name.ctx == "load" and name.name not in assigned and name.name not in BUILT_IN:
            if name.name in hidden and (expression or id(name) not in plain):
                raise TemplateSyntaxError(f"secret {name.name} may only be written out, not computed with", name.lineno)
            found.append((name.name, name.lineno))
    return found


def bare_expression(source: str) -> str:
    """Return an expression without the braces that people put around it by habit."""
    text = source.strip()
    if text.startswith("{{") and text.endswith("}}") and "{{" not in text[2:]:
        return text[2:-2].strip()
    return text


def _guarded(what: str, error: Exception) -> Misconfigured:
    if isinstance(error, TemplateError) and "undefined" in str(error) and not isinstance(error, SecurityError):
        return UndefinedName(f"{what}: {error}.", advice="Give the parameter, or register it in a step before.")
    return Misconfigured(f"{what}: {error}.", advice="Correct the template; msp playbook check names the line.")


def value(source: str, scope: Mapping[str, Any], what: str = "The expression") -> Any:
    """Return what an expression (`when`, `loop`, `assert`) comes to."""
    try:
        result = _expression(bare_expression(source))(**scope)
        if isinstance(result, Undefined):
            str(result)
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        raise _guarded(what, error) from error
    return result


def text(source: str, scope: Mapping[str, Any], what: str = "The text") -> str:
    """Return a template filled in verbatim, secrets included: for file contents and names, never for a shell."""
    if "{" not in source:
        return source
    try:
        return _template(source).render(scope)
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        raise _guarded(what, error) from error


def script(source: str, scope: Mapping[str, Any], what: str = "The script") -> Script:
    """Return a shell script with every value in it quoted; see the head of this module.

    Raises UndefinedName, or Misconfigured for what cannot be quoted (text in arithmetic, a newline in a quoted
    here-document, a NUL).
    """
    if "{" not in source:
        return Script(source)
    values: list[Any] = []
    try:
        marked = _template(source).render({**scope, _COLLECTED: values})
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        raise _guarded(what, error) from error
    if not values:
        return Script(marked)
    head, body = "", marked
    if marked.startswith("#!"):
        head, _, body = marked.partition("\n")
        if head in ("#!powershell", "#!cmd"):
            return _for_windows(head, body, values, what)
        if head.split()[-1].rpartition("/")[2] not in _SHELLS:
            raise Misconfigured(
                f"{what}: values can be put into shell scripts only, not for {head}.",
                advice="Call the program from a shell script and give it arguments.",
            )
        head += "\n"
    return _Filling(what).fill(head, body, values)


def _for_windows(head: str, body: str, values: list[Any], what: str) -> Script:
    from msp.remote.winrm import quoting

    if head == "#!cmd":
        return Script(f"{head}\n{quoting.cmd(body, values, what)}")
    filled, secrets = quoting.powershell(body, values, what)
    return Script(f"{head}\n{filled}", quoting.lines(secrets), len(secrets))


class _Filling:
    """Writes values into one script and keeps the variables that they need."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._assigned: list[str] = []
        self._secrets: list[str] = []

    def fill(self, head: str, body: str, values: list[Any]) -> Script:
        cut = places(body)
        parts = [cut.pieces[0]]
        for given, place, piece in zip(values, cut.places, cut.pieces[1:], strict=True):
            if isinstance(given, list | tuple):
                parts.append(" ".join(self._one(item, place) for item in given))
            else:
                parts.append(self._one(given, place))
            parts.append(piece)
        readings = [
            f"IFS= read -r msp_s{n}; msp_s{n}=$(printf '%b.' \"$msp_s{n}\"); msp_s{n}=${{msp_s{n}%.}}\n"
            for n in range(1, len(self._secrets) + 1)
        ]
        stdin = "".join(line + "\n" for line in self._secrets).encode("utf-8", "surrogateescape")
        filled = "".join(parts)
        for word in cut.words:  # a value must not end the here-document it stands in
            if _endings(filled, word) != _endings(body, word):
                raise Misconfigured(f"{self._what}: a value is {word!r}, which ends the here-document it stands in.")
        return Script(head + "".join(readings) + "".join(self._assigned) + filled, stdin, len(self._secrets))

    def _one(self, given: Any, place: Place) -> str:
        if isinstance(given, Secret):
            if place in ("literal", "arithmetic", "unsure"):
                raise Misconfigured(f"{self._what}: a secret cannot stand there.", advice="Write it with printf %s.")
            plain = _without_nul(given.value).replace("\\", "\\0134").replace("\n", "\\012")
            if plain not in self._secrets:
                self._secrets.append(plain)
            return _reference(f"msp_s{self._secrets.index(plain) + 1}", place)
        if given is True or given is False:
            given = "true" if given else "false"
        content = "" if given is None else _without_nul(str(given))
        if place == "arithmetic" and not re.fullmatch(r"-?\d+", content):
            raise Misconfigured(f"{self._what}: {content!r} stands in arithmetic and is no whole number.")
        if _PLAIN.fullmatch(content) and place != "document":
            return content
        if place == "unsure":
            raise Misconfigured(
                f"{self._what}: {content!r} cannot stand in a place about whose quotes shells differ.",
                advice="Assign it to a variable on a line before, and use that in double quotes.",
            )
        if place == "literal":
            if "\n" in content:
                raise Misconfigured(
                    f"{self._what}: a value of several lines stands in a quoted here-document.",
                    advice="Leave the quotes of the delimiter away; the value arrives verbatim all the same.",
                )
            return content
        name = f"msp_{len(self._assigned) + 1}"
        self._assigned.append(f"{name}={shlex.quote(content)}\n")
        return _reference(name, place)


def _endings(text: str, word: str) -> int:
    """Count the lines that end a here-document: `<<-` lets tabs come first, bash in $( ) a parenthesis after."""
    lines = (line.lstrip("\t") for line in text.split("\n"))
    return sum(line == word or line.startswith(f"{word})") for line in lines)


def _reference(name: str, place: Place) -> str:
    match place:
        case "bare":
            return f'"${{{name}}}"'
        case "single":
            return f"'\"${{{name}}}\"'"
        case _:
            return f"${{{name}}}"
