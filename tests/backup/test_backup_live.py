"""Restored files against the living source: what changed since is told apart from damage, here and over SSH."""

import asyncio
import os
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sshd
from sabotage import DAY, HOUR, NOW, Document, by_tar, settle, source
from test_backup_faults import deserves, judged

from msp.backup import live_host, manifest
from msp.backup.case import parse
from msp.backup.manifest import Entry
from msp.backup.verify import verify
from msp.clock import utc_now
from msp.errors import Misconfigured, Unreachable
from msp.remote.ssh.transport import SshTransport
from msp.remote.target import Credential, Target


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return source(tmp_path)


def document(tree: Path, work: Path) -> Document:
    """A backup of the tree of an hour ago, to be compared with the tree."""
    case = by_tar(tree, work)
    os.utime(case["file"], (NOW - HOUR,) * 2)
    return {**case, "now": NOW, "expect": {"live": {"root": str(tree)}}}


def figures(result: Any) -> dict[str, Any]:
    return dict(result.rungs[-1].figures)


def test_a_source_that_did_not_change_agrees(tree: Path, tmp_path: Path) -> None:
    result = judged(document(tree, tmp_path), tmp_path)
    deserves(result, "pass", None)
    assert figures(result)["live_compared"] > 50
    assert (figures(result)["live_drifted"], figures(result)["live_gone"]) == (0, 0)


def test_work_on_the_source_since_the_snapshot_is_no_fault(tree: Path, tmp_path: Path) -> None:
    case = document(tree, tmp_path)
    for number, path in enumerate(sorted(tree.glob("docs/*.txt"))[:4]):
        path.unlink() if number == 0 else path.write_text("worked on\n")
        path.chmod(0o600) if number else None
    os.utime(tree, (NOW, NOW))
    for path in sorted(tree.glob("docs/*.txt"))[:3]:
        os.utime(path, (NOW - 60,) * 2)
    result = judged(case, tmp_path)
    deserves(result, "pass", None)
    assert (figures(result)["live_drifted"], figures(result)["live_gone"]) == (3, 1)


def test_a_file_replaced_by_an_older_one_is_work_and_a_damaged_one_whose_mode_changed_is_not(
    tree: Path, tmp_path: Path
) -> None:
    case = by_tar(tree, tmp_path)
    taken = utc_now().timestamp() - 1
    os.utime(case["file"], (taken,) * 2)
    case |= {"now": taken + HOUR, "expect": {"live": {"root": str(tree)}}}
    paths = sorted(tree.glob("docs/*.txt"))
    for path in paths[:3]:
        (tmp_path / "older").write_text("of the package\n")
        os.utime(tmp_path / "older", (taken - 400 * DAY,) * 2)
        (tmp_path / "older").replace(path)
    result = judged(case, tmp_path)
    deserves(result, "pass", None)
    assert figures(result)["live_drifted"] == 3
    info = paths[4].stat()
    paths[4].write_bytes(paths[4].read_bytes()[::-1])  # as if the backup were damaged: the time is that of before
    os.utime(paths[4], ns=(info.st_atime_ns, info.st_mtime_ns))
    deserves(judged(case, tmp_path), "fail", "content")


def test_a_backup_whose_bytes_differ_though_nobody_worked_on_them_fails(tree: Path, tmp_path: Path) -> None:
    good = tmp_path / "good"
    subprocess.run(["cp", "-a", tree, good], check=True)
    for path in tree.glob("docs/*.txt"):
        info = path.stat()
        path.write_bytes(path.read_bytes()[::-1])  # what the backup reads is damaged; the source is compared later
        os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    case = document(tree, tmp_path)
    case["expect"]["live"]["root"] = str(good)
    result = judged(case, tmp_path)
    deserves(result, "fail", "content")
    assert result.findings[0].what.startswith(f"Compared with {good}:")


def test_a_source_that_is_not_there_proves_nothing(tree: Path, tmp_path: Path) -> None:
    case = document(tree, tmp_path)
    shutil.rmtree(tree)
    result = judged(case, tmp_path)
    deserves(result, "error", "content")


