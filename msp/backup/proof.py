"""Whether a backup counts as proven. Pure.

Proven means: the last conclusive restore test came as far as a full restore (rung 4) without a failure, within the
time the contract allows. An error tells nothing, so it changes nothing, until there are several in a row.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from msp.backup.verdict import PROOF_RUNG, RUNGS

ERRORS_ALLOWED = 3  # in a row; from here on nobody knows any more whether the backup is good


@dataclass(frozen=True, slots=True)
class Tested:
    """One finished restore test, as far as a proof is concerned."""

    at: datetime  # aware; when it finished
    verdict: str  # pass, warn, fail, error
    highest_rung: int


@dataclass(frozen=True, slots=True)
class Proof:
    """The state of one plan. `state`: proven, overdue (was proven, too long ago) or unproven."""

    state: str
    words: str
    proven_at: datetime | None = None
    rung: int = 0
    expires_at: datetime | None = None


def proof_state(proof_every: timedelta, tests: Iterable[Tested], now: datetime) -> Proof:
    """Return whether a plan is proven at `now`. tests: finished ones in any order; those after `now` do not count."""
    past = sorted((test for test in tests if test.at <= now), key=lambda test: test.at)
    proofs = [test for test in past if test.verdict in ("pass", "warn") and test.highest_rung >= PROOF_RUNG]
    last = proofs[-1] if proofs else None
    after = [test for test in past if last is None or test.at > last.at]
    failed = [test for test in after if test.verdict == "fail"]
    errors = 0
    for test in reversed(past):
        if test.verdict != "error":
            break
        errors += 1
    known = (last.at, last.highest_rung, last.at + proof_every) if last else (None, 0, None)
    if failed:
        words = f"Unproven: the restore test of {failed[-1].at:%Y-%m-%d %H:%M} UTC failed."
        return Proof("unproven", words, *known)
    if errors >= ERRORS_ALLOWED:
        return Proof("unproven", f"Unproven: the last {errors} restore tests could not be carried out.", *known)
    if last is None:
        return Proof("unproven", "Unproven: never restored yet.")
    rung = f"rung {last.highest_rung}, {RUNGS[last.highest_rung]}"
    if now > last.at + proof_every:
        words = f"Overdue: last proven {last.at:%Y-%m-%d %H:%M} UTC ({rung}), allowed are {_span(proof_every)}."
        return Proof("overdue", words, *known)
    judged = ", with a warning to judge" if last.verdict == "warn" else ""
    return Proof("proven", f"Proven by restore {last.at:%Y-%m-%d %H:%M} UTC ({rung}){judged}.", *known)


def _span(duration: timedelta) -> str:
    hours = duration.total_seconds() / 3600
    return f"{hours / 24:g} days" if hours >= 48 else f"{hours:g} hours"
