"""What a `network` step may say, and how it is filled in: one line of a template is one line for the device."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from msp.errors import Misconfigured
from msp.remote.beside import Folder
from msp.remote.network.work import Line, Look, NetworkWork
from msp.remote.playbook_part import Duration, Part
from msp.secret import Secret

LONGEST = 500  # characters of a line; devices wrap or cut longer ones
_PLAIN = re.compile(r"[\w.:/,@+=-]+( [\w.:/,@+=-]+)*")  # words no command line gives a meaning of its own
_FILLED = re.compile(r"\{\{.*?\}\}|\{%.*?%\}")
Fill = Callable[[str], Any]


def _lines(given: Any) -> Any:
    """Return the lines of a block, or a list as it is: values are filled in later and can add none."""
    return [line for line in given.splitlines() if line.strip()] if isinstance(given, str) else given


Lines = Annotated[
    tuple[str, ...],
    BeforeValidator(_lines),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]


class Expect(Part):
    """A command that only looks, and what its answer must hold."""

    show: str = Field(min_length=1)
    contains: str | None = None
    matches: str | None = Field(default=None, description="Regular expression, looked for line by line.")
    absent: bool = Field(default=False, description="The text must not be there.")

    @model_validator(mode="after")
    def _one(self) -> "Expect":
        if (self.contains is None) == (self.matches is None):
            raise ValueError("needs contains or matches, and not both")
        _compiled(self.matches)
        return self

    def look(self, fill: Fill, what: str) -> Look:
        """Return it filled in."""
        return _look(fill, what, (self.show,), self.contains, self.matches, absent=self.absent)


class Network(Part):
    """What to ask of a router or switch. Exactly one of show, config, backup and revert, or save alone."""

    show: Lines = Field(default=(), description="Commands that only look; their answers are the output.")
    contains: str | None = Field(default=None, description="With show: fails (status 1) unless the answers hold it.")
    matches: str | None = Field(default=None, description="With show: the same, as a regular expression.")
    absent: bool = Field(default=False, description="With contains or matches: it must not be there.")
    within: Duration | None = Field(default=None, description="Ask again until it holds, at most this long.")
    config: Lines = Field(default=(), description="Lines of configuration; the difference they make is the output.")
    verify: tuple[Expect, ...] = Field(
        default=(), description="With config: must hold afterwards, or the lines are taken back."
    )
    deadman: Duration | None = Field(
        default=None, description="With config and verify: taken back unless proven from a new log-in in this time."
    )
    save: bool = Field(default=False, description="Write the running configuration, and check that it was written.")
    backup: bool = Field(default=False, description="Keep the running configuration as a version of the device.")
    revert: bool = Field(default=False, description="As an undo: bring back the configuration from before the step.")
    enable: str | None = Field(default=None, description="Enable secret, if it is not the password of the log-in.")

    @model_validator(mode="after")
    def _fits(self) -> "Network":
        acts = [name for name in ("show", "config", "backup", "revert") if getattr(self, name)]
        if len(acts) > 1 or not (acts or self.save):
            raise ValueError("needs exactly one of show, config, backup and revert, or save alone")
        if (self.contains or self.matches) and not self.show:
            raise ValueError("contains and matches go with show; with config, write verify")
        if self.contains is not None and self.matches is not None:
            raise ValueError("needs contains or matches, and not both")
        if self.absent and not (self.contains or self.matches):
            raise ValueError("absent goes with contains or matches")
        if self.within and not (self.contains or self.matches or self.verify):
            raise ValueError("within goes with contains, matches or verify")
        if (self.verify or self.deadman) and not self.config:
            raise ValueError("verify and deadman go with config")
        if self.deadman and not self.verify:
            raise ValueError("deadman needs verify: nothing else tells when the change may stay")
        if self.save and (self.show or self.backup):
            raise ValueError("save goes with config or revert, or stands alone")
        _compiled(self.matches)
        return self

    @property
    def only_looks(self) -> bool:
        """Changes nothing on the device."""
        return bool(self.show or self.backup)

    @property
    def proves_itself(self) -> bool:
        """Needs no `check`: what it did is verified within the act."""
        return bool(self.verify) or not self.config

    def work(self, fill: Fill, folder: Folder | None, what: str) -> NetworkWork:
        """Return what to perform; see Special. Raises Misconfigured for a value that would become a command."""
        enable = fill(self.enable) if self.enable else None
        looks = [expect.look(fill, what) for expect in self.verify]
        if self.contains is not None or self.matches is not None:
            looks.append(_look(fill, what, self.show, self.contains, self.matches, absent=self.absent))
        return NetworkWork(
            step=what.rpartition(", ")[0] or what,
            show=tuple(one.text for one in _filled(fill, what, self.show)),
            config=tuple(_filled(fill, what, self.config)),
            looks=tuple(looks),
            within=self.within or timedelta(0),
            deadman=self.deadman,
            save=self.save,
            backup=self.backup,
            revert=self.revert,
            enable=None if enable is None else enable if isinstance(enable, Secret) else Secret(str(enable)),
        )


def _compiled(pattern: str | None) -> None:
    if pattern is not None and "{" not in pattern:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"matches is no regular expression: {error}") from error


def _look(
    fill: Fill, what: str, show: tuple[str, ...], contains: str | None, matches: str | None, *, absent: bool
) -> Look:
    wanted = fill(contains) if contains is not None else _pattern(fill, matches or "")
    if isinstance(wanted, Secret):
        raise Misconfigured(
            f"{what}: a secret cannot be looked for in what a device shows.", advice="Look for something else."
        )
    if contains is None:
        try:
            re.compile(wanted)
        except re.error as error:
            raise Misconfigured(f"{what}: {wanted!r} is no regular expression: {error}.") from error
    commands = tuple(line.text for line in _filled(fill, what, show))
    return Look(commands, str(wanted), pattern=contains is None, absent=absent)


def _pattern(fill: Fill, template: str) -> Any:
    """Return a regular expression in which values stand for themselves: a dot in one is a dot."""
    if "{%" in template:
        return fill(template)
    parts = re.split(r"(\{\{.*?\}\})", template)
    filled = [fill(part) if part.startswith("{{") else part for part in parts]
    secret = next((part for part in filled if isinstance(part, Secret)), None)
    values = (
        re.escape(str(value)) if part.startswith("{{") else str(value)
        for part, value in zip(parts, filled, strict=True)
    )
    return secret or "".join(values)


def _filled(fill: Fill, what: str, templates: tuple[str, ...]) -> list[Line]:
    lines = [_line(fill(template), template, what) for template in templates]
    return [line for line in lines if line.text.strip()]


def _line(filled: Any, template: str, what: str) -> Line:
    """Return one line for a device; a value in it arrives verbatim, or is found out afterwards, or is refused here."""
    secret = isinstance(filled, Secret)
    text = filled.value if secret else str(filled)
    if re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", text):
        raise Misconfigured(
            f"{what}: a value for the line {template.strip()!r} holds a line break or a control character.",
            advice="On a device it would become a command of its own. Give one line of plain text.",
        )
    if len(text) > LONGEST:
        raise Misconfigured(f"{what}: a line comes to {len(text)} characters; devices take {LONGEST}.")
    if secret:
        words = len(_FILLED.sub("x", template).split())
        if len(text.split()) != words or text.count("|") > template.count("|"):
            raise Misconfigured(
                f"{what}: the secret in {template.strip()!r} is empty or holds a blank or a |.",
                advice="A device's command line would read it otherwise than it is; choose another.",
            )
        return Line(text, shown=template)
    exact = "{" in template and not _PLAIN.fullmatch(text.lstrip(" "))
    return Line(text, shown=text, exact=exact)
