"""Rules R1 to R12, one by one, as the batch prints them."""

from typing import Any

import pytest

from msp.contracts.evaluate import evaluate

WEEK = {day: [["09:00", "18:00"]] for day in ("mon", "tue", "wed", "thu", "fri")}
CALENDARS = {
    "msk": {"tz": "Europe/Moscow", "week": WEEK},  # 06:00Z to 15:00Z
    "always": {"tz": "UTC", "week": {day: [["00:00", "24:00"]] for day in (*WEEK, "sat", "sun")}},
    "late": {"tz": "Europe/Moscow", "week": {day: [["12:00", "20:00"]] for day in WEEK}},
}
TARGETS = {
    "P1": {"first_response": 15, "next_reply": 30, "resolution": 240},
    "P2": {"first_response": 60, "next_reply": 120, "resolution": 480},
    "P3": {"first_response": 120, "next_reply": 240, "resolution": 960},
}
TUE = "2026-11-17T"


def at(time: str, **event: Any) -> dict[str, Any]:
    """An event on Tuesday 17 November 2026, or on a day given as `18 07:00`."""
    day, _, clock = time.rpartition(" ")
    return {"at": f"2026-11-{day or '17'}T{clock}:00Z", **event}


def created(time: str = "07:00", **event: Any) -> dict[str, Any]:
    return at(time, type="created", **({"priority": "P2", "channel": "email"} | event))


def state(time: str, to: str) -> dict[str, Any]:
    return at(time, type="state", to=to)


def ticket(*events: dict[str, Any], as_of: str, calendar: str = "msk", **policy: Any) -> dict[str, Any]:
    case = {
        "id": 1,
        "kind": "ticket",
        "calendar": calendar,
        "policy": {"targets": TARGETS} | policy,
        "events": list(events),
        "as_of": at(as_of)["at"],
    }
    result: dict[str, Any] = evaluate({"calendars": CALENDARS, "cases": [case]})["results"][0]
    return result


def error(*events: dict[str, Any], as_of: str = "09:00", **policy: Any) -> str:
    found: str = ticket(*events, as_of=as_of, **policy)["error"]
    return found


def due(time: str) -> Any:
    return at(time)["at"]


REPLY = {"type": "agent_reply"}
MESSAGE = {"type": "customer_message"}


def test_example_of_a_paused_ticket() -> None:
    found = ticket(created(), at("07:15", **REPLY), state("07:15", "waiting_client"), as_of="09:00")
    assert found == {
        "id": 1,
        "first_response": {"due": due("08:00"), "met_at": due("07:15"), "elapsed_s": 900, "breached": False},
        "resolution": {"paused": True, "due": None, "remaining_s": 27900, "breached": False},
        "next_reply": {"due": None},
    }


def test_r1_due_may_equal_closing_time() -> None:
    found = ticket(created("14:00"), as_of="14:30")
    assert found["first_response"]["due"] == due("15:00")
    assert found["resolution"]["due"] == due("18 13:00")


def test_r1_created_after_hours_starts_next_morning() -> None:
    assert ticket(created("20:00"), as_of="20:01")["first_response"]["due"] == due("18 07:00")


@pytest.mark.parametrize(
    "event", [{"type": "auto_reply"}, {"type": "playbook_run"}, {"type": "agent_reply", "internal": True}, MESSAGE]
)
def test_r3_what_is_no_public_human_answer_is_no_first_response(event: dict[str, Any]) -> None:
    found = ticket(created(), at("07:10", **event), as_of="08:30")["first_response"]
    assert found == {"due": due("08:00"), "breached": True}


@pytest.mark.parametrize("event", [REPLY, {"type": "call_by_agent"}, {"type": "agent_reply", "internal": False}])
def test_r3_public_message_or_call_by_a_human_is_the_first_response(event: dict[str, Any]) -> None:
    found = ticket(created(), at("07:10", **event), at("07:40", **event), as_of="08:30")["first_response"]
    assert found == {"due": due("08:00"), "met_at": due("07:10"), "elapsed_s": 600, "breached": False}


