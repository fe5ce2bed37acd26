"""Against brute force: every assignment, order and break place of tiny problems, timed by counting minutes."""

from itertools import permutations, product
from random import Random
from typing import Any

import pytest
from dispatch_problems import Json

from msp.dispatch.solve import solve


def tiny(seed: int) -> Json:
    """Return up to 5 visits for 2 technicians on one day: windows, skills, deadlines, breaks, promises, one order."""
    rng = Random(seed)
    count = rng.randint(3, 5)
    size = count + 2
    minutes = [[0 if a == b else rng.randint(10, 60) for b in range(size)] for a in range(size)]
    visits: list[Json] = []
    for at in range(count):
        begin = rng.randint(480, 800)
        window = [begin, begin + rng.choice([30, 90, 240])]
        visits.append(
            {
                "id": f"V{at}", "location": f"L{at}", "duration": rng.choice([20, 60, 90]), "windows": [window],
                "skills": {"s": 1} if rng.random() < 0.3 else {}, "parts": {}, "crew": 1, "only": None, "never": [],
                "after": [f"V{at - 1}"] if at and rng.random() < 0.15 else [],
                "sla": {"deadline": begin + 100, "per_min": 1, "fixed": 40} if rng.random() < 0.6 else None,
                "drop": rng.choice([50, 150, 400]), "pin": None,
                "promised": [window[0], window[0] + 15] if rng.random() < 0.2 else None,
            }
        )  # fmt: skip
    technicians = [
        {
            "id": f"T{at}", "skills": {"s": 1} if at else {}, "stock": {}, "max_travel": None,
            "shifts": [{"start": 480, "end": 900, "overtime": 30, "from": f"L{count + at}", "to": f"L{count + at}",
                        "break": {"duration": 30, "earliest": 640, "latest": 700} if rng.random() < 0.6 else None}],
        }
        for at in range(2)
    ]  # fmt: skip
    return {
        "format": "dispatch-problem/1", "name": f"tiny {seed}", "now": 0, "days": 1,
        "locations": [{"id": f"L{at}", "x": 0, "y": 0} for at in range(size)],
        "travel": {"kind": "matrix", "minutes": minutes}, "technicians": technicians, "depots": [], "visits": visits,
        "incumbent": None,
        "weights": {"renegotiate": 60, "change_tech": 0, "travel": 1, "overtime": 2, "balance": 0},
    }  # fmt: skip


def ways(raw: Json, tech: Json, order: tuple[int, ...], ends: dict[int, int]) -> list[tuple[float, dict[int, int]]]:
    """Return (cost, ends) of one route for each place of its break and each kept or broken promise."""
    shift, minutes = tech["shifts"][0], raw["travel"]["minutes"]
    pause = shift["break"]
    places = {item["id"]: at for at, item in enumerate(raw["locations"])}
    found = []
    kept = [[True, False] if raw["visits"][v]["promised"] else [True] for v in order]
    for gap, promises in product([None, *range(len(order) + 1)] if pause else [None], product(*kept)):
        here, leave, cost, mine, fine = places[shift["from"]], shift["start"], 0.0, dict(ends), True
        for number in range(len(order) + 1):
            last = number == len(order)
            there = places[shift["to"]] if last else order[number]
            arrive = leave + minutes[here][there]
            if gap == number:
                begin = max(leave, pause["earliest"])
                fine = fine and begin <= pause["latest"]
                arrive = max(arrive + pause["duration"], begin + pause["duration"])
            if last:
                fine = fine and arrive <= shift["end"] + shift["overtime"]
                fine = fine and not (pause and gap is None and arrive > pause["latest"])
                break
            visit = raw["visits"][order[number]]
            a, b = visit["windows"][0]
            if promises[number] and visit["promised"]:
                a, b = max(a, visit["promised"][0]), min(b, visit["promised"][1])
            start = max([arrive, a, *(mine.get(int(name[1:]), 10**9) for name in visit["after"])])
            if start > b:
                fine = False
                break
            here, leave = there, start + visit["duration"]
            mine[order[number]] = leave
            late = leave - visit["sla"]["deadline"] if visit["sla"] else 0
            cost += visit["sla"]["fixed"] + visit["sla"]["per_min"] * late if late > 0 else 0
            if visit["promised"] and not visit["promised"][0] <= start <= visit["promised"][1]:
                cost += raw["weights"]["renegotiate"]
        if fine:
            found.append((cost, mine))
    return found


def best_tier1(raw: Json) -> float:
    visits: list[Json] = raw["visits"]
    techs: list[Json] = raw["technicians"]
    best = float("inf")
    for owners in product((None, 0, 1), repeat=len(visits)):
        if any(who is not None and visits[v]["skills"] and not techs[who]["skills"] for v, who in enumerate(owners)):
            continue
        if any(
            who is not None and any(owners[int(name[1:])] is None for name in visits[v]["after"])
            for v, who in enumerate(owners)
        ):
            continue
        dropped = sum(
            visit["drop"] + (raw["weights"]["renegotiate"] if visit["promised"] else 0)
            for visit, who in zip(visits, owners, strict=True)
            if who is None
        )
        if dropped >= best:
            continue
        sides: list[Any] = [permutations([v for v, who in enumerate(owners) if who == side]) for side in (0, 1)]
        for first, second in product(*map(list, sides)):
            for one, two in (((0, first), (1, second)), ((1, second), (0, first))):
                for cost, ends in ways(raw, techs[one[0]], one[1], {}):
                    if dropped + cost < best:
                        for more, _ in ways(raw, techs[two[0]], two[1], ends):
                            best = min(best, dropped + cost + more)
    return best


@pytest.mark.parametrize("seed", range(12))
def test_tiny_problems_reach_the_best_first_tier(seed: int) -> None:
    raw = tiny(seed)
    assert solve(raw, iterations=150).verdict.tier1 <= best_tier1(raw)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(5))
def test_many_tiny_problems_reach_the_best_first_tier(block: int) -> None:
    for seed in range(100 + 40 * block, 140 + 40 * block):
        raw = tiny(seed)
        assert solve(raw, iterations=400).verdict.tier1 <= best_tier1(raw), raw["name"]
