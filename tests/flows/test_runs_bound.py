"""What a run reads besides its own text: the contract is asked for it, and nothing else is ever done in its place."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from world import World

from msp.errors import Misconfigured, Refused
from msp.flows import approving, driving
from msp.remote import plan
from msp.remote.models import Run

NOT_ASKED_FOR = "The run is not what the contract was asked for."
INNER = """\
name: {name}
version: "1"
action_class: {kind}
steps:
  - name: touch
    do: touch {word}
    check: test -e {word}
"""
OUTER = 'name: outer\nversion: "1"\naction_class: {kind}\nsteps:\n  - include: {inner}\n'
COPIES = """\
name: own
version: "1"
action_class: disruptive
parameters:
  what: {type: string, default: payload}
steps:
  - name: copy
    file: {source: "{{ what }}", path: copied}
"""


def inner(world: World, word: str = "before", kind: str = "change", name: str = "inner") -> None:
    world.playbook(INNER.format(name=name, word=word, kind=kind), name)


def outer(world: World, kind: str = "disruptive") -> str:
    """Return a playbook that reaches `inner` through another."""
    world.playbook(OUTER.format(kind="change", inner="inner").replace("name: outer", "name: middle"), "middle")
    return world.playbook(OUTER.format(kind=kind, inner="middle"), "outer")


def payload(world: World, text: str) -> Path:
    file = Path(world.settings.playbooks) / "payload"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return file


def approve(world: World, run: Run) -> Run:
    with world.database.begin() as session:
        return approving.approve(session, run.id, actor=world.olga, own=world.settings.playbooks)


def asked(world: World, what: str) -> tuple[Run, Callable[[], object]]:
    """Return a run that waits for the client, and what changes a thing that it reads."""
    if what == "included":
        inner(world)
        return world.request(outer(world)), lambda: inner(world, "after")
    payload(world, "before")
    return world.request(world.playbook(COPIES)), lambda: payload(world, "after")


READ = pytest.mark.parametrize("what", ["included", "copied"])


def left(world: World) -> list[str]:
    root = world.host().root
    return [name for name in ("before", "after", "copied") if (root / name).exists()]


def test_graver_playbook_is_not_smuggled_in_by_one_that_only_reads(world: World) -> None:
    inner(world, kind="disruptive")
    world.playbook(OUTER.format(kind="read", inner="inner"), "outer")
    with pytest.raises(Misconfigured, match="5:14: A playbook of class read cannot include 'inner'"):
        world.request("outer")


def test_nor_through_a_third_one(world: World) -> None:
    inner(world, kind="disruptive")
    with pytest.raises(Misconfigured, match="cannot include 'inner', which is of class disruptive"):
        world.request(outer(world))


@READ
def test_what_was_shown_is_done(world: World, what: str) -> None:
    run, _ = asked(world, what)
    assert approve(world, run).state == "queued"
    assert world.drive(run.id).state == "succeeded"
    assert left(world) == (["before"] if what == "included" else ["copied"])


@READ
def test_approval_is_void_once_anything_it_reads_has_changed(world: World, what: str) -> None:
    run, change = asked(world, what)
    change()
    with pytest.raises(Refused, match="not what the approval was asked for"):
        approve(world, run)
    assert world.run(run.id).state == "awaiting_approval"


@READ
def test_what_changed_after_the_approval_is_refused_before_anything_is_sent(world: World, what: str) -> None:
    run, change = asked(world, what)
    approve(world, run)
    change()
    assert world.drive(run.id).state == "refused"
    assert (world.ends(run.id), world.run_host(run.id).detail) == ({"one": "refused"}, NOT_ASKED_FOR)
    assert left(world) == []


@READ
@pytest.mark.parametrize("gone", [False, True])
def test_what_changed_since_the_run_began_is_refused_too(
    world: World, monkeypatch: pytest.MonkeyPatch, what: str, gone: bool
) -> None:
    run, change = asked(world, what)
    approve(world, run)
    begin = driving.begin

    def begun(*given: Any, **named: Any) -> str | None:
        state = begin(*given, **named)
        change()
        if gone:
            (Path(world.settings.playbooks) / ("inner.yml" if what == "included" else "payload")).unlink()
        return state

    monkeypatch.setattr(driving, "begin", begun)
    assert world.drive(run.id).state == "refused"
    assert (world.ends(run.id), world.run_host(run.id).detail) == ({"one": "refused"}, NOT_ASKED_FOR)
    assert left(world) == []


def test_file_that_changed_between_plan_and_step_is_not_copied(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run, change = asked(world, "copied")
    approve(world, run)
    read = driving.read

    def then_change(*given: Any) -> driving.Work | None:
        work = read(*given)
        change()
        return work

    monkeypatch.setattr(driving, "read", then_change)
    assert world.drive(run.id).state == "failed"
    assert "payload is not what the contract was asked for." in world.run_host(run.id).detail
    assert left(world) == []


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ("include: nobody", "There is no playbook 'nobody' to include"),
        ("file: {source: missing, path: copied}", "missing cannot be read"),
        ("file: {source: '{{ host.name }}.txt', path: copied}", "cannot be known before the run"),
        ("screen: [{expect_image: '{{ run.id }}.png'}]", "cannot be known before the run"),
    ],
)
def test_what_cannot_be_known_is_refused_when_it_is_asked_for(world: World, steps: str, said: str) -> None:
    text = f'name: own\nversion: "1"\naction_class: change\nsteps:\n  - name: step\n    {steps}\n'
    if steps.startswith("include"):
        text = text.replace("name: step\n    ", "")
    with pytest.raises(Misconfigured, match=said):
        world.request(world.playbook(text))


def test_plan_knows_every_playbook_that_it_reached(world: World) -> None:
    inner(world)
    run = world.request(outer(world))
    approve(world, run)
    with world.database.begin() as session:
        driving.begin(session, run.id, 0, own=world.settings.playbooks)
        work = driving.read(session, world.settings, run.id, 0)
    assert work is not None
    assert isinstance(work.plan, plan.Plan)
    assert (sorted(work.plan.included), work.plan.digest) == (["inner", "middle"], run.digest)
