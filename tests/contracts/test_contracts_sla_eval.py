"""Batches of clock questions: the promised formats, and that no case can stop another."""

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from msp.console import main
from msp.contracts.evaluate import evaluate
from msp.errors import Misconfigured

WEEK = {day: [["09:00", "18:00"]] for day in ("mon", "tue", "wed", "thu", "fri")}
CALENDARS = {"office": {"tz": "Europe/Moscow", "week": WEEK}, "shut": {"tz": "UTC", "week": {}}}
FRIDAY_17 = "2026-11-20T14:00:00Z"
TICKET = {
    "id": "x2",
    "kind": "ticket",
    "calendar": "office",
    "policy": {"targets": {"P2": {"first_response": 60, "next_reply": 120, "resolution": 480}}},
    "events": [
        {"type": "created", "at": "2026-11-17T07:00:00Z", "priority": "P2", "channel": "email"},
        {"type": "agent_reply", "at": "2026-11-17T07:15:00Z"},
        {"type": "state", "at": "2026-11-17T07:15:00Z", "to": "waiting_client"},
    ],
    "as_of": "2026-11-17T09:00:00Z",
}


def answer(kind: Any, calendar: Any = "office", **given: Any) -> dict[str, Any]:
    case = {"id": 7, "kind": kind, "calendar": calendar, "input": given}
    found: dict[str, Any] = evaluate({"calendars": CALENDARS, "cases": [case]})["results"][0]
    assert found.pop("id") == 7
    return found


def test_every_kind_answers_in_its_own_words() -> None:
    assert answer("deadline", start=FRIDAY_17, seconds=14400) == {"due": "2026-11-23T09:00:00Z"}
    held = [["2026-11-23T06:30:00Z", "2026-11-23T07:00:00Z"], ["2026-11-23T06:00:00Z", "2026-11-23T06:45:00Z"]]
    assert answer("deadline", start=FRIDAY_17, seconds=14400, pauses=held) == {"due": "2026-11-23T10:00:00Z"}
    assert answer("deadline_backward", end="2026-11-23T09:00:00Z", seconds=14400) == {"at": FRIDAY_17}
    assert answer("elapsed", start=FRIDAY_17, end="2026-11-23T10:00:00Z", pauses=held) == {"seconds": 14400}
    assert answer("elapsed", start=FRIDAY_17, end="2026-11-19T10:00:00Z") == {"seconds": 0}
    assert answer("open", at="2026-11-20T15:00:00Z") == {"open": False}
    assert answer("open", at="2026-11-20T06:00:00Z") == {"open": True}
    assert answer("next_open", at="2026-11-20T15:00:00Z") == {"at": "2026-11-23T06:00:00Z"}
    assert answer("next_open", at=FRIDAY_17) == {"at": FRIDAY_17}
    assert answer("next_close", at=FRIDAY_17) == {"at": "2026-11-20T15:00:00Z"}
    assert answer("next_close", at="2026-11-20T15:00:00Z") == {"at": "2026-11-23T15:00:00Z"}
    assert answer("periods", start=FRIDAY_17, count=2) == {
        "periods": [[FRIDAY_17, "2026-11-20T15:00:00Z"], ["2026-11-23T06:00:00Z", "2026-11-23T15:00:00Z"]]
    }
    warned = answer("warn_before", start=FRIDAY_17, seconds=14400, warn_seconds=3600)
    assert warned == {"at": "2026-11-23T08:00:00Z"}


def test_instants_may_come_with_any_offset() -> None:
    assert answer("deadline", start="2026-11-20T17:00:00+03:00", seconds=14400) == {"due": "2026-11-23T09:00:00Z"}


@pytest.mark.parametrize(
    ("kind", "calendar", "given", "sentence"),
    [
        ("deadline", "office", {"start": FRIDAY_17, "seconds": 0}, "seconds must be between 1"),
        ("deadline", "office", {"start": FRIDAY_17, "seconds": -5}, "seconds must be between 1"),
        ("deadline", "office", {"start": FRIDAY_17, "seconds": 1.5}, "whole number"),
        ("deadline", "office", {"start": FRIDAY_17, "seconds": float("inf")}, "seconds"),
        ("deadline", "office", {"start": FRIDAY_17, "seconds": True}, "seconds"),
        ("deadline", "office", {"start": FRIDAY_17}, "seconds is missing"),
        ("deadline", "office", {"start": "2026-11-20T14:00:00", "seconds": 5}, "instant with its zone"),
        ("deadline", "office", {"start": "9999-12-31T23:59:59-12:00", "seconds": 5}, "start"),
        ("deadline", "office", {"start": FRIDAY_17, "seconds": 10**12}, "never covers"),
        ("deadline", "office", {"start": FRIDAY_17, "seconds": 5, "pauses": [FRIDAY_17]}, "pair of instants"),
        (
            "deadline",
            "office",
            {"start": FRIDAY_17, "seconds": 5, "pauses": [[FRIDAY_17, "2026-11-20T13:00:00Z"]]},
            "ends before it starts",
        ),
        ("deadline", "moon", {"start": FRIDAY_17, "seconds": 5}, "no calendar 'moon'"),
        ("deadline", ["office"], {"start": FRIDAY_17, "seconds": 5}, "must be a text"),
        ("open", "shut", {"at": FRIDAY_17}, "never opens"),
        ("periods", "office", {"start": FRIDAY_17, "count": 0}, "count must be between 1"),
        ("warn_before", "office", {"start": FRIDAY_17, "seconds": 5, "warn_seconds": -1}, "warn_seconds"),
        ("guess", "office", {}, "kind 'guess' is unknown"),
        (None, "office", {}, "kind is missing"),
    ],
)
def test_bad_question_is_an_error_in_a_sentence(kind: Any, calendar: Any, given: Any, sentence: str) -> None:
    found = answer(kind, calendar, **given)
    assert list(found) == ["error"]
    assert sentence in found["error"]


