from typing import Any

import pytest
from dispatch_problems import problem

from msp.dispatch.checker import check
from msp.dispatch.explain import explain
from msp.dispatch.slots import offer
from msp.dispatch.solve import solve


def crews_and_starts(plan: dict[str, Any]) -> tuple[dict[str, list[str]], dict[str, int]]:
    crews: dict[str, list[str]] = {}
    starts: dict[str, int] = {}
    for route in plan["routes"]:
        for stop in route["stops"]:
            if stop["kind"] == "visit":
                crews.setdefault(stop["visit"], []).append(route["tech"])
                starts[stop["visit"]] = stop["start"]
    return {name: sorted(who) for name, who in crews.items()}, starts


@pytest.mark.parametrize("seed", range(20))
def test_slots_are_feasible_move_no_promise_and_change_no_technician(seed: int) -> None:
    raw = problem(seed, visits=20, technicians=4)
    plan = solve(raw, iterations=40).plan
    new = {**raw["visits"][seed % 20], "id": "new", "windows": [[480, 900], [1920, 2400]], "pin": None}
    new.update({"promised": None, "after": [], "crew": 1 + (seed % 7 == 0), "drop": 5000})
    found = offer(raw, plan, new)["slots"]
    deltas = [(slot["delta"]["tier1"], slot["delta"]["tier2"]) for slot in found]
    assert deltas == sorted(deltas)
    assert len({tuple(slot["window"]) for slot in found}) == len(found)
    before, old = crews_and_starts(plan)
    base = check(raw, plan)
    for slot in found:
        after = check({**raw, "visits": [*raw["visits"], new]}, slot["plan"])
        assert after.violations == []
        assert (after.tier1 - base.tier1, after.tier2 - base.tier2) == (slot["delta"]["tier1"], slot["delta"]["tier2"])
        crews, starts = crews_and_starts(slot["plan"])
        assert slot["window"][0] <= starts["new"] <= slot["window"][1]
        assert {name: crews[name] for name in before} == before
        promised = [visit["id"] for visit in raw["visits"] if visit["promised"] and visit["id"] in old]
        assert {name: starts[name] for name in promised} == {name: old[name] for name in promised}


@pytest.mark.parametrize("seed", range(6))
def test_every_visit_is_explained_in_sentences(seed: int) -> None:
    raw = problem(seed, visits=15, technicians=4)
    plan = solve(raw, iterations=40).plan
    for visit in raw["visits"]:
        told = explain(raw, plan, visit["id"])
        assert told["sentences"]
        assert all(sentence.endswith(".") for sentence in told["sentences"])
