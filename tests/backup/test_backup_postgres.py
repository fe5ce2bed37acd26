"""PostgreSQL dumps: restored into a throwaway cluster and asked."""

import gzip
import shutil
import tempfile
from pathlib import Path

import pytest
from postgres_shop import ASKED, needed
from sabotage import Document, cut, fingerprint, flip, largest
from test_backup_faults import deserves, judged

from msp.backup.case import parse
from msp.backup.engine import Found
from msp.backup.engines.postgres import harmless
from msp.backup.verify import verify
from msp.clock import utc_now


@pytest.fixture
def dumps(postgres_dumps: Path) -> Path:
    return postgres_dumps


def case(dump: Path, form: str) -> Document:
    return {"engine": "pg_dump", "file": str(dump), "format": form, "expect": {"postgres": ASKED}}


class TestForms:
    pytestmark = needed

    @pytest.mark.parametrize("form", ["directory", "tar"])
    def test_a_dump_in_another_format_is_read(self, form: str, dumps: Path, tmp_path: Path) -> None:
        before = fingerprint(dumps)
        deserves(judged(case(dumps / f"good.{form}", form), tmp_path), "pass", None)
        deserves(judged({**case(dumps / f"half.{form}", form), "format": None}, tmp_path), "fail", "application")
        assert fingerprint(dumps) == before

    @pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
    def test_a_damaged_part_of_a_directory_fails(self, damage: object, dumps: Path, tmp_path: Path) -> None:
        copy = Path(shutil.copytree(dumps / "good.directory", tmp_path / "dump"))
        damage(largest(copy, "*.dat.gz"))  # type: ignore[operator]
        deserves(judged(case(copy, "directory"), tmp_path), "fail", "repository")

    def test_a_directory_without_its_table_of_contents_fails(self, dumps: Path, tmp_path: Path) -> None:
        copy = Path(shutil.copytree(dumps / "good.directory", tmp_path / "dump"))
        (copy / "toc.dat").unlink()
        deserves(judged(case(copy, "directory"), tmp_path), "fail", "repository")


