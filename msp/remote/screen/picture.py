"""Pictures of a screen as evidence: small PNGs, in which whatever may show a secret is covered."""

from io import BytesIO
from typing import TYPE_CHECKING, Final

from PIL import Image, ImageChops, ImageDraw

from msp.remote.screen.match import Blank, Template

if TYPE_CHECKING:
    from collections.abc import Iterator

Box = tuple[int, int, int, int]
LARGEST: Final = 400 * 1024  # bytes of one stored picture
TILE: Final = 16  # pixels; what changed is covered tile by tile
COVER: Final = (128, 128, 128)


def png(image: Image.Image) -> bytes:
    """Return a picture as PNG; one too large loses colours first, then size."""
    kept = image
    while True:
        for form in (kept, kept.quantize(256)):
            stream = BytesIO()
            form.save(stream, "PNG", optimize=form is not kept)
            if stream.tell() <= LARGEST:
                return stream.getvalue()
        kept = kept.reduce(2)


class Veil:
    """Covers what came onto the screen because a secret was typed, while it is typed and as long as it is seen."""

    def __init__(self, *, blind: bool = False) -> None:
        """blind: a secret was typed over an earlier connection, so nobody knows where it stands now."""
        self._blind = blind
        self._before: Image.Image | None = None
        self._echoes: list[tuple[Box, Image.Image]] = []

    def secret_follows(self, screen: Image.Image) -> None:
        """Remember the screen as it was before a secret was typed."""
        if self._before is None:
            self._before = screen.copy()

    def secret_typed(self, screen: Image.Image) -> None:
        """Remember what the typing of a secret left on the screen."""
        if self._before is not None and self._before.size == screen.size:
            for box in changed(self._before, screen):
                self._echoes.append((box, screen.crop(box)))

    def step_is_over(self) -> None:
        """From here on only what the secret left is covered, wherever it moves."""
        self._before = None

    def over(self, screen: Image.Image) -> Image.Image:
        """Return a picture of the screen without what may show a secret."""
        shown = screen.copy()
        draw = ImageDraw.Draw(shown)
        if self._blind or (self._before is not None and self._before.size != screen.size):
            draw.rectangle((0, 0, *shown.size), fill=COVER)
            return shown
        if self._before is not None:
            for box in changed(self._before, screen):
                draw.rectangle(_inner(box), fill=COVER)
        for box, echo in self._echoes:
            self._cover(draw, screen, box, echo)
        return shown

    def _cover(self, draw: ImageDraw.ImageDraw, screen: Image.Image, box: Box, echo: Image.Image) -> None:
        """Cover an echo where it stood, and wherever it stands now."""
        try:
            remains, template = (Template(echo, tolerance=32, share=share) for share in (0.7, 0.8))
        except Blank:
            return
        if remains.find(screen.crop(box)):
            draw.rectangle(_inner(box), fill=COVER)
        for left, top in template.matches(screen):
            draw.rectangle(_inner((left, top, left + echo.width, top + echo.height)), fill=COVER)


def changed(before: Image.Image, after: Image.Image) -> "Iterator[Box]":
    """Yield boxes around what differs between two pictures of one size; rows of tiles that touch make one box."""
    red, green, blue = ImageChops.difference(before.convert("RGB"), after.convert("RGB")).split()
    difference = ImageChops.lighter(ImageChops.lighter(red, green), blue).point(_any)
    small = difference.reduce(TILE).point(_any)  # a tile with any change is not quite black
    width, height = after.size
    box: Box | None = None
    for row in range(small.height):
        strip = small.crop((0, row, small.width, row + 1)).getbbox()
        if strip is None:
            if box:
                yield box
            box = None
            continue
        here = (strip[0] * TILE, row * TILE, min(strip[2] * TILE, width), min((row + 1) * TILE, height))
        box = here if box is None else (min(box[0], here[0]), box[1], max(box[2], here[2]), here[3])
    if box:
        yield box


def _any(value: int) -> int:
    return 255 if value else 0


def _inner(box: Box) -> Box:
    return box[0], box[1], box[2] - 1, box[3] - 1
