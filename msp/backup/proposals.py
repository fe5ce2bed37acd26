"""A plan proposed from what a first restore brings back: counts, databases, rows; a person judges each question."""

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from msp.backup import engines, manifest
from msp.backup.assertions.sqlite import when
from msp.backup.case import Case
from msp.backup.engine import BackupEngine, Found, Restored
from msp.backup.process import Runner
from msp.backup.scratch import Scratch, default_base, scratch
from msp.backup.verdict import Weight
from msp.backup.verify import choose

SHARE = 0.9  # of what was found that a later backup must still hold
TABLES, DATABASES = 5, 10
MAGIC = b"SQLite format 3\0"
STAGES = ("listing", "restoring", "looking")
BEAT = 2.0  # seconds between two words about a restore at work
DAY = 86400
#: Names of columns in which applications note when a row came or changed.
DATED = ("created", "updated", "modified", "changed", "inserted", "date", "time", "stamp", "_at", "_on", "_ts")

#: What an answer is held against, and the names it has in a case; "equals" counts even where it is null.
BOUNDS = {"min": ("min",), "max": ("max",), "fresh": ("fresh_within_s", "within_s")}

Tell = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class Question:
    """One thing that was seen and may be asserted: `words` in English, `kind` and `figures` for other tongues.

    kind: host, baseline, rows, fresh, table, kept (of a plan that stands); or unreadable and remark, which assert
    nothing. `expect` is the part of a case that asserts it.
    """

    kind: str
    words: str
    figures: dict[str, Any] = field(default_factory=dict)
    expect: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What is asserted, whatever the figure: a later question about the same replaces the earlier. Bounds of
        another kind (at most, not at least) are another question."""
        return _key(self.expect) or f"{self.kind}|{self.words}"

    def plain(self) -> dict[str, Any]:
        """Return the question as JSON values."""
        return {name: getattr(self, name) for name in ("key", "kind", "words", "figures", "expect")}


def read_question(plain: Mapping[str, Any]) -> Question:
    """Return a question that was stored."""
    return Question(*(plain[name] for name in ("kind", "words", "figures", "expect")))


def _key(expect: Mapping[str, Any]) -> str:
    for name, part in expect.items():
        if isinstance(part, list) and part and isinstance(part[0], Mapping):
            asked = part[0]
            bounds = [one for one, names in BOUNDS.items() if any(asked.get(name) is not None for name in names)]
            bounds += ["equals"] if "equals" in asked else []
            return "|".join((name, *(str(asked.get(one, "")) for one in ("path", "query", "sql")), *bounds))
        if isinstance(part, list):
            return f"{name}|{part[0] if part else ''}"
        if isinstance(part, Mapping) and name in ("postgres", "mariadb", "tables", "columns"):
            inner = _key(part)
            return f"{name}|{inner or next(iter(part), '')}"
        return name
    return ""


def standing(expect: Mapping[str, Any], told: Iterable[str]) -> list[Question]:
    """Return what a plan asserts already as questions, one for each part but those named in `told`.

    Parts with the same key are one question: none may take the place of another.
    """
    found: dict[str, Question] = {}
    for one in _standing(expect, told):
        if before := found.get(one.key):
            one = replace(one, words=f"{before.words}; {one.words}", expect=merged((before.expect, one.expect)))
        found[one.key] = one
    return list(found.values())


def _standing(expect: Mapping[str, Any], told: Iterable[str]) -> list[Question]:
    found: list[Question] = []
    for name, value in expect.items():
        if value is None:  # asserts nothing
            continue
        if name in ("postgres", "mariadb") and isinstance(value, Mapping):
            found += [replace(one, expect={name: one.expect}, words=f"{name}: {one.words}")
                      for one in standing(value, ("database",))]  # fmt: skip
        elif name in ("tables", "columns") and isinstance(value, Mapping):
            found += [_kept(f"{name}: {key} {part}", {name: {key: part}})
                      for key, part in value.items() if part is not None]  # fmt: skip
        elif isinstance(value, list):
            found += [_kept(f"{name}: {_said(one)}", {name: [one]}) for one in value]
        elif name not in told:
            found.append(_kept(f"{name}: {_said(value)}", {name: value}))
    return found


def _kept(words: str, expect: dict[str, Any]) -> Question:
    return Question("kept", words, {}, expect)


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {part}" for name, part in value.items())
    return str(value)


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a first restore showed. `seconds` is what the restore alone took; sizes in bytes."""

    questions: tuple[Question, ...]
    snapshot: str = ""
    snapshot_at: datetime | None = None
    seconds: float = 0.0
    files: int = 0
    bytes: int = 0

    @property
    def words(self) -> tuple[str, ...]:
        """Every question in words."""
        return tuple(question.words for question in self.questions)

    @property
    def expect(self) -> dict[str, Any]:
        """The `expect` that answers every question with yes."""
        return merged(question.expect for question in self.questions)


