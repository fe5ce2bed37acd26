"""Private VNC servers on loopback with something to look at: TigerVNC, and x11vnc on Xvfb. Gone afterwards."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes

PASSWORD = "s3cr3t-V"  # VNC compares eight characters
PROGRAMS = {"Xtigervnc": "tigervnc-standalone-server", "xterm": "xterm", "xmessage": "x11-utils"}
READER = {"tesseract": "tesseract-ocr"}
X11VNC = {"x11vnc": "x11vnc", "Xvfb": "xvfb"}
_FILE_KEY = bytes((23, 82, 107, 6, 35, 78, 88, 7))  # every VNC server's, so a password file hides nothing


def missing(*programs: dict[str, str]) -> str:
    """Return why screens cannot be started here, or nothing."""
    wanted = {name: package for part in (PROGRAMS, *programs) for name, package in part.items()}
    absent = sorted({package for name, package in wanted.items() if not shutil.which(name)})
    return f"not installed: {', '.join(absent)}" if absent else ""


@dataclass
class Screen:
    """A running VNC server. `show` starts an X client on its display."""

    port: int
    display: str
    folder: Path
    server: "subprocess.Popen[bytes]"
    clients: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def show(self, *command: str) -> "subprocess.Popen[bytes]":
        """Start a program on the screen."""
        environment = {**os.environ, "DISPLAY": self.display, "LC_ALL": "C.UTF-8"}
        log = (self.folder / "clients.log").open("ab")
        self.clients.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=self.folder))
        return self.clients[-1]

    def terminal(self, script: str, *options: str) -> "subprocess.Popen[bytes]":
        """Show a large terminal in which a shell script runs."""
        look = ("-u8", "-fa", "DejaVu Sans Mono", "-fs", "14", "-geometry", "78x28+0+0", "-bg", "white", "-fg", "black")
        return self.show("xterm", *look, *options, "-e", "sh", "-c", script)

    def message(self, text: str, *options: str) -> "subprocess.Popen[bytes]":
        """Show a box with buttons; its exit status is 101 for the first button, 102 for the second."""
        font = ("-fn", "-misc-fixed-medium-r-normal--20-200-75-75-c-100-iso10646-1")
        return self.show("xmessage", *font, *options, text)

    def clear(self) -> None:
        """End what was started on the screen."""
        for client in self.clients:
            client.kill()
            client.wait(10)
        self.clients.clear()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def password_file(path: Path, password: str = PASSWORD) -> Path:
    """Write a password as vncpasswd does."""
    key = bytes(int(f"{byte:08b}"[::-1], 2) for byte in _FILE_KEY)
    encryptor = Cipher(TripleDES(key * 3), modes.ECB()).encryptor()
    path.write_bytes(encryptor.update(password.encode()[:8].ljust(8, b"\0")))
    path.chmod(0o600)
    return path


def _wait(port: int, server: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(400):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if server.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError(f"no VNC server: {log.read_text(errors='replace')[-2000:]}")


def _display(start: list[str], log: Path, stack: ExitStack) -> tuple[str, "subprocess.Popen[bytes]"]:
    """Start an X server on a display that it chooses itself, and return the display."""
    read, write = os.pipe()
    with log.open("ab") as out:
        server = subprocess.Popen([*start, "-displayfd", str(write)], stdout=out, stderr=out, pass_fds=(write,))
    os.close(write)
    stack.callback(server.wait, 10)
    stack.callback(server.terminate)
    with os.fdopen(read) as told:
        number = told.readline().strip()
    if not number:
        raise RuntimeError(f"no X server: {log.read_text(errors='replace')[-2000:]}")
    return f":{number}", server


@contextmanager
def tigervnc(
    folder: Path, *, size: str = "800x600", security: str = "VncAuth", options: tuple[str, ...] = ()
) -> Iterator[Screen]:
    """Start Xtigervnc. security: VncAuth (with PASSWORD), None or TLSVnc."""
    folder.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    command = ["Xtigervnc", "-rfbport", str(port), "-localhost", "-SecurityTypes", security, "-geometry", size,
               "-depth", "24", "-PasswordFile", str(password_file(folder / "passwd")), "-nolisten", "tcp", "-ac",
               "-BlacklistThreshold", "1000", "-desktop", "test", *options]  # fmt: skip
    with ExitStack() as stack:
        display, server = _display(command, folder / "log", stack)
        _wait(port, server, folder / "log")
        screen = Screen(port, display, folder, server)
        stack.callback(screen.clear)
        yield screen


@contextmanager
def x11vnc(folder: Path, *, size: str = "800x600") -> Iterator[Screen]:
    """Start Xvfb, and x11vnc that shows it."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        display, _ = _display(["Xvfb", "-screen", "0", f"{size}x24", "-nolisten", "tcp", "-ac"], folder / "log", stack)
        port = _free_port()
        command = ["x11vnc", "-display", display, "-rfbport", str(port), "-localhost", "-rfbauth",
                   str(password_file(folder / "passwd")), "-forever", "-shared", "-noxdamage", "-quiet", "-no6",
                   "-noipv6"]  # fmt: skip
        with (folder / "log").open("ab") as out:
            server = subprocess.Popen(command, stdout=out, stderr=out)
        stack.callback(server.wait, 10)
        stack.callback(server.kill)
        _wait(port, server, folder / "log")
        screen = Screen(port, display, folder, server)
        stack.callback(screen.clear)
        yield screen


def settle(seconds: float = 0.5) -> None:
    """Give a program the time to draw."""
    time.sleep(seconds)


def wait_for(path: Path, seconds: float = 10) -> bytes:
    """Return what a file holds once it stands there."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(FileNotFoundError):
            return path.read_bytes()
        time.sleep(0.05)
    raise AssertionError(f"{path} did not come")
