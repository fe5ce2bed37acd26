"""Restored files against the host they came from, where it is alive: it is asked for some files by name.

What changed there since the snapshot differs without any fault of the backup; compare.py tells that apart by times. A
file that is gone there proves nothing; a file that cannot be read there neither.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from msp.backup import manifest
from msp.backup.compare import Comparison, merge
from msp.backup.manifest import Entry
from msp.backup.verdict import Finding, Weight

#: Asks the live host for files by their paths below the root; what is not there, or cannot be read, is left out.
Source = Callable[[Sequence[bytes]], Iterable[Entry]]


def here(root: Path) -> Source:
    """Return what asks this machine's own files."""

    def ask(paths: Sequence[bytes]) -> Iterable[Entry]:
        return manifest.named(root, paths)

    return ask


def against(
    source: Source, restored: Sequence[Entry], *, where: str, snapshot: float | None, figures: dict[str, Any]
) -> list[Finding]:
    """Return what restored files mean, compared with the live ones. where: host and folder, for sentences.

    restored: regular files in order, with checksums. snapshot: seconds since 1970 at which the backup began.
    """
    comparison, gone = Comparison(snapshot), 0
    there = sorted(source([entry.path for entry in restored]), key=lambda entry: entry.key)
    for expected, entry in merge(there, restored):
        if expected is None:
            gone += 1
        else:
            comparison.add(expected, entry)
    drifted = comparison.drifted.count + comparison.drifted_missing.count
    figures.update(live_compared=comparison.entries, live_drifted=drifted, live_gone=gone)
    if restored and not comparison.entries:
        what = f"None of {len(restored)} restored files is at {where} to compare with."
        return [
            Finding("content", what, advice="Is the source mounted there, and the folder right?", weight=Weight.ERROR)
        ]
    return [
        Finding(one.reason, f"Compared with {where}: {one.what}", one.where, one.advice, one.weight)
        for one in comparison.findings()
    ]
