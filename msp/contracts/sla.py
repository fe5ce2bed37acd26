"""When a promise falls due: the clocks of a ticket in covered time, for the rooms that show and store them. Pure.

A caller reads the calendar and the policy of the pinned contract version once, and asks with its log and an instant:

    office = sla.read_calendar(terms["calendars"]["office"])
    policy = sla.read_policy(terms["sla"])
    clocks = sla.clocks_of(events, policy, office, as_of=now)

What comes back may be cached by the version of the log; it is always recomputed, never added up.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from msp.contracts import calendar as calendars_format
from msp.contracts import clock_rules, ticket_log
from msp.contracts import policy as policy_format
from msp.contracts.clocks import Clock, Clocks, LineUse
from msp.contracts.policy import Policy
from msp.contracts.spans import to_instant, to_second
from msp.contracts.timecore import CoveredTime

__all__ = [
    "Clock", "Clocks", "CoveredTime", "LineUse", "Policy", "clocks_of", "covered", "due_at", "is_covered",
    "latest_start", "next_covered", "read_calendar", "read_policy",
]  # fmt: skip


def read_calendar(document: Mapping[str, Any], *, where: str = "The calendar") -> CoveredTime:
    """Return the covered time of a calendar document; equal documents share one index.

    Raises Misconfigured if it cannot be read or never opens.
    """
    return _calendar(json.dumps(document, sort_keys=True, default=str), where)


def check_calendar(document: Mapping[str, Any], *, where: str = "The calendar") -> None:
    """Raise Misconfigured if a person must not save this: as read_calendar, and for intervals that overlap."""
    calendars_format.parse(document, where=where, strict=True)


def read_policy(document: Mapping[str, Any], *, where: str = "The policy") -> Policy:
    """Return the policy of a document; equal documents are read once. Raises Misconfigured naming the field."""
    return _policy(json.dumps(document, default=str), where)  # in its order: it may rank the priorities


@lru_cache(maxsize=512)
def _calendar(text: str, where: str) -> CoveredTime:
    return CoveredTime(calendars_format.parse(json.loads(text), where=where))


@lru_cache(maxsize=512)
def _policy(text: str, where: str) -> Policy:
    return policy_format.parse(json.loads(text), where=where)


def clocks_of(
    events: Iterable[Mapping[str, Any]],
    policy: Policy,
    calendar: CoveredTime,
    as_of: datetime,
    *,
    calendars: Mapping[str, CoveredTime] | None = None,
    calendar_name: str = "",
) -> Clocks:
    """Return all clocks of a ticket as of an instant.

    events: the log in order, each {"type": ..., "at": aware datetime or ISO text, ...} as ticket_log reads it; types
    that move no clock are passed over. calendars: those that `policy` names (support lines, technician).
    Raises Misconfigured for a log out of order, a priority without targets or a calendar that is not there.
    """
    log = ticket_log.parse(events, skip_unknown=True)
    return clock_rules.read(log, policy, calendar, to_second(as_of), calendars=calendars, calendar=calendar_name)


def due_at(
    calendar: CoveredTime, start: datetime, target: timedelta, held: Iterable[tuple[datetime, datetime]] = ()
) -> datetime:
    """Return the earliest instant at which `target` (more than 0) is covered since `start` outside `held`."""
    pauses = [(to_second(begin), to_second(end)) for begin, end in held]
    return to_instant(calendar.deadline(to_second(start), _seconds(target), pauses))


def latest_start(calendar: CoveredTime, end: datetime, effort: timedelta) -> datetime:
    """Return the latest instant from which `effort` (more than 0) is covered until `end`."""
    return to_instant(calendar.deadline_backward(to_second(end), _seconds(effort)))


def covered(calendar: CoveredTime, start: datetime, end: datetime) -> timedelta:
    """Return how much of `start` to `end` is covered."""
    return timedelta(seconds=calendar.elapsed(to_second(start), to_second(end)))


def is_covered(calendar: CoveredTime, at: datetime) -> bool:
    return calendar.is_open(to_second(at))


def next_covered(calendar: CoveredTime, at: datetime) -> datetime:
    """Return the first covered instant that is not before `at`: when a held-back notice goes out."""
    whole = to_second(at)
    found = to_instant(calendar.next_open(whole))
    return max(found, at) if found == to_instant(whole) else found


def _seconds(duration: timedelta) -> int:
    return -(-duration // timedelta(seconds=1))  # part of a second is a second
