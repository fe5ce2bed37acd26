"""VAT, proofs of backups, what a line covers, its time boxes, credits and visits as fields of the contract editor."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import seed
from clicking import Browser, fields_on
from flask import Flask
from flask_babel import force_locale

from msp.contracts import terms
from msp.contracts.covers import KEYS
from msp.contracts.vat import MODES
from msp_web import terms_form, terms_promises

Ids = dict[str, dict[str, int]]


@pytest.fixture(autouse=True)
def reader(app: Flask, request: pytest.FixtureRequest) -> Iterator[None]:
    """Be a reader of English; a browser brings requests of its own."""
    if "log_in" in request.fixturenames:
        yield
        return
    with app.test_request_context("/"):
        yield


def agreed(line: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """Return terms that can be signed, with these keys and those of their line set."""
    document = copy.deepcopy(seed.TERMS) | changes
    document["lines"][0] |= line or {}
    assert not terms.problems(document), terms.problems(document)
    return document


def typed(document: dict[str, Any], **changes: str | list[str]) -> terms_form.Draft:
    """Return the draft of a page sent with these fields changed."""
    fields = {name: [found] if isinstance(found, str) else found for name, found in changes.items()}
    return terms_form.of_fields({**terms_form.values_of(document), **fields}, document)


def stays(document: dict[str, Any]) -> bool:
    """Return whether a page sent back unchanged changes nothing, and with another name nothing else."""
    alone = typed(document)
    renamed = typed(document, **{"line-0-name": "Machines"})
    assert not alone.problems
    assert not renamed.problems
    renamed.document["lines"][0]["name"] = document["lines"][0]["name"]
    return alone.document == document == renamed.document


def refused(document: dict[str, Any], field: str, **changes: str | list[str]) -> bool:
    """Return whether the only problem stands beside that field, with what was typed, and nothing shown is lost."""
    draft = typed(document, **changes)
    assert list(draft.problems) == [field], draft.problems
    assert all(sentence.strip() for sentence in draft.problems[field])
    kept = all(draft.value(name) == (text if isinstance(text, str) else text[0]) for name, text in changes.items())
    return kept and draft.shown == document


RATES = (20, "20", "20 %", 0.19, "0.19", "0.5 %", 0, "0", 0.0, "0.00 %", None, "7.7", 100, "12.345")


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("mode", MODES)
def test_every_way_to_state_vat_comes_back_as_it_was_written(mode: str, rate: Any) -> None:
    vat = {"mode": mode, "rates": [{"from": "20260101", "rate": rate}, {"from": "2027-01-01", "rate": "21"}]}
    assert stays(agreed({"vat": vat}))
    assert stays(agreed(vat=vat))
    later = typed(agreed(vat=vat), **{"vat-1-rate": "22,5"})
    assert later.document["vat"]["rates"] == [vat["rates"][0], {"from": "2027-01-01", "rate": "22.5 %"}]


def test_no_vat_and_0_percent_are_two_choices_in_both_directions() -> None:
    none = typed(agreed(), **{"vat-mode": "exclusive_on_total", "vat-0-from": "2026-01-01", "vat-0-bears": "none"})
    assert not none.problems
    assert none.document["vat"] == {"mode": "exclusive_on_total", "rates": [{"from": "2026-01-01", "rate": None}]}
    zero = typed(none.document, **{"vat-0-bears": "rate", "vat-0-rate": "0"})
    assert terms.parse(zero.document).vat.rates[0].rate == 0
    back = typed(zero.document, **{"vat-0-bears": "none"})
    assert terms.parse(back.document).vat.rates[0].rate is None


def test_a_small_rate_is_in_percent_as_its_field_says() -> None:
    small = {"vat-mode": "inclusive", "vat-0-from": "2026-01-01", "vat-0-bears": "rate", "vat-0-rate": "0.5"}
    assert str(terms.parse(typed(agreed(), **small).document).vat.rates[0].rate) == "0.005"


def test_vat_is_taken_out_by_its_choice_and_a_rate_by_emptying_its_row() -> None:
    rates = [{"from": "2026-01-01", "rate": 19}, {"from": "2027-01-01", "rate": None}]
    document = agreed(vat={"mode": "inclusive", "rates": rates})
    assert "vat" not in typed(document, **{"vat-mode": ""}).document
    fewer = typed(document, **{"vat-1-from": ""})
    assert not fewer.problems
    assert fewer.document["vat"]["rates"] == rates[:1]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"vat-0-rate": "a lot"}, "vat-0-rate"),
        ({"vat-0-rate": "-5"}, "vat-0-rate"),
        ({"vat-0-rate": "120"}, "vat-0-rate"),
        ({"vat-0-rate": ""}, "vat-0-rate"),
        ({"vat-0-from": ""}, "vat-0-from"),
        ({"vat-0-from": "soon"}, "vat-0-from"),
        ({"vat-0-rate": "7", "vat-0-bears": "none"}, "vat-0-rate"),
        ({"vat-0-rate": "", "vat-0-from": ""}, "vat-0-from"),
        ({"vat-0-rate": "7", "vat-mode": ""}, "vat-mode"),
        ({"vat-mode": "somehow"}, "vat-mode"),
        ({"vat-1-from": "2027-01-01", "vat-1-bears": "rate"}, "vat-1-rate"),
        ({"vat-1-bears": "none", "vat-1-from": ""}, "vat-1-from"),
        ({"vat-1-from": "2026-01-01", "vat-1-bears": "none"}, "vat-0-from"),
        ({"line-0-vat-mode": "inclusive"}, "line-0-vat-0-from"),
        ({"line-0-vat-0-from": "2026-01-01", "line-0-vat-0-rate": "7"}, "line-0-vat-mode"),
    ],
)
def test_wrong_vat_is_told_beside_its_field_and_loses_nothing(changes: dict[str, str], field: str) -> None:
    vat = {"mode": "exclusive_per_rate", "rates": [{"from": "2026-01-01", "rate": 0.19}]}
    assert refused(agreed(vat=vat), field, **changes)


SPANS = [
    (5, "5 s"),
    (7200, "2 h"),
    (604800, "7 d"),
    (90061, "1 d 1 h 1 min 1 s"),
    ("7200", "2 h"),
    (5400.0, "1 h 30 min"),
]


@pytest.mark.parametrize(("seconds", "text"), SPANS)
def test_every_span_of_a_restore_comes_back_as_it_was_written(seconds: Any, text: str) -> None:
    for spans in ({}, {"rpo_s": 86400}, {"rto_s": seconds}, {"rpo_s": seconds, "rto_s": 1}):
        document = agreed(restore={"proof_every_s": seconds, **spans})
        assert terms_form.values_of(document)["restore-proof_every_s"] == [text]
        assert stays(document)
    assert terms_promises.span_of(text) == int(seconds)


@pytest.mark.parametrize(("text", "seconds"), [("1:30", 5400), ("36h", 129600), ("1 D 2 h", 93600), ("90 min.", 5400)])
def test_a_span_is_read_as_people_write_it(text: str, seconds: int) -> None:
    document = agreed(restore={"proof_every_s": "604800", "rpo_s": 86400})
    draft = typed(document, **{"restore-rto_s": text})
    assert draft.document["restore"] == {"proof_every_s": "604800", "rpo_s": 86400, "rto_s": seconds}


def test_a_russian_reader_sees_and_types_spans_in_russian(app: Flask) -> None:
    with app.test_request_context("/"), force_locale("ru"):
        assert terms_promises.span_text(90061) == "1 д 1 ч 1 мин 1 с"
        assert [terms_promises.span_of(text) for text in ("1 д 1 ч 1 мин 1 с", "4 ч", "4 h")] == [90061, 14400, 14400]


def test_what_is_promised_of_restores_is_taken_out_by_emptying_it() -> None:
    draft = typed(agreed(), **{f"restore-{key}": "" for key in terms_promises.SPANS})
    assert not draft.problems
    assert "restore" not in draft.document


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"restore-rto_s": "soon"}, "restore-rto_s"),
        ({"restore-rto_s": "90"}, "restore-rto_s"),
        ({"restore-rto_s": "0 h"}, "restore-rto_s"),
        ({"restore-rto_s": "-4 h"}, "restore-rto_s"),
        ({"restore-rpo_s": "4 weeks"}, "restore-rpo_s"),
        ({"restore-rpo_s": "999999999 d"}, "restore-rpo_s"),
        ({"restore-proof_every_s": ""}, "restore-proof_every_s"),
    ],
)
def test_a_wrong_span_is_told_beside_its_field_and_loses_nothing(changes: dict[str, str], field: str) -> None:
    assert refused(agreed(), field, **changes)


SETS: list[dict[str, Any]] = [
    {},
    {"sites": []},
    {key: ["One", "two words", "One"] for key in KEYS if key != "work"},
    {"assets": ["srv-1, old", " srv-2 ", "a\nb"], "services": ["backup"]},
    *({"work": list(work)} for work in (["remote"], ["onsite", "remote"], ["remote", "remote"], [])),
]


@pytest.mark.parametrize("listed", SETS)
def test_every_list_of_what_a_line_covers_comes_back_as_it_was_written(listed: dict[str, Any]) -> None:
    assert stays(agreed({"covers": listed}))
    document = agreed({"covers": listed, "excludes": listed})
    assert stays(document)
    more = typed(document, **{"line-0-covers-roles": "engineer, lead", "line-0-excludes-work": "onsite"})
    assert not more.problems
    assert more.document["lines"][0]["covers"] == {**listed, "roles": ["engineer", "lead"]}
    assert more.document["lines"][0]["excludes"] == {**listed, "work": ["onsite"]}


def test_what_a_line_covers_is_taken_out_by_emptying_it() -> None:
    draft = typed(agreed({"covers": {"sites": ["Berlin"], "work": ["remote"]}}), **{"line-0-covers-sites": " , "})
    assert draft.document["lines"][0]["covers"] == {"work": ["remote"]}
    gone = typed(draft.document, **{"line-0-covers-work": ""})
    assert "covers" not in gone.document["lines"][0]


def test_work_that_nobody_does_is_told_beside_its_field_and_loses_nothing() -> None:
    document = agreed({"covers": {"sites": ["Berlin"]}, "excludes": {"work": ["onsite"]}})
    assert refused(document, "line-0-covers-work", **{"line-0-covers-work": "lazy"})
    assert refused(document, "line-0-excludes-work", **{"line-0-excludes-work": "onsite lazy"})


BOXES: list[dict[str, Any]] = [
    {},
    {"L1": {}},
    {"L1": {"minutes": 15}, "L2": {"minutes": 7.5, "calendar": "office"}, "second line": {"minutes": 240}},
    {"L1": {"calendar": "office", "agreed with": "the vendor"}, " L2": {"minutes": 1}},
]


@pytest.mark.parametrize("boxes", BOXES)
def test_every_time_box_comes_back_as_it_was_written(boxes: dict[str, Any]) -> None:
    document = agreed({"ola": boxes})
    assert stays(document)
    row = f"line-0-ola-{len(boxes)}"
    more = typed(document, **{f"{row}-line": "L9", f"{row}-minutes": "1:30", f"{row}-calendar": "office"})
    assert not more.problems
    assert more.document["lines"][0]["ola"] == {**boxes, "L9": {"minutes": 90, "calendar": "office"}}


def test_a_time_box_is_renamed_with_all_it_says_and_taken_out_by_emptying_its_name() -> None:
    document = agreed({"ola": {"L1": {"minutes": 7.5, "note": "as before"}, "L2": {"minutes": 60}}})
    renamed = typed(document, **{"line-0-ola-0-line": "L0", "line-0-ola-1-line": "", "line-0-ola-1-minutes": ""})
    assert not renamed.problems
    assert renamed.document["lines"][0]["ola"] == {"L0": {"minutes": 7.5, "note": "as before"}}
    gone = typed(renamed.document, **{"line-0-ola-0-line": "", "line-0-ola-0-minutes": ""})
    assert "ola" not in gone.document["lines"][0]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"line-0-ola-0-minutes": "some"}, "line-0-ola-0-minutes"),
        ({"line-0-ola-0-minutes": "0"}, "line-0-ola-0-minutes"),
        ({"line-0-ola-1-minutes": ""}, "line-0-ola-1-minutes"),
        ({"line-0-ola-0-calendar": "never"}, "line-0-ola-0-calendar"),
        ({"line-0-ola-1-line": "L1"}, "line-0-ola-1-line"),
        ({"line-0-ola-2-line": "", "line-0-ola-2-minutes": "5"}, "line-0-ola-2-line"),
        ({"line-0-ola-1-line": ""}, "line-0-ola-1-line"),
        ({f"line-0-{priority}-drop": "1" for priority in ("P1", "P2", "P3")}, "line-0-new"),
    ],
)
def test_a_wrong_time_box_is_told_beside_its_field_and_loses_nothing(changes: dict[str, str], field: str) -> None:
    assert refused(agreed({"ola": {"L1": {"minutes": 15}, "L2": {"minutes": 60}}}), field, **changes)


STEPS: list[list[dict[str, Any]]] = [
    [],
    [{"below": 95, "credit_percent": 5}],
    [{"below": "90.0", "credit_percent": 10.5}, {"below": 99.9, "credit_percent": "5"}],
]


@pytest.mark.parametrize("steps", STEPS)
def test_every_step_of_service_credits_comes_back_as_it_was_written(steps: list[dict[str, Any]]) -> None:
    document = agreed({"service_credits": steps})
    assert stays(document)
    row = f"line-0-credit-{len(steps)}"
    more = typed(document, **{f"{row}-below": "80,5 %", f"{row}-credit_percent": "25"})
    assert not more.problems
    assert more.document["lines"][0]["service_credits"] == [*steps, {"below": "80.5", "credit_percent": "25"}]


def test_a_step_of_service_credits_is_taken_out_by_emptying_its_row() -> None:
    document = agreed({"service_credits": STEPS[2]})
    fewer = typed(document, **{"line-0-credit-0-below": "", "line-0-credit-0-credit_percent": ""})
    assert fewer.document["lines"][0]["service_credits"] == STEPS[2][1:]
    none = typed(fewer.document, **{"line-0-credit-0-below": "", "line-0-credit-0-credit_percent": ""})
    assert not none.problems
    assert "service_credits" not in none.document["lines"][0]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"line-0-credit-0-below": "most"}, "line-0-credit-0-below"),
        ({"line-0-credit-1-credit_percent": "some"}, "line-0-credit-1-credit_percent"),
        ({"line-0-credit-1-credit_percent": ""}, "line-0-credit-1-credit_percent"),
        ({"line-0-credit-1-credit_percent": "101"}, "line-0-credit-0-below"),
        ({"line-0-credit-1-credit_percent": "2"}, "line-0-credit-0-below"),
        ({"line-0-credit-1-below": "95"}, "line-0-credit-0-below"),
        ({"line-0-credit-2-below": "", "line-0-credit-2-credit_percent": "20"}, "line-0-credit-2-below"),
    ],
)
def test_a_wrong_step_of_credits_is_told_and_loses_nothing(changes: dict[str, str], field: str) -> None:
    steps = [{"below": 95, "credit_percent": 5}, {"below": 90, "credit_percent": 10}]
    assert refused(agreed({"service_credits": steps}), field, **changes)


VISITS: list[dict[str, Any]] = [
    {"calendar": "office", "travel_min": 0, "repair_min": 0},
    {"calendar": "office", "travel_min": 45, "repair_min": 60},
    {"calendar": "office", "travel_min": 30.5, "repair_min": 7.5, "agreed with": "the vendor"},
]


@pytest.mark.parametrize("visit", VISITS)
def test_what_a_visit_takes_comes_back_as_it_was_written(visit: dict[str, Any]) -> None:
    document = agreed({"latest_dispatch": visit})
    assert stays(document)
    longer = typed(document, **{"line-0-dispatch-travel_min": "1:30"})
    assert longer.document["lines"][0]["latest_dispatch"] == {**visit, "travel_min": 90}
    gone = typed(document, **{f"line-0-dispatch-{key}": "" for key in ("calendar", "travel_min", "repair_min")})
    assert not gone.problems
    assert "latest_dispatch" not in gone.document["lines"][0]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"line-0-dispatch-travel_min": "far"}, "line-0-dispatch-travel_min"),
        ({"line-0-dispatch-repair_min": "-5"}, "line-0-dispatch-repair_min"),
        ({"line-0-dispatch-travel_min": ""}, "line-0-dispatch-travel_min"),
        ({"line-0-dispatch-calendar": ""}, "line-0-dispatch-calendar"),
        ({"line-0-dispatch-calendar": "never"}, "line-0-dispatch-calendar"),
    ],
)
def test_a_wrong_visit_is_told_beside_its_field_and_loses_nothing(changes: dict[str, str], field: str) -> None:
    assert refused(agreed({"latest_dispatch": VISITS[1]}), field, **changes)


def test_a_browser_that_sends_the_page_back_as_it_is_changes_nothing(
    log_in: Callable[[str], Browser], ids: Ids, app: Flask
) -> None:
    vat = {"mode": "exclusive_per_rate", "rates": [{"from": "20260101", "rate": 0.19}, {"from": "2027-01-01"}]}
    vat["rates"][1]["rate"] = None
    listed = {"assets": ["srv-1, old"], "sites": ["Berlin"], "work": ["onsite", "remote"]}
    line = {"vat": vat, "covers": listed, "excludes": {"assets": [" srv-2"]}, "ola": BOXES[2]}
    line |= {"service_credits": STEPS[2], "latest_dispatch": VISITS[2]}
    document = agreed(line, vat=vat)
    document["clauses"][0]["assets"] = ["srv-1, old"]
    browser, path = log_in("manager@provider.example"), f"/contracts/{ids['alfa']['contract_id']}/edit"
    page = browser.send(path, draft=terms_form.opened(document).kept, **terms_form.values_of(document), do="preview")
    assert page.status_code == 200
    fields = fields_on(page.text)
    assert "line-0-covers-sites" in fields
    assert "line-0-covers-assets" not in fields, "names that a field cannot say are shown, not typed"
    assert "clause-0-assets" not in fields
    assert "<li>srv-1, old</li>" in page.text
    with app.test_request_context("/"):
        draft = terms_form.of_fields(
            {name: found if isinstance(found, list) else [found] for name, found in fields.items()}, document
        )
    assert not draft.problems
    assert draft.document == document


def test_a_changed_field_is_a_difference_to_sign_and_a_wrong_one_is_told_on_the_page(
    log_in: Callable[[str], Browser], ids: Ids
) -> None:
    browser, path = log_in("manager@provider.example"), f"/contracts/{ids['alfa']['contract_id']}/edit"
    fields = fields_on(browser.get(path).text)
    changes = {"vat-mode": "inclusive", "vat-0-from": "2026-01-01", "vat-0-rate": "19", "restore-rpo_s": "1 d"}
    changes |= {"line-0-ola-0-line": "L1", "line-0-covers-sites": "Berlin", "line-0-dispatch-calendar": "office"}
    changes |= {"line-0-dispatch-travel_min": "45", "line-0-dispatch-repair_min": "1:00"}
    changes |= {"line-0-credit-0-below": "95", "line-0-credit-0-credit_percent": "5"}
    page = browser.send(path, **{**fields, **changes}, do="preview").text
    for place in ("vat", "restore.rpo_s", *(f"lines[L1].{key}" for key in ("ola", "covers", "latest_dispatch"))):
        assert f'<td class="mono">{place}</td>' in page, place
    assert 'value="sign"' in page
    wrong = {"vat-0-rate": "a lot", "restore-rto_s": "soon", "line-0-ola-0-minutes": "some"}
    page = browser.send(path, **{**fields, **changes, **wrong}, do="preview").text
    for name, text in wrong.items():
        assert f'id="e-{name}"' in page, name
        assert f'value="{text}"' in page, name
    assert 'value="sign"' not in page
