import copy
from collections.abc import Callable
from typing import Any

import pytest
from dispatch_problems import Json

from msp.dispatch.checker import check

# One technician of two has a hand-made day, so that every kind of damage can be done on purpose.
PROBLEM: Json = {
    "format": "dispatch-problem/1",
    "name": "by hand",
    "now": 0,
    "days": 1,
    "locations": [{"id": place, "x": x, "y": 0} for place, x in (("H", 0), ("A", 10), ("B", 20), ("D", 5), ("C", 10))],
    "travel": {"kind": "euclid", "detour": 1.0, "km_per_min": 1.0},
    "technicians": [
        {
            "id": "T1",
            "skills": {"x": 2},
            "stock": {"p": 1},
            "max_travel": 60,
            "shifts": [
                {
                    "start": 480,
                    "end": 900,
                    "overtime": 60,
                    "from": "H",
                    "to": "H",
                    "break": {"duration": 30, "earliest": 600, "latest": 720},
                }
            ],
        },
        {
            "id": "T2",
            "skills": {},
            "stock": {},
            "max_travel": None,
            "shifts": [{"start": 480, "end": 900, "overtime": 0, "from": "H", "to": "H", "break": None}],
        },
    ],
    "depots": [{"id": "S", "location": "D", "service": 5, "stock": {"p": 1}}],
    "visits": [
        {
            "id": "a",
            "location": "A",
            "duration": 30,
            "windows": [[500, 560]],
            "skills": {"x": 2},
            "parts": {"p": 2},
            "crew": 1,
            "only": ["T1"],
            "never": [],
            "after": [],
            "sla": None,
            "drop": 500,
            "pin": None,
            "promised": [500, 540],
        },
        {
            "id": "b",
            "location": "B",
            "duration": 30,
            "windows": [[540, 760]],
            "skills": {"x": 1},
            "parts": {},
            "crew": 2,
            "only": None,
            "never": [],
            "after": ["a"],
            "sla": {"deadline": 560, "per_min": 2, "fixed": 10},
            "drop": 500,
            "pin": None,
            "promised": None,
        },
        {
            "id": "c",
            "location": "C",
            "duration": 20,
            "windows": [[0, 10]],
            "skills": {},
            "parts": {},
            "crew": 1,
            "only": None,
            "never": ["T2"],
            "after": [],
            "sla": None,
            "drop": 500,
            "pin": {"tech": ["T1"], "start": 700},
            "promised": None,
        },
        {
            "id": "d",
            "location": "A",
            "duration": 20,
            "windows": [[600, 700]],
            "skills": {"z": 1},
            "parts": {},
            "crew": 1,
            "only": None,
            "never": [],
            "after": [],
            "sla": None,
            "drop": 70,
            "pin": None,
            "promised": [600, 650],
        },
    ],
    "incumbent": None,
    "weights": {"renegotiate": 300, "change_tech": 15, "travel": 1, "overtime": 2, "balance": 100},
}
PLAN: Json = {
    "format": "dispatch-plan/1",
    "routes": [
        {
            "tech": "T1",
            "shift": 0,
            "depart": 490,
            "finish": 730,
            "stops": [
                {"kind": "depot", "depot": "S", "start": 495, "take": {"p": 1}},
                {"kind": "visit", "visit": "a", "start": 510, "parts": {"p": 2}},
                {"kind": "visit", "visit": "b", "start": 550},
                {"kind": "break", "start": 620},
                {"kind": "visit", "visit": "c", "start": 700},
            ],
        },
        {
            "tech": "T2",
            "shift": 0,
            "depart": 500,
            "finish": 600,
            "stops": [{"kind": "visit", "visit": "b", "start": 550}],
        },
    ],
    "unassigned": [{"visit": "d", "reason": "nobody has z"}],
    "renegotiate": ["d"],
}


def test_the_undamaged_plan_is_feasible_and_scored_by_hand() -> None:
    verdict = check(PROBLEM, PLAN)
    assert verdict.violations == []
    assert verdict.tier1 == 10 + 2 * 20 + 70 + 300
    assert verdict.tier2 == 40 + 40
    shares = [(5 + 30 + 30 + 20 + 40) / 420, (30 + 40) / 420]
    mean = sum(shares) / 2
    assert verdict.tier3 == pytest.approx(100 * sum((share - mean) ** 2 for share in shares))


def stop(plan: Json, route: int, at: int) -> Json:
    found: Json = plan["routes"][route]["stops"][at]
    return found


