"""What a `screen` step may say: acts on a remote screen, in order. Pure.

Looking acts (capture, expect_image, expect_text, wait) change nothing; type, press and click do.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Final, Literal

from pydantic import Field, model_validator

from msp.errors import Misconfigured
from msp.remote import beside
from msp.remote.beside import Folder
from msp.remote.playbook_part import Duration, Part
from msp.remote.screen import keys
from msp.remote.screen.work import ScreenWork
from msp.secret import Secret

Fill = Callable[[str], Any]
LARGEST_IMAGE = 4 * 1024 * 1024  # bytes of an image to look for
WITHIN = timedelta(seconds=10)  # that something is waited for, unless the act says otherwise


class Region(Part):
    """A part of the screen, in pixels from the upper left corner."""

    x: int = Field(ge=0, lt=65536)
    y: int = Field(ge=0, lt=65536)
    width: int = Field(ge=1, lt=65536)
    height: int = Field(ge=1, lt=65536)

    @property
    def box(self) -> list[int]:
        """Left, upper, right and lower edge."""
        return [self.x, self.y, self.x + self.width, self.y + self.height]


class Capture(Part):
    """Keep a picture of the screen as evidence."""

    name: str = Field(default="screen", pattern=r"^[^\x00-\x1f/\\]{1,60}$")
    region: Region | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        return {} if given is None else {"name": given} if isinstance(given, str) else given

    def wire(self, fill: Fill, folder: Folder | None, what: str) -> dict[str, Any]:
        return {"act": "capture", "name": self.name, "box": _box(self.region)}


class Type(Part):
    """Write a text on the keyboard, verbatim; a line break is the Return key. Values and secrets may stand in it.

    Nothing is typed if a character has no key. A server drops silently what its keyboard lacks, so letters beyond
    ASCII need `any_letter`.
    """

    text: str
    any_letter: bool = Field(default=False, description="Letters beyond ASCII too; whether they arrive is not known.")
    every: Duration | None = Field(default=None, description="Pause after each key, for a slow screen.")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        return {"text": given} if isinstance(given, str) else given

    def wire(self, fill: Fill, folder: Folder | None, what: str) -> dict[str, Any]:
        filled = fill(self.text)
        text = filled.value if isinstance(filled, Secret) else str(filled)
        try:
            pressed = keys.of_text(text, any_letter=self.any_letter)
        except ValueError as error:
            said = "a secret holds a character for which there is no key" if isinstance(filled, Secret) else error
            advice = "Nothing was typed. A letter beyond ASCII needs `any_letter: true`."
            raise Misconfigured(f"{what}: the text cannot be typed: {said}.", advice=advice) from None
        pause = self.every.total_seconds() if self.every else 0
        return {"act": "type", "keys": pressed, "secret": isinstance(filled, Secret), "pause": pause,
                "shown": "***" if isinstance(filled, Secret) else json.dumps(text, ensure_ascii=False)}  # fmt: skip


class Press(Part):
    """Press keys: `Return`, `ctrl-alt-del`, or several one after the other. A value may name a key."""

    keys: tuple[str, ...] = Field(min_length=1, max_length=100)
    times: int = Field(default=1, ge=1, le=100)

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        if isinstance(given, str | list | int):
            given = {"keys": given}
        if isinstance(given, dict) and isinstance(given.get("keys"), str | int):
            given = {**given, "keys": [str(given["keys"])]}
        return given

    @model_validator(mode="after")
    def _known(self) -> "Press":
        for written in self.keys:
            if "{{" not in written:
                keys.of_combination(written)
        return self

    def wire(self, fill: Fill, folder: Folder | None, what: str) -> dict[str, Any]:
        names = [_open(fill(written), what) for written in self.keys]
        try:
            pressed = [keys.of_combination(name) for name in names] * self.times
        except ValueError as error:
            raise Misconfigured(
                f"{what}: {error}.", advice="Name a key, such as return, tab or ctrl-alt-del."
            ) from None
        return {"act": "press", "combinations": pressed, "shown": " ".join(names), "times": self.times}


class _Sought(Part):
    """Something that is waited for."""

    region: Region | None = Field(default=None, description="Where to look; the whole screen otherwise.")
    within: Duration = Field(default=WITHIN, description="How long to wait for it.")


class _SoughtImage(_Sought):
    tolerance: int = Field(default=16, ge=0, le=128, description="By how much a colour may differ, of 255.")
    share: float = Field(default=0.98, gt=0.5, le=1, description="Share of the pixels that must agree.")


class ExpectImage(_SoughtImage):
    """Wait until an image is seen; `absent`: until it is gone. A PNG beside the playbook, cut from a picture."""

    image: str = Field(min_length=1)
    absent: bool = False

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        return {"image": given} if isinstance(given, str) else given

    def wire(self, fill: Fill, folder: Folder | None, what: str) -> dict[str, Any]:
        image = _image(str(fill(self.image)), folder, what)
        return {"act": "expect_image", **image, **_sought(self), "absent": self.absent,
                "tolerance": self.tolerance, "share": self.share}  # fmt: skip


class ExpectText(_Sought):
    """Wait until a text is read on the screen (OCR, forgiving one letter in ten); `absent`: until it is gone."""

    text: str = Field(min_length=1)
    absent: bool = False
    language: str = Field(default="eng", pattern=r"^[a-z_]{3,12}(\+[a-z_]{3,12})*$")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        return {"text": given} if isinstance(given, str) else given

    def wire(self, fill: Fill, folder: Folder | None, what: str) -> dict[str, Any]:
        text = _open(fill(self.text), what)
        return {"act": "expect_text", "text": text, **_sought(self), "absent": self.absent, "language": self.language}


class Click(_SoughtImage):
    """Click at a place, or on an image or a text once it is seen."""

    x: int | None = Field(default=None, ge=0, lt=65536)
    y: int | None = Field(default=None, ge=0, lt=65536)
    image: str | None = Field(default=None, min_length=1)
    text: str | None = Field(default=None, min_length=1)
    language: str = Field(default="eng", pattern=r"^[a-z_]{3,12}(\+[a-z_]{3,12})*$")
    button: Literal["left", "middle", "right"] = "left"
    double: bool = False

    @model_validator(mode="after")
    def _one_place(self) -> "Click":
        given = [self.x is not None or self.y is not None, self.image is not None, self.text is not None]
        if sum(given) != 1 or (given[0] and (self.x is None or self.y is None)):
            raise ValueError("needs exactly one of x and y, image and text")
        return self

    def wire(self, fill: Fill, folder: Folder | None, what: str) -> dict[str, Any]:
        made: dict[str, Any] = {"act": "click", "button": ("left", "middle", "right").index(self.button) + 1,
                                "times": 2 if self.double else 1, **_sought(self)}  # fmt: skip
        if self.image is not None:
            image = _image(str(fill(self.image)), folder, what)
            return made | image | {"tolerance": self.tolerance, "share": self.share}
        if self.text is not None:
            return made | {"text": _open(fill(self.text), what), "language": self.language}
        return made | {"x": self.x, "y": self.y}


class Wait(Part):
    """Let time pass."""

    time: Duration

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        return given if isinstance(given, dict) else {"time": given}

    def wire(self, fill: Fill, folder: Folder | None, what: str) -> dict[str, Any]:
        return {"act": "wait", "seconds": self.time.total_seconds()}


#: Acts that only look.
LOOKS: Final = frozenset({"capture", "expect_image", "expect_text", "wait"})


class ScreenAct(Part):
    """Exactly one act."""

    capture: Capture | None = None
    type: Type | None = None
    press: Press | None = None
    click: Click | None = None
    expect_image: ExpectImage | None = None
    expect_text: ExpectText | None = None
    wait: Wait | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        if given == "capture":
            return {"capture": {}}
        if isinstance(given, dict) and "capture" in given and given["capture"] is None:
            return {**given, "capture": {}}
        return given

    @model_validator(mode="after")
    def _one(self) -> "ScreenAct":
        if len(self.model_fields_set) != 1:
            raise ValueError(f"needs exactly one of {', '.join(type(self).model_fields)}")
        return self

    @property
    def kind(self) -> str:
        """The name of the act, as written."""
        return next(iter(self.model_fields_set))

    @property
    def act(self) -> Any:
        """The one part that is set."""
        return getattr(self, self.kind)


class Screen(Part):
    """Acts on a remote screen, in order: capture, type, press, click, expect_image, expect_text, wait."""

    acts: tuple[ScreenAct, ...] = Field(min_length=1, max_length=200)

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, given: Any) -> Any:
        return {"acts": given} if isinstance(given, list) else given

    @property
    def only_looks(self) -> bool:
        """Whether nothing is typed, pressed or clicked."""
        return all(one.kind in LOOKS for one in self.acts)

    @property
    def proves_itself(self) -> bool:
        """Whether its last act expects to see something, so that it ends well only if it had its effect."""
        return self.acts[-1].kind in ("expect_image", "expect_text")

    def images(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Yield where an image is named and its name."""
        for number, one in enumerate(self.acts):
            if name := getattr(one.act, "image", None):
                yield ("acts", number, one.kind, "image"), name

    def work(self, fill: Fill, folder: Folder | None, what: str) -> ScreenWork:
        """Return what to perform. fill: gives a template's text, or a Secret if a secret stands in it.

        Raises Misconfigured for a character that has no key, and for an image that cannot be read.
        """
        acts = tuple(one.act.wire(fill, folder, what) for one in self.acts)
        return ScreenWork("\n".join(map(_shown, acts)), acts, not self.only_looks)


