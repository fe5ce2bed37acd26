"""What a backup engine must do. Implement `BackupEngine`; its suite is tests/backup/engine_conformance.py."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol, runtime_checkable

from msp.backup.case import Case
from msp.backup.process import Runner
from msp.backup.scratch import Scratch
from msp.backup.verdict import Finding, Picture
from msp.errors import StepFailed


class Found(StepFailed):
    """An engine cannot go on, and says why with a finding."""

    code = "found"

    def __init__(self, *findings: Finding) -> None:
        super().__init__(findings[0].what, advice=findings[0].advice)
        self.findings = findings


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One state that can be restored. `time` and `host` are None where the format does not say."""

    id: str
    time: datetime | None = None  # when the backup began; aware
    host: str | None = None
    paths: tuple[str, ...] = ()
    certain: bool = True  # False: the time is a file's date, which any copy may change
    bounds: bool = True  # False: the backup may be younger than its time says


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry of a snapshot's contents, known without restoring it. `path` is relative to the case's root."""

    path: bytes
    type: str  # as in a manifest: - d l b c p s
    size: int


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore brought back: a tree on disk, or a database that the engine keeps running until `close`."""

    tree: Path | None
    findings: tuple[Finding, ...] = ()
    seconds: float | None = None  # where the call did more than restore: what the restore alone took


@dataclass(frozen=True, slots=True)
class Probed:
    """What the application said. `age_s`: of the newest row; the recovery point as the data show it."""

    findings: tuple[Finding, ...] = ()
    age_s: float | None = None
    figures: dict[str, object] = field(default_factory=dict)
    pictures: tuple[Picture, ...] = ()


@runtime_checkable
class Samples(Protocol):
    """An engine that can bring back a few files without the rest; rung 3 needs it."""

    def restore_some(self, snapshot: Snapshot, paths: Sequence[bytes], into: Path) -> Restored:
        """Bring these files of the case's root back below the new folder `into`; a missing one is not there."""


@runtime_checkable
class Wary(Protocol):
    """An engine whose program would write wherever an archive says; rung 2 looks before anything is restored."""

    def look(self, snapshot: Snapshot) -> None:
        """Raise Found (hostile) if a name in the snapshot leads out of the folder it is restored to."""


class BackupEngine(Protocol):
    """Reads one backup. Never changes the repository, never breaks a lock, never writes outside scratch.

    Made for one restore test: `Engine(case, runner, scratch)`. Every method raises `Found` for what it finds,
    QuotaExceeded, DeadlinePassed, or Misconfigured where this machine lacks a program.
    """

    def __init__(self, case: Case, runner: Runner, scratch: Scratch) -> None: ...

    def version(self) -> str:
        """Return the program and its version, as evidence."""

    def check(self) -> tuple[Finding, ...]:
        """Rung 1: is the repository itself intact, reachable, unlocked, and opened by our key?"""

    def snapshots(self) -> list[Snapshot]:
        """Return what can be restored, oldest first."""

    def listing(self, snapshot: Snapshot) -> Iterator[Listed] | None:
        """Yield the entries below the case's root, or return None where that would cost a restore."""

    def restore(self, snapshot: Snapshot, into: Path) -> Restored:
        """Rung 4: bring the case's root back below the new folder `into`, within scratch's quota.

        A damaged backup is a finding, never an empty success.
        """

    def probe(self, restored: Restored) -> Probed:
        """Rung 5: ask the application, beyond the databases found in files."""

    def boot(self, restored: Restored) -> Probed | None:
        """Rung 6: start the restored machine; None where nothing can be booted."""

    def close(self) -> None:
        """Stop whatever still runs."""
