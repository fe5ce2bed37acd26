"""Restored against expected. Pure: two ordered streams of entries in, what differs out.

Drift: a file that the source changed after the snapshot was taken differs without any fault of the backup. It is
told from damage by times alone: the manifest's time of change lies after the snapshot, the restored one before. Of a
living file the ctime counts too, because what took its place may be older; but a file that bears the restored one's
own time was not replaced: its mode or owner changed, and other content is damage.
Where the restored files themselves are younger than the snapshot, clocks disagree and nothing counts as drift.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from msp.backup.manifest import Entry, key, shown
from msp.backup.verdict import Finding, Weight

NAMED = 10  # differences named one by one in a finding
SLACK = 1.0  # seconds: formats cut times to whole seconds
DRIFT_SHARE = 0.25  # of all entries; more than this is not ordinary work on the source
FUTURE_SHARE = 0.10
IGNORED_XATTRS = (b"security.selinux", b"security.evm", b"security.ima")  # belong to the machine, not to the data


def merge(expected: Iterable[Entry], restored: Iterable[Entry]) -> Iterator[tuple[Entry | None, Entry | None]]:
    """Yield (expected, restored) pairs by path; None where one side lacks it. Both must be in order."""
    left, right = iter(expected), iter(restored)
    a, b = next(left, None), next(right, None)
    while a is not None or b is not None:
        if b is None or (a is not None and key(a.path) < key(b.path)):
            yield a, None
            a = next(left, None)
        elif a is None or key(b.path) < key(a.path):
            yield None, b
            b = next(right, None)
        else:
            yield a, b
            a, b = next(left, None), next(right, None)


@dataclass(slots=True)
class Tally:
    """How often something differs, with the first few places."""

    count: int = 0
    named: list[str] = field(default_factory=list)

    def add(self, where: str) -> None:
        self.count += 1
        if len(self.named) < NAMED:
            self.named.append(where)


@dataclass(slots=True)
class Comparison:
    """Collects the differences of one restore.

    snapshot: seconds since 1970 at which the backup began, None when unknown (then nothing is drift).
    owners: compare uid and gid; only a restore as root can bring them back.
    same_file: tells whether two restored paths are one file; None leaves hard links uncompared.
    """

    snapshot: float | None = None
    owners: bool = False
    same_file: Callable[[bytes, bytes], bool] | None = None
    entries: int = 0
    younger: int = 0
    missing: Tally = field(default_factory=Tally)
    content: Tally = field(default_factory=Tally)
    metadata: Tally = field(default_factory=Tally)
    extra: Tally = field(default_factory=Tally)
    drifted: Tally = field(default_factory=Tally)
    drifted_missing: Tally = field(default_factory=Tally)

    def add(self, expected: Entry | None, restored: Entry | None) -> bool:
        """Take one pair; return whether the restored content is what was expected."""
        if expected is None:
            if restored is not None:
                self.extra.add(shown(restored.path))
            return False
        if expected.type == "s":
            return True  # a socket belongs to a running program; no engine need bring it back
        self.entries += 1
        name = shown(expected.path)
        if restored is None:
            (self.drifted_missing if self._changed_since(expected) else self.missing).add(name)
            return False
        if self.snapshot is not None and (restored.mtime or 0) > self.snapshot + SLACK:
            self.younger += 1
        what = self._content(expected, restored)
        if what:
            drift = self._worked_on(expected, restored)
            (self.drifted if drift else self.content).add(f"{name}: {what}")
            return False
        if not self._changed_since(expected) or (restored.mtime or 0) > (self.snapshot or 0) + SLACK:
            for difference in self._metadata(expected, restored):
                self.metadata.add(f"{name}: {difference}")
        return True

    def _changed_since(self, expected: Entry) -> bool:
        known = [at for at in (expected.mtime, expected.changed) if at is not None]
        return self.snapshot is not None and bool(known) and max(known) > self.snapshot

    def _worked_on(self, expected: Entry, restored: Entry) -> bool:
        """Return whether other content is the source's own, of after the snapshot."""
        if self.snapshot is None:
            return False
        was, now, changed = restored.mtime or 0, expected.mtime or 0, expected.changed or 0
        if now > self.snapshot:
            return was < now
        return changed > self.snapshot and was < changed and abs(now - was) > SLACK

    def _content(self, expected: Entry, restored: Entry) -> str:
        if expected.type != restored.type:
            return f"is of type {restored.type}, was {expected.type}"
        if expected.type == "l" and expected.target is not None and expected.target != restored.target:
            return f"points to {shown(restored.target or b'')}, was {shown(expected.target)}"
        if expected.type == "-":
            if expected.size is not None and expected.size != restored.size:
                return f"has {restored.size} bytes, had {expected.size}"
            if expected.sha256 and expected.sha256.lower() != restored.sha256:
                return "has other content"
        return ""

    def _metadata(self, expected: Entry, restored: Entry) -> Iterator[str]:
        if expected.type != "l":
            if expected.mode is not None and expected.mode != restored.mode:
                yield f"mode {restored.mode or 0:04o}, was {expected.mode:04o}"
            if (
                expected.type == "-"
                and expected.mtime is not None
                and abs((restored.mtime or 0) - expected.mtime) > SLACK
            ):
                yield f"time of change {restored.mtime:.0f}, was {expected.mtime:.0f}"
        if self.owners and expected.uid is not None and (expected.uid, expected.gid) != (restored.uid, restored.gid):
            yield f"owner {restored.uid}:{restored.gid}, was {expected.uid}:{expected.gid}"
        for attribute, value in expected.xattrs.items():
            if attribute not in IGNORED_XATTRS and restored.xattrs.get(attribute) != value:
                state = "other value" if attribute in restored.xattrs else "missing"
                yield f"attribute {shown(attribute)}: {state}"
        link = expected.hardlink
        if link is not None and link != expected.path and self.same_file and not self.same_file(link, expected.path):
            yield f"is no longer the same file as {shown(link)}"

    def findings(self) -> list[Finding]:
        """Return what the differences mean, heaviest first."""
        total, found = max(1, self.entries), []
        clocks_agree = self.younger <= FUTURE_SHARE * total
        missing, content = self.missing, self.content
        if not clocks_agree:
            missing, content = _together(missing, self.drifted_missing), _together(content, self.drifted)
        if missing.count:
            found.append(
                _finding("missing", f"{missing.count} of {total} entries were not restored", missing, Weight.FAIL)
            )
        if content.count:
            found.append(_finding("content", f"{content.count} of {total} entries differ", content, Weight.FAIL))
        drift = self.drifted.count + self.drifted_missing.count
        if clocks_agree and drift > max(5, DRIFT_SHARE * total):
            named = _together(self.drifted, self.drifted_missing)
            what = f"{drift} of {total} entries changed on the source after the snapshot, too many to compare"
            found.append(_finding("content", what, named, Weight.WARN))
        if self.metadata.count:
            what = f"{self.metadata.count} modes, owners, times, attributes or links differ"
            found.append(_finding("metadata", what, self.metadata, Weight.WARN))
        return found


def _together(a: Tally, b: Tally) -> Tally:
    return Tally(a.count + b.count, (a.named + b.named)[:NAMED])


def _finding(reason: str, what: str, tally: Tally, weight: Weight) -> Finding:
    advice = {
        "missing": "Look what the backup leaves out, and whether its source was mounted.",
        "content": "Restore an older snapshot and find out since when it differs.",
        "metadata": "Judge whether services start with these modes and owners; the engine may need other options.",
    }
    return Finding(reason, what + ".", "; ".join(tally.named), advice[reason], weight)
