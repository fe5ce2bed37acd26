"""restic: good repositories pass, damaged ones do not, and none is ever touched."""

import shutil
from pathlib import Path

import pytest
import sabotage
from sabotage import DAY, HOUR, LOGICAL, NOW, Document, Fault, by_restic, cut, fingerprint, flip, largest
from test_backup_faults import deserves, judged

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(shutil.which("restic") is None, reason="restic is not installed"),
]


def untouched(document: Document, work: Path, verdict: str, reason: str | None) -> None:
    before = fingerprint(Path(document["repo"]))
    result = judged(document, work)
    assert fingerprint(Path(document["repo"])) == before
    deserves(result, verdict, reason)


@pytest.mark.parametrize("fault", LOGICAL, ids=lambda fault: fault.name)
def test_a_snapshot_gets_the_verdict_it_deserves(fault: Fault, tmp_path: Path) -> None:
    untouched(sabotage.case(fault, tmp_path, by_restic), tmp_path, fault.verdict, fault.reason)


@pytest.fixture
def good(tmp_path: Path) -> Document:
    return sabotage.case(LOGICAL[0], tmp_path, by_restic)


def test_a_flipped_pack_fails(good: Document, tmp_path: Path) -> None:
    flip(largest(tmp_path / "restic/data", "*/*"))
    untouched(good, tmp_path, "fail", "repository")


def test_a_cut_pack_fails(good: Document, tmp_path: Path) -> None:
    cut(largest(tmp_path / "restic/data", "*/*"))
    untouched(good, tmp_path, "fail", "repository")


@pytest.mark.parametrize("what", ["data/*/*", "index/*", "config"])
def test_a_lost_file_of_the_repository_fails(what: str, good: Document, tmp_path: Path) -> None:
    largest(tmp_path / "restic", what).unlink()
    untouched(good, tmp_path, "fail", "repository")


@pytest.mark.parametrize("what", ["snapshots/*", "index/*", "config", "keys/*"])
def test_a_flipped_file_of_the_repository_fails(what: str, good: Document, tmp_path: Path) -> None:
    flip(largest(tmp_path / "restic", what))
    untouched(good, tmp_path, "fail", "repository")


def test_a_repository_without_a_snapshot_fails(good: Document, tmp_path: Path) -> None:
    largest(tmp_path / "restic", "snapshots/*").unlink()
    untouched(good, tmp_path, "fail", "missing")


def test_a_wrong_key_is_an_error(good: Document, tmp_path: Path) -> None:
    untouched({**good, "secret": "another"}, tmp_path, "error", "key")
    untouched({**good, "secret": None}, tmp_path, "error", "key")


def test_a_foreign_lock_is_an_error_and_stays(good: Document, tmp_path: Path) -> None:
    (tmp_path / "restic/locks" / ("0" * 64)).write_bytes(b"held by somebody")
    untouched(good, tmp_path, "error", "locked")


def test_a_stale_snapshot_breaks_the_recovery_point(tmp_path: Path) -> None:
    tree = sabotage.source(tmp_path)
    untouched({**by_restic(tree, tmp_path, at=NOW - 3 * DAY), "now": NOW}, tmp_path, "fail", "rpo")


def test_a_snapshot_from_the_future_has_a_wrong_clock(tmp_path: Path) -> None:
    tree = sabotage.source(tmp_path)
    untouched({**by_restic(tree, tmp_path, at=NOW + 5 * HOUR), "now": NOW}, tmp_path, "fail", "clock")


def test_only_another_machines_snapshots_are_an_identity_fault(tmp_path: Path) -> None:
    tree = sabotage.source(tmp_path)
    untouched({**by_restic(tree, tmp_path, host="other"), "now": NOW}, tmp_path, "fail", "identity")


def test_another_machines_younger_snapshot_does_not_matter(good: Document, tmp_path: Path) -> None:
    by_restic(tmp_path / "data", tmp_path, at=NOW - 60, host="other")
    untouched(good, tmp_path, "pass", None)


def test_a_repository_that_is_gone_fails(good: Document, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "restic")
    deserves(judged(good, tmp_path), "fail", "missing")
