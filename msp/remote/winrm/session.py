"""A conversation with one WinRM service: logged in, sealed if need be, by pywinrm's `Protocol`.

Not safe for threads: whoever made a session is the only one to use it. pywinrm's own `Session` is not used: it opens a
shell for each command, leaks it on errors, and repeats a Receive for ever.
"""

import base64
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from typing import Any
from xml.etree.ElementTree import ParseError

import requests
import spnego
from requests.auth import AuthBase, HTTPBasicAuth
from spnego.channel_bindings import GssChannelBindings
from spnego.exceptions import SpnegoError
from urllib3.exceptions import HTTPError
from winrm.encryption import Encryption
from winrm.exceptions import InvalidCredentialsError, WinRMError, WinRMTransportError
from winrm.protocol import Protocol
from winrm.transport import Transport

from msp.remote.outcome import Outcome
from msp.remote.transport import CannotOpen, NotAdmitted
from msp.remote.winrm.access import Access
from msp.remote.winrm.wire import Broken, Wire, unreachable

OPERATION = 20.0  # seconds that the host may hold a request back
MARGIN = 1.5  # seconds by which an answer may come later than the host was asked to give one
ENVELOPE = 512_000  # bytes of one answer; what Windows allows by default

try:  # the extra [kerberos]
    from gssapi.raw.misc import GSSError
    from krb5 import Krb5Error
except ImportError:
    NO_LOG_IN: tuple[type[Exception], ...] = (SpnegoError, ImportError)
else:
    NO_LOG_IN = (SpnegoError, ImportError, GSSError, Krb5Error)

#: What pywinrm and all beneath it raise when an answer does not come or cannot be understood.
GONE = (requests.RequestException, HTTPError, HTTPException, OSError, SpnegoError, WinRMTransportError, ParseError,
        AssertionError, StopIteration, KeyError, ValueError, AttributeError)  # fmt: skip


class _Sealing(AuthBase):
    """Seals messages with the keys of the log-in; requests asks it to sign a request, which needs nothing more."""

    def __init__(self, context: spnego.ContextProxy) -> None:
        self._context = context

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request

    def wrap_winrm(self, _: str, message: bytes) -> tuple[bytes, bytes]:
        sealed = self._context.wrap_winrm(message)
        return sealed.data, sealed.header

    def unwrap_winrm(self, _: str, message: bytes, header: bytes) -> bytes:
        return self._context.unwrap_winrm(header, message)


class _Transport(Transport):
    """pywinrm's, with a connection of ours and no other: it never makes one by itself."""

    def build_session(self) -> requests.Session:
        if self.session is None:
            raise Broken("The conversation is over.", sent=False)
        return self.session


