"""The playbook language: one YAML file is one action. Every fault is told with its line and column. Pure.

`load` reads a file's text into a Playbook or raises Faulty; `schema` is the JSON Schema for editors.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any, Literal

from jinja2 import TemplateSyntaxError
from pydantic import Field, ValidationError, field_validator

from msp.remote import render
from msp.remote.parameters import IDENTIFIER, RESERVED, Parameter
from msp.remote.playbook_part import Account, Duration, Part
from msp.remote.playbook_steps import NOT_BUILT, Action, Step
from msp.remote.screen import meaning as screens
from msp.remote.yaml_source import Fault, Faulty, Path, Source, read

ActionClass = Literal["read", "change", "disruptive", "access"]
#: What playbooks of a class may include: nothing graver. Who may do what is a matter of its own, beside interruptions.
COVERS: dict[str, frozenset[str]] = {
    "read": frozenset({"read"}),
    "change": frozenset({"read", "change"}),
    "disruptive": frozenset({"read", "change", "disruptive"}),
    "access": frozenset({"read", "access"}),
}
AT_ONCE = 256  # hosts of a run at work at once, unless it or its playbook says otherwise: all of a shard
SHELL_KINDS = ("shell", "file", "service", "package", "wait_for", "http", "reboot", "include")
PROBE_KINDS = ("shell", "powershell", "cmd", "assert", "wait_for", "http")


class AppliesTo(Part):
    """Hosts that the playbook is meant for; empty means any."""

    platform: tuple[str, ...] = ()
    ci_type: tuple[str, ...] = ()

    @field_validator("platform", "ci_type", mode="before")
    @classmethod
    def _one_word(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else given


class Limits(Part):
    """How long things may take. A run of S steps ends within connect + S x step + 5 s."""

    connect: Duration = timedelta(seconds=20)
    idle: Duration | None = Field(default=None, description="Longest silence of a command.")
    step: Duration = Field(default=timedelta(minutes=5), description="One step with its probe and its check.")
    run: Duration | None = Field(default=None, description="The whole run, all hosts.")


class Playbook(Part):
    """One action, as written."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,79}$")
    version: str = "1"
    summary: str = ""
    summary_ru: str = ""
    action_class: ActionClass
    parameters: dict[str, Parameter] = Field(default_factory=dict)
    applies_to: AppliesTo = AppliesTo()
    transport: tuple[str, ...] = Field(default=(), description="Ways in that it works over; empty means any shell.")
    symptoms: tuple[str, ...] = Field(default=(), description="Symptoms of tickets that it helps with.")
    limits: Limits = Limits()
    become: bool | Account | None = Field(
        default=None, description="true: every script acts as root by sudo; or the name of an account."
    )
    max_fail: int | None = Field(
        default=None, ge=0, description="Hosts that may fail; one more, and no further one starts."
    )
    serial: int | None = Field(default=None, ge=1, description="Hosts at once, and the first failure stops the rest.")
    parallel: int | None = Field(default=None, ge=1, le=5000, description="Hosts at once.")
    offline: Literal["fail", "wait"] = Field(
        default="fail", description="wait: a host that does not answer is tried again until a visit must be planned."
    )
    steps: tuple[Step, ...] = Field(min_length=1)
    handlers: tuple[Step, ...] = Field(default=(), description="Steps run once at the end, when a step notifies them.")

    @field_validator("version", mode="before")
    @classmethod
    def _version_as_written(cls, given: Any) -> Any:
        return str(given) if isinstance(given, int | float) and not isinstance(given, bool) else given

    @field_validator("transport", "symptoms", mode="before")
    @classmethod
    def _one_word(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else given

    @property
    def at_once(self) -> int:
        """How many hosts are at work at once, unless the caller says otherwise."""
        return self.parallel or self.serial or AT_ONCE

    @property
    def secrets(self) -> frozenset[str]:
        """Names of the parameters that are secrets."""
        return frozenset(name for name, one in self.parameters.items() if one.type == "secret")


def digest(document: str | bytes) -> str:
    """Return the SHA-256 of a playbook's text: what a run stores and an approver sees."""
    return hashlib.sha256(document.encode() if isinstance(document, str) else document).hexdigest()


def load(
    text: bytes | str,
    *,
    known: Callable[[str], bool] | None = None,
    has_file: Callable[[str], bool] | None = None,
    class_of: Callable[[str], str | None] | None = None,
) -> Playbook:
    """Return the playbook in `text`; raises Faulty with every fault.

    known: tells whether a playbook that is included can be found; without it inclusion is not checked.
    has_file: tells whether a file stands beside the playbook; without it images are not looked for.
    class_of: tells the action class of a playbook that is included, or None if it has none.
    """
    source = read(text)
    if not isinstance(source.value, dict):
        raise Faulty([source.fault((), "A playbook is a list of keys such as name, action_class and steps.")])
    try:
        playbook = Playbook.model_validate(source.value)
    except ValidationError as error:
        raise Faulty(list(explained(error, source))) from error
    faults = list(_Meaning(playbook, source, known, class_of).faults())
    faults += [source.fault(path, message) for path, message in screens.faults(playbook, has_file)]
    if faults:
        raise Faulty(faults)
    return playbook


def _known_keys() -> frozenset[str]:
    from msp.remote import playbook_steps
    from msp.remote.screen import part as screen_part

    modules = (playbook_steps, screen_part)
    kinds = [kind for module in modules for kind in vars(module).values() if isinstance(kind, type)]
    models: list[type[Part]] = [*(kind for kind in kinds if issubclass(kind, Part)), AppliesTo, Limits, Playbook]
    fields = [field for part in models for field in part.model_fields.items()]
    return frozenset(field.alias or name for name, field in fields) | frozenset(Parameter.model_fields)


def explained(error: ValidationError, source: Source) -> Iterator[Fault]:
    """Turn pydantic's findings into sentences at the place where they stand."""
    from difflib import get_close_matches

    for found in error.errors(include_url=False):
        path: Path = tuple(found["loc"])
        last = path[-1] if path else ""
        match found["type"]:
            case "extra_forbidden":
                near = get_close_matches(str(last), _known_keys(), n=1)
                hint = f" Did you mean {near[0]!r}?" if near and near[0] != last else ""
                yield source.fault(path, f"Unknown key {last!r}.{hint}", key=True)
            case "too_short" if found["input"]:
                continue  # its items are faulty, not missing
            case "missing":
                yield source.fault(path[:-1], f"{last!r} is missing.")
            case "literal_error" | "enum":
                given = found.get("input")
                wanted = found["ctx"]["expected"].replace("'", "")
                yield source.fault(path, f"{last!r} is {given!r}; it must be {wanted}.")
            case "value_error":
                yield source.fault(path, f"{_subject(path)} {found['ctx']['error']}.")
            case _:
                said = found["msg"][0].lower() + found["msg"][1:]
                yield source.fault(path, f"{_subject(path)}: {said}.")


def _subject(path: Path) -> str:
    words = [part for part in path if isinstance(part, str)]
    return repr(words[-1]) if words else "The playbook"


class _Meaning:
    """Faults that only show when the parts are seen together."""

    def __init__(
        self,
        playbook: Playbook,
        source: Source,
        known: Callable[[str], bool] | None,
        class_of: Callable[[str], str | None] | None,
    ) -> None:
        self._playbook, self._source, self._known, self._class_of = playbook, source, known, class_of
        self._names = set(playbook.parameters) | {"host", "run", "parameters", "params"}

    def faults(self) -> Iterator[Fault]:
        book = self._playbook
        for name, parameter in book.parameters.items():
            path: Path = ("parameters", name)
            if not IDENTIFIER.fullmatch(name) or name in RESERVED:
                why = "is a word of the language" if name in RESERVED else "must be letters, digits and _"
                yield self._source.fault(path, f"The name {name!r} {why}.", key=True)
            for key, message in parameter.faults():
                yield self._source.fault((*path, key), message)
        if book.serial and book.parallel:
            yield self._source.fault(("parallel",), "Give `serial` or `parallel`, not both.", key=True)
        handlers = {step.name for step in book.handlers}
        for where in ("steps", "handlers"):
            steps: tuple[Step, ...] = getattr(book, where)
            for number, step in enumerate(steps):
                yield from self._step((where, number), step, handlers if where == "steps" else set())
        for number, step in enumerate(book.handlers):
            if not step.name:
                yield self._source.fault(("handlers", number), "A handler needs a name.")

    def _step(self, path: Path, step: Step, handlers: set[str]) -> Iterator[Fault]:
        at = self._source.fault
        kind = step.do.kind
        for phase in ("probe", "do", "check", "undo"):
            action: Action | None = getattr(step, phase)
            if action is None:
                continue
            if action.kind in NOT_BUILT:
                yield at((*path, phase), f"Steps of kind {action.kind} cannot run yet: {NOT_BUILT[action.kind]}.")
            if phase in ("probe", "check") and action.kind not in PROBE_KINDS and not action.only_looks:
                allowed = ", ".join(PROBE_KINDS)
                yield at((*path, phase), f"A {phase} only looks: use {allowed}, not {action.kind}.")
            if phase == "undo" and action.kind in ("include", "approve"):
                yield at((*path, phase), f"An undo cannot be of kind {action.kind}.")
        if step.become and kind not in SHELL_KINDS:
            yield at((*path, "become"), f"A step of kind {kind} does not act by sudo.", key=True)
        reads = self._playbook.action_class == "read" or step.changes is False or step.do.only_looks
        if kind == "network" and not step.do.only_looks and self._playbook.action_class == "read":
            yield at((*path, "do"), "A playbook of class read changes nothing, but this step configures a device.")
        if not reads and step.check is None and not step.do.proves_itself and kind not in NOT_BUILT:
            advice = "add `check` with a command that succeeds only then, or `changes: false` if it only reads"
            called = repr(step.name) if step.name else f"number {int(path[-1]) + 1}"
            yield at(path, f"Step {called} has no check, so nothing proves that it is done: {advice}.")
        if step.retry and not (step.idempotent or reads):
            yield at((*path, "retry"), "Only an idempotent step may be tried again: say `idempotent: true`.", key=True)
        if kind == "include":
            yield from self._include(path, step)
        for name in step.notify:
            if name not in handlers:
                yield at((*path, "notify"), f"There is no handler named {name!r}.")
        if step.register_as is not None and (
            not IDENTIFIER.fullmatch(step.register_as) or step.register_as in RESERVED
        ):
            yield at((*path, "register"), f"{step.register_as!r} cannot be a name; use letters, digits and _.")
        yield from self._templates(path, step)
        if step.register_as:
            self._names.add(step.register_as)

    def _include(self, path: Path, step: Step) -> Iterator[Fault]:
        name = step.do.act.playbook
        for key in ("probe", "check", "undo", "retry", "register", "notify"):
            if getattr(step, "register_as" if key == "register" else key):
                yield self._source.fault((*path, key), f"An included playbook has its own steps; no `{key}` here.")
        if self._known and not self._known(name):
            yield self._source.fault((*path, "do"), f"There is no playbook {name!r} to include.")
        own, within = self._playbook.action_class, self._class_of(name) if self._class_of else None
        if within in COVERS and within not in COVERS[own]:
            message = f"A playbook of class {own} cannot include {name!r}, which is of class {within}."
            yield self._source.fault((*path, "include", "playbook"), message)

    def _templates(self, path: Path, step: Step) -> Iterator[Fault]:
        names = self._names | ({"item"} if step.loop is not None else set())
        secrets = self._playbook.secrets
        if isinstance(step.loop, str):
            allowed = set(self._playbook.parameters)
            for fault in self._template((*path, "loop"), step.loop, allowed, secrets, expression=True):
                hint = " A loop goes over parameters or a list, so that its length is known beforehand."
                yield Fault(fault.line, fault.column, fault.message + hint)
        if isinstance(step.when, str):
            yield from self._template((*path, "when"), step.when, names, secrets, expression=True)
        own = names | {step.register_as} if step.register_as else names
        for phase in ("probe", "do", "check", "undo"):
            action: Action | None = getattr(step, phase)
            if action is None:
                continue
            seen = own if phase in ("check", "undo") else names
            for place, text in _texts(action.model_dump(exclude_unset=True), ()):
                expression = action.kind == "assert" and "that" in place
                yield from self._template((*path, phase, *place), text, seen, secrets, expression=expression)

    def _template(
        self, path: Path, text: str, names: Iterable[str], secrets: frozenset[str], *, expression: bool
    ) -> Iterator[Fault]:
        try:
            found = render.names_in(text, expression=expression, secrets=secrets)
        except TemplateSyntaxError as error:
            yield self._source.fault(path, f"Template: {error.message}.", line=error.lineno)
            return
        known = set(names)
        for name, line in found:
            if name not in known:
                message = f"{name!r} is not defined here: it is no parameter and no step before registers it."
                yield self._source.fault(path, message, line=line)


def _texts(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    """Yield every text in a plain value and where it stands."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(item, (*path, key))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _texts(item, (*path, number))


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a playbook, short forms included."""
    from msp.remote.screen import part as screen_part

    found = Playbook.model_json_schema(by_alias=True)
    texts = ("Action", "Script", "Http", "Approve", "Include", "Assert", "Step")
    for name in texts:
        if name in found.get("$defs", {}):
            whole = found["$defs"][name]
            short: list[dict[str, Any]] = [{"type": "string"}]
            if name == "Step":
                whole = {**whole, "required": []}
                properties = found["$defs"]["Action"]
                properties = (properties.get("anyOf", [{}, properties])[1])["properties"]
                whole["properties"] = {**properties, **whole["properties"]}
            found["$defs"][name] = {"anyOf": [*short, whole]}
    for name, forms in screen_part.SHORT_FORMS.items():
        found["$defs"][name] = {"anyOf": [*forms, found["$defs"][name]]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}
