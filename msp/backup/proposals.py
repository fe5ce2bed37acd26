"""A plan proposed from what a first restore brings back: counts, databases, rows; a person judges each."""

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from msp.backup import engines, manifest
from msp.backup.case import Case
from msp.backup.process import Runner
from msp.backup.scratch import default_base, scratch
from msp.backup.verify import choose

SHARE = 0.9  # of what was found that a later backup must still hold
TABLES, DATABASES = 5, 10
MAGIC = b"SQLite format 3\0"


@dataclass(frozen=True, slots=True)
class Proposal:
    """Questions in words, and the `expect` that answers them all with yes."""

    words: tuple[str, ...]
    expect: dict[str, Any] = field(default_factory=dict)


def propose(case: Case, *, base: Path | None = None) -> Proposal:
    """Restore the newest backup into scratch, look around, and return what could be asserted; nothing is left behind.

    Raises Found for a backup that cannot be restored, Misconfigured for an engine that is not known.
    """
    whole = replace(case, expect=replace(case.expect, manifest=None))
    with scratch(base or default_base(), quota=case.expect.scratch_quota_bytes) as space:
        engine = engines.engine(case.engine)(whole, Runner(), space)
        try:
            snapshot = choose(engine.snapshots(), case.expect.host, case.root)
            restored = engine.restore(snapshot, space.folder("restored"))
            words: list[str] = []
            expect: dict[str, Any] = {}
            if snapshot.host:
                expect["host"] = snapshot.host
                words.append(f"The backup is of {snapshot.host}; must it always be?")
            if restored.tree is not None:
                _look(restored.tree, words, expect)
            return Proposal(tuple(words), expect)
        finally:
            engine.close()


def _look(tree: Path, words: list[str], expect: dict[str, Any]) -> None:
    files = size = 0
    queries: list[dict[str, Any]] = []
    base = os.fsencode(tree)
    for folder, _, names in os.walk(base):
        for name in sorted(names):
            path = folder + b"/" + name
            if os.path.islink(path) or not os.path.isfile(path):  # noqa: PTH113, PTH114  names are bytes
                continue
            files, size = files + 1, size + os.lstat(path).st_size
            if len(queries) < TABLES * DATABASES and _is_sqlite(path):
                queries += _tables(path, os.path.relpath(path, base), words)
    expect["baseline"] = {"files": files, "bytes": size}
    words.insert(0, f"We saw {files} files of {size} bytes; warn when a later backup differs much?")
    if queries:
        expect["sqlite"] = queries


def _is_sqlite(path: bytes) -> bool:
    with open(path, "rb") as file:  # noqa: PTH123  names are bytes
        return file.read(16) == MAGIC


def _tables(path: bytes, relative: bytes, words: list[str]) -> list[dict[str, Any]]:
    """Return one assertion for each of the largest tables of a database that can be read."""
    name = manifest.shown(relative)
    counted: list[tuple[int, str]] = []
    try:
        place = Path(os.fsdecode(path)).absolute().as_uri()
        with closing(sqlite3.connect(f"{place}?mode=ro&immutable=1", uri=True)) as database:
            found = database.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
            for (table,) in found.fetchall():
                quoted = str(table).replace('"', '""')
                (count,) = database.execute(f'SELECT count(*) FROM "{quoted}"').fetchone()  # noqa: S608  quoted
                counted.append((count, str(table)))
    except sqlite3.Error as error:
        words.append(f"{name} looks like a database and cannot be read: {error}.")
        return []
    queries = []
    for count, table in sorted(counted, reverse=True)[:TABLES]:
        quoted = table.replace('"', '""')
        least = int(count * SHARE)
        words.append(f"We saw an SQLite database {name} with {count} rows in {table}; assert at least {least}?")
        query = f'select count(*) from "{quoted}"'  # noqa: S608  quoted
        queries.append({"path": manifest.text(relative), "query": query, "min": least})
    return queries
