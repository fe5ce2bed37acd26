"""Terms documents: what is read, what is refused, and how two versions differ."""

import copy
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from msp.console import main
from msp.contracts import terms
from msp.errors import Misconfigured

OFFICE = {"tz": "Europe/Berlin", "week": {day: [["08:00", "17:00"]] for day in ("mon", "tue", "wed", "thu", "fri")}}
SIGNED: dict[str, Any] = {
    "currency": "EUR",
    "calendars": {"office": OFFICE},
    "freezes": [{"name": "Year end", "from": "2026-12-20", "to": "2027-01-06"}],
    "lines": [
        {
            "id": "L1",
            "kind": "block_hours",
            "name": "Support hours",
            "calendar": "office",
            "targets": {"P1": {"first_response": 15, "next_reply": 60, "resolution": 240}},
            "pause_states": ["waiting_client"],
            "ola": {"L1": {"minutes": 15}, "L2": {"minutes": 120, "calendar": "office"}},
            "onsite_minutes": 240,
            "latest_dispatch": {"calendar": "office", "travel_min": 45, "repair_min": 60},
            "increment": 15,
            "minimum": 15,
            "overage_rate": "120.00",
            "rollover_cap_minutes": 60,
            "rollover_months": 1,
            "vat": {"mode": "exclusive_on_total", "rates": [{"from": "2026-01-01", "rate": "19"}]},
            "covers": {"sites": ["Head office"], "asset_classes": ["server"]},
            "excludes": {"assets": ["srv-old"]},
        },
        {
            "id": "L2",
            "kind": "t_and_m",
            "name": "Everything else",
            "rate": 95,
            "tariffs": [{"name": "night", "multiplier": "1.5", "windows": [{"from": "18:00", "to": "08:00"}]}],
            "covers": {"services": ["projects"]},
        },
    ],
    "clauses": [
        {"id": "4.1", "text": "Looking is always allowed.", "action_classes": ["read"], "effect": "allow"},
        {
            "id": "4.2",
            "text": "Disruptive work on Saturday night.",
            "action_classes": ["disruptive"],
            "effect": "allow",
            "windows": [{"days": ["sat"], "from": "22:00", "to": "04:00"}],
            "freezes": ["Year end"],
        },
    ],
    "restore": {"proof_every_s": 2_592_000, "rpo_s": 86_400, "rto_s": 14_400},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the signed terms with one place changed; "lines.0.rate" walks into lists by number."""
    document = copy.deepcopy(SIGNED)
    *parents, last = path.split(".")
    place: Any = document
    for step in parents:
        place = place[int(step)] if step.isdigit() else place[step]
    place[int(last) if last.isdigit() else last] = value
    return document


def test_signed_terms_are_read_whole() -> None:
    found = terms.parse(SIGNED)
    block, rest = found.lines
    assert (block.kind, block.increment, block.overage_rate().per_hour) == ("block_hours", 15, Decimal("120.00"))  # type: ignore[union-attr]
    assert block.targets["P1"]["resolution"] == 240
    assert rest.prices == {"rate": Decimal(95)}
    assert found.clauses[1].freezes == found.freezes
    assert found.restore == terms.Restore(2_592_000, 86_400, 14_400)
    assert terms.problems(SIGNED) == []


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("note", "x", "the key 'note' is unknown"),
        ("currency", "XAU", "'XAU' is not an ISO 4217 currency"),
        ("currency", None, "currency is missing"),
        ("lines", [], "lines is empty"),
        ("lines", "x", "lines must be a list, not a text"),
        ("lines.0.kind", "hours", "lines 1: kind must be one of call_out"),
        ("lines.0.price", 5, "lines 1: the key 'price' is unknown"),
        ("lines.1.rate", None, "lines 2: rate is missing; a line of kind t_and_m is billed by it"),
        ("lines.1.rate", "-5", "lines 2: rate must not be below 0"),
        ("lines.1.id", "L1", "The line 'L1' comes twice"),
        ("lines.0.currency", "USD", "lines 1: currency is USD, and the contract's is EUR"),
        ("lines.0.calendar", "shop", "lines 1: calendar names 'shop'"),
        ("lines.0.calendar", None, "lines 1: calendar is missing"),
        ("lines.0.ola.L2.calendar", "shop", "'shop', which is not among the contract's calendars"),
        ("lines.0.increment", 0, "lines 1: increment must be between 1"),
        ("lines.0.targets.P1.resolution", -1, "resolution"),
        ("lines.0.vat.rates", [], "lines 1: vat: rates is empty"),
        ("lines.0.vat.mode", "none", "lines 1: vat: mode must be one of"),
        ("lines.0.covers.work", ["phone"], "lines 1: covers: work has 'phone'"),
        ("lines.1.tariffs.0.windows", [], "the tariff never holds"),
        ("clauses.1.id", "4.1", "The clause '4.1' comes twice"),
        ("clauses.1.freezes", ["Easter"], "clauses 2: freezes names 'Easter'"),
        ("clauses.0.effect", "yes", "clauses 1: effect must be one of"),
        ("freezes.0.to", "2026-12-01", "ends on 2026-12-01, before it begins on 2026-12-20"),
        ("calendars.office.week", {}, "calendars: office"),
        ("calendars.office.tz", "Mars", "calendars: office"),
        ("calendars", [], "calendars must be an object"),
        ("restore.proof_every_s", 0, "restore: proof_every_s must be between 1"),
        ("zone", "Mars", "zone must be a time zone"),
    ],
)
def test_terms_that_cannot_be_signed_name_the_field(path: str, value: Any, sentence: str) -> None:
    found = terms.problems(changed(path, value))
    assert any(sentence in problem for problem in found), found
    with pytest.raises(Misconfigured):
        terms.parse(changed(path, value))


def test_every_part_with_a_problem_is_named_at_once() -> None:
    document = changed("lines.0.kind", "x")
    document["clauses"][0]["effect"] = "y"
    document["calendars"]["office"]["tz"] = "z"
    assert len(terms.problems(document)) >= 3


@pytest.mark.parametrize("document", [None, [], "terms", 5, {}, {"lines": None}])
def test_what_is_no_terms_document_is_explained(document: Any) -> None:
    assert terms.problems(document)


def test_digest_does_not_depend_on_key_order_and_changes_with_every_value() -> None:
    shuffled = json.loads(json.dumps(SIGNED, sort_keys=True))
    assert terms.digest(shuffled) == terms.digest(SIGNED)
    assert terms.digest(changed("lines.0.minimum", 16)) != terms.digest(SIGNED)


def test_two_versions_differ_where_they_differ() -> None:
    new = changed("lines.1.rate", 105)
    new["clauses"].append({"id": "4.3", "text": "Ask for the rest.", "effect": "ask"})
    del new["restore"]["rto_s"]
    found = [(one.path, one.old, one.new) for one in terms.differences(SIGNED, new)]
    assert found == [
        ("lines[L2].rate", 95, 105),
        ("clauses[4.3]", None, {"id": "4.3", "text": "Ask for the rest.", "effect": "ask"}),
        ("restore.rto_s", 14_400, None),
    ]
    assert terms.differences(SIGNED, copy.deepcopy(SIGNED)) == ()


def test_changed_order_of_clauses_is_a_difference_because_the_first_match_decides() -> None:
    new = changed("clauses", list(reversed(SIGNED["clauses"])))
    assert [one.path for one in terms.differences(SIGNED, new)] == ["clauses order"]


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        ({"site": "Head office", "asset": "srv-fs1", "asset_class": "server"}, "L1"),
        ({"site": "Head office", "asset": "srv-old", "asset_class": "server"}, "L2"),  # the deny-list is explicit
        ({"site": "Warehouse"}, "L2"),  # finally to time and materials
        ({"service": "projects", "site": "Warehouse"}, "L2"),
        ({}, "L1"),
    ],
)
def test_work_goes_to_the_first_line_that_covers_it(facts: dict[str, str], line: str) -> None:
    found = terms.line_for(terms.parse(SIGNED), **facts)
    assert found is not None
    assert found.id == line


def test_contract_check_prints_each_problem_and_ends_with_status_1(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(SIGNED), encoding="utf-8")
    bad.write_text(json.dumps(changed("currency", "XAU")), encoding="utf-8")
    outcome = CliRunner().invoke(main, ["contract", "check", str(good)])
    assert (outcome.exit_code, "2 lines, 2 clauses" in outcome.output) == (0, True)
    assert CliRunner().invoke(main, ["contract", "check", str(bad)]).exit_code == 1
    listed = CliRunner().invoke(main, ["contract", "check", str(bad), "--json"])
    assert not json.loads(listed.output)["ok"]
