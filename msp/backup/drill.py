"""The planted-fault drill: faults are planted in backups made for it, and the tester must find every one.

A tester that lets a planted fault pass proves nothing with its other passes; one that fails the good backup is of no
use either, and one that finds a fault for the wrong reason found something else. Nothing of a client is touched: the
backups are made in scratch by the engine's own program, and every fault is planted in a copy.
"""

import importlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from msp import plugins
from msp.backup.case import parse
from msp.backup.process import Runner
from msp.backup.scratch import Scratch, remove, scratch
from msp.backup.verify import verify
from msp.errors import Misconfigured, MspError

#: engine -> module:bench, imported when used. A bench makes what the drill of one engine needs and yields its faults.
BENCHES = {
    "restic": "msp.backup.drills.files:restic",
    "borg": "msp.backup.drills.files:borg",
    "tar": "msp.backup.drills.files:tar",
    "tree": "msp.backup.drills.files:tree",
    "pg_dump": "msp.backup.drills.postgres:dumps",
    "pg_basebackup": "msp.backup.drills.postgres:physical",
    "mariadb_dump": "msp.backup.drills.mariadb:dumps",
    "mariabackup": "msp.backup.drills.mariadb:physical",
    "bacula": "msp.backup.drills.bacula:volumes",
    "qcow2": "msp.backup.drills.disk:qcow2",
    "raw": "msp.backup.drills.disk:raw",
    "vmdk": "msp.backup.drills.disk:vmdk",
    "vdi": "msp.backup.drills.disk:vdi",
}
ENGINES = tuple(BENCHES)
GROUP = "msp.backup_drills"  # entry points of the benches of other people's engines
SKIPPED = "skipped"
NOT_HELD = "not held"


@dataclass(frozen=True, slots=True)
class Planted:
    """One fault. `plant`: puts a backup with it into a new folder and returns its case, as JSON values.

    reasons: the tester must fail the backup and name one of these. None at all: the backup is good and must pass.
    """

    fault: str
    plant: Callable[[Path], Mapping[str, Any]]
    reasons: frozenset[str] = frozenset()


Bench = Callable[[Runner, Scratch, datetime], AbstractContextManager[Sequence[Planted]]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one fault fared. `caught`: failed as it deserves; for the good backup: passed.

    The outcome of a drill that could not be held has the verdict `skipped`, and its words say what is missing.
    """

    engine: str
    fault: str
    caught: bool
    verdict: str
    reasons: tuple[str, ...]
    words: str
    seconds: float

    @property
    def skipped(self) -> bool:
        return self.verdict == SKIPPED


def names() -> tuple[str, ...]:
    """Return the engines that have a drill: ours, then those of plug-ins."""
    return (*ENGINES, *(name for name in plugins.names(GROUP) if name not in BENCHES))


def bench(engine: str) -> Bench:
    """Return what makes an engine's backups; raises Misconfigured for an engine that has no drill."""
    if engine not in names():
        raise Misconfigured(f"There is no drill for {engine}.", advice=f"There is one for {', '.join(names())}.")
    if engine not in BENCHES:
        foreign: Bench = plugins.load(GROUP, engine)
        return foreign
    module, _, name = BENCHES[engine].partition(":")
    found: Bench = getattr(importlib.import_module(module), name)
    return found


def drill(engine: str, base: Path, now: datetime, only: Collection[str] | None = None) -> list[Outcome]:
    """Plant each fault into a backup of its own and return whether it was caught, the good backup first.

    base: folder for scratch. only: names of faults; None plants them all. Where the engine's program is not installed
    the one outcome is skipped; where it is and makes no backup, the one outcome is an error.
    Raises Misconfigured for an engine that has no drill.
    """
    made, began = bench(engine), time.monotonic()
    with scratch(base) as space, ExitStack() as stack:
        try:
            faults = stack.enter_context(made(Runner(), space, now))
        except MspError as error:  # Misconfigured: a program is missing; anything else: it is there and does not work
            verdict = SKIPPED if isinstance(error, Misconfigured) else "error"
            return [Outcome(engine, NOT_HELD, False, verdict, (), error.what, time.monotonic() - began)]
        return [tried(engine, one, space, now) for one in faults if only is None or one.fault in only]


def tried(engine: str, one: Planted, space: Scratch, now: datetime) -> Outcome:
    """Plant one fault in a folder of its own below `space`, have it tested, and return how it fared."""
    began, folder = time.monotonic(), space.folder("planted")
    try:
        document = {"engine": engine, "case": f"drill {one.fault}", **one.plant(folder)}
        result = verify(parse(document, now=now), base=space.path.parent)
    except MspError as error:
        return Outcome(engine, one.fault, False, "error", (), error.what, time.monotonic() - began)
    finally:
        remove(folder)
    if one.reasons:
        caught = result.verdict == "fail" and not one.reasons.isdisjoint(result.reasons)
    else:
        caught = result.verdict == "pass"
    words = result.findings[0].what if result.findings else "nothing to remark"
    return Outcome(engine, one.fault, caught, result.verdict, tuple(result.reasons), words, time.monotonic() - began)
