"""The standby's side: a socket, a child for each command, and the end when its owner ends."""

import fcntl
import gc
import importlib
import io
import logging
import os
import resource
import selectors
import signal
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from msp.standby import wire

MODULES: Final = (
    "msp.cli.run", "msp.cli.run_output", "msp.cli.run_recorded", "msp.remote.runner", "msp.remote.ssh",
    "msp.remote.local", "msp.remote.inventory", "msp.remote.catalogue", "msp.remote.parameters", "msp.remote.spool",
    "msp.remote.run_certificates", "msp.migrations", "msp.vault", "msp.desk.tickets", "json", "sqlite3",
    "sqlalchemy.dialects.sqlite.pysqlite", "sqlalchemy.dialects.postgresql.psycopg", "zoneinfo", "getpass", "uvloop",
)  # fmt: skip

#: Read once before the first order: the readers of YAML, models and templates make themselves ready when first used.
REHEARSAL: Final = b"""name: rehearsal
version: "1"
action_class: change
steps:
  - name: first
    do: echo {{ host.name }}
    register: said
    check:
      assert: said.stdout == 'x'
"""

logger = logging.getLogger(__name__)


@dataclass
class _Child:
    """One command at work. peer: who waits for it, None once that has gone."""

    pid: int
    peer: socket.socket | None


@dataclass(frozen=True)
class Program:
    """What was read: when that began, and each file as it was, ours and those that ours is built on."""

    began: float  # by the clock that tells the age of a file
    files: Mapping[str, tuple[int, int, int]]

    def changed(self) -> bool:
        """Return whether a file is another one by now, or gone: an older one too, as a program taken back brings it."""
        for file, was in self.files.items():
            try:
                found = os.stat(file)  # noqa: PTH116  a thousand of them for each order
            except OSError:
                return True
            if _mark(found) != was or found.st_mtime > self.began:
                return True
        return False


