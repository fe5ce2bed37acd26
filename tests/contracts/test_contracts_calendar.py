"""What a calendar document means, sentence by sentence, and how a bad one is refused."""

from datetime import datetime
from typing import Any

import pytest

from msp.contracts import calendar, sla
from msp.contracts.timecore import CoveredTime
from msp.errors import Misconfigured
from tests.contracts.oracle import DAYS

NIGHTS = {day: [["22:00", "06:00"]] for day in DAYS}
OFFICE = {day: [["09:00", "18:00"]] for day in DAYS[:5]}


def spans(document: dict[str, Any], since: str, until: str) -> list[tuple[str, str]]:
    """The open spans in local time, as `23 22:00`."""
    covered = CoveredTime(calendar.parse(document))
    zone = covered.calendar.zone
    window = [int(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()) for text in (since, until)]
    return [
        (f"{datetime.fromtimestamp(a, zone):%d %H:%M}", f"{datetime.fromtimestamp(b, zone):%d %H:%M}")
        for a, b in covered.between(window[0], window[1])
    ]


def berlin(**document: Any) -> dict[str, Any]:
    return {"tz": "Europe/Berlin"} | document


def test_several_intervals_a_day_and_midnight_as_24_00() -> None:
    week = {"mon": [["08:00", "12:00"], ["13:00", "17:00"], ["20:00", "24:00"]]}
    assert spans(berlin(week=week), "2026-03-23", "2026-03-30") == [
        ("23 08:00", "23 12:00"),
        ("23 13:00", "23 17:00"),
        ("23 20:00", "24 00:00"),
    ]


def test_same_from_and_to_last_a_whole_day() -> None:
    assert spans(berlin(week={"mon": [["09:00", "09:00"]]}), "2026-03-23", "2026-03-30") == [("23 09:00", "24 09:00")]


def test_holiday_closes_its_date_also_the_night_shift_of_the_day_before() -> None:
    found = spans(berlin(week=NIGHTS, holidays=["2026-03-25"]), "2026-03-24T12:00", "2026-03-26T12:00")
    assert found == [("24 22:00", "25 00:00"), ("26 00:00", "26 06:00")]


def test_what_a_night_shift_of_the_holiday_covers_after_midnight_stays_open() -> None:
    week = {"wed": [["22:00", "06:00"]]}
    assert spans(berlin(week=week, holidays=["2026-03-25"]), "2026-03-24", "2026-03-28") == [("26 00:00", "26 06:00")]


def test_yearly_holiday_closes_every_year() -> None:
    for year in (2026, 2027, 2028):
        document = berlin(week={day: [["09:00", "10:00"]] for day in DAYS}, holidays_yearly=["12-25"])
        assert spans(document, f"{year}-12-25", f"{year}-12-26") == []


def test_leap_day_may_be_a_yearly_holiday() -> None:
    document = berlin(week={day: [["09:00", "10:00"]] for day in DAYS}, holidays_yearly=["02-29"])
    assert spans(document, "2028-02-28", "2028-03-02") == [("28 09:00", "28 10:00"), ("01 09:00", "01 10:00")]


def test_override_replaces_the_hours_of_its_date_alone() -> None:
    moved = berlin(week=OFFICE, overrides={"2026-03-28": [["10:00", "15:00"]], "2026-03-27": []})
    assert spans(moved, "2026-03-27", "2026-03-30") == [("28 10:00", "28 15:00")]


def test_override_leaves_the_night_shift_that_began_the_day_before() -> None:
    found = spans(
        berlin(week=NIGHTS, overrides={"2026-03-25": [["12:00", "13:00"]]}), "2026-03-24T12:00", "2026-03-26T12:00"
    )
    assert found == [("24 22:00", "25 06:00"), ("25 12:00", "25 13:00")]


def test_override_on_a_holiday_opens_its_own_hours_and_no_others() -> None:
    document = berlin(week=NIGHTS, holidays=["2026-03-25"], overrides={"2026-03-25": [["12:00", "13:00"]]})
    found = spans(document, "2026-03-24T12:00", "2026-03-26T12:00")
    assert found == [("24 22:00", "25 00:00"), ("25 12:00", "25 13:00")]


def test_night_shift_of_an_override_is_closed_where_it_runs_into_a_holiday() -> None:
    document = berlin(week=OFFICE, holidays=["2026-03-29"], overrides={"2026-03-28": [["22:00", "06:00"]]})
    assert spans(document, "2026-03-28", "2026-03-30") == [("28 22:00", "29 00:00")]


