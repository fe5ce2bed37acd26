"""The screen of a machine in QEMU: its picture, and the text in its text memory. Spoken to over QMP.

The monitor is a socket that QEMU inherits: nothing is listened on, no file and no port. PNG is written here, so that
the tester needs nothing but Python where it runs.
"""

import contextlib
import json
import socket
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TEXT_MEMORY, TEXT_BYTES, COLUMNS = 0xB8000, 0x8000, 80  # VGA: a character and its colour for each cell
TEXT_SIZES = ((720, 400), (640, 400))  # pixels of a screen of 80 x 25 characters
CURSOR = 24  # rows of pixels that may change while nothing happens
PATIENCE = 20.0  # seconds for one answer of a busy QEMU


class Monitor:
    """QEMU's own control channel. Any trouble is an OSError; a machine that is gone has no screen any more."""

    def __init__(self, end: socket.socket) -> None:
        self._end, self._buffer, self.events = end, b"", list[str]()
        end.settimeout(PATIENCE)

    def greet(self) -> None:
        """Take the greeting and open the channel."""
        self._line()
        self.ask("qmp_capabilities")

    def ask(self, command: str, **arguments: Any) -> Any:
        """Send one command and return its answer; what happened meanwhile is kept in `events`."""
        self._end.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            said = self._line()
            if "return" in said:
                return said["return"]
            if "error" in said:
                raise OSError(f"QEMU refused {command}: {said['error'].get('desc')}")
            self._note(said)

    def drain(self) -> None:
        """Take what QEMU said by itself, without waiting."""
        self._end.settimeout(0)
        try:
            while True:
                self._note(self._line())
        except (BlockingIOError, TimeoutError):
            return
        finally:
            self._end.settimeout(PATIENCE)

    def _note(self, said: dict[str, Any]) -> None:
        if "event" in said:
            self.events.append(str(said["event"]))

    def _line(self) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            data = self._end.recv(1 << 16)
            if not data:
                raise OSError("QEMU closed its monitor.")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        said = json.loads(line)
        return said if isinstance(said, dict) else {}


@dataclass(frozen=True, slots=True)
class Shot:
    """One look at a screen. pixels: rows of red, green, blue bytes."""

    width: int
    height: int
    pixels: bytes
    text: str  # of a screen in text mode; empty for a drawn one

    @property
    def is_text(self) -> bool:
        return (self.width, self.height) in TEXT_SIZES

    def differs(self, other: "Shot") -> bool:
        """Return whether something new is shown; a cursor that blinks is nothing new."""
        if self.is_text and other.is_text:
            return self.text != other.text
        if (self.width, self.height) != (other.width, other.height):
            return True
        row = self.width * 3
        changed = sum(
            self.pixels[at : at + row] != other.pixels[at : at + row] for at in range(0, row * self.height, row)
        )
        return changed > CURSOR

    def png(self) -> bytes:
        """Return the picture as PNG (RFC 2083), 8 bits a colour."""
        row = self.width * 3
        lines = b"".join(b"\0" + self.pixels[at : at + row] for at in range(0, row * self.height, row))
        header = struct.pack(">IIBBBBB", self.width, self.height, 8, 2, 0, 0, 0)
        parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in parts
        )


def look(monitor: Monitor, folder: Path) -> Shot:
    """Return what the screen shows now. folder: scratch of the test, for two files that are gone again afterwards."""
    picture, memory = folder / "screen.ppm", folder / "screen.text"
    try:
        monitor.ask("screendump", filename=str(picture))
        width, height, pixels = read_ppm(picture.read_bytes())
        shot = Shot(width, height, pixels, "")
        if not shot.is_text:
            return shot
        monitor.ask("pmemsave", val=TEXT_MEMORY, size=TEXT_BYTES, filename=str(memory))
        return Shot(width, height, pixels, text_of(memory.read_bytes()))
    finally:
        for path in (picture, memory):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def text_of(memory: bytes) -> str:
    """Return the lines in a VGA text memory, also those scrolled out of sight; empty ones are left out. Pure."""
    characters = memory[::2]
    rows = (characters[at : at + COLUMNS] for at in range(0, len(characters) - COLUMNS + 1, COLUMNS))
    lines = (row.replace(b"\0", b" ").decode("cp437").rstrip() for row in rows)
    return "\n".join(line for line in lines if line.strip())


def read_ppm(data: bytes) -> tuple[int, int, bytes]:
    """Return width, height and pixels of a binary PPM of 8 bits a colour; raises OSError for anything else. Pure."""
    words = data[:64].split(None, 4)
    try:
        kind, width, height, depth = words[0], int(words[1]), int(words[2]), int(words[3])
    except (IndexError, ValueError) as error:
        raise OSError("QEMU wrote no picture.") from error
    size = width * height * 3
    if kind != b"P6" or depth != 255 or not 0 < size <= len(data):
        raise OSError("QEMU wrote half a picture.")
    return width, height, data[-size:]