def _mark(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_mtime_ns, found.st_ino, found.st_size


def prepare() -> Program:
    """Read the program, and return what was read."""
    began = time.time()
    importlib.import_module("msp.remote.quick_asyncssh").load()
    for name in MODULES:
        with suppress(ModuleNotFoundError):  # the driver of a database that is not in use here
            importlib.import_module(name)
    importlib.import_module("sqlalchemy.orm").configure_mappers()
    importlib.import_module("msp.remote.playbook").load(REHEARSAL)
    gc.collect()
    gc.freeze()  # a child that never looks at these pages never copies them
    places = (wire.stamp()["package"], sys.prefix)
    files = [file for module in sys.modules.values() if (file := getattr(module, "__file__", None))]
    return Program(began, {file: _mark(os.stat(file)) for file in files if file.startswith(places)})  # noqa: PTH116


def claim(folder: Path) -> IO[bytes]:
    """Return the lock of the one standby that serves a folder. Raises BlockingIOError when another one has it."""
    lock = (folder / f"{wire.SOCKET}.lock").open("wb")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return lock


class Standby:
    """Serves one installation. It has neither threads nor connections, so that a fork of it is whole."""

    def __init__(self, folder: Path, lock: IO[bytes], program: Program) -> None:
        self._lock, self._program = lock, program
        self._children: dict[int, _Child] = {}
        self._path = folder / wire.SOCKET
        self._path.unlink(missing_ok=True)
        address, opened = wire.address(folder)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            self._listener.bind(address)
        finally:
            os.umask(mask)
            os.close(opened)
        self._listener.listen(64)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def serve(self, owner: int) -> "_Order | None":
        """Serve until the descriptor `owner` ends or the program on disk has changed, and all commands have ended.

        Returns an order in a new child, which must carry it out and end; None in the standby itself.
        """
        self._selector.register(owner, selectors.EVENT_READ, self._end)
        while self._listener.fileno() >= 0 or self._children:
            for key, _ in self._selector.select():
                if self._selector.get_map().get(key.fd) is not key:  # an event before it in this turn ended it
                    continue
                order = key.data(key.fileobj)
                if order is not None:
                    return _Order(**order)
        return None

    def _end(self, owner: Any) -> None:
        """Take no more orders."""
        self._selector.unregister(owner)
        self._close()

    def _close(self) -> None:
        if self._listener.fileno() >= 0:
            self._selector.unregister(self._listener)
            self._path.unlink(missing_ok=True)
            self._listener.close()

    def _accept(self, listener: Any) -> dict[str, Any] | None:
        """Take an order. Nothing is begun before the command has said that it waits: it may have given up long ago."""
        fds: list[int] = []
        try:
            peer, _ = listener.accept()
        except OSError as error:
            logger.warning("A command could not be heard: %s.", error)
            return None
        peer.settimeout(1.0)
        try:
            asked = wire.receive(peer)[0]
            if not wire.is_ours(peer) or asked["stamp"] != wire.stamp() or self._changed():
                peer.sendall(wire.pack({"refused": True}))
                peer.close()
                return None
            peer.sendall(wire.pack({"ready": True}))
            go, fds = wire.receive(peer, descriptors=3)
            if not go["go"] or len(fds) != 3:
                raise ValueError("it was not told to go")
            child = os.fork()
            if child == 0:
                return self._as_child(peer, asked, fds)
            self._watch(_Child(child, peer))
        except (OSError, EOFError, ValueError, KeyError) as error:
            logger.warning("A command could not be taken over: %s.", error)
            peer.close()
        finally:
            for fd in fds:
                with suppress(OSError):
                    os.close(fd)
        return None

    def _as_child(self, peer: socket.socket, asked: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        self._selector.close()
        self._listener.close()
        self._lock.close()
        peer.close()
        for child in self._children.values():
            if child.peer is not None:
                child.peer.close()
        for number, fd in enumerate(fds):
            os.dup2(fd, number, inheritable=True)
        return {key: asked[key] for key in ("arguments", "folder", "environment", "umask", "files")}

    def _watch(self, child: _Child) -> None:
        self._children[child.pid] = child
        self._selector.register(os.pidfd_open(child.pid), selectors.EVENT_READ, lambda pidfd: self._reap(pidfd, child))
        self._selector.register(child.peer, selectors.EVENT_READ, lambda _: self._hear(child))  # type: ignore[arg-type]

    def _hear(self, child: _Child) -> None:
        """Pass a signal on. Who waited has gone: the command cancels, as it does when its keyboard says so."""
        assert child.peer is not None  # noqa: S101  it is registered
        try:
            number = int(wire.receive(child.peer)[0]["signal"])
        except (OSError, EOFError, ValueError, KeyError):
            self._selector.unregister(child.peer)
            child.peer.close()
            child.peer, number = None, signal.SIGINT
        with suppress(ProcessLookupError):
            os.kill(child.pid, number)

    def _reap(self, pidfd: Any, child: _Child) -> None:
        _, status = os.waitpid(child.pid, 0)
        self._selector.unregister(pidfd)
        os.close(pidfd)
        del self._children[child.pid]
        if child.peer is not None:
            self._selector.unregister(child.peer)
            with suppress(OSError):
                child.peer.sendall(wire.pack({"status": os.waitstatus_to_exitcode(status)}))
            child.peer.close()
            child.peer = None

    def _changed(self) -> bool:
        """Return whether the program on disk is another one than was read; then no order is taken any more."""
        if self._program.changed():
            self._close()
            return True
        return False


@dataclass(frozen=True)
class _Order:
    """A command as it was given. Its standard input and output are in place."""

    arguments: list[str]
    folder: str
    environment: dict[str, str]
    umask: int
    files: int

    def carry_out(self) -> int:
        """Carry it out in this process and return its exit status."""
        os.setsid()  # what a terminal sends to the worker is not meant for it
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        os.chdir(self.folder)
        os.umask(self.umask)
        os.environ.clear()
        os.environ.update(self.environment)
        time.tzset()
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        limit = self.files if most == resource.RLIM_INFINITY else min(self.files, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))
        sys.stdin = io.open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: UP020, SIM115
        sys.stdout = _writer(1, "strict")
        sys.stderr = _writer(2, "backslashreplace")
        sys.argv = ["msp", *self.arguments]
        from msp.console import main

        try:
            main.main(args=self.arguments, prog_name="msp")
        except SystemExit as ended:
            return _status(ended)
        except KeyboardInterrupt:
            return 128 + signal.SIGINT
        finally:
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError):
                    stream.flush()
            logging.shutdown()
        return 0


def _writer(fd: int, errors: str) -> Any:
    by_line = 1 if os.isatty(fd) or fd == 2 else -1
    return io.open(fd, "w", encoding="utf-8", errors=errors, closefd=False, buffering=by_line)  # noqa: UP020


def _status(ended: SystemExit) -> int:
    if ended.code is None:
        return 0
    if isinstance(ended.code, int):
        return ended.code
    print(ended.code, file=sys.stderr)  # noqa: T201
    return 1