def test_r3_ticket_taken_by_phone_is_met_at_creation() -> None:
    found = ticket(created(channel="phone_by_agent"), as_of="12:00")["first_response"]
    assert found == {"due": due("08:00"), "met_at": due("07:00"), "elapsed_s": 0, "breached": False}


def test_r4_next_reply_starts_at_the_oldest_unanswered_message() -> None:
    log = [created(), at("07:10", **REPLY), at("08:00", **MESSAGE), at("08:30", **MESSAGE)]
    assert ticket(*log, as_of="08:31")["next_reply"] == {"due": due("10:00")}
    assert ticket(*log, at("09:00", **REPLY), as_of="09:01")["next_reply"] == {"due": None}
    log += [at("09:00", **REPLY), at("09:30", type="auto_reply"), at("10:00", **MESSAGE)]
    assert ticket(*log, as_of="10:01")["next_reply"] == {"due": due("12:00")}


def test_r4_message_before_the_first_response_starts_no_next_reply() -> None:
    assert ticket(created(), at("07:05", **MESSAGE), as_of="08:31")["next_reply"] == {"due": None}
    assert ticket(created(), at("07:05", **MESSAGE), at("07:10", **REPLY), as_of="08:31")["next_reply"] == {"due": None}


def test_r4_next_reply_is_null_while_paused_or_resolved_and_goes_on_after() -> None:
    log = [created(), at("07:10", **REPLY), at("08:00", **MESSAGE)]
    for to in ("waiting_client", "resolved"):
        assert ticket(*log, state("08:30", to), as_of="08:31")["next_reply"] == {"due": None}
        found = ticket(*log, state("08:30", to), state("09:30", "open"), as_of="09:31")
        assert found["next_reply"] == {"due": due("11:00")}


def test_r5_waiting_for_a_vendor_stops_only_where_the_contract_says_so() -> None:
    log = [created(), state("08:00", "waiting_vendor")]
    assert ticket(*log, as_of="09:00")["resolution"]["paused"] is False
    listed = ticket(*log, as_of="09:00", pause_states=["waiting_vendor"])["resolution"]
    assert listed == {"paused": True, "due": None, "remaining_s": 7 * 3600, "breached": False}


def test_r5_pause_over_night_counts_only_open_seconds() -> None:
    log = [created(), state("14:00", "scheduled"), state("18 07:00", "open")]  # 1 h today, 1 h tomorrow
    assert ticket(*log, as_of="18 07:30")["resolution"]["due"] == due("18 08:00")


def test_r5_first_response_goes_on_in_a_pause_unless_the_contract_stops_it() -> None:
    log = [created(), state("07:30", "waiting_client")]
    assert ticket(*log, as_of="07:40")["first_response"] == {"due": due("08:00"), "breached": False}
    stopped = ticket(*log, as_of="12:00", pause_first_response=True)["first_response"]
    assert stopped == {"due": None, "breached": False}
    resumed = ticket(*log, state("09:30", "open"), as_of="09:40", pause_first_response=True)["first_response"]
    assert resumed == {"due": due("10:00"), "breached": False}


def test_r6_raised_priority_takes_the_earlier_of_old_due_and_change_plus_new_target() -> None:
    early = ticket(created(), at("08:00", type="priority", to="P1"), as_of="08:01")
    assert early["resolution"]["due"] == due("12:00")  # 08:00 + 4 h, before the old 15:00
    assert early["first_response"]["due"] == due("08:00")  # the old due is before 08:15
    late = ticket(created(), at("14:00", type="priority", to="P1"), as_of="14:01")
    assert late["resolution"]["due"] == due("15:00")


