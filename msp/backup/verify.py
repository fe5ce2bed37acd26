"""One restore test from end to end: climbs the ladder, stops at the first failure, goes on past a warning.

Whatever goes wrong with the test itself is an error: never a pass, and never the backup's fault.
"""

import errno
import hashlib
import json
import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, timedelta
from pathlib import Path
from random import Random
from typing import Any

from msp.backup import baseline, engines, live, manifest, sample
from msp.backup.assertions import sqlite
from msp.backup.case import Case
from msp.backup.compare import Comparison, merge
from msp.backup.engine import BackupEngine, Found, Restored, Samples, Snapshot, Wary
from msp.backup.manifest import Entry, shown
from msp.backup.portability import Portability
from msp.backup.process import Runner
from msp.backup.ransomware import Suspicion
from msp.backup.scratch import Scratch, default_base, scratch
from msp.backup.verdict import Finding, Picture, Result, Rung, Weight
from msp.clock import utc_now
from msp.errors import Misconfigured, MspError, NotFound

CLOCK_SLACK = timedelta(minutes=5)
OFFICIAL = {"quota": "quota", "deadline": "restore"}  # codes of errors -> reasons


def choose(snapshots: list[Snapshot], host: str | None, root: str) -> Snapshot:
    """Return the newest snapshot of the host that holds the root; raises Found if there is none. Pure.

    snapshots: oldest first. Where no snapshot names a path that fits, the newest of the host is taken.
    """
    if not snapshots:
        raise Found(Finding("missing", "The repository holds no snapshot.", advice="Look at the backup job."))
    known = [snapshot for snapshot in snapshots if snapshot.host is not None]
    if host is not None and known:
        mine = [snapshot for snapshot in snapshots if snapshot.host == host]
        if not mine:
            others = sorted({str(snapshot.host) for snapshot in known})
            what = f"No snapshot is of host {host}; the newest is of {known[-1].host}."
            raise Found(Finding("identity", what, ", ".join(others[:10]), "Look which machine writes here."))
        snapshots = mine
    fitting = [snapshot for snapshot in snapshots if _holds(snapshot, root)]
    return (fitting or snapshots)[-1]


def _holds(snapshot: Snapshot, root: str) -> bool:
    if not root or not snapshot.paths:
        return True
    wanted = f"/{root}"
    for path in snapshot.paths:
        have = "/" + path.strip("/")
        if have.endswith(wanted) or wanted.startswith(have + "/") or have.startswith(wanted + "/"):
            return True
    return False


def age_findings(case: Case, snapshot: Snapshot) -> tuple[list[Finding], float | None]:
    """Return what the snapshot's time means, and its age in seconds. Pure."""
    promised = case.expect.rpo_s
    if snapshot.time is None or (not snapshot.certain and promised is None):
        return [], None
    age = (case.now - snapshot.time).total_seconds()
    if snapshot.time > case.now + CLOCK_SLACK:
        what = f"The snapshot is dated {snapshot.time.isoformat()}, after the time of the test, so its age is unknown."
        return [Finding("clock", what, snapshot.id, "Set the clock of the machine that writes the backup.")], age
    if promised is not None and age > promised:
        what = f"The newest snapshot is {age:.0f} s old, at most {promised:.0f} s was promised."
        return [Finding("rpo", what, snapshot.id, "Look why no newer backup was made.")], age
    return [], age


