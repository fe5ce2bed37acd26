"""Random ticket histories, recomputed from their logs, against a desk that ticks minute by minute."""

import random
from datetime import UTC, date, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msp.contracts import calendar, explain
from msp.contracts.evaluate import clocks_of_case, evaluate
from msp.contracts.timecore import CoveredTime
from tests.contracts import oracle
from tests.contracts.test_contracts_timecore import CHANGES, ZONES

TARGETS = {
    "P1": {"first_response": 15, "next_reply": 30, "resolution": 240},
    "P2": {"first_response": 60, "next_reply": 120, "resolution": 480},
    "P3": {"first_response": 120, "next_reply": 240, "resolution": 960},
}
PAINTED_DAYS = 40
DONE, PAUSES = {"resolved", "closed"}, {"waiting_client", "scheduled"}


class Ticker:
    """One clock that ticks forward: what is left of its promise, and when each counted minute was over."""

    def __init__(self, start: int, target: int) -> None:
        self.start, self.used, self.left = start, 0, target
        self.reached: dict[int, int] = {}
        self.met: int | None = None

    def change(self, target: int, *, up: bool) -> None:
        """R6: the earlier of the old due time and now + target, or the later of it and start + target."""
        if self.met is None:
            self.left = min(self.left, target) if up else max(self.left, target - self.used)

    def tick(self, minute: int) -> None:
        self.used, self.left = self.used + 1, self.left - 1
        self.reached[self.used] = minute + 1

    def due(self, opened: set[int], since: int | None) -> int | None:
        """When the goal was reached, or will be if it runs on from minute `since`; None: it stands."""
        goal = self.used + self.left
        if goal <= self.used:
            return self.reached[goal]
        if since is None:
            return None
        minute, left = since, self.left
        while left:
            left -= minute in opened
            minute += 1
        return minute