def merged(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one `expect` that asserts everything in `parts`: lists are joined, objects merged, later words win."""
    whole: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            before = whole.get(name)
            if isinstance(before, list) and isinstance(value, list):
                whole[name] = before + [one for one in value if one not in before]
            elif isinstance(before, dict) and isinstance(value, Mapping):
                whole[name] = merged((before, value))
            else:
                whole[name] = dict(value) if isinstance(value, Mapping) else value
    return whole


def propose(case: Case, *, base: Path | None = None, tell: Tell | None = None) -> Proposal:
    """Restore the newest backup into scratch, look around, and return what could be asserted; nothing is left behind.

    tell: called with one of STAGES and the bytes restored so far, now and then, perhaps by another thread.
    Raises Found for a backup that cannot be restored, Misconfigured for an engine that is not known.
    """
    say = tell or (lambda stage, size: None)
    whole = replace(case, expect=replace(case.expect, manifest=None))
    with scratch(base or default_base(), quota=case.expect.scratch_quota_bytes) as space:
        engine = engines.engine(case.engine)(whole, Runner(), space)
        try:
            say("listing", 0)
            snapshot = choose(engine.snapshots(), case.expect.host, case.root)
            with _told(space, say):
                began = time.monotonic()
                restored = engine.restore(snapshot, space.folder("restored"))
                took = time.monotonic() - began
            if lost := [one for one in restored.findings if one.weight > Weight.WARN]:
                raise Found(*lost)
            say("looking", 0)
            questions: list[Question] = []
            if snapshot.host:
                words = f"The backup is of {snapshot.host}; must it always be?"
                questions.append(Question("host", words, {"host": snapshot.host}, {"host": snapshot.host}))
            seen = _Look(case.now)
            if restored.tree is not None:
                seen.through(restored.tree)
            else:
                seen.ask(engine, restored)
            return Proposal(
                (*seen.questions[:1], *questions, *seen.questions[1:]),
                snapshot.id,
                snapshot.time,
                took if restored.seconds is None else restored.seconds,
                seen.files,
                seen.bytes,
            )
        finally:
            engine.close()


@contextmanager
def _told(space: Scratch, say: Tell) -> Iterator[None]:
    """Say how much has been restored while the block is at work."""
    over = threading.Event()

    def beat() -> None:
        pause = BEAT
        while not over.wait(pause):
            began = time.monotonic()
            say("restoring", _size(space.path))
            pause = max(BEAT, 10 * (time.monotonic() - began))

    say("restoring", 0)
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _size(folder: Path) -> int:
    size = 0
    for place, _, names in os.walk(os.fsencode(folder)):
        for name in names:
            try:
                size += os.lstat(place + b"/" + name).st_size
            except OSError:  # it is being written
                continue
    return size


@dataclass
class _Look:
    """What is seen in a restored tree or database."""

    now: datetime
    questions: list[Question] = field(default_factory=list)
    files: int = 0
    bytes: int = 0

    def through(self, tree: Path) -> None:
        """Walk a tree: count, and look into its databases."""
        found: list[Question] = []
        base, databases = os.fsencode(tree), 0
        for folder, folders, names in os.walk(base):
            folders.sort()
            for name in sorted(names):
                path = folder + b"/" + name
                if os.path.islink(path) or not os.path.isfile(path):  # noqa: PTH113, PTH114  names are bytes
                    continue
                self.files, self.bytes = self.files + 1, self.bytes + os.lstat(path).st_size
                if databases < DATABASES and _is_sqlite(path):
                    databases += 1
                    found += _tables(path, os.path.relpath(path, base), self.now)
        figures = {"files": self.files, "bytes": self.bytes}
        words = f"We saw {self.files} files of {self.bytes} bytes; warn when a later backup differs much?"
        self.questions += [Question("baseline", words, figures, {"baseline": figures}), *found]

    def ask(self, engine: BackupEngine, restored: Restored) -> None:
        """Let the engine's own server say what it holds."""
        probed = engine.probe(restored)
        for name, value in probed.figures.items():
            if isinstance(value, int) and name.startswith("rows of "):
                table, least = name.removeprefix("rows of "), int(value * SHARE)
                words = f"We saw {value} rows in the table {table}; assert at least {least}?"
                figures = {"table": table, "rows": value, "least": least}
                field_of = "mariadb" if engine_of(engine) == "mariadb" else "postgres"
                expect = {field_of: {"tables": {table: {"rows_min": least}}}}
                self.questions.append(Question("table", words, figures, expect))
        size = probed.figures.get("database_bytes")
        self.bytes = size if isinstance(size, int) else 0
        for finding in probed.findings:
            self.questions.append(Question("remark", finding.what))


def engine_of(engine: BackupEngine) -> str:
    """Return which kind of database an engine restores into: mariadb or postgres."""
    return "mariadb" if type(engine).__module__.rpartition(".")[2].startswith("maria") else "postgres"


def _is_sqlite(path: bytes) -> bool:
    with open(path, "rb") as file:  # noqa: PTH123  names are bytes
        return file.read(16) == MAGIC


def _tables(path: bytes, relative: bytes, now: datetime) -> list[Question]:
    """Return the questions about the largest tables of a database that can be read."""
    name, text = manifest.shown(relative), manifest.text(relative)
    questions: list[Question] = []
    try:
        place = Path(os.fsdecode(path)).absolute().as_uri()
        with closing(sqlite3.connect(f"{place}?mode=ro&immutable=1", uri=True)) as database:
            counted: list[tuple[int, str]] = []
            found = database.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
            for (table,) in found.fetchall():
                (count,) = database.execute(f"SELECT count(*) FROM {_quoted(table)}").fetchone()  # noqa: S608  quoted
                counted.append((count, str(table)))
            for count, table in sorted(counted, reverse=True)[:TABLES]:
                questions.append(_rows(name, text, table, count))
                questions += _newest(database, name, text, table, now) if count else []
    except sqlite3.Error as error:
        words = f"{name} looks like a database and cannot be read: {error}."
        questions.append(Question("unreadable", words, {"path": name, "error": str(error)}))
    return questions


def _quoted(name: str) -> str:
    doubled = str(name).replace('"', '""')
    return f'"{doubled}"'


def _rows(name: str, text: str, table: str, count: int) -> Question:
    least = int(count * SHARE)
    words = f"We saw an SQLite database {name} with {count} rows in {table}; assert at least {least}?"
    query = {"path": text, "query": f"select count(*) from {_quoted(table)}", "min": least}  # noqa: S608  quoted
    figures = {"path": name, "table": table, "rows": count, "least": least}
    return Question("rows", words, figures, {"sqlite": [query]})


def _newest(database: sqlite3.Connection, name: str, text: str, table: str, now: datetime) -> list[Question]:
    """Return the question about the newest row of a table, by the first column that says when its rows came."""
    columns = [str(row[1]) for row in database.execute(f"PRAGMA table_info({_quoted(table)})")]
    for column in columns:
        if not any(column.lower().endswith(ending) or column.lower().startswith(ending) for ending in DATED):
            continue
        query = f"select max({_quoted(column)}) from {_quoted(table)}"  # noqa: S608  quoted
        (value,) = database.execute(query).fetchone()
        instant = when(value)
        if instant is None or not timedelta(0) <= now - instant < timedelta(days=3650):
            continue
        age = (now - instant).total_seconds()
        allowed = max(2 * DAY, -(-2 * int(age) // DAY) * DAY)
        words = f"The newest {table}.{column} in {name} is {age / 3600:.1f} h old; assert that it is never more than "
        words += f"{allowed / 3600:g} h?"
        figures = {"path": name, "table": table, "column": column, "age_s": int(age), "allowed_s": allowed}
        expect = {"sqlite": [{"path": text, "query": query, "fresh_within_s": allowed}]}
        return [Question("fresh", words, figures, expect)]
    return []
