"""Files and folders over a real sshd: larger than memory may be, whole or not at all, and back again."""

import hashlib
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import accounts
import playing
import pytest
import sshd

from msp.errors import Misconfigured
from msp.remote import payload
from msp.remote.ssh import SshTransport
from msp.remote.target import Credential, Target

pytestmark = [pytest.mark.server, pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing())]
MEGABYTE = 1024 * 1024


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with sshd.running(tmp_path_factory.mktemp("sshd")) as server:
        credential = Credential(server.user, key_file=server.key_file)
        yield Target("real", "127.0.0.1", server.port, credential, (server.host_key,))


def book(folder: Path, *steps: str) -> Path:
    path = folder / "copy.yml"
    path.write_text("name: copy\naction_class: change\nsteps:\n" + "".join(f"  - {step}\n" for step in steps))
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def dressed(folder: Path) -> dict[str, tuple[int, int]]:
    """The mode and the time of everything below a folder."""
    seen = {str(path.relative_to(folder)): path.stat() for path in folder.rglob("*")}
    return {name: (found.st_mode, int(found.st_mtime)) for name, found in seen.items()}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with what is awkward: a long name, an empty folder, spaces, quotes, a program, an empty file."""
    folder = tmp_path / "book/site"
    (folder / "empty").mkdir(parents=True)
    (folder / "deep/er").mkdir(parents=True)
    (folder / "deep/er" / ("long-" * 30)).write_bytes(os.urandom(1000))
    (folder / 'it\'s a "name" $x').write_text("quoted\n")
    (folder / "nothing").write_bytes(b"")
    (folder / "program").write_text("#!/bin/sh\necho ran\n")
    (folder / "program").chmod(0o755)
    (folder / "даты").write_bytes(b"\0" * 70_000)
    return folder


async def test_folder_arrives_whole_by_one_stream_and_is_left_alone_when_it_is_there(
    target: Target, source: Path, tmp_path: Path
) -> None:
    there = tmp_path / "there/site"
    there.parent.mkdir()
    document = book(source.parent, f"file: {{path: {there}, source: site, mode: '750'}}")
    played = await playing.play(document, [target])
    assert played.outcome.ok, played.outcome
    assert tree(there) == tree(source)
    assert (there / "empty").is_dir()
    assert os.access(there / "program", os.X_OK)
    assert there.stat().st_mode & 0o777 == 0o750
    assert [path.name for path in there.parent.iterdir()] == ["site"]  # nothing is left beside it
    assert (await playing.play(document, [target])).phases() == ["1 probe skipped"]


@pytest.mark.parametrize("change", ["changed", "missing", "extra"])
async def test_folder_that_differs_is_replaced_as_a_whole_and_comes_back_on_failure(
    target: Target, source: Path, tmp_path: Path, change: str
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    for name, content in {"changed": {"program": b"old"}, "missing": {}, "extra": {"extra": b"x"}}[change].items():
        (there / name).write_bytes(content)
    before = tree(there)
    step = f"file: {{path: {there}, source: site, backup: true}}"
    played = await playing.play(book(source.parent, step), [target])
    assert played.outcome.ok
    assert tree(there) == tree(source)
    for name in list(tree(there)):
        (there / name).unlink()
    (there / "again").write_text("differs")
    changed = tree(there)
    failing = await playing.play(book(source.parent, step, "{do: 'false', check: 'true'}"), [target])
    assert failing.outcome.kind == "failed"
    assert tree(there) == changed
    assert before != tree(source)


@pytest.mark.slow
async def test_file_larger_than_memory_may_be_is_streamed(target: Target, tmp_path: Path) -> None:
    folder = tmp_path / "book"
    folder.mkdir()
    digest = hashlib.sha256()
    with (folder / "image").open("wb") as file:
        for _ in range(200):
            block = os.urandom(MEGABYTE)
            digest.update(block)
            file.write(block)
    there = tmp_path / "image"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    played = await playing.play(book(folder, f"file: {{path: {there}, source: image}}"), [target])
    assert played.outcome.ok, played.outcome
    with there.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == digest.hexdigest()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    assert grown < 60, f"{grown} MB more"


@pytest.mark.parametrize("stale", [False, True])
@pytest.mark.parametrize("what", ["site", "site/program"])
async def test_what_was_there_stays_when_the_new_one_does_not_arrive(
    target: Target, source: Path, tmp_path: Path, what: str, *, stale: bool
) -> None:
    there = tmp_path / "there"
    if what == "site":
        there.mkdir()
        (there / "precious").write_text("precious")
    else:
        there.write_text("precious")
    if stale:
        (tmp_path / "there.msp-before").write_text("of last year")
    step = f"{{do: {{file: {{path: {there}, source: {what}, backup: true, owner: nobody-we-know}}}}}}"
    failed = await playing.play(book(source.parent, step), [target])
    assert str(failed.outcome) == "failed(1)"
    assert ((there / "precious") if what == "site" else there).read_text() == "precious"


async def test_trying_again_keeps_what_was_there_first(target: Target, source: Path, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("first")
    document = book(
        source.parent,
        f"{{do: {{file: {{path: {tmp_path}/there, source: site/program, backup: true}}}}, idempotent: true, "
        "retry: {attempts: 2, delay: 1s}, check: 'false'}",
    )
    assert (await playing.play(document, [target])).outcome.kind == "failed"
    assert (tmp_path / "there").read_text() == "first"


async def test_command_that_stops_reading_ends_with_its_own_status(target: Target, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 8 * MEGABYTE)
    sent, _ = payload.of_file(tmp_path / "big")
    transport = SshTransport()
    async with transport.open(target) as shell:
        output = await shell.run_fed(sent, "head -c 10; exit 7", timeout=timedelta(seconds=20))
        assert (output.status, output.stdout) == (7, b"x" * 10)
        whole = await shell.run_fed(sent, "wc -c", timeout=timedelta(seconds=20), stdin=b"ab")
        assert whole.stdout.strip() == str(8 * MEGABYTE + 2).encode()
    await transport.close()


async def test_file_is_fetched_with_its_digest(target: Target, tmp_path: Path) -> None:
    content = os.urandom(50_000)
    (tmp_path / "log").write_bytes(content)
    played = await playing.play(book(tmp_path, f"file: {{path: {tmp_path}/log, state: fetched}}"), [target])
    record = played.of(1, "do")
    assert played.outcome.ok
    assert (record.out.data, record.out.sha256) == (content, hashlib.sha256(content).hexdigest())
    assert record.err.data.decode() == f"sha256 {hashlib.sha256(content).hexdigest()}\n"
    absent = await playing.play(book(tmp_path, f"file: {{path: {tmp_path}/none, state: fetched}}"), [target])
    assert str(absent.outcome) == "failed(3)"


@pytest.mark.parametrize("what", ["link", "newline", "pipe"])
def test_what_cannot_be_copied_faithfully_is_refused(tmp_path: Path, what: str) -> None:
    match what:
        case "link":
            (tmp_path / "link").symlink_to("/etc/passwd")
        case "newline":
            (tmp_path / "a\nb").write_text("")
        case "pipe":
            os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Misconfigured):
        payload.of_folder(tmp_path)


def test_stream_is_what_every_tar_reads(source: Path, tmp_path: Path) -> None:
    sent, _ = payload.of_folder(source)
    for name in ("tar", "busybox"):
        there = tmp_path / name
        there.mkdir()
        words = ["tar", "-xof", "-", "-C", str(there)]
        subprocess.run(words if name == "tar" else ["busybox", *words], input=b"".join(sent.chunks()), check=True)
        assert tree(there) == tree(source)


def tools(folder: Path, *without: str) -> Path:
    """A folder for PATH with every applet of busybox but those."""
    folder.mkdir()
    busybox = shutil.which("busybox") or ""
    for name in subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split():
        if name not in without:
            (folder / name).symlink_to(busybox)
    return folder


@pytest.fixture(scope="module", params=["sftp", "neither", "full"])
def without_tar(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A host without tar; the second one has no SFTP either, and the third one takes no byte by it."""
    folder = tmp_path_factory.mktemp("bare")
    options = f"SetEnv SHLVL=5 PATH={tools(folder / 'bin', 'tar', 'busybox')}\n"
    if request.param != "neither":
        options += f"Subsystem sftp internal-sftp{' -P write' if request.param == 'full' else ''}\n"
    with sshd.running(folder / "sshd", options=options) as server:
        credential = Credential(server.user, key_file=server.key_file)
        yield Target(request.param, "127.0.0.1", server.port, credential, (server.host_key,))