Damage = Callable[[Json, Json], Any]
DAMAGES: dict[str, tuple[Damage, str]] = {
    "start outside the windows": (lambda p, q: stop(q, 0, 1).update(start=565), "outside its windows"),
    "unreachable start": (lambda p, q: stop(q, 0, 1).update(start=504), "cannot be reached"),
    "departure before the shift": (lambda p, q: q["routes"][0].update(depart=470), "before the shift starts"),
    "finish too early": (lambda p, q: q["routes"][1].update(finish=595), "cannot be back"),
    "finish after overtime": (lambda p, q: q["routes"][0].update(finish=961), "after the shift"),
    "break left out": (lambda p, q: q["routes"][0]["stops"].pop(3), "without the break"),
    "two breaks": (lambda p, q: q["routes"][0]["stops"].insert(4, {"kind": "break", "start": 650}), "2 breaks"),
    "break outside its window": (lambda p, q: stop(q, 0, 3).update(start=590), "the break starts"),
    "break where none is due": (
        lambda p, q: q["routes"][1]["stops"].append({"kind": "break", "start": 600}),
        "has none",
    ),
    "break during a visit": (
        lambda p, q: (
            stop(q, 0, 3).update(start=621),
            stop(q, 0, 2).update(start=600),
            stop(q, 1, 0).update(start=600),
        ),
        "before the stop before it ends",
    ),
    "skill missing": (lambda p, q: p["visits"][0]["skills"].update(x=3), "at level 3"),
    "crew of one for two": (lambda p, q: q["routes"].pop(1), "needs 2 technician"),
    "crew at different times": (lambda p, q: stop(q, 1, 0).update(start=551), "for the other"),
    "parts not brought": (lambda p, q: stop(q, 0, 1).update(parts={"p": 1}), "is brought 1"),
    "stock below zero": (lambda p, q: stop(q, 0, 0).update(take={}), "short"),
    "depot runs out": (lambda p, q: stop(q, 0, 0).update(take={"p": 2}), "hands out"),
    "parts before they are taken": (
        lambda p, q: q["routes"][0]["stops"].insert(1, q["routes"][0]["stops"].pop(0)),
        "short",
    ),
    "predecessor too late": (
        lambda p, q: (
            stop(q, 0, 2).update(start=541),
            stop(q, 1, 0).update(start=541),
            stop(q, 0, 1).update(start=512),
        ),
        "before a ends",
    ),
    "predecessor left out": (
        lambda p, q: (q["routes"][0]["stops"].pop(1), q["unassigned"].append({"visit": "a"})),
        "must come before",
    ),
    "forbidden technician": (lambda p, q: p["visits"][0].update(never=["T1"]), "may never be done"),
    "not among the allowed": (lambda p, q: p["visits"][0].update(only=["T2"]), "only by T2"),
    "pin moved": (lambda p, q: stop(q, 0, 4).update(start=701), "pinned to start"),
    "pin on somebody else": (lambda p, q: p["visits"][2]["pin"].update(tech=["T2"]), "pinned on"),
    "pin dropped": (
        lambda p, q: (q["routes"][0]["stops"].pop(4), q["unassigned"].append({"visit": "c"})),
        "may not be dropped",
    ),
    "dropped promise not told": (lambda p, q: q["renegotiate"].clear(), "not listed"),
    "moved promise not told": (lambda p, q: p["visits"][0].update(promised=[500, 505]), "not listed"),
    "visit forgotten": (lambda p, q: q["unassigned"].clear(), "neither in a route"),
    "visit planned and left out": (lambda p, q: q["unassigned"].append({"visit": "a"}), "both in a route"),
    "visit twice": (
        lambda p, q: q["routes"][0]["stops"].insert(5, {"kind": "visit", "visit": "a", "start": 730}),
        "needs 1",
    ),
    "unknown visit": (lambda p, q: stop(q, 0, 1).update(visit="zz"), "does not exist"),
    "unknown depot": (lambda p, q: stop(q, 0, 0).update(depot="zz"), "does not exist"),
    "unknown technician": (lambda p, q: q["routes"][1].update(tech="zz"), "does not exist"),
    "unknown shift": (lambda p, q: q["routes"][1].update(shift=1), "no shift 1"),
    "second route in one shift": (lambda p, q: q["routes"].append(copy.deepcopy(q["routes"][1])), "second route"),
    "too much travel": (lambda p, q: p["technicians"][0].update(max_travel=39), "more than 39"),
    "start in the past": (lambda p, q: p.update(now=530), "before now"),
    "fraction of a minute": (lambda p, q: stop(q, 0, 1).update(start=510.5), "whole number"),
    "not a plan": (lambda p, q: q.pop("routes"), "no list routes"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_checker_finds(name: str) -> None:
    given, damaged = copy.deepcopy(PROBLEM), copy.deepcopy(PLAN)
    damage, words = DAMAGES[name]
    damage(given, damaged)
    assert any(words in sentence for sentence in check(given, damaged).violations)


@pytest.mark.parametrize("plan", [None, [], 3, {}, {**PLAN, "routes": [None]}, {**PLAN, "routes": [{"stops": [{}]}]}])
def test_what_is_no_plan_is_said_and_not_thrown(plan: Any) -> None:
    assert check(PROBLEM, plan).violations
