"""The generator of restore tests whose outcome is known: good backups, and backups broken in one known way each.

Six engines. `always` picks a spread that takes minutes less than the whole; MSP_TEST_MANY=1 takes the whole.
"""

import gzip
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import mariadb_shop
import postgres_shop
import sabotage
from sabotage import DAY, HOUR, LOGICAL, NOW, Document, Fault, by_borg, by_restic, by_tar, cut, flip, largest

Sources = Callable[[str], Path]  # name of a session's fixture -> folder of dumps


@dataclass(frozen=True)
class Planted:
    """One restore test to be: how its backup is made in a folder, and what a good verifier says of it."""

    engine: str
    name: str
    verdict: str
    reason: str | None
    build: Callable[[Path, Sources], Document]
    always: bool = True


def archives(tree: Path) -> None:
    """A day on which the server packs its logs and receives photos: much noise that is not encryption."""
    chance = Random(3)
    (tree / "packed").mkdir()
    for number in range(150):
        (tree / f"packed/log-{number:03}.txt.gz").write_bytes(gzip.compress(chance.randbytes(1500)))
        (tree / f"packed/photo-{number:03}.jpg").write_bytes(b"\xff\xd8\xff\xe0" + chance.randbytes(2500))
        (tree / f"packed/book-{number:03}.zip").write_bytes(b"PK\x03\x04" + chance.randbytes(1500))


def busy(tree: Path) -> None:
    """A whole week: files change, come and go, logs are packed in place of the plain ones."""
    sabotage.churn(tree)
    for path in sorted(tree.glob("mail/inbox/*.eml"))[:6]:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()


MORE = [
    Fault("good with many packed files", archives, "pass", with_manifest=False),
    Fault("good after a busy week", busy, "pass", with_manifest=False, expect={"baseline": {"files": 88}}),
]
FILES = {"restic": by_restic, "borg": by_borg, "tar": by_tar}

# Damage to a good repository; each takes the folder of work and may change the document -------------------------


def _flip(where: str, pattern: str) -> Callable[[Path, Document], Document]:
    def damage(work: Path, document: Document) -> Document:
        flip(largest(work / where, pattern))
        return document

    return damage


def _cut(where: str, pattern: str) -> Callable[[Path, Document], Document]:
    def damage(work: Path, document: Document) -> Document:
        cut(largest(work / where, pattern))
        return document

    return damage


def _lose(where: str, pattern: str) -> Callable[[Path, Document], Document]:
    def damage(work: Path, document: Document) -> Document:
        largest(work / where, pattern).unlink()
        return document

    return damage


def _secret(secret: str | None) -> Callable[[Path, Document], Document]:
    return lambda _, document: {**document, "secret": secret}


def _write(name: str, data: bytes) -> Callable[[Path, Document], Document]:
    def damage(work: Path, document: Document) -> Document:
        (work / name).write_bytes(data)
        return document

    return damage


def _again(**words: Any) -> Callable[[Path, Document], Document]:
    """Back the same source up once more, with other words."""

    def damage(work: Path, document: Document) -> Document:
        back_up: Callable[..., Document] = {"restic": by_restic, "borg": by_borg}[document["engine"]]
        back_up(work / "data", work, **words)
        return document

    return damage


def _remove(work: Path, document: Document) -> Document:
    shutil.rmtree(document["repo"])
    return document


def _borg_lock(work: Path, document: Document) -> Document:
    (work / "borg/lock.exclusive").mkdir()
    (work / "borg/lock.exclusive/other@host.1-1").touch()
    return document


def _host(name: str) -> Callable[[Path, Document], Document]:
    return lambda _, document: {**document, "expect": {**document["expect"], "host": name}}


def _age(seconds: int) -> Callable[[Path, Document], Document]:
    """Let the same backup be judged later, or earlier than it was made."""
    return lambda _, document: {**document, "now": NOW + seconds}


