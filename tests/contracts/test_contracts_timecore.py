"""Covered time against counting every minute, in six zones, across the changes of their clocks."""

import json
import random
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from msp.contracts import calendar
from msp.contracts.evaluate import evaluate
from msp.contracts.timecore import CoveredTime
from msp.errors import Misconfigured
from tests.contracts import oracle, questions

ZONES = [
    "Europe/Berlin",
    "America/New_York",
    "Asia/Tehran",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Africa/Casablanca",
]
BEFORE, WINDOW = 4, 18  # days painted before the instant asked about, and in all


def _changes_of(name: str) -> list[date]:
    zone, found = ZoneInfo(name), []
    for n in range(366 * 11):
        day = datetime(2020, 1, 1, 12, tzinfo=UTC) + timedelta(days=n)
        if day.astimezone(zone).utcoffset() != (day - timedelta(days=1)).astimezone(zone).utcoffset():
            found.append(day.date())
    return found


CHANGES = {name: _changes_of(name) for name in ZONES}


def random_calendar(dice: random.Random) -> tuple[dict[str, Any], date]:
    """A calendar of several intervals, nights, breaks and holidays near a day, often one on which clocks change."""
    zone = dice.choice(ZONES)
    centre = date(2020, 1, 1) + timedelta(days=dice.randrange(366 * 10))
    if CHANGES[zone] and dice.random() < 0.7:
        centre = dice.choice(CHANGES[zone]) - timedelta(days=dice.randrange(3))

    def hours() -> list[list[str]]:
        return [[clock(dice.choice([0, 1, 2, 3, 8, 9, 22, 23])), clock()] for _ in range(dice.randrange(1, 4))]

    def clock(hour: int | None = None) -> str:
        if hour is None and dice.random() < 0.1:
            return "24:00"
        return f"{dice.randrange(24) if hour is None else hour:02}:{dice.choice([0, 0, 15, 30, dice.randrange(60)]):02}"

    def near() -> str:
        return (centre + timedelta(days=dice.randrange(-3, 7))).isoformat()

    document: dict[str, Any] = {
        "tz": zone,
        "week": {name: hours() for name in oracle.DAYS if dice.random() < 0.7} or {"wed": [["22:00", "06:00"]]},
    }
    if dice.random() < 0.5:
        document["holidays"] = [near() for _ in range(dice.randrange(1, 4))]
    if dice.random() < 0.3:
        document["holidays_yearly"] = [near()[5:]]
    if dice.random() < 0.4:
        document["overrides"] = {near(): hours() if dice.random() < 0.8 else [] for _ in range(3)}
    if dice.random() < 0.4:
        document["breaks"] = {near(): hours()[:1] for _ in range(3)}
    return document, centre


