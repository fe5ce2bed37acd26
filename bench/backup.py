"""What a restore test costs: full restore with manifest against the engine's own restore, and memory at many files.

    PYTHONPATH=. python bench/backup.py restore --megabytes 1024 --rounds 3
    PYTHONPATH=. python bench/backup.py memory --files 1000000

restore: a tree of documents, noise and one large file goes into restic and borg. In turns, A B and B A, each engine
restores it by itself, and a process of its own proves it twice: on rung 2 alone and on rungs 2 and 4. The difference is
the full-restore rung (restore, hash, compare every entry), told by parts: the engine's processor seconds, ours, and,
apart, those of removing what was restored.
memory: a tree of that many small files is proven against its manifest; the peak is our own, without the programs we
start. A working folder in memory (--work /dev/shm) takes 11 GB for a million files and spares the disk.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

from msp.backup import manifest
from msp.backup.case import parse
from msp.backup.scratch import Scratch
from msp.backup.verify import verify as prove
from msp.clock import utc_now

SECRET = "bench"
CPU_LIMIT, WALL_LIMIT, MEMORY_LIMIT_MB = 1.25, 1.4, 150


def grow(tree: Path, megabytes: int) -> None:
    """Fill a tree: two thirds files of 4 KB to 4 MB, half of them text, and one large file."""
    chance, left, number = Random(5), megabytes * (1 << 20), 0
    words = " ".join(chance.choices(["invoice", "contract", "server", "total", "client"], k=4000)).encode()
    while left > megabytes * (1 << 20) // 3:
        size = min(left, 4096 << chance.randrange(11))
        folder = tree / f"d{number % 97:02}"
        folder.mkdir(parents=True, exist_ok=True)
        head = f"{number} ".encode()
        data = head + ((words * (size // len(words) + 1))[:size] if number % 2 else chance.randbytes(size))
        (folder / f"f{number}").write_bytes(data)
        left, number = left - size, number + 1
    with (tree / "large.bin").open("wb") as file:
        for _ in range(max(1, left >> 20)):
            file.write(chance.randbytes(1 << 20))


def spent(
    argv: Sequence[str], env: Mapping[str, str], cwd: Path, allowed: Sequence[int] = (0,)
) -> tuple[float, float, str]:
    """Run a program; return (processor seconds of it and its children, wall seconds, its stdout)."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(argv, env={**os.environ, **env}, cwd=cwd, capture_output=True, text=True, check=False)
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in allowed:
        raise SystemExit(f"{' '.join(argv)} ended with {done.returncode}: {done.stderr[-500:]}{done.stdout[-1500:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall, done.stdout


@contextmanager
def place(where: Path | None) -> Iterator[Path]:
    """Yield a folder that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="bench-backup-", dir=where))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def verify(work: Path, name: str, document: Mapping[str, object]) -> tuple[float, float, dict[str, object]]:
    """Prove a case in a process of its own; return (processor seconds, wall seconds, verdict object)."""
    case = work / f"{name}.json"
    case.write_text(json.dumps({"case": name, **document}))
    argv = [sys.executable, "-m", "msp", "backup", "verify", str(case), "--json", "--scratch", str(work / "scratch")]
    home = str(Path(__file__).resolve().parents[1])
    cpu, wall, said = spent(argv, {"PYTHONPATH": home, "PYTHONDONTWRITEBYTECODE": "1"}, work)
    return cpu, wall, json.loads(said.splitlines()[-1])


def processor() -> tuple[float, float, float]:
    """Return (our own processor seconds so far, those of children that have ended, the clock)."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime, children.ru_utime + children.ru_stime, time.monotonic()


def rung(case: Path) -> None:
    """Prove a case on rung 2, then on rungs 2 and 4, and print what the second took more, without the removal.

    Printed: the verdict, our own processor seconds, the engine's, the wall's, and those of removing the tree.
    """
    document, verdict, removal = json.loads(case.read_text()), "", 0.0
    remove = Scratch.remove

    def timed(space: Scratch) -> None:
        nonlocal removal
        before = processor()
        remove(space)
        removal = processor()[0] - before[0]
        marks.append(before)

    Scratch.remove = timed  # type: ignore[method-assign]
    spent_on: list[list[float]] = []
    for rungs in ([2], [2, 4]):
        marks = [processor()]
        verdict = prove(parse({**document, "rungs": rungs}, now=utc_now()), base=case.parent / "scratch").verdict
        spent_on.append([b - a for a, b in zip(*marks, strict=True)])
    print(json.dumps([verdict, *(b - a for a, b in zip(*spent_on, strict=True)), removal]))


def restore(work: Path, megabytes: int, rounds: int) -> bool:
    """Compare each engine's own restore with ours; return whether both limits hold."""
    tree, good = work / "data", True
    tree.mkdir()
    grow(tree, megabytes)
    with (work / "manifest.json").open("w", encoding="utf-8") as out:
        entries = manifest.write(manifest.walk(tree), out)
    env = {
        "RESTIC_PASSWORD": SECRET,
        "BORG_PASSPHRASE": SECRET,
        "BORG_BASE_DIR": str(work),
        "RESTIC_CACHE_DIR": str(work / "cache"),
    }
    makers = {
        "restic": [["restic", "-q", "-r", "restic", "init"], ["restic", "-q", "-r", "restic", "backup", "data"]],
        "borg": [["borg", "init", "-e", "repokey", "borg"], ["borg", "create", "borg::one", "data"]],
    }
    by_themselves = {
        "restic": ["restic", "-q", "-r", "../restic", "restore", "latest", "--target", "."],
        "borg": ["borg", "extract", "../borg::one"],
    }
    raws: dict[str, list[tuple[float, float]]] = {engine: [] for engine in makers}
    ours: dict[str, list[tuple[float, ...]]] = {engine: [] for engine in makers}
    for engine, steps in makers.items():
        for step in steps:
            spent(step, env, work)
        document = {
            "engine": engine, "repo": str(work / engine), "root": "data", "secret": SECRET,
            "expect": {"manifest": str(work / "manifest.json")},
        }  # fmt: skip
        (work / f"{engine}.json").write_text(json.dumps(document))
    print(f"{megabytes} MB, {entries} entries, {rounds} rounds in turns")
    home = {"PYTHONPATH": str(Path(__file__).resolve().parents[1]), "PYTHONDONTWRITEBYTECODE": "1"}
    for number in range(rounds):
        for engine, words in by_themselves.items():
            for turn in ("raw", "ours") if number % 2 == 0 else ("ours", "raw"):
                os.sync()  # what the turn before has written is nobody's cost here
                if turn == "raw":
                    into = work / "raw"
                    into.mkdir()
                    raws[engine].append(spent(words, env, into)[:2])
                    shutil.rmtree(into)
                    continue
                argv = [sys.executable, str(Path(__file__).resolve()), "rung", "--case", str(work / f"{engine}.json")]
                verdict, own, children, wall, removal = json.loads(spent(argv, home, work)[2])
                if verdict != "pass":
                    raise SystemExit(f"{engine}: {verdict}")
                ours[engine].append((own, children, wall, removal))
    for engine in makers:
        raw_cpu, raw_wall = (statistics.median(one[n] for one in raws[engine]) for n in (0, 1))
        own, children, our_wall, removal = (statistics.median(one[n] for one in ours[engine]) for n in range(4))
        cpu = statistics.median(one[0] + one[1] for one in ours[engine]) / raw_cpu
        wall = our_wall / raw_wall
        print(
            f"{engine}: raw {raw_cpu:.2f} s, our rung {own + children:.2f} s (the engine {children:.2f}, "
            f"we {own:.2f}): {cpu:.2f} x processor (limit {CPU_LIMIT}), {wall:.2f} x wall (limit {WALL_LIMIT}); "
            f"removal {removal:.2f} s"
        )
        good = good and cpu <= CPU_LIMIT and wall <= WALL_LIMIT
    return good


def memory(work: Path, files: int) -> bool:
    """Prove a tree of many small files; return whether our own peak stays below the limit."""
    tree = work / "data"
    began = time.monotonic()
    for number in range(files):
        if number % 1000 == 0:
            folder = tree / f"{number // 100_000:02}" / f"{number // 1000 % 100:02}"
            folder.mkdir(parents=True)
        with open(folder / f"customer-{number:07}.txt", "wb") as file:  # noqa: PTH123  a million of them
            file.write(b"%d" % number)
    with (work / "manifest.json").open("w", encoding="utf-8") as out:
        entries = manifest.write(manifest.walk(tree), out)
    print(f"{files} files, {entries} entries, made in {time.monotonic() - began:.0f} s")
    document = {"engine": "tree", "repo": str(tree), "expect": {"manifest": str(work / "manifest.json")}}
    cpu, wall, said = verify(work, "many", document)
    rungs = said["rungs"]
    if not isinstance(rungs, list) or said["verdict"] != "pass":
        raise SystemExit(f"{said['verdict']} {said['findings']}")
    peak = next(rung["figures"]["peak_rss_mb"] for rung in rungs if rung["rung"] == 4)
    print(f"verified: {said['verdict']} in {wall:.0f} s ({cpu:.0f} s processor); our own peak {peak} MB "
          f"(limit {MEMORY_LIMIT_MB})")  # fmt: skip
    return bool(peak <= MEMORY_LIMIT_MB)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("restore", "memory", "rung"))
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--case", type=Path, help="Of rung, which restore runs for each turn.")
    parser.add_argument("--work", type=Path, help="Where to put it all; it is removed at the end.")
    given = parser.parse_args()
    if given.what == "rung":
        rung(given.case)
        return 0
    with place(given.work) as work:
        good = restore(work, given.megabytes, given.rounds) if given.what == "restore" else memory(work, given.files)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
