"""What a contract line promises about time: targets by priority, pauses, support lines, visits. Pure.

A document is {targets: {priority: {first_response, next_reply, resolution}}, pause_states: [..],
pause_first_response: bool, ola: {line: {minutes, calendar}}, onsite_minutes, latest_dispatch: {calendar, travel_min,
repair_min}, clause: text}; everything but `targets` may be missing. Targets are minutes of covered time.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from msp.contracts.fields import Fields
from msp.contracts.spelling import refuse_misspelt
from msp.errors import Misconfigured

Milestone = Literal["first_response", "next_reply", "resolution"]

MILESTONES: Final[tuple[Milestone, ...]] = ("first_response", "next_reply", "resolution")
DEFAULT_PAUSE_STATES: Final = frozenset({"waiting_client", "scheduled"})
#: States that end the work; their time counts for no clock (R7), and the outcomes leave the percentage.
DONE_STATES: Final = frozenset({"resolved", "closed"})
OUTCOMES: Final = frozenset({"cancelled", "out_of_scope", "merged"})
FIRST_LINE: Final = "L1"
FIRST_LINE_SECONDS: Final = 15 * 60
KEYS: Final = (
    "targets", "pause_states", "pause_first_response", "ola", "onsite_minutes", "latest_dispatch", "clause",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Targets:
    """Seconds of covered time at one priority; None: nothing is promised."""

    first_response: int | None
    next_reply: int | None
    resolution: int | None
    clause: str = ""

    def of(self, milestone: Milestone) -> int | None:
        found: int | None = getattr(self, milestone)
        return found


@dataclass(frozen=True, slots=True)
class LineBox:
    """The time box of a support line (OLA). `calendar` None: the contract's."""

    seconds: int
    calendar: str | None = None


@dataclass(frozen=True, slots=True)
class LatestDispatch:
    """What a visit takes: `calendar` is the technician's, `seconds` are repair (p80 of that kind) and travel."""

    calendar: str
    seconds: int


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """All promises of one contract line about time."""

    targets: Mapping[str, Targets]
    pause_states: frozenset[str] = DEFAULT_PAUSE_STATES
    pause_first_response: bool = False
    ola: Mapping[str, LineBox] | None = None  # None: not asked for
    onsite_seconds: int | None = None
    latest_dispatch: LatestDispatch | None = None
    clause: str = ""

    def require(self, priority: str) -> Targets:
        """Return the targets of a priority; raises Misconfigured if there are none."""
        if priority not in self.targets:
            raise Misconfigured(
                f"The policy has no targets for the priority {priority!r}.",
                advice=f"Known priorities: {', '.join(self.targets)}.",
            )
        return self.targets[priority]

    def is_more_urgent(self, new: str, old: str) -> bool:
        """Return whether a change from `old` to `new` raises the priority.

        Numbered priorities (P1, P2, ...; 1, 2, ...) go by number, any others by their targets: shorter is more urgent.
        """
        numbers = [re.fullmatch(r"([^\d]*)(\d+)", name) for name in (new, old)]
        if numbers[0] and numbers[1] and numbers[0][1] == numbers[1][1]:
            return int(numbers[0][2]) < int(numbers[1][2])
        return self._haste(new) < self._haste(old)

    def _haste(self, priority: str) -> list[float]:
        row = self.targets[priority]
        wanted = (row.resolution, row.first_response, row.next_reply)
        return [float("inf") if seconds is None else seconds for seconds in wanted]


def parse(document: Any, *, where: str = "The policy") -> Policy:
    """Return the policy a document describes; raises Misconfigured naming the field."""
    fields = Fields(document, where)
    refuse_misspelt(document, KEYS, where)
    rows = fields.get("targets")
    if not isinstance(rows, Mapping) or not rows:
        raise Misconfigured(f"{where}: targets must be an object with at least one priority.")
    ola = fields.get("ola", None)
    if ola is not None and not isinstance(ola, Mapping):
        raise Misconfigured(f"{where}: ola must be an object by support line.")
    states = fields.texts("pause_states") if "pause_states" in fields else DEFAULT_PAUSE_STATES
    for state in states:
        if state in DONE_STATES | OUTCOMES | {"open"}:
            raise Misconfigured(f"{where}: pause_states cannot have {state!r}.", advice="It is no waiting state.")
    return Policy(
        targets={name: _targets(row, f"{where}: targets {name}") for name, row in rows.items()},
        pause_states=frozenset(states),
        pause_first_response=fields.flag("pause_first_response"),
        ola=None if ola is None else {line: _box(line, box, f"{where}: ola {line}") for line, box in ola.items()},
        onsite_seconds=seconds_of_minutes(document.get("onsite_minutes"), f"{where}: onsite_minutes"),
        latest_dispatch=_latest_dispatch(fields, f"{where}: latest_dispatch"),
        clause=fields.text("clause", ""),
    )


def seconds_of_minutes(value: Any, field: str, *, least: int = 1) -> int | None:
    """Return minutes as whole seconds, None for None; raises Misconfigured below `least` seconds."""
    if value is None:
        return None
    usable = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 10**9  # not for NaN
    if not usable or value * 60 != int(value * 60):
        raise Misconfigured(f"{field} must be minutes that make whole seconds, not {value!r:.80}.")
    if value * 60 < least:
        raise Misconfigured(f"{field} must be {'more than' if least else 'at least'} 0 minutes, not {value!r}.")
    return int(value * 60)


def _targets(value: Any, where: str) -> Targets:
    if not isinstance(value, Mapping):
        raise Misconfigured(f"{where} must be an object with minutes for {', '.join(MILESTONES)}.")
    refuse_misspelt(value, (*MILESTONES, "clause"), where)
    seconds = {name: seconds_of_minutes(value.get(name), f"{where}: {name}") for name in MILESTONES}
    return Targets(**seconds, clause=Fields(value, where).text("clause", ""))


def _box(line: str, value: Any, where: str) -> LineBox:
    fields = Fields(value, where)
    refuse_misspelt(value, ("minutes", "calendar"), where)
    seconds = seconds_of_minutes(value.get("minutes"), f"{where}: minutes")
    if seconds is None and line != FIRST_LINE:
        raise Misconfigured(f"{where}: minutes is missing.", advice=f"Only {FIRST_LINE} has a default: 15 minutes.")
    return LineBox(FIRST_LINE_SECONDS if seconds is None else seconds, fields.text("calendar", None))


def _latest_dispatch(fields: Fields, where: str) -> LatestDispatch | None:
    found = fields.object("latest_dispatch")
    if found is None:
        return None
    refuse_misspelt(found.value, ("calendar", "travel_min", "repair_min"), where)
    parts = [seconds_of_minutes(found.get(key), f"{where}: {key}", least=0) for key in ("travel_min", "repair_min")]
    return LatestDispatch(found.text("calendar"), sum(part or 0 for part in parts))
