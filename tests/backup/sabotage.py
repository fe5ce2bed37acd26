"""Backups that are good, and backups that are broken in one known way, with the verdict each deserves.

The faults are planted in real repositories; what is expected of a verifier is written down here, independently of it.
"""

import contextlib
import gzip
import json
import os
import shutil
import sqlite3
import subprocess
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

from msp.backup import manifest

NOW = 1_790_000_000  # seconds since 1970; every source file is older, every snapshot an hour old
HOUR, DAY = 3600, 86400
HOST = "client-srv01"
Document = dict[str, Any]


def source(place: Path) -> Path:
    """Build a small file server: texts, archives, a database, links, odd names; all of it older than NOW."""
    tree = place / "data"
    chance = Random(7)
    for folder in ("docs", "mail/inbox", "www", "odd names"):
        (tree / folder).mkdir(parents=True)
    for number in range(30):
        words = " ".join(chance.choices(["invoice", "contract", "server", "Straße", "счёт", "total"], k=150))
        (tree / f"docs/report-{number:02}.txt").write_text(words + "\n")
    for number in range(12):
        rows = "".join(f"{row},{chance.randrange(10**6)},{chance.random():.6f}\n" for row in range(60))
        (tree / f"docs/table-{number:02}.csv").write_text(rows)
        (tree / f"mail/inbox/{number}.eml").write_text(f"From: a@example.org\n\nHello {number}\n" * 6)
        (tree / f"www/photo-{number}.jpg").write_bytes(b"\xff\xd8\xff\xe0" + chance.randbytes(5000))
        (tree / f"www/log-{number}.txt.gz").write_bytes(gzip.compress(chance.randbytes(3000)))
        (tree / f"www/blob-{number}.bin").write_bytes(zlib.compress(chance.randbytes(3000)))
    for name in (b"caf\xe9.txt", b"line\nbreak.txt", b"-rf", b"quote'\".txt"):
        Path(os.fsdecode(bytes(tree / "odd names") + b"/" + name)).write_text("odd\n")
    database = sqlite3.connect(tree / "app.sqlite")
    with database:
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, created INTEGER, note TEXT)")
        rows_of = [(n, NOW - 2 * HOUR - n, f"order {n} " * 5) for n in range(1, 801)]
        database.executemany("INSERT INTO orders VALUES (?, ?, ?)", rows_of)
        database.execute("CREATE INDEX orders_created ON orders (created)")
    database.close()
    (tree / "latest").symlink_to("docs/report-00.txt")
    (tree / "dangling").symlink_to("/nowhere/at/all")
    os.link(tree / "docs/report-01.txt", tree / "docs/report-01-again.txt")
    (tree / "docs/secret.txt").write_text("keys\n" * 20)
    (tree / "docs/secret.txt").chmod(0o600)
    with contextlib.suppress(OSError):
        os.setxattr(tree / "docs/secret.txt", "user.origin", b"vault")
    os.mkfifo(tree / "pipe")
    settle(tree)
    return tree


def settle(tree: Path, when: int = NOW - 3 * DAY) -> None:
    """Give everything below the same time of change."""
    for folder, _, names in os.walk(os.fsencode(tree), topdown=False):
        for name in (*names, b""):
            os.utime((folder + b"/" + name).rstrip(b"/"), (when, when), follow_symlinks=False)


def write_manifest(tree: Path, file: Path) -> Path:
    with file.open("w", encoding="utf-8") as out:
        manifest.write(manifest.walk(tree), out)
    return file


# What happens to the source before it is backed up ------------------------------------------------------------


def texts(tree: Path) -> list[Path]:
    return sorted([*tree.glob("docs/*.txt"), *tree.glob("docs/*.csv"), *tree.glob("mail/inbox/*.eml")])


def keep_times(change: Callable[[Path], None]) -> Callable[[Path], None]:
    def changed(tree: Path) -> None:
        change(tree)
        settle(tree)

    return changed


def nothing(tree: Path) -> None:
    """The source is backed up as it is."""


def lose_a_file(tree: Path) -> None:
    (tree / "docs/report-07.txt").unlink()


