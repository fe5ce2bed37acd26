"""Disk images (qcow2, raw, vmdk, vdi), converted to scratch and started in QEMU without a network.

A serial console that shows the marker proves that the system came up; only the machine's own name on it proves that
it is the right machine, because another one's disk reaches the same log-in prompt.
"""

import hashlib
import json
import os
import re
import selectors
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msp.backup.case import Boot, Case
from msp.backup.engine import Found, Listed, Probed, Restored, Snapshot
from msp.backup.engines.shared import backup_file
from msp.backup.process import Runner, end
from msp.backup.scratch import QuotaExceeded, Scratch
from msp.backup.verdict import Finding

SILENCE = 60  # seconds without a new character after which nothing more will come
AFTERWARDS = 5  # seconds to wait for the machine's name once the marker was seen
CONSOLE = 4000  # characters kept as evidence
WRONG_BUS = re.compile(rb"unable to mount root|gave up waiting for root|can't find .*root|No bootable device", re.I)  # noqa: FURB167
DEAD = re.compile(rb"Kernel panic|emergency mode|grub rescue>|\(initramfs\)|KVM internal error")
ESCAPES = re.compile(rb"\x1b(\[[0-9;?]*[A-Za-z]|[()][A-Z0-9]|[=>c])")


@dataclass
class DiskEngine:
    """One image is one snapshot. `sha256` is that of the image's file."""

    case: Case
    runner: Runner
    scratch: Scratch

    def version(self) -> str:
        return self.runner.run(["qemu-img", "--version"]).stdout.decode("utf-8", "replace").partition("\n")[0]

    def _info(self) -> dict[str, Any]:
        path = backup_file(self.case)
        format_words = ["-f", self.case.format] if self.case.format else []
        done = self.runner.run(["qemu-img", "info", "--output=json", *format_words, str(path)])
        if done.status:
            raise Found(*_broken(f"{path} is no disk image: {done.says}"))
        info: dict[str, Any] = json.loads(done.stdout)
        return info

    def check(self) -> tuple[Finding, ...]:
        path = backup_file(self.case)
        if self.case.sha256 is not None:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != self.case.sha256:
                what = f"{path} is not the image that was written: its SHA-256 is {digest}."
                advice = "Take an older image; look at the disk it lies on."
                return (
                    Finding("repository", what, advice=advice),
                    Finding("content", "Its content changed.", advice=advice),
                )
        if (path.suffix.lower() == ".qcow2" and self.case.format is None) or self.case.format == "qcow2":
            with path.open("rb") as file:
                if file.read(4) != b"QFI\xfb":
                    return _broken(f"{path} does not begin like a qcow2 image")
        info = self._info()
        outside = [info.get("full-backing-filename") or info.get("backing-filename")]
        outside.append(info.get("format-specific", {}).get("data", {}).get("data-file"))
        for name in filter(None, outside):
            place = (path.parent / str(name)).resolve()
            if not place.is_relative_to(path.parent.resolve()):
                what = f"The image wants to read {name}, outside its own folder."
                return (Finding("hostile", what, str(path), "Do not start it; look where it came from."),)
            if not place.exists():
                what = f"The image needs {name}, which is not there."
                return (Finding("missing", what, str(path), "Back up the whole chain of images."),)
        done = self.runner.run(["qemu-img", "check", "-q", "-f", info["format"], str(path)])
        if done.status not in (0, 3, 63):  # 3: leaked clusters, harmless; 63: the format has no check
            return _broken(f"{path}: {done.says}")
        return ()

    def snapshots(self) -> list[Snapshot]:
        path = backup_file(self.case)
        return [Snapshot(path.name, datetime.fromtimestamp(path.stat().st_mtime, UTC), certain=False)]

    def listing(self, snapshot: Snapshot) -> Iterator[Listed] | None:
        return None

    def restore(self, snapshot: Snapshot, into: Path) -> Restored:
        path, info = backup_file(self.case), self._info()
        self.scratch.require(int(info.get("actual-size", 0)))
        image = into / "disk.qcow2"

        def watch() -> None:
            if image.exists() and image.stat().st_size > self.scratch.room() + image.stat().st_blocks * 512:
                raise QuotaExceeded("The image needs more room than the test may use.", advice="Raise the quota.")

        argv = ["qemu-img", "convert", "-q", "-f", info["format"], "-O", "qcow2", str(path), str(image)]
        done = self.runner.run(argv, watch=watch)
        if done.status:
            return Restored(None, _broken(f"the image cannot be read to its end: {done.says}"))
        mapped = self.runner.run(["qemu-img", "map", "--output=json", "-f", "qcow2", str(image)])
        if not any(part.get("data") and not part.get("zero") for part in json.loads(mapped.stdout or b"[]")):
            what = "The image holds nothing but zeros."
            return Restored(None, (Finding("missing", what, advice="Look which disk the job copies."),))
        return Restored(None)

    def probe(self, restored: Restored) -> Probed:
        return Probed()

    def boot(self, restored: Restored) -> Probed | None:
        wanted = self.case.expect.boot
        if wanted is None:
            return None
        began = time.monotonic()
        console, seen = b"", False
        for bus in ("virtio", "ide"):
            left = wanted.timeout_s - (time.monotonic() - began)
            console, seen = self._start(wanted, bus, max(1.0, left))
            if seen or not WRONG_BUS.search(console):
                break
        text = ESCAPES.sub(b"", console).decode("utf-8", "replace").replace("\r", "")
        figures: dict[str, object] = {"boot_s": round(time.monotonic() - began, 1), "console": text[-CONSOLE:]}
        return Probed(tuple(judge(text, seen, wanted, self.case.expect.host)), None, figures)

    def close(self) -> None:
        return

    def _start(self, wanted: Boot, bus: str, timeout: float) -> tuple[bytes, bool]:
        """Start the image and read its console until the marker (and the name) is there, or nothing more comes."""
        image = self.scratch.path / "restored" / "disk.qcow2"
        words = ["-accel", accelerator(), "-m", str(wanted.memory_mb), "-snapshot", "-nic", "none"]
        words += [
            "-display",
            "none",
            "-monitor",
            "none",
            "-serial",
            "stdio",
            "-no-reboot",
            "-nodefaults",
            "-vga",
            "std",
        ]
        drive = f"file={str(image).replace(',', ',,')},format=qcow2,if={bus}"
        argv = ["qemu-system-x86_64", *words, "-drive", drive]
        process = self.runner.start(
            argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={"TMPDIR": str(self.scratch.path)}
        )
        console, marker, host = b"", wanted.marker.encode(), (self.case.expect.host or "").encode()
        seen_at: float | None = None
        last, ends = time.monotonic(), time.monotonic() + timeout
        try:
            assert process.stdout is not None  # noqa: S101  asked for above
            with selectors.DefaultSelector() as selector:
                selector.register(process.stdout, selectors.EVENT_READ)
                while (now := time.monotonic()) < ends:
                    if selector.select(0.5):
                        data = os.read(process.stdout.fileno(), 1 << 16)
                        if not data:
                            break
                        console, last = (console + data)[-(1 << 20) :], now
                    plain = ESCAPES.sub(b"", console)
                    if seen_at is None and marker in plain:
                        seen_at = now
                    if seen_at is not None and (not host or host in plain or now - seen_at > AFTERWARDS):
                        break
                    quiet = now - last
                    if console and (quiet > SILENCE or (quiet > AFTERWARDS and DEAD.search(plain))):
                        break
        finally:
            end(process)
            if process.stdout:
                process.stdout.close()
            self.runner.commands.append((" ".join(argv), process.returncode))
        return console, seen_at is not None


