"""How long clock questions take: python bench/sla.py

Prints one line a figure. The peer is businesstimedelta (a development dependency), asked the same questions, and its
answers must be the same.
"""

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from datetime import time as wall
from zoneinfo import ZoneInfo

import businesstimedelta
import pytz

from msp.contracts import sla

WEEK = {day: [["09:00", "18:00"]] for day in ("mon", "tue", "wed", "thu", "fri")}
OFFICE = {"tz": "Europe/Berlin", "week": WEEK}
START = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())


def seconds_of(action: Callable[[], object], repeats: int = 3) -> float:
    """The best of some repeats, in seconds of wall time."""
    best = float("inf")
    for _ in range(repeats):
        begin = time.perf_counter()
        action()
        best = min(best, time.perf_counter() - begin)
    return best


def deadlines() -> None:
    dice = random.Random(1)
    asked = [(START + dice.randrange(365 * 86400), dice.randrange(60, 40 * 3600)) for _ in range(100_000)]
    covered = sla.read_calendar(OFFICE)
    covered.deadline(START + 500 * 86400, 1)  # warm: the years are there

    def ours() -> list[int]:
        return [covered.deadline(start, seconds) for start, seconds in asked]

    per_call = seconds_of(ours) / len(asked)
    print(f"deadline, whole seconds: {per_call * 1e6:.2f} us a call")
    zone = ZoneInfo("Europe/Berlin")
    dated = [(datetime.fromtimestamp(start, zone), timedelta(seconds=seconds)) for start, seconds in asked]
    with_dates = seconds_of(lambda: [sla.due_at(covered, start, target) for start, target in dated]) / len(asked)
    print(f"deadline, datetimes in and out: {with_dates * 1e6:.2f} us a call")

    rules = businesstimedelta.Rules(
        [
            businesstimedelta.WorkDayRule(
                start_time=wall(9), end_time=wall(18), working_days=[0, 1, 2, 3, 4], tz=pytz.timezone("Europe/Berlin")
            )
        ]
    )
    some = dated[:500]

    def theirs() -> list[datetime]:
        return [start + businesstimedelta.BusinessTimeDelta(rules, timedelta=target) for start, target in some]

    peer = seconds_of(theirs, repeats=1) / len(some)
    same = sum(
        sla.due_at(covered, start, target) == found.astimezone(UTC)
        for (start, target), found in zip(some, theirs(), strict=True)
    )
    print(
        f"businesstimedelta: {peer * 1e6:.0f} us a call, {peer / per_call:.0f} times ours; {same} of {len(some)} same"
    )


def a_million() -> None:
    import numpy as np

    dice = np.random.default_rng(1)
    starts = START + dice.integers(0, 365 * 86400, 1_000_000)
    wanted = dice.integers(60, 40 * 3600, 1_000_000)
    covered = sla.read_calendar(OFFICE)
    covered.deadlines(starts, wanted)
    print(f"deadlines of 1,000,000 at once: {seconds_of(lambda: covered.deadlines(starts, wanted)):.3f} s")
    sorted_starts = np.sort(starts)
    print(f"  the same with sorted starts: {seconds_of(lambda: covered.deadlines(sorted_starts, wanted)):.3f} s")


def a_ticket() -> None:
    """All clocks of a ticket with 30 events, from its log."""
    row = {"first_response": 60, "next_reply": 120, "resolution": 4800}
    policy = sla.read_policy({"targets": {"P1": row, "P2": row}, "ola": {"L1": {}}})
    at = datetime(2026, 3, 2, 9, tzinfo=UTC)
    events: list[dict[str, object]] = [{"type": "created", "at": at, "priority": "P2"}]
    kinds: list[dict[str, object]] = [
        {"type": "agent_reply"},
        {"type": "state", "to": "waiting_client"},
        {"type": "customer_message"},
        {"type": "state", "to": "open"},
    ]
    for number in range(29):
        at += timedelta(hours=5)
        events.append(kinds[number % 4] | {"at": at})
    covered = sla.read_calendar(OFFICE)
    took = seconds_of(lambda: [sla.clocks_of(events, policy, covered, at) for _ in range(200)]) / 200
    print(f"all clocks of a ticket with 30 events: {took * 1e6:.0f} us")


if __name__ == "__main__":
    deadlines()
    a_million()
    a_ticket()
