"""A small shop in PostgreSQL, good and broken in one known way each, for dumps and physical backups alike."""

import shutil
import subprocess
from pathlib import Path

import pytest

from msp.backup.assertions import postgres
from msp.backup.assertions.postgres import Cluster

needed = [
    pytest.mark.server,
    pytest.mark.xdist_group("postgres"),  # one worker makes the backups that its tests share
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
BROKEN = {
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


def fill(cluster: Cluster, name: str) -> None:
    """Make the database `name` with the shop in it, broken as BROKEN says."""
    cluster.create(name)
    for script in (SHOP.replace("CREATE ROLE app;", "" if name != "good" else "CREATE ROLE app;"), BROKEN[name]):
        done = cluster.psql(script, database=name, read_only=False)
        assert done.status == 0, done.stderr


#: What a server needs to be backed up while it runs.
LIVE = {**postgres.FAST, "wal_level": "replica", "max_wal_senders": "4"}


def back_up(cluster: Cluster, into: Path, *words: str) -> None:
    program = str(postgres.programs() / "pg_basebackup")
    argv = [program, "-h", str(cluster.folder), "-p", "5432", "-U", "postgres", "-c", "fast", "-D", str(into)]
    subprocess.run([*argv, *words], check=True, capture_output=True)