def test_break_is_cut_out_also_after_midnight_and_out_of_overrides() -> None:
    document = berlin(
        week=NIGHTS,
        overrides={"2026-03-25": [["10:00", "16:00"]]},
        breaks={"2026-03-24": [["23:00", "01:00"]], "2026-03-25": [["12:00", "13:00"]]},
    )
    assert spans(document, "2026-03-24T12:00", "2026-03-25T20:00") == [
        ("24 22:00", "24 23:00"),
        ("25 01:00", "25 06:00"),
        ("25 10:00", "25 12:00"),
        ("25 13:00", "25 16:00"),
    ]


def test_interval_inside_the_skipped_hour_is_dropped() -> None:
    week = {"sun": [["02:00", "03:00"]]}  # on 29 March 2026 the clock goes from 02:00 to 03:00
    assert spans(berlin(week=week), "2026-03-29", "2026-04-05T12:00") == [("05 02:00", "05 03:00")]


def test_skipped_time_is_read_with_the_offset_before_the_change() -> None:
    assert spans(berlin(week={"sun": [["02:30", "05:00"]]}), "2026-03-29", "2026-03-30") == [("29 03:30", "29 05:00")]


def test_time_that_comes_twice_is_its_first_coming() -> None:
    covered = CoveredTime(calendar.parse(berlin(week={"sun": [["01:00", "02:30"]]})))
    start = int(datetime.fromisoformat("2026-10-25T01:00+02:00").timestamp())
    assert covered.next_close(start) == start + 90 * 60
    longer = CoveredTime(calendar.parse(berlin(week={"sun": [["01:00", "04:00"]]})))
    assert longer.next_close(start) == start + 4 * 3600


def test_half_hour_change_of_lord_howe_is_half_an_hour() -> None:
    covered = CoveredTime(calendar.parse({"tz": "Australia/Lord_Howe", "week": {"sun": [["00:00", "24:00"]]}}))
    spring = int(datetime.fromisoformat("2026-10-03T20:00Z").timestamp())
    assert covered.elapsed(spring - 86400, spring + 86400) == (24 * 60 - 30) * 60


def test_intervals_that_overlap_count_once_and_cannot_be_saved() -> None:
    document = berlin(week={"mon": [["09:00", "13:00"], ["12:00", "18:00"]]})
    assert spans(document, "2026-03-23", "2026-03-24") == [("23 09:00", "23 18:00")]
    with pytest.raises(Misconfigured, match=r"week mon: intervals overlap at 12:00"):
        sla.check_calendar(document)


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        (5, "must be an object"),
        ({"week": OFFICE}, "no time zone"),
        ({"tz": "Europe/Nowhere", "week": OFFICE}, "must be a time zone"),
        ({"tz": 7, "week": OFFICE}, "must be a time zone"),
        (berlin(), "never opens"),
        (berlin(week={}), "never opens"),
        (berlin(week={"mon": []}), "never opens"),
        (berlin(week={}, overrides={"2026-03-25": []}), "never opens"),
        (berlin(week={"sun": [["02:00", "03:00"]]}, holidays_yearly=[f"{m:02}-{d:02}" for m in range(1, 13) for d in
         range(1, 32) if d <= {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}.get(m, 31)]), "never opens"),
        (berlin(week={"mon": [["09:00", "25:00"]]}), "must be a time like 08:30"),
        (berlin(week={"mon": [["24:00", "09:00"]]}), "starts at 24:00"),
        (berlin(week={"mon": [["09:00"]]}), "must be a pair"),
        (berlin(week={"mon": "09:00-18:00"}), "must be a list of intervals"),
        (berlin(week={"monday": [["09:00", "18:00"]]}), "no day"),
        (berlin(week=[]), "week must be an object"),
        (berlin(week=OFFICE, holidays=["2026-02-30"]), "must be a date"),
        (berlin(week=OFFICE, holidays=["0001-01-01"]), "outside the years"),
        (berlin(week=OFFICE, holidays="2026-01-01"), "holidays must be a list"),
        (berlin(week=OFFICE, holidays_yearly=["02-30"]), "must be a month and day"),
        (berlin(week=OFFICE, overrides={"soon": []}), "must be a date"),
        (berlin(week=OFFICE, holiday=["2026-01-01"]), "'holiday' is unknown"),
    ],
)  # fmt: skip
def test_bad_calendar_is_refused_in_a_sentence(document: Any, sentence: str) -> None:
    with pytest.raises(Misconfigured, match=sentence):
        calendar.parse(document)
