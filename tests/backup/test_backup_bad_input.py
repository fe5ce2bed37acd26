"""What a repository can be, engine by engine: never a pass, never a byte outside scratch, never the backup's fault."""

import bz2
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from sabotage import DAY, HOUR, NOW, Document, by_borg, by_copy, by_restic, by_tar, source
from test_backup_faults import deserves, judged

lacks = {name: pytest.mark.skipif(shutil.which(name) is None, reason=f"{name} is not installed") for name in
         ("restic", "borg", "qemu-img")}  # fmt: skip

# Hostile archives in borg ----------------------------------------------------------------------------------------

OUT = "/tmp/msp-escaped"
HOSTILE: dict[str, list[tuple[str, dict[str, Any], bytes]]] = {
    "climbs": [("data/../../../escaped.txt", {}, b"out")],
    "goes through a link": [
        ("data/door", {"type": tarfile.SYMTYPE, "linkname": "../../.."}, b""),
        ("data/door/escaped.txt", {}, b"out"),
    ],
    "goes through a link by another spelling": [
        ("data/./door", {"type": tarfile.SYMTYPE, "linkname": OUT}, b""),
        ("data/door/deeper/escaped.txt", {}, b"out"),
    ],
    "links out": [("data/shadow", {"type": tarfile.LNKTYPE, "linkname": "../../../../etc/hostname"}, b"")],
}


