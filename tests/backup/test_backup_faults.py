"""Good backups pass and broken ones do not, for the right reason: archives and plain trees."""

import os
import shutil
import subprocess
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sabotage
from sabotage import LOGICAL, NOW, Document, Fault, by_copy, by_tar, flip, hostile_tar

from msp.backup.case import parse
from msp.backup.verdict import Result
from msp.backup.verify import verify


def judged(document: Document, work: Path) -> Result:
    result = verify(parse(document, now=datetime.now(UTC)), base=work / "scratch")
    assert list((work / "scratch").iterdir()) == [], "something was left in scratch"
    return result


def deserves(result: Result, verdict: str, reason: str | None) -> None:
    said = f"{result.verdict} {result.reasons} {[finding.what for finding in result.findings]}"
    assert result.verdict == verdict, said
    assert (reason in result.reasons) if reason else result.reasons == [], said


#: One of each kind; a plain copy does not say when it was made, so nothing in it can be told from drift.
TREES = [fault for fault in LOGICAL if fault.name != "good while the source lives on"][::4]


@pytest.mark.parametrize("fault", TREES, ids=lambda fault: fault.name)
def test_a_plain_copy_gets_the_verdict_it_deserves(fault: Fault, tmp_path: Path) -> None:
    deserves(judged(sabotage.case(fault, tmp_path, by_copy), tmp_path), fault.verdict, fault.reason)


@pytest.fixture
def good(tmp_path: Path) -> Document:
    return sabotage.case(LOGICAL[0], tmp_path, by_tar)


def plain(tmp_path: Path) -> Path:
    tree = sabotage.source(tmp_path)
    subprocess.run(["tar", "-cf", tmp_path / "plain.tar", "-C", tree, "."], check=True)
    return tmp_path / "plain.tar"


def test_a_plain_archive_cut_between_two_members_fails(tmp_path: Path) -> None:
    path = plain(tmp_path)
    with tarfile.open(path) as archive:
        os.truncate(path, archive.getmembers()[20].offset)
    deserves(judged({"engine": "tar", "file": str(path)}, tmp_path), "fail", "repository")


def test_a_plain_archive_with_a_broken_header_in_its_middle_fails(tmp_path: Path) -> None:
    path = plain(tmp_path)
    with tarfile.open(path) as archive:
        flip(path, archive.getmembers()[20].offset + 3)
    deserves(judged({"engine": "tar", "file": str(path)}, tmp_path), "fail", "repository")


def test_an_archive_from_the_folder_itself_passes(tmp_path: Path) -> None:
    deserves(judged({"engine": "tar", "file": str(plain(tmp_path))}, tmp_path), "pass", None)


@pytest.mark.parametrize("packer", ["bzip2", "xz", "zstd"])
def test_every_packer_is_read_and_its_damage_seen(packer: str, tmp_path: Path) -> None:
    if shutil.which(packer) is None:
        pytest.skip(f"{packer} is not installed")
    subprocess.run([packer, "-q", plain(tmp_path)], check=True)
    path = next(path for path in tmp_path.glob("plain.tar.*"))
    deserves(judged({"engine": "tar", "file": str(path)}, tmp_path), "pass", None)
    flip(path)
    deserves(judged({"engine": "tar", "file": str(path)}, tmp_path), "fail", "repository")


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "repository"), (b"not an archive", "repository"), (b"\0" * 10240, "missing")]
)
def test_a_file_that_is_no_archive_fails(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(content)
    deserves(judged({"engine": "tar", "file": str(tmp_path / "x.tar")}, tmp_path), "fail", reason)


def test_an_archive_that_is_not_there_fails_and_an_unmounted_disk_is_an_error(tmp_path: Path) -> None:
    deserves(judged({"engine": "tar", "file": str(tmp_path / "x.tar")}, tmp_path), "fail", "missing")
    deserves(judged({"engine": "tar", "file": str(tmp_path / "disk/x.tar")}, tmp_path), "error", "missing")


def test_a_root_that_is_not_in_the_archive_fails(good: Document, tmp_path: Path) -> None:
    deserves(judged({**good, "root": "other"}, tmp_path), "fail", "missing")


def test_an_old_archive_breaks_the_recovery_point(good: Document, tmp_path: Path) -> None:
    os.utime(good["file"], (NOW - 3 * sabotage.DAY,) * 2)
    deserves(judged(good, tmp_path), "fail", "rpo")


HOSTILE: dict[str, list[tuple[str, dict[str, Any], bytes]]] = {
    "climbs": [("data/../../../escaped.txt", {}, b"out")],
    "is absolute": [("/tmp/msp-escaped.txt", {}, b"out")],
    "goes through a link": [
        ("data/door", {"type": tarfile.SYMTYPE, "linkname": "../../.."}, b""),
        ("data/door/escaped.txt", {}, b"out"),
    ],
    "goes through a link to a folder": [
        ("data/door", {"type": tarfile.SYMTYPE, "linkname": "/tmp"}, b""),
        ("data/door/deeper/escaped.txt", {}, b"out"),
    ],
    "is a device": [("data/disk", {"type": tarfile.BLKTYPE, "devmajor": 8, "devminor": 0}, b"")],
    "links out": [("data/shadow", {"type": tarfile.LNKTYPE, "linkname": "../../../../etc/hostname"}, b"")],
    "links to an absolute name": [("data/shadow", {"type": tarfile.LNKTYPE, "linkname": "/etc/hostname"}, b"")],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_writes_nothing_outside_scratch(name: str, tmp_path: Path) -> None:
    document = hostile_tar(tmp_path / "hostile.tgz", *HOSTILE[name])
    before = sorted(path for path in tmp_path.rglob("*"))
    deserves(judged(document, tmp_path), "fail", "hostile")
    assert sorted(path for path in tmp_path.rglob("*") if path.name != "scratch") == before
    assert not Path("/tmp/msp-escaped.txt").exists()
    assert not Path("/tmp/deeper").exists()


def test_a_bomb_is_hostile_and_never_fills_the_disk(tmp_path: Path) -> None:
    document = hostile_tar(tmp_path / "bomb.tgz", ("data/zeros", {}, bytes(64 << 20)))
    result = judged({**document, "expect": {"scratch_quota_bytes": 8 << 20}}, tmp_path)
    deserves(result, "fail", "hostile")
    assert "quota" in result.reasons


def test_a_giant_extended_header_does_not_reach_memory(tmp_path: Path) -> None:
    document = hostile_tar(tmp_path / "header.tgz", ("pax", {"type": tarfile.XHDTYPE}, bytes(16 << 20)))
    deserves(judged(document, tmp_path), "fail", "hostile")