@dataclass
class _Climb:
    """The state of one test on its way up."""

    case: Case
    runner: Runner
    space: Scratch
    engine: BackupEngine
    source: live.Source | None = None
    rungs: list[Rung] = field(default_factory=list)
    snapshot: Snapshot | None = None
    restored: Restored | None = None
    rto: float | None = None
    rpo: float | None = None
    files: int = 0
    bytes: int = 0
    pictures: tuple[Picture, ...] = ()
    measured: bool = False  # the baseline was compared already, from the listing

    @property
    def stopped(self) -> bool:
        return any(rung.verdict in ("fail", "error") for rung in self.rungs)

    def climb(self) -> None:
        """Go up rung by rung; a failure or an error ends it."""
        for number, step in (
            (1, self.repository),
            (2, self.metadata),
            (3, self.sample),
            (4, self.full),
            (5, self.application),
            (6, self.boot),
        ):
            needed = number == 2 and max(self.case.rungs) > 2  # a restore needs a snapshot
            if number == 3 and 4 in self.case.rungs:  # a full restore compares them all
                continue
            if number in self.case.rungs or needed:
                self.step(number, step)
            if self.stopped:
                return

    def step(self, number: int, step: Callable[[dict[str, Any]], list[Finding] | None]) -> None:
        """Take one rung and note what it found; a rung that does not apply leaves no trace."""
        began, before, full_before = time.monotonic(), len(self.runner.commands), self.runner.no_room
        figures: dict[str, Any] = {}
        findings: list[Finding] | None
        try:
            findings = step(figures)
        except Found as found:
            findings = list(found.findings)
        except MspError as error:
            reason = OFFICIAL.get(error.code, "restore")
            findings = [Finding(reason, error.what, advice=error.advice, weight=Weight.ERROR)]
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            what = f"The test could not go on: {error.strerror or error}."
            where = shown(os.fsencode(error.filename)) if isinstance(error.filename, str | bytes) else ""
            advice = "Make room for scratch." if full else "Check rights and disk of scratch."
            findings = [Finding("quota" if full else "restore", what, where, advice, Weight.ERROR)]
        except Exception as error:  # noqa: BLE001  a tester that breaks must say so, not print a traceback
            what = f"The test itself broke: {type(error).__name__}: {error}."
            findings = [Finding("restore", what, advice="Report this with the case.", weight=Weight.ERROR)]
        if self.runner.no_room > full_before and any(one.weight is Weight.FAIL for one in findings or ()):
            findings = [_no_room(findings or [])]
        if findings is not None:
            commands = tuple(self.runner.commands[before:])
            self.rungs.append(Rung(number, time.monotonic() - began, tuple(findings), tuple(figures.items()), commands))

    def repository(self, figures: dict[str, Any]) -> list[Finding]:
        return list(self.engine.check())

    def metadata(self, figures: dict[str, Any]) -> list[Finding]:
        snapshots = self.engine.snapshots()
        self.snapshot = choose(snapshots, self.case.expect.host, self.case.root)
        figures["snapshots"] = len(snapshots)
        figures["time"] = self.snapshot.time.isoformat() if self.snapshot.time else None
        figures["host"] = self.snapshot.host
        findings, self.rpo = age_findings(self.case, self.snapshot)
        if self.case.expect.baseline is not None or self.space.quota is not None:
            findings += self._listing(self.snapshot, figures)
        if isinstance(self.engine, Wary):
            self.engine.look(self.snapshot)
        return findings

    def _listing(self, snapshot: Snapshot, figures: dict[str, Any]) -> list[Finding]:
        listing = self.engine.listing(snapshot)
        if listing is None:
            return []
        files = size = entries = 0
        for item in listing:
            entries += 1
            if item.type == "-":
                files, size = files + 1, size + item.size
        figures.update(entries=entries, files=files, bytes=size)
        expected = self.case.expect.baseline
        findings = baseline.against(expected, files, size) if expected else []
        self.measured = True
        if not findings and max(self.case.rungs) > 2:
            self.space.require(size)
        return findings

    def sample(self, figures: dict[str, Any]) -> list[Finding] | None:
        """Bring back some files, those that changed lately more often, and compare them with the manifest."""
        assert self.snapshot is not None  # noqa: S101  rung 2 went before
        if not isinstance(self.engine, Samples):
            return None
        expect = self.case.expect
        if expect.manifest:
            every: Iterator[Entry] = manifest.in_order(expect.manifest, self.space.path)
        else:
            every = (Entry(item.path, item.type, size=item.size) for item in self.engine.listing(self.snapshot) or ())
        drawn = sample.draw(every, self.case.now, Random())  # noqa: S311  a sample, not a secret
        if not drawn:
            return [Finding("missing", "There is no file to sample.", advice="Was the source mounted?")]
        into = self.space.folder("sample")
        self.space.require(sum(entry.size or 0 for entry in drawn))
        restored = self.engine.restore_some(self.snapshot, [entry.path for entry in drawn], into)
        if restored.findings:
            return list(restored.findings)
        bounds = self.snapshot.time if self.snapshot.bounds else None
        comparison = Comparison(bounds.timestamp() if bounds else None, owners=os.geteuid() == 0)
        unread: list[str] = []
        found = manifest.walk(
            restored.tree or into, own=True, on_error=lambda path, error: unread.append(f"{shown(path)}: {error}")
        )
        files = (entry for entry in found if entry.type != "d")
        restored_files: list[Entry] = []
        for wanted, entry in merge((replace(one, hardlink=None) for one in drawn), files):
            comparison.add(wanted, entry)
            if entry is not None and entry.type == "-":
                restored_files.append(entry)
                self.files, self.bytes = self.files + 1, self.bytes + (entry.size or 0)
        figures.update(
            drawn=len(drawn), compared=comparison.entries, against="manifest" if expect.manifest else "listing"
        )
        findings = comparison.findings() + self._live(restored_files, figures)
        if unread:
            findings.append(Finding("restore", f"{len(unread)} restored files cannot be read.", "; ".join(unread[:10])))
        return findings

    def _live(self, restored: list[Entry], figures: dict[str, Any]) -> list[Finding]:
        """Compare restored files with the source itself, if the case says where it lies."""
        wanted = self.case.expect.live
        if wanted is None or self.source is None:
            return []
        taken = self.snapshot.time.timestamp() if self.snapshot and self.snapshot.time else None
        where = f"{wanted.root} on {wanted.on}" if wanted.on else str(wanted.root)
        return live.against(self.source, restored, where=where, snapshot=taken, figures=figures)

    def full(self, figures: dict[str, Any]) -> list[Finding]:
        assert self.snapshot is not None  # noqa: S101  rung 2 went before
        into = self.space.folder("restored")
        began = time.monotonic()
        self.restored = self.engine.restore(self.snapshot, into)
        self.rto = time.monotonic() - began if self.restored.seconds is None else self.restored.seconds
        findings = list(self.restored.findings)
        if any(finding.weight > Weight.WARN for finding in findings):
            if self.restored.tree is not None:
                self._count(self.restored.tree)
                figures.update(restored_files=self.files, restored_bytes=self.bytes)
            return findings
        promised = self.case.expect.rto_s
        if promised is not None and self.rto > promised:
            what = f"The restore took {self.rto:.2f} s, at most {promised:g} s was promised."
            findings.append(Finding("rto", what, advice="Restore from a nearer copy, or promise less."))
        if self.restored.tree is not None:
            findings += self._tree(self.restored.tree, figures)
        figures["peak_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        return findings

    def _count(self, tree: Path) -> None:
        for folder, _, names in os.walk(os.fsencode(tree)):
            for name in names:
                info = os.lstat(os.path.join(folder, name))  # noqa: PTH118  names are bytes
                self.files, self.bytes = self.files + 1, self.bytes + info.st_size

    def _tree(self, tree: Path, figures: dict[str, Any]) -> list[Finding]:
        """Walk the restored tree once: compare, look for encryption, judge names, count."""
        expect = self.case.expect
        comparison = Comparison(
            self.snapshot.time.timestamp() if self.snapshot and self.snapshot.time and self.snapshot.bounds else None,
            owners=os.geteuid() == 0,
            same_file=lambda a, b: _same_file(os.fsencode(tree), a, b),
        )
        suspicion, unread = Suspicion(), []
        names = Portability(expect.target_os) if expect.target_os in ("windows", "macos") else None
        expected: Iterator[Entry] = manifest.in_order(expect.manifest, self.space.path) if expect.manifest else iter(())
        entries, drawing = 0, sample.Draw(self.case.now, Random())  # noqa: S311  a sample, not a secret
        found = manifest.walk(tree, own=True, on_error=lambda path, error: unread.append(f"{shown(path)}: {error}"))
        for wanted, entry in merge(expected, found):
            right = comparison.add(wanted, entry) if expect.manifest else False
            if entry is None:
                continue
            entries += 1
            if names:
                names.observe(entry.path)
            if entry.type == "-":
                self.files, self.bytes = self.files + 1, self.bytes + (entry.size or 0)
                if self.source is not None:
                    drawing.add(entry)
                if right:
                    suspicion.trust()
                else:
                    suspicion.observe(entry.path, entry.sample)
        figures.update(entries=entries, files=self.files, bytes=self.bytes)
        findings = []
        if unread:
            findings.append(Finding("restore", f"{len(unread)} restored files cannot be read.", "; ".join(unread[:10])))
        if expect.manifest:
            figures.update(
                compared=comparison.entries,
                extra=comparison.extra.count,
                drifted=comparison.drifted.count + comparison.drifted_missing.count,
            )
            findings += comparison.findings()
        if entries == 0 and not (expect.manifest and comparison.entries == 0):
            findings.append(Finding("missing", "The restored tree is empty.", advice="Was the source mounted?"))
        findings += suspicion.findings()
        findings += names.findings() if names else []
        if expect.baseline and not self.measured:
            findings += baseline.against(expect.baseline, self.files, self.bytes)
        findings += self._live(drawing.drawn(), figures)
        return findings

    def application(self, figures: dict[str, Any]) -> list[Finding] | None:
        restored = self.restored
        if restored is None:
            return None
        probes = [self.engine.probe(restored)]
        if restored.tree is not None and self.case.expect.sqlite:
            probes.append(sqlite.probe(restored.tree, self.case.expect.sqlite, self.case.now, self.space.path))
        findings: list[Finding] = []
        for probe in probes:
            findings += probe.findings
            figures.update(probe.figures)
            if probe.age_s is not None:
                self.rpo = max(self.rpo or 0.0, probe.age_s)
        return findings if findings or figures else None

    def boot(self, figures: dict[str, Any]) -> list[Finding] | None:
        booted = self.engine.boot(self.restored) if self.restored is not None else None
        if booted is None:
            return None
        figures.update(booted.figures)
        self.pictures += booted.pictures
        return list(booted.findings)


def _no_room(blamed: list[Finding]) -> Finding:
    """Return what a failure means in which a program found its disk full: nothing about the backup."""
    what, advice = "The disk for restored data is full, so the test could not go on.", "Make room for scratch."
    return Finding("quota", what, blamed[0].what, advice, Weight.ERROR)


def _same_file(tree: bytes, a: bytes, b: bytes) -> bool:
    try:
        first, second = os.lstat(tree + b"/" + a), os.lstat(tree + b"/" + b)
    except OSError:
        return False
    return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)


