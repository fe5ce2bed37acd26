"""How much a backup holds, against what it held when it was last known good. Pure."""

from msp.backup.case import Baseline
from msp.backup.verdict import Finding, Weight

#: Share of the baseline below which a count is judged, or refused. Files come and go by a few percent a day.
JUDGED_BELOW, REFUSED_BELOW = 0.85, 0.5
JUDGED_ABOVE = {"files": 1.5, "bytes": 2.0}


def against(baseline: Baseline, files: int, size: int) -> list[Finding]:
    """Return the findings for a snapshot of `files` regular files with `size` bytes in all."""
    found = []
    for what, now, before in (("files", files, baseline.files), ("bytes", size, baseline.bytes)):
        if not before:
            continue
        share = now / before
        if share < REFUSED_BELOW:
            weight, how = Weight.FAIL, "shrank"
        elif share < JUDGED_BELOW:
            weight, how = Weight.WARN, "shrank"
        elif share > JUDGED_ABOVE[what]:
            weight, how = Weight.WARN, "grew"
        else:
            continue
        found.append(
            Finding(
                "baseline",
                f"The backup {how} from {before} to {now} {what}.",
                advice="Find out what was removed, excluded, not mounted or copied in; then renew the baseline.",
                weight=weight,
            )
        )
    if files == 0 and baseline.files:
        found.append(Finding("missing", "The backup holds no file at all.", advice="Was the source mounted?"))
    return found
