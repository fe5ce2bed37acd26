"""What a restore test costs: full restore with manifest against the engine's own restore, and memory at many files.

    PYTHONPATH=. python bench/backup.py restore --megabytes 1024 --rounds 3
    PYTHONPATH=. python bench/backup.py memory --files 1000000

restore: a tree of documents, noise and one large file goes into restic and borg. In one run and in turns each engine
restores it by itself and `msp backup verify` proves it: once on rung 2 alone and once on rungs 2 and 4; the difference
is the full-restore rung (restore, hash, compare every entry). Processor seconds are of the whole process group.
memory: a tree of that many small files is
proven against its manifest; the peak is our own, without the programs we start.
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
    print(f"{megabytes} MB, {entries} entries, {rounds} rounds in turns")
    for engine, steps in makers.items():
        for step in steps:
            spent(step, env, work)
        raws: list[tuple[float, float]] = []
        ours: list[tuple[float, float]] = []
        whole: list[float] = []
        document = {
            "engine": engine, "repo": str(work / engine), "root": "data", "secret": SECRET, "rungs": [2, 4],
            "expect": {"manifest": str(work / "manifest.json")},
        }  # fmt: skip
        for _ in range(rounds):
            into = work / "raw"
            into.mkdir()
            words = ["restic", "-q", "-r", "../restic", "restore", "latest", "--target", "."]
            if engine == "borg":
                words = ["borg", "extract", "../borg::one"]
            cpu, wall, _said = spent(words, env, into)
            raws.append((cpu, wall))
            shutil.rmtree(into)
            base_cpu, base_wall, _base = verify(work, engine, {**document, "rungs": [2]})
            cpu, wall, said = verify(work, engine, document)
            whole.append(cpu)
            if said["verdict"] != "pass":
                raise SystemExit(f"{engine}: {said['verdict']} {said['findings']}")
            ours.append((cpu - base_cpu, wall - base_wall))
        cpu, wall = (
            statistics.median(one[n] for one in ours) / statistics.median(one[n] for one in raws) for n in (0, 1)
        )
        raw_cpu, our_cpu = (statistics.median(one[0] for one in each) for each in (raws, ours))
        print(f"{engine}: raw {raw_cpu:.2f} s, our rung {our_cpu:.2f} s: {cpu:.2f} x processor (limit {CPU_LIMIT}), "
              f"{wall:.2f} x wall (limit {WALL_LIMIT}); whole test {statistics.median(whole):.2f} s")  # fmt: skip
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
    parser.add_argument("what", choices=("restore", "memory"))
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--work", type=Path, help="Where to put it all; it is removed at the end.")
    given = parser.parse_args()
    with place(given.work) as work:
        good = restore(work, given.megabytes, given.rounds) if given.what == "restore" else memory(work, given.files)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
