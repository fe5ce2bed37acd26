"""The protocol of screens, RFB 3.8, as far as a gate must read it: what a viewer says, and the first words. Pure.

A viewer's messages are read one by one, because only whole ones can be let through or held back. What it may ask for
is narrowed first, so that nothing comes whose length we do not know.
Sources: RFC 6143, 7.5; the community's rfbproto for messages beyond it.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes

from msp.errors import Refused

VERSION = b"RFB 003.008\n"
NONE, VNC_AUTH = 1, 2  # security types
HEAD = 9  # bytes after which every message's length is known
LONGEST = 1024 * 1024  # bytes of one message; a clipboard is the longest

SET_PIXEL_FORMAT, SET_ENCODINGS, UPDATE_REQUEST, KEY, POINTER, CUT_TEXT = 0, 2, 3, 4, 5, 6
CONTINUOUS_UPDATES, FENCE, XVP, SET_DESKTOP_SIZE, QEMU = 150, 248, 250, 251, 255
#: Messages that act upon the machine: typing, pointing, the clipboard, another size of its screen.
ACTS = frozenset({KEY, POINTER, CUT_TEXT, SET_DESKTOP_SIZE, QEMU})
#: What nobody sends through us: XVP shuts the machine down, which the contract knows as another kind of action.
NEVER = frozenset({XVP})
#: Encodings that a viewer may ask for: pixels, and pseudo-encodings whose messages we can read.
ENCODINGS = frozenset(
    {0, 1, 2, 5, 6, 7, 16, 21, -260}  # Raw, CopyRect, RRE, Hextile, Zlib, Tight, ZRLE, JPEG, TightPNG
    | {-223, -224, -239, -258, -261, -307, -308, -312, -313, 0x574D5664}
)
#: Quality and compression levels of Tight (-32..-23, -256..-247).
LEVELS = frozenset(range(-32, -22)) | frozenset(range(-256, -246))


class NotRfb(Refused):
    """The other side does not speak the protocol as we know it; nothing more of it is let through."""

    code = "not_rfb"


@dataclass(frozen=True, slots=True)
class Message:
    """One whole message of a viewer."""

    kind: int
    data: bytes


class ViewerMessages:
    """Cuts what a viewer sends into whole messages. Raises NotRfb for one that it does not know."""

    def __init__(self) -> None:
        self._kept = b""

    def feed(self, data: bytes) -> Iterator[Message]:
        """Yield the messages that are whole now; the rest waits."""
        data, at = self._kept + data, 0
        while at < len(data):
            length = _length(data[at : at + HEAD])
            if length is None or at + length > len(data):
                break
            yield Message(data[at], data[at : at + length])
            at += length
        self._kept = data[at:]


def _length(data: bytes) -> int | None:
    """Return how long the message is that begins so; None if that is not known yet."""
    kind = data[0]
    fixed = FIXED.get(kind)
    if fixed is not None:
        return fixed
    if kind not in VARIABLE:
        raise NotRfb(f"The viewer sent a message of the unknown kind {kind}.", advice="Load the page again.")
    head, length = VARIABLE[kind], None
    if len(data) >= head:
        match kind:
            case 2:
                length = 4 + 4 * int(struct.unpack_from(">H", data, 2)[0])
            case 6:
                size = int(struct.unpack_from(">i", data, 4)[0])
                length = 8 + abs(size)  # below zero: the extended clipboard
            case 248:
                length = 9 + data[8]
            case 251:
                length = 8 + 16 * data[6]
            case _:
                length = _qemu(data)
    if length is not None and length > LONGEST:
        raise NotRfb(f"The viewer sent a message of {length} bytes.", advice="Paste less at once.")
    return length


def _qemu(data: bytes) -> int:
    """Return the length of a QEMU message: an extended key event; sound is not let through at all."""
    if data[1] != 0:
        raise NotRfb("The viewer asked for sound.", advice="Load the page again.")
    return 12


FIXED = {SET_PIXEL_FORMAT: 20, UPDATE_REQUEST: 10, KEY: 8, POINTER: 6, CONTINUOUS_UPDATES: 10, XVP: 4}
#: kind -> bytes after which its length is known
VARIABLE = {SET_ENCODINGS: 4, CUT_TEXT: 8, FENCE: 9, SET_DESKTOP_SIZE: 8, QEMU: 2}


class Gate:
    """Lets through what a viewer may say. In mode `view` nothing that acts upon the machine passes."""

    def __init__(self, mode: str) -> None:
        self._messages, self._dropped = ViewerMessages(), NEVER | (ACTS if mode == "view" else frozenset())
        self.acted = False  # somebody typed or pointed since this was last looked at

    def feed(self, data: bytes) -> bytes:
        """Return what goes on to the machine. Raises NotRfb for what cannot be read."""
        passed = []
        for message in self._messages.feed(data):
            if message.kind in ACTS:
                self.acted = True
            if message.kind not in self._dropped:
                passed.append(narrowed(message.data) if message.kind == SET_ENCODINGS else message.data)
        return b"".join(passed)


def narrowed(set_encodings: bytes) -> bytes:
    """Return a SetEncodings message that asks only for what can be let through."""
    count = struct.unpack_from(">H", set_encodings, 2)[0]
    asked = struct.unpack_from(f">{count}i", set_encodings, 4)
    return asking_for(one for one in asked if one in ENCODINGS or one in LEVELS)


def asking_for(encodings: Iterable[int]) -> bytes:
    """Return a SetEncodings message."""
    wanted = list(encodings)
    return struct.pack(f">BxH{len(wanted)}i", SET_ENCODINGS, len(wanted), *wanted)


def answer(challenge: bytes, password: str) -> bytes:
    """Return the answer of VNC authentication (RFC 6143, 7.2.2): DES, each byte of the key with its bits reversed.

    Only eight letters count, which is the protocol's weakness and the reason why it goes through SSH.
    """
    key = password.encode("latin-1", "replace")[:8].ljust(8, b"\0")
    mirrored = bytes(int(f"{byte:08b}"[::-1], 2) for byte in key)
    encryptor = Cipher(TripleDES(mirrored * 3), modes.ECB()).encryptor()  # noqa: S305  the protocol's own cipher
    return encryptor.update(challenge)
