"""The pure rules: manifests, comparison, verdicts, proofs, portability, the case document."""

import json
import os
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msp.backup import baseline, manifest
from msp.backup.case import Baseline, parse
from msp.backup.compare import Comparison, merge
from msp.backup.hostile import acl
from msp.backup.manifest import Entry
from msp.backup.portability import Portability
from msp.backup.proof import Tested as Finished
from msp.backup.proof import proof_state
from msp.backup.ransomware import Suspicion, noisy
from msp.backup.verdict import REASONS, Finding, Weight, decide, reasons
from msp.errors import Misconfigured

NOW = datetime(2026, 9, 21, 12, tzinfo=UTC)
NAMES = st.binary(min_size=1, max_size=6).filter(lambda name: not {0, 47} & set(name) and name not in (b".", b".."))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(NAMES, min_size=1, max_size=4).map(b"/".join), unique=True, max_size=30))
def test_a_manifest_read_back_is_the_one_written_and_in_the_order_of_a_walk(paths: list[bytes]) -> None:
    import tempfile

    entries = [Entry(path, "-", 0o644, 1, 2, 3, 4.0, "00" * 32, xattrs={b"user.\xff": b"\0"}) for path in paths]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "manifest.json"
        with file.open("w") as out:
            manifest.write(entries, out)
        assert set(json.loads(file.read_text())) == {path.decode("utf-8", "surrogateescape") for path in paths}
        back = list(manifest.in_order(file, Path(folder)))
    assert [entry.path for entry in back] == sorted(paths, key=lambda path: path.split(b"/"))
    assert sorted(back, key=lambda entry: entry.path) == sorted(entries, key=lambda entry: entry.path)


