"""Acts on an open screen, one after the other. Runs in the child process only."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from time import monotonic
from typing import Any, Final

from PIL import Image
from twisted.internet import reactor
from twisted.internet.task import deferLater

from msp.remote.screen import ocr
from msp.remote.screen.client import Client
from msp.remote.screen.match import Blank, Template
from msp.remote.screen.picture import Veil, png

POLL: Final = 0.2  # seconds between two looks
LEAST: Final = 0.5  # seconds that reading a text is given in any case
NOTICE: Final = 0.25  # seconds after which the end of the connection is noticed in a pause
QUIET: Final = 0.3  # seconds without a change after which a screen has settled
SETTLE: Final = 2.0  # seconds it is given for that
RARE: Final = 0.05  # seconds after a key that no keyboard there has: it is laid out anew for each such letter
MOST_PICTURES: Final = 40  # of one step; captures in a long list end there

Box = tuple[int, int, int, int]


class NotSeen(Exception):
    """What was expected did not come."""


class CannotTell(Exception):
    """An act that cannot be done: an image larger than the screen, no program to read text."""


@dataclass(slots=True)
class Shot:
    """A picture as it goes to the parent."""

    name: str
    png: bytes
    taken_at: datetime

    def wire(self) -> dict[str, str]:
        return {
            "name": self.name,
            "png": base64.b64encode(self.png).decode(),
            "taken_at": self.taken_at.isoformat(),
        }


class Performing:
    """One list of acts on one connection."""

    def __init__(self, client: Client, veil: Veil, sending: Callable[[], None], seconds: float) -> None:
        """sending: called before the first key or click goes out. seconds: that all acts may take."""
        self._client, self._veil, self._sending = client, veil, sending
        self._deadline = monotonic() + seconds
        self._touched = False  # something was sent since the screen was last seen to stand still
        self.pictures: list[Shot] = []

    async def run(self, acts: Sequence[Mapping[str, Any]]) -> None:
        """Do the acts. Raises NotSeen, CannotTell or client.Gone; `pictures` are kept in any case."""
        try:
            await self._run(acts)
        finally:
            self._veil.step_is_over()

    async def _run(self, acts: Sequence[Mapping[str, Any]]) -> None:
        await self._client.look()
        sends = any(one["act"] in ("type", "press", "click") for one in acts)
        if sends:
            self._keep("before")
        try:
            for one in acts:
                await getattr(self, "_" + one["act"])(one)
        except (NotSeen, CannotTell):
            self._keep("not seen")
            raise
        if sends:
            await self._settled()
        if sends or acts[-1]["act"] != "capture":
            self._keep("after" if sends else "seen")

    def _screen(self, box: Sequence[int] | None = None) -> Image.Image:
        screen = self._client.screen
        if screen is None:
            raise CannotTell("the screen has no size")
        if box is None:
            return screen
        if box[0] >= screen.width or box[1] >= screen.height:
            raise CannotTell(f"the region begins outside of the screen of {screen.width} x {screen.height} pixels")
        return screen.crop((box[0], box[1], min(box[2], screen.width), min(box[3], screen.height)))

    def _keep(self, name: str, box: Sequence[int] | None = None) -> None:
        """Keep a picture, with what may show a secret covered."""
        if len(self.pictures) >= MOST_PICTURES:
            return
        shown = self._veil.over(self._screen())
        if box is not None:
            self._screen(box)
            shown = shown.crop((box[0], box[1], min(box[2], shown.width), min(box[3], shown.height)))
        self.pictures.append(Shot(name, png(shown), datetime.now(UTC)))

    async def _pause(self, seconds: float) -> None:
        """Let time pass; raises client.Gone as soon as the connection has ended."""
        end = monotonic() + seconds
        while (left := end - monotonic()) > 0:
            await deferLater(reactor, min(left, NOTICE), lambda: None)
            if self._client.gone:
                raise self._client.gone

    def _sends(self) -> None:
        """Tell that keys or clicks go out from here on."""
        self._touched = True
        self._sending()

    async def _settled(self) -> None:
        """Wait until the screen stands still, and with it until the server has read all that was sent."""
        self._touched = False
        until, since = monotonic() + SETTLE, monotonic()
        await self._client.look()
        last = self._screen().tobytes()
        while monotonic() < until and monotonic() - since < QUIET:
            await self._pause(QUIET / 3)
            await self._client.look()
            if (now := self._screen().tobytes()) != last:
                last, since = now, monotonic()

    # acts, named as on the wire

    async def _capture(self, act: Mapping[str, Any]) -> None:
        await (self._settled() if self._touched else self._client.look())
        self._keep(act["name"], act["box"])

    async def _wait(self, act: Mapping[str, Any]) -> None:
        await self._pause(act["seconds"])

    async def _type(self, act: Mapping[str, Any]) -> None:
        if act["secret"]:
            await self._settled()
            self._veil.secret_follows(self._screen())
        self._sends()
        for key in act["keys"]:
            rare = 0x7E < key < 0xFE00 or key > 0xFFFF
            self._client.keyEvent(key, down=True)
            self._client.keyEvent(key, down=False)
            if pause := max(act["pause"], RARE if rare else 0):
                await self._pause(pause)
        if act["secret"]:
            await self._settled()
            self._veil.secret_typed(self._screen())
        else:
            await self._client.look()  # the server has read it before the next act

    async def _press(self, act: Mapping[str, Any]) -> None:
        self._sends()
        for combination in act["combinations"]:
            for key in combination:
                self._client.keyEvent(key, down=True)
            for key in reversed(combination):
                self._client.keyEvent(key, down=False)
            await self._client.look()

    async def _click(self, act: Mapping[str, Any]) -> None:
        if "x" in act:
            x, y = act["x"], act["y"]
            screen = self._screen()
            if x >= screen.width or y >= screen.height:
                raise CannotTell(f"{x},{y} lies outside of the screen of {screen.width} x {screen.height} pixels")
        else:
            box = await self._sought(act)
            x, y = (box[0] + box[2]) // 2, (box[1] + box[3]) // 2
        self._sends()
        self._client.mouseMove(x, y)
        await self._pause(0.05)  # a window under the pointer takes notice
        for _ in range(act["times"]):
            self._client.mousePress(act["button"])
        await self._client.look()

    async def _expect_image(self, act: Mapping[str, Any]) -> None:
        await self._sought(act)

    async def _expect_text(self, act: Mapping[str, Any]) -> None:
        await self._sought(act)

    async def _sought(self, act: Mapping[str, Any]) -> Box:
        """Wait for an image or a text (or its absence) and return where it is. Raises NotSeen."""
        finder = self._image_finder(act) if "image" in act else self._text_finder(act)
        began = monotonic()
        end = min(began + act["within"], self._deadline)
        last: bytes | None = None
        while True:
            await self._client.look()
            part = self._screen(act["box"])
            if (pixels := part.tobytes()) != last:
                last = pixels
                found = finder(part)
                if (found is None) == bool(act.get("absent")):
                    break
            if monotonic() >= end:
                what = "image " + act["shown"] if "image" in act else "text " + repr(act["text"])
                raise NotSeen(
                    f"the {what} was {'still' if act.get('absent') else 'not'} seen after {act['within']:g} s"
                )
            await self._pause(POLL)
        left, top = (act["box"] or (0, 0))[:2]
        box = found or (0, 0, 0, 0)
        return left + box[0], top + box[1], left + box[2], top + box[3]

    def _image_finder(self, act: Mapping[str, Any]) -> Callable[[Image.Image], Box | None]:
        try:
            image = Image.open(BytesIO(base64.b64decode(act["image"])))
            image.load()
            template = Template(image, tolerance=act["tolerance"], share=act["share"])
        except (OSError, ValueError) as error:
            why = str(error) if isinstance(error, Blank) else "it is no readable PNG"
            raise CannotTell(f"the image {act['shown']} cannot be looked for: {why}") from error
        room = self._screen(act["box"])
        if template.width > room.width or template.height > room.height:
            raise CannotTell(f"the image {act['shown']} is larger than where it is looked for")

        def find(part: Image.Image) -> Box | None:
            found = template.find(part)
            return found and (*found, found[0] + template.width, found[1] + template.height)

        return find

    def _text_finder(self, act: Mapping[str, Any]) -> Callable[[Image.Image], Box | None]:
        def find(part: Image.Image) -> Box | None:
            try:
                for words in ocr.readings(part, act["language"], max(self._deadline - monotonic(), LEAST)):
                    if found := ocr.find(act["text"], words):
                        return found
            except ocr.NoReader as error:
                raise CannotTell(str(error)) from error
            return None

        return find
