"""Bacula, by its own restore job: `bconsole` runs it, a file daemon on this machine writes into scratch.

The restore job is what proves a volume: it is quicker than the Verify jobs, and a damaged block stops it. A volume
that was cut ends it with the status of success and fewer files, so the files are counted.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from msp.backup.case import BaculaJob, Case
from msp.backup.engine import Found, Listed, Probed, Restored, Snapshot
from msp.backup.engines.bacula_console import GOOD, Console, Job, quoted
from msp.backup.engines.shared import tree_below
from msp.backup.process import FULL, Runner
from msp.backup.scratch import QuotaExceeded, Scratch
from msp.backup.verdict import Finding, Weight
from msp.errors import Misconfigured

SELECTED = re.compile(r"^([\d,]+) files? selected to be restored", re.MULTILINE)
DAMAGE = re.compile(r"data error|checksum mismatch|Short block|Fatal error|Could not open|Error:", re.IGNORECASE)
CHANGED = re.compile(r"(?:Changed|Size changed|.*digest differ\w*|.*differs on): +(/.*)|File: +(/.*)")
LOST = "in the Catalog but not on the Volume"
ADVICE = "Restore an older job; look at the disk or tape that holds the volume."


@dataclass
class BaculaEngine:
    """One client; every backup job of it that ended well is a snapshot, together with those it builds on."""

    case: Case
    runner: Runner
    scratch: Scratch
    _differing: list[str] = field(default_factory=list, init=False)

    @property
    def console(self) -> Console:
        return Console(self.runner, Path(self.case.repo or ""))

    @property
    def asked(self) -> BaculaJob:
        if self.case.bacula is None or not self.case.bacula.client:
            raise Misconfigured("The case names no client of Bacula.", advice='Say "client": "<name of its resource>".')
        return self.case.bacula

    def version(self) -> str:
        return self.console.version()

    def _backups(self) -> list[Job]:
        """Return the backup jobs that the case is about, oldest first, however they ended."""
        self.console.known("clients", self.asked.client)
        return [
            job
            for job in self.console.backups(self.asked.client)
            if self.asked.job in (None, job.name) and self.asked.fileset in (None, job.fileset)
        ]

    def check(self) -> tuple[Finding, ...]:
        """Judge the newest job by its status, and run the Verify job that the case names."""
        jobs, findings = self._backups(), list[Finding]()
        ended = [job for job in jobs if job.status not in "RC"]
        if not [job for job in ended if job.status in GOOD]:
            what = f"Bacula holds no backup of {self.asked.client} that ended well."
            return (Finding("missing", what, advice="Look at the messages of its jobs."),)
        if ended[-1].status not in GOOD:
            newest = ended[-1]
            what = f"The newest job ({newest.id}, {newest.name}) ended with status {newest.status}."
            advice = "Look at its messages; an older backup is tested here."
            findings.append(Finding("repository", what, advice=advice, weight=Weight.WARN))
        if self.asked.verify_job:
            findings += self._verify(self.asked.verify_job)
        return tuple(findings)

    def _verify(self, name: str) -> list[Finding]:
        """Run a Verify job against the chosen backup. Against the disk, differences are the source living on."""
        console, snapshot = self.console, self.snapshots()[-1]
        with console.started(f"run job={console.known('jobs', name)} jobid={snapshot.id} yes") as (number, _):
            job = console.await_end(number)
        if job.status in GOOD:
            return []
        log = console.log(number)
        if job.level == "d" and job.status == "D":
            return []
        if job.status == "D" and not any(LOST in line for line in log):
            self._differing = [match[1] or match[2] for line in log if (match := CHANGED.search(line))]
            if self._differing:
                return []  # a Verify of data alarms at hard links; the restore shows which names are that
        first = next((line for line in log if DAMAGE.search(line)), f"its status is {job.status}")
        what = f"Bacula's Verify job {name} found the volume damaged: {_bare(first)}"
        return [Finding("repository", what[:400], advice=ADVICE)]

    def snapshots(self) -> list[Snapshot]:
        host = self.asked.client
        if self.case.expect.host != host:
            host = host.removesuffix("-fd")
        jobs = [job for job in self._backups() if job.status in GOOD]
        if self.asked.jobid is not None:
            jobs = [job for job in jobs if job.id == self.asked.jobid]
        return [Snapshot(str(job.id), job.began, host) for job in jobs]

    def listing(self, snapshot: Snapshot) -> Iterator[Listed] | None:
        return None

    def restore(self, snapshot: Snapshot, into: Path) -> Restored:
        console, asked = self.console, self.asked
        chain = console.chain(int(snapshot.id))
        sizes = [job.bytes for number in chain.split(",") if (job := console.job(int(number)))]
        self.scratch.require(max(sizes, default=0))
        words = [f"restore client={console.known('clients', asked.client)} jobid={chain} where={quoted(str(into))}"]
        if asked.restore_client:
            words.append(f"restoreclient={console.known('clients', asked.restore_client)}")
        if asked.restore_job:
            words.append(f"restorejob={console.known('jobs', asked.restore_job)}")
        with console.started(" ".join((*words, "all done yes")), into) as (number, said):
            job = console.await_end(number, lambda: self._look(into))
        selected = SELECTED.search(said)
        wanted = int(selected[1].replace(",", "")) if selected else 0
        if job.status not in GOOD or job.files < wanted:
            return Restored(into, self._incomplete(job, wanted, console.log(number)))
        if not any(into.iterdir()) and job.files:
            who = asked.restore_client or asked.client
            what = f"The file daemon {who} restored {job.files} files, but not on this machine."
            advice = 'Name a file daemon that runs here: "restore_client".'
            raise Found(Finding("restore", what, advice=advice, weight=Weight.ERROR))
        findings = self._doubts(job, into)
        return Restored(tree_below(into, self.case.root, (_only_path(into),)), findings)

    def _look(self, into: Path) -> None:
        if self.scratch.quota is None:
            return
        size = 0
        for folder, _, names in os.walk(os.fsencode(into)):
            for name in names:
                try:
                    size += os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118  names are bytes
                except FileNotFoundError:
                    continue
        if size > self.scratch.quota:
            what = f"The backup restores to more than the {self.scratch.quota} bytes the test may use."
            raise QuotaExceeded(what, advice="Raise scratch_quota_bytes, or test a part of it.")

    def _incomplete(self, job: Job, wanted: int, log: list[str]) -> tuple[Finding, ...]:
        """Say how much came back, and whether the volume or something else ended it."""
        share = f"{100 * job.files / wanted:.1f} %" if wanted else "an unknown share"
        if any(FULL.search(line.encode()) for line in log):
            what = "The disk for restored data is full, so the restore job could not go on."
            raise QuotaExceeded(what, advice="Make room for scratch.")
        reasons = [_bare(line) for line in log if DAMAGE.search(line) and "Bacula " not in line]
        first = "; ".join(reasons[:2])[:300] or f"its status is {job.status}"
        what = f"Bacula restored {share} ({job.files} of {wanted} files): {first}"
        found = [Finding("restore", what, "; ".join(reasons[2:5]), ADVICE)]
        if any(re.search(r"data error|checksum mismatch|Short block|SD", line) for line in reasons):
            found.insert(0, Finding("repository", f"The volume is damaged: {first}", advice=ADVICE))
        if job.status == "A":
            return (Finding("restore", "Somebody cancelled the restore job.", advice="Again.", weight=Weight.ERROR),)
        return tuple(found)

    def _doubts(self, job: Job, into: Path) -> tuple[Finding, ...]:
        """Return what the restore and the Verify job still leave open; a hard link is no difference."""
        findings = []
        if job.errors:
            what = f"The restore job counted {job.errors} errors, though every file came back."
            findings.append(Finding("metadata", what, advice="Look at its messages.", weight=Weight.WARN))
        single = [name for name in self._differing if not _linked(into / name.lstrip("/"))]
        if single:
            what = f"The Verify job says that {len(single)} files differ from the catalogue."
            where = "; ".join(single[:10])
            findings.append(Finding("content", what, where, "Compare them with a manifest.", Weight.WARN))
        return tuple(findings)

    def probe(self, restored: Restored) -> Probed:
        return Probed()

    def boot(self, restored: Restored) -> Probed | None:
        return None

    def close(self) -> None:
        return


def _bare(line: str) -> str:
    return re.sub(r"^\S+ JobId \d+: ", "", line)


def _linked(path: Path) -> bool:
    try:
        return path.lstat().st_nlink > 1
    except OSError:
        return False


def _only_path(into: Path) -> str:
    """Return the folder below `into` at which the restored tree begins to branch: Bacula keeps whole paths."""
    place = into
    while len(entries := list(os.scandir(place))) == 1 and entries[0].is_dir(follow_symlinks=False):
        place = Path(entries[0].path)
    return str(place.relative_to(into))