def agree(seed: int, pairs: int) -> None:
    dice = random.Random(seed)
    document, centre = random_calendar(dice)
    covered = CoveredTime(calendar.parse(document))
    painted = oracle.open_minutes(document, centre - timedelta(days=BEFORE), WINDOW)
    if not painted:
        return
    noon = int(datetime(centre.year, centre.month, centre.day, 12, tzinfo=UTC).timestamp())
    runs = list(_runs(painted))
    inner = (noon - 2 * 86400, noon + 10 * 86400)  # whole in the painting
    for _ in range(pairs):
        start = noon + dice.randrange(-86400, 3 * 86400)
        if dice.random() < 0.3:
            start = dice.choice(dice.choice(runs))  # at an edge
        if not inner[0] < start < inner[1]:
            continue
        seconds = dice.choice([1, 60, 3600, dice.randrange(1, 12 * 3600)])
        due = oracle.deadline(painted, start, seconds)
        if due is not None and due < inner[1]:
            assert covered.deadline(start, seconds) == due
            assert oracle.counted(painted, start, due) == seconds == covered.elapsed(start, due)
            back = covered.deadline_backward(due, seconds)
            assert oracle.counted(painted, back, due) == seconds
            assert back // 60 in painted  # the latest such second: a later one has less
        held = sorted(start + dice.randrange(-7200, 20000) for _ in range(4))
        pauses = (
            [(held[0], held[2]), (held[1], held[3])]
            if dice.random() < 0.5
            else [(held[2], held[3]), (held[0], held[1])]
        )
        if seconds <= 3600 and due is not None:
            paused = oracle.deadline(painted, start, seconds, pauses)
            if paused is not None and paused < inner[1]:
                assert covered.deadline(start, seconds, pauses) == paused
                assert covered.elapsed(start, paused, pauses) == seconds
        assert covered.is_open(start) == (start // 60 in painted)
        following = [(a, b) for a, b in runs if b > start and b < inner[1]]
        if following:
            assert covered.next_open(start) == max(start, following[0][0])
            assert covered.next_close(start) == following[0][1]
            clipped = [(max(a, start), b) for a, b in following]
            assert covered.periods(start, len(clipped)) == clipped
            assert covered.between(start, following[-1][1]) == clipped


def _runs(painted: set[int]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for minute in sorted(painted):
        if found and found[-1][1] == minute * 60:
            found[-1] = (found[-1][0], minute * 60 + 60)
        else:
            found.append((minute * 60, minute * 60 + 60))
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(st.integers(0, 2**32))
def test_every_answer_agrees_with_counting_minutes(seed: int) -> None:
    agree(seed, 5)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_ten_thousand_calendars_agree_with_counting_minutes(part: int) -> None:
    """Each calendar is its own, and is asked every kind of question about one instant."""
    cases = 0
    for seed in range(part * 1000, part * 1000 + 1000):
        dice = random.Random(seed)
        document, centre = random_calendar(dice)
        painted = questions.Painted(document, centre)
        starts = questions.starts_near(painted, dice, 3)[:1]
        asked = list(questions.cases("c", document, painted, starts, dice))
        found = evaluate({"calendars": {"c": document}, "cases": [case for case, _ in asked]})["results"]
        assert found == [wanted for _, wanted in asked], f"seed {seed}"
        cases += len(asked)
    assert cases > 5000


@pytest.mark.slow
def test_ten_thousand_cases_in_one_batch_of_the_command_agree_with_counting_minutes(tmp_path: Path) -> None:
    dice, calendars, asked = random.Random(2020), {}, []
    while len(asked) < 10_000:
        document, centre = random_calendar(dice)
        name = f"c{len(calendars)}"
        calendars[name] = document
        painted = questions.Painted(document, centre)
        asked += questions.cases(name, document, painted, questions.starts_near(painted, dice, 3), dice)
    asked = asked[:10_000]
    dice.shuffle(asked)
    (tmp_path / "cases.json").write_text(json.dumps({"calendars": calendars, "cases": [case for case, _ in asked]}))
    command = [str(Path(sys.executable).with_name("msp")), "sla", "eval", "cases.json", "-o", "results.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "10000 cases answered, 0 with an error" in done.stderr
    results = json.loads((tmp_path / "results.json").read_text())["results"]
    assert results == [wanted for _, wanted in asked]


def office(**extra: Any) -> CoveredTime:
    week = {day: [["09:00", "18:00"]] for day in oracle.DAYS[:5]}
    return CoveredTime(calendar.parse({"tz": "Europe/Berlin", "week": week} | extra))


def second(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def test_target_used_up_at_closing_time_is_due_at_closing_time() -> None:
    assert office().deadline(second("2026-03-27T09:00+01:00"), 9 * 3600) == second("2026-03-27T18:00+01:00")


def test_one_second_more_is_due_after_the_weekend_and_the_change_of_clocks() -> None:
    assert office().deadline(second("2026-03-27T09:00+01:00"), 9 * 3600 + 1) == second("2026-03-30T09:00:01+02:00")


def test_backward_ends_at_an_opening_not_at_the_closing_before_it() -> None:
    assert office().deadline_backward(second("2026-03-30T10:00+02:00"), 3600) == second("2026-03-30T09:00+02:00")
    assert office().deadline_backward(second("2026-03-30T10:00+02:00"), 3601) == second("2026-03-27T17:59:59+01:00")


def test_elapsed_backwards_is_nothing() -> None:
    assert office().elapsed(second("2026-03-27T12:00+01:00"), second("2026-03-27T10:00+01:00")) == 0


def test_warning_is_the_deadline_of_the_shorter_target() -> None:
    start = second("2026-03-27T17:00+01:00")
    assert office().warn_before(start, 7200, 3600) == second("2026-03-27T18:00+01:00")
    assert office().warn_before(start, 7200, 7200) == start


@pytest.mark.parametrize("seconds", [0, -1])
def test_target_of_nothing_is_refused(seconds: int) -> None:
    for ask in (office().deadline, office().deadline_backward):
        with pytest.raises(Misconfigured, match="more than 0"):
            ask(second("2026-03-27T17:00+01:00"), seconds)


def test_more_than_the_calendar_ever_covers_is_an_error_and_no_endless_loop() -> None:
    once = CoveredTime(
        calendar.parse({"tz": "Europe/Berlin", "week": {}, "overrides": {"2026-03-28": [["09:00", "10:00"]]}})
    )
    start = second("2026-03-27T17:00+01:00")
    assert once.deadline(start, 3600) == second("2026-03-28T10:00+01:00")
    assert once.periods(start, 5) == [(second("2026-03-28T09:00+01:00"), second("2026-03-28T10:00+01:00"))]
    with pytest.raises(Misconfigured, match="never covers"):
        once.deadline(start, 3601)
    with pytest.raises(Misconfigured, match="never covers"):
        once.next_open(start + 86400)
    with pytest.raises(Misconfigured, match="never covers"):
        once.deadline_backward(start, 1)


def test_round_the_clock_is_one_span_that_never_closes() -> None:
    always = CoveredTime(
        calendar.parse({"tz": "Europe/Berlin", "week": {key: [["00:00", "24:00"]] for key in oracle.DAYS}})
    )
    start = second("2026-03-27T17:00+01:00")
    assert always.next_close(start) is None
    assert always.periods(start, 3) == [(start, None)]
    assert always.deadline(start, 10**8) == start + 10**8


def test_evening_and_early_morning_that_touch_at_midnight_are_one_span() -> None:
    night = CoveredTime(
        calendar.parse({"tz": "Europe/Berlin", "week": {"mon": [["22:00", "24:00"]], "tue": [["00:00", "06:00"]]}})
    )
    monday = second("2026-03-23T21:00+01:00")
    assert night.next_close(monday) == second("2026-03-24T06:00+01:00")


def test_years_far_apart_in_any_order_give_the_same_answers() -> None:
    near, far = second("2026-03-27T12:00+01:00"), second("2060-03-26T12:00+01:00")
    mixed = office()
    answers = [mixed.deadline(far, 10**6), mixed.deadline(near, 10**6), mixed.elapsed(near, far)]
    assert answers == [office().deadline(far, 10**6), office().deadline(near, 10**6), office().elapsed(near, far)]


def test_many_at_once_agree_with_one_by_one() -> None:
    dice = random.Random(7)
    covered = office(holidays_yearly=["12-25"])
    starts = [second("2026-01-01T00:00+01:00") + dice.randrange(400 * 86400) for _ in range(500)]
    wanted = [dice.randrange(1, 10**6) for _ in starts]
    one_by_one = [covered.deadline(start, seconds) for start, seconds in zip(starts, wanted, strict=True)]
    assert office(holidays_yearly=["12-25"]).deadlines(starts, wanted).tolist() == one_by_one
    assert covered.deadlines([], []).tolist() == []
