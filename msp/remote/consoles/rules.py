"""What a console may be, how it may end, and when it must. Pure: no database, no network, no wall clock."""

from dataclasses import dataclass
from datetime import datetime, timedelta

#: What is opened -> the ways into a machine that have it.
KINDS: dict[str, frozenset[str]] = {
    "terminal": frozenset({"ssh", "winrm"}),
    "screen": frozenset({"vnc", "ssh"}),
}
#: How an admission stands.
STATES = ("granted", "open", "ended", "refused", "expired")
#: Every way in which an open console ends.
ENDS = (
    "closed",  # the person closed it
    "exited",  # the shell or the screen's server ended it
    "idle",  # nobody typed for too long
    "limit",  # the limit in all was reached
    "withdrawn",  # somebody took the grant back
    "not_allowed",  # the contract, the role or the account no longer admits
    "failed",  # it never opened: unreachable, not admitted
    "lost",  # the machine's connection went
    "gone",  # the browser went without a word
    "recording",  # what was shown could no longer be recorded
    "stopped",  # our own server stopped or died
)
TICKET_LIFE = timedelta(seconds=30)
GRANT_LIFE = timedelta(minutes=10)  # from "open terminal" until its page must have used it
WATCHING = timedelta(seconds=6)  # since somebody's page last asked for what is new, while they count as watching
SILENCE = timedelta(seconds=30)  # after which the process that served a console counts as dead


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a console may last. `idle`: without anything typed; `ends_by`: whatever happens."""

    idle: timedelta
    ends_by: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """What the records say of an open console now. `refusal`: why the contract or the role no longer admits."""

    withdrawn_by: str | None = None
    closed: bool = False  # withdrawn by its own person
    active: bool = True
    refusal: str | None = None
    watchers: tuple[str, ...] = ()  # names of the others who look


@dataclass(frozen=True, slots=True)
class End:
    """How a console ended. `how` is one of ENDS; `detail` is a sentence for people."""

    how: str
    detail: str


def must_end(standing: Standing, limits: Limits, now: datetime, last_typed: datetime) -> End | None:
    """Return why an open console must end now, or None. The gravest reason comes first."""
    if standing.closed:
        return End("closed", "Closed by the person who opened it.")
    if standing.withdrawn_by is not None:
        return End("withdrawn", f"{standing.withdrawn_by} withdrew the admission.")
    if not standing.active:
        return End("not_allowed", "The account or its role no longer opens consoles of this client.")
    if standing.refusal:
        return End("not_allowed", standing.refusal)
    if now >= limits.ends_by:
        return End("limit", "The time for which it was opened is over.")
    if now - last_typed >= limits.idle:
        minutes = f"{limits.idle.total_seconds() / 60:g}"
        return End("idle", f"Nothing was typed for {minutes} minutes.")
    return None


def narrower(asked: str, allowed: str) -> str:
    """Return the mode that is both asked for and allowed: `view` wins over `full`."""
    return "view" if "view" in (asked, allowed) else "full"


def recording_name(console_id: int, opened: datetime, kind: str) -> str:
    """Return the file of a console's recording within the folder of recordings."""
    return f"{opened:%Y-%m}/console-{console_id}.{'rfb' if kind == 'screen' else 'cast'}"


def latest(opened: datetime, limit: timedelta, window_ends: datetime | None) -> datetime:
    """Return when a console opened at `opened` must end: by its limit, or when the contract's window closes."""
    ends = opened + limit
    return min(ends, window_ends) if window_ends is not None and window_ends > opened else ends
