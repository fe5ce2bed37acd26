"""A first restore says what could be asserted, of databases too; what it proposes passes, and fails half a backup."""

import sqlite3
import tarfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mariadb_shop
import postgres_shop
import pytest
from test_backup_faults import judged

from msp.backup import proposals
from msp.backup.case import parse
from msp.backup.engine import Found
from msp.backup.proposals import STAGES, propose
from msp.clock import utc_now

NOW = datetime(2026, 9, 21, 12, tzinfo=UTC)


def proposed(document: dict[str, Any], base: Path) -> proposals.Proposal:
    told: list[str] = []
    found = propose(parse(document, now=utc_now()), base=base, tell=lambda stage, _: told.append(stage))
    assert list(dict.fromkeys(told)) == list(STAGES)
    assert [path for path in base.iterdir() if path.name.startswith("restore-")] == []
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param("postgres", marks=postgres_shop.needed),
                                  pytest.param("mariadb", marks=mariadb_shop.needed)])  # fmt: skip
def test_the_largest_tables_of_a_dump_are_proposed(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    dumps = request.getfixturevalue(f"{name}_dumps")
    engine, file = ("pg_dump", "good.custom") if name == "postgres" else ("mariadb_dump", "good.sql")
    document = {"engine": engine, "file": str(dumps / file)}
    found = proposed(document, tmp_path)
    (tables,) = [part["tables"] for key, part in found.expect.items() if key == name]
    assert sorted(rule["rows_min"] for rule in tables.values()) == [900, 1800]
    assert {table.rpartition(".")[2] for table in tables} == {"orders", "lines"}
    assert any("2000 rows" in words for words in found.words)
    case = {**document, "expect": found.expect}
    assert judged(case, tmp_path).verdict == "pass"
    half = dumps / ("half.custom" if name == "postgres" else "half.sql")
    assert judged({**case, "file": str(half)}, tmp_path).verdict == "fail"


def archive(folder: Path, created: list[object]) -> Path:
    (folder / "data").mkdir()
    with sqlite3.connect(folder / "data/shop.db") as database:
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, created_at)")
        database.executemany("INSERT INTO orders (created_at) VALUES (?)", ((one,) for one in created))
        database.execute("CREATE TABLE empty (id INTEGER, changed TEXT)")
    database.close()
    (folder / "data/not-one.db").write_bytes(proposals.MAGIC + b"x" * 100)
    with tarfile.open(folder / "shop.tar", "w") as file:
        file.add(folder / "data", "data")
    return folder / "shop.tar"


@pytest.mark.parametrize(
    ("newest", "allowed"),
    [("2026-09-21 11:00:00", 172800), (int(NOW.timestamp()) - 86400 * 10, 1728000), ("next week", None), (None, None),
     ("2027-01-01", None)],
)  # fmt: skip
def test_how_young_the_newest_row_was_is_proposed_with_room(
    newest: object, allowed: int | None, tmp_path: Path
) -> None:
    case = parse({"engine": "tar", "file": str(archive(tmp_path, [newest])), "root": "data"}, now=NOW)
    found = propose(case, base=tmp_path / "scratch")
    fresh = [one.expect["sqlite"][0] for one in found.questions if one.kind == "fresh"]
    assert [one["fresh_within_s"] for one in fresh] == ([allowed] if allowed else [])
    assert [one.kind for one in found.questions].count("unreadable") == 1
    assert (found.files, found.expect["baseline"]["files"]) == (2, 2)
    assert len({one.key for one in found.questions}) == len(found.questions)


def test_a_backup_that_does_not_come_back_proposes_nothing(tmp_path: Path) -> None:
    (tmp_path / "cut.tar").write_bytes(archive(tmp_path, [1]).read_bytes()[:700])
    case = parse({"engine": "tar", "file": str(tmp_path / "cut.tar")}, now=NOW)
    with pytest.raises(Found):
        propose(case, base=tmp_path / "scratch")
    quota = replace(case, file=tmp_path / "shop.tar", expect=replace(case.expect, scratch_quota_bytes=100))
    with pytest.raises(Exception, match="100"):
        propose(quota, base=tmp_path / "scratch")
    assert list((tmp_path / "scratch").iterdir()) == []
