"""Lets the tests of this folder share their sabotaged backups, and the dumps that take a database server to make."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from msp.backup.assertions import mariadb, postgres, private
from msp.backup.process import Runner
from msp.backup.scratch import default_base, scratch

sys.path.insert(0, str(Path(__file__).parent))
import bacula
import mariadb_shop
import postgres_shop
from sabotage import source


@pytest.fixture(scope="session")
def postgres_dumps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good and logically broken dumps, each in the custom and the plain format, two in every format."""
    folder = tmp_path_factory.mktemp("postgres-dumps")
    with scratch(default_base()) as space, postgres.cluster(Runner(), space) as cluster:
        for name in postgres_shop.BROKEN:
            postgres_shop.fill(cluster, name)
            forms = ("custom", "plain", "directory", "tar") if name in ("good", "half") else ("custom", "plain")
            for form in forms:
                words = ["-F", form, "-f", str(folder / f"{name}.{form}")]
                subprocess.run(cluster.client("pg_dump", *words, database=name), check=True)
    return folder


@pytest.fixture(scope="session")
def mariadb_dumps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good and logically broken dumps of one database each; the good one also with every database of its server."""
    folder = tmp_path_factory.mktemp("mariadb-dumps")
    with scratch(default_base()) as space, mariadb.server(Runner(), space) as made:

        def dump(file: Path, *words: str) -> None:
            options = ["--no-defaults", f"--socket={made.socket}", f"-u{made.admin}", "--single-transaction"]
            with file.open("wb") as out:
                argv = [mariadb.program("mariadb-dump"), *options, "--routines", *words]
                subprocess.run(argv, stdout=out, check=True)

        for name, sql in mariadb_shop.BROKEN.items():
            mariadb_shop.fill(made, sql)
            dump(folder / f"{name}.sql", "--databases", "shop")
            if name == "good":
                dump(folder / "alone.sql", "shop")
                dump(folder / "all.sql", "--all-databases", "--flush-privileges", "--events")
    return folder


@pytest.fixture(scope="session")
def postgres_backups(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Backups of one server: as a folder, as archives, with a damaged page in a table, with a damaged index."""
    folder, who = tmp_path_factory.mktemp("postgres-backups"), postgres.account()
    with scratch(default_base()) as space, private.folder(space, who, "pg") as place:
        cluster = postgres.Cluster(Runner(), place, who)
        cluster.initialise()
        with cluster.running(postgres_shop.LIVE):
            postgres_shop.fill(cluster, "good")
            postgres_shop.fill(cluster, "half")
            apart = place / "apart"
            apart.mkdir(mode=0o700)
            if who:
                os.chown(apart, who.pw_uid, who.pw_gid)
            postgres_shop.back_up(cluster, folder / "plain")
            sql = f"CREATE TABLESPACE apart LOCATION '{apart}'"
            assert cluster.psql(sql, database="good", read_only=False).status == 0
            assert cluster.psql("ALTER TABLE lines SET TABLESPACE apart", database="good", read_only=False).status == 0
            postgres_shop.back_up(cluster, folder / "tar", "-F", "tar", "-z")
            postgres_shop.back_up(
                cluster, folder / "plain-apart", f"--tablespace-mapping={apart}={folder / 'elsewhere'}"
            )
            for sql in ("ALTER TABLE lines SET TABLESPACE pg_default", "DROP TABLESPACE apart"):
                assert cluster.psql(sql, database="good", read_only=False).status == 0
            files = {
                name: cluster.psql(
                    f"CHECKPOINT; SELECT pg_relation_filepath('{name}')", database="good", read_only=False
                )
                for name in ("orders", "orders_pkey")
            }
        for name, done in files.items():
            path = place / "data" / done.stdout.decode().strip()
            whole = path.read_bytes()
            damaged = bytearray(whole)
            damaged[3 * 8192 + 4000 : 3 * 8192 + 8192] = bytes(4192)  # rows or keys of one page
            path.write_bytes(bytes(damaged))
            with cluster.running(postgres_shop.LIVE):
                postgres_shop.back_up(cluster, folder / f"damaged-{name}")
            path.write_bytes(whole)
    return folder


@pytest.fixture(scope="session")
def mariadb_backups(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of good and logically broken backups; the good one also as a stream, and an addition to it."""
    folder = tmp_path_factory.mktemp("mariadb-backups")
    with scratch(default_base()) as space, mariadb.server(Runner(), space) as made:
        for name in ("good", "stale", "half", "empty"):
            mariadb_shop.fill(made, mariadb_shop.BROKEN[name])
            made.sql("SET GLOBAL innodb_log_checkpoint_now = 1", user=made.admin)  # else the log alone restores it
            mariadb_shop.back_up(made, f"--target-dir={folder / name}")
            if name == "good":
                (folder / "good.xb").write_bytes(mariadb_shop.back_up(made, "--stream=xbstream"))
                mariadb_shop.back_up(
                    made, f"--target-dir={folder / 'addition'}", f"--incremental-basedir={folder / 'good'}"
                )
    return folder


@pytest.fixture(scope="session")
def bacula_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bacula.Bacula]:
    """A Bacula that holds one full backup of a small file server."""
    folder = tmp_path_factory.mktemp("bacula")
    with bacula.running(folder, source(folder)) as running:
        (running.source / "docs/half a second.txt").write_text("times of change have parts of seconds\n")
        os.utime(running.source / "docs/half a second.txt", ns=(0, 1_700_000_000_500_000_000))
        running.back_up()
        yield running
