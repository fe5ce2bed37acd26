"""PostgreSQL dumps: restored into a throwaway cluster and asked."""

import gzip
import shutil
import subprocess
from pathlib import Path

import pytest
from sabotage import Document, cut, flip
from test_backup_faults import deserves, judged

from msp.backup.assertions import postgres
from msp.backup.engine import Found
from msp.backup.engines.postgres import harmless
from msp.backup.process import Runner
from msp.backup.scratch import default_base, scratch

server = [
    pytest.mark.server,
    pytest.mark.skipif(
        not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")) and shutil.which("initdb") is None,
        reason="PostgreSQL is not installed",
    ),
]

SHOP = r"""
CREATE ROLE app;
CREATE TABLE orders (id serial PRIMARY KEY, created timestamptz NOT NULL, note text);
CREATE TABLE lines (id int PRIMARY KEY, order_id int REFERENCES orders);
CREATE INDEX orders_created ON orders (created);
INSERT INTO orders (created, note) SELECT now() - i * interval '1 s', E'it''s \\ number ' || i FROM generate_series(1, 2000) i;
INSERT INTO lines SELECT i, i FROM generate_series(1, 1000) i;
CREATE FUNCTION odd() RETURNS text LANGUAGE sql AS $x$ SELECT 'a\db''c' $x$;
ALTER TABLE orders OWNER TO app;
GRANT SELECT ON lines TO app;
CREATE POLICY own ON orders TO app USING (true);
"""  # noqa: E501
ASKED = {
    "tables": {"orders": {"rows_min": 2000}, "public.lines": {"rows_min": 1000}},
    "columns": {"orders": ["id", "created", "note"]},
    "indexes": ["orders_created"],
    "queries": [{"sql": "select count(*) from lines where order_id not in (select id from orders)", "equals": 0}],
    "fresh": {"sql": "select max(created) from orders", "within_s": 86400},
}  # fmt: skip


@pytest.fixture(scope="module")
def dumps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good and logically broken dumps, each in the custom and the plain format."""
    folder = tmp_path_factory.mktemp("dumps")
    broken = {
        "good": "",
        "stale": "UPDATE orders SET created = created - interval '10 days'",
        "half": "TRUNCATE lines; DELETE FROM orders WHERE id > 100",
        "orphans": "ALTER TABLE lines DROP CONSTRAINT lines_order_id_fkey; DELETE FROM orders WHERE id < 10; "
        "INSERT INTO orders (created) SELECT now() FROM generate_series(1, 20)",
        "table": "DROP TABLE lines",
        "index": "DROP INDEX orders_created",
        "column": "ALTER TABLE orders DROP COLUMN note",
        "other": "DROP TABLE lines; DROP TABLE orders; CREATE TABLE blog (id int)",
        "empty": "DROP TABLE lines; DROP TABLE orders",
    }
    with scratch(default_base()) as space, postgres.cluster(Runner(), space) as cluster:
        for name, sql in broken.items():
            cluster.create(name)
            for script in (SHOP.replace("CREATE ROLE app;", "" if name != "good" else "CREATE ROLE app;"), sql):
                done = cluster.psql(script, database=name, read_only=False)
                assert done.status == 0, done.stderr
            for form in ("custom", "plain"):
                with (folder / f"{name}.{form}").open("wb") as file:
                    subprocess.run(cluster.client("pg_dump", "-F", form, database=name), stdout=file, check=True)
    return folder


def case(dump: Path, form: str) -> Document:
    return {"engine": "pg_dump", "file": str(dump), "format": form, "expect": {"postgres": ASKED}}


@pytest.mark.parametrize("form", ["custom", "plain"])
@pytest.mark.parametrize(
    ("name", "verdict", "reason"),
    [
        ("good", "pass", None),
        ("stale", "fail", "rpo"),
        ("half", "fail", "application"),
        ("orphans", "fail", "application"),
        ("table", "fail", "missing"),
        ("index", "fail", "application"),
        ("column", "fail", "application"),
        ("other", "fail", "identity"),
        ("empty", "fail", "missing"),
    ],
)
class TestDumps:
    pytestmark = server

    def test_a_dump_gets_the_verdict_it_deserves(
        self, name: str, verdict: str, reason: str | None, form: str, dumps: Path, tmp_path: Path
    ) -> None:
        deserves(judged(case(dumps / f"{name}.{form}", form), tmp_path), verdict, reason)


class TestDamage:
    pytestmark = server

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

    def test_a_database_larger_than_the_quota_is_an_error(self, dumps: Path, tmp_path: Path) -> None:
        document = case(dumps / "good.custom", "custom")
        document["expect"] = {**document["expect"], "scratch_quota_bytes": 1 << 20}
        deserves(judged(document, tmp_path), "error", "quota")

    def test_nothing_of_the_cluster_is_left(self, dumps: Path, tmp_path: Path) -> None:
        judged(case(dumps / "good.custom", "custom"), tmp_path)
        assert not list(default_base().glob("restore-*.pg"))


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
