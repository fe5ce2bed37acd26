"""Disk images: converted, compared and really started in QEMU."""

import hashlib
import os
import shutil
import subprocess
import time
from io import BytesIO
from pathlib import Path

import disks
import pytest
from PIL import Image
from planted import partitioned
from sabotage import Document, cut, fingerprint, flip
from test_backup_faults import deserves, judged

from msp.backup.boot import judge
from msp.backup.case import Boot
from msp.backup.verdict import Result
from msp.backup.verify import digest

server = [
    pytest.mark.server,
    pytest.mark.slow,
    pytest.mark.skipif(
        not disks.bootable(),
        reason="QEMU, syslinux, mtools, busybox or a cloud kernel is not installed",
    ),
]
converting = [
    pytest.mark.server,
    pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-utils is not installed"),
]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return disks.image(tmp_path_factory.mktemp("disk"))


def case(path: Path, **expect: object) -> Document:
    return {"engine": "qcow2", "file": str(path), "expect": dict(expect)}


def shows(result: Result) -> None:
    """The picture of the screen is there, it is one, and its digest is in what the evidence covers."""
    (picture,) = result.pictures
    with Image.open(BytesIO(picture.png)) as opened:
        assert opened.size == (720, 400)
        assert len(opened.convert("L").getcolors() or ()) > 1, "the screen is blank"
    assert dict(result.rungs[-1].figures)["picture"] == hashlib.sha256(picture.png).hexdigest()
    assert digest(result.plain()) == result.evidence


#: fault -> (reason, stage, words that name it); the ones started in every long pass come first
STARTS = {
    "emergency": ("boot", "emergency", "emergency mode"),
    "no_boot_sector": ("boot", "no_boot_sector", "no boot sector"),
    "other_host": ("identity", "up", "does not call itself client-srv02"),
    "no_init": ("boot", "no_init", "no init"),
    "no_kernel": ("boot", "no_kernel", "no kernel"),
    "panic": ("boot", "panic", "panics"),
}
FEW = [*STARTS][: len(STARTS) if os.environ.get("MSP_TEST_MANY") == "1" else 3]


class TestImages:
    pytestmark = server

    def test_an_image_that_starts_as_itself_passes(self, disk: Path, tmp_path: Path) -> None:
        before = hashlib.sha256(disk.read_bytes()).hexdigest()
        document = case(disk, boot={"marker": "login:", "timeout_s": 180}, host="client-srv01")
        result = judged({**document, "sha256": before}, tmp_path)
        deserves(result, "pass", None)
        assert result.highest_rung == 6
        shows(result)
        assert hashlib.sha256(disk.read_bytes()).hexdigest() == before

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


class TestStarts:
    """Six machines that do not come up as promised, each told apart from the others and pictured."""

    pytestmark = server

    @pytest.mark.parametrize("fault", FEW)
    def test_a_machine_that_does_not_come_up_is_told_apart(self, fault: str, disk: Path, tmp_path: Path) -> None:
        reason, stage, words = STARTS[fault]
        path = disk if fault == "other_host" else disks.image(tmp_path, fault=fault)
        host = "client-srv02" if fault == "other_host" else "client-srv01"
        began = time.monotonic()
        result = judged(case(path, boot={"marker": "login:", "timeout_s": 170}, host=host), tmp_path)
        assert time.monotonic() - began < 180
        deserves(result, "fail", reason)
        assert result.reasons == [reason]
        assert dict(result.rungs[-1].figures)["stage"] == stage
        assert words in result.findings[0].what
        shows(result)

    def test_a_machine_without_a_serial_console_is_proven_by_its_screen(self, tmp_path: Path) -> None:
        path = disks.image(tmp_path, serial=False)
        result = judged(case(path, boot={"marker": "login:", "timeout_s": 170}, host="client-srv01"), tmp_path)
        deserves(result, "pass", None)
        assert "login:" not in dict(result.rungs[-1].figures)["console"]
        shows(result)


