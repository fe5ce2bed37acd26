"""Remote or drive: what is advised never costs a promise that the other way would have kept for certain."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msp.dispatch.remote_or_drive import BOTH, DRIVE, TRY, Record, decide

NOW = datetime(2026, 3, 2, 8, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
GOOD, BAD = Record("free-disk-space", 14, 16, 6 * MINUTE), Record("free-disk-space", 0, 20, 6 * MINUTE)


@pytest.mark.parametrize(
    ("record", "leave_in", "due_in", "choice"),
    [
        (GOOD, 60, 120, TRY),  # a failed try leaves time enough
        (BAD, 60, 120, DRIVE),  # it never works: do not wait for it
        (BAD, None, None, TRY),  # nobody is asked for: a try costs nothing
        (GOOD, 3, 60, BOTH),  # send somebody now, and try meanwhile
        (BAD, 3, 60, DRIVE),
        (GOOD, -10, 30, BOTH),  # no visit is in time any more, a try may be
        (GOOD, -10, 3, DRIVE),  # nothing is in time
    ],
)
def test_known_cases(record: Record, leave_in: int | None, due_in: int | None, choice: str) -> None:
    leave_by = None if leave_in is None else NOW + leave_in * MINUTE
    due_at = None if due_in is None else NOW + due_in * MINUTE
    assert decide(record, NOW, due_at=due_at, leave_by=leave_by).choose == choice


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 300), st.integers(-100, 300), st.integers(0, 300))
def test_waiting_for_a_try_is_never_advised_when_it_makes_the_visit_late(
    worked: int, failed: int, takes: int, leave_in: int, slack: int
) -> None:
    record = Record("x", worked, worked + failed, takes * MINUTE)
    leave_by = NOW + leave_in * MINUTE
    advice = decide(record, NOW, due_at=leave_by + slack * MINUTE, leave_by=leave_by)
    if advice.choose == TRY:
        assert NOW + record.takes <= leave_by
    assert 0 < record.chance < 1
    assert advice.in_time == (NOW + record.takes <= leave_by)


def test_the_chance_follows_what_was_seen() -> None:
    assert Record("x", 0, 0, MINUTE).chance == 0.5
    assert Record("x", 98, 98, MINUTE).chance == 0.99
