# ruff: noqa: N802  names of methods that vncdotool and Twisted call
"""A VNC client (RFC 6143) for the child process, on vncdotool's protocol. It keeps the screen and nothing else.

vncdotool's own waiting and comparing are not used: they hand stale answers on and compare histograms only.
"""

from typing import Any, Final

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from PIL.Image import Image
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from vncdotool.client import VNCDoToolClient, VNCDoToolFactory
from vncdotool.const import AuthTypes

MOST_PIXELS: Final = 40_000_000  # of a screen; a hostile server may claim any size
LONGEST: Final = 4 * MOST_PIXELS  # bytes of one message
LONGEST_WORD: Final = 200  # characters of what a server says
BUSY: Final = ("too many", "blacklist", "try again later")


class Gone(Exception):
    """The connection ended. `kind`: lost, auth_failed, busy or protocol."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind, self.detail = kind, detail[:LONGEST_WORD]  # much of it is the server's own


class Client(VNCDoToolClient):  # type: ignore[misc]
    """One connection. `screen` is what the server shows, as of the last look."""

    SUPPORTED_AUTHS = {AuthTypes.NONE, AuthTypes.VNC_AUTHENTICATION}  # noqa: RUF012  as its parent declares it
    screen: Image | None

    def __init__(self) -> None:
        super().__init__()
        self.ready: Deferred[None] = Deferred()
        self.gone: Gone | None = None
        self._fresh = False  # the screen has been drawn whole
        self._looking: Deferred[None] | None = None

    # what the server says

    def connectionMade(self) -> None:
        """Nothing to tune: the parent process opened the connection."""

    def connectionLost(self, reason: Failure) -> None:
        self._end(Gone("lost", "the connection was closed"))

    def vncConnectionMade(self) -> None:
        if not 0 < self.width * self.height <= MOST_PIXELS:
            self._refuse(f"the screen claims to be {self.width} x {self.height} pixels large")
            return
        super().vncConnectionMade()
        self._answer(self.ready)

    def vncRequestPassword(self) -> None:
        password = self.factory.password
        if password and password.isascii():
            self.transport.write(_answered(password, self._challenge))
            return
        why = "VNC knows passwords of ASCII letters only" if password else "it asks for a password and none is kept"
        self._end(Gone("auth_failed", why))
        self.transport.loseConnection()

    def vncAuthFailed(self, reason: bytes | str) -> None:
        said = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else reason
        self._end(Gone("busy" if _busy(said) else "auth_failed", said.strip(" .")))

    def vncProtocolError(self, reason: str) -> None:
        self._end(Gone("busy" if _busy(reason) else "protocol", reason.strip(" .")))

    def _handleSecurityTypes(self, block: bytes) -> None:
        if self.factory.password and AuthTypes.VNC_AUTHENTICATION not in block and AuthTypes.NONE in block:
            self._end(Gone("auth_failed", "it asks for no password, although one is kept for it"))
            self.transport.loseConnection()
            return
        super()._handleSecurityTypes(block)

    def expect(self, handler: Any, size: int, *args: Any, **kwargs: Any) -> None:
        if size > LONGEST:
            self._refuse(f"a message of {size} bytes")
            return
        super().expect(handler, size, *args, **kwargs)

    def updateDesktopSize(self, width: int, height: int) -> None:
        if width * height > MOST_PIXELS:
            self._refuse(f"the screen claims to be {width} x {height} pixels large")
            return
        self.width, self.height, self.screen, self._fresh = width, height, None, False

    def _handleDecodeRAW(self, block: bytes, x: int, y: int, width: int, height: int) -> None:
        if x + width > self.width or y + height > self.height:
            self._refuse("a part of the screen that lies outside of it")
            return
        super()._handleDecodeRAW(block, x, y, width, height)

    def commitUpdate(self, rectangles: list[tuple[int, int, int, int]] | None = None) -> None:
        if not self._fresh:
            if self.screen is not None and self.screen.size == (self.width, self.height):
                self._fresh = True
            else:  # resized, or drawn in parts: ask for all of it
                self.framebufferUpdateRequest()
                return
        if self._looking and any(x == 0 and y == 0 for x, y, _, _ in rectangles or ()):
            waiting, self._looking = self._looking, None
            self._answer(waiting)

    # what we ask of it

    def look(self) -> "Deferred[None]":
        """Bring `screen` up to date. An answer also proves that the server has read what was sent before."""
        self._looking = Deferred()
        if self.gone:
            self._looking.errback(self.gone)
        elif self._fresh:
            self.framebufferUpdateRequest(incremental=True)
            self.framebufferUpdateRequest(0, 0, 1, 1)
        else:
            self.framebufferUpdateRequest()
        return self._looking

    def _refuse(self, what: str) -> None:
        self._end(Gone("protocol", f"it sent what no screen sends: {what}"))
        self.transport.abortConnection()

    def _end(self, gone: Gone) -> None:
        """Remember the first reason, and tell whoever waits."""
        if self.gone is None:
            self.gone = gone
            for waiting in (self.ready, self._looking):
                if waiting and not waiting.called:
                    waiting.errback(gone)

    def _answer(self, waiting: "Deferred[None]") -> None:
        if not waiting.called:
            waiting.callback(None)


class Factory(VNCDoToolFactory):  # type: ignore[misc]
    """Makes the one client. `nocursor`: the pointer is not drawn into pictures."""

    protocol = Client
    nocursor = True

    def __init__(self, password: str | None) -> None:
        super().__init__()
        self.password = password

    def clientConnectionLost(self, connector: object, reason: Failure) -> None:
        """The client tells by itself."""


def _answered(password: str, challenge: bytes) -> bytes:
    """Encrypt a challenge as RFC 6143, 7.2.2, says: DES, by the bits of eight letters in reverse."""
    key = bytes(int(f"{byte:08b}"[::-1], 2) for byte in password.encode()[:8].ljust(8, b"\0"))
    encryptor = Cipher(TripleDES(key * 3), modes.ECB()).encryptor()  # noqa: S305  the protocol knows nothing better
    return encryptor.update(challenge) + encryptor.finalize()


def _busy(said: str) -> bool:
    return any(words in said.lower() for words in BUSY)
