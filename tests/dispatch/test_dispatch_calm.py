"""A calmed plan still holds, costs no more, and leaves at least as many hours as they were."""

from typing import Any

import pytest
from dispatch_problems import problem

from msp.dispatch.calm import calmed
from msp.dispatch.checker import check
from msp.dispatch.solve import solve

Json = dict[str, Any]


def board_like(seed: int) -> Json:
    """A problem as the board poses it: one technician a visit, no breaks, no pins, nothing before anything else."""
    raw = problem(seed * 3, visits=18, technicians=4)
    for one in raw["technicians"]:
        for shift in one["shifts"]:
            shift["break"] = None
    for job in raw["visits"]:
        job.update(crew=1, after=[], pin=None)
    raw["incumbent"] = None
    return raw


def starts(plan: Json) -> dict[str, tuple[str, int]]:
    return {
        stop["visit"]: (route["tech"], stop["start"])
        for route in plan["routes"]
        for stop in route["stops"]
        if stop["kind"] == "visit"
    }


@pytest.mark.parametrize("seed", range(1, 9))
def test_calm_holds_costs_no_more_and_keeps_hours(seed: int) -> None:
    raw = board_like(seed)
    raw["incumbent"] = before = solve(raw, iterations=30, seed=seed, accelerator="none").plan
    for route in before["routes"]:  # somebody waits before each visit where the route has room: hours people chose
        shift = next(one for one in raw["technicians"] if one["id"] == route["tech"])["shifts"][route["shift"]]
        slack = max(0, min(7, shift["end"] - route["finish"]))
        late = {**route, "stops": [{**stop, "start": stop["start"] + slack} for stop in route["stops"]]}
        late.update(depart=route["depart"] + slack, finish=route["finish"] + slack)
        changed = {**before, "routes": [late if one is route else one for one in before["routes"]]}
        if check(raw, changed).feasible:
            before = changed
    raw["incumbent"] = before
    plan = solve(raw, iterations=150, seed=seed + 1, accelerator="none").plan
    found = calmed(raw, plan)
    old, new = check(raw, plan), check(raw, found)
    assert new.feasible, new.violations
    assert (new.tier1, new.tier2) <= (old.tier1, old.tier2)
    kept = [sum(starts(one).get(name) == at for name, at in starts(before).items()) for one in (plan, found)]
    assert kept[1] >= kept[0]


def test_an_hour_that_somebody_chose_stays_though_the_technician_could_come_earlier() -> None:
    raw: Json = {
        "format": "dispatch-problem/1", "name": "calm", "now": 0, "days": 1,
        "travel": {"kind": "matrix", "minutes": [[0, 20], [20, 0]]}, "locations": [{"id": "home"}, {"id": "site"}],
        "technicians": [{"id": "T", "skills": {}, "stock": {}, "max_travel": None, "shifts": [
            {"start": 480, "end": 1020, "overtime": 0, "from": "home", "to": "home", "break": None}]}],
        "depots": [], "weights": {},
        "visits": [
            {"id": name, "location": "site", "duration": 60, "windows": [[480, 1000]], "drop": 1000, "sla": None,
             "promised": None} for name in ("chosen", "new")
        ],
        "incumbent": {"format": "dispatch-plan/1", "renegotiate": [], "unassigned": [{"visit": "new", "reason": ""}],
                      "routes": [{"tech": "T", "shift": 0, "depart": 820, "finish": 920,
                                  "stops": [{"kind": "visit", "visit": "chosen", "start": 840}]}]},
    }  # fmt: skip
    plan = solve(raw, iterations=50, accelerator="none").plan
    assert starts(calmed(raw, plan))["chosen"] == ("T", 840)