def lose_a_folder(tree: Path) -> None:
    shutil.rmtree(tree / "mail")


def lose_everything(tree: Path) -> None:
    shutil.rmtree(tree)
    tree.mkdir()


def lose_half(tree: Path) -> None:
    for path in [path for path in sorted(tree.rglob("*")) if path.is_file() and not path.is_symlink()][::2]:
        path.unlink()
    for path in sorted(tree.glob("www/*"))[::2]:
        path.unlink()


def flip_a_byte(tree: Path) -> None:
    path = tree / "docs/report-03.txt"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(bytes(data))


def cut_a_file(tree: Path) -> None:
    os.truncate(tree / "www/photo-3.jpg", 1000)


def empty_a_file(tree: Path) -> None:
    os.truncate(tree / "docs/table-03.csv", 0)


def older_version(tree: Path) -> None:
    path = tree / "docs/report-05.txt"
    path.write_text("last year's report\n")
    os.utime(path, (NOW - 300 * DAY,) * 2)


def retarget(tree: Path) -> None:
    (tree / "latest").unlink()
    (tree / "latest").symlink_to("docs/report-09.txt")


def scramble(tree: Path) -> None:
    for number, path in enumerate(texts(tree)):
        path.write_bytes(Random(number).randbytes(path.stat().st_size))


def scramble_some(tree: Path) -> None:
    for number, path in enumerate(texts(tree)[::3]):
        path.write_bytes(Random(number).randbytes(path.stat().st_size))


def scramble_and_rename(tree: Path) -> None:
    scramble(tree)
    for path in texts(tree):
        path.rename(path.with_name(path.name + ".locked"))


def open_modes(tree: Path) -> None:
    (tree / "docs/secret.txt").chmod(0o777)


def lose_attribute(tree: Path) -> None:
    os.removexattr(tree / "docs/secret.txt", "user.origin")


def part_links(tree: Path) -> None:
    path = tree / "docs/report-01-again.txt"
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)


def lose_rows(tree: Path) -> None:
    with sqlite3.connect(tree / "app.sqlite") as database:
        database.execute("DELETE FROM orders WHERE id > 100")
    database.close()


def stale_rows(tree: Path) -> None:
    with sqlite3.connect(tree / "app.sqlite") as database:
        database.execute("UPDATE orders SET created = created - 864000")
    database.close()


def tear_database(tree: Path) -> None:
    data = bytearray((tree / "app.sqlite").read_bytes())
    data[8192 : 8192 + 4096] = b"\xa5" * 4096
    (tree / "app.sqlite").write_bytes(bytes(data))


def lose_database(tree: Path) -> None:
    (tree / "app.sqlite").unlink()


def collide(tree: Path) -> None:
    (tree / "docs/Invoice.txt").write_text("one\n")
    (tree / "docs/invoice.TXT").write_text("two\n")


def reserve(tree: Path) -> None:
    (tree / "docs/aux.txt").write_text("one\n")


def churn(tree: Path) -> None:
    """An ordinary day: some files change, some come, few go."""
    for number in range(5):
        (tree / f"docs/report-{number:02}.txt").write_text(f"rewritten {number}\n" * 80)
        (tree / f"docs/new-{number}.txt").write_text(f"new {number}\n" * 80)
    (tree / "docs/report-29.txt").unlink()


SQLITE = [
    {"path": "app.sqlite", "query": "select count(*) from orders", "min": 800},
    {"path": "app.sqlite", "query": "select max(created) from orders", "fresh_within_s": DAY},
]
BASELINE = {"baseline": {"files": 88, "bytes": 200_000}}


@dataclass(frozen=True)
class Fault:
    """One state of the source, what is asserted of it, and what a good verifier says."""

    name: str
    before: Callable[[Path], None]  # happens to the source before the backup
    verdict: str
    reason: str | None = None
    with_manifest: bool = True  # of the source as it was before the fault
    manifest_after: bool = False  # of the source as it is after the backup and `after`
    after: Callable[[Path], None] = nothing
    expect: Document | None = None


