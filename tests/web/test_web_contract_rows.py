"""Special days, freezes, tariffs, new lines and hours as rows of a page, and what a clause would say meanwhile."""

import copy
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import seed
from clicking import Browser
from flask import Flask

from msp.contracts import terms
from msp.contracts.fields import DAYS
from msp_web import terms_form

Ids = dict[str, dict[str, int]]

FULL: dict[str, Any] = copy.deepcopy(seed.TERMS)
FULL["calendars"]["office"] |= {
    "overrides": {"2026-12-19": [["10:00", "14:00"]], "2026-05-04": []},
    "breaks": {"2026-11-30": [["12:00", "13:00"], ["15:00", "15:30"]]},
}
FULL["freezes"] = [{"name": "Year end", "from": "2026-12-20", "to": "2027-01-08"}]
FULL["clauses"][1]["freezes"] = ["Year end", {"name": "Own", "from": "2026-06-01", "to": "2026-06-02"}]
FULL["lines"][0] |= {
    "increment": 15,
    "minimum": 0,
    "tariffs": [
        {"name": "Night", "multiplier": "1.5", "windows": [{"days": ["mon"], "from": "20:00", "to": "06:00"}]},
        {"name": "Holiday", "multiplier": "2", "dates": ["2026-12-25", "2026-12-26"]},
    ],
}


@pytest.fixture(autouse=True)
def reader(app: Flask, request: pytest.FixtureRequest) -> Iterator[None]:
    """Be a reader of English; a browser brings requests of its own."""
    if "log_in" in request.fixturenames:
        yield
        return
    with app.test_request_context("/"):
        yield


def typed(document: Any = FULL, **changes: list[str]) -> terms_form.Draft:
    return terms_form.of_fields({**terms_form.values_of(document), **changes}, document)


def test_a_document_with_every_kind_of_row_comes_back_unchanged() -> None:
    assert not terms.problems(FULL)
    draft = typed()
    assert not draft.problems
    assert draft.document == FULL


def as_it_came() -> dict[str, Any]:
    """Terms as a file brings them: numbers for texts, names with commas, nothing said as null, other orders."""
    document = copy.deepcopy(FULL)
    document["freezes"].append({"name": "Move", "from": "2026-02-01", "to": "2026-02-03"})
    document["calendars"]["sundays"] = {"tz": "Europe/Berlin", "overrides": {"2026-12-20": [["10:00", "14:00"]]}}
    line = document["lines"][0]
    line |= {"overage_rate": 95, "onsite_minutes": 7.5, "monthly_fee": 0, "increment": "15"}
    line["targets"]["P1"] |= {"resolution": 240.5, "clause": "3.1"}
    line["tariffs"][0] |= {"multiplier": 1.5, "windows": [{"from": "20:00", "to": "06:00"}]}
    clause = document["clauses"][0]
    clause |= {"assets": ["srv, old", " srv-1"], "action_classes": ["change", "read"], "text": "One.\nTwo.", "price": 0}
    clause |= {"windows": [{"from": "20:00", "to": "05:00"}, {"days": ["fri", "mon"], "from": "00:00", "to": "24:00"}]}
    return document


def test_what_a_field_shows_only_in_part_stays_as_it_is_written_until_it_is_touched() -> None:
    document = as_it_came()
    assert not terms.problems(document)
    sent = {name: [one.replace("\n", "\r\n") for one in found] for name, found in typed(document).values.items()}
    draft = terms_form.of_fields(sent, document)
    assert not draft.problems
    assert draft.document == document
    touched = typed(document, **{"line-0-overage_rate": ["96.00"], "clause-0-w0-to": ["06:00"]}).document
    assert touched["lines"][0]["overage_rate"] == "96.00"
    assert touched["clauses"][0]["windows"][0] == {"days": list(DAYS), "from": "20:00", "to": "06:00"}
    for known in (document, touched):
        del known["lines"][0]["overage_rate"], known["clauses"][0]["windows"][0]
    assert touched == document


def test_a_null_is_read_as_nothing_said_in_the_fields_and_in_json() -> None:
    document = {**FULL, "clauses": None, "vat": None, "lines": [{**FULL["lines"][0], "targets": None, "tariffs": None}]}
    assert not terms.problems(document)
    draft = terms_form.opened(document)
    again = terms_form.of_fields(draft.values, draft.document).document
    assert terms.differences(document, again) == ()
    named = {**document, "lines": [{**document["lines"][0], "name": "Machines"}]}
    assert terms_form.of_json(json.dumps(named), FULL).document["lines"][0]["name"] == "Machines"


