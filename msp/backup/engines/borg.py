"""Borg repositories, read through a view: a folder of our own with copies of the small files and links to the data.

borg takes locks, rewrites its config on a check and tidies what it believes to be left-overs; in the view all that
happens to copies, and the repository stays as it is. A repository behind a network is read with --bypass-lock.
"""

import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msp.backup.case import Case
from msp.backup.engine import Found, Listed, Probed, Restored, Snapshot
from msp.backup.engines.shared import absent, tree_below
from msp.backup.manifest import shown
from msp.backup.process import Done, Runner
from msp.backup.scratch import Scratch
from msp.backup.verdict import Finding, Weight

KEY = re.compile(r"passphrase.*(incorrect|wrong)|no key file for repository|key file.*not found|can not decrypt", re.I)  # noqa: FURB167
AWAY = re.compile(r"permission denied|connection (closed|refused)|no route to host|timed? ?out|could not resolve")
MINOR = re.compile(r"chown|chmod|utime|xattr|acl|operation not permitted|operation not supported")
SMALL = ("config", "README", "nonce")
LOCKS = ("lock.exclusive", "lock.roster")


@dataclass
class BorgEngine:
    """One repository; an archive is a snapshot, `root` the path inside it."""

    case: Case
    runner: Runner
    scratch: Scratch
    _view: Path | None = field(default=None, init=False)
    _harmless: set[str] = field(default_factory=set, init=False)  # archives whose names were looked at

    @property
    def local(self) -> Path | None:
        place = (self.case.repo or "").removeprefix("file://")
        return Path(place) if "://" not in place and (place.startswith(("/", ".")) or ":" not in place) else None

    def environment(self) -> dict[str, str]:
        keys = Path.home() / ".config" / "borg" / "keys"
        return {
            "BORG_PASSPHRASE": self.case.secret or "",
            "BORG_BASE_DIR": str(self.scratch.path),
            **({"BORG_KEYS_DIR": str(keys)} if keys.is_dir() else {}),
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
            "BORG_DISPLAY_PASSPHRASE": "no",
            "BORG_EXIT_CODES": "legacy",
            "TMPDIR": str(self.scratch.path),
            # Chunks of megabytes come and go: the C library would give each back to the kernel and fault it in again.
            "MALLOC_MMAP_THRESHOLD_": str(256 << 20),
            "MALLOC_TRIM_THRESHOLD_": str(512 << 20),
        }

    def borg(self, command: str, *words: str, cwd: Path | None = None) -> Done:
        return self.runner.run(self._argv(command, *words), env=self.environment(), cwd=cwd)

    def _argv(self, command: str, *words: str) -> list[str]:
        return ["borg", command, "--lock-wait", "1", *([] if self.local else ["--bypass-lock"]), *words]

    def version(self) -> str:
        return self.runner.run(["borg", "--version"], env=self.environment()).stdout.decode("utf-8", "replace").strip()

    def place(self) -> str:
        """Return what borg is told to open: the view of a local repository, made once."""
        if self.local is None:
            return self.case.repo or ""
        if self._view is None:
            self._look(self.local)
            self._view = self._make_view(self.local)
        return str(self._view)

    def _look(self, repo: Path) -> None:
        if not repo.is_dir():
            raise Found(absent(repo))
        if not os.access(repo, os.R_OK | os.X_OK):
            what = f"{repo} may not be read by this account."
            raise Found(Finding("repository", what, advice="Give it the right to read.", weight=Weight.ERROR))
        if not (repo / "config").is_file() or not (repo / "data").is_dir():
            what = f"{repo} is not a borg repository: its config or its data are missing."
            raise Found(Finding("repository", what, advice="Look at the disk it lies on."))
        if _locked(repo):
            time.sleep(1)  # a backup that is just ending lets go by itself
            if _locked(repo):
                what = "Somebody else holds a lock on the repository; it was left as it is."
                advice = "Wait for that backup, or look whether it died."
                raise Found(Finding("locked", what, advice=advice, weight=Weight.ERROR))

    def _make_view(self, repo: Path) -> Path:
        view = self.scratch.folder("view")
        for item in repo.iterdir():
            if item.is_file() and (item.name in SMALL or item.name.startswith(("index.", "hints.", "integrity."))):
                shutil.copyfile(item, view / item.name)
        for part in sorted((repo / "data").iterdir()):
            (view / "data" / part.name).mkdir(parents=True)
            for segment in part.iterdir():
                (view / "data" / part.name / segment.name).symlink_to(segment.resolve())
        (view / "data").mkdir(exist_ok=True)
        return view

    def _explain(self, done: Done) -> Finding:
        words = done.stderr.lower()
        if KEY.search(words):
            what = "The repository does not open with this passphrase or key."
            return Finding("key", what, advice="Use the escrowed one.", weight=Weight.ERROR)
        if "lock" in words and ("timeout" in words or "failed to create/acquire" in words):
            what = "Somebody else holds a lock on the repository; it was left as it is."
            return Finding("locked", what, advice="Wait for that backup to end.", weight=Weight.ERROR)
        if AWAY.search(words):
            what = f"The repository cannot be reached: {done.says}."
            return Finding("repository", what, advice="Check network and rights.", weight=Weight.ERROR)
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        telling = re.compile("error|corrupt|mismatch|missing|not a valid|damage|does not exist", re.IGNORECASE)
        first = next((line for line in lines if telling.search(line)), done.says)
        return Finding("repository", f"The repository is damaged: {first[:300]}", advice="Run borg check on it.")

    def check(self) -> tuple[Finding, ...]:
        done = self.borg("check", "--last", "1", self.place())
        return (self._explain(done),) if done.status else ()

    def _json(self, *words: str) -> Any:
        done = self.borg(*words)
        if done.status > 1 or not done.stdout:
            raise Found(self._explain(done))
        return json.loads(done.stdout)

    def snapshots(self) -> list[Snapshot]:
        listed = self._json("list", "--json", "--format", "{hostname}", self.place())
        found = [
            Snapshot(
                item["name"],
                datetime.fromisoformat(item["start"]).replace(tzinfo=UTC),  # local times of TZ=UTC
                item.get("hostname"),
            )
            for item in listed["archives"]
            if not item["name"].endswith(".checkpoint") and ".checkpoint." not in item["name"]
        ]
        return sorted(found, key=lambda snapshot: (snapshot.time or datetime.min.replace(tzinfo=UTC), snapshot.id))

    def listing(self, snapshot: Snapshot) -> Iterator[Listed] | None:
        return self._listing(snapshot)

    def _listing(self, snapshot: Snapshot) -> Iterator[Listed]:
        root = self.case.root
        prefix = os.fsencode(root) + b"/" if root else b""
        for letter, size, path in self._records(snapshot):
            if path.startswith(prefix) and path not in (b".", b""):
                yield Listed(path[len(prefix) :], "-" if letter == "h" else letter, size)

    def _records(self, snapshot: Snapshot) -> Iterator[tuple[str, int, bytes]]:
        """Yield (type, size, path) of everything in an archive; raises Found at a name that leads out of a folder.

        borg writes wherever a name says: it climbs, and goes through a link that the archive itself has brought.
        """
        fields = "{type} {size} {path}{NUL}{source}{NUL}"
        argv = self._argv("list", "--format", fields, f"{self.place()}::{snapshot.id}")
        rest, links = b"", set[bytes]()
        with self.runner.reading(argv, env=self.environment()) as reading:
            for chunk in reading.chunks():
                *records, rest = (rest + chunk).split(b"\0")
                if len(records) % 2:
                    rest = records.pop() + b"\0" + rest
                for record, source in zip(records[::2], records[1::2], strict=True):
                    kind, size, path = record.split(b" ", 2)
                    if _leads_out(path, links) or (kind != b"l" and source and _leads_out(source, links)):
                        what = "The archive wants to reach outside the folder it is restored to."
                        raise Found(Finding("hostile", what, shown(path), "Look which machine writes here."))
                    if kind == b"l":
                        links.add(os.path.normpath(path))
                    yield kind.decode("ascii", "replace"), int(size), path
        done = reading.done()
        if done.status > 1:
            raise Found(self._explain(done))
        self._harmless.add(snapshot.id)

    def look(self, snapshot: Snapshot) -> None:
        """Look at every name before anything is written, unless a listing has done so."""
        if snapshot.id not in self._harmless:
            for _ in self._records(snapshot):
                pass

    def restore(self, snapshot: Snapshot, into: Path) -> Restored:
        self.look(snapshot)
        words = ["--numeric-ids", "--sparse", f"{self.place()}::{snapshot.id}"]
        done = self.borg("extract", *words, *([self.case.root] if self.case.root else []), cwd=into)
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        if any("never matched" in line for line in lines):
            what = f"The archive holds no folder {self.case.root!r}."
            raise Found(Finding("missing", what, snapshot.id, "Look what the backup job includes."))
        serious = [line for line in lines if not MINOR.search(line.lower())]
        if done.status > 1 or (done.status and serious):
            found = self._explain(done)
            if found.weight is Weight.ERROR:
                raise Found(found)
            what = f"The restore did not come to its end: {(serious or [done.says])[0][:300]}"
            return Restored(into, (found, Finding("restore", what, advice="Restore an older archive.")))
        findings: tuple[Finding, ...] = ()
        if done.status:
            what = f"{len(lines)} modes, owners or attributes could not be restored."
            findings = (Finding("metadata", what, lines[0][:300] if lines else "", "Restore as root.", Weight.WARN),)
        return Restored(tree_below(into, self.case.root, ()), findings)

    def restore_some(self, snapshot: Snapshot, paths: Sequence[bytes], into: Path) -> Restored:
        prefix = f"{self.case.root}/" if self.case.root else ""
        self.look(snapshot)
        exact = [f"pf:{prefix}{os.fsdecode(path)}" for path in paths]
        words = ["--numeric-ids", "--sparse", f"{self.place()}::{snapshot.id}", *exact]
        done = self.borg("extract", *words, cwd=into)
        said = re.sub(
            r"Include pattern .*? never matched\.", "", done.stderr, flags=re.DOTALL
        )  # of those that did, too
        lines = [line for line in said.splitlines() if line.strip()]
        if done.status > 1 or any(not MINOR.search(line.lower()) for line in lines):
            return Restored(into, (self._explain(done),))
        return Restored(tree_below(into, self.case.root, ()))

    def probe(self, restored: Restored) -> Probed:
        return Probed()

    def boot(self, restored: Restored) -> Probed | None:
        return None

    def close(self) -> None:
        return


def _leads_out(path: bytes, links: set[bytes]) -> bool:
    """Say whether a path is absolute, climbs, or leads through one of these links."""
    if path.startswith(b"/") or (b".." in path and b".." in path.split(b"/")):
        return True
    if not links:
        return False
    if b"//" in path or b"./" in path:
        path = os.path.normpath(path)
    at = path.find(b"/")
    while at >= 0:
        if path[:at] in links:
            return True
        at = path.find(b"/", at + 1)
    return False


def _locked(repo: Path) -> bool:
    """Say whether anybody holds a lock; an empty roster holds none."""
    if (repo / "lock.exclusive").exists():
        return True
    try:
        roster = json.loads((repo / "lock.roster").read_bytes())
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return True
    return any(roster.values()) if isinstance(roster, dict) else True
