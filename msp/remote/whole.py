"""What a run comes to besides its playbook's own text: the files beside it and beside the playbooks it includes."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from msp.errors import Misconfigured
from msp.remote import beside, payload, render
from msp.remote.plan import Plan, PlannedStep
from msp.remote.playbook import Playbook
from msp.remote.playbook_steps import Action, File, Step
from msp.remote.screen.part import Screen

PHASES = ("probe", "do", "check", "undo")


def reaches_out(book: Playbook) -> bool:
    """Return whether a playbook's text is not all: it includes another, or names files beside it."""
    steps = (*book.steps, *book.handlers)
    return any(step.do.kind == "include" or any(True for _ in _named(step)) for step in steps)


def bound(plan: Plan, *, strict: bool = True) -> Plan:
    """Return a plan whose files have been read: its digest covers them, and its steps take them only as they are now.

    Raises Misconfigured for a file that cannot be read, or cannot be named before the run; unless strict, such a
    file stays uncovered and its step decides when it comes to it.
    """
    files: list[tuple[int, str, str]] = []
    steps = []
    for step in plan.steps:
        known: dict[Path, str] = {}
        try:
            found = list(_read(step))
        except Misconfigured:
            if strict:
                raise
            steps.append(step)
            continue
        for name, path, sha256 in found:
            known[path] = sha256
            files.append((step.number, name, sha256))
        steps.append(replace(step, folder=beside.Beside(step.folder, known)) if known else step)  # type: ignore[arg-type]
    return replace(plan, steps=tuple(steps), files=tuple(files))


def _read(planned: PlannedStep) -> Iterator[tuple[str, Path, str]]:
    """Yield the name, the place and the SHA-256 of every file that a step names. Raises Misconfigured."""
    for template in _named(planned.step):
        name = _name(template, planned)
        if planned.folder is None:
            raise Misconfigured(
                f"{planned.what}: {name} is to stand beside the playbook, and this one has no folder.",
                advice="Put both into the folder of your playbooks.",
            )
        path = beside.find(planned.folder, name, planned.what)
        try:
            _, sha256 = (payload.of_folder if path.is_dir() else payload.of_file)(path)
        except OSError as error:
            raise Misconfigured(f"{planned.what}: {name} cannot be read: {error.strerror}.") from error
        yield name, path, sha256


def _name(template: str, planned: PlannedStep) -> str:
    hidden = {name for name, _ in render.names_in(template)} & planned.secrets
    try:
        if not hidden:
            return render.text(template, planned.scope, planned.what)
    except render.UndefinedName:
        pass
    raise Misconfigured(
        f"{planned.what}: which file {template!r} is cannot be known before the run.",
        advice="Name it by parameters or a loop, not by a host, a secret or what a step registers.",
    )


def _named(step: Step) -> Iterator[str]:
    """Yield every file that a step names beside its playbook, as written."""
    for phase in PHASES:
        action: Action | None = getattr(step, phase)
        if action is None:
            continue
        act = action.act
        if isinstance(act, File) and act.source is not None and act.state == "present":
            yield act.source
        elif isinstance(act, Screen):
            yield from (name for _, name in act.images())