def test_a_source_that_all_changed_is_left_to_a_person(tree: Path, tmp_path: Path) -> None:
    case = document(tree, tmp_path)
    for path in tree.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.write_bytes(path.read_bytes() + b"more")
            os.utime(path, (NOW - 60,) * 2)
    deserves(judged(case, tmp_path), "warn", "content")


def test_the_sampling_rung_compares_with_the_source_too(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "repo").mkdir()
    subprocess.run(["cp", "-a", tree, tmp_path / "repo"], check=True)
    case = {
        "engine": "tree", "repo": str(tmp_path / "repo"), "root": "data", "rungs": [2, 3],
        "now": NOW, "expect": {"live": {"root": str(tree)}},
    }  # fmt: skip
    result = judged(case, tmp_path)
    deserves(result, "pass", None)
    assert figures(result)["live_compared"] > 50
    for path in (tmp_path / "repo/data/docs").glob("*.txt"):
        path.write_bytes(path.read_bytes()[::-1])
    settle(tmp_path / "repo/data")
    settle(tree)
    deserves(judged(case, tmp_path), "fail", "content")


@pytest.mark.parametrize("live", [{"root": "srv/data"}, {}, {"root": "/srv", "port": 22}, "/srv"])
def test_a_source_that_means_nothing_is_refused(live: object) -> None:
    with pytest.raises(Misconfigured):
        parse({"engine": "tar", "file": "/x.tar", "expect": {"live": live}}, now=utc_now())


def test_a_source_on_another_host_is_not_asked_by_this_command(tmp_path: Path) -> None:
    case = {"engine": "tar", "file": "/x.tar", "expect": {"live": {"root": "/srv", "on": "srv-1"}}}
    with pytest.raises(Misconfigured, match="srv-1"):
        verify(parse(case, now=utc_now()), base=tmp_path / "s")


ODD = [
    b"plain.txt",
    b"-rf",
    b"two words",
    b"line\nbreak",
    b"\xff\xfe.bin",
    b"quote'\".txt",
    b"$(touch x)",
    b"deep/er/x",
]


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    root = tmp_path / "it's here"
    (root / "deep/er").mkdir(parents=True)
    for number, name in enumerate(ODD):
        path = os.fsencode(root) + b"/" + name
        with open(path, "wb") as file:  # noqa: PTH123  names are bytes
            file.write(b"content %d" % number)
        os.utime(path, (NOW - DAY, NOW - DAY + number / 8))
    (root / "link").symlink_to("plain.txt")
    os.mkfifo(root / "pipe")
    (tmp_path / "secret.txt").write_text("not below the root")
    return root


ASKED = [*ODD, b"link", b"pipe", b"gone", b"../secret.txt", b"/etc/hostname", b"deep/../../secret.txt"]


def known(entries: Any) -> dict[bytes, tuple[str, float, float, str | None]]:
    return {entry.path: (entry.type, round(entry.mtime, 3), round(entry.changed, 3), entry.sha256) for entry in entries}


def test_files_are_asked_by_name_whatever_they_are_called_and_never_beyond_the_root(odd: Path) -> None:
    found = known(manifest.named(odd, ASKED))
    assert set(found) == {*ODD, b"link", b"pipe"}
    walked = {entry.path: entry.sha256 for entry in manifest.walk(odd) if entry.type == "-"}
    assert {path: sha256 for path, (kind, *_, sha256) in found.items() if kind == "-"} == walked


@pytest.mark.server
@pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing() or "here")
def test_a_host_tells_the_same_over_ssh_as_we_see_here(odd: Path, tmp_path: Path) -> None:
    with sshd.running(tmp_path / "sshd") as server:
        credential = Credential(server.user, key_file=server.key_file)
        target = Target("srv-1", "127.0.0.1", server.port, credential, (server.host_key,))

        async def ask(root: str) -> list[Entry]:
            transport = SshTransport()
            try:
                async with transport.open(target, timeout=timedelta(seconds=20)) as shell:
                    return await live_host.ask_host(shell, root, ASKED, host=target.name)
            finally:
                await transport.close()

        assert known(asyncio.run(ask(str(odd)))) == known(manifest.named(odd, ASKED))
        assert not (odd / "x").exists()
        with pytest.raises(Unreachable, match="srv-1 has no folder /nowhere"):
            asyncio.run(ask("/nowhere"))