def test_r6_lowered_priority_takes_the_later_of_old_due_and_creation_plus_new_target() -> None:
    lowered = ticket(created(), at("08:00", type="priority", to="P3"), as_of="08:01")["resolution"]
    assert lowered["due"] == due("18 14:00")
    up_and_down = [at("08:00", type="priority", to="P1"), at("08:30", type="priority", to="P2")]
    assert ticket(created(), *up_and_down, as_of="08:40")["resolution"]["due"] == due("15:00")


def test_r6_keeps_pauses_before_and_after_the_change() -> None:
    log = [created(), state("07:30", "waiting_client"), state("08:30", "open"), at("09:00", type="priority", to="P1")]
    assert ticket(*log, as_of="09:01")["resolution"]["due"] == due("13:00")
    log += [state("10:00", "waiting_client"), state("10:30", "open")]
    assert ticket(*log, as_of="10:31")["resolution"]["due"] == due("13:30")


def test_r6_change_during_a_pause_counts_from_the_end_of_the_pause() -> None:
    log = [created(), state("08:00", "waiting_client"), at("09:00", type="priority", to="P1"), state("10:00", "open")]
    assert ticket(*log, as_of="10:01")["resolution"]["due"] == due("14:00")


def test_r6_priorities_without_numbers_go_by_their_targets() -> None:
    named = {"low": TARGETS["P3"], "high": TARGETS["P1"]}
    raised = ticket(created(priority="low"), at("08:00", type="priority", to="high"), as_of="08:01", targets=named)
    assert raised["resolution"]["due"] == due("12:00")


def test_r7_resolved_time_does_not_count_and_a_reopen_continues() -> None:
    log = [created(), state("09:00", "resolved")]
    assert ticket(*log, as_of="18 12:00")["resolution"] == {
        "paused": False, "due": due("15:00"), "breached": False, "resolved_at": due("09:00"), "elapsed_s": 7200,
    }  # fmt: skip
    log += [state("10:00", "closed"), state("11:00", "open")]
    assert ticket(*log, as_of="12:00")["resolution"] == {"paused": False, "due": due("18 08:00"), "breached": False}


def test_r7_resolved_after_due_stays_breached() -> None:
    log = [created(), state("18 07:00", "resolved")]
    late = ticket(*log, as_of="18 08:00")["resolution"]
    assert (late["due"], late["breached"], late["elapsed_s"]) == (due("15:00"), True, 9 * 3600)
    assert ticket(*log, state("18 09:00", "open"), as_of="18 09:01")["resolution"]["breached"] is True


def test_r7_ticket_resolved_without_an_answer_stops_its_first_response() -> None:
    found = ticket(created(), state("07:30", "resolved"), as_of="12:00")["first_response"]
    assert found == {"due": None, "breached": False}


def test_r8_merged_child_stops_with_its_outcome_and_has_no_due() -> None:
    found = ticket(created(), at("07:30", type="merged_into"), at("09:00", **REPLY), as_of="12:00")
    assert found["first_response"] == {"due": None, "breached": False, "stopped": "merged"}
    assert found["resolution"] == {"paused": False, "due": None, "breached": False, "stopped": "merged"}
    assert found["next_reply"] == {"due": None}


def test_r8_breach_before_the_merge_stays() -> None:
    assert ticket(created(), at("08:01", type="merged_into"), as_of="12:00")["first_response"]["breached"] is True
    assert ticket(created(), at("08:00", type="merged_into"), as_of="12:00")["first_response"]["breached"] is False


def test_r8_parent_takes_oldest_creation_and_earliest_answer() -> None:
    child = {"type": "merged_from", "created": due("06:30"), "first_reply": due("06:45")}
    found = ticket(created(), at("07:10", **REPLY), at("08:00", **child), as_of="08:30")
    assert found["first_response"] == {
        "due": due("07:30"), "met_at": due("06:45"), "elapsed_s": 900, "breached": False,
    }  # fmt: skip
    assert found["resolution"]["due"] == due("14:30")


