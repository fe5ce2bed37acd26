"""Trends: what was measured against what was promised then; questions about a first restore, merged and told apart."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msp.backup import drafts, ladder, proposals
from msp.backup.ladder import LadderStep
from msp.backup.trend import thinned, trend
from msp_web import trend_chart
from msp_web.trend_chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH

NOW = datetime(2026, 9, 21, 12, tzinfo=UTC)


@dataclass
class Done:
    finished_at: datetime | None
    rto: timedelta | None
    id: int = 1
    verdict: str | None = "pass"
    rpo: timedelta | None = None
    result: dict[str, Any] = field(default_factory=dict)


def days(*measured: float | None) -> list[Done]:
    """Tests a day apart, the newest an hour ago, that took so many seconds."""
    count = len(measured)
    return [
        Done(NOW - timedelta(days=count - n, hours=-23), None if one is None else timedelta(seconds=one), n)
        for n, one in enumerate(measured)
    ]


def test_each_test_is_held_against_the_promise_of_its_own_day() -> None:
    changed = NOW - timedelta(days=2)
    found = trend("rto", days(50, 50, 90, 90), lambda at: timedelta(seconds=60 if at < changed else 100), NOW)
    assert [point.kept for point in found.points] == [True, True, True, True]
    later = trend("rto", days(50, 90, 90, 150), lambda at: timedelta(seconds=60 if at < changed else 100), NOW)
    assert [point.kept for point in later.points] == [True, False, True, False]
    assert (later.judged, later.kept) == (4, 2)
    assert later.worst
    assert later.worst.test == 3
    assert later.plain()["promised_s"] == 100


def test_what_measured_nothing_counts_for_no_promise_and_is_told() -> None:
    found = trend("rto", days(None, 30, None), lambda _: timedelta(seconds=60), NOW)
    assert (len(found.points), len(found.timed), found.judged, found.kept) == (3, 1, 1, 1)
    assert found.plain()["points"][0]["measured_s"] is None
    assert trend("rto", days(None), lambda _: None, NOW).plain()["last_s"] is None


def test_what_failed_keeps_no_promise_however_fast_it_was() -> None:
    ended = [*days(30, 90, None), *days(30)]
    ended[1].verdict, ended[2].verdict, ended[3].verdict = "fail", "fail", "error"
    ended[3].finished_at = NOW
    found = trend("rto", ended, lambda _: timedelta(seconds=60), NOW)
    assert [point.kept for point in found.points] == [True, False, False, None]
    assert (found.judged, found.kept, found.failed) == (3, 1, 2)
    assert trend("rto", ended, lambda _: None, NOW).judged == 0
    chart = trend_chart.draw(found, ZoneInfo("Europe/Berlin"), NOW)
    assert chart
    assert [(dot.late, dot.failed) for dot in chart.dots] == [
        (False, False), (True, True), (False, True), (False, False)
    ]  # fmt: skip


def test_tests_at_work_and_of_long_ago_are_left_out() -> None:
    old = Done(NOW - timedelta(days=400), timedelta(seconds=5))
    running = Done(None, None, verdict=None)
    assert trend("rto", [old, running, *days(1)], lambda _: None, NOW).plain()["tests"] == 1


@pytest.mark.parametrize(("measured", "change"), [((10,) * 3 + (20,) * 3, 1.0), ((20,) * 3 + (10,) * 3, -0.5)])
def test_a_trend_compares_the_halves_and_needs_six(measured: tuple[float, ...], change: float) -> None:
    assert trend("rto", days(*measured), lambda _: None, NOW).change == change
    assert trend("rto", days(*measured[:5]), lambda _: None, NOW).change is None


def test_a_restore_of_milliseconds_is_not_rounded_to_nothing() -> None:
    quick = Done(NOW, timedelta(0), result={"rto_s": 0.004})
    assert trend("rto", [quick], lambda _: None, NOW).plain()["last_s"] == 0.004


@given(st.lists(st.none() | st.floats(0, 1e6), min_size=1, max_size=60), st.none() | st.floats(0, 1e7))
def test_the_drawing_stays_inside_whatever_was_measured(measured: list[float | None], promised: float | None) -> None:
    limit = None if promised is None else timedelta(seconds=promised)
    found = trend("rto", days(*measured), lambda _: limit, NOW)
    chart = trend_chart.draw(found, ZoneInfo("Europe/Berlin"), NOW)
    assert (chart is None) == (len(found.timed) < 2)
    if chart:
        assert len(chart.dots) == len(measured)
        assert all(LEFT <= dot.x <= WIDTH - RIGHT + 0.1 for dot in chart.dots)
        assert all(dot.y is None or TOP <= dot.y <= HEIGHT - BOTTOM for dot in chart.dots)
        assert [dot.late for dot in chart.dots] == [
            one is not None and limit is not None and timedelta(seconds=one) > limit for one in measured
        ]
        assert len(chart.rows) <= 6
        for pair in chart.promise.split():
            assert all(-0.1 <= float(one) <= WIDTH for one in pair.split(","))


def test_a_long_trend_is_thinned_and_keeps_its_worst() -> None:
    found = trend("rto", days(*(n % 97 for n in range(360))), lambda _: None, NOW)
    drawn = thinned(found.points, 50)
    assert len(drawn) <= 50
    assert max(one.measured for one in drawn if one.measured) == timedelta(seconds=96)
    assert [one.at for one in drawn] == sorted(one.at for one in drawn)


def test_a_later_question_about_the_same_replaces_the_earlier() -> None:
    query = {"path": "a.db", "query": "select count(*) from x", "min": 5}
    stands = {"rto_s": 60, "sqlite": [query, {"path": "a.db", "query": "select 1", "equals": 1}], "max_rss_mb": 9,
              "postgres": {"database": "d", "tables": {"t": {"rows_min": 3}}, "indexes": ["i"]}}  # fmt: skip
    asked = proposals.standing(stands, ("rto_s",))
    assert len({one.key for one in asked}) == len(asked) == 5
    assert proposals.merged(one.expect for one in asked) == {
        "sqlite": stands["sqlite"], "max_rss_mb": 9, "postgres": {"tables": {"t": {"rows_min": 3}}, "indexes": ["i"]},
    }  # fmt: skip
    newer = proposals.Question("rows", "more rows", {}, {"sqlite": [{**query, "min": 50}]})
    assert newer.key in {one.key for one in asked}
    assert proposals.read_question(newer.plain()) == newer


def test_the_longest_gap_between_proofs_is_that_of_the_schedules() -> None:
    weekly, monthly = LadderStep((4, 5), "30 3 * * 6"), LadderStep((4, 6), "30 1 15 * *")
    assert drafts.longest_gap((weekly,), "0 3 * * *", "Europe/Berlin", NOW) == timedelta(days=7, hours=1)  # autumn
    assert drafts.longest_gap((), "0 3 * * *", "UTC", NOW) == timedelta(days=1)
    assert drafts.longest_gap((monthly,), "0 3 * * *", "UTC", NOW) == timedelta(days=31)
    assert drafts.longest_gap((LadderStep((3,), "0 3 * * *"),), "0 3 * * *", "UTC", NOW) is None


@pytest.mark.parametrize(
    ("allowed", "full"), [(3, ladder.DAILY_FULL), (7, ladder.WEEKLY_FULL), (31, ladder.MONTHLY_FULL)]
)
def test_the_usual_ladder_keeps_a_proof_young_enough(allowed: int, full: str) -> None:
    steps = ladder.defaults(critical=False, boots=False, proof_every=timedelta(days=allowed))
    assert steps[-1] == LadderStep((4, 5), full)
