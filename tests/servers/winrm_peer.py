"""A WinRM service on loopback that speaks the real protocol and runs real processes - on Linux.

Real: WS-Management over HTTP and HTTPS (Create, Command, Send, Receive, Signal, Delete and their faults), Basic,
NTLM and Kerberos by pyspnego's acceptor, sealed messages, channel bindings, authentication that holds for one TCP
connection as in http.sys, quotas, processes in a group of their own. Not real: Windows. There is no cmd.exe and no
PowerShell. The two fixed texts of msp.remote.winrm.bootstrap are recognised, and the script that follows on standard
input is run by /bin/sh; of PowerShell only the assignments are understood that our quoting writes. So it proves the
way to a script and back, and nothing about what Windows does with it.
"""

import base64
import contextlib
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import time
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from winrm_stand_in import PASSED_ON, Answer, Job, understood

NAMES = {
    "s": "http://www.w3.org/2003/05/soap-envelope",
    "a": "http://schemas.xmlsoap.org/ws/2004/08/addressing",
    "w": "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd",
    "x": "http://schemas.xmlsoap.org/ws/2004/09/transfer",
    "rsp": "http://schemas.microsoft.com/wbem/wsman/1/windows/shell",
    "f": "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault",
}
DECLARED = "".join(f' xmlns:{short}="{uri}"' for short, uri in NAMES.items())
SOAP = "application/soap+xml;charset=UTF-8"
BOUNDARY = b"--Encrypted Boundary"
STATE = NAMES["rsp"] + "/CommandState/"
BROKEN_OFF = 0xC000013A  # STATUS_CONTROL_C_EXIT: how this peer reports a process that a signal ended
USER, PASSWORD = "tech", "p4ss-Wörd's $x"


class Fault(Exception):
    """A WS-Management fault: its number, its subcode, its text."""

    def __init__(self, code: int, subcode: str, text: str) -> None:
        super().__init__(text)
        self.code, self.subcode, self.text = code, subcode, text


class Cut(Exception):
    """Close the connection without an answer."""


class Running:
    """One command. What it prints is kept in order until it is received."""

    def __init__(self, line: str, environment: dict[str, str], folder: Path) -> None:
        self.id = str(uuid.uuid4()).upper()
        self.line, self._environment, self._folder = line, environment, folder
        self._changed = threading.Condition()
        self._chunks: list[tuple[str, bytes]] = []
        self._status: int | None = None
        self._input = bytearray()
        self._process: subprocess.Popen[bytes] | None = None
        self._killed = False
        self.awaited = understood(line)
        if self.awaited is None:
            self._start(Job(["/bin/sh", "-c", line]))

    @property
    def at_work(self) -> bool:
        return self._status is None

    def feed(self, data: bytes, *, end: bool) -> None:
        """Take standard input. A script begins to run once all of it is there."""
        if self.awaited is None:
            assert self._process is not None
            assert self._process.stdin is not None
            with contextlib.suppress(BrokenPipeError, ValueError):
                self._process.stdin.write(data)
                self._process.stdin.flush()
                if end:
                    self._process.stdin.close()
            return
        self._input += data
        if end:
            self._start(self.awaited.read(bytes(self._input), self._folder))

    def _start(self, job: Job) -> None:
        if self._killed:
            return
        self._process = subprocess.Popen(
            job.arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=PASSED_ON | self._environment | job.environment, start_new_session=True,
        )  # fmt: skip
        threading.Thread(target=self._run, args=(self._process, job), daemon=True).start()

    def _run(self, process: subprocess.Popen[bytes], job: Job) -> None:
        """The end is the exit of the process; what it left in the background may hold the streams."""
        errors = bytearray()
        streams = [("stdout", process.stdout, None), ("stderr", process.stderr, errors if job.clixml else None)]
        pumps = [threading.Thread(target=self._pump, args=stream, daemon=True) for stream in streams]
        if self.awaited is not None:
            pumps.append(threading.Thread(target=self._give, args=(process, job.stdin), daemon=True))
        for pump in pumps:
            pump.start()
        status = process.wait()
        for pump in pumps:
            pump.join(0.2)
        with self._changed:
            if errors:
                self._chunks.append(("stderr", clixml(errors.decode("utf-8", "replace"))))
            self._status = BROKEN_OFF if status < 0 else status
            self._changed.notify_all()

    def _give(self, process: subprocess.Popen[bytes], data: bytes) -> None:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError, ValueError):
            process.stdin.write(data)
            process.stdin.close()

    def _pump(self, name: str, stream: Any, into: bytearray | None) -> None:
        while chunk := os.read(stream.fileno(), 65536):
            with self._changed:
                while sum(len(data) for _, data in self._chunks[-64:]) > 2_000_000:  # the reader is slower: wait for it
                    self._changed.wait(1)
                if into is None:
                    self._chunks.append((name, chunk))
                else:
                    into += chunk
                self._changed.notify_all()

    def receive(self, seconds: float, most: int) -> tuple[list[tuple[str, bytes]], int | None] | None:
        """Return what came and the exit status once all of it has, or None after `seconds` of silence."""
        until = time.monotonic() + seconds
        with self._changed:
            while not self._chunks and self._status is None:
                if (left := until - time.monotonic()) <= 0:
                    return None
                self._changed.wait(left)
            found, size = [], 0
            while self._chunks and size < most:
                found.append(self._chunks.pop(0))
                size += len(found[-1][1])
            self._changed.notify_all()
            return found, None if self._chunks else self._status

    def kill(self) -> None:
        self._killed = True
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


