"""Batches of clock questions, as `msp sla eval` reads and writes them. Pure.

{"calendars": {name: calendar}, "cases": [{id, kind, calendar, input | policy + events + as_of}, ...]} becomes
{"results": [{id, ...}, ...]} in the same order. A case that cannot be answered gives {id, error} and stops no other.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msp.contracts import calendar as calendar_format
from msp.contracts import clock_rules, policy, ticket_log
from msp.contracts.clock_rules import require_calendar
from msp.contracts.clocks import Clock, Clocks
from msp.contracts.fields import Fields
from msp.contracts.spans import Span, printed, to_second
from msp.contracts.ticket_log import second_of
from msp.contracts.timecore import CoveredTime
from msp.errors import Misconfigured, MspError

MOST_PERIODS = 100_000


class Calendars(Mapping[str, CoveredTime]):
    """The calendars of a batch, each read when a case asks for it: a broken one fails only its own cases."""

    def __init__(self, documents: Mapping[str, Any]) -> None:
        self._documents = documents
        self._read: dict[str, CoveredTime] = {}

    def __getitem__(self, name: str) -> CoveredTime:
        if name not in self._read:
            self._read[name] = CoveredTime(calendar_format.parse(self._documents[name], where=f"calendar {name}"))
        return self._read[name]

    def __contains__(self, name: object) -> bool:
        return name in self._documents

    def __iter__(self) -> Any:
        return iter(self._documents)

    def __len__(self) -> int:
        return len(self._documents)


def evaluate(document: Any) -> dict[str, list[dict[str, Any]]]:
    """Return the results of a batch; raises Misconfigured only if the batch as a whole cannot be read."""
    batch = Fields(document, "")
    documents = batch.get("calendars", {})
    if not isinstance(documents, Mapping):
        raise Misconfigured("calendars must be an object by name.")
    calendars = Calendars(documents)
    return {"results": [_result(case, calendars) for case in batch.items("cases")]}


def clocks_of_case(case: Any, calendars: Mapping[str, CoveredTime]) -> Clocks:
    """Return the clocks of a ticket case; raises Misconfigured naming the field."""
    fields = Fields(case, "")
    name, covered = _calendar(fields, calendars)
    return clock_rules.read(
        ticket_log.parse(fields.items("events")),
        policy.parse(fields.get("policy"), where="policy"),
        covered,
        second_of(fields.get("as_of"), "as_of"),
        calendars=calendars,
        calendar=name,
    )


def _result(case: Any, calendars: Mapping[str, CoveredTime]) -> dict[str, Any]:
    result = {"id": case.get("id") if isinstance(case, Mapping) else None}
    try:
        fields = Fields(case, "")
        kind = fields.text("kind")
        if kind == "ticket":
            return result | ticket_result(clocks_of_case(case, calendars))
        if kind not in KINDS:
            raise Misconfigured(f"The kind {kind!r} is unknown.", advice=f"Known: {', '.join([*KINDS, 'ticket'])}.")
        _, covered = _calendar(fields, calendars)
        return result | KINDS[kind](covered, Fields(fields.get("input"), "input"))
    except MspError as error:
        return result | {"error": " ".join(filter(None, (error.what, error.advice)))}


def _calendar(fields: Fields, calendars: Mapping[str, CoveredTime]) -> tuple[str, CoveredTime]:
    name = fields.text("calendar")
    return name, require_calendar(calendars, name, "calendar")


def _instant(fields: Fields, key: str) -> int:
    return second_of(fields.get(key), fields.name(key))


def _pauses(fields: Fields) -> list[Span]:
    spans: list[Span] = []
    for number, pair in enumerate(fields.items("pauses", []), 1):
        name = f"{fields.name('pauses')} {number}"
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise Misconfigured(f"{name} must be a pair of instants [from, to].")
        start, end = second_of(pair[0], f"{name}: from"), second_of(pair[1], f"{name}: to")
        if end < start:
            raise Misconfigured(f"{name} ends before it starts.")
        spans.append((start, end))
    return spans


def _deadline(covered: CoveredTime, given: Fields) -> dict[str, Any]:
    due = covered.deadline(_instant(given, "start"), given.whole("seconds", least=1), _pauses(given))
    return {"due": printed(due)}


def _deadline_backward(covered: CoveredTime, given: Fields) -> dict[str, Any]:
    return {"at": printed(covered.deadline_backward(_instant(given, "end"), given.whole("seconds", least=1)))}


def _elapsed(covered: CoveredTime, given: Fields) -> dict[str, Any]:
    return {"seconds": covered.elapsed(_instant(given, "start"), _instant(given, "end"), _pauses(given))}


def _open(covered: CoveredTime, given: Fields) -> dict[str, Any]:
    return {"open": covered.is_open(_instant(given, "at"))}


def _next_open(covered: CoveredTime, given: Fields) -> dict[str, Any]:
    return {"at": printed(covered.next_open(_instant(given, "at")))}


def _next_close(covered: CoveredTime, given: Fields) -> dict[str, Any]:
    return {"at": _printed_or_none(covered.next_close(_instant(given, "at")))}  # null: round the clock, for ever


def _periods(covered: CoveredTime, given: Fields) -> dict[str, Any]:
    spans = covered.periods(_instant(given, "start"), given.whole("count", least=1, most=MOST_PERIODS))
    return {"periods": [[printed(start), _printed_or_none(end)] for start, end in spans]}


def _warn_before(covered: CoveredTime, given: Fields) -> dict[str, Any]:
    start, seconds = _instant(given, "start"), given.whole("seconds", least=1)
    return {"at": printed(covered.warn_before(start, seconds, given.whole("warn_seconds")))}


KINDS: dict[str, Callable[[CoveredTime, Fields], dict[str, Any]]] = {
    "deadline": _deadline,
    "deadline_backward": _deadline_backward,
    "elapsed": _elapsed,
    "open": _open,
    "next_open": _next_open,
    "next_close": _next_close,
    "periods": _periods,
    "warn_before": _warn_before,
}


def ticket_result(clocks: Clocks) -> dict[str, Any]:
    """Return the clocks as a batch prints them: keys that do not apply are left out, except `due`."""
    response, resolution, arrival = clocks.first_response, clocks.resolution, clocks.onsite_arrival
    result: dict[str, Any] = {
        "first_response": _given(
            due=_due(response), met_at=_at(response.met_at), elapsed_s=response.elapsed_s if response.met_at else None,
            breached=response.breached, stopped=response.stopped,
        ),
        "next_reply": {"due": _due(clocks.next_reply)},
        "resolution": _given(
            paused=resolution.paused,
            due=_due(resolution),
            remaining_s=resolution.remaining_s if resolution.paused else None,
            breached=resolution.breached,
            resolved_at=_at(resolution.met_at),
            elapsed_s=resolution.elapsed_s if resolution.met_at else None,
            stopped=resolution.stopped,
        ),
    }  # fmt: skip
    if clocks.ola is not None:
        result["ola"] = {use.line: {"elapsed_s": use.elapsed_s, "breached": use.breached} for use in clocks.ola}
    if arrival:
        result["onsite_arrival"] = _given(
            due=_due(arrival), arrived_at=_at(arrival.met_at), breached=arrival.breached, stopped=arrival.stopped
        )
    if clocks.latest_dispatch_at:
        result["latest_dispatch_at"] = _at(clocks.latest_dispatch_at)
    return result


def _given(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None or key == "due"}


def _due(clock: Clock | None) -> str | None:
    return _at(clock.due) if clock else None


def _at(instant: Any) -> str | None:
    return None if instant is None else printed(to_second(instant))


def _printed_or_none(second: int | None) -> str | None:
    return None if second is None else printed(second)
