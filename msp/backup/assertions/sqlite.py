"""SQLite files in a restored tree: intact, with the rows they should hold, and fresh.

A file without a journal is opened read-only and immutable. One with a journal or write-ahead log beside it was
copied while in use: it is opened on a copy, where SQLite may recover it as the application would.
"""

import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from msp.backup.case import Query
from msp.backup.engine import Probed
from msp.backup.verdict import Finding, Weight

DEADLINE = 600  # seconds for one question
AHEAD = timedelta(days=1)  # rows dated later than this after `now` prove nothing; local times differ by less


def probe(tree: Path, queries: Iterable[Query], now: datetime, work: Path) -> Probed:
    """Return findings, the age of the newest row asked for, and the answers. Never writes to `tree`."""
    findings: list[Finding] = []
    answers: dict[str, object] = {}
    age: float | None = None
    by_path: dict[str, list[Query]] = {}
    for query in queries:
        by_path.setdefault(query.path, []).append(query)
    for number, (path, asked) in enumerate(by_path.items()):
        file = tree / path
        if not file.is_file() or not file.resolve().is_relative_to(tree.resolve()):
            where, advice = path, "Look what the backup job includes."
            findings.append(Finding("application", f"The database {path} was not restored.", where, advice))
            findings.append(Finding("missing", f"{path} is missing.", where, advice))
            continue
        try:
            with _opened(file, work / f"sqlite-{number}") as connection:
                problems = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(20)")]
                if problems != ["ok"]:
                    what = f"The database {path} is damaged: {problems[0][:200]}."
                    findings.append(Finding("application", what, path, "Restore an older snapshot of it."))
                    continue
                for query in asked:
                    if query.query:
                        row = connection.execute(query.query).fetchone()
                        value = row[0] if row else None
                        answers[f"{path}: {query.query}"] = value if isinstance(value, int | float) else str(value)
                        more, older = judge(query, value, now, path)
                        findings += more
                        age = older if age is None else max(age, older or 0.0)
        except (sqlite3.Error, OSError) as error:
            what = f"The database {path} does not answer: {error}."
            findings.append(Finding("application", what, path, "Restore an older snapshot of it."))
    return Probed(tuple(findings), age, answers)


@contextlib.contextmanager
def _opened(file: Path, work: Path) -> Iterator[sqlite3.Connection]:
    beside = [file.with_name(file.name + ending) for ending in ("-wal", "-journal")]
    beside = [path for path in beside if path.is_file() and path.stat().st_size]
    if beside:
        work.mkdir(mode=0o700)
        for path in (file, *beside):
            shutil.copyfile(path, work / path.name)
        connection = sqlite3.connect(work / file.name)
    else:
        quoted = "".join(chr(c) if chr(c).isalnum() or c in b"/._-" else f"%{c:02x}" for c in os.fsencode(file))
        connection = sqlite3.connect(f"file:{quoted}?mode=ro&immutable=1", uri=True)
    try:
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        ends = time.monotonic() + DEADLINE
        connection.set_progress_handler(lambda: time.monotonic() > ends, 100_000)
        yield connection
    finally:
        connection.close()
        shutil.rmtree(work, ignore_errors=True)


def judge(query: Query, value: Any, now: datetime, where: str) -> tuple[list[Finding], float | None]:
    """Return what an answer means, and its age in seconds where it is an instant. Pure; shared by all databases."""
    found: list[Finding] = []
    advice = "Look at the data in an older snapshot, and at the job that dumps them."

    def wrong(what: str, reason: str = "application", weight: Weight = Weight.FAIL) -> None:
        found.append(Finding(reason, what, f"{where}: {query.query}" if where else query.query, advice, weight))

    if query.has_equals and not same(value, query.equals):
        wrong(f"The answer is {value!r}, not {query.equals!r}.")
    for limit, sign in ((query.min, 1), (query.max, -1)):
        if limit is not None:
            number = _number(value)
            if number is None or (number - limit) * sign < 0:
                wrong(f"The answer is {value!r}, {'at least' if sign > 0 else 'at most'} {limit:g} was expected.")
    if query.fresh_within_s is None:
        return found, None
    instant = when(value)
    if instant is None:
        wrong(f"The answer {value!r} is not an instant, so there is no newest row.")
        wrong("The recovery point cannot be read from the data.", "rpo")
        return found, None
    age = (now - instant).total_seconds()
    if instant > now + AHEAD:
        wrong(f"The newest row is dated {instant.isoformat()}, after the time of the test.", "clock", Weight.WARN)
    elif age > query.fresh_within_s:
        wrong(f"The newest row is {age:.0f} s old, at most {query.fresh_within_s:.0f} s was promised.")
        wrong(f"The data end {age:.0f} s ago.", "rpo")
    return found, max(0.0, age)


def _number(value: Any) -> float | None:
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None


def same(value: Any, expected: Any) -> bool:
    """Compare an answer with what a JSON file can say: numbers as numbers, everything else as text."""
    if value is None or expected is None:
        return value is expected
    if isinstance(expected, bool):
        return str(value).lower() in (("1", "t", "true") if expected else ("0", "f", "false"))
    if isinstance(expected, int | float):
        return _number(value) == expected
    return str(value) == str(expected)


def when(value: Any) -> datetime | None:
    """Read an instant: seconds or milliseconds since 1970, or ISO 8601 text (UTC unless it says otherwise)."""
    number = _number(value)
    try:
        if number is not None:
            return datetime.fromtimestamp(number / 1000 if number > 1e11 else number, UTC)
        if isinstance(value, datetime):
            instant = value
        else:
            instant = datetime.fromisoformat(str(value).strip().removesuffix(" UTC"))
    except (ValueError, OverflowError, OSError):
        return None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
