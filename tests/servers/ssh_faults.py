"""SSH servers that misbehave on purpose, each on a free port of loopback, driven by a thread of their own.

refuse: nobody listens. silent: takes the connection and says nothing. slam: hangs up before its banner.
hang: prints and never ends. drop: prints, then cuts the TCP connection. garbage: invalid UTF-8 and terminal escapes,
status 0. changed_key: shows another host key than the one it is pinned with. reject: admits nobody. healthy: echoes.
"""

import asyncio
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import asyncssh

GARBAGE = b"fx-1 \xff\xfe \x1b[31mred\x1b[0m \x9b2J\n"


class _Session(asyncssh.SSHServerSession[bytes]):
    def __init__(self, kind: str, asked: list[str], server: asyncssh.SSHServerConnection) -> None:
        self._kind, self._asked, self._server = kind, asked, server

    def connection_made(self, chan: Any) -> None:
        self._channel = chan

    def exec_requested(self, command: str) -> bool:
        self._asked.append(command)
        return True

    def session_started(self) -> None:
        match self._kind:
            case "hang":
                self._channel.write(b"fx-1\npartial")
            case "drop":
                self._channel.write(b"fx-1\npartial")
                asyncio.get_running_loop().call_later(0.05, self._cut)
            case "garbage":
                self._channel.write(GARBAGE)
                self._channel.exit(0)
            case _:
                self._channel.write(b"fx-1\n")
                self._channel.exit(0)

    def _cut(self) -> None:
        transport: Any = self._server._transport
        transport.abort()


class _Server(asyncssh.SSHServer):
    def __init__(self, kind: str, asked: list[str]) -> None:
        self._kind, self._asked = kind, asked

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn

    def begin_auth(self, username: str) -> bool:
        return True

    def session_requested(self) -> _Session:
        return _Session(self._kind, self._asked, self._connection)


class FaultFleet:
    """Hosts by kind of fault; `lines` are those of a list for `msp run --hosts`, `asked` the commands by host."""

    def __init__(self, folder: Path, kinds: Sequence[str]) -> None:
        self.folder, self.kinds = folder, list(kinds)
        self.lines: list[str] = []
        self.kind_of: dict[str, str] = {}
        self.asked: dict[str, list[str]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._open: list[Any] = []

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(60)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def write_list(self, path: Path) -> Path:
        path.write_text("\n".join(self.lines) + "\n")
        return path

    async def _start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        user = asyncssh.generate_private_key("ssh-ed25519")
        user.write_private_key(str(self.folder / "user"))
        host_key, other = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
        stranger = asyncssh.generate_private_key("ssh-ed25519").export_public_key("openssh").decode()
        admitted = user.export_public_key("openssh").decode()
        for number, kind in enumerate(self.kinds):
            name = f"{kind}-{number:03d}"
            self.kind_of[name], self.asked[name] = kind, []
            if kind == "refuse":
                taken = socket.socket()  # bound and not listening: refuses, and nobody else gets the port
                taken.bind(("127.0.0.1", 0))
                self._open.append(taken)
                port = taken.getsockname()[1]
            elif kind in ("silent", "slam"):

                async def quiet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: str = kind) -> None:
                    if kind == "slam":
                        writer.close()
                    else:
                        self._open.append(writer)

                server = await asyncio.start_server(quiet, "127.0.0.1", 0)
                self._open.append(server)
                port = server.sockets[0].getsockname()[1]
            else:
                listener = await asyncssh.create_server(
                    lambda kind=kind, asked=self.asked[name]: _Server(kind, asked),
                    "127.0.0.1",
                    0,
                    server_host_keys=[other if kind == "changed_key" else host_key],
                    authorized_client_keys=asyncssh.import_authorized_keys(stranger if kind == "reject" else admitted),
                    encoding=None,
                    config=[],
                    gss_host=None,
                )
                self._open.append(listener)
                port = listener.get_port()
            pin = " ".join(host_key.export_public_key("openssh").decode().split()[:2])
            self.lines.append(f'{name} 127.0.0.1 {port} demo key={self.folder / "user"} hostkey="{pin}"')

    async def _stop(self) -> None:
        for one in self._open:
            one.close()
        await asyncio.sleep(0.05)