Damage = tuple[str, str, str | None, Callable[[Path, Document], Document]]
DAMAGE: dict[str, list[Damage]] = {
    "restic": [
        ("a pack flipped", "fail", "repository", _flip("restic/data", "*/*")),
        ("a pack was cut", "fail", "repository", _cut("restic/data", "*/*")),
        ("a pack is lost", "fail", "repository", _lose("restic/data", "*/*")),
        ("the index is lost", "fail", "repository", _lose("restic/index", "*")),
        ("the config is lost", "fail", "repository", _lose("restic", "config")),
        ("a snapshot flipped", "fail", "repository", _flip("restic/snapshots", "*")),
        ("the index flipped", "fail", "repository", _flip("restic/index", "*")),
        ("the config flipped", "fail", "repository", _flip("restic", "config")),
        ("the key flipped", "fail", "repository", _flip("restic/keys", "*")),
        ("no snapshot is left", "fail", "missing", _lose("restic/snapshots", "*")),
        ("the key is another", "error", "key", _secret("another")),
        ("the key is not given", "error", "key", _secret(None)),
        ("somebody holds a lock", "error", "locked", _write(f"restic/locks/{'0' * 64}", b"held by somebody")),
        ("it is gone", "fail", "missing", _remove),
        ("it is stale", "fail", "rpo", _age(3 * DAY)),
        ("its clock is ahead", "fail", "clock", _age(-5 * HOUR)),
        ("it is of another machine", "fail", "identity", _host("client-srv02")),
        ("good beside another machine's", "pass", None, _again(at=NOW - 60, host="other")),
    ],
    "borg": [
        ("a segment flipped", "fail", "repository", _flip("borg/data", "*/*")),
        ("a segment was cut", "fail", "repository", _cut("borg/data", "*/*")),
        ("a segment is lost", "fail", "repository", _lose("borg/data", "*/*")),
        ("the config is lost", "fail", "repository", _lose("borg", "config")),
        ("the passphrase is another", "error", "key", _secret("another")),
        ("somebody writes", "error", "locked", _borg_lock),
        (
            "somebody reads",
            "error",
            "locked",
            _write("borg/lock.roster", json.dumps({"shared": [["other@host", 1, 1]]}).encode()),
        ),
        ("it is gone", "fail", "missing", _remove),
        ("it is stale", "fail", "rpo", _age(3 * DAY)),
        ("its clock is ahead", "fail", "clock", _age(-5 * HOUR)),
        ("it is of another machine", "fail", "identity", _host("surely-not-this-machine")),
        ("good with an older one beside", "pass", None, _again(at=NOW - 2 * DAY, name="older")),
    ],
    "tar": [
        ("it flipped", "fail", "repository", _flip("", "backup.tgz")),
        ("it was cut", "fail", "repository", _cut("", "backup.tgz")),
        ("it is empty", "fail", "repository", _write("backup.tgz", b"")),
        ("it is not there", "fail", "missing", _lose("", "backup.tgz")),
        ("it is something else", "fail", "repository", _write("backup.tgz", b"not an archive")),
    ],
}


def _files() -> Iterator[Planted]:
    for number, fault in enumerate((*LOGICAL, *MORE)):
        for position, (engine, back_up) in enumerate(FILES.items()):
            yield Planted(
                engine,
                fault.name,
                fault.verdict,
                fault.reason,
                lambda work, _, fault=fault, back_up=back_up: sabotage.case(fault, work, back_up),  # type: ignore[misc]
                always=number % len(FILES) == position or fault.verdict == "pass",
            )
    for engine, damages in DAMAGE.items():
        for name, verdict, reason, damage in damages:

            def build(work: Path, _: Sources, engine: str = engine, damage: Any = damage) -> Document:
                document: Document = damage(work, sabotage.case(LOGICAL[0], work, FILES[engine]))
                if (work / "backup.tgz").exists():
                    os.utime(work / "backup.tgz", (NOW - HOUR,) * 2)  # its date is its age
                return document

            yield Planted(engine, name, verdict, reason, build)


# Databases ------------------------------------------------------------------------------------------------------

SHOPS = {
    "good": ("pass", None),
    "stale": ("fail", "rpo"),
    "half": ("fail", "application"),
    "orphans": ("fail", "application"),
    "table": ("fail", "missing"),
    "index": ("fail", "application"),
    "column": ("fail", "application"),
    "other": ("fail", "identity"),
    "empty": ("fail", "missing"),
}


