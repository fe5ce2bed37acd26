"""One TCP connection to a Windows host: dialled once, and only to who it should be.

Its certificate is compared with the pins, or checked by a named authority; nothing is sent before. A connection is
never dialled anew behind our back, because who has logged in, and the keys that seal the messages, belong to it.
"""

import hashlib
import socket
import ssl
import time
from contextlib import suppress
from functools import partial
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

from msp.remote.outcome import Outcome, Reason
from msp.remote.transport import CannotOpen, NotAdmitted
from msp.remote.winrm.access import Access


class Broken(Exception):
    """The connection is gone or cannot be trusted any more. `sent`: a request may have reached the host."""

    def __init__(self, what: str, *, sent: bool = True) -> None:
        super().__init__(what)
        self.what, self.sent = what, sent


class Wire:
    """The connection to one host. Made and used in one thread; `cut` may be called from any."""

    def __init__(self, access: Access, deadline: float) -> None:
        """deadline: of dialling, by time.monotonic."""
        self.access, self.deadline = access, deadline
        self.certificate = b""  # of the host, DER; empty without TLS
        self._dialled = False
        self._cut = False
        self._socket: socket.socket | None = None

    @property
    def alive(self) -> bool:
        """False once the other side has hung up or `cut` was called; between requests nobody says anything."""
        if self._socket is None or self._cut:
            return False
        timeout = self._socket.gettimeout()
        try:
            self._socket.settimeout(0)
            socket.socket.recv(self._socket, 1, socket.MSG_PEEK)  # of the raw socket, beneath TLS
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            if self._socket.fileno() >= 0:
                self._socket.settimeout(timeout)
        return False

    def cut(self) -> None:
        """Break the connection off, so that whoever waits for it wakes up."""
        self._cut = True
        if self._socket is not None:
            with suppress(OSError):  # it is closed already
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # not TLS's own, which is for one thread

    def adapter(self) -> HTTPAdapter:
        """Return what makes requests use this connection and no other."""
        pool = HTTPConnectionPool(self.access.address, self.access.port, maxsize=1, block=True)
        pool.ConnectionCls = partial(_Connection, self)  # type: ignore[assignment]
        return _Adapter(pool)

    def left(self) -> float:
        return max(self.deadline - time.monotonic(), 0.01)

    def dial(self) -> socket.socket:
        """Return the connected socket; raises CannotOpen or NotAdmitted, and Broken the second time."""
        if self._dialled or self._cut:
            raise Broken("The host closed the connection.", sent=False)
        self._dialled = True
        sock = self._connected()
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.access.scheme == "https":
                sock = self._secured(sock)
        except BaseException:
            sock.close()
            raise
        self._socket = sock
        return sock

    def _connected(self) -> socket.socket:
        access = self.access
        try:
            found = socket.getaddrinfo(access.address, access.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            detail = f"The name {access.address!r} of {access.where} is not known to DNS."
            raise unreachable("dns", detail, "Check the address.") from error
        problem: OSError | None = None
        for family, kind, proto, _, address in found:
            sock = socket.socket(family, kind, proto)
            try:
                sock.settimeout(self.left())
                sock.connect(address)
            except OSError as error:
                sock.close()
                problem = error
            else:
                return sock
        if isinstance(problem, ConnectionRefusedError):
            advice = "Is its WinRM service running, and is there a listener for this port?"
            raise unreachable("refused", f"{access.where} refused the connection.", advice)
        if isinstance(problem, TimeoutError):
            raise unreachable("connect", f"{access.where} did not answer the connection request in time.", "Is it up?")
        said = problem.strerror if problem else "no address"
        raise unreachable("connect", f"{access.where} cannot be connected to: {said}.")

    def _secured(self, sock: socket.socket) -> socket.socket:
        access = self.access
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if access.ca and not access.pins:
            try:
                context.load_verify_locations(cafile=access.ca)
            except (OSError, ssl.SSLError) as error:
                detail = f"The authorities of {access.where} cannot be read from {access.ca}: {error}."
                raise NotAdmitted(Outcome("host_key_unknown", detail=detail), advice="Correct winrm_ca.") from error
        else:  # the pin decides, below; a certificate that nobody pinned is refused there
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        sock.settimeout(self.left())
        try:
            secured = context.wrap_socket(sock, server_hostname=access.host)
        except ssl.SSLCertVerificationError as error:
            detail = f"The host key of {access.where} is not known: its certificate does not hold ({_why(error)})."
            advice = "Correct winrm_ca or winrm_host, or pin the certificate's fingerprint."
            raise NotAdmitted(Outcome("host_key_unknown", detail=detail), advice=advice) from error
        except TimeoutError as error:
            raise unreachable("banner", f"{access.where} took the connection and then said nothing.") from error
        except ssl.SSLError as error:
            raise unreachable("banner", f"{access.where} does not speak TLS as we expect: {_why(error)}.") from error
        except OSError as error:
            raise unreachable("banner", f"{access.where} hung up during the TLS handshake.") from error
        self.certificate = secured.getpeercert(binary_form=True) or b""
        try:
            self._recognised()
        except BaseException:
            secured.close()
            raise
        return secured

    def _recognised(self) -> None:
        """Raise NotAdmitted unless the certificate is pinned, or an authority has vouched for it."""
        access, shown = self.access, hashlib.sha256(self.certificate).hexdigest()
        if access.pins:
            if shown in access.pins:
                return
            detail = f"The host key of {access.where} is not the pinned one: its certificate is SHA256:{shown}."
            advice = "Somebody may stand between. Ask the client; pin the new one only once it is confirmed."
            raise NotAdmitted(Outcome("host_key_changed", detail=detail), advice=advice)
        if not access.ca:
            detail = f"No host key of {access.where} is pinned; its certificate is SHA256:{shown}."
            advice = f"Compare it with the client and pin sha256:{shown}, or name its authority in winrm_ca."
            raise NotAdmitted(Outcome("host_key_unknown", detail=detail), advice=advice)


def _why(error: ssl.SSLError) -> str:
    said = getattr(error, "verify_message", "") or error.reason or str(error)
    return said.replace("_", " ").lower()


def unreachable(reason: Reason, detail: str, advice: str = "") -> CannotOpen:
    return CannotOpen(Outcome("unreachable", reason=reason, detail=detail), advice=advice)


class _Connection(HTTPConnection):
    """HTTP over a wire."""

    def __init__(self, wire: Wire, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._wire = wire

    def _new_conn(self) -> socket.socket:
        return self._wire.dial()


class _Adapter(HTTPAdapter):
    """Sends every request into one pool of one connection, and never a second time."""

    def __init__(self, pool: HTTPConnectionPool) -> None:
        super().__init__(max_retries=0)
        self._pool = pool

    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> HTTPConnectionPool:
        return self._pool

    def cert_verify(self, *_: Any, **__: Any) -> None:
        """The wire has seen to it."""

    def close(self) -> None:
        self._pool.close()
        super().close()