@pytest.mark.skipif(shutil.which("busybox") is None, reason="busybox is not installed (package busybox)")
async def test_folder_goes_over_sftp_where_there_is_no_tar_or_not_at_all(
    without_tar: Target, source: Path, tmp_path: Path
) -> None:
    there = tmp_path / "there/it's here"
    there.mkdir(parents=True)
    (there / "old").write_text("old")
    step = f"file: {{path: \"{there}\", source: site, mode: '750', backup: true}}"
    played = await playing.play(book(source.parent, step), [without_tar])
    told = played.of(1, "do").outcome
    if without_tar.name != "sftp":
        assert (told.kind, told.in_doubt) == ("failed", False)
        why = "It has no SFTP either" if without_tar.name == "neither" else "SFTP: "
        assert f"{without_tar.name} has no tar. {why}" in told.detail, told.detail
        assert tree(there) == {"old": b"old"}
        assert [path.name for path in there.parent.iterdir()] == ["it's here"]
        return
    assert played.outcome.ok, played.outcome
    assert told.detail == "sftp has no tar: its files went one by one over SFTP (5)."
    assert tree(there) == tree(source)
    assert {path.name for path in there.parent.iterdir()} == {"it's here", "it's here.msp-before"}
    assert dressed(there) == dressed(source)
    assert there.stat().st_mode & 0o777 == 0o750
    assert (await playing.play(book(source.parent, step), [without_tar])).phases() == ["1 probe skipped"]


