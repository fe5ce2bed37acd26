"""The planted-fault drill, the daily look at jobs, and what a first restore proposes."""

import json
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from msp.backup import drill, engines
from msp.backup.case import parse
from msp.backup.process import Runner
from msp.backup.proposals import propose
from msp.backup.scratch import scratch
from msp.backup.verify import verify
from msp.backup.watch import Seen, judge
from msp.console import main
from msp.errors import Misconfigured

NOW = datetime(2026, 9, 21, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def tried(tmp_path: Path, fault: str, reasons: set[str], plant_of: str) -> drill.Outcome:
    """Drill with what another fault plants, as if it were this one."""
    with scratch(tmp_path) as space, drill.bench("tar")(Runner(), space, NOW) as faults:
        plant = next(one.plant for one in faults if one.fault == plant_of)
        return drill.tried("tar", drill.Planted(fault, plant, frozenset(reasons)), space, NOW)


def test_every_engine_has_a_drill_with_a_good_backup_and_three_kinds_of_fault(tmp_path: Path) -> None:
    assert set(drill.ENGINES) == set(engines.OWN)
    with scratch(tmp_path) as space, drill.bench("tree")(Runner(), space, NOW) as faults:
        assert [one.fault for one in faults if not one.reasons] == ["good"]
        assert len({one.reasons for one in faults if one.reasons}) >= 3


def test_the_drill_of_archives_catches_all_and_leaves_nothing(tmp_path: Path) -> None:
    outcomes = drill.drill("tar", tmp_path, NOW)
    assert [one.fault for one in outcomes if not one.caught] == []
    assert [one.fault for one in outcomes if one.verdict == "pass"] == ["good"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("fault", "reasons", "plant_of", "verdict"),
    [
        pytest.param("bit flip", {"content"}, "good", "pass", id="a fault that gets by"),
        pytest.param("good", set(), "bit flip", "fail", id="a good backup that is blamed"),
        pytest.param("stale", {"rpo"}, "bit flip", "fail", id="another fault found than the one planted"),
    ],
)
def test_a_drill_that_the_tester_fails_is_said_to_be_failed(
    fault: str, reasons: set[str], plant_of: str, verdict: str, tmp_path: Path
) -> None:
    outcome = tried(tmp_path, fault, reasons, plant_of)
    assert (outcome.caught, outcome.verdict) == (False, verdict)


def test_an_engine_without_a_drill_says_so() -> None:
    with pytest.raises(Misconfigured, match="no drill for floppy"):
        drill.drill("floppy", Path("/nowhere"), NOW)


def test_a_drill_without_the_engines_program_is_skipped_and_never_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (outcome,) = drill.drill("borg", tmp_path / "scratch", NOW)
    assert (outcome.verdict, outcome.caught) == ("skipped", False)
    assert outcome.words == "The program borg is not installed here."
    said = CliRunner().invoke(main, ["backup", "drill", "borg"])
    assert said.exit_code == 4
    assert "yes" not in said.output
    assert CliRunner().invoke(main, ["backup", "drill", "floppy"]).exit_code == 2


def test_a_drill_is_told_in_a_table_and_in_json() -> None:
    said = CliRunner().invoke(main, ["backup", "drill", "tar"])
    assert said.exit_code == 0, said.output
    assert all(words in said.output for words in ("lost mount", "bit flip", "yes"))
    lines = CliRunner().invoke(main, ["backup", "drill", "tar", "--json"]).output.splitlines()
    assert {json.loads(line)["fault"]: json.loads(line)["caught"] for line in lines}["good"] is True


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
