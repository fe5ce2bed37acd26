"""The planted-fault drill, the daily look at jobs, and what a first restore proposes."""

import json
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from msp.backup import drill
from msp.backup.case import parse
from msp.backup.proposals import propose
from msp.backup.verify import verify
from msp.backup.watch import Seen, judge
from msp.console import main
from msp.errors import Misconfigured

NOW = datetime(2026, 9, 21, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.slow
def test_every_planted_fault_is_caught_and_the_good_backup_is_not_blamed(tmp_path: Path) -> None:
    outcomes = drill.drill("tar", tmp_path, NOW)
    assert {one.fault: one.caught for one in outcomes} == {fault.name: True for fault in drill.FAULTS}
    assert [one.verdict for one in outcomes if one.fault == "good"] == ["pass"]
    assert list(tmp_path.iterdir()) == []


def test_a_fault_that_gets_by_is_said_to_get_by(tmp_path: Path) -> None:
    harmless = drill.Fault("bit flip", backup=lambda _place: None, compares=True)
    (outcome,) = drill.drill("tar", tmp_path, NOW, [harmless])
    assert (outcome.caught, outcome.verdict) == (False, "pass")


def test_an_engine_without_a_drill_says_so() -> None:
    with pytest.raises(Misconfigured, match="no drill for vmdk"):
        drill.drill("vmdk", Path("/nowhere"), NOW)


@pytest.mark.parametrize(
    ("looks", "state"),
    [
        ([], "unknown"),
        ([Seen(NOW, NOW - DAY * 1.1, 100)], "fine"),
        ([Seen(NOW, NOW - DAY * 1.5, 100)], "late"),
        ([Seen(NOW, NOW - DAY * 3, 100)], "missed"),
        ([Seen(NOW, None, readable=False)], "failed"),
        ([Seen(NOW - DAY, NOW - DAY, 100), Seen(NOW, NOW, 40)], "size"),
        ([Seen(NOW - DAY, NOW - DAY, 100), Seen(NOW, NOW, 110)], "fine"),
    ],
)
def test_a_job_that_is_late_missed_failed_or_odd_in_size_is_told_apart(looks: list[Seen], state: str) -> None:
    assert judge(looks, DAY, NOW).state == state


def test_a_first_restore_proposes_rows_and_counts_that_then_hold(tmp_path: Path) -> None:
    tree = tmp_path / "repo" / "data"
    tree.mkdir(parents=True)
    with sqlite3.connect(tree / "app.sqlite") as database:
        database.execute('CREATE TABLE "odd ""name" (id INTEGER PRIMARY KEY)')
        database.executemany('INSERT INTO "odd ""name" VALUES (?)', ((n,) for n in range(5000)))
    database.close()
    document = {"engine": "tree", "repo": str(tmp_path / "repo"), "root": "data"}
    found = propose(parse(document, now=NOW), base=tmp_path / "scratch")
    assert any("5000 rows" in words for words in found.words)
    assert found.expect["sqlite"][0]["min"] == 4500
    result = verify(parse({**document, "expect": found.expect}, now=NOW), base=tmp_path / "scratch")
    assert (result.verdict, result.highest_rung) == ("pass", 5)
    assert list((tmp_path / "scratch").iterdir()) == []
    case = tmp_path / "case.json"
    case.write_text(json.dumps(document))
    said = CliRunner().invoke(main, ["backup", "plan", "propose", str(case), "--json"])
    assert json.loads(said.output)["expect"] == found.expect
