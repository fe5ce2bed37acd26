"""From findings to a verdict. Pure, with a closed list of reasons that contracts and tests may rely on.

pass: restored and everything asserted holds. warn: it would bring the business back, with a loss a person must
judge. fail: it would not, as promised. error: nothing was learned; never shown as pass, never blames the backup.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

REASONS = (
    "repository",
    "missing",
    "content",
    "metadata",
    "rpo",
    "rto",
    "clock",
    "identity",
    "key",
    "locked",
    "quota",
    "restore",
    "application",
    "ransomware",
    "hostile",
    "boot",
    "portability",
    "baseline",
)
RUNGS = {1: "repository", 2: "metadata", 3: "sample", 4: "full", 5: "application", 6: "boot"}
PROOF_RUNG = 4  # from here on a restore has really happened

EXIT_STATUS = {"pass": 0, "fail": 1, "warn": 3, "error": 4}


class Weight(IntEnum):
    """How much one finding decides; the heaviest finding is the verdict."""

    WARN = 1
    ERROR = 2
    FAIL = 3  # a proven fault outweighs a part that could not be verified

    @property
    def word(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as promised: a reason of the closed list, a sentence, a place, an advice."""

    reason: str
    what: str
    where: str = ""
    advice: str = ""
    weight: Weight = Weight.FAIL

    def __post_init__(self) -> None:
        if self.reason not in REASONS:
            raise ValueError(f"{self.reason!r} is not a reason.")

    def plain(self) -> dict[str, str]:
        """Return the finding as printed."""
        return {
            "reason": self.reason,
            "what": self.what,
            "where": self.where,
            "advice": self.advice,
            "weight": self.weight.word,
        }


@dataclass(frozen=True, slots=True)
class Picture:
    """What a screen showed, as PNG. Its digest stands in the figures of its rung, and so in the evidence."""

    name: str
    png: bytes = field(repr=False)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.png).hexdigest()


@dataclass(frozen=True, slots=True)
class Rung:
    """One rung of the ladder as it was climbed."""

    number: int  # 1 to 6
    seconds: float
    findings: tuple[Finding, ...] = ()
    figures: tuple[tuple[str, Any], ...] = ()  # what was counted, as JSON values
    commands: tuple[tuple[str, int], ...] = ()  # what was run (no secrets in it) and its exit status

    @property
    def verdict(self) -> str:
        return decide(self.findings)

    def plain(self) -> dict[str, Any]:
        """Return the rung as printed."""
        return {
            "rung": self.number,
            "name": RUNGS[self.number],
            "verdict": self.verdict,
            "seconds": round(self.seconds, 3),
            "figures": dict(self.figures),
            "commands": [{"command": command, "exit": status} for command, status in self.commands],
        }


def decide(findings: Iterable[Finding]) -> str:
    """Return pass, warn, fail or error for a set of findings."""
    heaviest = max((finding.weight for finding in findings), default=None)
    return "pass" if heaviest is None else heaviest.word


def reasons(findings: Iterable[Finding]) -> list[str]:
    """Return the reasons present, each once, in the order of REASONS."""
    present = {finding.reason for finding in findings}
    return [reason for reason in REASONS if reason in present]


@dataclass(frozen=True, slots=True)
class Result:
    """One restore test, ready to print and to store. Durations in seconds, None when not measured."""

    case: str
    engine: str
    engine_version: str
    snapshot: str | None
    rungs: tuple[Rung, ...]
    rto_s: float | None = None
    rpo_s: float | None = None
    restored_files: int = 0
    restored_bytes: int = 0
    started_at: str = ""  # ISO 8601, UTC
    evidence: str = ""  # SHA-256 over everything above, in hexadecimal
    pictures: tuple[Picture, ...] = ()  # not printed; their digests are

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(finding for rung in self.rungs for finding in rung.findings)

    @property
    def verdict(self) -> str:
        return decide(self.findings)

    @property
    def reasons(self) -> list[str]:
        return reasons(self.findings)

    @property
    def highest_rung(self) -> int:
        """The highest rung that was passed, with or without a warning."""
        return max((rung.number for rung in self.rungs if rung.verdict in ("pass", "warn")), default=0)

    def plain(self) -> dict[str, Any]:
        """Return the verdict object: JSON values only, without secrets."""
        return {
            "case": self.case,
            "verdict": self.verdict,
            "reasons": self.reasons,
            "rungs": [rung.plain() for rung in self.rungs],
            "highest_rung": self.highest_rung,
            "rto_s": None if self.rto_s is None else round(self.rto_s, 3),
            "rpo_s": None if self.rpo_s is None else round(self.rpo_s, 3),
            "restored_files": self.restored_files,
            "restored_bytes": self.restored_bytes,
            "findings": [finding.plain() for finding in self.findings],
            "engine": self.engine,
            "engine_version": self.engine_version,
            "snapshot": self.snapshot,
            "started_at": self.started_at,
            "evidence": self.evidence,
        }