def test_r8_younger_child_without_an_answer_changes_nothing() -> None:
    child = {"type": "merged_from", "created": due("07:40")}
    found = ticket(created(), at("08:00", **child), as_of="08:30")
    assert found["first_response"] == {"due": due("08:00"), "breached": True}


@pytest.mark.parametrize("outcome", ["cancelled", "out_of_scope"])
def test_other_outcomes_stop_like_a_merge(outcome: str) -> None:
    found = ticket(created(), state("07:30", outcome), state("07:40", "closed"), as_of="12:00")["resolution"]
    assert found == {"paused": False, "due": None, "breached": False, "stopped": outcome}


def test_r9_exactly_at_the_deadline_is_in_time() -> None:
    assert ticket(created(), at("08:00", **REPLY), as_of="08:00")["first_response"]["breached"] is False
    assert ticket(created(), as_of="08:00")["first_response"]["breached"] is False
    assert ticket(created(), state("15:00", "resolved"), as_of="18 09:00")["resolution"]["breached"] is False
    late = ticket(created(), {"at": TUE + "08:00:01Z", **REPLY}, as_of="09:00")["first_response"]
    assert (late["breached"], late["elapsed_s"]) == (True, 3601)


def test_r10_line_time_is_summed_over_visits_and_stops_in_pauses() -> None:
    log = [
        created(), at("07:10", type="line", to="L2"), state("07:20", "waiting_client"), state("08:00", "open"),
        at("08:10", type="line", to="L1"), at("08:16", type="line", to="L2"),
    ]  # fmt: skip
    found = ticket(*log, as_of="08:30", ola={"L1": {"minutes": 15}, "L2": {"minutes": 60}, "L3": {"minutes": 5}})
    assert found["ola"] == {
        "L1": {"elapsed_s": 16 * 60, "breached": True},
        "L2": {"elapsed_s": 34 * 60, "breached": False},
        "L3": {"elapsed_s": 0, "breached": False},
    }
    assert found["resolution"]["due"] == due("18 06:40")  # a handover never resets the SLA


def test_r10_first_line_has_fifteen_minutes_by_default_and_a_full_box_is_no_breach() -> None:
    assert ticket(created(), as_of="07:15", ola={})["ola"] == {"L1": {"elapsed_s": 900, "breached": False}}
    assert ticket(created(), as_of="07:16", ola={"L1": {}})["ola"]["L1"]["breached"] is True
    assert "ola" not in ticket(created(), as_of="07:16")


def test_r10_line_may_have_its_own_calendar() -> None:
    log = [created(), at("07:10", type="line", to="L2")]
    found = ticket(*log, as_of="10:00", ola={"L2": {"minutes": 60, "calendar": "late"}})["ola"]
    assert found["L2"] == {"elapsed_s": 3600, "breached": False}  # it opens at 09:00Z


def test_r11_arrival_clock_stands_while_there_is_no_access() -> None:
    log = [created(), at("08:00", type="onsite_requested"), state("08:01", "scheduled")]
    assert ticket(*log, as_of="08:30", onsite_minutes=120)["onsite_arrival"] == {"due": due("10:00"), "breached": False}
    log += [at("09:00", type="no_access", until=due("09:30"))]
    assert ticket(*log, as_of="09:10", onsite_minutes=120)["onsite_arrival"]["due"] == due("10:30")
    found = ticket(*log, at("10:30", type="arrived"), as_of="12:00", onsite_minutes=120)["onsite_arrival"]
    assert found == {"due": due("10:30"), "arrived_at": due("10:30"), "breached": False}
    late = ticket(*log, at("10:31", type="arrived"), as_of="12:00", onsite_minutes=120)["onsite_arrival"]
    assert late["breached"] is True
    assert "onsite_arrival" not in ticket(created(), as_of="12:00", onsite_minutes=120)


