"""Escalation: whom, when, again; against rules said in other words."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msp.desk.escalation import QUIET, REPEAT, Duty, Notice, Standing, decide, reached

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = (NOW - timedelta(hours=4), NOW + timedelta(hours=4))
ANNA = Duty("anna", frozenset({"L1"}), 0, *DAY)
BORIS = Duty("boris", frozenset({"L2"}), 0, *DAY)
MANAGER = Duty("max", frozenset(), 1, *DAY)
HEAD = Duty("head", frozenset(), 2, *DAY)
ROSTER = (ANNA, BORIS, MANAGER, HEAD)


def standing(share: float, **more: object) -> Standing:
    return Standing(**{"line": "L1", "share": share, "taken": False, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("share", "people"), [(0.49, ()), (0.5, ("anna",)), (0.89, ("anna",)), (0.9, ("max",)), (1.0, ("head",))]
)
def test_news_goes_higher_as_time_runs_out(share: float, people: tuple[str, ...]) -> None:
    assert decide(standing(share), ROSTER, (), NOW).tell == people


def test_a_used_up_time_box_moves_the_ticket_and_asks_the_next_line() -> None:
    found = decide(standing(0.6, box_over=True), ROSTER, (), NOW)
    assert (found.move_to, found.tell) == ("L2", ("boris",))


def test_it_is_repeated_until_somebody_takes_it() -> None:
    told = Notice("anna", 0, NOW)
    assert decide(standing(0.6), ROSTER, [told], NOW + timedelta(minutes=14)).tell == ()
    assert decide(standing(0.6), ROSTER, [told], NOW + REPEAT).tell == ("anna",)
    assert decide(standing(0.6, taken=True), ROSTER, [told], NOW + REPEAT).tell == ()


def test_an_acknowledged_notice_is_not_repeated_but_a_higher_level_is_news() -> None:
    seen = Notice("anna", 0, NOW, acknowledged_at=NOW)
    assert decide(standing(0.6), ROSTER, [seen], NOW + REPEAT).tell == ()
    assert decide(standing(0.95), ROSTER, [seen], NOW + REPEAT).tell == ("max",)


def test_a_pause_is_quiet() -> None:
    assert decide(standing(2.0, paused=True, box_over=True), ROSTER, (), NOW) == QUIET


def test_after_the_last_moment_to_dispatch_the_manager_is_told_whatever_the_clock_says() -> None:
    assert decide(standing(0.1, past_latest_dispatch=True), ROSTER, (), NOW).tell == ("max",)


def test_nobody_off_duty_is_told_and_an_empty_roster_is_said() -> None:
    night = NOW + timedelta(hours=6)
    found = decide(standing(0.6), ROSTER, (), night)
    assert found.tell == ()
    assert "Nobody is on the roster" in found.why
    assert found.again_at == night + REPEAT


def test_without_anybody_on_the_line_the_manager_hears_it() -> None:
    assert decide(standing(0.6, line="L3"), ROSTER, (), NOW).tell == ("max",)


@given(
    st.floats(0, 3),
    st.booleans(),
    st.booleans(),
    st.lists(st.tuples(st.sampled_from(["anna", "max", "head"]), st.integers(0, 2), st.integers(-60, 0))),
)
def test_whoever_is_told_is_on_duty_high_enough_and_not_asked_lately(
    share: float, taken: bool, dispatch: bool, before: list[tuple[str, int, int]]
) -> None:
    now_standing = standing(share, taken=taken, past_latest_dispatch=dispatch)
    sent = [Notice(person, level, NOW + timedelta(minutes=minutes)) for person, level, minutes in before]
    found = decide(now_standing, ROSTER, sent, NOW)
    level = reached(now_standing)
    for person in found.tell:
        assert level is not None
        assert any(duty.person == person and duty.level >= level for duty in ROSTER)
        lately = [n for n in sent if n.person == person and n.level >= level and NOW - n.sent_at < REPEAT]
        assert not lately
    if level == 2:
        assert found.tell or found.again_at is not None
