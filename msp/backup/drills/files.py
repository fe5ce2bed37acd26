"""Backups of files, by restic, borg, tar and cp: of a small office with one application's database in it."""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from msp.backup import manifest
from msp.backup.drill import Planted
from msp.backup.drills.damage import cut, flip, largest
from msp.backup.process import Runner
from msp.backup.scratch import Scratch
from msp.errors import StepFailed

ORDERS = 400
SECRET = "drill"  # noqa: S105  of a repository that lives for seconds
ASKED = [
    {"path": "app.sqlite", "query": "select count(*) from orders", "min": ORDERS * 0.9},
    {"path": "app.sqlite", "query": "select max(created) from orders", "fresh_within_s": 86400},
]
Spoil = Callable[[Path, datetime], None]


def orders(tree: Path, newest: datetime, table: str = "orders") -> None:
    """Write the application's database anew; its newest row is of `newest`."""
    (tree / "app.sqlite").unlink(missing_ok=True)
    database = sqlite3.connect(tree / "app.sqlite")
    with database:
        database.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, created INTEGER, note TEXT)")
        rows = ((n, int(newest.timestamp()) - 60 * n, f"order {n} " * 20) for n in range(1, ORDERS + 1))
        database.executemany(f"INSERT INTO {table} VALUES (?, ?, ?)", rows)  # noqa: S608  a name of ours
    database.close()


def office(tree: Path, now: datetime) -> None:
    """Fill a new tree: documents, a picture, a database."""
    chance = Random(11)  # noqa: S311  the same office in every drill
    (tree / "docs").mkdir(parents=True)
    for number in range(40):
        words = " ".join(chance.choices(["invoice", "contract", "server", "total"], k=300))
        (tree / f"docs/report-{number:02}.txt").write_text(words)
    (tree / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0" + chance.randbytes(200_000))
    orders(tree, now)


def settle(tree: Path, now: datetime) -> None:
    """Give every file an old date: what corrupts keeps the times, or it would look like work."""
    for path in tree.rglob("*"):
        os.utime(path, (now.timestamp() - 3600,) * 2)


def scramble(tree: Path) -> None:
    for path in tree.glob("docs/*.txt"):
        path.write_bytes(Random(path.name).randbytes(path.stat().st_size))  # noqa: S311


def empty(tree: Path) -> None:
    shutil.rmtree(tree)
    tree.mkdir()


#: fault -> (what happens to the source before the backup, reasons, is it the manifest that must tell?)
SOURCE: dict[str, tuple[Spoil, frozenset[str], bool]] = {
    "truncated database": (lambda tree, _: cut(tree / "app.sqlite"), frozenset({"application"}), False),
    "stale": (lambda tree, now: orders(tree, now - timedelta(days=9)), frozenset({"rpo"}), False),
    "wrong database": (
        lambda tree, now: orders(tree, now, "staff"),
        frozenset({"missing", "identity", "application"}),
        False,
    ),
    "scrambled files": (lambda tree, _: scramble(tree), frozenset({"content", "ransomware"}), True),
    "lost mount": (lambda tree, _: empty(tree), frozenset({"missing"}), True),
}


def _back_up(engine: str, runner: Runner, tree: Path, place: Path) -> dict[str, Any]:
    """Back the tree up with the engine's own program and return where it is, as a case says it."""
    base = {"RESTIC_PASSWORD": SECRET, "RESTIC_CACHE_DIR": str(place.parent / "cache")}
    env = base | {"BORG_PASSPHRASE": SECRET, "BORG_BASE_DIR": str(place.parent)}
    steps: dict[str, list[list[str]]] = {
        "restic": [["restic", "-q", "-r", str(place), "init"], ["restic", "-q", "-r", str(place), "backup", "data"]],
        "borg": [["borg", "init", "-e", "repokey", str(place)], ["borg", "create", f"{place}::drill", "data"]],
        "tar": [["tar", "-cf", str(place), "data"]],
        "tree": [["mkdir", str(place)], ["cp", "-a", "data", str(place)]],
    }
    for step in steps[engine]:
        done = runner.run(step, env=env, cwd=tree.parent)
        if done.status:
            raise StepFailed(f"The drill could not write its backup: {done.says}.", advice=f"Try {step[0]} by hand.")
    where = {"file": str(place)} if engine == "tar" else {"repo": str(place)}
    return {"root": "data", **where} | ({"secret": SECRET} if engine in ("restic", "borg") else {})


def _turn_a_bit(engine: str, place: Path) -> None:
    """Turn a bit in what holds the files' content."""
    flip(place if engine == "tar" else largest(place / "data"))


def _cut_off(engine: str, place: Path) -> None:
    cut(place if engine == "tar" else largest(place / "data"))


@contextmanager
def _bench(engine: str, runner: Runner, space: Scratch, now: datetime) -> Iterator[Sequence[Planted]]:
    """Yield the faults of one engine. The good source is listed before anything happens to it."""
    runner.argv(["cp" if engine == "tree" else engine], None, "KILL")  # raises where it is not installed
    good = space.path / "good/data"
    office(good, now)
    settle(good, now)
    listed = space.path / "manifest.json"
    with listed.open("w", encoding="utf-8") as out:
        manifest.write(manifest.walk(good), out)

    def plant(
        into: Path, spoil: Spoil | None = None, damage: Callable[[str, Path], None] | None = None, compare: bool = True
    ) -> Mapping[str, Any]:
        tree = into / "data"
        shutil.copytree(good, tree)
        if spoil:
            spoil(tree, now)
            settle(tree, now)
        where = _back_up(engine, runner, tree, into / "backup")
        if damage:
            damage(engine, into / "backup")
        expect: dict[str, Any] = {"sqlite": ASKED}
        return {**where, "expect": expect | ({"manifest": str(listed)} if compare else {})}

    held = frozenset({"content", "repository"})  # a plain archive and a tree have no checksums of their own
    yield [
        Planted("good", plant),
        Planted("bit flip", partial(plant, damage=_turn_a_bit), held),
        Planted("cut short", partial(plant, damage=_cut_off), held),
        *(
            Planted(name, partial(plant, spoil=spoil, compare=compare), reasons)
            for name, (spoil, reasons, compare) in SOURCE.items()
        ),
    ]


restic, borg, tar, tree = (partial(_bench, engine) for engine in ("restic", "borg", "tar", "tree"))