def clixml(text: str) -> bytes:
    """Return lines of an error stream as powershell.exe writes them."""
    lines = "".join(f'<S S="Error">{escape(line)}_x000D__x000A_</S>' for line in text.splitlines())
    head = '#< CLIXML\r\n<Objs Version="1.1.0.1" xmlns="http://schemas.microsoft.com/powershell/2004/04">'
    return f"{head}{lines}</Objs>".encode()


@dataclass
class Resource:
    """A shell as the service keeps it."""

    owner: str
    environment: dict[str, str]
    codepage: str
    id: str = field(default_factory=lambda: str(uuid.uuid4()).upper())
    commands: dict[str, Running] = field(default_factory=dict)


class Peer:
    """The service. `fault` is one of: drop (cut in the second Receive), mute (never answer a Receive), cut_command
    (cut instead of answering Command), garble (one bit of a sealed answer flipped), deny (no right to a shell).
    """

    def __init__(self, folder: Path, *, fault: str = "", most_shells: int = 25) -> None:
        self.folder, self.fault, self.most_shells = folder, fault, most_shells
        self.shells: dict[str, Resource] = {}
        self.lines: list[str] = []  # every command line that was asked for
        self.opened = 0
        self.connections = 0
        self.receives = 0
        self.bindings_checked = 0
        self.played: Callable[[str, dict[str, str]], Answer] | None = None
        self._lock = threading.Lock()

    @property
    def at_work(self) -> list[Running]:
        return [one for shell in list(self.shells.values()) for one in list(shell.commands.values()) if one.at_work]

    def answer(self, body: bytes, user: str) -> bytes:
        """Return the answer to one SOAP request; raises Fault or Cut."""
        root = ET.fromstring(body)

        def text(path: str) -> str:
            return (root.findtext(f".//{path}", "", NAMES) or "").strip()

        action, message = text("a:Action").rsplit("/", 1)[-1], text("a:MessageID")
        if not text("w:ResourceURI").startswith(NAMES["rsp"]):
            raise Fault(2150858752, "w:InvalidResourceURI", "The resource URI is not known.")
        if action == "Create":
            return self._create(root, message, user)
        wanted = next((one.text or "" for one in root.iterfind(".//w:Selector[@Name='ShellId']", NAMES)), "")
        shell = self.shells.get(wanted.upper())
        if shell is None or shell.owner != user:
            raise Fault(2150858843, "w:InvalidSelectors", "The shell was not found on the server.")
        if action == "Delete":
            self.shells.pop(shell.id, None)
            for one in shell.commands.values():
                one.kill()
            return envelope(f"{NAMES['x']}/DeleteResponse", message, "")
        if action == "Command":
            return self._command(root, message, shell, text("rsp:Command"))
        known = next((one.get("CommandId", "") for one in root.iter() if one.get("CommandId")), "")
        running = shell.commands.get(known.upper())
        if running is None:
            raise Fault(2150858843, "w:InvalidSelectors", "The command was not found on the server.")
        if action == "Send":
            stream = root.find(".//rsp:Stream", NAMES)
            assert stream is not None
            running.feed(base64.b64decode(stream.text or ""), end=stream.get("End", "").lower() == "true")
            return envelope(f"{NAMES['rsp']}/SendResponse", message, "<rsp:SendResponse/>")
        if action == "Signal":
            running.kill()
            shell.commands.pop(running.id, None)
            return envelope(f"{NAMES['rsp']}/SignalResponse", message, "<rsp:SignalResponse/>")
        if action == "Receive":
            seconds = float((re.match(r"PT([\d.]+)S", text("w:OperationTimeout")) or ["", "60"])[1])
            return self._receive(message, running, seconds, int(text("w:MaxEnvelopeSize") or 153600))
        raise Fault(2150858768, "w:ActionNotSupported", f"Action not supported: {action}")

    def _create(self, root: ET.Element, message: str, user: str) -> bytes:
        if self.fault == "deny":
            raise Fault(5, "w:AccessDenied", "Access is denied.")
        options = {one.get("Name"): one.text for one in root.iterfind(".//w:Option", NAMES)}
        variables = {one.get("Name", ""): one.text or "" for one in root.iterfind(".//rsp:Variable", NAMES)}
        with self._lock:
            if sum(one.owner == user for one in self.shells.values()) >= self.most_shells:
                raise Fault(2150859173, "w:QuotaLimit", "The maximum number of concurrent shells has been exceeded.")
            shell = Resource(user, variables, options.get("WINRS_CODEPAGE") or "437")
            self.shells[shell.id] = shell
            self.opened += 1
        selector = f'<w:SelectorSet><w:Selector Name="ShellId">{shell.id}</w:Selector></w:SelectorSet>'
        body = f"<x:ResourceCreated><a:ReferenceParameters>{selector}</a:ReferenceParameters></x:ResourceCreated>"
        return envelope(f"{NAMES['x']}/CreateResponse", message, body)

    def _command(self, root: ET.Element, message: str, shell: Resource, line: str) -> bytes:
        line = " ".join([line, *((one.text or "") for one in root.iterfind(".//rsp:Arguments", NAMES))])
        self.lines.append(line)
        if self.fault == "cut_command":
            raise Cut
        running = Running(line, shell.environment, self.folder)
        if running.awaited is not None:
            running.awaited.played = self.played
            running.awaited.at_work = lambda: [one.line for one in self.at_work if one is not running]
        shell.commands[running.id] = running
        body = f"<rsp:CommandResponse><rsp:CommandId>{running.id}</rsp:CommandId></rsp:CommandResponse>"
        return envelope(f"{NAMES['rsp']}/CommandResponse", message, body)

    def _receive(self, message: str, running: Running, seconds: float, largest: int) -> bytes:
        self.receives += 1
        if self.fault == "mute":
            time.sleep(600)
        if self.fault == "drop":
            if self.receives % 2 == 0:
                raise Cut
            found: list[tuple[str, bytes]] = [("stdout", b"fx-1\npartial")]
            status = None
        else:
            received = running.receive(seconds, largest // 2)
            if received is None:
                raise Fault(2150858793, "w:TimedOut", "The operation did not end within OperationTimeout.")
            found, status = received
        body = "".join(
            f'<rsp:Stream Name="{name}" CommandId="{running.id}">{base64.b64encode(data).decode()}</rsp:Stream>'
            for name, data in found
        )
        if status is None:
            body += f'<rsp:CommandState CommandId="{running.id}" State="{STATE}Running"/>'
        else:
            code = f"<rsp:ExitCode>{status}</rsp:ExitCode>"
            body += f'<rsp:CommandState CommandId="{running.id}" State="{STATE}Done">{code}</rsp:CommandState>'
        return envelope(
            f"{NAMES['rsp']}/ReceiveResponse", message, f"<rsp:ReceiveResponse>{body}</rsp:ReceiveResponse>"
        )


def envelope(action: str, relates: str, body: str) -> bytes:
    header = f"<a:Action>{action}</a:Action><a:RelatesTo>{relates}</a:RelatesTo>"
    return f"<s:Envelope{DECLARED}><s:Header>{header}</s:Header><s:Body>{body}</s:Body></s:Envelope>".encode()


def fault(found: Fault) -> bytes:
    reason = f'<s:Reason><s:Text xml:lang="en-US">{escape(found.text)}</s:Text></s:Reason>'
    code = f"<s:Code><s:Value>s:Receiver</s:Value><s:Subcode><s:Value>{found.subcode}</s:Value></s:Subcode></s:Code>"
    detail = f'<s:Detail><f:WSManFault Code="{found.code}" Machine="peer"><f:Message/></f:WSManFault></s:Detail>'
    return envelope(NAMES["a"] + "/fault", "", f"<s:Fault>{code}{reason}{detail}</s:Fault>")


class Handler(BaseHTTPRequestHandler):
    """One TCP connection; who has logged in stays logged in as long as it lasts."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "Microsoft-HTTPAPI/2.0", ""
    disable_nagle_algorithm = True
    server: "Server"

    def setup(self) -> None:
        self.server.peer.connections += 1
        self.user, self.context, self.scheme, self.token = "", None, "", b""
        super().setup()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.token = b""
        if not self._admitted():
            return None
        more = [("WWW-Authenticate", f"Negotiate {base64.b64encode(self.token).decode()}")] if self.token else []
        if not raw:
            return self._reply(200, b"", more)
        sealed = "multipart/encrypted" in self.headers.get("Content-Type", "")
        if not sealed and not self.server.tls:
            return self._reply(500, fault(Fault(5, "w:AccessDenied", "Unencrypted traffic is disabled.")))
        try:
            status, answer = 200, self.server.peer.answer(self._unsealed(raw) if sealed else raw, self.user)
        except Cut:
            self.close_connection = True
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self.connection, socket.SHUT_RDWR)
            return None
        except Fault as found:
            status, answer = 500, fault(found)
        kind = SOAP
        if sealed:
            answer, kind = self._sealed(answer)
            if self.server.peer.fault == "garble":
                answer = answer[:-40] + bytes([answer[-40] ^ 1]) + answer[-39:]
        return self._reply(status, answer, [*more, ("Content-Type", kind)])

    def _reply(self, status: int, body: bytes = b"", headers: list[tuple[str, str]] | None = None) -> None:
        self.send_response(status)
        for name, value in headers or [("Content-Type", SOAP)]:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _challenge(self, token: bytes | None = None) -> bool:
        if token is not None:
            self._reply(401, headers=[("WWW-Authenticate", f"Negotiate {base64.b64encode(token).decode()}")])
            return False
        offered = [("WWW-Authenticate", "Negotiate"), ("WWW-Authenticate", "Kerberos")]
        self._reply(401, headers=offered + ([("WWW-Authenticate", 'Basic realm="WSMAN"')] if self.server.tls else []))
        return False

    def _admitted(self) -> bool:
        scheme, _, rest = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "basic" and self.server.tls:
            user, _, password = base64.b64decode(rest).decode().partition(":")
            if (user.split("\\")[-1], password) != (USER, PASSWORD):
                return self._challenge()
            self.user = user
            return True
        if scheme.lower() in ("negotiate", "kerberos", "ntlm") and rest:
            return self._step(base64.b64decode(rest))
        return bool(self.user) or self._challenge()

    def _step(self, token: bytes) -> bool:
        import spnego

        if self.context is None or self.context.complete:
            self.user = ""
            ntlm = token.startswith(b"NTLMSSP\0")
            self.context = spnego.server(
                protocol="ntlm" if ntlm else "negotiate",
                service="host" if ntlm else "HTTP",
                hostname="localhost",
                channel_bindings=self.server.bindings,
            )
        try:
            answer = self.context.step(token)
        except Exception:  # noqa: BLE001  whatever is wrong with a token, the answer is no
            self.context = None
            return self._challenge()
        if not self.context.complete:
            return self._challenge(answer or b"")
        self.user = self.context.client_principal or "?"
        self.token = answer or b""
        self.server.peer.bindings_checked += self.server.bindings is not None
        return True

    def _unsealed(self, raw: bytes) -> bytes:
        assert self.context is not None
        rest = raw.split(b"\tContent-Type: application/octet-stream\r\n", 1)[1]
        rest = rest[: rest.rindex(BOUNDARY)]
        length = struct.unpack("<i", rest[:4])[0]
        return self.context.unwrap_winrm(rest[4 : 4 + length], rest[4 + length :])

    def _sealed(self, message: bytes) -> tuple[bytes, str]:
        assert self.context is not None
        sealed = self.context.wrap_winrm(message)
        protocol = "application/HTTP-SPNEGO-session-encrypted"
        length = len(message) + (sealed.padding_length or 0)
        head = f"\tContent-Type: {protocol}\r\n\tOriginalContent: type={SOAP};Length={length}\r\n".encode()
        payload = struct.pack("<i", len(sealed.header)) + sealed.header + sealed.data
        body = b"\r\n".join([BOUNDARY, head + BOUNDARY, b"\tContent-Type: application/octet-stream\r\n" + payload])
        return body + BOUNDARY + b"--\r\n", f'multipart/encrypted;protocol="{protocol}";boundary="Encrypted Boundary"'


class Server(ThreadingHTTPServer):
    """A listener of a peer, with TLS or without."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, peer: Peer, tls: ssl.SSLContext | None = None, bindings: Any = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.peer, self.tls, self.bindings = peer, tls, bindings
        self.live: set[socket.socket] = set()
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, *_: Any) -> None:
        """A client that goes away is no error."""

    def process_request(self, request: Any, client_address: Any) -> None:
        self.live.add(request)
        super().process_request(request, client_address)

    def cut(self) -> None:
        """Close every connection, as a router does that has forgotten them."""
        for one in list(self.live):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(one, socket.SHUT_RDWR)
        self.live.clear()


@contextmanager
def serving(peer: Peer, certificate: tuple[Path, Path] | None = None) -> Iterator[Server]:
    """Serve a peer on a free port of loopback; over HTTPS if a certificate and its key are given."""
    context = bindings = None
    if certificate is not None:
        from spnego.channel_bindings import GssChannelBindings

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        bindings = GssChannelBindings(application_data=b"tls-server-end-point:" + digest(certificate[0]))
    server = Server(peer, context, bindings)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.cut()
        server.server_close()
        for running in peer.at_work:
            running.kill()


def digest(certificate: Path) -> bytes:
    """Return the SHA-256 of a certificate, which is what pins and channel bindings name."""
    import hashlib

    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.read_text())).digest()


def accounts(folder: Path | None = None) -> Path:
    """Write the file of accounts that NTLM_USER_FILE has to name."""
    path = (folder or Path(tempfile.mkdtemp())) / "accounts"
    path.write_text(f":{USER}:{PASSWORD}\nCORP:{USER}:{PASSWORD}\n")
    return path