def drift(tree: Path) -> None:
    """The source lives on between snapshot and manifest."""
    for number in range(4):
        path = tree / f"docs/report-{number:02}.txt"
        path.write_text("changed after the backup\n")
        os.utime(path, (NOW - 60, NOW - 60))
    (tree / "docs/born-later.txt").write_text("new\n")
    os.utime(tree / "docs/born-later.txt", (NOW - 60, NOW - 60))


LOGICAL = [
    Fault("good", nothing, "pass", expect={"sqlite": SQLITE, **BASELINE}),
    Fault("good without a manifest", nothing, "pass", with_manifest=False),
    Fault("good with names for linux", collide, "pass", with_manifest=False, expect={"target_os": "linux"}),
    Fault("good after an ordinary day", churn, "pass", with_manifest=False, expect=BASELINE),
    Fault("good while the source lives on", nothing, "pass", with_manifest=False, manifest_after=True, after=drift),
    Fault("a file is missing", lose_a_file, "fail", "missing"),
    Fault("a folder is missing", lose_a_folder, "fail", "missing"),
    Fault("the mount was lost", lose_everything, "fail", "missing"),
    Fault("the mount was lost, no manifest", lose_everything, "fail", "missing", with_manifest=False),
    Fault("the mount was lost, by baseline", lose_everything, "fail", "baseline", with_manifest=False, expect=BASELINE),
    Fault("half is gone", lose_half, "fail", "baseline", with_manifest=False, expect=BASELINE),
    Fault("a byte flipped", keep_times(flip_a_byte), "fail", "content"),
    Fault("a file was cut", keep_times(cut_a_file), "fail", "content"),
    Fault("a file is empty", cut_a_file, "fail", "content"),
    Fault("an old version", older_version, "fail", "content"),
    Fault("a link points elsewhere", retarget, "fail", "content"),
    Fault("scrambled", scramble, "fail", "ransomware", with_manifest=False),
    Fault("scrambled in part", scramble_some, "fail", "ransomware", with_manifest=False),
    Fault("scrambled, with manifest", scramble, "fail", "ransomware"),
    Fault("scrambled, times kept", keep_times(scramble), "fail", "content"),
    Fault("scrambled and renamed", scramble_and_rename, "fail", "ransomware", with_manifest=False),
    Fault("scrambled and renamed, manifest", scramble_and_rename, "fail", "ransomware"),
    Fault("modes are open", open_modes, "warn", "metadata"),
    Fault("an attribute is lost", keep_times(lose_attribute), "warn", "metadata"),
    Fault("hard links are parted", keep_times(part_links), "warn", "metadata"),
    Fault("rows are missing", lose_rows, "fail", "application", with_manifest=False, expect={"sqlite": SQLITE}),
    Fault("rows are stale", stale_rows, "fail", "rpo", with_manifest=False, expect={"sqlite": SQLITE}),
    Fault("the database is torn", tear_database, "fail", "application", with_manifest=False, expect={"sqlite": SQLITE}),
    Fault("the database is gone", lose_database, "fail", "application", with_manifest=False, expect={"sqlite": SQLITE}),
    Fault("names collide", collide, "warn", "portability", with_manifest=False, expect={"target_os": "windows"}),
    Fault("a name is reserved", reserve, "warn", "portability", with_manifest=False, expect={"target_os": "windows"}),
    Fault("more than the quota", nothing, "error", "quota", expect={"scratch_quota_bytes": 50_000}),
    Fault("slower than promised", nothing, "fail", "rto", expect={"rto_s": 0}),
]

Backup = Callable[[Path, Path], Document]


def case(fault: Fault, work: Path, back_up: Backup) -> Document:
    """Build the source, plant the fault, back it up, and return the case document."""
    tree = source(work)
    expect: Document = dict(fault.expect or {})
    if fault.with_manifest:
        expect["manifest"] = str(write_manifest(tree, work / "manifest.json"))
    fault.before(tree)
    document = back_up(tree, work)
    fault.after(tree)
    if fault.manifest_after:
        expect["manifest"] = str(write_manifest(tree, work / "manifest.json"))
    if any(path in fault.name for path in ("names collide", "reserved")):
        shutil.rmtree(tree / "odd names", ignore_errors=True)
    return {"case": fault.name, "now": NOW, **document, "expect": {**document.get("expect", {}), **expect}}