def test_bad_case_stops_no_other_and_keeps_its_place() -> None:
    good = {"id": "a", "kind": "open", "calendar": "office", "input": {"at": FRIDAY_17}}
    found = evaluate({"calendars": CALENDARS, "cases": [good, 5, {"id": "b"}, {"kind": "open"}, good | {"id": "c"}]})
    assert [result["id"] for result in found["results"]] == ["a", None, "b", None, "c"]
    assert ["error" in result for result in found["results"]] == [False, True, True, True, False]


@pytest.mark.parametrize("document", [[], {"cases": 5}, {"calendars": {}}, {"calendars": [], "cases": []}])
def test_what_is_no_batch_is_refused_as_a_whole(document: Any) -> None:
    with pytest.raises(Misconfigured):
        evaluate(document)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32))
def test_no_damage_to_a_case_ever_breaks_the_batch(seed: int) -> None:
    dice = random.Random(seed)
    document = json.loads(json.dumps({"calendars": CALENDARS, "cases": [TICKET, _question(dice)]}))
    for _ in range(dice.randrange(1, 4)):
        _damage(document["cases" if dice.random() < 0.8 else "calendars"], dice)
    found = evaluate(document)
    assert len(found["results"]) == 2
    json.dumps(found)


JUNK = [
    None,
    True,
    -1,
    0,
    1e400,
    float("nan"),
    2**80,
    "",
    "x",
    "24:00",
    "2026-11-20T14:00:00Z",
    [],
    {},
    [[1]],
    {"a": 1},
]


def _question(dice: random.Random) -> dict[str, Any]:
    kind = dice.choice(
        ["deadline", "deadline_backward", "elapsed", "open", "next_open", "next_close", "periods", "warn_before"]
    )
    given = {"start": FRIDAY_17, "end": FRIDAY_17, "at": FRIDAY_17, "seconds": 60, "count": 2, "warn_seconds": 5}
    return {"id": 1, "kind": kind, "calendar": "office", "input": given | {"pauses": [[FRIDAY_17, FRIDAY_17]]}}


def _damage(node: Any, dice: random.Random) -> None:
    """Replace or remove something at a random depth."""
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return
        key = dice.choice(keys)
        if isinstance(node[key], dict | list) and node[key] and dice.random() < 0.8:
            node = node[key]
            continue
        if isinstance(node, dict) and dice.random() < 0.3:
            del node[key]
        else:
            node[key] = copy.deepcopy(dice.choice(JUNK))  # the next damage may go into it
        return


def run(*arguments: str, given: str | None = None) -> Any:
    return CliRunner().invoke(main, ["sla", *arguments], input=given)


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    path = tmp_path / "cases.json"
    path.write_text(json.dumps({"calendars": CALENDARS, "cases": [TICKET, {"id": "nö", "kind": "open"}]}))
    return path


def test_command_writes_results_to_a_file(cases: Path, tmp_path: Path) -> None:
    done = run("eval", str(cases), "-o", str(tmp_path / "results.json"))
    assert done.exit_code == 0, done.output
    results = json.loads((tmp_path / "results.json").read_text())["results"]
    assert results[0]["resolution"]["remaining_s"] == 27900
    assert results[1] == {"id": "nö", "error": "calendar is missing."}


def test_command_reads_standard_input_and_prints(cases: Path) -> None:
    done = run("eval", "-", given=cases.read_text())
    assert done.exit_code == 0
    assert [result["id"] for result in json.loads(done.stdout)["results"]] == ["x2", "nö"]


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff", "[" * 100_000])
def test_command_refuses_what_is_no_batch_without_a_traceback(text: str) -> None:
    done = run("eval", "-", given=text)
    assert done.exit_code == 2
    assert done.stderr.startswith("msp: ")


def test_command_says_which_file_is_missing(tmp_path: Path) -> None:
    done = run("eval", str(tmp_path / "none.json"))
    assert done.exit_code == 2
    assert "none.json cannot be read" in done.stderr


def test_command_explains_a_case(cases: Path) -> None:
    done = run("explain", "x2", "--cases", str(cases))
    assert done.exit_code == 0
    assert "Resolution: paused with 7 h 45 min left." in done.output
    assert "waiting_client, 1 h 45 min not counted" in done.output
    assert run("explain", "x3", "--cases", str(cases)).exit_code == 1
