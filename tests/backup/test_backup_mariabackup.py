"""Physical backups of MariaDB: prepared, started and asked."""

import shutil
import subprocess
from pathlib import Path

import pytest
from mariadb_shop import ASKED, needed
from sabotage import Document, cut, fingerprint, flip
from test_backup_faults import deserves, judged

pytestmark = [
    *needed,
    pytest.mark.skipif(shutil.which("mariadb-backup") is None, reason="mariadb-backup is not installed"),
]


@pytest.fixture
def backups(mariadb_backups: Path) -> Path:
    return mariadb_backups


def case(file: Path) -> Document:
    return {"engine": "mariabackup", "file": str(file), "expect": {"mariadb": ASKED}}


@pytest.mark.parametrize(
    ("name", "verdict", "reason"),
    [
        ("good", "pass", None),
        ("good.xb", "pass", None),
        pytest.param("stale", "fail", "rpo", marks=pytest.mark.slow),
        ("half", "fail", "application"),
        pytest.param("empty", "fail", "missing", marks=pytest.mark.slow),
        ("addition", "fail", "missing"),
    ],
)
def test_a_backup_gets_the_verdict_it_deserves(
    name: str, verdict: str, reason: str | None, backups: Path, tmp_path: Path
) -> None:
    before = fingerprint(backups)
    result = judged(case(backups / name), tmp_path)
    deserves(result, verdict, reason)
    assert fingerprint(backups) == before
    assert (result.highest_rung == 5) is (name != "addition" and verdict == "pass")


@pytest.fixture
def copy(backups: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(backups / "good", tmp_path / "copy"))


def test_a_flipped_page_fails(copy: Path, tmp_path: Path) -> None:
    flip(copy / "shop/orders.ibd", 70_000)
    deserves(judged(case(copy), tmp_path), "fail", "repository")


def test_a_cut_table_fails(copy: Path, tmp_path: Path) -> None:
    cut(copy / "shop/orders.ibd")
    result = judged(case(copy), tmp_path)
    assert result.verdict == "fail", result.findings


@pytest.mark.parametrize(
    ("lost", "reason"),
    [
        pytest.param("ib_logfile0", "restore", marks=pytest.mark.slow),
        ("shop/orders.ibd", "application"),
        ("xtrabackup_info", "repository"),
    ],
)
def test_a_lost_file_fails(lost: str, reason: str, copy: Path, tmp_path: Path) -> None:
    (copy / lost).unlink()
    deserves(judged(case(copy), tmp_path), "fail", reason)


def test_an_empty_folder_and_a_lost_one_fail(tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
    deserves(judged(case(tmp_path / "backup"), tmp_path), "fail", "missing")
    deserves(judged(case(tmp_path / "lost"), tmp_path), "fail", "missing")


def test_a_link_is_hostile(copy: Path, tmp_path: Path) -> None:
    (copy / "shop/extra.ibd").symlink_to("/etc/hostname")
    (copy / "shop/extra").symlink_to("/etc")
    result = judged(case(copy), tmp_path)
    assert result.verdict == "fail", result.findings


def test_a_small_quota_is_an_error(backups: Path, tmp_path: Path) -> None:
    for name in ("good", "good.xb"):
        document = case(backups / name)
        document["expect"] = {**document["expect"], "scratch_quota_bytes": 100_000}
        deserves(judged(document, tmp_path), "error", "quota")


class TestStream:
    @pytest.mark.parametrize("share", [0.999, 0.5, 0.0001])
    def test_a_cut_stream_fails(self, share: float, backups: Path, tmp_path: Path) -> None:
        copy = Path(shutil.copy(backups / "good.xb", tmp_path / "backup.xb"))
        cut(copy, share)
        deserves(judged(case(copy), tmp_path), "fail", "repository")

    def test_a_flipped_stream_fails(self, backups: Path, tmp_path: Path) -> None:
        copy = Path(shutil.copy(backups / "good.xb", tmp_path / "backup.xb"))
        flip(copy)
        deserves(judged(case(copy), tmp_path), "fail", "repository")

    @pytest.mark.slow
    def test_a_packed_stream_is_read(self, backups: Path, tmp_path: Path) -> None:
        copy = Path(shutil.copy(backups / "good.xb", tmp_path / "backup.xb"))
        subprocess.run(["gzip", "-1", copy], check=True)
        deserves(judged(case(tmp_path / "backup.xb.gz"), tmp_path), "pass", None)

    @pytest.mark.parametrize("name", [b"../../escaped.txt", b"/tmp/msp-escaped.txt"])
    def test_a_stream_that_climbs_is_hostile(self, name: bytes, backups: Path, tmp_path: Path) -> None:
        old = (backups / "good.xb").read_bytes()
        end = b"XBSTCK01\x00E" + len(name).to_bytes(4, "little") + name
        (tmp_path / "backup.xb").write_bytes(end + old)
        deserves(judged(case(tmp_path / "backup.xb"), tmp_path), "fail", "hostile")
        assert not list(tmp_path.rglob("escaped.txt"))
        assert not Path("/tmp/msp-escaped.txt").exists()