class TestDamage:
    pytestmark = needed

    @pytest.mark.parametrize("form", ["custom", "plain"])
    def test_a_cut_dump_fails(self, form: str, dumps: Path, tmp_path: Path) -> None:
        copy = Path(shutil.copy(dumps / f"good.{form}", tmp_path / "dump"))
        cut(copy)
        deserves(judged(case(copy, form), tmp_path), "fail", "repository")

    def test_a_flipped_dump_fails(self, dumps: Path, tmp_path: Path) -> None:
        copy = Path(shutil.copy(dumps / "good.custom", tmp_path / "dump"))
        flip(copy)
        deserves(judged(case(copy, "custom"), tmp_path), "fail", "repository")

    @pytest.mark.parametrize("form", ["custom", "plain"])
    def test_an_empty_file_fails(self, form: str, tmp_path: Path) -> None:
        (tmp_path / "dump").touch()
        deserves(judged(case(tmp_path / "dump", form), tmp_path), "fail", "repository")

    def test_a_packed_dump_is_read(self, dumps: Path, tmp_path: Path) -> None:
        (tmp_path / "dump.sql.gz").write_bytes(gzip.compress((dumps / "good.plain").read_bytes()))
        deserves(judged(case(tmp_path / "dump.sql.gz", "plain"), tmp_path), "pass", None)
        cut(tmp_path / "dump.sql.gz")
        deserves(judged(case(tmp_path / "dump.sql.gz", "plain"), tmp_path), "fail", "repository")

    def test_a_command_for_the_shell_is_hostile_and_never_run(self, dumps: Path, tmp_path: Path) -> None:
        text = (dumps / "good.plain").read_bytes()
        (tmp_path / "dump").write_bytes(b"\\! touch /tmp/msp-escaped-sql\n" + text)
        deserves(judged(case(tmp_path / "dump", "plain"), tmp_path), "fail", "hostile")
        assert not Path("/tmp/msp-escaped-sql").exists()

    @pytest.mark.parametrize(
        ("line", "verdict", "reason"),
        [
            ("COPY (SELECT 1) TO PROGRAM 'touch {out}';\n", "fail", "hostile"),
            ("DO $$ BEGIN EXECUTE $x$COPY (SELECT 1) TO '{out}'$x$; END $$;\n", "fail", "hostile"),
            ("SELECT lo_export(lo_creat(-1), '{out}');\n", "fail", "hostile"),
            ("ALTER SYSTEM SET archive_command = 'touch {out}';\n", "error", "restore"),
            ("CREATE EVENT TRIGGER t ON ddl_command_end\n   EXECUTE FUNCTION nothing();\n", "pass", None),
            ("CREATE EXTENSION IF NOT EXISTS pageinspect WITH SCHEMA public;\n", "pass", None),
        ],
    )
    def test_what_reaches_out_of_the_database_is_refused(
        self, line: str, verdict: str, reason: str | None, dumps: Path, tmp_path: Path
    ) -> None:
        out = Path("/tmp") / f"msp-escaped-{tmp_path.name}"
        text = (dumps / "good.plain").read_bytes()
        (tmp_path / "dump").write_bytes(line.replace("{out}", str(out)).encode() + text)
        deserves(judged(case(tmp_path / "dump", "plain"), tmp_path), verdict, reason)
        assert not out.exists()

    def test_a_database_larger_than_the_quota_is_an_error(self, dumps: Path, tmp_path: Path) -> None:
        document = case(dumps / "good.custom", "custom")
        document["expect"] = {**document["expect"], "scratch_quota_bytes": 1 << 20}
        deserves(judged(document, tmp_path), "error", "quota")

    def test_nothing_of_the_cluster_is_left(self, dumps: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="msp-pg-", dir="/tmp") as base:
            Path(base).chmod(0o711)
            document = parse(case(dumps / "good.custom", "custom"), now=utc_now())
            assert verify(document, base=Path(base) / "s").verdict == "pass"
            assert list((Path(base) / "s").iterdir()) == []


class TestHarmless:
    """Pure: the filter before psql."""

    @staticmethod
    def filtered(text: str) -> str:
        from io import BytesIO

        return b"".join(harmless(BytesIO(text.encode()))).decode()

    @pytest.mark.parametrize(
        "text",
        [
            "SELECT 'a \\! b';\n",
            "SELECT E'it\\'s \\! fine';\n",
            "CREATE FUNCTION f() AS $_$\n \\d 'it\n$_$;\n",
            "-- a comment with \\! in it\n",
            "/* \\!\n \\! */ SELECT 1;\n",
            'SELECT "odd \\ name";\n',
            "COPY t FROM stdin;\na\\tb\\!\n\\.\nSELECT 1;\n",
            "SELECT 'two\nlines \\x' , 1;\n",
        ],
    )
    def test_backslashes_in_data_pass(self, text: str) -> None:
        assert self.filtered(text) == text

    @pytest.mark.parametrize(
        "text",
        [
            "\\! id\n",
            "SELECT 1 \\! id\n",
            "SELECT 'x';\\copy t to '/tmp/x'\n",
            "COPY t FROM stdin;\na\n\\.\n\\! id\n",
            "SELECT $$ \\! $$; \\! id\n",
        ],
    )
    def test_commands_for_psql_are_hostile(self, text: str) -> None:
        with pytest.raises(Found) as caught:
            self.filtered(text)
        assert caught.value.findings[0].reason == "hostile"

    def test_owners_and_rights_are_left_out(self) -> None:
        assert self.filtered("ALTER TABLE public.t OWNER TO app;\nGRANT ALL ON t TO app;\nSELECT 1;\n") == "SELECT 1;\n"
