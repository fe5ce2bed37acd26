"""The events of a ticket that move its clocks, read and checked. Pure.

An event is {type, at, ...}; keys that no clock reads (who, text, ...) are left alone. Instants are ISO 8601 texts with
an offset or aware datetimes; fractions of a second are cut off, because clocks count whole seconds.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from msp.contracts.fields import Fields, parse_instant
from msp.contracts.spans import to_second
from msp.contracts.timecore import FIRST, LAST
from msp.errors import Misconfigured

#: A monitoring ticket starts at its event's time, but at most so long before we received it.
EARLIEST_BEFORE_RECEIPT: Final = 15 * 60


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of the log; instants are UTC seconds since 1970.

    to: the new state, priority or line. since: `event_at` of a monitoring ticket, `created` of a merged one.
    until: end of a "no access". reply_at: the merged ticket's first human answer.
    """

    type: str
    at: int
    priority: str = ""
    line: str = ""
    channel: str = ""
    to: str = ""
    internal: bool = False
    since: int | None = None
    until: int = 0
    reply_at: int | None = None


def second_of(value: Any, field: str) -> int:
    """Return the UTC second of an ISO 8601 text or an aware datetime; raises Misconfigured naming the field."""
    if isinstance(value, datetime):
        value = value.isoformat()
    second = to_second(parse_instant(value, field))
    if not FIRST <= second <= LAST:
        raise Misconfigured(f"{field} lies outside the years 1901 to 2398: {value!r:.80}.")
    return second


def _created(fields: Fields, at: int) -> Event:
    since = _optional_instant(fields, "event_at")
    return Event(
        "created",
        at,
        priority=fields.text("priority"),
        channel=fields.text("channel", ""),
        line=fields.text("line", ""),
        since=since,
    )


def _merged_from(fields: Fields, at: int) -> Event:
    created = second_of(fields.get("created"), fields.name("created"))
    reply = _optional_instant(fields, "first_reply")
    if created > at or (reply is not None and not created <= reply <= at):
        raise Misconfigured(
            f"{fields.where}: the merged ticket's created, first_reply and at must come in this order.",
            advice="A ticket is created, then answered, then merged.",
        )
    return Event("merged_from", at, since=created, reply_at=reply)


def _no_access(fields: Fields, at: int) -> Event:
    until = second_of(fields.get("until"), fields.name("until"))
    if until < at:
        raise Misconfigured(f"{fields.name('until')} must not be before {fields.name('at')}.")
    return Event("no_access", at, until=until)


def _plain(kind: str) -> Callable[[Fields, int], Event]:
    return lambda fields, at: Event(kind, at)


def _change(kind: str) -> Callable[[Fields, int], Event]:
    return lambda fields, at: Event(kind, at, to=fields.text("to"))


#: type -> how it is read. What is not here never moves a clock.
TYPES: Final[Mapping[str, Callable[[Fields, int], Event]]] = {
    "created": _created,
    "agent_reply": lambda fields, at: Event("agent_reply", at, internal=fields.flag("internal")),
    "call_by_agent": _plain("call_by_agent"),
    "customer_message": _plain("customer_message"),
    "auto_reply": _plain("auto_reply"),
    "playbook_run": _plain("playbook_run"),
    "state": _change("state"),
    "priority": _change("priority"),
    "line": _change("line"),
    "merged_into": _plain("merged_into"),
    "merged_from": _merged_from,
    "onsite_requested": _plain("onsite_requested"),
    "no_access": _no_access,
    "arrived": _plain("arrived"),
}


def parse(entries: Any, *, skip_unknown: bool = False) -> list[Event]:
    """Return the events of a log, which must begin with `created` and be in order of `at`.

    skip_unknown: leave out types that are none of TYPES (a desk logs more than its clocks read); else they are errors.
    Raises Misconfigured naming the event, counted from 1, and the field.
    """
    if not isinstance(entries, Iterable) or isinstance(entries, str | bytes | Mapping):
        raise Misconfigured("events must be a list.")
    events: list[Event] = []
    for number, entry in enumerate(entries, 1):
        fields = Fields(entry, f"event {number}")
        kind = fields.text("type")
        if kind not in TYPES:
            if skip_unknown:
                continue
            raise Misconfigured(f"event {number}: the type {kind!r} is unknown.", advice=f"Known: {', '.join(TYPES)}.")
        at = second_of(fields.get("at"), fields.name("at"))
        if events and at < events[-1].at:
            raise Misconfigured(f"event {number} ({kind}) is out of order: it is earlier than the one before it.")
        if (kind == "created") != (not events):
            raise Misconfigured(
                f"event {number} is {kind!r}: a log begins with one 'created', and has no other.",
            )
        events.append(TYPES[kind](fields, at))
    if not events:
        raise Misconfigured("events must have at least 'created'.")
    return events


def _optional_instant(fields: Fields, key: str) -> int | None:
    return second_of(fields.get(key), fields.name(key)) if key in fields else None