def test_special_days_are_added_changed_and_taken_away() -> None:
    draft = typed(
        **{"cal-0-overrides-0-day": [""], "cal-0-overrides-0-hours": [""], "cal-0-overrides-1-hours": ["9-12, 13-15"]},
        **{"cal-0-overrides-2-day": ["2026-10-03"], "cal-0-overrides-2-hours": [""]},
        **{"cal-0-breaks-1-day": ["2026-12-01"], "cal-0-breaks-1-hours": ["08:00-09:00"]},
    )
    assert not draft.problems
    office = draft.document["calendars"]["office"]
    assert office["overrides"] == {"2026-12-19": [["09:00", "12:00"], ["13:00", "15:00"]], "2026-10-03": []}
    assert office["breaks"]["2026-12-01"] == [["08:00", "09:00"]]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"cal-0-overrides-1-hours": ["ten to two"]}, "cal-0-overrides-1-hours"),
        ({"cal-0-overrides-1-hours": ["10-14, 12-16"]}, "cal-0-overrides-1-hours"),
        ({"cal-0-overrides-1-day": ["2026-05-04"]}, "cal-0-overrides-1-day"),
        ({"cal-0-overrides-1-day": [""]}, "cal-0-overrides-1-day"),
        ({"cal-0-breaks-0-hours": [""]}, "cal-0-breaks-0-hours"),
        ({"freeze-0-to": ["2026-12-01"]}, "freeze-0-to"),
        ({f"freeze-1-{key}": [FULL["freezes"][0][key]] for key in ("name", "from", "to")}, "freeze-1-name"),
        ({"freeze-1-name": ["Half"]}, "freeze-1-from"),
        ({"line-0-tariff-0-multiplier": ["lots"]}, "line-0-tariff-0-multiplier"),
        ({"line-0-tariff-2-name": ["Never"], "line-0-tariff-2-multiplier": ["3"]}, "line-0-tariff-2-name"),
        ({"line-0-tariff-1-dates": ["Christmas"]}, "line-0-tariff-1-dates"),
        ({"line-0-increment": ["some"]}, "line-0-increment"),
        ({"line-1-id": ["2"], "line-1-name": ["New"], "line-1-kind": ["t_and_m"]}, "line-1-rate"),
        ({"line-1-id": ["L1"], "line-1-name": ["New"], "line-1-kind": ["t_and_m"], "line-1-rate": ["5"]}, "line-1-id"),
        ({"cal-new-name": ["office"]}, "cal-new-name"),
        ({"cal-0-drop": ["1"]}, "line-0-calendar"),
    ],
)  # fmt: skip
def test_each_problem_of_a_row_stands_beside_it(changes: dict[str, list[str]], field: str) -> None:
    draft = typed(**changes)
    assert list(draft.problems) == [field], draft.problems
    assert draft.shown == FULL, "what is shown keeps its places until everything can be read"


def test_a_freeze_keeps_its_clauses_when_renamed_and_leaves_them_when_taken_away() -> None:
    renamed = typed(**{"freeze-0-name": ["New Year"]})
    assert not renamed.problems
    assert renamed.document["clauses"][1]["freezes"][0] == "New Year"
    gone = typed(**{f"freeze-0-{key}": [""] for key in ("name", "from", "to")})
    assert not gone.problems
    assert "freezes" not in gone.document
    assert [one["name"] for one in gone.document["clauses"][1]["freezes"]] == ["Own"]


def test_a_line_with_its_own_hours_and_tariff_is_added_and_an_old_one_taken_out() -> None:
    added = {"id": "2", "name": "Network", "kind": "t_and_m", "rate": "80.00", "increment": "30", "calendar": "office"}
    fields = {f"line-1-{key}": [value] for key, value in added.items()}
    fields |= {"line-1-new": ["P1"], "line-1-new-resolution": ["4:00"], "line-1-tariff-0-name": ["Night"]}
    fields |= {"line-1-tariff-0-multiplier": ["2"], "line-1-tariff-0-w0-from": ["22:00"]}
    fields |= {"line-1-tariff-0-w0-to": ["06:00"], "line-1-tariff-0-w0-days": ["sat", "sun"], "line-0-drop": ["1"]}
    draft = typed(**fields, **{"cal-new-name": ["round"], "cal-new-like": ["office"]})
    assert not draft.problems
    (line,) = draft.document["lines"]
    assert line["targets"] == {"P1": {"resolution": 240}}
    assert line["tariffs"][0]["windows"] == [{"days": ["sat", "sun"], "from": "22:00", "to": "06:00"}]
    assert line["increment"] == 30
    assert draft.document["calendars"]["round"] == draft.document["calendars"]["office"]


def test_the_page_has_a_row_for_each_and_says_what_a_clause_would_say(
    log_in: Callable[[str], Browser], ids: Ids
) -> None:
    browser, path = log_in("manager@provider.example"), f"/contracts/{ids['alfa']['contract_id']}/edit"
    page = browser.get(path).text
    for name in ("cal-0-overrides-0-day", "cal-0-breaks-0-hours", "freeze-0-from", "line-0-tariff-0-multiplier"):
        assert f'name="{name}"' in page, name
    assert re.search(r"So it reads:</strong>\s+Allowed; actions: change", page)
    draft = {"draft": terms_form.opened(FULL).kept}
    clause = {"clause-1-effect": "ask", "clause-1-actions": "disruptive", "clause-1-freezes": "Year end"}
    clause |= {
        "clause-1-w0-days": ["sat"],
        "clause-1-w0-from": "22:00",
        "clause-1-w0-to": "04:00",
        "clause-1-outside": "",
    }
    told = browser.send(f"{path}/reads?clause=1", **draft, **clause).text
    assert (
        "Needs approval; actions: interrupt service; Sat 22:00–04:00; never from 20 Dec 2026 to 8 Jan 2027: Year end"
        in told
    )
    assert "a yes is good for 1 d" in told
    wrong = browser.send(f"{path}/reads?clause=1", **draft, **{**clause, "clause-1-w0-from": "late"})
    assert "must be a time like 08:30" in wrong.text
    assert browser.send(f"{path}/reads?clause=99", **draft).text.strip() == ""
    assert log_in("tech@provider.example").send(f"{path}/reads?clause=1", **draft).status_code == 403


def test_a_number_that_is_null_is_an_empty_field() -> None:
    document = copy.deepcopy(FULL)
    document["lines"][0]["included_minutes"] = None
    assert terms.problems(document) == []
    draft = terms_form.of_fields(terms_form.values_of(document), document)
    assert draft.problems == {}
    assert draft.value("line-0-included_minutes") == ""
