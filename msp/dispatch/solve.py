"""From a problem to a plan within a time or a number of iterations; never a plan that the checker rejects."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from msp.dispatch import accelerate
from msp.dispatch import plan as plans
from msp.dispatch import problem as problems
from msp.dispatch.checker import Verdict, check
from msp.dispatch.construct import by_difficulty, insert, start_plan
from msp.dispatch.improve import Improver, Tuning
from msp.dispatch.network import Network
from msp.dispatch.report import to_plan
from msp.dispatch.solution import Solution
from msp.errors import Misconfigured

ACCELERATORS = ("auto", "pyvrp", "none")


@dataclass(frozen=True, slots=True)
class Solved:
    plan: dict[str, Any]  # dispatch-plan/1
    verdict: Verdict
    iterations: int
    seconds: float


def solve(
    raw: dict[str, Any],
    *,
    seconds: float | None = None,
    seed: int = 1,
    iterations: int | None = None,
    tuning: Tuning | None = None,
    began: float | None = None,
    accelerator: str = "auto",
    told: Callable[[float], bool] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Solved:
    """Plan a dispatch-problem/1 (parsed JSON). The same seed and iterations give the same plan.

    seconds: wall clock, checking included; the search ends a little before. iterations: of ruin and recreate.
    began: the reading of `clock` from which the seconds count. accelerator: pyvrp, none, or auto: PyVRP where it is
    installed, seconds are given and the problem is near enough to what it can model. told: called now and then with the
    share of the work that is done, 0 to 1; the search ends early with what it has when it returns True. clock: tells
    the seconds; a comparison on a busy machine gives time.process_time.
    Raises Misconfigured for a problem without any plan.
    """
    begin = clock() if began is None else began
    problem = problems.from_json(raw)
    if seconds is None and iterations is None:
        seconds = 10.0
    reserve = min(0.05 + len(problem.visits) * 0.0003, 0.25 * seconds) if seconds is not None else 0.0
    until = begin + seconds - reserve if seconds is not None else None
    settling = 0.05 * seconds if seconds is not None and problem.incumbent else 0.0  # see Improver.run

    def expired() -> bool:
        return until is not None and clock() >= until

    net = Network(problem)
    solution = Solution(net)
    solution.scale = (tuning or Tuning()).scale
    start_plan(solution, expired)
    safe = solution.snapshot()
    insert(solution, by_difficulty(solution), expired)
    solution.forget()
    first = solution.snapshot()
    _accelerate(solution, accelerator, until, iterations, seed, clock, expired)
    improver = Improver(solution, seed, tuning)
    started = clock()

    def progress(done: int) -> float:
        share = 0.0
        if iterations is not None:
            share = done / iterations if iterations else 1.0
        if until is not None:
            now, enough = clock(), until - settling
            if now >= enough:
                return 1.0
            if iterations is None:
                share = (now - started) / max(enough - started, 1e-9)
        return 1.0 if told is not None and told(share) else share

    improver.run(progress, expired)
    rejected: list[str] = []
    for shot in (None, first, safe):
        if shot is not None:
            solution.restore(shot)
        plan = plans.to_json(to_plan(solution, out_of_time=expired() and not improver.iterations))
        verdict = check(raw, plan)
        if verdict.feasible:
            return Solved(plan, verdict, improver.iterations, clock() - begin)
        rejected = rejected or verdict.violations
    raise Misconfigured(
        f"No feasible plan was found: {rejected[0]}",
        advice="Look at the pinned visits: they hold whatever else is planned.",
    )


def _accelerate(
    solution: Solution,
    accelerator: str,
    until: float | None,
    iterations: int | None,
    seed: int,
    clock: Callable[[], float],
    expired: Callable[[], bool],
) -> None:
    """Let PyVRP look for a better start, if it is wanted and may help; a worse one is not kept."""
    if accelerator not in ACCELERATORS:
        raise Misconfigured(
            f"There is no accelerator {accelerator!r}.", advice=f"Choose one of {', '.join(ACCELERATORS)}."
        )
    if accelerator == "none" or not accelerate.available():
        if accelerator == "pyvrp":
            raise Misconfigured("PyVRP is not installed.", advice="Install the extra: msp-toolkit[routing].")
        return
    share, left = accelerate.fits(solution.net), until - clock() if until is not None else None
    wanted = share > 0 if accelerator == "pyvrp" else share >= accelerate.ENOUGH and left is not None
    if not wanted or (left is not None and left < accelerate.SHORTEST):
        return
    before, score = solution.snapshot(), (solution.tier1, solution.tier2)
    enough: int | Callable[[], bool] = iterations or 0
    if left is not None:
        end = clock() + left * (accelerate.MOST if share >= 1 else accelerate.SOME)

        def enough() -> bool:
            return clock() >= end

    absent = accelerate.reseed(solution, enough=enough, seed=seed, scale=solution.scale)
    insert(solution, absent, expired)
    solution.forget()
    if (solution.tier1, solution.tier2) >= score:
        solution.restore(before)
