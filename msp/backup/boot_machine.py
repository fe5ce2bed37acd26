"""Starts a restored disk in QEMU without a network and watches its serial console and its screen until it is decided.

QEMU stops instead of leaving when the machine shuts down or resets, so that the last screen can still be taken.
"""

import contextlib
import os
import selectors
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from msp.backup.boot import EMULATOR, WRONG_BUS, judge, names, plain_text, stage_of
from msp.backup.boot_screen import Monitor, Shot, look
from msp.backup.case import Boot
from msp.backup.engine import Probed
from msp.backup.process import DeadlinePassed, Runner, end
from msp.backup.verdict import Picture

SILENCE = 60.0  # seconds in which neither console nor screen changes: nothing more will come
AFTERWARDS = 5.0  # seconds to wait for the machine's name once the marker was seen, or after a dead end
GLANCE = 3.0  # seconds between two looks at the screen
KEPT = 1 << 20  # bytes of the console that are searched
CONSOLE = 4000  # characters of each kept as evidence
OVER = ("SHUTDOWN", "RESET", "GUEST_PANICKED", "STOP")


@dataclass
class _Watched:
    """What one start has shown so far."""

    console: bytes = b""
    shot: Shot | None = None
    seen: bool = False
    ended: str = "timeout"
    lines: dict[str, None] = field(default_factory=dict)  # of the text screen, each once, in order of appearance

    @property
    def text(self) -> str:
        return plain_text(self.console) + "\n" + "\n".join(self.lines)


def prove(runner: Runner, image: Path, folder: Path, wanted: Boot, host: str | None) -> Probed:
    """Start `image` (qcow2; it stays as it is) and return what came of it, with the screen's last picture.

    folder: the test's scratch. A disk that its first bus does not suit is started once more on the other.
    """
    began = time.monotonic()
    watched = _Watched()
    for bus in ("virtio", "ide"):
        left = wanted.timeout_s - (time.monotonic() - began)
        if left <= 1 and bus != "virtio":
            break
        watched = _start(runner, image, folder, wanted, host, bus, max(1.0, left))
        if watched.seen or not WRONG_BUS.search(watched.text):
            break
    text, shot = watched.text, watched.shot
    drawn = _recognised(runner, shot, folder) if shot and not watched.seen and not shot.is_text else ""
    stage = None if watched.seen else stage_of(text) or stage_of(drawn)
    figures: dict[str, object] = {
        "boot_s": round(time.monotonic() - began, 1),
        "ended": watched.ended,
        "stage": "up" if watched.seen else stage.name if stage else "unknown",
        "console": plain_text(watched.console)[-CONSOLE:],
    }
    if shot and shot.text:
        figures["screen"] = shot.text[-CONSOLE:]
    if drawn:
        figures["recognised"] = drawn[-CONSOLE:]
    pictures: tuple[Picture, ...] = ()
    if shot is not None:
        picture = Picture("screen", shot.png())
        pictures = (picture,)
        figures["picture"] = picture.sha256
    return Probed(tuple(judge(text, watched.seen, wanted, host, drawn=drawn)), None, figures, pictures)


def _words(image: Path, bus: str, memory_mb: int, monitor: int) -> list[str]:
    drive = f"file={str(image).replace(',', ',,')},format=qcow2,if={bus}"
    words = (
        f"-accel {accelerator()} -m {memory_mb} -snapshot -nic none -display none -serial stdio -nodefaults -vga std"
    )
    words += (
        f" -action reboot=shutdown,shutdown=pause -chardev socket,id=qmp,fd={monitor} -mon chardev=qmp,mode=control"
    )
    return ["qemu-system-x86_64", *words.split(), "-drive", drive]


def _start(
    runner: Runner, image: Path, folder: Path, wanted: Boot, host: str | None, bus: str, timeout: float
) -> _Watched:
    ours, theirs = socket.socketpair()
    argv = _words(image, bus, wanted.memory_mb, theirs.fileno())
    watched = _Watched()
    with ours:
        try:
            process = runner.start(
                argv,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={"TMPDIR": str(folder)},
                pass_fds=(theirs.fileno(),),
            )
        finally:
            theirs.close()
        try:
            monitor = Monitor(ours)
            with contextlib.suppress(OSError, ValueError):  # no monitor, no picture; the console still decides
                monitor.greet()
            _watch(process, monitor, folder, wanted, host, timeout, watched)
        finally:
            end(process)
            if process.stdout:
                process.stdout.close()
            runner.commands.append((" ".join(argv), process.returncode))
    return watched


def _watch(
    process: "subprocess.Popen[bytes]",
    monitor: Monitor,
    folder: Path,
    wanted: Boot,
    host: str | None,
    timeout: float,
    watched: _Watched,
) -> None:
    """Read console and screen until the marker (and the name) is there, or nothing more can come."""
    assert process.stdout is not None  # noqa: S101  asked for by the caller
    began = last = glanced = time.monotonic()
    seen_at: float | None = None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while (now := time.monotonic()) < began + timeout:
            if selector.select(0.5):
                data = os.read(process.stdout.fileno(), 1 << 16)
                if not data:
                    watched.ended = "gone"
                    return
                watched.console, last = (watched.console + data)[-KEPT:], now
            if now - glanced >= GLANCE:
                glanced = now
                if _glance(monitor, folder, watched):
                    last = now
            text = watched.text
            if seen_at is None and wanted.marker in text:
                seen_at, watched.seen = now, True
            if seen_at is not None and (not host or names(text, host) or now - seen_at > AFTERWARDS):
                watched.ended = "marker"
                break
            quiet = now - last
            if quiet > AFTERWARDS and (stage_of(text) or EMULATOR.search(text)):
                watched.ended = "dead end"
                break
            if any(event in OVER for event in monitor.events) and quiet > 1:
                watched.ended = "stopped"
                break
            if quiet > SILENCE:
                watched.ended = "silence"
                break
    _glance(monitor, folder, watched)


def _glance(monitor: Monitor, folder: Path, watched: _Watched) -> bool:
    """Look at the screen; return whether it changed."""
    try:
        monitor.drain()
        shot = look(monitor, folder)
    except (OSError, ValueError):
        return False
    changed = watched.shot is None or shot.differs(watched.shot)
    watched.shot = shot
    watched.lines |= dict.fromkeys(shot.text.splitlines())
    return changed


def _recognised(runner: Runner, shot: Shot, folder: Path) -> str:
    """Return what can be read in a drawn screen; empty where the program for it is not installed."""
    if shutil.which("tesseract") is None:
        return ""
    path = folder / "screen.png"
    path.write_bytes(shot.png())
    try:
        words = ["tesseract", str(path), "-", "--psm", "6"]
        done = runner.run(words, env={"OMP_THREAD_LIMIT": "1"}, deadline=30, noted=False)
    except DeadlinePassed:
        return ""
    finally:
        path.unlink(missing_ok=True)
    return done.stdout.decode("utf-8", "replace") if not done.status else ""


def accelerator() -> str:
    """Return kvm where it can be relied on: not inside a virtual machine, where it may fail and blame the backup."""
    try:
        nested = b" hypervisor" in Path("/proc/cpuinfo").read_bytes()
    except OSError:
        nested = True
    return "kvm" if not nested and os.access("/dev/kvm", os.R_OK | os.W_OK) else "tcg"
