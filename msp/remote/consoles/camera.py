"""Takes pictures of a screen while a console shows it: a look of its own, view only, by the simplest encoding."""

import asyncio
import struct
from collections.abc import Callable
from typing import Final

from PIL import Image

from msp.remote.consoles import rfb
from msp.remote.consoles.screen import MOST_PIXELS, Server
from msp.remote.screen.picture import png

EVERY: Final = 10.0  # seconds between two pictures, if anything changed
SOON: Final = 2.0  # seconds after the start at which the second one is taken: the first may show a log-in screen
RAW, DESKTOP_SIZE = 0, -223
PIXELS = struct.pack(">BxxxBBBBHHHBBBxxx", rfb.SET_PIXEL_FORMAT, 32, 24, 0, 1, 255, 255, 255, 16, 8, 0)
LONGEST: Final = 1024 * 1024  # bytes of a clipboard that is skipped


class Camera:
    """Keeps one screen up to date and gives it away as PNG."""

    def __init__(self, server: Server) -> None:
        self._server, self._size = server, server.size
        self._image = Image.new("RGB", self._size)
        server.writer.write(PIXELS + rfb.asking_for((RAW, DESKTOP_SIZE)))

    async def look(self, *, whole: bool) -> bool:
        """Wait for what has changed (or for all of it) and return whether anything was drawn.

        Raises EOFError or OSError when the server goes, ValueError for what no screen sends.
        """
        self._server.writer.write(struct.pack(">BBHHHH", rfb.UPDATE_REQUEST, not whole, 0, 0, *self._size))
        while True:
            kind = (await self._read(1))[0]
            match kind:
                case 0:
                    return await self._update()
                case 1:  # colours of a palette, which we did not ask for
                    _, count = struct.unpack(">xHH", await self._read(5))
                    await self._read(6 * count)
                case 2:
                    pass  # the bell
                case 3:
                    length = struct.unpack(">3xI", await self._read(7))[0]
                    if length > LONGEST:
                        raise ValueError(f"a clipboard of {length} bytes")
                    await self._read(length)
                case _:
                    raise ValueError(f"a message of the kind {kind}")

    def picture(self) -> bytes:
        """Return the screen as it was last seen."""
        return png(self._image)

    async def _update(self) -> bool:
        count = struct.unpack(">xH", await self._read(3))[0]
        for _ in range(count):
            x, y, width, height, encoding = struct.unpack(">HHHHi", await self._read(12))
            if encoding == DESKTOP_SIZE:
                if not 0 < width * height <= MOST_PIXELS:
                    raise ValueError(f"a screen of {width} x {height} pixels")
                self._size, self._image = (width, height), Image.new("RGB", (width, height))
            elif encoding == RAW and x + width <= self._size[0] and y + height <= self._size[1]:
                data = await self._read(4 * width * height)
                if data:
                    self._image.paste(Image.frombuffer("RGB", (width, height), data, "raw", "BGRX", 0, 1), (x, y))
            else:
                raise ValueError("a part that lies outside of the screen")
        return bool(count)

    async def _read(self, count: int) -> bytes:
        return await self._server.reader.readexactly(count)


async def film(server: Server, keep: Callable[[bytes], None]) -> None:
    """Take a picture now, soon, and then every ten seconds in which something changed; until the server goes.

    keep: takes one PNG. Raises what it raises. A server that goes ends the film; the console goes on without.
    """
    try:
        camera = Camera(server)
        changed = await camera.look(whole=True)
        pause = SOON
        while True:
            if changed:
                keep(await asyncio.to_thread(camera.picture))
            await asyncio.sleep(pause)
            changed, pause = await camera.look(whole=False), EVERY
    except (asyncio.IncompleteReadError, OSError, ValueError):
        return
