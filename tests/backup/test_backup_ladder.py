"""Rung 3, the draw behind it, and when each rung is climbed."""

import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sabotage import NOW, settle, source, write_manifest
from test_backup_faults import deserves, judged

from msp.backup import ladder, sample
from msp.backup.manifest import Entry
from msp.errors import Misconfigured

WHEN = datetime.fromtimestamp(NOW, UTC)


def test_a_file_that_changed_today_is_drawn_far_more_often_than_an_old_one() -> None:
    entries = [Entry(b"f%04d" % n, "-", mtime=NOW - (0 if n < 100 else 400 * 86400)) for n in range(2000)]
    fresh = sum(entry.path < b"f0100" for _ in range(20) for entry in sample.draw(entries, WHEN, Random(_), 100))
    assert 600 < fresh < 1400  # of 2000 drawn; blind chance would give 100


@given(st.integers(0, 40), st.integers(1, 20), st.integers())
def test_a_draw_is_in_order_without_repeats_and_never_larger_than_asked(files: int, size: int, seed: int) -> None:
    entries = [Entry(b"d", "d"), *(Entry(b"d/f%d" % n, "-", mtime=NOW) for n in range(files))]
    drawn = sample.draw(entries, WHEN, Random(seed), size)
    assert len(drawn) == min(files, size)
    assert [one.key for one in drawn] == sorted({one.key for one in drawn})
    assert all(one.type == "-" for one in drawn)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["restic", "borg", "tree"])
def test_a_sample_finds_changed_files_and_passes_a_good_backup(engine: str, tmp_path: Path) -> None:
    if engine != "tree" and shutil.which(engine) is None:
        pytest.skip(f"{engine} is not installed")
    tree = source(tmp_path)
    listed = write_manifest(tree, tmp_path / "manifest.json")
    env = {"RESTIC_PASSWORD": "x", "BORG_PASSPHRASE": "x", "BORG_BASE_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"}

    def back_up(name: str) -> str:
        if engine == "tree":
            (tmp_path / name).mkdir()
            subprocess.run(["cp", "-a", tree, tmp_path / name], check=True)
            return str(tmp_path / name)
        repo = str(tmp_path / name)
        steps = {
            "restic": [["restic", "-q", "-r", repo, "init"], ["restic", "-q", "-r", repo, "backup", "data"]],
            "borg": [["borg", "init", "-e", "repokey", repo], ["borg", "create", f"{repo}::a", "data"]],
        }
        for step in steps[engine]:
            subprocess.run(step, check=True, cwd=tmp_path, env=env, capture_output=True)
        return repo

    def case(repo: str) -> dict[str, object]:
        document = {"engine": engine, "repo": repo, "root": "data", "rungs": [1, 2, 3], "secret": "x"}
        return {**document, "expect": {"manifest": str(listed)}}

    good = judged(case(back_up("good")), tmp_path)
    deserves(good, "pass", None)
    assert good.highest_rung == 3  # and so no proof
    assert dict(good.rungs[-1].figures)["compared"] > 50
    for path in tree.glob("docs/*.txt"):
        path.write_bytes(path.read_bytes()[::-1])
    settle(tree)
    deserves(judged(case(back_up("bad")), tmp_path), "fail", "content")


def test_the_usual_ladder_is_cheap_often_and_dear_seldom() -> None:
    steps = ladder.defaults(critical=True, boots=True)
    assert [(step.rungs, step.when) for step in steps] == [
        ((1, 2), "after backup"), ((3,), "20 5 * * *"), ((4, 5), "30 3 * * 6"), ((4, 6), "30 1 15 * *"),
    ]  # fmt: skip
    assert ladder.read(ladder.plain(steps)) == steps
    assert ladder.typed("1,2=after backup") == steps[0]


@pytest.mark.parametrize("words", ["", "x=@daily", "7=@daily", "3=", "3"])
def test_a_step_that_means_nothing_is_refused(words: str) -> None:
    with pytest.raises(Misconfigured):
        ladder.typed(words)


@pytest.mark.parametrize(
    "limits", [{"nice": 20}, {"io": "fast"}, {"window": "25:00-26:00"}, {"window": "1:00"}, {"jitter_s": -1}, {"x": 1}]
)
def test_limits_that_mean_nothing_are_refused(limits: dict[str, object]) -> None:
    with pytest.raises(Misconfigured):
        ladder.read_limits(limits)


@pytest.mark.parametrize(
    ("window", "hour", "waits"), [("22:00-06:00", 23, 0), ("22:00-06:00", 5, 0), ("22:00-06:00", 12, 10),
                                  ("01:00-04:00", 2, 0), ("01:00-04:00", 12, 13)]
)  # fmt: skip
def test_a_test_outside_its_window_waits_for_it(window: str, hour: int, waits: int) -> None:
    zone = ZoneInfo("Europe/Berlin")
    now = datetime(2026, 9, 21, hour, tzinfo=zone)
    opens = ladder.opens_at(ladder.read_limits({"window": window}), zone, now)
    assert opens - now == timedelta(hours=waits)
