"""PostgreSQL: dumps and a physical backup of a private cluster with a small shop in it."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from msp.backup.assertions import postgres, private
from msp.backup.assertions.postgres import Cluster
from msp.backup.drill import Planted
from msp.backup.drills.damage import cut, flip, largest
from msp.backup.process import Runner
from msp.backup.scratch import Scratch
from msp.errors import StepFailed

SHOP = """
CREATE TABLE orders (id int PRIMARY KEY, created timestamptz NOT NULL, note text NOT NULL);
CREATE TABLE lines (id int PRIMARY KEY, order_id int NOT NULL REFERENCES orders);
CREATE INDEX orders_created ON orders (created);
INSERT INTO orders SELECT n, timestamptz 'NEWEST' - n * interval '1 min', md5(n::text) FROM generate_series(1, 2000) n;
INSERT INTO lines SELECT n, n FROM generate_series(1, 2000) n;
"""
ASKED = {
    "tables": {"orders": {"rows_min": 2000}, "lines": {"rows_min": 2000}},
    "columns": {"orders": ["id", "created", "note"]},
    "indexes": ["orders_created"],
    "queries": [{"sql": "select count(*) from lines where order_id not in (select id from orders)", "equals": 0}],
    "fresh": {"sql": "select max(created) from orders", "within_s": 86400},
}  # fmt: skip
#: database -> (fault, what happens to the shop in it before the backup, reasons)
DATABASES = {
    "shop": ("good", "", frozenset[str]()),
    "stale": ("stale", "UPDATE orders SET created = created - interval '9 days'", frozenset({"rpo"})),
    "half": ("half the rows", "TRUNCATE lines; DELETE FROM orders WHERE id > 900", frozenset({"application"})),
    "index": ("lost index", "DROP INDEX orders_created", frozenset({"application"})),
    "staff": (
        "wrong database",
        "DROP TABLE lines; DROP TABLE orders; CREATE TABLE staff (id int)",
        frozenset({"missing", "identity"}),
    ),
}
PHYSICAL = ("shop", "stale", "staff")  # all in one backup
LIVE = {**postgres.FAST, "wal_level": "replica", "max_wal_senders": "4"}
PAGE = 8192


def _fill(cluster: Cluster, name: str, now: datetime) -> None:
    cluster.create(name)
    script = SHOP.replace("NEWEST", now.isoformat()) + DATABASES[name][1]
    done = cluster.psql(script, database=name, read_only=False)
    if done.status:
        raise StepFailed(f"The drill could not fill its database: {done.says}.", advice="Try psql by hand.")


def _made(cluster: Cluster, argv: list[str]) -> None:
    done = cluster.runner.run(argv)
    if done.status:
        raise StepFailed(f"The drill could not write its backup: {done.says}.", advice=f"Try {argv[0]} by hand.")


@contextmanager
def dumps(runner: Runner, space: Scratch, now: datetime) -> Iterator[Sequence[Planted]]:
    """Yield faults in dumps in the custom format, and in a plain one."""
    folder = space.folder("dumps")
    with postgres.cluster(runner, space) as cluster:
        for name in DATABASES:
            _fill(cluster, name, now)
            _made(cluster, cluster.client("pg_dump", "-F", "c", "-f", str(folder / name), database=name))
        _made(cluster, cluster.client("pg_dump", "-F", "p", "-f", str(folder / "plain"), database="shop"))

    def plant(
        into: Path, name: str, form: str = "custom", damage: Callable[[Path], None] | None = None
    ) -> Mapping[str, Any]:
        file = Path(shutil.copy(folder / name, into / name))
        if damage:
            damage(file)
        return {"file": str(file), "format": form, "expect": {"postgres": ASKED}}

    logical = {name: partial(plant, name=name) for name in DATABASES}
    held = frozenset({"repository"})
    yield [
        *(Planted(fault, logical[name], reasons) for name, (fault, _, reasons) in DATABASES.items()),
        Planted("bit flip", partial(plant, name="shop", damage=flip), held),
        Planted("cut short", partial(plant, name="shop", damage=cut), held),
        Planted("cut short, plain", partial(plant, name="plain", form="plain", damage=cut), held),
    ]


@contextmanager
def physical(runner: Runner, space: Scratch, now: datetime) -> Iterator[Sequence[Planted]]:
    """Yield faults in copies of one backup of the whole cluster, and in one of a cluster with a damaged page."""
    folder, who = space.folder("backups"), postgres.account()
    with private.folder(space, who, "pg") as place:
        cluster = Cluster(runner, place, who)
        cluster.initialise()
        with cluster.running(LIVE):
            for name in PHYSICAL:
                _fill(cluster, name, now)
            _back_up(cluster, folder / "good")
            sql = "CHECKPOINT; SELECT pg_relation_filepath('orders')"
            said = cluster.psql(sql, database="shop", read_only=False)
        _empty_a_page(cluster.data / said.stdout.decode().strip())
        with cluster.running(LIVE):
            _back_up(cluster, folder / "page")

    def plant(
        into: Path, backup: str = "good", database: str = "shop", damage: Callable[[Path], None] | None = None
    ) -> Mapping[str, Any]:
        copy = shutil.copytree(folder / backup, into / backup, symlinks=True)
        if damage:
            damage(copy)
        return {"file": str(copy), "expect": {"postgres": {**ASKED, "database": database}}}

    yield [
        *(Planted(DATABASES[name][0], partial(plant, database=name), DATABASES[name][2]) for name in PHYSICAL),
        Planted(
            "bit flip", partial(plant, damage=lambda copy: flip(largest(copy / "base"))), frozenset({"repository"})
        ),
        Planted("damaged page", partial(plant, backup="page"), frozenset({"application"})),
        Planted("lost log", partial(plant, damage=_lose_the_log), frozenset({"restore"})),
    ]


def _back_up(cluster: Cluster, into: Path) -> None:
    place = ["-h", str(cluster.folder), "-p", "5432", "-U", "postgres", "-c", "fast"]
    _made(cluster, [str(postgres.programs() / "pg_basebackup"), *place, "-D", str(into)])


def _empty_a_page(table: Path) -> None:
    """Empty most of a table's fourth page, as a disk that loses a write does."""
    handle = os.open(table, os.O_WRONLY)
    try:
        os.pwrite(handle, bytes(PAGE // 2), 3 * PAGE + PAGE // 2)
    finally:
        os.close(handle)


def _lose_the_log(copy: Path) -> None:
    """Take away the log of the backup's time, and the list of files that would tell at once."""
    (copy / "backup_manifest").unlink()
    largest(copy / "pg_wal", "0*").unlink()
