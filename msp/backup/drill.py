"""The planted-fault drill: faults are planted in backups made for it, and the tester must find every one.

A tester that lets a planted fault pass proves nothing with its other passes; one that fails the good backup is of no
use either. Nothing of a client is touched: the backups are made in scratch by the engine's own program.
"""

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from msp.backup import manifest
from msp.backup.case import parse
from msp.backup.process import Runner
from msp.backup.scratch import scratch
from msp.backup.verify import verify
from msp.errors import Misconfigured, StepFailed

ENGINES = ("restic", "borg", "tar", "tree")
ORDERS = 400
SECRET = "drill"  # noqa: S105  of a repository that lives for seconds


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: what it does to the source before, or to the backup after, it is written."""

    name: str
    source: Callable[[Path, datetime], None] | None = None
    backup: Callable[[Path], None] | None = None
    compares: bool = False  # against the manifest of the good source; otherwise the database must tell


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one fault fared. `caught`: failed as it deserves; for the good backup: passed."""

    engine: str
    fault: str
    caught: bool
    verdict: str
    reasons: tuple[str, ...]
    words: str
    seconds: float


def _orders(tree: Path, newest: datetime, table: str = "orders") -> None:
    (tree / "app.sqlite").unlink(missing_ok=True)
    database = sqlite3.connect(tree / "app.sqlite")
    with database:
        database.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, created INTEGER, note TEXT)")
        rows = ((n, int(newest.timestamp()) - 60 * n, f"order {n} " * 20) for n in range(1, ORDERS + 1))
        database.executemany(f"INSERT INTO {table} VALUES (?, ?, ?)", rows)  # noqa: S608  a name of ours
    database.close()


def _business(tree: Path, now: datetime) -> None:
    chance = Random(11)  # noqa: S311  the same business in every drill
    (tree / "docs").mkdir(parents=True)
    for number in range(40):
        words = " ".join(chance.choices(["invoice", "contract", "server", "total"], k=300))
        (tree / f"docs/report-{number:02}.txt").write_text(words)
    (tree / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0" + chance.randbytes(200_000))
    _orders(tree, now)


def _truncate(tree: Path, _now: datetime) -> None:
    file = tree / "app.sqlite"
    os.truncate(file, file.stat().st_size // 2)


def _scramble(tree: Path, _now: datetime) -> None:
    for path in tree.glob("docs/*.txt"):
        path.write_bytes(Random(path.name).randbytes(path.stat().st_size))  # noqa: S311


def _lose(tree: Path, _now: datetime) -> None:
    shutil.rmtree(tree)
    tree.mkdir()


def _flip(place: Path) -> None:
    files = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
    data = [path for path in files if "data" in path.parts] or files
    largest = max(data, key=lambda path: path.stat().st_size)
    largest.chmod(0o600)
    with largest.open("r+b") as file:
        file.seek(largest.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0x10]))


FAULTS = (
    Fault("good", compares=True),
    Fault("bit flip", backup=_flip, compares=True),
    Fault("truncated dump", _truncate),
    Fault("stale", lambda tree, now: _orders(tree, now - timedelta(days=9))),
    Fault("wrong database", lambda tree, now: _orders(tree, now, "staff")),
    Fault("scrambled files", _scramble, compares=True),
    Fault("lost mount", _lose, compares=True),
)


def _back_up(engine: str, runner: Runner, work: Path, tree: Path) -> dict[str, Any]:
    """Back the tree up with the engine's own program and return where it is, as a case says it."""
    place = work / "backup"
    base = {"RESTIC_PASSWORD": SECRET, "RESTIC_CACHE_DIR": str(work / "cache")}
    env = base | {"BORG_PASSPHRASE": SECRET, "BORG_BASE_DIR": str(work)}
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
    return {"engine": engine, "root": "data", **where} | ({"secret": SECRET} if engine in ("restic", "borg") else {})


def drill(engine: str, base: Path, now: datetime, faults: Iterable[Fault] = FAULTS) -> list[Outcome]:
    """Plant each fault into a backup of its own and return whether it was caught. base: folder for scratch.

    Raises Misconfigured for an engine that has no drill, or whose program is not installed.
    """
    if engine not in ENGINES:
        raise Misconfigured(f"There is no drill for {engine}.", advice=f"There is one for {', '.join(ENGINES)}.")
    return [_one(engine, fault, base, now) for fault in faults]


def _one(engine: str, fault: Fault, base: Path, now: datetime) -> Outcome:
    began, runner = time.monotonic(), Runner()
    with scratch(base) as space:
        work = space.folder("drill")
        tree = work / "data"
        _business(tree, now)
        listed = work / "manifest.json"
        with listed.open("w", encoding="utf-8") as out:
            manifest.write(manifest.walk(tree), out)
        if fault.source:
            fault.source(tree, now)
            for path in tree.rglob("*"):  # what corrupts keeps the times, or it would look like work
                os.utime(path, (now.timestamp() - 3600,) * 2)
        where = _back_up(engine, runner, work, tree)
        if fault.backup:
            fault.backup(work / "backup")
        asked = [
            {"path": "app.sqlite", "query": "select count(*) from orders", "min": ORDERS * 0.9},
            {"path": "app.sqlite", "query": "select max(created) from orders", "fresh_within_s": 86400},
        ]
        expect: dict[str, Any] = {"sqlite": asked}
        if fault.compares:
            expect["manifest"] = str(listed)
        document = {"case": f"drill {fault.name}", **where, "expect": expect}
        result = verify(parse(document, now=now), base=base)
    wanted = "pass" if fault.name == "good" else "fail"
    words = result.findings[0].what if result.findings else "nothing to remark"
    seconds = time.monotonic() - began
    caught = result.verdict == wanted
    return Outcome(engine, fault.name, caught, result.verdict, tuple(result.reasons), words, seconds)
