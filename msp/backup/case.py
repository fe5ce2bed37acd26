"""The case document: one restore test, as read from a file or rendered from a stored plan.

An unknown field is an error: a misspelt expectation would otherwise never be tested. Fields that begin with "x-"
are the writer's own.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msp.errors import Misconfigured

#: Which field says where the backup is, by engine; plug-ins may use any of them.
LOCATED_BY = {
    "restic": ("repo",),
    "borg": ("repo",),
    "tar": ("file",),
    "pg_dump": ("file",),
    "pg_basebackup": ("file",),
    "mariadb_dump": ("file",),
    "mariabackup": ("file",),
    "bacula": ("repo",),
    "qcow2": ("file",),
    "raw": ("file",),
    "vmdk": ("file",),
    "vdi": ("file",),
    "tree": ("repo", "file"),
}
#: Other names that people know an engine by.
ALIASES = {
    "mariadb-dump": "mariadb_dump",
    "mysqldump": "mariadb_dump",
    "mariadb-backup": "mariabackup",
}


@dataclass(frozen=True, slots=True)
class Query:
    """One question to a restored database and the answer that counts as good."""

    query: str
    path: str = ""  # SQLite only: file, relative to the tree's root
    min: float | None = None
    max: float | None = None
    equals: Any = None
    has_equals: bool = False
    fresh_within_s: float | None = None  # the answer is an instant no older than this


@dataclass(frozen=True, slots=True)
class Relational:
    """What a restored PostgreSQL or MariaDB database must hold. `database`: which one, where a backup holds several."""

    database: str | None = None
    rows_min: Mapping[str, int] = field(default_factory=dict)
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    indexes: tuple[str, ...] = ()
    queries: tuple[Query, ...] = ()
    fresh: Query | None = None


@dataclass(frozen=True, slots=True)
class Baseline:
    """What the backup held when it was last known good."""

    files: int | None = None
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Boot:
    """What a booted disk image must show on its serial console."""

    marker: str
    timeout_s: float = 120
    memory_mb: int = 256


@dataclass(frozen=True, slots=True)
class Live:
    """Where the source itself lies, to compare a sample with: `root` on host `on`; None: where the test runs."""

    root: Path
    on: str | None = None


@dataclass(frozen=True, slots=True)
class Expect:
    """Everything asserted; None means not asserted. Durations in seconds, sizes in bytes."""

    host: str | None = None
    rpo_s: float | None = None
    rto_s: float | None = None
    scratch_quota_bytes: int | None = None
    target_os: str | None = None
    manifest: Path | None = None
    baseline: Baseline | None = None
    max_rss_mb: int | None = None
    sqlite: tuple[Query, ...] = ()
    postgres: Relational | None = None
    mariadb: Relational | None = None
    boot: Boot | None = None
    live: Live | None = None


@dataclass(frozen=True, slots=True)
class BaculaJob:
    """Which backup of a Bacula director; names are those of its resources. None: whichever there is."""

    client: str = ""
    job: str | None = None
    fileset: str | None = None
    jobid: int | None = None  # None: the newest
    restore_client: str | None = None  # a file daemon of this machine, where the client itself is another one
    restore_job: str | None = None
    verify_job: str | None = None  # run on rung 1


@dataclass(frozen=True, slots=True)
class Case:
    """One restore test. `now` is the reference instant of every age."""

    name: str
    engine: str
    now: datetime
    expect: Expect
    secret: str | None = field(default=None, repr=False)
    repo: str | None = None
    file: Path | None = None
    root: str = ""  # inside the snapshot, without leading or trailing slash
    format: str | None = None
    sha256: str | None = None
    rungs: frozenset[int] = frozenset(range(1, 7))
    bacula: BaculaJob | None = None
    on: str | None = None  # the host to run on, as the inventory names it; None: this machine

    @property
    def location(self) -> str:
        """Where the backup is, as the engine is told."""
        return self.repo or str(self.file or "")


def _fail(where: str, what: str, advice: str = "The format is described in the reference of restore tests.") -> Any:
    raise Misconfigured(f"In {where}: {what}.", advice=advice)


def _kind(value: Any) -> str:
    names: dict[type, str] = {dict: "an object", list: "a list", str: "text", bool: "true or false"}
    return "nothing" if value is None else names.get(type(value), "a number")


def _object(value: Any, where: str, known: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict):
        _fail(where, f"an object is needed, not {_kind(value)}")
    for name in value:
        if name not in known and not name.startswith("x-"):
            _fail(where, f"there is no field {name!r}", f"Known fields: {', '.join(known)}.")
    return {name: item for name, item in value.items() if item is not None}


def _list(value: Any, where: str) -> list[Any]:
    return value if isinstance(value, list) else _fail(where, f"a list is needed, not {_kind(value)}")


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or "\0" in value:
        _fail(where, f"text is needed, not {_kind(value)}")
    return str(value)


def _number(value: Any, where: str, *, least: float = 0) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < least:
        _fail(where, f"a number of at least {least:g} is needed, not {value!r}")
    return float(value)


def _whole(value: Any, where: str, *, least: int = 0) -> int:
    number = _number(value, where, least=least)
    return int(number) if number == int(number) else int(_fail(where, f"a whole number is needed, not {value!r}"))


def _query(value: Any, where: str, text_field: str, more: tuple[str, ...]) -> Query:
    known = (text_field, *more, "min", "max", "equals", "fresh_within_s", "within_s")
    given = _object(value, where, known)
    if text_field not in given and more:  # a path alone asks for the integrity check alone
        return Query("", path=_text(given.get("path"), f"{where}.path"))
    has_equals = isinstance(value, dict) and "equals" in value
    fresh = given.get("fresh_within_s", given.get("within_s"))

    def number(name: str) -> float | None:
        return _number(given[name], f"{where}.{name}", least=-math.inf) if name in given else None

    return Query(
        _text(given.get(text_field), f"{where}.{text_field}"),
        path=_text(given["path"], f"{where}.path") if "path" in more and "path" in given else "",
        min=number("min"),
        max=number("max"),
        equals=value.get("equals"),
        has_equals=has_equals,
        fresh_within_s=None if fresh is None else _number(fresh, f"{where}.fresh_within_s"),
    )


def _sqlite(value: Any, where: str) -> tuple[Query, ...]:
    queries = []
    for number, item in enumerate(_list(value, where)):
        query = _query(item, f"{where}[{number}]", "query", ("path",))
        if not query.path or query.path.startswith("/") or ".." in query.path.split("/"):
            _fail(f"{where}[{number}].path", "a path relative to the tree's root is needed")
        queries.append(query)
    return tuple(queries)


def _relational(value: Any, where: str) -> Relational:
    given = _object(value, where, ("database", "tables", "columns", "indexes", "queries", "fresh"))
    tables: dict[str, int] = {}
    for name, item in _object(given.get("tables", {}), f"{where}.tables", tuple(given.get("tables", {}))).items():
        least = _object(item, f"{where}.tables.{name}", ("rows_min",)).get("rows_min", 0)
        tables[name] = _whole(least, f"{where}.tables.{name}.rows_min")
    columns: dict[str, tuple[str, ...]] = {}
    for name, item in _object(given.get("columns", {}), f"{where}.columns", tuple(given.get("columns", {}))).items():
        columns[name] = tuple(_text(c, f"{where}.columns.{name}") for c in _list(item, f"{where}.columns.{name}"))
    queries = _list(given.get("queries", []), f"{where}.queries")
    return Relational(
        _text(given["database"], f"{where}.database") if "database" in given else None,
        tables,
        columns,
        tuple(_text(name, f"{where}.indexes") for name in _list(given.get("indexes", []), f"{where}.indexes")),
        tuple(_query(item, f"{where}.queries[{n}]", "sql", ()) for n, item in enumerate(queries)),
        _query(given["fresh"], f"{where}.fresh", "sql", ()) if "fresh" in given else None,
    )


def _baseline(value: Any, where: str) -> Baseline:
    given = _object(value, where, ("files", "bytes"))
    return Baseline(**{name: _whole(item, f"{where}.{name}") for name, item in given.items() if name[:2] != "x-"})


def _boot(value: Any, where: str) -> Boot:
    given = _object(value, where, ("marker", "timeout_s", "memory_mb"))
    return Boot(
        _text(given.get("marker"), f"{where}.marker"),
        _number(given.get("timeout_s", 120), f"{where}.timeout_s", least=1),
        _whole(given.get("memory_mb", 256), f"{where}.memory_mb", least=16),
    )


def _live(value: Any, where: str) -> Live:
    given = _object(value, where, ("root", "on"))
    root = Path(_text(given.get("root"), f"{where}.root"))
    if not root.is_absolute():
        _fail(f"{where}.root", "an absolute path is needed")
    return Live(root, _text(given["on"], f"{where}.on") if given.get("on") else None)


def _system(value: Any, where: str) -> str:
    name = _text(value, where).lower()
    return name if name in ("windows", "linux", "macos") else _fail(where, f"{name!r} is not windows, linux or macos")


def _bacula(given: dict[str, Any]) -> BaculaJob | None:
    texts = {name: _text(given[name], name) for name in _BACULA if name in given and name != "jobid"}
    number = _whole(given["jobid"], "jobid", least=1) if "jobid" in given else None
    return BaculaJob(jobid=number, **texts) if texts or number else None


_BACULA = tuple(item.name for item in fields(BaculaJob))
_EXPECT: dict[str, Callable[[Any, str], Any]] = {
    "host": _text,
    "rpo_s": _number,
    "rto_s": _number,
    "scratch_quota_bytes": _whole,
    "target_os": _system,
    "manifest": lambda value, where: Path(_text(value, where)),
    "baseline": _baseline,
    "max_rss_mb": _whole,
    "sqlite": _sqlite,
    "postgres": _relational,
    "mariadb": _relational,
    "boot": _boot,
    "live": _live,
}


def _instant(value: Any, where: str) -> datetime:
    try:
        if isinstance(value, str):
            when = datetime.fromisoformat(value)
            return when if when.tzinfo else when.replace(tzinfo=UTC)
        return datetime.fromtimestamp(_number(value, where), UTC)
    except (ValueError, OverflowError, OSError):
        return _fail(where, f"{value!r} is not an instant", "Give seconds since 1970, or ISO 8601.")  # type: ignore[no-any-return]


def parse(document: Any, *, now: datetime, where: str = "the case") -> Case:
    """Return the case that `document` (JSON values) describes; raises Misconfigured with the field to correct.

    now: the reference instant when the document names none.
    """
    known = (
        "case",
        "engine",
        "now",
        "secret",
        "repo",
        "file",
        "root",
        "format",
        "sha256",
        "rungs",
        "expect",
        "on",
        *_BACULA,
    )
    given = _object(document, where, known)
    engine = _text(given.get("engine"), "engine")
    engine = ALIASES.get(engine, engine)
    expect = _object(given.get("expect", {}), "expect", tuple(_EXPECT))
    assert set(_EXPECT) == {item.name for item in fields(Expect)}  # noqa: S101  a field that nobody reads
    located = LOCATED_BY.get(engine, ("repo", "file"))
    if not any(given.get(name) for name in located):
        _fail(where, f"{' or '.join(repr(name) for name in located)} is missing", f"Say where the {engine} backup is.")
    rungs = frozenset(_whole(item, "rungs", least=1) for item in _list(given.get("rungs", [*range(1, 7)]), "rungs"))
    if not rungs or max(rungs) > 6:
        _fail("rungs", "rungs are the numbers 1 to 6")
    root = _text(given.get("root", ""), "root").strip("/")
    root = "" if root == "." else root.removeprefix("./")
    if ".." in root.split("/"):
        _fail("root", "the root may not climb")
    sha256 = _text(given["sha256"], "sha256").lower() if "sha256" in given else None
    if sha256 is not None and (len(sha256) != 64 or set(sha256) - set("0123456789abcdef")):
        _fail("sha256", "64 hexadecimal digits are needed")
    return Case(
        name=_text(given.get("case", "unnamed"), "case"),
        engine=engine,
        now=_instant(given["now"], "now") if "now" in given else now,
        expect=Expect(**{n: _EXPECT[n](item, f"expect.{n}") for n, item in expect.items() if n in _EXPECT}),
        secret=_text(given["secret"], "secret") if "secret" in given else None,
        repo=_text(given["repo"], "repo") if given.get("repo") else None,
        file=Path(_text(given["file"], "file")) if given.get("file") else None,
        root=root,
        format=_text(given["format"], "format").lower() if "format" in given else None,
        sha256=sha256,
        rungs=rungs,
        bacula=_bacula(given),
        on=_text(given["on"], "on") if given.get("on") else None,
    )


def load(path: Path, *, now: datetime) -> Case:
    """Read a case file; raises Misconfigured if it cannot be read or cannot mean what it says."""
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise Misconfigured(f"{path} cannot be read: {error.strerror}.", advice="Name the case file.") from error
    except (ValueError, RecursionError) as error:
        raise Misconfigured(f"{path} is not JSON: {error}.", advice="Correct the place named.") from error
    return parse(document, now=now, where=str(path))