def test_a_walk_is_in_order_and_knows_every_kind(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("x")
    (tmp_path / "a.b").write_text("y")
    os.link(tmp_path / "a.b", tmp_path / "again")
    (tmp_path / "link").symlink_to(os.fsdecode(b"\xff"))
    os.mkfifo(tmp_path / "pipe")
    found = list(manifest.walk(tmp_path))
    assert [(entry.path, entry.type) for entry in found] == [
        (b"a", "d"), (b"a/x", "-"), (b"a.b", "-"), (b"again", "-"), (b"link", "l"), (b"pipe", "p"),
    ]  # fmt: skip
    assert found[3].hardlink == b"a.b"
    assert found[3].sha256 == found[2].sha256
    assert found[4].target == b"\xff"


def test_a_manifest_larger_than_one_run_is_sorted_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "RUN", 7)
    names = [f"f{number:03}" for number in range(50)]
    random.Random(1).shuffle(names)
    (tmp_path / "m.json").write_text(json.dumps({name: {"type": "-"} for name in names}))
    assert [entry.path.decode() for entry in manifest.in_order(tmp_path / "m.json", tmp_path)] == sorted(names)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"a": {}', '{"a"}', '{"a": {"type": "q"}}', '{"a": 1}', "{,}", '{"a": {"mtime": "x"}}']
)
def test_a_broken_manifest_is_said_to_be_one(text: str, tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(Misconfigured):
        list(manifest.read(tmp_path / "m.json"))


PATHS = st.lists(st.sampled_from([b"a", b"a/b", b"a.b", b"c", b"c/d/e", b"z"]), unique=True)


@given(PATHS, PATHS)
def test_merging_pairs_exactly_what_both_sides_hold(left: list[bytes], right: list[bytes]) -> None:
    ordered = [sorted((Entry(path, "-") for path in side), key=lambda entry: entry.key) for side in (left, right)]
    pairs = list(merge(*ordered))
    assert {a.path for a, b in pairs if a and b} == set(left) & set(right)
    assert {a.path for a, b in pairs if a and not b} == set(left) - set(right)
    assert {b.path for a, b in pairs if b and not a} == set(right) - set(left)


def file(path: bytes, mtime: float, content: str = "1") -> Entry:
    return Entry(path, "-", 0o644, 0, 0, 1, mtime, content * 64)


def test_a_change_after_the_snapshot_is_drift_and_one_before_it_is_damage() -> None:
    after, before = Comparison(snapshot=100.0), Comparison(snapshot=100.0)
    for number in range(20):
        name = f"same{number}".encode()
        for comparison in (after, before):
            comparison.add(file(name, 10), file(name, 10))
    after.add(file(b"x", 150, "2"), file(b"x", 10))
    before.add(file(b"x", 50, "2"), file(b"x", 10))
    assert [finding.reason for finding in after.findings()] == []
    assert [finding.reason for finding in before.findings()] == ["content"]


@pytest.mark.parametrize(
    ("mtime", "changed", "found"),
    [(5, 150, []), (20, 150, []), (5, 90, ["content"]), (10, 150, ["content"]), (10.4, 150, ["content"]),
     (150, 150, []), (5, None, ["content"])],
)  # fmt: skip
def test_what_took_a_files_place_after_the_snapshot_is_drift_however_old_it_is(
    mtime: float, changed: float | None, found: list[str]
) -> None:
    comparison = Comparison(snapshot=100.0)
    comparison.add(replace(file(b"x", mtime, "2"), changed=changed), file(b"x", 10))
    assert [finding.reason for finding in comparison.findings()] == found


def test_nothing_is_drift_where_restored_files_are_younger_than_their_snapshot() -> None:
    comparison = Comparison(snapshot=100.0)
    for number in range(20):
        name = f"same{number}".encode()
        comparison.add(file(name, 500), file(name, 500))
    comparison.add(file(b"x", 500, "2"), file(b"x", 10))
    assert [finding.reason for finding in comparison.findings()] == ["content"]


def test_the_heaviest_finding_is_the_verdict_and_a_proven_fault_outweighs_an_error() -> None:
    warn, error, fail = (Finding("rpo", "x", weight=weight) for weight in (Weight.WARN, Weight.ERROR, Weight.FAIL))
    assert [decide(each) for each in ([], [warn], [warn, error], [error, fail, warn])] == [
        "pass",
        "warn",
        "error",
        "fail",
    ]
    assert reasons([Finding("boot", "x"), Finding("key", "y"), Finding("boot", "z")]) == ["key", "boot"]
    with pytest.raises(ValueError):
        Finding("weather", "x")
    assert len(REASONS) == 18


@pytest.mark.parametrize(
    ("files", "size", "words"),
    [
        (100, 1000, []),
        (92, 900, []),
        (130, 1500, []),
        (80, 1000, ["warn"]),
        (100, 400, ["fail"]),
        (300, 1000, ["warn"]),
        (0, 0, ["fail", "fail", "fail"]),
    ],
)
def test_counts_within_an_ordinary_day_are_no_finding(files: int, size: int, words: list[str]) -> None:
    assert [finding.weight.word for finding in baseline.against(Baseline(100, 1000), files, size)] == words


def test_windows_refuses_reserved_names_and_keeps_one_of_a_pair() -> None:
    names = Portability("windows")
    for path in (b"A", b"A/x", b"B", b"a", b"dir", b"dir/File", b"dir/file", b"other/file", b"\xff", b"console.txt"):
        names.observe(path)
    assert names.collisions.named == ["a and A", "dir/file and File"]
    for path in (b"con", b"NUL.txt", b"lpt1", b"x.", b"x ", b"a:b", b"a?"):
        names.observe(path)
    assert names.refused.count == 7


def test_archives_and_pictures_are_random_and_not_suspected() -> None:
    suspicion, chance = Suspicion(), random.Random(3)
    for number in range(50):
        for name, magic in (
            ("a.zip", b"PK\x03\x04"),
            ("b.jpg", b"\xff\xd8\xff"),
            ("c.bin", b""),
            ("d.sql.gpg", b""),
            ("e", b""),
        ):
            suspicion.observe(f"{number}/{name}".encode(), magic + chance.randbytes(4000))
        suspicion.observe(f"{number}/кириллица.txt".encode(), "Договор на обслуживание. ".encode("cp1251") * 20)
        suspicion.observe(f"{number}/utf16.txt".encode(), "Straße und Söhne ".encode("utf-16") * 20)
    assert suspicion.findings() == []


@pytest.mark.parametrize("size", [64, 100, 256, 512, 1000, 4096])
def test_random_bytes_are_noise_at_any_length_and_text_never_is(size: int) -> None:
    chance = random.Random(size)
    assert sum(noisy(chance.randbytes(size)) for _ in range(50)) >= 48
    words = " ".join(chance.choices(["invoice", "server", "total", "42", "Müller"], k=2000)).encode()
    assert not noisy(words[:size])


def run(days_ago: float, verdict: str, rung: int = 4) -> Finished:
    return Finished(NOW - timedelta(days=days_ago), verdict, rung)


@pytest.mark.parametrize(
    ("tests", "state"),
    [
        ([], "unproven"),
        ([run(3, "pass")], "proven"),
        ([run(3, "warn", 5)], "proven"),
        ([run(3, "pass", 2)], "unproven"),
        ([run(31, "pass")], "overdue"),
        ([run(3, "pass"), run(1, "fail", 0)], "unproven"),
        ([run(3, "fail", 0), run(1, "pass")], "proven"),
        ([run(3, "pass"), run(2, "error", 0), run(1, "error", 0)], "proven"),
        ([run(4, "pass"), *(run(n, "error", 0) for n in (3, 2, 1))], "unproven"),
        ([run(-1, "pass")], "unproven"),
    ],
)
def test_a_plan_is_proven_by_a_restore_within_its_period(tests: list[Finished], state: str) -> None:
    proof = proof_state(timedelta(days=30), tests, NOW)
    assert proof.state == state
    assert proof.words


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ([], "object"),
        ({}, "engine"),
        ({"engine": "restic"}, "repo"),
        ({"engine": "restic", "repo": "/r", "rootz": "x"}, "rootz"),
        ({"engine": "restic", "repo": "/r", "expect": {"rpo": 1}}, "rpo"),
        ({"engine": "restic", "repo": "/r", "expect": {"rpo_s": "1 day"}}, "rpo_s"),
        ({"engine": "restic", "repo": "/r", "expect": {"rpo_s": True}}, "rpo_s"),
        ({"engine": "restic", "repo": "/r", "root": "a/../.."}, "climb"),
        ({"engine": "restic", "repo": "/r", "now": "yesterday"}, "instant"),
        ({"engine": "restic", "repo": "/r", "expect": {"sqlite": [{"path": "../x", "query": "q"}]}}, "relative"),
        ({"engine": "restic", "repo": "/r", "expect": {"target_os": "dos"}}, "dos"),
        ({"engine": "restic", "repo": "/r", "rungs": [9]}, "rungs"),
        ({"engine": "qcow2", "file": "/r", "sha256": "zz"}, "sha256"),
        ({"engine": "pg_dump", "file": "/r", "expect": {"postgres": {"tables": {"a": 5}}}}, "object"),
    ],
)
def test_a_case_that_cannot_mean_what_it_says_is_refused_by_name(document: object, named: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        parse(document, now=NOW)
    assert named in caught.value.what + caught.value.advice


def test_a_case_does_not_show_its_secret() -> None:
    assert "hunter2" not in repr(parse({"engine": "restic", "repo": "/r", "secret": "hunter2"}, now=NOW))


def test_an_access_list_becomes_what_the_kernel_stores() -> None:
    words = acl("user::rw-,user:1000:r--,group::r--,mask::r--,other::---")
    assert words == bytes.fromhex(
        "0200000001000600ffffffff02000400e803000004000400ffffffff10000400ffffffff20000000ffffffff"
    )
