"""Disk images: converted, compared and really started in QEMU."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
from sabotage import Document, cut, flip
from test_backup_faults import deserves, judged

from msp.backup.case import Boot
from msp.backup.engines.disk import judge

NEEDED = ("qemu-img", "qemu-system-x86_64", "syslinux", "mcopy", "mformat", "busybox")
KERNELS = sorted(Path("/boot").glob("vmlinuz-*-cloud-amd64"))
server = [
    pytest.mark.server,
    pytest.mark.slow,
    pytest.mark.skipif(
        not KERNELS or any(shutil.which(name) is None for name in NEEDED),
        reason="QEMU, syslinux, mtools, busybox or a cloud kernel is not installed",
    ),
]

INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys
/bin/busybox mount -t proc none /proc
/bin/busybox mount -t devtmpfs none /dev
/bin/busybox hostname {host}
echo "{says}" > /dev/ttyS0
/bin/busybox sleep 1000
"""


def image(place: Path, host: str, says: str) -> Path:
    """Build the smallest disk that comes up by itself: boot sector, kernel, one program that says who it is."""
    root = place / f"root-{host}"
    (root / "bin").mkdir(parents=True)
    (root / "dev").mkdir()
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy(busybox, root / "bin/busybox")
    (root / "init").write_text(INIT.format(host=host, says=says))
    (root / "init").chmod(0o755)
    archive = subprocess.run(
        "find . | cpio -o -H newc --quiet | gzip -1", shell=True, cwd=root, check=True, capture_output=True
    ).stdout
    (place / "initrd.gz").write_bytes(archive)
    (place / "syslinux.cfg").write_text(
        "SERIAL 0 115200\nDEFAULT linux\nLABEL linux\n KERNEL linux\n"
        " APPEND initrd=initrd.gz console=ttyS0 quiet panic=1\n"
    )
    raw = place / f"{host}.raw"
    with raw.open("wb") as file:
        file.truncate(48 << 20)
    subprocess.run(["mformat", "-i", raw, "-h", "64", "-s", "32", "-T", str(48 * 2048), "::"], check=True)
    for source, name in (
        (KERNELS[-1], "linux"),
        (place / "initrd.gz", "initrd.gz"),
        (place / "syslinux.cfg", "syslinux.cfg"),
    ):
        subprocess.run(["mcopy", "-i", raw, source, f"::{name}"], check=True)
    subprocess.run(["syslinux", "--install", raw], check=True)
    qcow2 = place / f"{host}.qcow2"
    subprocess.run(["qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", raw, qcow2], check=True)
    return qcow2


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image(tmp_path_factory.mktemp("disk"), "client-srv01", "client-srv01 login:")


def case(path: Path, **expect: object) -> Document:
    return {"engine": "qcow2", "file": str(path), "expect": dict(expect)}


class TestImages:
    pytestmark = server

    def test_an_image_that_starts_as_itself_passes(self, disk: Path, tmp_path: Path) -> None:
        before = hashlib.sha256(disk.read_bytes()).hexdigest()
        document = case(disk, boot={"marker": "login:", "timeout_s": 180}, host="client-srv01")
        result = judged({**document, "sha256": before}, tmp_path)
        deserves(result, "pass", None)
        assert result.highest_rung == 6
        assert hashlib.sha256(disk.read_bytes()).hexdigest() == before

    def test_another_machines_image_is_an_identity_fault(self, disk: Path, tmp_path: Path) -> None:
        document = case(disk, boot={"marker": "login:", "timeout_s": 180}, host="client-srv02")
        deserves(judged(document, tmp_path), "fail", "identity")

    def test_an_image_without_its_boot_sector_does_not_start(self, disk: Path, tmp_path: Path) -> None:
        subprocess.run(["qemu-img", "convert", "-O", "raw", disk, tmp_path / "raw"], check=True)
        with (tmp_path / "raw").open("r+b") as file:
            file.write(bytes(512))
        subprocess.run(
            ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", tmp_path / "raw", tmp_path / "x.qcow2"], check=True
        )
        document = case(tmp_path / "x.qcow2", boot={"marker": "login:", "timeout_s": 15})
        deserves(judged(document, tmp_path), "fail", "boot")

    def test_a_changed_image_is_seen_by_its_checksum(self, disk: Path, tmp_path: Path) -> None:
        document = {**case(disk), "sha256": hashlib.sha256(disk.read_bytes()).hexdigest()}
        copy = Path(shutil.copy(disk, tmp_path / "x.qcow2"))
        flip(copy, -(5 << 20))
        deserves(judged({**document, "file": str(copy)}, tmp_path), "fail", "content")

    def test_a_cut_image_fails(self, disk: Path, tmp_path: Path) -> None:
        copy = Path(shutil.copy(disk, tmp_path / "x.qcow2"))
        cut(copy)
        deserves(judged(case(copy), tmp_path), "fail", "repository")

    def test_a_file_that_is_no_image_and_one_of_zeros_fail(self, tmp_path: Path) -> None:
        (tmp_path / "x.qcow2").write_bytes(b"not an image" * 1000)
        deserves(judged(case(tmp_path / "x.qcow2"), tmp_path), "fail", "repository")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "y.qcow2", "8M"], check=True)
        deserves(judged(case(tmp_path / "y.qcow2"), tmp_path), "fail", "missing")

    def test_an_image_that_reads_files_of_this_machine_is_hostile(self, tmp_path: Path) -> None:
        words = ["-u", "-b", "/etc/hostname", "-F", "raw", tmp_path / "x.qcow2", "1M"]
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *words], check=True)
        deserves(judged(case(tmp_path / "x.qcow2"), tmp_path), "fail", "hostile")


@pytest.mark.parametrize(
    ("console", "seen", "host", "reasons"),
    [
        ("srv01 login:", True, "srv01", []),
        ("srv01 login:", True, None, []),
        ("srv010 login:", True, "srv01", ["identity"]),
        ("my-srv01 login:", True, "srv01", ["identity"]),
        ("You are in emergency mode.", False, "srv01", ["boot"]),
        ("", False, None, ["boot"]),
    ],
)
def test_a_console_proves_a_start_and_a_name(console: str, seen: bool, host: str | None, reasons: list[str]) -> None:
    assert [finding.reason for finding in judge(console, seen, Boot("login:"), host)] == reasons
