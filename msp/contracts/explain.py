"""Why a promise is due when it is: clause, target, changes, the spans counted and those that were not. Pure.

`why` gives plain values, from which a page says it in its own language; `text` says it in English.
"""

from dataclasses import dataclass
from datetime import datetime

from msp.contracts.clocks import Change, Clock, Clocks
from msp.contracts.spans import merged, to_instant, to_second, without
from msp.contracts.timecore import CoveredTime

_TITLES = {
    "first_response": "First response",
    "next_reply": "Next reply",
    "resolution": "Resolution",
    "onsite_arrival": "Arrival on site",
}


@dataclass(frozen=True, slots=True)
class Counted:
    """A span that the clock counted."""

    since: datetime
    until: datetime
    seconds: int


@dataclass(frozen=True, slots=True)
class NotCounted:
    """A stop, and the open seconds it took out. `until` None: it goes on."""

    since: datetime
    until: datetime | None
    why: str
    seconds: int


@dataclass(frozen=True, slots=True)
class Why:
    """The whole reckoning of one clock. The seconds of `counted` add up to `counted_s`, which is the goal at `due`."""

    name: str
    clause: str
    calendar: str
    zone: str
    started_at: datetime
    due: datetime | None
    met_at: datetime | None
    breached: bool
    paused: bool
    stopped: str | None
    goal_s: int | None
    elapsed_s: int
    counted_s: int
    changes: tuple[Change, ...]
    counted: tuple[Counted, ...]  # up to `due`; without one, up to when the clock stopped
    not_counted: tuple[NotCounted, ...]


def why(clock: Clock, covered: CoveredTime, as_of: datetime) -> Why:
    """Return the reckoning of a clock that was read with this calendar, as of this instant."""
    start, now = to_second(clock.started_at), to_second(as_of)
    stops = [(to_second(s.since), now if s.until is None else to_second(s.until), s) for s in clock.stops]
    closed = [(since, until) for since, until, _ in stops]
    if clock.due is not None:
        end = to_second(clock.due)
    else:
        end = min([since for since, _, stop in stops if stop.until is None], default=now)
    open_spans = covered.between(start, end)
    counted = [Counted(to_instant(a), to_instant(b), b - a) for a, b in without(open_spans, closed)]
    lost: list[NotCounted] = []
    seen: list[tuple[int, int]] = []
    for since, until, stop in stops:
        span = (max(since, start), until)
        before = covered.elapsed(start, max(until, start), merged(seen))
        seen.append(span)
        seconds = before - covered.elapsed(start, max(until, start), merged(seen))  # what overlaps is lost once
        lost.append(NotCounted(stop.since, stop.until, stop.why, seconds))
    return Why(
        name=clock.name,
        clause=clock.changes[-1].clause if clock.changes else "",
        calendar=clock.calendar,
        zone=str(covered.calendar.zone),
        started_at=clock.started_at,
        due=clock.due,
        met_at=clock.met_at,
        breached=clock.breached,
        paused=clock.paused,
        stopped=clock.stopped,
        goal_s=clock.goal_s,
        elapsed_s=clock.elapsed_s,
        counted_s=sum(span.seconds for span in counted),
        changes=clock.changes,
        counted=tuple(counted),
        not_counted=tuple(lost),
    )


def reasons(clocks: Clocks, covered: CoveredTime) -> list[Why]:
    """Return the reckoning of every clock that a ticket has."""
    shown = (clocks.first_response, clocks.next_reply, clocks.resolution, clocks.onsite_arrival)
    return [why(clock, covered, clocks.as_of) for clock in shown if clock]


def text(clocks: Clocks, covered: CoveredTime) -> str:
    """Return the reckoning of every clock as English sentences, in the calendar's own zone."""
    parts = [_said(reason, covered) for reason in reasons(clocks, covered)]
    for use in clocks.ola or ():
        box = f" of {lasting(use.limit_s)}" if use.limit_s is not None else ""
        parts.append(f"{use.line} has used {lasting(use.elapsed_s)}{box}{': over its time box' * use.breached}.")
    if clocks.latest_dispatch_at:
        parts.append(f"A technician must be sent by {_local(clocks.latest_dispatch_at, covered)} at the latest.")
    return "\n\n".join(parts)


def lasting(seconds: int) -> str:
    """Return a duration in words, such as `7 h 45 min`."""
    hours, rest = divmod(abs(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    words = [f"{n} {unit}" for n, unit in ((hours, "h"), (minutes, "min"), (rest, "s")) if n]
    return ("-" if seconds < 0 else "") + (" ".join(words) or "0 min")


def _said(reason: Why, covered: CoveredTime) -> str:
    title = _TITLES.get(reason.name, reason.name)
    lines = [f"{title}: {_state(reason, covered)}"]
    calendar = f' in calendar "{reason.calendar}"' if reason.calendar else ""
    clause = f"Clause {reason.clause}. " if reason.clause else ""
    lines.append(f"  {clause}Counted{calendar} ({reason.zone}) from {_local(reason.started_at, covered)}.")
    for number, change in enumerate(reason.changes):
        promised = "nothing is promised" if change.target_s is None else f"the target is {lasting(change.target_s)}"
        if number == 0:
            lines.append(f"  Priority {change.priority}: {promised}.")
        else:
            goal = "" if change.goal_s is None else f", so it is due after {lasting(change.goal_s)} of counted time"
            lines.append(f"  From {_local(change.at, covered)} priority {change.priority}: {promised}{goal}.")
    lines += [
        f"  + {_local(span.since, covered)} to {_local(span.until, covered)}: {lasting(span.seconds)}"
        for span in reason.counted
    ]
    for stop in reason.not_counted:
        end = f"to {_local(stop.until, covered)}" if stop.until else "until now"
        lines.append(f"  - {_local(stop.since, covered)} {end}: {stop.why}, {lasting(stop.seconds)} not counted")
    lines.append(f"  = {lasting(reason.counted_s)} counted.")
    return "\n".join(lines)


def _state(reason: Why, covered: CoveredTime) -> str:
    if reason.stopped:
        return f"stopped, {reason.stopped}."
    if reason.paused and reason.goal_s is not None:
        return f"paused with {lasting(reason.goal_s - reason.elapsed_s)} left{', late' * reason.breached}."
    due = f"due {_local(reason.due, covered)}" if reason.due else "not running"
    if reason.met_at:
        return f"{due}, met {_local(reason.met_at, covered)}, {'late' if reason.breached else 'in time'}."
    return f"{due}{', late' * reason.breached}."


def _local(instant: datetime, covered: CoveredTime) -> str:
    local = instant.astimezone(covered.calendar.zone)
    return local.strftime("%Y-%m-%d %H:%M:%S %z" if local.second else "%Y-%m-%d %H:%M %z")