_TEXT: Final[dict[str, Any]] = {"type": "string"}
#: What else may stand where a part stands, for the JSON Schema of editors.
SHORT_FORMS: Final[dict[str, list[dict[str, Any]]]] = {
    "Capture": [_TEXT, {"type": "null"}],
    "Type": [_TEXT],
    "Press": [_TEXT, {"type": "array", "items": _TEXT}],
    "ExpectImage": [_TEXT],
    "ExpectText": [_TEXT],
    "Wait": [_TEXT, {"type": "number"}],
    "ScreenAct": [{"const": "capture"}],
    "Screen": [{"type": "array", "items": {"$ref": "#/$defs/ScreenAct"}}],
}


def _box(region: Region | None) -> list[int] | None:
    return region.box if region else None


def _sought(part: _Sought) -> dict[str, Any]:
    return {"box": _box(part.region), "within": part.within.total_seconds()}


def _open(filled: Any, what: str) -> str:
    if isinstance(filled, Secret):
        raise Misconfigured(f"{what}: a secret may only be typed, not looked for.", advice="Expect something else.")
    return str(filled)


def _image(name: str, folder: Folder | None, what: str) -> dict[str, Any]:
    """Return an image beside the playbook for the wire. Raises Misconfigured."""
    if folder is None:
        raise Misconfigured(f"{what}: image {name} stands beside a playbook, and this one has no folder.")
    path = beside.find(folder, name, what)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Misconfigured(f"{what}: image {name} cannot be read: {error.strerror}.") from error
    if not content.startswith(b"\x89PNG\r\n\x1a\n") or len(content) > LARGEST_IMAGE:
        raise Misconfigured(f"{what}: {name} is no PNG of at most {LARGEST_IMAGE // 1024**2} MB.")
    beside.insist(folder, path, hashlib.sha256(content).hexdigest(), what)
    return {"image": base64.b64encode(content).decode(), "shown": name}


def _shown(act: dict[str, Any]) -> str:
    """Return an act as it may be stored and displayed."""
    kind = act["act"]
    match kind:
        case "capture":
            said = json.dumps(act["name"], ensure_ascii=False)
        case "type":
            said = act["shown"]
        case "press":
            said = act["shown"] + (f" x{act['times']}" if act["times"] > 1 else "")
        case "wait":
            said = f"{act['seconds']:g} s"
        case _ if "x" in act:
            said = f"{act['x']},{act['y']}"
        case _:
            said = act["shown"] if "image" in act else json.dumps(act["text"], ensure_ascii=False)
            gone = " gone" if act.get("absent") else ""
            said += f"{gone} within {act['within']:g} s"
    return f"{kind} {said}"
