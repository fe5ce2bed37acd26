"""The clocks of a ticket from its event log: rules R1 to R12 of covered time. Pure.

Every clock counts open seconds from its start outside its stops. Its goal is a number of such seconds, so that a pause
moves the due time and can never give or take an open second. Priority up (R6): due = min(old due, change + new target),
down: due = max(old due, start + new target); in counted seconds goal = min(goal, counted(change) + new) and
goal = max(goal, new), which keeps every pause, earlier or later.

R2 needs no rule here: the caller passes the policy and the calendar pinned when the ticket was opened.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from msp.contracts.clocks import Change, Clock, Clocks, LineUse, Stop, Warn
from msp.contracts.policy import DONE_STATES, FIRST_LINE, FIRST_LINE_SECONDS, OUTCOMES, LineBox, Milestone, Policy
from msp.contracts.spans import printed, to_instant, to_second
from msp.contracts.ticket_log import EARLIEST_BEFORE_RECEIPT, Event
from msp.contracts.timecore import CoveredTime
from msp.errors import Misconfigured

WARN_AT_PERCENT: Final = (50, 75, 90)
_FIRST_LINE_BOX = LineBox(FIRST_LINE_SECONDS)

#: (second, place in the log): what happens in the same second happens in the order of the log.
Moment = tuple[int, int]
Log = Sequence[tuple[Moment, Event]]
FAR: Final = 2**40  # a stop that goes on: later than any second a clock may ask about
_BEFORE_THE_LOG: Final = -1


@dataclass(frozen=True, slots=True)
class _Halt:
    """A stretch in which the ticket was not worked on. `until` None: still."""

    since: int
    until: int | None
    why: str
    is_pause: bool  # a waiting state; else resolved, closed, or an outcome
    place: int = 0  # in the log, of the event that began it


@dataclass(frozen=True, slots=True)
class _Case:
    """What every clock of one ticket needs."""

    policy: Policy
    covered: CoveredTime
    calendar: str
    as_of: int
    priorities: Sequence[tuple[Moment, str]]  # in force from that moment on

    def clock(self, name: Milestone, start: Moment, began: int, met: Moment | None, halts: Sequence[_Halt]) -> Clock:
        """Return a clock that counts from second `began`, with the priority in force at moment `start`."""
        halts = _before(halts, met)
        goal, changes = self._goal(name, start, began, met, halts)
        return self.shown(name, began, goal, met, halts, changes)

    def shown(
        self,
        name: str,
        began: int,
        goal: int | None,
        met: Moment | None,
        halts: Sequence[_Halt],
        changes: tuple[Change, ...] = (),
    ) -> Clock:
        """Return what a clock with this goal shows; a stopped one shows no due time, and keeps an earlier breach."""
        still = next((halt for halt in halts if halt.until is None), None)
        end = met[0] if met else still.since if still else self.as_of
        closed = [(halt.since, halt.until) for halt in halts if halt.until is not None]
        elapsed = self.covered.elapsed(began, end, closed)
        due = None
        if goal is not None and (still is None or elapsed >= goal):
            due = self.covered.deadline(began, goal, closed)
        warnings: tuple[Warn, ...] = ()
        if goal is not None and met is None and still is None:
            parts = ((percent, -(-goal * percent // 100)) for percent in WARN_AT_PERCENT)
            warnings = tuple(
                Warn(to_instant(self.covered.deadline(began, part, closed)), percent) for percent, part in parts
            )
        return Clock(
            name,
            started_at=to_instant(began),
            due=None if due is None or still else to_instant(due),
            breached=due is not None and end > due,
            elapsed_s=elapsed,
            goal_s=goal,
            met_at=to_instant(met[0]) if met else None,
            paused=still is not None and still.is_pause,
            stopped=still.why if still and still.why in OUTCOMES else None,
            warnings=warnings,
            changes=changes,
            stops=tuple(
                Stop(to_instant(halt.since), None if halt.until is None else to_instant(halt.until), halt.why)
                for halt in halts
            ),
            calendar=self.calendar,
        )

    def priority_at(self, moment: Moment) -> str:
        return [name for since, name in self.priorities if since <= moment][-1]

    def _goal(
        self, name: Milestone, start: Moment, began: int, met: Moment | None, halts: Sequence[_Halt]
    ) -> tuple[int | None, tuple[Change, ...]]:
        """Return the goal in counted seconds (R6), and what made it so. Nothing moves a clock that is met."""
        stops = [(halt.since, FAR if halt.until is None else halt.until) for halt in halts]
        priority = self.priority_at(start)
        row = self.policy.targets[priority]
        goal = row.of(name)
        changes = [Change(to_instant(began), priority, goal, goal, row.clause or self.policy.clause)]
        for moment, new in self.priorities:
            if moment <= start or new == priority or (met is not None and moment > met):
                continue
            row = self.policy.targets[new]
            target = row.of(name)
            if target is None:
                goal = None
            elif self.policy.is_more_urgent(new, priority):
                from_now = self.covered.elapsed(began, moment[0], stops) + target
                goal = from_now if goal is None else min(goal, from_now)
            else:
                goal = target if goal is None else max(goal, target)
            priority = new
            changes.append(Change(to_instant(moment[0]), new, target, goal, row.clause or self.policy.clause))
        return goal, tuple(changes)


def read(
    events: Sequence[Event],
    policy: Policy,
    covered: CoveredTime,
    as_of: int,
    *,
    calendars: Mapping[str, CoveredTime] | None = None,
    calendar: str = "",
) -> Clocks:
    """Return the clocks of a ticket as of a second.

    events: as ticket_log.parse returns them; those after `as_of` have not happened yet.
    covered, calendar: the contract line's, and its name. calendars: those that `ola` and `latest_dispatch` name.
    Raises Misconfigured for a priority without targets, a calendar that is not there, an `as_of` before the ticket.
    """
    for event in events:
        if event.type in ("created", "priority"):
            policy.require(event.priority or event.to)
    created = events[0]
    if as_of < created.at:
        raise Misconfigured(f"as_of ({printed(as_of)}) is before the ticket was created ({printed(created.at)}).")
    log = _happened(events, as_of)
    halts, state = _halts(log, policy)
    priorities = [((created.at, 0), created.priority)]
    priorities += [(moment, event.to) for moment, event in log if event.type == "priority"]
    case = _Case(policy, covered, calendar, as_of, priorities)

    start = (created.at, 0)
    began = _began(log)
    answer = _first_answer(log)
    now = halts[-1] if halts and halts[-1].until is None else None
    resolved = (now.since, now.place) if now and now.why in DONE_STATES else None
    response_halts = [halt for halt in halts if policy.pause_first_response or not halt.is_pause]
    first_response = case.clock("first_response", start, began, answer, response_halts)
    resolution = case.clock("resolution", start, began, resolved, halts)
    answered, waiting = _next_replies(case, log, answer, halts)
    ola = None
    if policy.ola is not None:
        ola = tuple(_line_uses(case, log, halts, policy.ola, calendars or {}))
    return Clocks(
        as_of=to_instant(as_of),
        state=state,
        priority=priorities[-1][1],
        line=_visits(log)[-1][0],
        paused=now is not None and now.is_pause,
        stopped=now.why if now and now.why in OUTCOMES else None,
        first_response=first_response,
        next_reply=waiting,
        resolution=resolution,
        onsite_arrival=_onsite_arrival(case, log, halts),
        ola=ola,
        latest_dispatch_at=_latest_dispatch(policy, resolution, calendars or {}),
        answered=tuple(answered),
    )


def _happened(events: Sequence[Event], as_of: int) -> Log:
    """Return the events up to `as_of`, and none after a merge: what follows belongs to the parent (R8)."""
    log = []
    for place, event in enumerate(events):
        if event.at > as_of:
            break
        log.append(((event.at, place), event))
        if event.type == "merged_into":
            break
    return log


def _began(log: Log) -> int:
    """Return when the ticket's clocks start: at its event's time, or with the oldest ticket merged into it (R8)."""
    created = log[0][1]
    began = created.at
    if created.since is not None:
        began = min(began, max(created.since, began - EARLIEST_BEFORE_RECEIPT))
    return min([began, *(event.since for _, event in log if event.type == "merged_from" and event.since is not None)])


def _is_answer(event: Event) -> bool:
    """A public message or a call by a human (R3). Automatic answers, notes and playbook output are none."""
    return event.type == "call_by_agent" or (event.type == "agent_reply" and not event.internal)


def _first_answer(log: Log) -> Moment | None:
    answers = [moment for moment, event in log if _is_answer(event)]
    answers += [(event.reply_at, _BEFORE_THE_LOG) for _, event in log if event.reply_at is not None]
    if log[0][1].channel == "phone_by_agent":
        answers.append(log[0][0])
    return min(answers, default=None)


def _halts(log: Log, policy: Policy) -> tuple[list[_Halt], str]:
    """Return when the ticket was not worked on, in order, and its present state."""
    halts: list[_Halt] = []
    state = "open"
    for (at, place), event in log:
        if event.type not in ("state", "merged_into"):
            continue
        state = "merged" if event.type == "merged_into" else event.to
        now = halts[-1] if halts and halts[-1].until is None else None
        is_pause = state in policy.pause_states
        halting = is_pause or state in DONE_STATES or state in OUTCOMES
        if now and not now.is_pause and state in DONE_STATES:
            continue  # closing what is resolved or cancelled changes no clock
        if now:
            halts[-1] = replace(now, until=at)
        if halting:
            halts.append(_Halt(at, None, state, is_pause, place))
    return halts, state


def _before(halts: Sequence[_Halt], met: Moment | None) -> list[_Halt]:
    """Return the halts up to the moment at which a clock was met: what comes later cannot move it."""
    if met is None:
        return list(halts)
    end = met[0]
    return [
        replace(halt, until=end if halt.until is None else min(halt.until, end)) for halt in halts if halt.since < end
    ]


def _next_replies(
    case: _Case, log: Log, first: Moment | None, halts: Sequence[_Halt]
) -> tuple[list[Clock], Clock | None]:
    """Return the clocks of client messages after the first response (R4): the answered ones, and the waiting one."""
    answered: list[Clock] = []
    oldest: Moment | None = None
    for moment, event in log if first is not None else ():
        if event.type == "customer_message" and oldest is None and first is not None and moment > first:
            oldest = moment
        elif oldest is not None and _is_answer(event):
            answered.append(case.clock("next_reply", oldest, oldest[0], moment, halts))
            oldest = None
    return answered, None if oldest is None else case.clock("next_reply", oldest, oldest[0], None, halts)


def _visits(log: Log) -> list[tuple[str, int, int]]:
    """Return (line, from, to) of every visit to a support line (R10); the last one goes on."""
    visits = [(log[0][1].line or FIRST_LINE, log[0][1].at, FAR)]
    for _, event in log:
        if event.type == "line":
            name, since, _ = visits[-1]
            visits[-1] = (name, since, event.at)
            visits.append((event.to, event.at, FAR))
    return visits


def _line_uses(
    case: _Case,
    log: Log,
    halts: Sequence[_Halt],
    boxes: Mapping[str, LineBox],
    calendars: Mapping[str, CoveredTime],
) -> Iterable[LineUse]:
    visits = _visits(log)
    stops = [(halt.since, FAR if halt.until is None else halt.until) for halt in halts]
    is_still = any(halt.until is None for halt in halts)
    for line in dict.fromkeys([*boxes, *(name for name, _, _ in visits)]):
        box = boxes.get(line, _FIRST_LINE_BOX if line == FIRST_LINE else None)
        covered = case.covered
        if box and box.calendar:
            covered = require_calendar(calendars, box.calendar, f"ola {line}")
        spent = [covered.elapsed(since, min(until, case.as_of), stops) for name, since, until in visits if name == line]
        used = sum(spent)
        breached = box is not None and used > box.seconds
        runs_out = None
        if box and not breached and not is_still and visits[-1][0] == line:
            runs_out = to_instant(covered.deadline(case.as_of, box.seconds + 1 - used))
        yield LineUse(line, used, box.seconds if box else None, breached, runs_out)


def _onsite_arrival(case: _Case, log: Log, halts: Sequence[_Halt]) -> Clock | None:
    """Return the clock from the last request on site to the check-in, without "no access" (R11)."""
    if case.policy.onsite_seconds is None:
        return None
    asked: Moment | None = None
    arrived: Moment | None = None
    for moment, event in log:
        if event.type == "onsite_requested" and (asked is None or arrived is not None):
            asked, arrived = moment, None
        elif event.type == "arrived" and asked is not None and arrived is None:
            arrived = moment
    if asked is None:
        return None
    closed = [halt for halt in halts if not halt.is_pause]  # waiting for the client does not stop the journey
    waits = [_Halt(event.at, event.until, "no_access", True) for _, event in log if event.type == "no_access"]
    goal = case.policy.onsite_seconds
    change = Change(to_instant(asked[0]), case.priority_at(asked), goal, goal, case.policy.clause)
    return case.shown("onsite_arrival", asked[0], goal, arrived, [*_before(closed, arrived), *waits], (change,))


def _latest_dispatch(policy: Policy, resolution: Clock, calendars: Mapping[str, CoveredTime]) -> datetime | None:
    """Return the point of no return (R12): the due time less repair and travel, on the technician's own calendar."""
    if policy.latest_dispatch is None:
        return None
    own = require_calendar(calendars, policy.latest_dispatch.calendar, "latest_dispatch")
    if not resolution.is_running or resolution.due is None:
        return None
    if policy.latest_dispatch.seconds == 0:
        return resolution.due
    return to_instant(own.deadline_backward(to_second(resolution.due), policy.latest_dispatch.seconds))


def require_calendar(calendars: Mapping[str, CoveredTime], name: str, where: str) -> CoveredTime:
    """Return the calendar of this name; raises Misconfigured if there is none."""
    if name not in calendars:
        raise Misconfigured(f"{where}: there is no calendar {name!r}.", advice=f"Known: {', '.join(calendars)}.")
    return calendars[name]