class TestFormats:
    """Small disks with a partition and something in it; nothing is started."""

    pytestmark = converting

    @pytest.fixture(params=["raw", "vmdk", "vdi"])
    def form(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def small(self, form: str, tmp_path: Path) -> Document:
        path = partitioned(tmp_path / "disk.raw")
        if form != "raw":
            subprocess.run(["qemu-img", "convert", "-O", form, path, tmp_path / f"disk.{form}"], check=True)
        return {"engine": form, "file": str(tmp_path / f"disk.{form}")}

    def test_a_good_image_passes_and_stays_as_it_is(self, small: Document, tmp_path: Path) -> None:
        before = fingerprint(Path(small["file"]).parent)
        result = judged(small, tmp_path)
        deserves(result, "pass", None)
        assert result.highest_rung == 4
        (tmp_path / "scratch").rmdir()
        assert fingerprint(Path(small["file"]).parent) == before

    @pytest.mark.parametrize("share", [0.5, 0.98])
    def test_a_cut_image_fails(self, share: float, small: Document, tmp_path: Path) -> None:
        cut(Path(small["file"]), share)
        deserves(judged(small, tmp_path), "fail", "repository")

    def test_an_image_of_zeros_fails(self, form: str, small: Document, tmp_path: Path) -> None:
        Path(small["file"]).unlink()
        subprocess.run(["qemu-img", "create", "-q", "-f", form, small["file"], "8M"], check=True)
        deserves(judged(small, tmp_path), "fail", "missing")

    def test_a_changed_image_is_seen_by_its_checksum(self, small: Document, tmp_path: Path) -> None:
        document = {**small, "sha256": hashlib.sha256(Path(small["file"]).read_bytes()).hexdigest()}
        deserves(judged(document, tmp_path), "pass", None)
        flip(Path(small["file"]))
        deserves(judged(document, tmp_path), "fail", "content")

    def test_a_small_quota_is_an_error(self, small: Document, tmp_path: Path) -> None:
        deserves(judged({**small, "expect": {"scratch_quota_bytes": 1000}}, tmp_path), "error", "quota")


class TestOtherFiles:
    """Images that consist of other files, or pretend to."""

    pytestmark = converting

    def test_a_raw_image_that_looks_like_one_with_a_backing_file_is_only_data(self, tmp_path: Path) -> None:
        words = ["-u", "-b", "/etc/hostname", "-F", "raw", tmp_path / "x.raw", "1M"]
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *words], check=True)
        result = judged({"engine": "raw", "file": str(tmp_path / "x.raw")}, tmp_path)
        deserves(result, "pass", None)

    @pytest.mark.parametrize("name", ["/etc/hostname", "nbd://127.0.0.1:1/x", "../x"])
    def test_a_vmware_image_that_reads_elsewhere_is_hostile(self, name: str, tmp_path: Path) -> None:
        text = f'# Disk DescriptorFile\nversion=1\ncreateType="monolithicFlat"\nRW 16 FLAT "{name}" 0\n'
        (tmp_path / "x.vmdk").write_text(text)
        for engine in ("vmdk", "qcow2"):
            deserves(judged({"engine": engine, "file": str(tmp_path / "x.vmdk")}, tmp_path), "fail", "hostile")

    def test_a_vmware_image_in_two_files_needs_both(self, tmp_path: Path) -> None:
        raw = partitioned(tmp_path / "disk.raw")
        words = ["-O", "vmdk", "-o", "subformat=monolithicFlat", raw, tmp_path / "disk.vmdk"]
        subprocess.run(["qemu-img", "convert", *words], check=True)
        document = {"engine": "vmdk", "file": str(tmp_path / "disk.vmdk")}
        deserves(judged(document, tmp_path), "pass", None)
        (tmp_path / "disk-flat.vmdk").unlink()
        deserves(judged(document, tmp_path), "fail", "missing")


class TestFormatsStart:
    pytestmark = server

    @pytest.mark.parametrize("form", ["raw", "vmdk"])
    def test_an_image_in_another_format_starts(self, form: str, disk: Path, tmp_path: Path) -> None:
        subprocess.run(["qemu-img", "convert", "-O", form, disk, tmp_path / f"disk.{form}"], check=True)
        document = case(tmp_path / f"disk.{form}", boot={"marker": "login:", "timeout_s": 180}, host="client-srv01")
        deserves(judged({**document, "engine": form}, tmp_path), "pass", None)


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
