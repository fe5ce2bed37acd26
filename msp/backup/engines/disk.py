"""Disk images (qcow2, raw, vmdk, vdi), converted to scratch and started in QEMU without a network.

How a machine is started and watched: boot_machine.py; what its console and screen mean: boot.py.
"""

import hashlib
import json
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msp.backup import boot_machine
from msp.backup.case import Case
from msp.backup.engine import Found, Listed, Probed, Restored, Snapshot
from msp.backup.engines.shared import backup_file
from msp.backup.process import Runner
from msp.backup.scratch import QuotaExceeded, Scratch
from msp.backup.verdict import Finding

TOLD = ("raw", "vmdk", "vdi")  # engines whose name is the format


@dataclass
class DiskEngine:
    """One image is one snapshot. `sha256` is that of the image's file."""

    case: Case
    runner: Runner
    scratch: Scratch

    def version(self) -> str:
        return self.runner.run(["qemu-img", "--version"]).stdout.decode("utf-8", "replace").partition("\n")[0]

    @property
    def format(self) -> str | None:
        """The image's format: as the case says or names the engine; None: as the file looks.

        A raw image is never looked at for its format: its content could pretend to be one that reads other files.
        """
        return self.case.format or (self.case.engine if self.case.engine in TOLD else None)

    def _info(self) -> dict[str, Any]:
        path = backup_file(self.case)
        format_words = ["-f", self.format] if self.format else []
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
        with path.open("rb") as file:
            start = file.read(4)
        if start != b"QFI\xfb" and (self.format == "qcow2" or (path.suffix.lower() == ".qcow2" and not self.format)):
            return _broken(f"{path} does not begin like a qcow2 image")
        if self.format != "raw" and (start in (b"KDMV", b"# Di") or self.format == "vmdk"):
            for name in vmdk_parts(path):
                if "/" in name or ":" in name or "\\" in name:
                    what = f"The image wants to read {name}, outside its own folder."
                    return (Finding("hostile", what, str(path), "Do not start it; look where it came from."),)
                if not (path.parent / name).exists():
                    what = f"The image needs {name}, which is not there."
                    return (Finding("missing", what, str(path), "Back up every part of the image."),)
        if self.format == "raw" and (lacking := cut_short(path)):
            return _broken(f"{path} is {lacking} bytes shorter than its partition table says")
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
        if info["format"] in ("vdi", "vmdk") and (lacking := self._beyond(path, info["format"])):
            return _broken(f"{path} is {lacking} bytes shorter than its own map says")
        done = self.runner.run(["qemu-img", "check", "-q", "-f", info["format"], str(path)])
        if done.status not in (0, 3, 63):  # 3: leaked clusters, harmless; 63: the format has no check
            return _broken(f"{path}: {done.says}")
        return ()

    def _beyond(self, path: Path, form: str) -> int:
        """Return how far the image's map reaches beyond the end of its file; QEMU reads zeros there, silently."""
        if form == "vmdk" and vmdk_parts(path):
            return 0  # its offsets are in other files
        mapped = self.runner.run(["qemu-img", "map", "--output=json", "-f", form, str(path)], noted=False)
        parts = json.loads(mapped.stdout or b"[]") if not mapped.status else []
        ends = (part["offset"] + part["length"] for part in parts if part.get("data") and "offset" in part)
        return max(0, max(ends, default=0) - path.stat().st_size)

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
        image = self.scratch.path / "restored" / "disk.qcow2"
        return boot_machine.prove(self.runner, image, self.scratch.path, wanted, self.case.expect.host)

    def close(self) -> None:
        return


def vmdk_parts(path: Path) -> list[str]:
    """Return the other files that a VMware image says it consists of, without opening any of them."""
    with path.open("rb") as file:
        head = file.read(512)
        if head.startswith(b"KDMV"):  # little-endian: where the descriptor within begins and ends, in sectors
            begin, size = struct.unpack_from("<QQ", head, 28)
            file.seek(min(begin, 1 << 40) * 512)
            text = file.read(min(size * 512, 1 << 20))
        else:
            text = head + file.read(1 << 20)
    names = re.findall(rb'^\s*(?:RW|RDONLY|NOACCESS)\s+\d+\s+(?!SPARSE\s+"")\w+\s+"([^"]*)"', text, re.MULTILINE)
    names += re.findall(rb'^\s*parentFileNameHint\s*=\s*"([^"]*)"', text, re.MULTILINE)
    found = [name.decode("utf-8", "replace") for name in names]
    return [name for name in found if not (head.startswith(b"KDMV") and name == path.name)]


def cut_short(path: Path) -> int:
    """Return how many bytes a raw disk lacks at its end, by its own partition table; 0 where that cannot be told."""
    size = path.stat().st_size
    with path.open("rb") as file:
        record, header = file.read(512), file.read(512)
    if len(record) < 512 or record[510:] != b"\x55\xaa":
        return 0
    if header[:8] == b"EFI PART":
        backup = int.from_bytes(header[32:40], "little")  # the second table stands in the last sector
        return max(0, (backup + 1) * 512 - size)
    ends = [0]
    for number in range(4):
        kind = record[446 + 16 * number + 4]
        begin, count = struct.unpack_from("<II", record, 446 + 16 * number + 8)
        if kind and record[446 + 16 * number] in (0, 0x80):  # else it is the code of a file system's boot sector
            ends.append((begin + count) * 512)
    return max(0, max(ends) - size)


def _broken(what: str) -> tuple[Finding, ...]:
    advice = "Take an older image; look at the disk it lies on."
    return (
        Finding("repository", f"The image is damaged: {what}.", advice=advice),
        Finding("restore", "It cannot be restored to its end.", advice=advice),
    )
