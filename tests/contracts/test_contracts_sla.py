"""What other rooms ask of the clocks: cached values, wake-ups, reasons."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from msp.contracts import explain, sla
from msp.errors import Misconfigured

WEEK = {day: [["09:00", "18:00"]] for day in ("mon", "tue", "wed", "thu", "fri")}
OFFICE = sla.read_calendar({"tz": "Europe/Moscow", "week": WEEK})
DOCUMENT = {
    "targets": {
        "P1": {"first_response": 15, "next_reply": 30, "resolution": 240, "clause": "4.1"},
        "P2": {"first_response": 60, "next_reply": 120, "resolution": 480},
    },
    "clause": "4",
    "ola": {"L1": {}},
    "latest_dispatch": {"calendar": "office", "travel_min": 60, "repair_min": 60},
}
POLICY = sla.read_policy(DOCUMENT)


def instant(hour: int, minute: int = 0, second: int = 0) -> datetime:
    """A time on Tuesday 17 November 2026, UTC; the office is open from 6 to 15."""
    return datetime(2026, 11, 17, hour, minute, second, tzinfo=UTC)


def event(kind: str, at: datetime, **more: Any) -> dict[str, Any]:
    return {"type": kind, "at": at, **more}


CREATED = event("created", instant(7), priority="P2", channel="email", subject="printer")


def clocks(*events: dict[str, Any], as_of: datetime) -> sla.Clocks:
    return sla.clocks_of(
        [CREATED, *events], POLICY, OFFICE, as_of, calendars={"office": OFFICE}, calendar_name="office"
    )


def test_desk_reads_due_times_and_the_nearest_of_them() -> None:
    found = clocks(as_of=instant(7, 10))
    assert (found.first_response_due, found.resolution_due) == (instant(8), instant(15))
    assert (found.next_due, found.next_due_name) == (instant(8), "first_response")
    assert found.time_left == timedelta(minutes=50)
    assert (found.breached, found.paused, found.state, found.line) == (False, False, "open", "L1")
    assert found.latest_dispatch_at == instant(13)


def test_events_that_move_no_clock_are_passed_over_and_fractions_cut_off() -> None:
    fine = instant(7, 15).replace(microsecond=999_999)
    found = clocks(event("assigned", fine, to="anna"), event("agent_reply", fine), as_of=fine)
    assert found.first_response.met_at == instant(7, 15)
    assert found.first_response_due is None
    assert found.next_due_name == "resolution"


def test_ticket_wakes_at_every_change_and_sleeps_when_nothing_runs() -> None:
    seen, now = [], instant(7)
    while (wake := clocks(event("agent_reply", instant(7)), as_of=now).next_wake) is not None:
        assert wake > now
        seen.append(wake)
        now = wake
    assert seen == [
        instant(7, 15, 1),  # L1 is over its time box
        instant(11),  # half of the resolution
        instant(13),  # latest dispatch, and three quarters
        instant(14, 12),  # 90 %
        instant(15, 0, 1) + timedelta(0),  # late
    ]
    paused = clocks(event("state", instant(7), to="waiting_client"), event("agent_reply", instant(7)), as_of=instant(8))
    assert paused.next_wake is None


def test_warnings_come_at_half_three_quarters_and_nine_tenths_of_covered_time() -> None:
    found = clocks(event("state", instant(8), to="scheduled"), event("state", instant(9), to="open"), as_of=instant(9))
    assert [(warning.percent, warning.at) for warning in found.resolution.warnings] == [
        (50, instant(12)),
        (75, instant(14)),
        (90, datetime(2026, 11, 18, 6, 12, tzinfo=UTC)),
    ]


def test_late_reply_leaves_its_mark_after_it_was_given() -> None:
    log = [
        event("agent_reply", instant(7, 5)),
        event("customer_message", instant(8)),
        event("agent_reply", instant(10, 0, 1)),
    ]
    found = clocks(*log, as_of=instant(11))
    assert found.next_reply is None
    assert [clock.breached for clock in found.answered] == [True]
    assert found.breached


def test_merged_ticket_leaves_the_percentage() -> None:
    found = clocks(event("merged_into", instant(8)), as_of=instant(9))
    assert (found.counts, found.stopped, found.next_due, found.next_wake) == (False, "merged", None, None)
    assert clocks(as_of=instant(9)).counts


def test_reason_names_clause_changes_spans_and_pauses() -> None:
    found = clocks(
        event("state", instant(8), to="waiting_client"),
        event("state", instant(9), to="open"),
        event("priority", instant(10), to="P1"),
        as_of=instant(10),
    )
    reason = explain.why(found.resolution, OFFICE, found.as_of)
    assert (reason.clause, reason.calendar, reason.zone) == ("4.1", "office", "Europe/Moscow")
    assert [(change.priority, change.target_s, change.goal_s) for change in reason.changes] == [
        ("P2", 28800, 28800),
        ("P1", 14400, 7200 + 14400),
    ]
    assert [(span.since, span.until) for span in reason.counted] == [
        (instant(7), instant(8)),
        (instant(9), instant(14)),
    ]
    assert [(stop.why, stop.seconds) for stop in reason.not_counted] == [("waiting_client", 3600)]
    assert reason.due == instant(14)
    said = explain.text(found, OFFICE)
    assert "Resolution: due 2026-11-17 17:00 +0300." in said
    assert "L1 has used 2 h of 15 min: over its time box." in said
    assert "A technician must be sent by 2026-11-17 15:00 +0300 at the latest." in said


def test_datetimes_in_datetimes_out() -> None:
    friday = datetime(2026, 11, 20, 14, tzinfo=UTC)
    monday = datetime(2026, 11, 23, 9, tzinfo=UTC)
    assert sla.due_at(OFFICE, friday, timedelta(hours=4)) == monday
    assert sla.latest_start(OFFICE, monday, timedelta(hours=4)) == friday
    assert sla.covered(OFFICE, friday, monday) == timedelta(hours=4)
    assert sla.is_covered(OFFICE, friday)
    assert sla.next_covered(OFFICE, friday.replace(microsecond=5)) == friday.replace(microsecond=5)
    assert sla.next_covered(OFFICE, friday.replace(hour=15)) == datetime(2026, 11, 23, 6, tzinfo=UTC)


def test_equal_documents_share_one_index() -> None:
    assert sla.read_calendar({"week": WEEK, "tz": "Europe/Moscow"}) is OFFICE
    assert sla.read_policy(dict(DOCUMENT)) is POLICY


def test_calendar_of_the_technician_must_be_there() -> None:
    with pytest.raises(Misconfigured, match="no calendar 'office'"):
        sla.clocks_of([CREATED], POLICY, OFFICE, instant(8))
