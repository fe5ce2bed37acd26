"""`msp billing eval`: every group of the batch format, by its fields, through the command."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from msp.console import main
from msp.contracts import billing_cases

RATE = {"increment": 15, "minimum": 30, "rate": "90.00", "currency": "EUR"}

CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("rounding", {"minutes": 7, **RATE}, {"billed_minutes": 30, "amount": "45.00"}),
    ("rounding", {"minutes": 0, **RATE}, {"billed_minutes": 0, "amount": "0.00"}),
    ("rounding", {"minutes": 7, **RATE, "currency": "JPY", "rate": 101}, {"billed_minutes": 30, "amount": "51"}),
    ("rounding", {"minutes": 7, **RATE, "currency": "KWD", "rate": 1.5}, {"billed_minutes": 30, "amount": "0.750"}),
    (
        "after_hours",
        {
            "segments": [{"minutes": 20, "multiplier": 1}, {"minutes": 10, "multiplier": "1.5"}],
            "increment": 15,
            "rate": "90",
            "currency": "EUR",
        },
        {"lines": ["45.00", "33.75"], "total": "78.75"},
    ),
    (
        "block_hours",
        {
            "balance_minutes": 100,
            "entries_minutes": [50, 40, 20],
            "increment": 30,
            "overage_rate": "60",
            "currency": "EUR",
        },
        {"balance_after": 0, "from_block_total": 100, "overage_total": "50.00"},
    ),
    (
        "block_hours",
        {
            "balance_minutes": 120,
            "entries_minutes": [15] * 16,
            "increment": 15,
            "overage_rate": "90",
            "currency": "EUR",
            "concurrent": True,
        },
        {"balance_after": 0, "from_block_total": 120, "overage_total": "180.00"},
    ),
    (
        "rollover",
        {"monthly_minutes": 300, "used_minutes": 200, "rollover_cap_minutes": 60, "rollover_months": 1},
        {"next_month_minutes": 360, "expired_minutes": 40},
    ),
    (
        "rollover",
        {
            "monthly_minutes": 300,
            "carried_minutes": 60,
            "used_minutes": 20,
            "rollover_cap_minutes": 60,
            "rollover_months": 1,
        },
        {"next_month_minutes": 360, "expired_minutes": 280},
    ),
    (
        "proration",
        {"monthly_fee": "1000", "currency": "EUR", "year": 2026, "month": 2, "first_day": 10, "last_day": 28},
        {"amount": "678.57"},
    ),
    (
        "per_device",
        {
            "price_per_device": "7.99",
            "currency": "EUR",
            "year": 2026,
            "month": 3,
            "devices_full_month": 10,
            "devices_added": [{"count": 2, "from_day": 16}],
        },
        {"lines": ["79.90", "8.25"], "total": "88.15"},
    ),
    (
        "vat",
        {"mode": "exclusive_on_total", "lines_net": ["0.05", "0.05", "0.05"], "vat_rate": "0.2"},
        {"net": "0.15", "vat": "0.03", "gross": "0.18"},
    ),
    (
        "vat",
        {"mode": "exclusive_per_line", "lines_net": ["0.13", "0.13", "0.13"], "vat_rate": 20},
        {"net": "0.39", "vat": "0.09", "gross": "0.48"},
    ),
    (
        "vat",
        {"mode": "inclusive", "gross": "100.00", "vat_rate": "20"},
        {"net": "83.33", "vat": "16.67", "gross": "100.00"},
    ),
    (
        "vat",
        {"mode": "inclusive", "gross": "100", "vat_rate": "0.1", "currency": "JPY"},
        {"net": "91", "vat": "9", "gross": "100"},
    ),
    (
        "vat",
        {
            "mode": "exclusive_per_rate",
            "lines": [
                {"net": "100", "vat_rate": "20"},
                {"net": "50", "vat_rate": "0"},
                {"net": "10", "vat_rate": None},
            ],
        },
        {"net": "160.00", "vat": "20.00", "gross": "180.00", "vat_by_rate": {"20": "20.00", "0": "0.00"}},
    ),
    (
        "call_out",
        {
            "call_out_fee": "50",
            "minutes": 61,
            **RATE,
            "materials": [{"qty": 2, "price": "3.335"}],
            "vat_rate": "19",
        },
        {"lines": ["50.00", "112.50", "6.67"], "net": "169.17", "vat": "32.14", "gross": "201.31"},
    ),
    (
        "currency",
        {"values": ["2.5", "-2.5", 0.4, "-0.4", 1e2], "currency": "JPY"},
        {"rounded": ["3", "-3", "0", "0", "100"]},
    ),
    ("currency", {"values": ["1.0005", 2.675], "currency": "KWD"}, {"rounded": ["1.001", "2.675"]}),
    (
        "contract_change",
        {
            "entries": [{"date": "2026-01-31", "minutes": 50}, {"date": "2026-02-01", "minutes": 50}],
            "versions": [{"from_": "2026-01-01", "rate": "60"}, {"from_": "2026-02-01", "rate": "90"}],
            "increment": 15,
            "currency": "EUR",
        },
        {"lines": ["60.00", "90.00"], "total": "150.00"},
    ),
    (
        "act",
        {
            "entries": [
                {"id": 1, "amount": "10.00", "act": None},
                {"id": 2, "amount": "5.50", "act": "A-1"},
                {"id": 3, "amount": "7.00", "act": None, "billable": False},
                {"id": "e4", "amount": "0.10", "act": None},
            ],
            "period": "2026-03",
        },
        {"new_act_entries": [1, "e4"], "new_act_total": "10.10", "second_run_new_act": None},
    ),
    (
        "act",
        {"entries": [{"id": 1, "amount": "10.00", "act": "A-1"}], "period": "2026-03"},
        {"new_act_entries": [], "new_act_total": "0.00", "second_run_new_act": None},
    ),
]

BAD: list[tuple[Any, str]] = [
    ({"id": "b", "group": "nope", "input": {}}, "group must be one of"),
    ({"id": "b", "group": "rounding"}, "input is missing"),
    ({"id": "b", "group": "rounding", "input": []}, "The input must be an object"),
    ({"id": "b", "group": "rounding", "input": {**RATE}}, "minutes is missing"),
    ({"id": "b", "group": "rounding", "input": {"minutes": "x", **RATE}}, "minutes must be a decimal number"),
    ({"id": "b", "group": "rounding", "input": {"minutes": -1, **RATE}}, "minutes must be between 0"),
    ({"id": "b", "group": "rounding", "input": {"minutes": True, **RATE}}, "minutes must be a decimal number"),
    ({"id": "b", "group": "rounding", "input": {"minutes": 5, **RATE, "increment": 0}}, "increment must be between 1"),
    ({"id": "b", "group": "rounding", "input": {"minutes": 5, **RATE, "currency": "XAU"}}, "ISO 4217"),
    ({"id": "b", "group": "rounding", "input": {"minutes": 5, **RATE, "rate": "1e9999"}}, "rate must be a decimal"),
    ({"id": "b", "group": "rounding", "input": {"minutes": 5, **RATE, "rate": "9" * 24}}, None),
    ({"id": "b", "group": "vat", "input": {"mode": "exclusive_on_total", "lines_net": ["1"]}}, "vat_rate is missing"),
    ({"id": "b", "group": "vat", "input": {"mode": "inclusive", "gross": "1", "vat_rate": "-5"}}, "VAT rate from 0"),
    (
        {
            "id": "b",
            "group": "contract_change",
            "input": {
                "entries": [{"date": "2025-01-01", "minutes": 5}],
                "versions": [{"from_": "2026-01-01", "rate": "1"}],
                "increment": 1,
                "currency": "EUR",
            },
        },
        "No version of the contract is in force on 2025-01-01",
    ),
    (
        {
            "id": "b",
            "group": "proration",
            "input": {"monthly_fee": "1", "currency": "EUR", "year": 2026, "month": 2, "first_day": 1, "last_day": 29},
        },
        "which has 28 days",
    ),
]


def evaluate(tmp_path: Path, document: Any) -> list[dict[str, Any]]:
    cases, results = tmp_path / "cases.json", tmp_path / "results.json"
    cases.write_text(json.dumps(document), encoding="utf-8")
    outcome = CliRunner().invoke(main, ["billing", "eval", str(cases), "-o", str(results)])
    assert outcome.exit_code == 0, outcome.output
    found: list[dict[str, Any]] = json.loads(results.read_text(encoding="utf-8"))["results"]
    return found


def test_every_group_gives_what_its_rule_says_in_the_order_of_the_cases(tmp_path: Path) -> None:
    document = [{"id": number, "group": group, "input": given} for number, (group, given, _) in enumerate(CASES)]
    found = evaluate(tmp_path, {"cases": document})
    assert found == [{"id": number, **expected} for number, (_, _, expected) in enumerate(CASES)]


def test_bad_case_gives_its_error_and_does_not_stop_the_rest(tmp_path: Path) -> None:
    cases = [case for case, _ in BAD]
    good = {"id": "last", "group": "currency", "input": {"values": [1], "currency": "EUR"}}
    found = evaluate(tmp_path, {"cases": [*cases, 5, None, good]})
    for result, (case, message) in zip(found, BAD, strict=False):
        if message is not None:
            assert set(result) == {"id", "error"}, case
            assert message in result["error"]
            assert result["id"] == "b"
    assert [set(result) for result in found[len(BAD) : -1]] == [{"id", "error"}] * 2
    assert found[-1] == {"id": "last", "rounded": ["1.00"]}


@pytest.mark.parametrize("text", ["", "[", "[1]", '{"cases": 5}', '{"cases": [NaN]}', "{}"])
def test_file_that_holds_no_cases_is_explained_without_a_traceback(tmp_path: Path, text: str) -> None:
    (tmp_path / "cases.json").write_text(text, encoding="utf-8")
    outcome = CliRunner().invoke(main, ["billing", "eval", str(tmp_path / "cases.json")])
    assert outcome.exit_code == 2
    assert "msp: " in outcome.stderr
    assert "Traceback" not in outcome.output


def test_results_that_cannot_be_written_are_explained(tmp_path: Path) -> None:
    (tmp_path / "cases.json").write_text('{"cases": []}', encoding="utf-8")
    outcome = CliRunner().invoke(
        main, ["billing", "eval", str(tmp_path / "cases.json"), "-o", str(tmp_path / "no" / "r")]
    )
    assert (outcome.exit_code, "cannot be written" in outcome.stderr) == (2, True)


def test_case_id_of_any_json_text_comes_back_as_it_was(tmp_path: Path) -> None:
    found = evaluate(tmp_path, {"cases": [{"id": "\ud800 дело ✓", "group": "currency", "input": {}}]})
    assert found[0]["id"] == "\ud800 дело ✓"


def test_rules_are_evaluated_without_loading_the_database_library() -> None:
    rooms = "msp.contracts.billing_cases, msp.contracts.terms, msp.contracts.quote"
    script = f"import sys, {rooms}; print('sqlalchemy' in sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "False"


@pytest.mark.parametrize("number", range(len(CASES)))
def test_junk_in_any_field_gives_an_error_or_a_result_and_never_a_traceback(number: int) -> None:
    group, given, expected = CASES[number]
    junk: list[Any] = [
        None,
        True,
        -1,
        0,
        10**30,
        1e300,
        5e-324,
        "",
        "x",
        "NaN",
        "1e5",
        [],
        [None],
        [[]],
        {},
        "\ud800",
        [{}],
    ]
    for key in given:
        for value in junk:
            case = {"id": 1, "group": group, "input": given | {key: value}}
            (result,) = billing_cases.evaluate({"cases": [case]})["results"]
            assert set(result) <= {"id", "error"} or set(result) <= {"id", "vat_by_rate", *expected}