def test_r12_latest_dispatch_counts_backwards_on_the_technicians_calendar() -> None:
    dispatch = {"calendar": "late", "travel_min": 60, "repair_min": 90}
    assert ticket(created(), as_of="07:01", latest_dispatch=dispatch)["latest_dispatch_at"] == due("12:30")
    long = dispatch | {"repair_min": 480}  # 9 h before 15:00Z: 6 h today from 09:00Z, 3 h on Monday until 17:00Z
    assert ticket(created(), as_of="07:01", latest_dispatch=long)["latest_dispatch_at"] == due("16 14:00")
    paused = ticket(created(), state("08:00", "scheduled"), as_of="09:00", latest_dispatch=dispatch)
    assert "latest_dispatch_at" not in paused


def test_monitoring_ticket_starts_at_its_event_at_most_fifteen_minutes_before() -> None:
    near = ticket(created(channel="monitoring", event_at=due("06:50")), as_of="07:01")
    assert near["first_response"]["due"] == due("07:50")
    old = ticket(created(channel="monitoring", event_at=due("06:05")), as_of="07:01")
    assert old["first_response"]["due"] == due("07:45")


def test_events_after_the_instant_asked_about_have_not_happened() -> None:
    log = [created(), at("07:30", **REPLY), state("08:00", "resolved")]
    assert ticket(*log, as_of="07:29") == ticket(created(), as_of="07:29")


def test_priority_without_a_target_promises_nothing() -> None:
    found = ticket(created(priority="P9"), as_of="12:00", targets={"P9": {"first_response": 60}})
    assert found["resolution"] == {"paused": False, "due": None, "breached": False}


@pytest.mark.parametrize(
    ("events", "sentence"),
    [
        ([], "at least 'created'"),
        ([at("07:00", **REPLY)], "begins with one 'created'"),
        ([created(), created()], "begins with one 'created'"),
        ([created(), at("06:59", **REPLY)], "out of order"),
        ([created(), at("07:01", type="party")], "unknown"),
        ([created(), {"type": "agent_reply"}], "at is missing"),
        ([created(), {"type": "agent_reply", "at": "2026-11-17 07:00"}], "instant with its zone"),
        ([created(priority="P7")], "no targets for the priority 'P7'"),
        ([created(), at("07:01", type="priority", to="P7")], "no targets for the priority 'P7'"),
        ([created(), at("07:01", type="state")], "to is missing"),
        ([created(), at("07:01", type="no_access", until=due("07:00"))], "must not be before"),
        ([created(), at("07:01", type="merged_from", created=due("07:02"))], "in this order"),
        ([created("10:00")], "before the ticket was created"),
        (["created"], "must be an object"),
    ],
)
def test_bad_log_is_an_error_in_a_sentence(events: list[Any], sentence: str) -> None:
    assert sentence in error(*events)


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        ({"targets": {}}, "at least one priority"),
        ({"targets": {"P2": {"resolution": -60}}}, "more than 0"),
        ({"targets": {"P2": {"resolution": 0}}}, "more than 0"),
        ({"targets": {"P2": {"resolution": "soon"}}}, "must be minutes"),
        ({"targets": {"P2": {"resolution": float("nan")}}}, "must be minutes"),
        ({"targets": {"P2": {"resolutions": 5}}}, "Did you mean 'resolution'"),
        ({"pause_states": ["resolved"]}, "no waiting state"),
        ({"pause_state": ["x"]}, "Did you mean 'pause_states'"),
        ({"ola": {"L2": {}}}, "minutes is missing"),
        ({"ola": {"L2": {"minutes": 5, "calendar": "moon"}}}, "no calendar 'moon'"),
        ({"latest_dispatch": {"calendar": "moon", "travel_min": 5, "repair_min": 5}}, "no calendar 'moon'"),
        ({"latest_dispatch": {"calendar": "late", "travel_min": -5, "repair_min": 5}}, "at least 0"),
        ({"onsite_minutes": 0}, "more than 0"),
    ],
)
def test_bad_policy_is_an_error_in_a_sentence(policy: dict[str, Any], sentence: str) -> None:
    assert sentence in error(created(), **policy)
