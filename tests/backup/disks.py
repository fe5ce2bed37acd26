"""Disks that start, and disks that stop in one known way: boot sector, loader, kernel, one program that speaks."""

import shutil
import subprocess
from pathlib import Path

NEEDED = ("qemu-img", "qemu-system-x86_64", "syslinux", "mcopy", "mformat", "busybox", "cpio")
KERNELS = sorted(Path("/boot").glob("vmlinuz-*-cloud-amd64"))
HOST = "client-srv01"

INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys
/bin/busybox mount -t proc none /proc
/bin/busybox mount -t devtmpfs none /dev
/bin/busybox hostname {host}
for screen in /dev/ttyS0 /dev/tty0; do printf '%s\\r\\n' {says} > $screen; done
/bin/busybox sleep {seconds}
"""
EMERGENCY = (
    "'[FAILED] Failed to mount /srv/data.' 'You are in emergency mode. After logging in, type \"journalctl -xb\".' "
    "'Give root password for maintenance'"
)

#: name -> (program that runs first, or none; seconds it lives; parts of the disk that are missing)
BROKEN = {
    "emergency": (EMERGENCY, 1000),
    "no_init": (None, 0),
    "panic": ("'Starting services.'", 1),
}


def bootable() -> bool:
    """Return whether this machine can build and start such disks."""
    return bool(KERNELS) and all(shutil.which(name) for name in NEEDED)


def image(place: Path, host: str = HOST, fault: str = "", serial: bool = True) -> Path:
    """Build the smallest disk that comes up by itself, with at most one fault; qcow2.

    fault: emergency, no_init, panic, no_kernel or no_boot_sector. serial: False leaves only its screen to speak.
    """
    name = f"{host}-{fault or 'good'}{'' if serial else '-mute'}"
    work = place / f"work-{name}"
    root = work / "root"
    (root / "bin").mkdir(parents=True)
    (root / "dev").mkdir()
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy(busybox, root / "bin/busybox")
    says, seconds = BROKEN.get(fault, (f"'{host} login:'", 1000))
    text = "#!/bin/nothing\n" if says is None else INIT.format(host=host, says=says, seconds=seconds)
    (root / "init").write_text(text if serial else text.replace("/dev/ttyS0 ", ""))
    (root / "init").chmod(0o755)
    archive = subprocess.run(
        "find . | cpio -o -H newc --quiet | gzip -1", shell=True, cwd=root, check=True, capture_output=True
    ).stdout
    (work / "initrd.gz").write_bytes(archive)
    consoles = "console=tty0 console=ttyS0" if serial else "console=tty0"
    (work / "syslinux.cfg").write_text(
        f"{'SERIAL 0 115200' if serial else ''}\nDEFAULT linux\nLABEL linux\n KERNEL linux\n"
        f" APPEND initrd=initrd.gz {consoles} panic=1\n"
    )
    raw = work / "disk.raw"
    with raw.open("wb") as file:
        file.truncate(48 << 20)
    subprocess.run(["mformat", "-i", raw, "-h", "64", "-s", "32", "-T", str(48 * 2048), "::"], check=True)
    parts = [(work / "initrd.gz", "initrd.gz"), (work / "syslinux.cfg", "syslinux.cfg")]
    if fault != "no_kernel":
        parts.append((KERNELS[-1], "linux"))
    for source, target in parts:
        subprocess.run(["mcopy", "-i", raw, source, f"::{target}"], check=True)
    subprocess.run(["syslinux", "--install", raw], check=True)
    if fault == "no_boot_sector":
        with raw.open("r+b") as file:
            file.write(bytes(512))
    qcow2 = place / f"{name}.qcow2"
    subprocess.run(["qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", raw, qcow2], check=True)
    shutil.rmtree(work)
    return qcow2
