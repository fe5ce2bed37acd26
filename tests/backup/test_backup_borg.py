"""Borg: good archives pass, damaged repositories do not, and none is ever touched."""

import json
import shutil
from pathlib import Path

import pytest
import sabotage
from sabotage import DAY, HOUR, LOGICAL, NOW, Document, Fault, by_borg, cut, fingerprint, flip, largest
from test_backup_faults import deserves, judged

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(shutil.which("borg") is None, reason="borgbackup is not installed"),
]


def untouched(document: Document, work: Path, verdict: str, reason: str | None) -> None:
    before = fingerprint(Path(document["repo"]))
    result = judged(document, work)
    assert fingerprint(Path(document["repo"])) == before
    deserves(result, verdict, reason)


@pytest.mark.parametrize("fault", LOGICAL, ids=lambda fault: fault.name)
def test_an_archive_gets_the_verdict_it_deserves(fault: Fault, tmp_path: Path) -> None:
    untouched(sabotage.case(fault, tmp_path, by_borg), tmp_path, fault.verdict, fault.reason)


@pytest.fixture
def good(tmp_path: Path) -> Document:
    return sabotage.case(LOGICAL[0], tmp_path, by_borg)


@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
def test_a_damaged_segment_fails(damage: object, good: Document, tmp_path: Path) -> None:
    damage(largest(tmp_path / "borg/data", "*/*"))  # type: ignore[operator]
    untouched(good, tmp_path, "fail", "repository")


def test_a_lost_config_fails(good: Document, tmp_path: Path) -> None:
    (tmp_path / "borg/config").unlink()
    untouched(good, tmp_path, "fail", "repository")


def test_a_wrong_passphrase_is_an_error(good: Document, tmp_path: Path) -> None:
    untouched({**good, "secret": "another"}, tmp_path, "error", "key")


def test_a_foreign_lock_is_an_error_and_stays(good: Document, tmp_path: Path) -> None:
    (tmp_path / "borg/lock.exclusive").mkdir()
    (tmp_path / "borg/lock.exclusive/other@host.1-1").touch()
    untouched(good, tmp_path, "error", "locked")


def test_a_foreign_shared_lock_is_an_error_and_stays(good: Document, tmp_path: Path) -> None:
    (tmp_path / "borg/lock.roster").write_text(json.dumps({"shared": [["other@host", 1, 1]]}))
    untouched(good, tmp_path, "error", "locked")


def test_a_stale_archive_breaks_the_recovery_point(tmp_path: Path) -> None:
    tree = sabotage.source(tmp_path)
    untouched({**by_borg(tree, tmp_path, at=NOW - 3 * DAY), "now": NOW}, tmp_path, "fail", "rpo")


def test_an_archive_from_the_future_has_a_wrong_clock(tmp_path: Path) -> None:
    tree = sabotage.source(tmp_path)
    untouched({**by_borg(tree, tmp_path, at=NOW + 5 * HOUR), "now": NOW}, tmp_path, "fail", "clock")


def test_another_machines_archive_is_an_identity_fault(good: Document, tmp_path: Path) -> None:
    untouched({**good, "expect": {"host": "surely-not-this-machine"}}, tmp_path, "fail", "identity")
