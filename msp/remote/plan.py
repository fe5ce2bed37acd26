"""A playbook with its parameters, unrolled: loops and included playbooks become a plain list of numbered steps. Pure.

The list is the same on every host and after every restart, so a step's number says which step it is.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from msp.errors import Misconfigured
from msp.remote import parameters as typed
from msp.remote import render
from msp.remote.beside import Folder
from msp.remote.playbook import COVERS, Playbook, digest
from msp.remote.playbook_steps import Step
from msp.secret import Secret

MOST_STEPS = 500  # after unrolling
DEEPEST = 5  # playbooks that include each other

Whens = tuple[tuple[str, Mapping[str, Any]], ...]


@dataclass(frozen=True, slots=True)
class Found:
    """A playbook as found: its text, what it says, and where it stands (for files that it copies)."""

    playbook: Playbook
    document: str
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step to do on every host. `scope` holds parameters and `item`; what hosts register comes on top."""

    number: int  # 1, 2, 3 ...
    name: str
    step: Step
    scope: Mapping[str, Any]
    secrets: frozenset[str]
    timeout: timedelta
    reads: bool  # changes nothing: needs no claim, may be done again
    whens: Whens = ()  # conditions, each with the parameters that it sees
    become: str = ""  # account to act as by sudo; empty: the one that logs in
    handler: str = ""  # runs only when notified under this name
    folder: Folder | None = None

    @property
    def what(self) -> str:
        """For sentences: `Step 2 (clean up)`."""
        return f"Step {self.number} ({self.name})"


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a run does, but for the hosts. `parameters` hold references for secrets, never secrets."""

    playbook: Playbook
    document: str
    parameters: Mapping[str, Any]
    steps: tuple[PlannedStep, ...]
    secret_values: tuple[str, ...] = field(default=(), repr=False)
    included: Mapping[str, str] = field(default_factory=dict)  # text of every playbook reached, by the name it goes by
    files: tuple[tuple[int, str, str], ...] = ()  # step, name and SHA-256 of what stands beside the playbooks

    @property
    def digest(self) -> str:
        """The SHA-256 over all that is done: of the text alone where that is all."""
        own = digest(self.document)
        if not self.included and not self.files:
            return own
        included = {name: digest(text) for name, text in self.included.items()}
        whole = {"playbook": own, "included": included, "files": self.files}
        return digest(json.dumps(whole, sort_keys=True, separators=(",", ":")))

    @property
    def longest(self) -> timedelta:
        """Time in which a host is done, if nothing has to be undone."""
        return self.playbook.limits.connect + sum((step.timeout for step in self.steps), timedelta())


def build(
    found: Found,
    given: Mapping[str, Any],
    *,
    secret: Callable[[str], Secret],
    include: Callable[[str], Found],
    step_timeout: timedelta | None = None,
) -> Plan:
    """Return the plan of a playbook with the parameters given.

    secret: turns a reference (vault:NAME) into the secret. include: finds a playbook by name.
    Raises Misconfigured for parameters, loops and inclusions that cannot be, also of a playbook of a graver class.
    """
    values = typed.resolve(found.playbook.parameters, given)
    secrets: dict[str, Secret] = {}

    def opened(reference: str) -> Secret:
        if reference not in secrets:
            secrets[reference] = secret(reference)
        return secrets[reference]

    unroll = _Unroll(opened, include, step_timeout)
    steps = [*unroll.steps(found, values, (), 0, ""), *unroll.handlers]
    if len(steps) > MOST_STEPS:
        raise Misconfigured(f"The playbook comes to {len(steps)} steps; at most {MOST_STEPS} can be run.")
    numbered = tuple(replace(step, number=number) for number, step in enumerate(steps, 1))
    return Plan(
        found.playbook,
        found.document,
        values,
        numbered,
        tuple(one.value for one in secrets.values()),
        {name: one.document for name, one in unroll.included.items()},
    )


def account(said: bool | str | None, otherwise: str) -> str:
    """Return the account that `become` names: root for true, none for false, `otherwise` where nothing is said."""
    return otherwise if said is None else "root" if said is True else said or ""


class _Unroll:
    def __init__(
        self, secret: Callable[[str], Secret], include: Callable[[str], Found], step_timeout: timedelta | None
    ) -> None:
        self._secret, self._include, self._step_timeout = secret, include, step_timeout
        self.handlers: list[PlannedStep] = []
        self.included: dict[str, Found] = {}  # each is read once

    def steps(
        self, found: Found, values: Mapping[str, Any], whens: Whens, depth: int, become: str
    ) -> Iterator[PlannedStep]:
        book = found.playbook
        become = account(book.become, become)
        if depth > DEEPEST:
            raise Misconfigured(f"Playbook {book.name} is included {depth} deep.", advice="Do they include each other?")
        scope: dict[str, Any] = {
            name: self._secret(value) if name in book.secrets and value is not None else value
            for name, value in values.items()
        }
        open_values = {name: value for name, value in scope.items() if name not in book.secrets}
        scope |= {"parameters": open_values, "params": open_values}
        for number, step in enumerate(book.steps, 1):
            yield from self._one(found, step, number, scope, values, whens, depth, become)
        for number, step in enumerate(book.handlers, 1):
            self.handlers += [
                replace(planned, handler=step.name)
                for planned in self._one(found, step, number, scope, values, whens, depth, become)
            ]

    def _one(
        self,
        found: Found,
        step: Step,
        number: int,
        scope: Mapping[str, Any],
        values: Mapping[str, Any],
        whens: Whens,
        depth: int,
        become: str,
    ) -> Iterator[PlannedStep]:
        book, become = found.playbook, account(step.become, become)
        when = str(step.when).lower() if isinstance(step.when, bool) else step.when
        name = step.name or f"{step.do.kind} {number}"
        for item, label in self._items(step, scope, name):
            inner = scope if step.loop is None else {**scope, "item": item}
            conditions = whens if when is None else (*whens, (when, inner))
            if step.do.kind == "include":
                within = self._within(book, step.do.act.playbook)
                given = {key: self._passed(value, inner, values) for key, value in step.do.act.parameters.items()}
                inner_values = typed.resolve(within.playbook.parameters, given)
                yield from self.steps(within, inner_values, conditions, depth + 1, become)
                continue
            yield PlannedStep(
                number=0,
                name=f"{name} {label}".strip(),
                step=step,
                scope=inner,
                secrets=book.secrets,
                timeout=step.timeout or self._step_timeout or max(book.limits.step, step.do.lasts),
                reads=book.action_class == "read" or step.changes is False or step.do.only_looks,
                whens=conditions,
                become=become,
                folder=found.folder,
            )

    def _within(self, book: Playbook, name: str) -> Found:
        """Return a playbook to include; the contract was asked for the class of the one that includes it."""
        if name not in self.included:
            self.included[name] = self._include(name)
        within = self.included[name]
        if within.playbook.action_class not in COVERS[book.action_class]:
            raise Misconfigured(
                f"Playbook {book.name} is of class {book.action_class}; it cannot include {name}, "
                f"which is of class {within.playbook.action_class}.",
                advice="Give it the graver class.",
            )
        return within

    def _items(self, step: Step, scope: Mapping[str, Any], name: str) -> Iterator[tuple[Any, str]]:
        if step.loop is None:
            yield None, ""
            return
        items = render.value(step.loop, scope, f"The loop of step {name}") if isinstance(step.loop, str) else step.loop
        if isinstance(items, str):
            items = items.replace(",", " ").split()
        if not isinstance(items, list | tuple | range):
            raise Misconfigured(f"The loop of step {name} goes over {items!r}, which is no list.")
        for number, item in enumerate(items, 1):
            label = str(item) if isinstance(item, str | int) and len(str(item)) <= 40 else str(number)
            yield item, f"[{label}]"

    def _passed(self, value: Any, scope: Mapping[str, Any], references: Mapping[str, Any]) -> Any:
        """Return a parameter for an included playbook; a secret is handed on as its reference."""
        if not isinstance(value, str) or "{{" not in value:
            return value
        bare = render.bare_expression(value)
        return references[bare] if isinstance(scope.get(bare), Secret) else render.text(value, scope)