@contextmanager
def _engine(case: Case, runner: Runner, space: Scratch) -> Iterator[BackupEngine]:
    engine = engines.engine(case.engine)(case, runner, space)
    try:
        yield engine
    finally:
        engine.close()


def verify(
    case: Case, *, base: Path | None = None, runner: Runner | None = None, source: live.Source | None = None
) -> Result:
    """Run one restore test and return what it showed. Leaves nothing behind and changes no repository.

    base: folder for scratch; None takes one under the system's temporary folder.
    source: asks the live host that the case compares with, where that is not this machine.
    Raises Misconfigured for a case that names an unknown engine or a manifest that is none.
    """
    engines.engine(case.engine)
    if case.on:
        what = f"The case is to be tested on {case.on}, not on this machine."
        raise Misconfigured(what, advice='Let a plan run it, or leave "on" out where the backup is reachable here.')
    living = case.expect.live
    if living and living.on and source is None:
        what = f"The case compares with {living.on}, which this command does not enter."
        raise Misconfigured(what, advice='Let a plan run it, or leave "live.on" out where the source lies here.')
    if living and source is None:
        source = live.here(living.root)
    if case.expect.manifest:
        try:
            next(manifest.read(case.expect.manifest), None)
        except NotFound as error:  # the case's fault, not the backup's
            raise Misconfigured(error.what, advice=error.advice) from error
    runner = runner or Runner()
    started = utc_now()
    with (
        scratch(base or default_base(), quota=case.expect.scratch_quota_bytes) as space,
        _engine(case, runner, space) as engine,
    ):
        climb, version = _Climb(case, runner, space, engine, source), ""

        def named(figures: dict[str, Any]) -> list[Finding] | None:
            nonlocal version
            version = engine.version()
            return None

        climb.step(1, named)
        runner.commands.clear()
        if not climb.stopped:
            climb.climb()
    result = Result(
        case=case.name,
        engine=case.engine,
        engine_version=version,
        snapshot=climb.snapshot.id if climb.snapshot else None,
        rungs=tuple(climb.rungs),
        rto_s=climb.rto,
        rpo_s=climb.rpo,
        restored_files=climb.files,
        restored_bytes=climb.bytes,
        started_at=started.astimezone(UTC).isoformat(timespec="seconds"),
        pictures=climb.pictures,
    )
    return replace(result, evidence=digest(result.plain()))


def digest(plain: dict[str, Any]) -> str:
    """Return the SHA-256 of a verdict object without its own digest, over canonical JSON."""
    values = {name: value for name, value in plain.items() if name != "evidence"}
    words = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(words.encode("utf-8", "surrogatepass")).hexdigest()
