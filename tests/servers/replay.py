"""A device that is not there: an SSH server that plays a recorded session (tests/remote/sessions) line by line.

It pages, asks, has modes and states as the recording says, and can misbehave: see FAULTS. `asked` keeps what it was
sent, `timer` whether its own timer runs.
"""

import asyncio
import threading
from pathlib import Path
from typing import Any, Self

import asyncssh
import yaml

SESSIONS = Path(__file__).resolve().parent.parent / "remote" / "sessions"
#: Commands with which any recorded device misbehaves.
FAULTS = {
    "show hang": "prints and never ends",
    "show cut": "prints, then the connection is cut",
    "show garbage": "invalid UTF-8 and terminal escapes",
    "show much": "50 MB",
}
MUCH = 50 * 1024 * 1024


class Replay:
    """One device of a recording, on a free port of loopback."""

    def __init__(self, name: str, *, key_type: str = "ssh-ed25519", **overrides: Any) -> None:
        self.recording: dict[str, Any] = {**yaml.safe_load((SESSIONS / f"{name}.yml").read_text()), **overrides}
        self.state: str = self.recording["state"]
        self.candidate = ""
        self.timer: bool | None = None
        self.asked: list[str] = []
        self.cut_after = ""  # a line after which the connection is cut
        self.locked_out = False  # lets nobody in any more
        self.port = 0
        self._key = asyncssh.generate_private_key(key_type)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def host_key(self) -> str:
        return " ".join(self._key.export_public_key("openssh").decode().split()[:2])

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _start(self) -> None:
        self._server = await asyncssh.create_server(
            lambda: _Login(self), "127.0.0.1", 0, server_host_keys=[self._key], encoding=None, line_editor=False,
            process_factory=None, config=[], gss_host=None,
        )  # fmt: skip
        self.port = self._server.get_port()

    def found(self, line: str) -> dict[str, Any] | None:
        """Return the exchange for a line in the present state."""
        for one in self.recording["exchanges"]:
            if one["send"] == line.strip() and one.get("when", self.state) == self.state:
                return dict(one)
        return None

    def text(self, name: str) -> str:
        texts: dict[str, str] = self.recording["texts"]
        while name not in texts and "-" in name:
            name = name.rpartition("-")[0]
        return texts.get(name, "\n")


class _Login(asyncssh.SSHServer):
    def __init__(self, device: Replay) -> None:
        self._device = device

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn

    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        recording = self._device.recording
        return not self._device.locked_out and (username, password) == (recording["user"], recording["password"])

    def session_requested(self) -> "_Terminal":
        return _Terminal(self._device, self._connection)


class _Terminal(asyncssh.SSHServerSession[bytes]):
    """One command line: echoes, answers, prompts."""

    def __init__(self, device: Replay, connection: asyncssh.SSHServerConnection) -> None:
        self._device, self._connection = device, connection
        self._prompt: str = device.recording["prompt"]
        self._line = b""
        self._waiting: dict[str, Any] | None = None  # an exchange that has asked something
        self._pages = bool(device.recording.get("page"))
        self._rest: list[str] = []  # pages still to be shown

    def connection_made(self, chan: Any) -> None:
        self._channel = chan

    def pty_requested(self, *_: Any) -> bool:
        return True

    def shell_requested(self) -> bool:
        return True

    def session_started(self) -> None:
        self._write(self._device.recording["greeting"] + "\r\n" + self._prompt)

    def _write(self, text: str) -> None:
        self._channel.write(text.encode())

    def data_received(self, data: bytes, datatype: Any) -> None:
        for number in range(len(data)):
            self._key(data[number : number + 1])

    def _key(self, key: bytes) -> None:
        if self._rest:
            if key == b" ":
                self._page()
            return
        if key == b"\x03":
            self._waiting, self._line = None, b""
            self._write("^C\r\n" + self._prompt)
        elif key in b"\r\n":
            line, self._line = self._line.decode(), b""
            self._write("\r\n")
            self._entered(line.replace("\x16", ""))
        else:
            self._line += key
            if not self._waiting:
                self._channel.write(key)

    def _entered(self, line: str) -> None:
        device = self._device
        if self._waiting is not None:
            exchange, self._waiting = self._waiting, None
            device.asked.append(line)
            if line != exchange["answer"]:
                self._write(exchange.get("wrong", "\r\n") + self._prompt)
                return
            self._follow(exchange)
            return
        if line.strip():
            device.asked.append(line)
        if device.cut_after and line.strip() == device.cut_after:
            device.cut_after = ""
            self._cut()
            return
        if line.strip() in FAULTS:
            self._misbehave(line.strip())
            return
        exchange = device.found(line)
        if exchange is None:
            self._write((device.recording["unknown"] if line.strip() else "") + self._prompt)
        elif "ask" in exchange:
            self._waiting = exchange
            self._write(exchange["ask"])
        else:
            self._follow(exchange)

    def _follow(self, exchange: dict[str, Any]) -> None:
        device = self._device
        said = exchange.get("say", "")
        said = device.text(device.state) if said == "{state}" else said
        said = exchange.get("before", "") + device.text(exchange["text"]) if "text" in exchange else said
        self._pages = exchange.get("pages", self._pages)
        self._prompt = exchange.get("prompt", self._prompt)
        device.candidate = exchange.get("candidate", "" if exchange.get("drop") else device.candidate)
        if exchange.get("commit") and device.candidate:
            device.state, device.candidate = device.candidate, ""
        device.state = exchange.get("state", device.state)
        device.timer = exchange.get("timer", device.timer)
        lines = said.replace("\r\n", "\n").rstrip("\n").split("\n") if said else []
        size = device.recording["page"] if self._pages else max(len(lines), 1)
        self._rest = ["\r\n".join(lines[at : at + size]) + "\r\n" for at in range(0, len(lines), size)]
        if self._rest:
            self._page()
        else:
            self._write(self._prompt)

    def _page(self) -> None:
        more = self._device.recording.get("more", "")
        page = self._rest.pop(0)
        if len(page.split("\r\n")) > 2:
            page = f"\r{' ' * len(more)}\r{page}" if more and self._pages else page
        self._write(page + (more if self._rest else self._prompt))

    def _cut(self) -> None:
        transport: Any = self._connection._transport
        transport.abort()

    def _misbehave(self, line: str) -> None:
        match line:
            case "show hang":
                self._write("one line\r\npartial")
            case "show cut":
                self._write("one line\r\npartial")
                asyncio.get_running_loop().call_later(0.2, self._cut)
            case "show garbage":
                self._channel.write(b"caf\xe9 \x1b[31mred\x1b[0m \xff\xfe\r\n")
                self._write(self._prompt)
            case _:
                self._channel.write((b"x" * 63 + b"\n") * (MUCH // 64))
                self._write("END\r\n" + self._prompt)