@pytest.mark.skipif(shutil.which("busybox") is None, reason="busybox is not installed (package busybox)")
@pytest.mark.skipif(bool(accounts.missing()), reason=accounts.missing())
async def test_folder_without_tar_is_put_in_place_by_root_though_another_logs_in(source: Path, tmp_path: Path) -> None:
    with accounts.open_folder() as folder:
        path = tools(folder / "bin", "tar", "busybox")
        (path / "sudo").symlink_to(shutil.which("sudo") or "")
        options = f"SetEnv SHLVL=5 PATH={path}\nSubsystem sftp internal-sftp\n"
        with (
            sshd.running(folder, options=options) as server,
            accounts.account(folder, sudo="(ALL) NOPASSWD: ALL", path=str(path)) as account,
        ):
            folder.chmod(0o755)
            credential = Credential(account.name, key_file=server.key_file)
            target = Target("bare", "127.0.0.1", server.port, credential, (server.host_key,))
            there = tmp_path / "there"
            step = f"{{do: {{file: {{path: {there}, source: site}}}}, become: %s}}"
            played = await playing.play(book(source.parent, step % "true"), [target])
            assert played.outcome.ok, played.of(1, "do")
            assert tree(there) == tree(source)
            assert {path.owner() for path in (there, *there.rglob("*"))} == {"root"}
            assert os.access(there / "program", os.X_OK)
            shutil.rmtree(there)
            refused = await playing.play(book(source.parent, step % "nobody"), [target])
            assert "only root or the account that logs in" in refused.outcome.detail
            assert not there.exists()
            assert not list((account.home / ".msp/in").iterdir())  # nothing waits there any more