# Engines ------------------------------------------------------------------------------------------------------


def by_tar(tree: Path, work: Path) -> Document:
    words = ["--format=posix", "--xattrs", "--xattrs-include=*", "-czf", str(work / "backup.tgz")]
    subprocess.run(["tar", *words, "-C", str(tree.parent), tree.name], check=True)
    os.utime(work / "backup.tgz", (NOW - HOUR,) * 2)
    return {"engine": "tar", "file": str(work / "backup.tgz"), "root": tree.name, "expect": {"rpo_s": DAY}}


def by_copy(tree: Path, work: Path) -> Document:
    subprocess.run(["cp", "-a", str(tree), str(work / "copy")], check=True)
    return {"engine": "tree", "repo": str(work / "copy")}


def restic(work: Path, *words: str, cwd: Path | None = None) -> str:
    env = {**os.environ, "RESTIC_PASSWORD": "secret", "RESTIC_REPOSITORY": str(work / "restic"), "TZ": "UTC"}
    done = subprocess.run(["restic", "--no-cache", "-q", *words], env=env, cwd=cwd, check=True, capture_output=True)
    return done.stdout.decode()


def instant(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"


def by_restic(tree: Path, work: Path, *, at: int = NOW - HOUR, host: str = HOST) -> Document:
    if not (work / "restic").exists():
        restic(work, "init")
    restic(work, "backup", tree.name, "--host", host, "--time", instant(at), cwd=tree.parent)
    return {
        "engine": "restic",
        "repo": str(work / "restic"),
        "secret": "secret",
        "root": tree.name,
        "expect": {"host": HOST, "rpo_s": DAY},
    }


def borg(work: Path, *words: str, cwd: Path | None = None) -> None:
    env = {**os.environ, "BORG_PASSPHRASE": "secret", "BORG_BASE_DIR": str(work / "borg-home"), "TZ": "UTC"}
    subprocess.run(["borg", *words], env=env, cwd=cwd, check=True, capture_output=True)


def by_borg(tree: Path, work: Path, *, at: int = NOW - HOUR, name: str = "daily") -> Document:
    if not (work / "borg").exists():
        borg(work, "init", "-e", "repokey", str(work / "borg"))
    words = ["--timestamp", instant(at).replace(" ", "T"), f"{work / 'borg'}::{name}", tree.name]
    borg(work, "create", *words, cwd=tree.parent)
    return {
        "engine": "borg",
        "repo": str(work / "borg"),
        "secret": "secret",
        "root": tree.name,
        "expect": {"rpo_s": DAY},
    }


# Damage to the backup itself ------------------------------------------------------------------------------------


def flip(path: Path, at: int | None = None) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if at is None else at] ^= 0x10
    path.chmod(0o600)
    path.write_bytes(bytes(data))


def cut(path: Path, share: float = 0.6) -> None:
    path.chmod(0o600)
    os.truncate(path, int(path.stat().st_size * share))


def largest(folder: Path, pattern: str) -> Path:
    return max((path for path in folder.glob(pattern) if path.is_file()), key=lambda path: path.stat().st_size)


def fingerprint(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return what would show that somebody touched a repository."""
    found = {}
    for path in sorted(folder.rglob("*")):
        info = path.lstat()
        found[str(path)] = (info.st_size, info.st_mtime_ns, info.st_mode)
    return found


# Hostile archives -----------------------------------------------------------------------------------------------


def hostile_tar(path: Path, *members: tuple[str, Document, bytes]) -> Document:
    """Write an archive with one honest member and the given ones: (name, fields of its header, content)."""
    with tarfile.open(path, "w:gz") as archive:
        for name, fields, content in (("data/honest.txt", {}, b"fine\n"), *members):
            header = tarfile.TarInfo(name)
            header.size = len(content)
            for field, value in fields.items():
                setattr(header, field, value)
            archive.addfile(header, BytesIO(content))
    return {"case": path.name, "engine": "tar", "file": str(path), "root": "data", "now": NOW}


def write_case(document: Document, work: Path) -> Path:
    path = work / "case.json"
    path.write_text(json.dumps(document))
    return path