def _databases() -> Iterator[Planted]:
    asked = {"postgres": {"postgres": postgres_shop.ASKED}, "mariadb": {"mariadb": mariadb_shop.ASKED}}

    def made(source: str, document: Document, name: str, change: Callable[[Path], object] = lambda _: None) -> Any:
        def build(work: Path, sources: Sources) -> Document:
            original, copy = sources(f"{source}_dumps") / name, work / name
            shutil.copytree(original, copy) if original.is_dir() else shutil.copy(original, copy)
            change(copy)
            return {**document, "file": str(copy), "expect": asked[source]}

        return build

    for number, (name, (verdict, reason)) in enumerate(SHOPS.items()):
        for position, form in enumerate(("custom", "plain")):
            build = made("postgres", {"engine": "pg_dump", "format": form}, f"{name}.{form}")
            always = name == "good" or number % 2 == position
            yield Planted("pg_dump", f"{name}, {form}", verdict, reason, build, always)
        build = made("mariadb", {"engine": "mariadb_dump"}, f"{name}.sql")
        yield Planted("mariadb_dump", name, verdict, reason, build)
        build = made("mariadb", {"engine": "mariadb_dump"}, f"{name}.sql", _packed)
        yield Planted("mariadb_dump", f"{name}, packed", verdict, reason, build, always=name == "good")
    for engine, source, name in (
        ("pg_dump", "postgres", "good.custom"),
        ("pg_dump", "postgres", "good.plain"),
        ("pg_dump", "postgres", "good.tar"),
        ("mariadb_dump", "mariadb", "good.sql"),
    ):
        for word, act in (("cut", cut), ("emptied", lambda path: os.truncate(path, 0))):
            yield Planted(engine, f"{word}, {name}", "fail", "repository", made(source, {"engine": engine}, name, act))
    build = made("postgres", {"engine": "pg_dump"}, "good.custom", flip)
    yield Planted("pg_dump", "flipped, good.custom", "fail", "repository", build)
    build = made("postgres", {"engine": "pg_dump"}, "good.directory")
    yield Planted("pg_dump", "good, directory", "pass", None, build)
    build = made("mariadb", {"engine": "mariadb_dump"}, "good.sql", mariadb_shop.cut_after_a_statement)
    yield Planted("mariadb_dump", "cut after a statement", "fail", "repository", build)
    build = made("mariadb", {"engine": "mariadb_dump"}, "good.sql", mariadb_shop.forge_its_end)
    yield Planted("mariadb_dump", "cut, with a forged end", "fail", "application", build)


def _packed(path: Path) -> None:
    path.write_bytes(gzip.compress(path.read_bytes(), 1))


# Disks ----------------------------------------------------------------------------------------------------------


def partitioned(path: Path) -> Path:
    """Write a disk of 4 MB with one partition to its end, full of noise."""
    data = bytearray(Random(1).randbytes(4 << 20))
    data[:512] = bytes(512)
    data[446:462] = bytes([0x80, 0, 0, 0, 0x83, 0, 0, 0]) + (8).to_bytes(4, "little") + (8184).to_bytes(4, "little")
    data[510:512] = b"\x55\xaa"
    path.write_bytes(bytes(data))
    return path


def _disks() -> Iterator[Planted]:
    def made(form: str, change: Callable[[Path], object] = lambda _: None, **fields: object) -> Any:
        def build(work: Path, _: Sources) -> Document:
            raw, image = partitioned(work / "disk.raw"), work / f"disk.{form}"
            if form != "raw":
                subprocess.run(["qemu-img", "convert", "-O", form, raw, image], check=True)
            digest = hashlib.sha256(image.read_bytes()).hexdigest()
            change(image)
            return {"engine": form, "file": str(image), "sha256": digest, **fields}

        return build

    def backed_by(name: str) -> Callable[[Path], None]:
        def change(image: Path) -> None:
            words = ["-u", "-b", name, "-F", "raw", image, "4M"]
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *words], check=True)

        return change

    def zeros(image: Path) -> None:
        image.unlink()
        subprocess.run(["qemu-img", "create", "-q", "-f", image.suffix[1:], image, "4M"], check=True)

    for form in ("qcow2", "raw", "vmdk"):
        yield Planted(form, "good", "pass", None, made(form))
        yield Planted(form, "flipped", "fail", "content", made(form, flip))
        yield Planted(form, "cut", "fail", "repository", made(form, cut, sha256=None))
        yield Planted(form, "nothing but zeros", "fail", "missing", made(form, zeros, sha256=None))
        yield Planted(form, "not there", "fail", "missing", made(form, Path.unlink))
    words: Document = {"sha256": None}
    yield Planted("qcow2", "reads this machine", "fail", "hostile", made("qcow2", backed_by("/etc/hostname"), **words))
    yield Planted("qcow2", "lacks its base", "fail", "missing", made("qcow2", backed_by("base.raw"), **words))


def cases() -> list[Planted]:
    """Return every restore test there is."""
    return [*_files(), *_databases(), *_disks()]


def chosen() -> list[Planted]:
    """Return those of this run."""
    many = bool(os.environ.get("MSP_TEST_MANY"))
    return [replace(planted, always=True) for planted in cases() if planted.always or many]
