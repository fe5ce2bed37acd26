"""kill -9 at random moments of a restore test: after the sweep nothing is left, and the repository is as it was.

MSP_TEST_MANY=1 kills each engine's test at 20 moments; otherwise at two.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import bacula
import mariadb_shop
import postgres_shop
import pytest
from planted import partitioned
from sabotage import NOW, Document, by_borg, by_copy, by_restic, by_tar, fingerprint, source, write_case, write_manifest

from msp.backup.scratch import sweep

pytestmark = [pytest.mark.server, pytest.mark.slow]
MOMENTS = 20 if os.environ.get("MSP_TEST_MANY") else 2
MSP = "from msp.console import main; main()"
GONE_AFTER = 10  # seconds in which the programs of a killed test go by themselves; the sweep ends what has not

Sources = Callable[[str], Path]


def files(back_up: Callable[[Path, Path], Document]) -> Callable[[Path, Sources], Document]:
    def build(work: Path, _: Sources) -> Document:
        tree = source(work)
        chance = Random(2)
        for number in range(200):
            (tree / f"docs/more-{number}.bin").write_bytes(chance.randbytes(100_000))
        document = back_up(tree, work)
        expect = {**document.get("expect", {}), "manifest": str(write_manifest(tree, work / "manifest.json"))}
        return {**document, "now": NOW, "expect": expect}

    return build


def disk(work: Path, _: Sources) -> Document:
    raw = partitioned(work / "disk.raw")
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, work / "disk.qcow2"], check=True)
    boot = {"marker": "login:", "timeout_s": 3}  # it never starts; QEMU is killed at work
    return {"engine": "qcow2", "file": str(work / "disk.qcow2"), "expect": {"boot": boot}}


def dumped(fixture: str, name: str, engine: str, asked: Document) -> Callable[[Path, Sources], Document]:
    def build(work: Path, sources: Sources) -> Document:
        original = sources(fixture) / name
        copy = shutil.copytree if original.is_dir() else shutil.copy
        return {"engine": engine, "file": str(copy(original, work / name)), "expect": asked}

    return build


def by_bacula(work: Path, sources: Sources) -> Document:
    server: bacula.Bacula = sources("bacula_server")  # type: ignore[assignment]
    root = str(server.source).lstrip("/")
    return {"engine": "bacula", "repo": str(server.console), "client": bacula.CLIENT, "root": root}


SHOP, GOOD = {"postgres": postgres_shop.ASKED}, {"postgres": {**postgres_shop.ASKED, "database": "good"}}
LIKEWISE = {"mariadb": mariadb_shop.ASKED}
ENGINES: dict[str, tuple[str, Callable[[Path, Sources], Document]]] = {
    "restic": ("restic", files(by_restic)),
    "borg": ("borg", files(by_borg)),
    "tar": ("tar", files(by_tar)),
    "tree": ("cp", files(by_copy)),
    "pg_dump": ("pg_dump", dumped("postgres_dumps", "good.custom", "pg_dump", SHOP)),
    "pg_basebackup": ("pg_basebackup", dumped("postgres_backups", "tar", "pg_basebackup", GOOD)),
    "mariadb_dump": ("mariadb", dumped("mariadb_dumps", "good.sql", "mariadb_dump", LIKEWISE)),
    "mariabackup": ("mariadb-backup", dumped("mariadb_backups", "good", "mariabackup", LIKEWISE)),
    "bacula": ("bconsole", by_bacula),
    "qcow2": ("qemu-system-x86_64", disk),
}
GROUPS = {"pg_dump": "postgres", "pg_basebackup": "postgres", "bacula": "bacula"}
GROUPS |= {"mariadb_dump": "mariadb", "mariabackup": "mariadb"}


@pytest.fixture
def base() -> Iterator[Path]:
    """Scratch whose name is short and whose parents every account may enter."""
    path = Path(tempfile.mkdtemp(prefix="msp-kill-", dir="/tmp"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def at_work(base: Path) -> list[str]:
    """Return the command lines of all living programs that name `base` or stand in it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            where = str((process / "cwd").readlink())
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
            if (
                state != "Z"
                and int(process.name) != os.getpid()
                and (str(base) in words or where.startswith(str(base)))
            ):
                found.append(words)
    return found


def start(case: Path, base: Path) -> "subprocess.Popen[bytes]":
    argv = [sys.executable, "-c", MSP, "backup", "verify", str(case), "--scratch", str(base / "s")]
    return subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "engine", [pytest.param(name, marks=pytest.mark.xdist_group(GROUPS.get(name, name))) for name in ENGINES]
)
def test_a_killed_test_leaves_nothing_and_changes_nothing(
    engine: str, request: pytest.FixtureRequest, tmp_path: Path, base: Path
) -> None:
    program, build = ENGINES[engine]
    if shutil.which(program, path="/usr/sbin:/usr/bin:/bin:/usr/lib/postgresql/15/bin") is None:
        pytest.skip(f"{program} is not installed")
    document = build(tmp_path, request.getfixturevalue)
    place = Path(document["repo"]).parent / "volumes" if engine == "bacula" else tmp_path
    case = write_case(document, base)
    began = time.monotonic()
    whole = start(case, base)
    assert whole.wait(300) in (0, 1), whole.stderr and whole.stderr.read()
    assert list((base / "s").iterdir()) == []
    took, chance, left = time.monotonic() - began, Random(engine), 0
    before = fingerprint(place)
    for _ in range(MOMENTS):
        test = start(case, base)
        time.sleep(chance.uniform(0.15, 0.98) * took)
        test.send_signal(signal.SIGKILL)
        test.wait()
        ends = time.monotonic() + GONE_AFTER
        while at_work(base) and time.monotonic() < ends:
            time.sleep(0.05)
        left += len(sweep(base / "s"))
        assert at_work(base) == []
        assert list((base / "s").iterdir()) == []
        assert fingerprint(place) == before
    if MOMENTS == 20:
        assert left >= 3, f"only {left} of {MOMENTS} kills hit a test at work"
        print(f"{engine}: {MOMENTS} kills, {left} left something that was swept; one test took {took:.1f} s")


def test_the_signal_reaches_the_programs_of_a_test(tmp_path: Path, base: Path) -> None:
    """The proof above can fail: while a test runs, its programs are seen."""
    case = write_case(disk(tmp_path, lambda name: Path(name)), base)
    test = start(case, base)
    try:
        ends = time.monotonic() + 60
        while not any("qemu-system" in words for words in at_work(base)) and time.monotonic() < ends:
            time.sleep(0.05)
        assert any("qemu-system" in words for words in at_work(base))
        assert sweep(base / "s") == []
    finally:
        test.kill()
        test.wait()