def accelerator() -> str:
    """Return kvm where it can be relied on: not inside a virtual machine, where it may fail and blame the backup."""
    try:
        nested = b" hypervisor" in Path("/proc/cpuinfo").read_bytes()
    except OSError:
        nested = True
    return "kvm" if not nested and os.access("/dev/kvm", os.R_OK | os.W_OK) else "tcg"


def judge(console: str, seen: bool, wanted: Boot, host: str | None) -> list[Finding]:
    """Return what a console's text means. Pure."""
    if not seen:
        lines = [line.strip() for line in console.splitlines() if line.strip()]
        what = f"The console did not show {wanted.marker!r} within {wanted.timeout_s:g} s."
        advice = "Look at the console in the evidence; repair the machine's boot, then back it up again."
        return [Finding("boot", what, lines[-1][:200] if lines else "no output", advice)]
    if host is not None and not re.search(rf"(?<![\w-]){re.escape(host)}(?![\w-])", console):
        other = re.search(r"(\S+) login:", console)
        what = f"The machine that started does not call itself {host}."
        return [Finding("identity", what, other[1] if other else "", "Look which machine's disk the job copies.")]
    return []


def _broken(what: str) -> tuple[Finding, ...]:
    advice = "Take an older image; look at the disk it lies on."
    return (
        Finding("repository", f"The image is damaged: {what}.", advice=advice),
        Finding("restore", "It cannot be restored to its end.", advice=advice),
    )
