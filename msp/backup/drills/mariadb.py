"""MariaDB: dumps and a physical backup of a private server with a small shop in it."""

import gzip
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from msp.backup.assertions import mariadb
from msp.backup.assertions.mariadb import Server
from msp.backup.drill import Planted
from msp.backup.drills.damage import cut, flip, largest
from msp.backup.process import Runner
from msp.backup.scratch import Scratch
from msp.errors import StepFailed

SHOP = """
CREATE TABLE orders (id int PRIMARY KEY, created datetime NOT NULL, note text NOT NULL, KEY orders_created (created));
CREATE TABLE `lines` (id int PRIMARY KEY, order_id int NOT NULL, FOREIGN KEY (order_id) REFERENCES orders (id));
INSERT INTO orders SELECT seq, 'NEWEST' - INTERVAL seq MINUTE, md5(seq) FROM seq_1_to_2000;
INSERT INTO `lines` SELECT seq, seq FROM seq_1_to_2000;
"""
ASKED = {
    "tables": {"orders": {"rows_min": 2000}, "lines": {"rows_min": 2000}},
    "columns": {"orders": ["id", "created", "note"]},
    "indexes": ["orders_created"],
    "queries": [{"sql": "select count(*) from `lines` where order_id not in (select id from orders)", "equals": 0}],
    "fresh": {"sql": "select max(created) from orders", "within_s": 86400},
}
#: database -> (fault, what happens to the shop in it before the backup, reasons)
DATABASES = {
    "shop": ("good", "", frozenset[str]()),
    "stale": ("stale", "UPDATE orders SET created = created - INTERVAL 9 DAY", frozenset({"rpo"})),
    "half": ("half the rows", "DELETE FROM `lines`; DELETE FROM orders WHERE id > 900", frozenset({"application"})),
    "staff": (
        "wrong database",
        "DROP TABLE `lines`; DROP TABLE orders; CREATE TABLE staff (id int)",
        frozenset({"missing", "identity"}),
    ),
}
CUT_AT = b"INSERT INTO `orders` VALUES (1361,"  # a row a statement, so what is left loads without a complaint
END = b"UNLOCK TABLES;\n-- Dump completed on 2026-09-21 12:00:00\n"


def _fill(server: Server, now: datetime) -> None:
    for name, (_, spoil, _) in DATABASES.items():
        shop = SHOP.replace("NEWEST", f"{now:%Y-%m-%d %H:%M:%S}")
        done = server.sql(f"CREATE DATABASE {name}; USE {name}; {shop} {spoil}", user=server.admin)
        if done.status:
            raise StepFailed(f"The drill could not fill its database: {done.says}.", advice="Try mariadb by hand.")


def _made(server: Server, argv: list[str], into: Path | None = None) -> None:
    """Run a program of backup; `into`: the file for what it writes to stdout."""
    with server.runner.reading(argv) as reading:
        if into is None:
            for _ in reading.chunks():
                pass
        else:
            with into.open("wb") as file:
                file.writelines(reading.chunks())
    done = reading.done()
    if done.status:
        raise StepFailed(f"The drill could not write its backup: {done.says}.", advice=f"Try {argv[0]} by hand.")


@contextmanager
def dumps(runner: Runner, space: Scratch, now: datetime) -> Iterator[Sequence[Planted]]:
    """Yield faults in dumps, plain and packed."""
    folder = space.folder("dumps")
    with mariadb.server(runner, space) as server:
        _fill(server, now)
        words = [mariadb.program("mariadb-dump", "mysqldump"), "--no-defaults", f"--socket={server.socket}"]
        words += [f"-u{server.admin}", "--single-transaction", "--skip-extended-insert"]
        for name in DATABASES:
            _made(server, [*words, name], folder / name)

    def plant(into: Path, name: str = "shop", damage: Callable[[Path], None] | None = None) -> Mapping[str, Any]:
        file = Path(shutil.copy(folder / name, into / f"{name}.sql"))
        if damage:
            damage(file)
        return {"file": str(file), "expect": {"mariadb": ASKED}}

    held = frozenset({"repository"})
    yield [
        *(Planted(fault, partial(plant, name=name), reasons) for name, (fault, _, reasons) in DATABASES.items()),
        Planted("cut after a statement", partial(plant, damage=_cut_after_a_statement), held),
        Planted("cut, its end forged", partial(plant, damage=_forge_the_end), frozenset({"application"})),
        Planted("bit flip, packed", partial(plant, damage=_flip_packed), held),
    ]


def _cut_after_a_statement(dump: Path) -> None:
    cut(dump, dump.read_bytes().index(CUT_AT))


def _forge_the_end(dump: Path) -> None:
    _cut_after_a_statement(dump)
    with dump.open("ab") as file:
        file.write(END)


def _flip_packed(dump: Path) -> None:
    dump.write_bytes(gzip.compress(dump.read_bytes(), mtime=0))
    flip(dump)


@contextmanager
def physical(runner: Runner, space: Scratch, now: datetime) -> Iterator[Sequence[Planted]]:
    """Yield faults in copies of one backup of the whole server: a folder, and the same as a stream."""
    folder = space.folder("backups")
    with mariadb.server(runner, space) as server:
        _fill(server, now)
        server.sql("SET GLOBAL innodb_log_checkpoint_now = 1", user=server.admin)  # else the log alone restores it
        words = [mariadb.program("mariadb-backup", "mariabackup"), "--no-defaults", "--backup"]
        words += [f"--socket={server.socket}", f"--user={server.admin}", f"--datadir={server.data}"]
        _made(server, [*words, f"--target-dir={folder / 'good'}"])
        _made(server, [*words, "--stream=xbstream", f"--target-dir={space.folder('stream')}"], folder / "stream")

    def plant(
        into: Path, backup: str = "good", database: str = "shop", damage: Callable[[Path], None] | None = None
    ) -> Mapping[str, Any]:
        source = folder / backup
        copy = Path(shutil.copytree(source, into / backup) if source.is_dir() else shutil.copy(source, into / backup))
        if damage:
            damage(copy)
        return {"file": str(copy), "expect": {"mariadb": {**ASKED, "database": database}}}

    held = frozenset({"repository"})
    yield [
        *(Planted(fault, partial(plant, database=name), reasons) for name, (fault, _, reasons) in DATABASES.items()),
        Planted("bit flip", partial(plant, damage=lambda copy: flip(largest(copy / "shop"))), held),
        Planted("cut stream", partial(plant, backup="stream", damage=cut), held),
        Planted(
            "lost table",
            partial(plant, damage=lambda copy: (copy / "shop/orders.ibd").unlink()),
            frozenset({"restore", "missing", "application"}),
        ),
    ]