def simulated(case: dict[str, Any], opened: set[int]) -> dict[str, Any]:
    """Play the log minute by minute, as a desk that has never heard of recomputing would."""
    events = [(int(datetime.fromisoformat(e["at"]).timestamp()) // 60, e) for e in case["events"]]
    begin, as_of = events[0][0], int(datetime.fromisoformat(case["as_of"]).timestamp()) // 60
    pauses_first = case["policy"]["pause_first_response"]
    priority, state, line, since = events[0][1]["priority"], "open", "L1", begin
    first = Ticker(begin, TARGETS[priority]["first_response"])
    whole = Ticker(begin, TARGETS[priority]["resolution"])
    reply: Ticker | None = None
    spent: dict[str, int] = {}
    deferred: list[tuple[int, bool]] = []
    if events[0][1]["channel"] == "phone_by_agent":
        first.met = begin
    for minute in range(begin, as_of + 1):
        for event in [e for m, e in events[1:] if m == minute]:
            kind = event["type"]
            if kind == "customer_message" and first.met is not None and reply is None:
                reply = Ticker(minute, TARGETS[priority]["next_reply"])
            elif kind == "call_by_agent" or (kind == "agent_reply" and not event["internal"]):
                reply = None
                first.met = minute if first.met is None else first.met
            elif kind == "state":
                if not (state in DONE and event["to"] in DONE):
                    since = minute
                state = event["to"]
                if state not in DONE:  # a reopened clock learns what happened while it was over
                    for target, up in deferred:
                        whole.change(target, up=up)
                    deferred = []
            elif kind == "priority" and event["to"] != priority:
                up, priority = event["to"] < priority, event["to"]
                if state in DONE:
                    deferred.append((TARGETS[priority]["resolution"], up))
                else:
                    whole.change(TARGETS[priority]["resolution"], up=up)
                for clock, name in ((first, "first_response"), (reply, "next_reply")):
                    if clock:
                        clock.change(TARGETS[priority][name], up=up)
            elif kind == "line":
                line = event["to"]
                spent.setdefault(line, 0)
        spent.setdefault(line, 0)
        if minute == as_of or minute not in opened or state in DONE:
            continue
        if first.met is None and not (pauses_first and state in PAUSES):
            first.tick(minute)
        if state not in PAUSES:
            whole.tick(minute)
            spent[line] += 1
            if reply:
                reply.tick(minute)
    is_paused, is_done = state in PAUSES, state in DONE
    return {
        "first": _shown(first, opened, as_of, since, stands=is_done or (is_paused and pauses_first)),
        "whole": _shown(whole, opened, as_of, since, stands=is_paused or is_done, met=since if is_done else None),
        "reply": None if reply is None or is_paused or is_done else reply.due(opened, as_of),
        "left": whole.left,
        "used": whole.used,
        "spent": spent,
        "paused": is_paused,
        "resolved": since if is_done else None,
    }


def _shown(
    clock: Ticker, opened: set[int], as_of: int, since: int, *, stands: bool, met: int | None = None
) -> tuple[int | None, bool, int | None, int]:
    met = clock.met if clock.met is not None else met
    if met is not None:
        due = clock.due(opened, met)
        return due, due is not None and met > due, met, clock.used
    if stands:
        due = clock.due(opened, None)
        return None, due is not None and since > due, None, clock.used
    due = clock.due(opened, as_of)
    return due, due is not None and as_of > due, None, clock.used


def random_case(dice: random.Random, length: int) -> tuple[dict[str, Any], dict[str, Any], date]:
    zone = dice.choice(ZONES)
    day = dice.choice(CHANGES[zone] or [date(2025, 3, 1)]) - timedelta(days=dice.randrange(3))
    document = {
        "tz": zone,
        "week": {name: [["08:00", "12:00"], ["13:00", "18:00"]] for name in oracle.DAYS[:5]}
        | ({"sat": [["22:00", "03:00"]]} if dice.random() < 0.5 else {}),
        "holidays": [(day + timedelta(days=dice.randrange(5))).isoformat()],
    }
    minute = int(datetime(day.year, day.month, day.day, dice.randrange(24), tzinfo=UTC).timestamp()) // 60

    def instant() -> str:
        return datetime.fromtimestamp(minute * 60, UTC).isoformat()

    events: list[dict[str, Any]] = [
        {
            "type": "created",
            "at": instant(),
            "priority": dice.choice(list(TARGETS)),
            "channel": dice.choice(["email", "email", "phone_by_agent"]),
        }
    ]
    for _ in range(length):
        minute += dice.choice([0, 1, dice.randrange(30), dice.randrange(300), dice.randrange(1500)])
        event: dict[str, Any] = {"at": instant(), "type": dice.choice(
            ["agent_reply", "customer_message", "call_by_agent", "auto_reply", "playbook_run", "line"]
            + ["state"] * 4 + ["priority"] * 2)}  # fmt: skip
        if event["type"] == "agent_reply":
            event["internal"] = dice.random() < 0.6
        if event["type"] == "state":
            event["to"] = dice.choice(
                ["open", "open", "waiting_client", "scheduled", "waiting_vendor", "resolved", "closed"]
            )
        if event["type"] == "priority":
            event["to"] = dice.choice(list(TARGETS))
        if event["type"] == "line":
            event["to"] = dice.choice(["L1", "L2", "L3"])
        events.append(event)
    minute += dice.randrange(2000)
    policy = {"targets": TARGETS, "pause_first_response": dice.random() < 0.4, "ola": {"L2": {"minutes": 90}}}
    case = {"id": 1, "kind": "ticket", "calendar": "c", "policy": policy, "events": events, "as_of": instant()}
    return case, document, day


def instant_of(minute: int | None) -> str | None:
    return None if minute is None else datetime.fromtimestamp(minute * 60, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def agree(seed: int, length: int = 12) -> bool:
    """Compare one history; False if it ends too near the end of the painting for a due time after it."""
    dice = random.Random(seed)
    case, document, day = random_case(dice, dice.randrange(length))
    opened = oracle.open_minutes(document, day - timedelta(days=3), PAINTED_DAYS)
    if int(datetime.fromisoformat(case["as_of"]).timestamp()) // 60 > max(opened) - 15 * 1440:
        return False
    result = evaluate({"calendars": {"c": document}, "cases": [case]})["results"][0]
    slow = simulated(case, opened)

    due, breached, met, used = slow["first"]
    wanted: dict[str, Any] = {"due": instant_of(due), "breached": breached}
    if met is not None:
        wanted |= {"met_at": instant_of(met), "elapsed_s": used * 60}
    assert result["first_response"] == wanted

    due, breached, _, used = slow["whole"]
    wanted = {"due": instant_of(due), "breached": breached, "paused": slow["paused"]}
    if slow["paused"]:
        wanted["remaining_s"] = slow["left"] * 60
    if slow["resolved"] is not None:
        wanted |= {"resolved_at": instant_of(slow["resolved"]), "elapsed_s": used * 60}
    assert result["resolution"] == wanted
    assert result["next_reply"] == {"due": instant_of(slow["reply"])}
    found = {line: use["elapsed_s"] for line, use in result["ola"].items()}
    assert found == {"L1": 0, "L2": 0} | {line: minutes * 60 for line, minutes in slow["spent"].items()}
    explained(case, document)
    return True


def explained(case: dict[str, Any], document: dict[str, Any]) -> None:
    """What is explained adds up to what is shown."""
    covered = CoveredTime(calendar.parse(document))
    clocks = clocks_of_case(case, {"c": covered})
    for reason in explain.reasons(clocks, covered):
        if reason.due is not None:
            assert reason.counted_s == reason.goal_s
        elif reason.met_at is None:
            assert reason.counted_s == reason.elapsed_s
    assert explain.text(clocks, covered)
    if clocks.next_wake:
        assert clocks.next_wake > clocks.as_of


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 2**32))
def test_recomputing_the_log_agrees_with_ticking_through_it(seed: int) -> None:
    agree(seed)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_ten_thousand_histories_agree_with_ticking_through_them(part: int) -> None:
    compared = 0
    for seed in count(part * 10_000):
        compared += agree(seed, 30)
        if compared == 1000:
            return


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(0, 2**32))
def test_pausing_and_resuming_never_gives_or_takes_an_open_second(seed: int) -> None:
    dice = random.Random(seed)
    _, document, day = random_case(dice, 0)
    covered = CoveredTime(calendar.parse(document))
    start = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) + dice.randrange(86400)
    at, log = start, [{"type": "created", "at": _iso(start), "priority": "P3"}]
    paused = 0
    for _ in range(dice.randrange(1, 8)):
        at += dice.randrange(20000)
        until = at + dice.choice([0, 1, dice.randrange(200000)])
        log.append({"type": "state", "at": _iso(at), "to": dice.choice(["waiting_client", "scheduled"])})
        log.append({"type": "state", "at": _iso(until), "to": "open"})
        paused += covered.elapsed(at, until)
        at = until
    case = {"policy": {"targets": TARGETS}, "events": log, "as_of": _iso(at), "calendar": "c"}
    resolution = clocks_of_case(case, {"c": covered}).resolution
    assert resolution.due is not None
    due = int(resolution.due.timestamp())
    assert resolution.elapsed_s == covered.elapsed(start, at) - paused
    if due >= at:
        assert covered.elapsed(start, due) == 960 * 60 + paused


def _iso(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()
