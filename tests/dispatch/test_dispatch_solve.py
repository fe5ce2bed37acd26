import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from dispatch_problems import live, problem

from msp.dispatch.checker import check
from msp.dispatch.network import Network
from msp.dispatch.solution import Solution
from msp.dispatch.solve import solve


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from msp.console import main; main()", "dispatch", *words]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)


def sized(seed: int) -> dict[str, Any]:
    return problem(seed, visits=8 + seed % 5 * 8, technicians=2 + seed % 6, days=1 + seed % 3)


def assert_feasible_through_the_day(seed: int, iterations: int) -> None:
    raw = sized(seed)
    found = solve(raw, seed=seed, iterations=iterations)
    assert check(raw, found.plan).violations == []
    for now in (600, 900, 1440 + 700):
        later = live(raw, found.plan, seed, now)
        again = solve(later, seed=seed, iterations=iterations // 2)
        assert check(later, again.plan).violations == []


@pytest.mark.parametrize("seed", range(40))
def test_random_problems_are_solved_feasibly_and_replanned_live(seed: int) -> None:
    assert_feasible_through_the_day(seed, 30)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_many_random_problems_are_solved_feasibly_and_replanned_live(block: int) -> None:
    for seed in range(1000 + 50 * block, 1050 + 50 * block):
        assert_feasible_through_the_day(seed, 60)


@pytest.mark.parametrize("seed", range(6))
def test_running_costs_of_the_search_agree_with_the_checker(seed: int) -> None:
    from msp.dispatch import plan as plans
    from msp.dispatch import problem as problems
    from msp.dispatch.construct import by_difficulty, insert, start_plan
    from msp.dispatch.improve import Improver
    from msp.dispatch.report import to_plan

    raw = sized(seed + 70)
    if seed % 2:
        raw = live(raw, solve(raw, iterations=20).plan, seed, 700)
    solution = Solution(Network(problems.from_json(raw)))
    start_plan(solution, lambda: False)
    insert(solution, by_difficulty(solution), lambda: False)
    solution.forget()
    improver = Improver(solution, seed)
    for stop in range(40, 400, 40):
        improver.run(lambda done, stop=stop: 1.0 if done >= stop else 0.3, lambda: False)
        verdict = check(raw, plans.to_json(to_plan(solution)))
        assert verdict.violations == []
        assert (solution.tier1, solution.tier2) == pytest.approx((verdict.tier1, verdict.tier2))


def test_same_seed_and_iterations_give_the_same_bytes(tmp_path: Path) -> None:
    file = tmp_path / "problem.json"
    file.write_text(json.dumps(problem(4, visits=25)))
    for name, hashes in (("one.json", "1"), ("two.json", "2")):
        words = ["solve", str(file), str(tmp_path / name), "--iterations", "80", "--seed", "5", "--seconds", "60"]
        assert run(*words, PYTHONHASHSEED=hashes).returncode == 0
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_time_allowed_is_kept_and_the_plan_holds(tmp_path: Path) -> None:
    file, out = tmp_path / "problem.json", tmp_path / "plan.json"
    file.write_text(json.dumps(problem(1, visits=300, technicians=30, days=3)))
    begin = time.monotonic()
    assert run("solve", str(file), str(out), "--seconds", "1").returncode == 0
    assert time.monotonic() - begin < 1.25 + 2
    judged = run("check", str(file), str(out), "--json")
    assert judged.returncode == 0
    assert json.loads(judged.stdout)["feasible"] is True


@pytest.mark.slow
def test_two_thousand_visits_have_a_plan_within_a_minute() -> None:
    raw = problem(1, visits=2000, technicians=150, days=5)
    begin = time.process_time()
    found = solve(raw, iterations=0)
    assert time.process_time() - begin < 60
    assert found.verdict.feasible


def test_more_iterations_never_make_a_plan_worse() -> None:
    raw = problem(11, visits=30)
    scores = [solve(raw, iterations=count).verdict.score[:2] for count in (0, 400)]
    assert scores[1] <= scores[0]


def test_an_empty_problem_has_an_empty_plan() -> None:
    raw = {**problem(1, visits=1), "visits": []}
    assert solve(raw, iterations=5).plan["routes"] == []


def test_without_technicians_everything_is_left_out_with_a_reason() -> None:
    raw = {**problem(1, visits=3, technicians=1), "technicians": []}
    for visit in raw["visits"]:
        visit["only"], visit["never"] = None, []
    plan = solve(raw, iterations=5).plan
    assert len(plan["unassigned"]) == 3
    assert all(item["reason"] for item in plan["unassigned"])


def test_waiting_is_saved_by_leaving_late_and_by_another_order() -> None:
    """Two visits an hour apart by their windows: what is waited is as little as can be, and the checker counts it."""
    raw = problem(3, visits=2, technicians=1)
    first, second = raw["visits"]
    for visit, window in ((first, [480, 700]), (second, [720, 740])):
        visit.update(
            windows=[window], duration=30, skills={}, parts={}, crew=1, only=None, never=[], after=[], sla=None
        )
        visit.update(promised=None, pin=None, drop=5000)
    raw["technicians"][0].update(max_travel=None)
    raw["technicians"][0]["shifts"] = [
        {**raw["technicians"][0]["shifts"][0], "start": 480, "end": 1020, "overtime": 0, "break": None}
    ]
    waited = {}
    for weight in (0, 1):
        raw["weights"]["waiting"] = weight
        found = solve(raw, iterations=20)
        assert not found.verdict.dropped
        waited[weight] = found.verdict.waiting
        starts = [stop["start"] for route in found.plan["routes"] for stop in route["stops"]]
        assert starts == sorted(starts)
    assert waited[1] < waited[0]
    (route,) = found.plan["routes"]
    slack = 700 - route["stops"][0]["start"]
    assert waited[1] == 0 or slack == 0, "it could have left later"
