"""PyVRP only seeds: whatever it says, plans stay feasible, and no plan is worse for having asked."""

import importlib.util
from typing import Any

import pytest
from dispatch_problems import live, problem

from msp.dispatch import accelerate
from msp.dispatch import problem as problems
from msp.dispatch.checker import check
from msp.dispatch.network import Network
from msp.dispatch.solve import solve
from msp.errors import Misconfigured

pytestmark = pytest.mark.skipif(importlib.util.find_spec("pyvrp") is None, reason="the extra `routing` is not here")


def plain(seed: int) -> dict[str, Any]:
    """A problem without breaks, crews of two, precedence and depots, which PyVRP's model holds whole."""
    raw = problem(seed, visits=30, technicians=6, days=2)
    raw["depots"] = []
    for technician in raw["technicians"]:
        for shift in technician["shifts"]:
            shift["break"] = None
    for visit in raw["visits"]:
        visit |= {"crew": 1, "after": []}
    return raw


@pytest.mark.parametrize("seed", range(6))
def test_every_kind_of_problem_stays_feasible_and_gets_no_worse(seed: int) -> None:
    for raw in (plain(seed), problem(seed, visits=25)):
        alone = solve(raw, iterations=0, accelerator="none")
        seeded = solve(raw, iterations=0, accelerator="pyvrp")
        verdict = check(raw, seeded.plan)
        assert verdict.violations == []
        assert (seeded.verdict.tier1, seeded.verdict.tier2) <= (alone.verdict.tier1, alone.verdict.tier2)


def test_its_start_is_better_where_its_model_holds_everything() -> None:
    gained = 0
    for seed in range(4):
        raw = plain(seed)
        assert accelerate.fits(Network(problems.from_json(raw))) == 1.0
        alone = solve(raw, iterations=0, accelerator="none").verdict
        seeded = solve(raw, iterations=200, accelerator="pyvrp").verdict
        gained += (seeded.tier1, seeded.tier2) < (alone.tier1, alone.tier2)
    assert gained >= 3


def test_it_is_left_out_of_plans_in_force_and_of_unknown_names() -> None:
    raw = plain(1)
    later = live(raw, solve(raw, iterations=10).plan, 1, 700)
    assert accelerate.fits(Network(problems.from_json(later))) == 0
    assert check(later, solve(later, iterations=5, accelerator="pyvrp").plan).violations == []
    with pytest.raises(Misconfigured, match="no accelerator"):
        solve(raw, iterations=0, accelerator="magic")


def test_the_same_seed_and_iterations_give_the_same_plan() -> None:
    raw = plain(3)
    first, second = (solve(raw, iterations=30, seed=5, accelerator="pyvrp").plan for _ in range(2))
    assert first == second
