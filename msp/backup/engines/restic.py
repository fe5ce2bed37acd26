"""restic repositories, read with --no-lock and without a cache, so that nothing in them changes."""

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msp.backup.case import Case
from msp.backup.engine import Found, Listed, Probed, Restored, Snapshot
from msp.backup.engines.shared import absent, tree_below
from msp.backup.process import Done, Runner
from msp.backup.scratch import Scratch
from msp.backup.verdict import Finding, Weight

READ_WHOLE = 64 << 20  # bytes of packs read at one check; larger repositories are read by rotation
#: A local repository gives the same bad bytes again, so waiting out restic's retries (44 s a pack) is pointless.
RETRYING = r"returned error, retrying after|does not match ID|ciphertext verification failed"
MINOR = re.compile(r"lchown|chown|chmod|utimes|xattr|operation not permitted|not supported", re.IGNORECASE)
KEY = re.compile(
    r"wrong password|no key found|password is (empty|required)|empty password|specify.*password", re.IGNORECASE
)
LOCKED = re.compile(r"already locked|unable to create lock", re.IGNORECASE)
AWAY = re.compile(
    r"permission denied|connection refused|no route to host|timed? ?out|dial tcp|no such host", re.IGNORECASE
)


@dataclass
class ResticEngine:
    """One repository; `root` is the path inside the snapshot."""

    case: Case
    runner: Runner
    scratch: Scratch

    @property
    def local(self) -> Path | None:
        """The repository's folder, or None behind a network."""
        place = (self.case.repo or "").removeprefix("local:")
        return Path(place) if place.startswith(("/", ".")) or ":" not in place else None

    def environment(self) -> dict[str, str]:
        values = {
            "RESTIC_REPOSITORY": self.case.repo or "",
            "RESTIC_PASSWORD": self.case.secret or "",
            "TMPDIR": str(self.scratch.path),
            "HOME": str(self.scratch.path),
        }
        if self.case.expect.max_rss_mb:
            values["GOGC"] = "50"
            values["GOMEMLIMIT"] = f"{self.case.expect.max_rss_mb * 3 // 4}MiB"
        return values

    def restic(self, *words: str, stop_at: str | None = None) -> Done:
        argv = ["restic", "--no-lock", "--no-cache", *words]
        return self.runner.run(argv, env=self.environment(), stop_at=stop_at if self.local else None)

    def version(self) -> str:
        return self.runner.run(["restic", "version"]).stdout.decode("utf-8", "replace").strip()

    def check(self) -> tuple[Finding, ...]:
        self._look()
        words, size = ["check"], self._packed()
        if size is not None and size <= READ_WHOLE:
            words.append("--read-data")
        elif size is not None:
            parts = min(255, -(-size // READ_WHOLE))  # a part a day: all are read within that many days
            words.append(f"--read-data-subset={self.case.now.toordinal() % parts + 1}/{parts}")
        done = self.restic(*words, stop_at=RETRYING)
        return (self._explain(done),) if done.status else ()

    def _look(self) -> None:
        """Look at a local repository before any program does."""
        if self.local is None:
            if self.restic("list", "locks").stdout.strip():
                raise Found(_locked())
            return
        if not self.local.is_dir():
            raise Found(absent(self.local))
        if not os.access(self.local, os.R_OK | os.X_OK):
            what = f"{self.local} may not be read by this account."
            raise Found(Finding("repository", what, advice="Give it the right to read.", weight=Weight.ERROR))
        if not (self.local / "config").is_file():
            what = f"{self.local} is not a restic repository: its config is missing."
            raise Found(Finding("repository", what, advice="Look at the disk; restore the file from a copy."))
        locks = self.local / "locks"
        if locks.is_dir() and any(locks.iterdir()):
            time.sleep(1)  # a backup that is just ending lets go by itself
            if any(locks.iterdir()):
                raise Found(_locked())

    def _packed(self) -> int | None:
        if self.local is None:
            return None
        return sum(file.stat().st_size for file in (self.local / "data").glob("??/*"))

    def _explain(self, done: Done) -> Finding:
        """Turn what restic complains of into a finding; a damaged key file is damage, not a wrong password."""
        words = done.stderr
        if KEY.search(words):
            for file in (self.local / "keys").iterdir() if self.local and (self.local / "keys").is_dir() else ():
                if hashlib.sha256(file.read_bytes()).hexdigest() != file.name:
                    return Finding("repository", "A key file of the repository is damaged.", str(file), "Restore it.")
            what = "The repository does not open with this password."
            return Finding("key", what, advice="Use the escrowed password.", weight=Weight.ERROR)
        if LOCKED.search(words):
            return _locked()
        if AWAY.search(words) and not re.search("ciphertext|does not match", words):
            what = f"The repository cannot be reached: {done.says}."
            return Finding("repository", what, advice="Check network and rights.", weight=Weight.ERROR)
        lines = [line.strip() for line in words.splitlines() if line.strip()]
        first = next((line for line in lines if re.search("error|pack|tree|Fatal|verification", line)), done.says)
        what = f"The repository is damaged: {first[:300]}"
        return Finding("repository", what, advice="Run restic check on it; newer backups do not mend old data.")

    def _json(self, *words: str) -> Any:
        done = self.restic(*words, stop_at=RETRYING)
        if done.status:
            raise Found(self._explain(done))
        try:
            return json.loads(done.stdout or b"null")
        except ValueError as error:
            raise Found(Finding("repository", f"restic {words[0]} gave no answer: {done.says}.")) from error

    def snapshots(self) -> list[Snapshot]:
        self._look()
        found = [
            Snapshot(
                str(item["id"]),
                datetime.fromisoformat(item["time"]).astimezone(UTC),
                item.get("hostname"),
                tuple(item.get("paths") or ()),
            )
            for item in self._json("snapshots", "--json") or []
        ]
        return sorted(found, key=lambda snapshot: (snapshot.time or datetime.min.replace(tzinfo=UTC), snapshot.id))

    def listing(self, snapshot: Snapshot) -> Iterator[Listed] | None:
        return self._listing(snapshot)

    def _listing(self, snapshot: Snapshot) -> Iterator[Listed]:
        kinds = {"file": "-", "dir": "d", "symlink": "l", "dev": "b", "chardev": "c", "fifo": "p", "socket": "s"}
        prefixes = self._roots(snapshot)
        argv = ["restic", "--no-lock", "--no-cache", "ls", "--json", snapshot.id]
        stop_at = RETRYING if self.local else None
        with self.runner.reading(argv, env=self.environment(), stop_at=stop_at) as reading:
            for line in reading.lines():
                try:
                    node = json.loads(line)
                except ValueError:
                    continue
                path = node.get("path")
                if node.get("struct_type") != "node" or not path:
                    continue
                for prefix in prefixes:
                    if path.startswith(prefix):
                        kind = kinds.get(node.get("type"), "-")
                        yield Listed(path[len(prefix) :].encode("utf-8", "replace"), kind, node.get("size") or 0)
                        break
        done = reading.done()
        if done.status:
            raise Found(self._explain(done))

    def _roots(self, snapshot: Snapshot) -> list[str]:
        """Return where the case's root may lie in the snapshot, with a slash at the end."""
        root = self.case.root
        places = [path.rstrip("/") for path in snapshot.paths if root and path.rstrip("/").endswith(f"/{root}")]
        return [f"/{root}/" if root else "/", *(f"{place}/" for place in places)]

    def restore(self, snapshot: Snapshot, into: Path) -> Restored:
        words = ["restore", snapshot.id, "--target", str(into)]
        if len(snapshot.paths) != 1 or not snapshot.paths[0].rstrip("/").endswith(f"/{self.case.root}"):
            for place in self._roots(snapshot) if self.case.root else ():
                words += ["--include", re.sub(r"([*?\[\]\\])", r"\\\1", place.rstrip("/"))]
        done = self.restic(*words, stop_at=RETRYING)
        complaints = [line for line in done.stderr.splitlines() if "error" in line.lower()]
        serious = [line for line in complaints if not MINOR.search(line) and not line.startswith("There were ")]
        if done.stopped or serious or (done.status and not complaints):
            found = self._explain(done)
            if found.weight is Weight.ERROR:
                raise Found(found)
            what = f"The restore did not come to its end: {(serious or [done.says])[0].strip()[:300]}"
            return Restored(into, (found, Finding("restore", what, advice="Restore an older snapshot.")))
        findings: tuple[Finding, ...] = ()
        if complaints:
            what = f"{len(complaints)} modes, owners or attributes could not be restored."
            findings = (Finding("metadata", what, complaints[0][:300], "Restore as root.", Weight.WARN),)
        return Restored(tree_below(into, self.case.root, snapshot.paths), findings)

    def restore_some(self, snapshot: Snapshot, paths: Sequence[bytes], into: Path) -> Restored:
        words = ["restore", snapshot.id, "--target", str(into)]
        for path in paths:
            for place in self._roots(snapshot):
                words += ["--include", re.sub(r"([*?\[\]\\])", r"\\\1", place + os.fsdecode(path))]
        done = self.restic(*words, stop_at=RETRYING)
        if done.status and any(not MINOR.search(line) for line in done.stderr.splitlines() if "error" in line.lower()):
            return Restored(into, (self._explain(done),))
        return Restored(tree_below(into, self.case.root, snapshot.paths))

    def probe(self, restored: Restored) -> Probed:
        return Probed()

    def boot(self, restored: Restored) -> Probed | None:
        return None

    def close(self) -> None:
        return


def _locked() -> Finding:
    what = "Somebody else holds a lock on the repository; it was left as it is."
    return Finding("locked", what, advice="Wait for that backup, or look whether it died.", weight=Weight.ERROR)