class _Protocol(Protocol):
    """pywinrm's, with time limits below a second and larger answers."""

    seconds = OPERATION

    def build_wsman_header(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        header: dict[str, Any] = super().build_wsman_header(*arguments, **options)
        inner = header["env:Header"]
        inner["w:OperationTimeout"] = f"PT{self.seconds:.3f}S"
        inner["w:MaxEnvelopeSize"]["#text"] = str(ENVELOPE)
        return header


class Session:
    """See the head of this module. Raises CannotOpen or NotAdmitted when the host cannot be talked to."""

    def __init__(self, access: Access, deadline: float) -> None:
        """deadline: of logging in, by time.monotonic."""
        self.access = access
        self.wire = Wire(access, deadline)
        self._http = requests.Session()
        self._http.trust_env = False  # no proxy, no bundle of authorities, no .netrc
        self._http.headers.update({"Content-Type": "application/soap+xml;charset=UTF-8", "User-Agent": "msp-toolkit"})
        self._http.mount(f"{access.scheme}://", self.wire.adapter())
        options = {"endpoint": access.endpoint, "username": access.user, "password": access.password,
                   "server_cert_validation": "validate", "ca_trust_path": None, "proxy": None}  # fmt: skip
        way = "ssl"  # to pywinrm: how to log in is our business, and done before it says anything
        self.protocol = _Protocol(transport=way, **options)  # type: ignore[arg-type]
        transport = _Transport(auth_method=way, **options)  # type: ignore[arg-type]
        transport.session = self._http
        self.protocol.transport = transport
        try:
            self._log_in(transport)
        except BaseException:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        return self.wire.alive

    def close(self) -> None:
        """Let go of the connection; what the host keeps of shells stays there."""
        self.protocol.transport.session = None
        self._http.close()

    @contextmanager
    def within(self, seconds: float) -> Iterator[Protocol]:
        """Yield the protocol for one request that the host is to answer within `seconds`; raises Broken.

        Faults of the host (WinRMError) and operation timeouts are the caller's.
        """
        self.protocol.seconds = max(seconds, 0.5)  # Windows takes nothing shorter
        self.protocol.transport.read_timeout_sec = self.protocol.seconds + MARGIN  # type: ignore[assignment]
        try:
            yield self.protocol
        except InvalidCredentialsError as error:
            raise Broken("The host has forgotten that we had logged in.", sent=False) from error
        except WinRMError as error:
            if type(error) is WinRMError:  # a sealed answer of the wrong length
                raise Broken(f"An answer of the host cannot be understood: {error}.") from error
            raise
        except GONE as error:
            raise Broken(_said(error)) from error

    def _log_in(self, transport: Transport) -> None:
        access = self.access
        try:
            if access.auth == "basic":
                self._http.auth = HTTPBasicAuth(access.user.encode(), access.password.encode())
                self._checked(self._ask(""))
                return
            context = self._negotiated()
        except (requests.RequestException, HTTPError, HTTPException, OSError) as error:
            if time.monotonic() >= self.wire.deadline or isinstance(error, requests.Timeout):
                raise unreachable("banner", f"{access.where} took the connection and then said nothing.") from error
            raise unreachable("banner", f"{access.where} hung up while logging in.") from error
        self._http.auth = _Sealing(context)
        if access.scheme == "http":
            transport.encryption = Encryption(self._http, "kerberos")  # both ways in seal alike

    def _negotiated(self) -> spnego.ContextProxy:
        """Return the context of an NTLM or Kerberos log-in in which both sides have proven who they are."""
        try:
            response = self._ask("")  # the connection must stand, so that the log-in can be bound to it
            token: bytes | None = None
            context = self._context()
            for _ in range(5):
                token = context.step(token)
                response = self._ask(f"Negotiate {base64.b64encode(token or b'').decode()}")
                token = _token(response)
                if response.status_code != requests.codes.unauthorized:
                    self._checked(response)
                    if not context.complete:
                        context.step(token)
                    break
                if not token:
                    break
            if not context.complete or response.status_code == requests.codes.unauthorized:
                raise self._rejected(response)
        except NO_LOG_IN as error:
            raise self._impossible(error) from error
        return context

    def _context(self) -> spnego.ContextProxy:
        access = self.access
        bindings = None
        if self.wire.certificate:
            bindings = GssChannelBindings(application_data=b"tls-server-end-point:" + _bound(self.wire.certificate))
        options = spnego.NegotiateOptions.use_ntlm if access.auth == "ntlm" else spnego.NegotiateOptions.none
        return spnego.client(
            access.user,
            access.password,
            hostname=access.host,
            service="HTTP",
            protocol=access.auth,
            channel_bindings=bindings,
            options=options,
        )

    def _ask(self, authorization: str) -> requests.Response:
        headers = {"Authorization": authorization} if authorization else {}
        request = self._http.prepare_request(
            requests.Request("POST", self.access.endpoint, data=b"", headers=headers | {"Content-Length": "0"})
        )
        return self._http.send(request, timeout=self.wire.left(), allow_redirects=False)

    def _checked(self, response: requests.Response) -> None:
        if response.status_code == requests.codes.unauthorized:
            raise self._rejected(response)
        if response.status_code not in (requests.codes.ok, requests.codes.server_error, requests.codes.bad_request):
            detail = f"{self.access.where} answers HTTP status {response.status_code}, as WinRM does not."
            raise unreachable("banner", detail, "Is WinRM's listener on this port?")

    def _rejected(self, response: requests.Response) -> NotAdmitted:
        access = self.access
        offered = [one.split()[0] for one in response.headers.get("WWW-Authenticate", "").split(",") if one.split()]
        detail = f"{access.where} did not admit {access.user} by {access.auth}."
        if offered and access.auth == "basic" and "Basic" not in offered:
            detail = f"{access.where} does not take Basic; it offers {', '.join(dict.fromkeys(offered))}."
        return NotAdmitted(Outcome("auth_failed", detail=detail), advice="Check the user, the password and its rights.")

    def _impossible(self, error: Exception) -> NotAdmitted | CannotOpen:
        access, said = self.access, str(error).split("\n")[0]
        if "contact any KDC" in said or "Cannot find KDC" in said:
            return unreachable("connect", f"No Kerberos server answers for {access.where}: {said}.")
        detail = f"Logging in to {access.where} as {access.user} by {access.auth} failed: {said}."
        advice = "Check the user and the password; Kerberos needs the extra [kerberos] and the host's name."
        return NotAdmitted(Outcome("auth_failed", detail=detail), advice=advice)


def _token(response: requests.Response) -> bytes | None:
    for one in response.headers.get("WWW-Authenticate", "").split(","):
        scheme, _, rest = one.strip().partition(" ")
        if scheme.lower() in ("negotiate", "kerberos") and rest:
            return base64.b64decode(rest)
    return None


def _bound(certificate: bytes) -> bytes:
    """Return the hash that binds a log-in to a certificate (RFC 5929, 4.1)."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    used = x509.load_der_x509_certificate(certificate).signature_hash_algorithm
    weak = used is None or used.name in ("md5", "sha1")
    digest = hashes.Hash(hashes.SHA256() if weak or used is None else used)
    digest.update(certificate)
    return digest.finalize()


def _said(error: BaseException) -> str:
    if isinstance(error, (requests.Timeout, socket.timeout)):
        return "The host stopped answering."
    if isinstance(error, SpnegoError):
        return "A sealed answer of the host was altered on the way."
    return "The connection to the host broke."