@pytest.mark.server
@pytest.mark.slow
@lacks["borg"]
@pytest.mark.parametrize(
    ("name", "root"), [*((name, "data") for name in HOSTILE), ("climbs", "")], ids=[*HOSTILE, "climbs, all of it"]
)
def test_a_hostile_borg_archive_writes_nothing_outside_scratch(name: str, root: str, tmp_path: Path) -> None:
    repo = tmp_path / "borg"
    env = {**os.environ, "BORG_PASSPHRASE": "secret", "BORG_BASE_DIR": str(tmp_path / "base")}
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for member, fields, data in [("data/readme.txt", {}, b"hello"), *HOSTILE[name]]:
            info = tarfile.TarInfo(member)
            info.size = len(data)
            for field, value in fields.items():
                setattr(info, field, value)
            archive.addfile(info, BytesIO(data))
    for words in (["init", "-e", "repokey", str(repo)], ["import-tar", f"{repo}::one", str(tmp_path / "x.tar")]):
        done = subprocess.run(["borg", *words], env=env, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
    document = {"engine": "borg", "repo": str(repo), "root": root, "secret": "secret", "rungs": [2, 4, 5]}
    deserves(judged(document, tmp_path), "fail", "hostile")
    assert not list(tmp_path.rglob("escaped*"))
    assert not Path(OUT).exists()


# A key that was lost ---------------------------------------------------------------------------------------------


@pytest.mark.server
@pytest.mark.slow
@lacks["borg"]
def test_a_borg_key_file_that_was_lost_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = source(tmp_path)
    env = {**os.environ, "BORG_PASSPHRASE": "secret", "BORG_BASE_DIR": str(tmp_path / "base")}
    repo = str(tmp_path / "borg")
    for words in (["borg", "init", "-e", "keyfile", repo], ["borg", "create", f"{repo}::a", tree.name]):
        subprocess.run(words, env=env, cwd=tree.parent, check=True, capture_output=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    document = {"engine": "borg", "repo": repo, "root": tree.name, "secret": "secret"}
    deserves(judged(document, tmp_path), "error", "key")


@pytest.mark.server
@pytest.mark.slow
@lacks["restic"]
def test_restic_keys_that_were_lost_are_never_a_pass(tmp_path: Path) -> None:
    document = by_restic(source(tmp_path), tmp_path)
    for key in (tmp_path / "restic/keys").iterdir():
        key.unlink()
    deserves(judged({**document, "now": NOW}, tmp_path), "error", "key")


# A disk that is full ---------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte for scratch."""
    place = tmp_path / "scratch"
    place.mkdir(mode=0o711)
    words = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0711", "tmpfs", str(place)]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("this account may not mount a small disk")
    yield place
    subprocess.run(["umount", str(place)], check=True)


Backup = Callable[[Path, Path], Document]


@pytest.mark.parametrize(
    "back_up",
    [
        pytest.param(by_tar, id="tar"),
        pytest.param(by_copy, id="tree"),
        pytest.param(by_restic, id="restic", marks=[pytest.mark.server, pytest.mark.slow, lacks["restic"]]),
        pytest.param(by_borg, id="borg", marks=[pytest.mark.server, pytest.mark.slow, lacks["borg"]]),
    ],
)
def test_a_full_disk_is_no_fault_of_the_backup(back_up: Backup, small: Path, tmp_path: Path) -> None:
    tree = source(tmp_path)
    (tree / "noise.bin").write_bytes(os.urandom(3 << 20))
    document = {**back_up(tree, tmp_path), "now": NOW}
    deserves(judged(document, tmp_path), "error", "quota")
    assert list(small.iterdir()) == []


@pytest.mark.server
@lacks["qemu-img"]
def test_a_full_disk_is_no_fault_of_an_image(small: Path, tmp_path: Path) -> None:
    (tmp_path / "disk.raw").write_bytes(os.urandom(4 << 20))
    document = {"engine": "raw", "file": str(tmp_path / "disk.raw")}
    deserves(judged(document, tmp_path), "error", "quota")
    assert list(small.iterdir()) == []


# Clocks ----------------------------------------------------------------------------------------------------------

PLAIN = b"-- PostgreSQL database dump\nSELECT 1;\n-- PostgreSQL database dump complete\n"
MARIA = b"-- MariaDB dump\nSELECT 1;\n-- Dump completed on 2026-09-21 12:00:00\n"


def file_of(engine: str, work: Path) -> Path:
    if engine == "tar":
        return Path(by_tar(source(work), work)["file"])
    file = work / "backup"
    file.write_bytes({"pg_dump": PLAIN, "mariadb_dump": MARIA, "raw": os.urandom(1 << 16)}[engine])
    return file


@pytest.mark.parametrize("engine", ["tar", "pg_dump", "mariadb_dump", pytest.param("raw", marks=lacks["qemu-img"])])
@pytest.mark.parametrize(("hours", "reason"), [(-49, "rpo"), (5, "clock")], ids=["old", "of the future"])
def test_a_file_is_judged_by_its_date(engine: str, hours: int, reason: str, tmp_path: Path) -> None:
    file, now = file_of(engine, tmp_path), 1_790_000_000
    os.utime(file, (now + hours * HOUR,) * 2)
    document = {"engine": engine, "file": str(file), "rungs": [2], "now": now, "expect": {"rpo_s": DAY}}
    deserves(judged(document, tmp_path), "fail", reason)
    os.utime(file, (now - HOUR,) * 2)
    deserves(judged(document, tmp_path), "pass", None)


def test_a_tree_whose_newest_file_is_of_the_future_tells_no_age(tmp_path: Path) -> None:
    document = by_copy(source(tmp_path), tmp_path)
    future = Path(document["repo"]) / "docs/report-01.txt"
    os.utime(future, (NOW + DAY,) * 2)
    deserves(judged({**document, "now": NOW, "expect": {"rpo_s": DAY * 30}}, tmp_path), "fail", "clock")


# Bombs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("engine", "begins"), [("pg_dump", PLAIN[:28]), ("mariadb_dump", MARIA[:16]), ("pg_basebackup", b"")]
)
def test_a_bomb_is_hostile_whatever_it_says_it_is(engine: str, begins: bytes, tmp_path: Path) -> None:
    file = tmp_path / "base.tar.bz2"
    with bz2.open(file, "wb", 1) as out:
        out.write(begins + b"\n")
        for _ in range(64):
            out.write(bytes(1 << 20))
    form = {"format": "plain"} if engine == "pg_dump" else {}
    document = {"engine": engine, "file": str(file), **form, "expect": {"scratch_quota_bytes": 1 << 20}}
    result = judged(document, tmp_path)
    deserves(result, "fail", "hostile")
    assert "quota" in result.reasons


# Names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["two words", "line\nbreak", "-rf", "\udcff\udcfe", "Отчёт", "a,b", "100%"])
def test_a_backup_lies_under_any_name(name: str, tmp_path: Path) -> None:
    place = tmp_path / name
    place.mkdir()
    document = by_tar(source(tmp_path), tmp_path)
    os.rename(document["file"], place / "backup.tgz")  # noqa: PTH104
    document = {**document, "file": str(place / "backup.tgz"), "now": NOW}
    deserves(judged(document, tmp_path), "pass", None)
    tree = by_copy(tmp_path / "data", place)
    deserves(judged({**tree, "now": NOW}, tmp_path), "pass", None)
