"""Around every change of clocks of six zones in 2020 to 2030: every kind of question, against painting minutes."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from msp.contracts.evaluate import evaluate
from tests.contracts import oracle, questions

ZONES = [
    "Europe/Berlin",
    "America/New_York",
    "Asia/Tehran",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Africa/Casablanca",
]


def changes(zone_name: str) -> list[int]:
    """Every second of 2020 to 2030 at which the zone's offset changes, found by bisection."""
    zone = ZoneInfo(zone_name)

    def offset(second: int) -> timedelta | None:
        return datetime.fromtimestamp(second, UTC).astimezone(zone).utcoffset()

    found = []
    first, last = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (2020, 2031))
    for low in range(first, last, 6 * 3600):
        begin, end = low, low + 6 * 3600
        if offset(begin) == offset(end):
            continue
        while end - begin > 1:
            middle = (begin + end) // 2
            begin, end = (middle, end) if offset(middle) == offset(low) else (begin, middle)
        found.append(end)
    return found


CHANGES = {zone: changes(zone) for zone in ZONES}
#: Brazil ended summer time in 2019: it is asked at the dates of its old rule, at which nothing may happen.
OLD_RULE = [
    int(datetime(year, month, day, 3, tzinfo=UTC).timestamp())
    for year in range(2020, 2031)
    for month, day in ((2, 20), (11, 3))
]


def weeks(zone: str, change: int) -> list[dict[str, list[list[str]]]]:
    """Hours that meet the change: over it, within the skipped or doubled hour, up to it, from it, and day by day."""
    before = datetime.fromtimestamp(change - 1, UTC).astimezone(ZoneInfo(zone))
    after = datetime.fromtimestamp(change, UTC).astimezone(ZoneInfo(zone))
    early, late = sorted((before.hour * 60 + before.minute + 1, after.hour * 60 + after.minute))

    def at(minute: int) -> str:
        return f"{minute // 60 % 24:02}:{minute % 60:02}"

    every = [
        [[at(early - 60), at(late + 60)]],
        [[at(early), at(late)]],
        [[at(early - 30), at(early + 15)], [at(late - 10), at(late + 45)]],
        [["22:00", "06:00"]],
        [["00:00", "24:00"]],
        [["09:00", "12:00"], ["13:00", "18:00"]],
    ]
    return [dict.fromkeys(oracle.DAYS, hours) for hours in every]


def batch_around(zone: str, change: int, dice: random.Random) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    day = datetime.fromtimestamp(change, UTC).astimezone(ZoneInfo(zone)).date()
    calendars: dict[str, Any] = {}
    cases, wanted = [], []
    for number, week in enumerate(weeks(zone, change)):
        document: dict[str, Any] = {"tz": zone, "week": week}
        if number % 2:
            document["breaks"] = {day.isoformat(): [["04:00", "04:30"]]}
            document["holidays"] = [(day + timedelta(days=2)).isoformat()]
        painted = questions.Painted(document, day)
        starts = [change + away for away in (-86400, -5400, -1800, -1, 0, 1, 1800, 5400, dice.randrange(-7200, 7200))]
        calendars[f"c{number}"] = document
        for case, answer in questions.cases(f"c{number}", document, painted, starts, dice):
            cases.append(case)
            wanted.append(answer)
    return {"calendars": calendars, "cases": cases}, wanted


def test_six_zones_have_the_changes_that_were_decreed() -> None:
    """Brazil ended summer time in 2019, Iran in 2022; Morocco goes back for Ramadan, which moves through the year."""
    assert {zone: len(found) for zone, found in CHANGES.items()} == {
        "Europe/Berlin": 22,
        "America/New_York": 22,
        "Asia/Tehran": 6,
        "Australia/Lord_Howe": 22,
        "America/Sao_Paulo": 0,
        "Africa/Casablanca": 23,
    }


def agrees(zone: str, change: int) -> None:
    batch, wanted = batch_around(zone, change, random.Random(change))
    assert len(wanted) > 300
    assert evaluate(batch)["results"] == wanted, f"around {questions.printed(change)}"


@pytest.mark.parametrize("zone", ZONES)
def test_questions_around_a_change_of_a_zone_agree_with_counting_minutes(zone: str) -> None:
    agrees(zone, (CHANGES[zone] or OLD_RULE)[-1])


@pytest.mark.slow
@pytest.mark.parametrize("zone", ZONES)
def test_questions_around_every_change_of_a_zone_agree_with_counting_minutes(zone: str) -> None:
    for change in CHANGES[zone] or OLD_RULE:
        agrees(zone, change)
