"""What is wrong with the screen steps of a playbook, seen together. Pure.

Text read from a screen may be read wrong. So nothing that interrupts service or changes who may do what is typed,
pressed or clicked on the strength of text alone: the same place must have been recognised by an image.
"""

from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from jinja2 import TemplateSyntaxError

from msp.remote import render
from msp.remote.screen import keys
from msp.remote.screen.part import LOOKS, Screen

if TYPE_CHECKING:
    from msp.remote.playbook import Playbook
    from msp.remote.playbook_steps import Step

Path = tuple[str | int, ...]
GRAVE: Final = frozenset({"disruptive", "access"})  # action classes of which no step may rest on text alone


def faults(book: "Playbook", has_file: Callable[[str], bool] | None = None) -> Iterator[tuple[Path, str]]:
    """Yield (path, sentence) of every fault. has_file: tells whether a file stands beside the playbook."""
    gate = _Gate(book)
    for where in ("steps", "handlers"):
        for number, step in enumerate(getattr(book, where)):
            for phase in ("probe", "do", "check", "undo"):
                action = getattr(step, phase)
                if action is None or not isinstance(action.act, Screen):
                    continue
                path: Path = (where, number, phase, "screen")
                yield from _alone(book, action.act, path, has_file)
                if phase in ("probe", "do"):
                    yield from gate.faults(step, phase, action.act, path)
            gate.step_is_over(step)


def _alone(
    book: "Playbook", screen: Screen, path: Path, has_file: Callable[[str], bool] | None
) -> Iterator[tuple[Path, str]]:
    """Yield faults of one list of acts."""
    for number, one in enumerate(screen.acts):
        here = (*path, "acts", number, one.kind)
        if book.action_class == "read" and one.kind not in LOOKS:
            yield here, f"A playbook of class read changes nothing, but this step has {one.kind!r}."
        for key in ("text", "image", "keys"):
            template = getattr(one.act, key, None) or ""
            written = template if isinstance(template, str) else " ".join(template)
            if one.kind != "type" and book.secrets & _names(written):
                yield (*here, key), f"A secret may only be typed, not stand in {one.kind!r}."
        if one.kind == "type" and "{{" not in one.act.text:
            try:
                keys.of_text(one.act.text, any_letter=one.act.any_letter)
            except ValueError as error:
                yield (*here, "text"), f"This cannot be typed: {error}. A letter beyond ASCII needs `any_letter: true`."
    for at, name in screen.images():
        if "{{" in name or has_file is None:
            continue
        if PurePosixPath(name).suffix.lower() != ".png":
            yield (*path, *at), f"Image {name!r} must be a PNG."
        elif not has_file(name):
            yield (*path, *at), f"There is no image {name!r} beside the playbook."


def _names(template: str, *, expression: bool = False) -> set[str]:
    try:
        return {name for name, _ in render.names_in(template, expression=expression)}
    except TemplateSyntaxError:
        return set()  # told where templates are checked


class _Gate:
    """What has been recognised since the last key or click, step by step."""

    def __init__(self, book: "Playbook") -> None:
        self._grave = book.action_class in GRAVE
        self._text = self._image = False
        self._by_text: set[str] = set()  # registered names that rest on text alone

    def faults(self, step: "Step", phase: str, screen: Screen, path: Path) -> Iterator[tuple[Path, str]]:
        """Yield the acts of one list that rest on text alone."""
        if isinstance(step.when, str) and self._by_text & _names(render.bare_expression(step.when), expression=True):
            self._text = True
        for number, one in enumerate(screen.acts):
            if one.kind in ("expect_text", "expect_image"):
                self._text = self._text or one.kind == "expect_text"
                self._image = self._image or one.kind == "expect_image"
                continue
            if one.kind in LOOKS:
                continue
            clicks = one.kind == "click"
            text = self._text or (clicks and one.act.text is not None)
            image = self._image or (clicks and one.act.image is not None)
            if self._grave and text and not image:
                yield (
                    (*path, "acts", number, one.kind),
                    (
                        f"{one.kind!r} rests on text read from the screen alone, which may be read wrong: "
                        "before what is disruptive or changes access, recognise the place by `expect_image` too."
                    ),
                )
            self._text = self._image = False

    def step_is_over(self, step: "Step") -> None:
        """Remember whether what a step registers rests on text alone."""
        act: Any = step.do.act
        if step.register_as and isinstance(act, Screen):
            kinds = {one.kind for one in act.acts}
            if "expect_text" in kinds and "expect_image" not in kinds:
                self._by_text.add(step.register_as)
