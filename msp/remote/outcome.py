"""How a step or a host can end: a closed list. Pure.

`lost`, and a `timeout` (which exists only after the request was sent; before that a silent host is `unreachable`),
are in doubt: what the far side did meanwhile is unknown, and nobody may guess.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal[
    "ok",
    "failed",
    "killed",
    "timeout",
    "unreachable",
    "auth_failed",
    "host_key_changed",
    "host_key_unknown",
    "lost",
    "not_started",
    "skipped",
    "cancelled",
    "refused",
]
KINDS: Final[tuple[Kind, ...]] = Kind.__args__  # type: ignore[attr-defined]
Reason = Literal["", "dns", "refused", "connect", "banner"]

#: Ends before anything was sent, that the same call may survive later.
NOT_SENT: Final = frozenset({"unreachable", "auth_failed", "host_key_changed", "host_key_unknown", "not_started"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """One end. `status` goes with failed, `signal` with killed, `reason` with unreachable."""

    kind: Kind
    status: int | None = None  # exit status (RFC 4254, 6.10)
    signal: str = ""  # without SIG: TERM, KILL
    reason: Reason = ""
    detail: str = ""  # a sentence for people
    sent: bool = False  # cancelled only: the request was on its way, so the effect may have happened

    @property
    def ok(self) -> bool:
        return self.kind == "ok"

    @property
    def in_doubt(self) -> bool:
        """What happened is unknown; only a read-only probe or a person can tell."""
        return self.kind in ("lost", "timeout") or (self.kind == "cancelled" and self.sent)

    @property
    def failed(self) -> bool:
        """Counts against `max_fail`."""
        return self.kind not in ("ok", "skipped", "not_started", "cancelled")

    def __str__(self) -> str:
        """As in the reference: `failed(3)`, `killed(TERM)`, `unreachable(refused)`, `ok`."""
        what = {"failed": self.status, "killed": self.signal, "unreachable": self.reason}.get(self.kind)
        return self.kind if what is None or what == "" else f"{self.kind}({what})"


OK: Final = Outcome("ok", status=0)


def of_exit(status: int | None, signal: str = "") -> Outcome:
    """Return the outcome of a command that ended: ok, failed(status) or killed(signal)."""
    if signal:
        return Outcome("killed", signal=signal, detail=f"A signal ended the command: {signal}.")
    if status is None:
        return Outcome("lost", detail="The channel closed without an exit status.")
    if status == 0:
        return OK
    return Outcome("failed", status=status, detail=f"The command ended with exit status {status}.")


def run_state(outcomes: Iterable[Outcome]) -> str:
    """Return the state of a run whose hosts have ended so: in_doubt, refused, failed, cancelled or succeeded.

    In doubt outranks failed, because a person must look before anything is tried again.
    """
    ends = list(outcomes)
    kinds = {end.kind for end in ends}
    if any(end.in_doubt for end in ends):
        return "in_doubt"
    if kinds == {"refused"}:
        return "refused"
    if any(end.failed for end in ends):
        return "failed"
    if kinds & {"cancelled", "not_started"}:
        return "cancelled"
    return "succeeded"


#: Exit status of `msp run` by the state of the run.
EXIT_STATUS: Final = {"succeeded": 0, "failed": 1, "cancelled": 1, "in_doubt": 3, "refused": 4}
