"""Parameters of a playbook: typed, checked before anything is opened, one sentence per fault. Pure."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from msp.errors import Misconfigured

#: A secret is never given as itself, only by where it is kept.
SECRET_REFERENCE = re.compile(
    r"(vault:[A-Za-z0-9][A-Za-z0-9._/@ -]{0,199}|bao:[A-Za-z0-9._/@#-]{3,400}|env:[A-Za-z_][A-Za-z0-9_]*|file:.+)"
)
IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]{0,63}", re.IGNORECASE)
_LANGUAGE = "host run item parameters params true false none not and or in is if else"
_GLOBALS = "range dict lipsum cycler joiner namespace"
RESERVED = frozenset(f"{_LANGUAGE} {_GLOBALS}".split())


class Parameter(BaseModel):
    """What may be given under one name. Without a default it must be given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["string", "int", "bool", "choice", "secret", "asset"]
    summary: str = ""
    summary_ru: str = ""
    default: str | int | bool | None = None
    pattern: str | None = Field(default=None, description="Regular expression that the whole text must match.")
    choices: tuple[str, ...] = ()
    min: int | None = None
    max: int | None = None
    optional: bool = Field(default=False, description="May be left out; its value is then empty.")

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, given: Any) -> Any:
        return {"type": given} if isinstance(given, str) else given

    @property
    def required(self) -> bool:
        return self.default is None and not self.optional

    def faults(self) -> Iterable[tuple[str, str]]:
        """Yield (key, message) of what is wrong with the definition itself."""
        if self.type == "choice" and not self.choices:
            yield "type", "A choice needs `choices`."
        if self.type != "choice" and self.choices:
            yield "choices", f"`choices` go with type choice, not {self.type}."
        if self.pattern is not None:
            if self.type not in ("string", "asset"):
                yield "pattern", f"`pattern` goes with type string, not {self.type}."
            try:
                re.compile(self.pattern)
            except re.error as error:
                yield "pattern", f"This is not a regular expression: {error}."
                return
        if (self.min is not None or self.max is not None) and self.type != "int":
            yield "min" if self.min is not None else "max", f"`min` and `max` go with type int, not {self.type}."
        if self.default is not None:
            if self.type == "secret":
                yield "default", "A secret has no default; it is given as vault:NAME when the playbook is run."
                return
            try:
                self.value("default", self.default)
            except Misconfigured as error:
                yield "default", error.what

    def value(self, name: str, given: Any) -> Any:
        """Return `given` (text from a command line or a typed value) as this type. Raises Misconfigured."""
        match self.type:
            case "int":
                return self._int(name, given)
            case "bool":
                found = {"true": True, "yes": True, "1": True, "on": True, "false": False, "no": False, "0": False,
                         "off": False}.get(str(given).strip().lower())  # fmt: skip
                if found is None:
                    raise Misconfigured(f"Parameter {name} is {given!r}; it must be true or false.")
                return found
            case "choice":
                if str(given) not in self.choices:
                    raise Misconfigured(f"Parameter {name} is {given!r}; choose one of {', '.join(self.choices)}.")
                return str(given)
            case "secret":
                if not SECRET_REFERENCE.fullmatch(str(given)):
                    raise Misconfigured(
                        f"Parameter {name} is a secret and must be given by reference.",
                        advice="Give vault:NAME (see msp vault put), bao:PATH#FIELD, env:VARIABLE or file:PATH.",
                    )
                return str(given)
        if isinstance(given, bool | float) or not isinstance(given, str | int):
            raise Misconfigured(f"Parameter {name} is {given!r}; it must be text.")
        text = str(given)
        if "\0" in text:
            raise Misconfigured(f"Parameter {name} holds a NUL character, which no shell can carry.")
        if self.pattern is not None and not re.fullmatch(self.pattern, text):
            raise Misconfigured(f"Parameter {name} is {text!r}; it must match {self.pattern}.")
        return text

    def _int(self, name: str, given: Any) -> int:
        try:
            if isinstance(given, bool) or not re.fullmatch(r"[+-]?\d{1,18}", str(given).strip(), re.ASCII):
                raise ValueError
            number = int(given)
        except ValueError as error:
            raise Misconfigured(f"Parameter {name} is {given!r}; it must be a whole number.") from error
        if self.min is not None and number < self.min:
            raise Misconfigured(f"Parameter {name} is {number}; it must be at least {self.min}.")
        if self.max is not None and number > self.max:
            raise Misconfigured(f"Parameter {name} is {number}; it must be at most {self.max}.")
        return number


def resolve(defined: Mapping[str, Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a value for every defined parameter; secrets stay references. Raises Misconfigured."""
    from difflib import get_close_matches

    for name in given:
        if name not in defined:
            near = get_close_matches(name, defined, n=1)
            known = f"Known: {', '.join(defined)}." if defined else "This playbook takes none."
            raise Misconfigured(f"There is no parameter {name}.", advice=f"Did you mean {near[0]}?" if near else known)
    values: dict[str, Any] = {}
    for name, parameter in defined.items():
        if name in given:
            values[name] = parameter.value(name, given[name])
        elif parameter.default is not None:
            values[name] = parameter.value(name, parameter.default)
        elif parameter.optional:
            values[name] = None if parameter.type == "secret" else ""
        else:
            raise Misconfigured(
                f"Parameter {name} is missing.", advice=f"Give it with --param {name}=... {parameter.summary}".strip()
            )
    return values


def split(pairs: Iterable[str]) -> dict[str, str]:
    """Return `name=value` words as a mapping. Raises Misconfigured."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise Misconfigured(f"Parameter {pair!r} is not name=value.", advice="Write --param path=/var/tmp.")
        if name in found:
            raise Misconfigured(f"Parameter {name} is given twice.", advice="Give it once.")
        found[name] = value
    return found
