"""Disk images of a machine that is one boot sector: it says who it is and that it waits for a log-in.

The sector is assembled here byte by byte, so the drill needs no kernel and no loader of anybody's.
"""

import hashlib
import shutil
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from msp.backup.drill import Planted
from msp.backup.drills.damage import cut, flip
from msp.backup.process import Runner
from msp.backup.scratch import Scratch
from msp.errors import StepFailed

HOST = "drill-srv01"
SIZE = 2 << 20  # bytes of the disk
#: Real mode at 0:7C00. Prints a text that ends with a zero on screen (int 10h) and first serial port, then halts.
CODE = bytes.fromhex(
    "31c0 8ed8 fc"  # xor ax,ax; mov ds,ax; cld
    "be 267c"  # mov si, 7C26h: the text behind this code
    "ac 84c0 74 16"  # next: lodsb; test al,al; jz stop
    "50 b40e bb0700 cd10"  # push ax; mov ah,0Eh; mov bx,7; int 10h
    "bafd03 ec a820 74fb"  # mov dx,3FDh; wait: in al,dx; test al,20h; jz wait
    "58 b2f8 ee eb e5"  # pop ax; mov dl,F8h; out dx,al; jmp next
    "f4 eb fd"  # stop: hlt; jmp stop
)
TABLE = struct.pack("<B3sB3sII", 0x80, bytes(3), 0x83, bytes(3), 1, SIZE // 512 - 1)  # one partition to the end
SAYS = {
    "good": f"{HOST} login: ",
    "other": "another-srv login: ",
    "emergency": 'You are in emergency mode. After logging in, type "journalctl -xb".\r\nGive root password: ',
}
BOOT = {"marker": "login:", "timeout_s": 60, "memory_mb": 64}


def _disk(says: str) -> bytes:
    """Return a whole disk: the sector that speaks, one partition, and data in it."""
    text = says.encode("ascii") + b"\0"
    sector = (CODE + text).ljust(446, b"\0") + TABLE + bytes(48) + b"\x55\xaa"
    return sector + Random(7).randbytes(SIZE - 512)  # noqa: S311  the same disk in every drill


@contextmanager
def _bench(form: str, runner: Runner, space: Scratch, now: datetime) -> Iterator[Sequence[Planted]]:
    """Yield faults in copies of images of one format."""
    for program in ("qemu-img", "qemu-system-x86_64"):
        runner.argv([program], None, "KILL")  # raises where it is not installed
    folder = space.folder("disks")
    for name, says in (*SAYS.items(), ("zeros", "")):
        raw = folder / f"{name}.raw"
        raw.write_bytes(_disk(says) if says else bytes(SIZE))
        if form != "raw":
            done = runner.run(
                ["qemu-img", "convert", "-f", "raw", "-O", form, str(raw), str(folder / f"{name}.{form}")]
            )
            if done.status:
                raise StepFailed(f"The drill could not write its image: {done.says}.", advice="Try qemu-img by hand.")

    def plant(
        into: Path, name: str = "good", damage: Callable[[Path], None] | None = None, **more: Any
    ) -> Mapping[str, Any]:
        source = folder / f"{name}.{form}"
        file = Path(shutil.copy(source, into / source.name))
        if damage:
            damage(file)
        listed = {"sha256": hashlib.sha256(source.read_bytes()).hexdigest()} if more.pop("listed", False) else {}
        return {"file": str(file), **listed, "expect": more}

    starts = partial(plant, boot=BOOT, host=HOST)
    yield [
        Planted("good", partial(starts, listed=True)),
        Planted("bit flip", partial(plant, damage=flip, listed=True), frozenset({"content"})),
        Planted("cut short", partial(plant, damage=cut), frozenset({"repository"})),
        Planted("no image", partial(plant, damage=_overwrite), frozenset({"repository", "missing"})),
        Planted("nothing but zeros", partial(plant, name="zeros"), frozenset({"missing"})),
        Planted("emergency mode", partial(starts, name="emergency"), frozenset({"boot"})),
        Planted("another machine", partial(starts, name="other"), frozenset({"identity"})),
    ]


def _overwrite(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


qcow2, raw, vmdk, vdi = (partial(_bench, form) for form in ("qcow2", "raw", "vmdk", "vdi"))
