"""Fire times against a clock that is walked minute by minute."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msp.engine.cron import Cron, jitter_of, parse
from msp.errors import Misconfigured


def between(cron: Cron, begin: datetime, end: datetime) -> list[tuple[str, datetime]]:
    found, moment = [], begin
    while (fire := cron.after(moment)) is not None and fire.at < end:
        found.append((fire.nominal, fire.at))
        moment = fire.at
    return found


def day(year: int, month: int, number: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(year, month, number, hour, minute, tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "cron", "begin", "fires"),
    [
        # autumn: the local time comes twice, the first one counts
        ("Europe/Berlin", "30 2 * * *", day(2026, 10, 24, 12), [("2026-10-25T02:30", day(2026, 10, 25, 0, 30))]),
        ("America/New_York", "30 1 * * *", day(2026, 10, 31, 12), [("2026-11-01T01:30", day(2026, 11, 1, 5, 30))]),
        # spring: the local time does not come, it is made up for after the jump
        ("Europe/Berlin", "30 2 * * *", day(2026, 3, 28, 12), [("2026-03-29T02:30", day(2026, 3, 29, 1, 30))]),
        ("America/New_York", "30 2 * * *", day(2026, 3, 7, 12), [("2026-03-08T02:30", day(2026, 3, 8, 7, 30))]),
    ],
)
def test_daily_schedule_fires_once_on_both_days_the_clock_changes(
    zone: str, cron: str, begin: datetime, fires: list[tuple[str, datetime]]
) -> None:
    assert between(parse(cron, zone), begin, begin + timedelta(days=1)) == fires


@pytest.mark.parametrize(
    ("zone", "begin"), [("Europe/Berlin", day(2026, 10, 24, 22)), ("America/New_York", day(2026, 3, 8, 5))]
)
def test_hourly_schedule_fires_every_real_hour_and_is_named_in_utc(zone: str, begin: datetime) -> None:
    found = between(parse("0 * * * *", zone), begin - timedelta(minutes=1), begin + timedelta(hours=6))
    assert found == [(f"{at:%Y-%m-%dT%H:%M}Z", at) for at in (begin + timedelta(hours=n) for n in range(6))]


def test_two_times_that_fall_together_in_spring_fire_once() -> None:
    found = between(parse("0 2,3 * * *", "Europe/Berlin"), day(2026, 3, 28, 12), day(2026, 3, 29, 12))
    assert found == [("2026-03-29T02:00", day(2026, 3, 29, 1))]


def test_sunday_is_0_and_7_as_in_crontab() -> None:
    sunday = [("2026-06-07T09:00", day(2026, 6, 7, 9))]
    for field in ("0", "7", "sun", "SUN"):
        assert between(parse(f"0 9 * * {field}", "UTC"), day(2026, 6, 1), day(2026, 6, 8)) == sunday
    assert len(between(parse("0 9 * * 1-5", "UTC"), day(2026, 6, 1), day(2026, 6, 8))) == 5
    assert len(between(parse("0 9 * * fri-sun", "UTC"), day(2026, 6, 1), day(2026, 6, 8))) == 3
    assert len(between(parse("0 9 * * */2", "UTC"), day(2026, 6, 1), day(2026, 6, 8))) == 4


@pytest.mark.parametrize(
    ("cron", "zone"),
    [
        ("", "UTC"),
        ("30 2 * *", "UTC"),
        ("60 2 * * *", "UTC"),
        ("x 2 * * *", "UTC"),
        ("0 0 1 * 1", "UTC"),
        ("0 0 * * 8", "UTC"),
        ("0 0 * * 5-2", "UTC"),
        ("0 0 * * */0", "UTC"),
        ("0 0 * * *", "Mars/Olympus"),
        ("0 0 * * *", "../etc"),
        ("0 0 * * *", ""),
    ],
)
def test_nonsense_is_refused_with_a_sentence(cron: str, zone: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        parse(cron, zone)
    assert caught.value.advice


def test_a_day_that_never_comes_gives_no_fire() -> None:
    assert parse("0 0 30 2 *", "Europe/Berlin").after(day(2026, 1, 1)) is None


def walked(zone: ZoneInfo, hours: set[int], minute: int, begin: datetime, end: datetime) -> Iterator[datetime]:
    """Walk wall-clock minutes without a library; shares no code with the module."""
    local = begin.astimezone(zone).replace(tzinfo=None) - timedelta(days=1)
    seen: set[datetime] = set()
    while local < end.astimezone(zone).replace(tzinfo=None) + timedelta(days=1):
        if local.hour in hours and local.minute == minute:
            instant = local.replace(tzinfo=zone).astimezone(UTC)
            if begin < instant < end and instant not in seen:
                seen.add(instant)
                yield instant
        local += timedelta(minutes=1)


@settings(max_examples=25, deadline=None)
@given(
    hours=st.sets(st.integers(0, 23), min_size=1, max_size=4),
    minute=st.integers(0, 59),
    zone=st.sampled_from(["Europe/Berlin", "America/New_York", "Europe/Moscow", "Australia/Lord_Howe", "Africa/Cairo"]),
    begin=st.sampled_from([day(2026, 3, 7), day(2026, 3, 28), day(2026, 10, 3), day(2026, 10, 24), day(2026, 4, 23)]),
)
def test_agrees_with_walking_the_clock(hours: set[int], minute: int, zone: str, begin: datetime) -> None:
    end = begin + timedelta(days=3)
    cron = parse(f"{minute} {','.join(map(str, sorted(hours)))} * * *", zone)
    found = [at for _, at in between(cron, begin, end)]
    assert found == sorted(walked(ZoneInfo(zone), hours, minute, begin, end))


@given(st.integers(0, 525_600), st.sampled_from(["17 */3 * * *", "5 4 * * *", "0 * * * *"]))
@settings(max_examples=50, deadline=None)
def test_a_name_leads_back_to_its_instant(minutes: int, cron: str) -> None:
    moment = day(2026, 1, 1) + timedelta(minutes=minutes)
    times = parse(cron, "America/New_York")
    fire = times.after(moment)
    assert fire is not None
    assert fire.at > moment
    assert times.at(fire.nominal) == fire.at


def test_jitter_is_stable_and_spread() -> None:
    width = timedelta(minutes=10)
    delays = [jitter_of(f"restore_test:{number}", width) for number in range(1000)]
    assert delays == [jitter_of(f"restore_test:{number}", width) for number in range(1000)]
    assert all(timedelta() <= delay < width for delay in delays)
    assert len(set(delays)) > 400
    assert jitter_of("x", timedelta()) == timedelta()
