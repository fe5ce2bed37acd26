"""MariaDB dumps: loaded into a throwaway server and asked."""

import gzip
import shutil
import subprocess
from io import BytesIO
from pathlib import Path

import pytest
from mariadb_shop import ASKED, forge_its_end, needed
from sabotage import Document, cut
from test_backup_faults import deserves, judged

from msp.backup.engines.mariadb import own_data


@pytest.fixture
def dumps(mariadb_dumps: Path) -> Path:
    return mariadb_dumps


def case(file: Path) -> Document:
    return {"engine": "mariadb_dump", "file": str(file), "expect": {"mariadb": ASKED}}


class TestForms:
    pytestmark = needed

    def test_a_dump_of_one_database_and_one_of_a_whole_server_pass(self, dumps: Path, tmp_path: Path) -> None:
        asked = {**ASKED, "tables": {"orders": {"rows_min": 2000}, "lines": {"rows_min": 1000}}}
        for name in ("alone", "all"):
            document = {**case(dumps / f"{name}.sql"), "engine": "mysqldump", "expect": {"mariadb": asked}}
            deserves(judged(document, tmp_path), "pass", None)

    @pytest.mark.parametrize("packer", ["gzip", "bzip2", "xz", "zstd"])
    def test_a_packed_dump_is_read_and_its_damage_seen(self, packer: str, dumps: Path, tmp_path: Path) -> None:
        if shutil.which(packer) is None:
            pytest.skip(f"{packer} is not installed")
        shutil.copy(dumps / "good.sql", tmp_path / "dump")
        subprocess.run([packer, "-q", tmp_path / "dump"], check=True)
        packed = next(tmp_path.glob("dump.*"))
        deserves(judged(case(packed), tmp_path), "pass", None)
        cut(packed)
        deserves(judged(case(packed), tmp_path), "fail", "repository")


class TestDamage:
    pytestmark = needed

    def test_a_dump_with_a_forged_end_is_told_by_its_rows(self, dumps: Path, tmp_path: Path) -> None:
        copy = Path(shutil.copy(dumps / "good.sql", tmp_path / "dump.sql"))
        forge_its_end(copy)
        result = judged(case(copy), tmp_path)
        deserves(result, "fail", "application")
        assert any("holds 1360 rows" in finding.what for finding in result.findings), result.findings

    def test_a_cut_dump_and_an_empty_file_fail(self, dumps: Path, tmp_path: Path) -> None:
        copy = Path(shutil.copy(dumps / "good.sql", tmp_path / "dump.sql"))
        cut(copy)
        deserves(judged(case(copy), tmp_path), "fail", "repository")
        copy.write_bytes(b"")
        deserves(judged(case(copy), tmp_path), "fail", "repository")
        copy.unlink()
        deserves(judged(case(copy), tmp_path), "fail", "missing")

    def test_a_statement_that_does_not_parse_fails(self, dumps: Path, tmp_path: Path) -> None:
        text = (dumps / "good.sql").read_bytes().replace(b"CREATE TABLE `lines`", b"CREATE TABBE `lines`")
        (tmp_path / "dump.sql").write_bytes(text)
        deserves(judged(case(tmp_path / "dump.sql"), tmp_path), "fail", "restore")

    @pytest.mark.parametrize(
        ("line", "verdict", "reason"),
        [
            (b"\\! touch {out}\n", "fail", "hostile"),
            (b"SELECT 1; \\! touch {out}\n", "fail", "hostile"),
            (b"system touch {out}\n", "fail", "restore"),
            (b"SELECT 1 INTO OUTFILE '{out}';\n", "error", "restore"),
            (b"SELECT 2; SET GLOBAL general_log_file='{out}';\n", "error", "restore"),
            (
                b"CREATE DEFINER=root@localhost PROCEDURE p() SELECT 1 INTO OUTFILE '{out}'; CALL p();\n",
                "fail",
                "restore",
            ),
        ],
    )
    def test_what_reaches_out_of_the_database_is_refused(
        self, line: bytes, verdict: str, reason: str, dumps: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "world").mkdir(mode=0o777)
        out = tmp_path / "world/escaped"
        text = (dumps / "good.sql").read_bytes()
        (tmp_path / "dump.sql").write_bytes(line.replace(b"{out}", str(out).encode()) + text)
        deserves(judged(case(tmp_path / "dump.sql"), tmp_path), verdict, reason)
        assert not out.exists()

    def test_a_database_larger_than_the_quota_is_an_error(self, dumps: Path, tmp_path: Path) -> None:
        document = case(dumps / "good.sql")
        document["expect"] = {**document["expect"], "scratch_quota_bytes": 100_000}
        deserves(judged(document, tmp_path), "error", "quota")

    def test_a_file_of_another_program_fails(self, tmp_path: Path) -> None:
        (tmp_path / "x.sql.gz").write_bytes(gzip.compress(b"-- PostgreSQL database dump complete\n"))
        deserves(judged(case(tmp_path / "x.sql.gz"), tmp_path), "fail", "repository")


def test_accounts_settings_and_the_servers_own_database_are_left_out_and_data_are_not() -> None:
    text = (
        b"SET @@GLOBAL.GTID_PURGED='a:1,\nb:2';\n"
        b"USE `mysql`;\nINSERT INTO `global_priv` VALUES (1);\n"
        b"USE `shop`;\nGRANT ALL ON *.* TO x;\nFLUSH PRIVILEGES;\n"
        b"INSERT INTO `t` VALUES ('GRANT \\n');\n"
        b"DELIMITER ;;\nCREATE PROCEDURE p() BEGIN\nFLUSH STATUS;\nEND ;;\nDELIMITER ;\n"
        b"/*!50003 SET GLOBAL x = 1 */;\nSELECT 1;\n"
    )
    assert b"".join(own_data(BytesIO(text))) == (
        b"USE `shop`;\nINSERT INTO `t` VALUES ('GRANT \\n');\n"
        b"DELIMITER ;;\nCREATE PROCEDURE p() BEGIN\nFLUSH STATUS;\nEND ;;\nDELIMITER ;\nSELECT 1;\n"
    )
