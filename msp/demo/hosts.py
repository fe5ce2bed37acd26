"""Hosts of our own for demonstrations and tests: real SSH servers on loopback that really run what they are told.

Each has a host key, a folder that is its HOME and working directory, and admits one key. They are no sandbox: their
commands run as the user who started them.
"""

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import asyncssh

USER = "demo"


@dataclass(frozen=True, slots=True)
class DemoHost:
    """One running host."""

    name: str
    address: str
    port: int
    root: Path  # HOME and working directory of its commands
    host_key: str  # public, as in authorized_keys
    key_file: Path  # private key that it admits
    user: str = USER

    @property
    def line(self) -> str:
        """The host as a line of a list for `msp run --hosts`."""
        return f'{self.name} {self.address} {self.port} {self.user} key={self.key_file} hostkey="{self.host_key}"'


class _Server(asyncssh.SSHServer):
    """Admits whom the listener's authorized keys admit, and gives every channel a session of its host."""

    def __init__(self, fleet: "DemoHosts", host_root: Path, environment: Mapping[str, str]) -> None:
        self._fleet, self._root, self._environment = fleet, host_root, environment

    def begin_auth(self, username: str) -> bool:
        return True

    def session_requested(self) -> asyncssh.SSHServerSession[bytes]:
        return _Session(self._fleet, self._root, self._environment)


class _Session(asyncssh.SSHServerSession[bytes]):
    """One command: a child process in a session of its own, its streams passed on byte by byte."""

    def __init__(self, fleet: "DemoHosts", root: Path, environment: Mapping[str, str]) -> None:
        self._fleet, self._root, self._environment = fleet, root, environment
        self._channel: asyncssh.SSHServerChannel[bytes] | None = None
        self._command: str | None = None
        self._input: list[bytes | None] = []
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._process: asyncio.subprocess.Process | None = None

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        self._channel = chan

    def exec_requested(self, command: str) -> bool:
        self._command = command
        return True

    def session_started(self) -> None:
        self._fleet.keep(asyncio.ensure_future(self._run()))

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        self._input.append(data)
        self._arrived.set()

    def eof_received(self) -> bool:
        self._input.append(None)
        self._arrived.set()
        return True

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    def signal_received(self, signal: str) -> None:
        self._signal(f"SIG{signal}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._room.set()  # without a terminal a process survives its connection, as with OpenSSH

    def _signal(self, name: str) -> None:
        number = getattr(signal, name, None)
        if self._process and self._process.returncode is None and number:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    async def _run(self) -> None:
        process = self._process = await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-c",
            self._command or "exit 0",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self._root,
            env=dict(self._environment),
            start_new_session=True,
        )
        streams = [
            asyncio.create_task(self._feed(process)),
            asyncio.create_task(self._pass(process.stdout, None)),
            asyncio.create_task(self._pass(process.stderr, asyncssh.EXTENDED_DATA_STDERR)),
        ]
        try:
            while process.returncode is None:  # noqa: ASYNC110  wait() would also wait for background processes
                await asyncio.sleep(0.005)
            await asyncio.wait(streams[1:], timeout=1)
        finally:
            for stream in streams:
                stream.cancel()
            await asyncio.gather(*streams, return_exceptions=True)
            process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001  there is no public way
            if process.returncode is None:  # we are being closed: its end must find the loop open
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), 5)
        code = process.returncode
        if self._channel and not self._channel.is_closing():
            if code < 0:
                self._channel.exit_with_signal(signal.Signals(-code).name.removeprefix("SIG"))
            else:
                self._channel.exit(code)

    async def _feed(self, process: asyncio.subprocess.Process) -> None:
        stdin = process.stdin
        while stdin:
            await self._arrived.wait()
            self._arrived.clear()
            while self._input:
                chunk = self._input.pop(0)
                if chunk is None:
                    stdin.close()
                    return
                with contextlib.suppress(ConnectionError):
                    stdin.write(chunk)
                    await stdin.drain()

    async def _pass(self, stream: asyncio.StreamReader | None, kind: asyncssh.DataType) -> None:
        while stream and (chunk := await stream.read(65536)):
            await self._room.wait()
            if self._channel and not self._channel.is_closing():
                self._channel.write(chunk, kind)


class DemoHosts:
    """N hosts on 127.0.0.1, driven by a thread of their own while the `with` block lasts.

    folder: holds keys and a folder for each host; made if missing. Ports are free ones.
    """

    def __init__(self, folder: Path, names: Sequence[str], *, environment: Mapping[str, str] | None = None) -> None:
        self.folder, self.names = folder, tuple(names)
        self.hosts: list[DemoHost] = []
        self._environment = dict(environment or {})
        self._tasks: set[asyncio.Future[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="demo-hosts", daemon=True)
        self._servers: list[asyncssh.SSHAcceptor] = []

    @property
    def key_file(self) -> Path:
        """Private key that every host admits."""
        return self.folder / "id_ed25519"

    def keep(self, task: "asyncio.Future[None]") -> None:
        """Hold a running command so that it is neither lost nor left over."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(60)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def __getitem__(self, name: str) -> DemoHost:
        return next(host for host in self.hosts if host.name == name)

    def write_list(self, path: Path) -> Path:
        """Write the hosts as a list for `msp run --hosts` and return its path."""
        path.write_text("".join(f"{host.line}\n" for host in self.hosts))
        return path

    async def _start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.key_file.exists():
            key = asyncssh.generate_private_key("ssh-ed25519")
            self.key_file.touch(mode=0o600)
            key.write_private_key(str(self.key_file))
        admitted = asyncssh.read_private_key(str(self.key_file)).export_public_key("openssh").decode()
        for name in self.names:
            root = self.folder / name
            root.mkdir(exist_ok=True)
            saved = self.folder / f"{name}.hostkey"
            if not saved.exists():
                saved.touch(mode=0o600)
                asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(saved))
            host_key = asyncssh.read_private_key(str(saved))
            environment = {"HOME": str(root), "PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LANG": "C.UTF-8",
                           "USER": USER, "LOGNAME": USER, "DEMO_HOST": name, **self._environment}  # fmt: skip
            server = await asyncssh.create_server(
                lambda root=root, environment=environment: _Server(self, root, environment),
                "127.0.0.1",
                0,
                server_host_keys=[host_key],
                authorized_client_keys=asyncssh.import_authorized_keys(admitted),
                encoding=None,
                config=[],
                gss_host=None,
                line_editor=False,
                login_timeout=30,
            )
            self._servers.append(server)
            public = " ".join(host_key.export_public_key("openssh").decode().split()[:2])
            self.hosts.append(DemoHost(name, "127.0.0.1", server.get_port(), root, public, self.key_file))

    async def _stop(self) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(server.wait_closed() for server in self._servers))
        await asyncio.sleep(0)
