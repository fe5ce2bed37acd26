"""Physical backups of PostgreSQL: verified, started, every page and index read, and asked."""

import shutil
import subprocess
from pathlib import Path

import postgres_shop
import pytest
from postgres_shop import ASKED, needed
from sabotage import Document, cut, fingerprint, flip, largest
from test_backup_faults import deserves, judged

from msp.backup.assertions import postgres, private
from msp.backup.assertions.postgres import Cluster
from msp.backup.process import Runner
from msp.backup.scratch import default_base, scratch

pytestmark = [*needed, pytest.mark.slow]  # a cluster is backed up five times, and started for each test


@pytest.fixture
def backups(postgres_backups: Path) -> Path:
    return postgres_backups


def case(file: Path, database: str = "good") -> Document:
    return {"engine": "pg_basebackup", "file": str(file), "expect": {"postgres": {**ASKED, "database": database}}}


@pytest.mark.parametrize(
    ("name", "database", "verdict", "reason"),
    [
        ("plain", "good", "pass", None),
        ("tar", "good", "pass", None),
        pytest.param("tar/base.tar.gz", "good", "pass", None, marks=pytest.mark.slow),
        ("plain", "half", "fail", "application"),
        pytest.param("plain", "shop", "fail", "missing", marks=pytest.mark.slow),
        ("damaged-orders", "good", "fail", "application"),
        ("damaged-orders_pkey", "good", "fail", "application"),
        ("plain-apart", "good", "fail", "hostile"),
    ],
)
def test_a_backup_gets_the_verdict_it_deserves(
    name: str, database: str, verdict: str, reason: str | None, backups: Path, tmp_path: Path
) -> None:
    before = fingerprint(backups)
    deserves(judged(case(backups / name, database), tmp_path), verdict, reason)
    assert fingerprint(backups) == before


@pytest.fixture
def copy(backups: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(backups / "plain", tmp_path / "copy", symlinks=True))


@pytest.mark.slow
def test_without_a_name_the_database_with_the_tables_is_asked(copy: Path, tmp_path: Path) -> None:
    document = case(copy)
    del document["expect"]["postgres"]["database"]
    result = judged(document, tmp_path)
    assert "rows of orders" in dict(result.rungs[-1].figures)


@pytest.mark.parametrize("damage", [flip, pytest.param(cut, marks=pytest.mark.slow), Path.unlink])
def test_a_damaged_file_fails(damage: object, copy: Path, tmp_path: Path) -> None:
    damage(largest(copy / "base", "*/*"))  # type: ignore[operator]
    deserves(judged(case(copy), tmp_path), "fail", "repository")


@pytest.mark.slow
def test_without_a_manifest_a_lost_table_is_still_seen(copy: Path, tmp_path: Path) -> None:
    (copy / "backup_manifest").unlink()
    deserves(judged(case(copy), tmp_path), "pass", None)
    largest(copy / "base", "*/*").unlink()
    result = judged(case(copy), tmp_path)
    assert result.verdict == "fail", result.findings


def test_a_backup_without_its_log_does_not_start(copy: Path, tmp_path: Path) -> None:
    (copy / "backup_manifest").unlink()
    largest(copy / "pg_wal", "0*").unlink()
    deserves(judged(case(copy), tmp_path), "fail", "restore")


def test_settings_of_the_old_server_are_not_taken_over(copy: Path, tmp_path: Path) -> None:
    (copy / "backup_manifest").unlink()
    out = tmp_path / "world"
    out.mkdir()
    out.chmod(0o777)
    (copy / "postgresql.auto.conf").write_text(f"archive_cleanup_command = 'touch {out}/a'\nport = 1\nssl = on\n")
    (copy / "postgresql.conf").write_text(f"restore_command = 'touch {out}/b'\nlisten_addresses = '*'\n")
    (copy / "recovery.signal").touch()
    deserves(judged(case(copy), tmp_path), "pass", None)
    assert not list(out.iterdir())


class TestArchives:
    @pytest.fixture
    def copy(self, backups: Path, tmp_path: Path) -> Path:
        return Path(shutil.copytree(backups / "tar", tmp_path / "copy"))

    @pytest.mark.parametrize("damage", [flip, cut])
    def test_a_damaged_archive_fails(self, damage: object, copy: Path, tmp_path: Path) -> None:
        damage(copy / "base.tar.gz")  # type: ignore[operator]
        deserves(judged(case(copy), tmp_path), "fail", "repository")

    def test_a_lost_archive_fails(self, copy: Path, tmp_path: Path) -> None:
        next(path for path in copy.glob("*.tar.gz") if path.name[0].isdigit()).unlink()
        deserves(judged(case(copy), tmp_path), "fail", "repository")
        (copy / "base.tar.gz").unlink()
        deserves(judged(case(copy), tmp_path), "fail", "repository")

    def test_a_small_quota_is_an_error(self, copy: Path, tmp_path: Path) -> None:
        document = case(copy)
        document["expect"]["scratch_quota_bytes"] = 100_000
        result = judged(document, tmp_path)
        assert (result.verdict, "quota" in result.reasons) == ("error", True), result.findings


def test_an_empty_folder_a_lost_one_and_another_file_fail(tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
    deserves(judged(case(tmp_path / "backup"), tmp_path), "fail", "missing")
    deserves(judged(case(tmp_path / "lost"), tmp_path), "fail", "missing")
    (tmp_path / "note.txt").write_text("no backup")
    deserves(judged(case(tmp_path / "note.txt"), tmp_path), "fail", "repository")


@pytest.mark.slow
def test_a_superuser_of_another_name_is_no_obstacle(tmp_path: Path) -> None:
    who = postgres.account()
    with scratch(default_base()) as space, private.folder(space, who, "pg") as place:
        cluster = Cluster(Runner(), place, who)
        cluster.initialise()
        with cluster.running(postgres_shop.LIVE):
            cluster.psql("CREATE ROLE boss SUPERUSER LOGIN", database="postgres", read_only=False)
            sql = "ALTER ROLE postgres RENAME TO old"
            rename = cluster.client("psql", "-c", sql)
            rename[rename.index("-U") + 1] = "boss"
            subprocess.run(rename, check=True, capture_output=True)
            back_up_as = cluster.client("pg_basebackup")[:5]
            subprocess.run([*back_up_as, "-U", "boss", "-c", "fast", "-D", str(tmp_path / "backup")], check=True)
            back = cluster.client("psql", "-c", "ALTER ROLE old RENAME TO postgres")
            back[back.index("-U") + 1] = "boss"
            subprocess.run(back, check=True, capture_output=True)
    result = judged({"engine": "pg_basebackup", "file": str(tmp_path / "backup")}, tmp_path)
    deserves(result, "fail", "missing")  # it starts, and holds no table
    assert result.highest_rung == 4
