"""The phone call: the best appointment windows for a new visit beside a plan that stands.

No promised visit moves, nobody else's technician changes; the routes that the visit does not touch stay as they are.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from msp.dispatch import plan as plans
from msp.dispatch import problem as problems
from msp.dispatch.checker import check
from msp.dispatch.insertion import Place, cheapest, put_in
from msp.dispatch.loading import load
from msp.dispatch.network import Network
from msp.dispatch.plan import Plan, Route
from msp.dispatch.problem import Problem, Visit
from msp.dispatch.report import route_of
from msp.dispatch.solution import Solution
from msp.errors import Misconfigured

FORMAT = "dispatch-slots/1"
WIDTHS = (120, 60, 30)  # minutes of a window told to a client; narrower only if there are too few
LEXICAL = 1e7  # tier 1 before tier 2, in one figure


@dataclass(frozen=True, slots=True)
class Slot:
    """A window of starts, and the plan that keeps it. tier1, tier2: what the plan in force would cost more."""

    window: tuple[int, int]
    plan: dict[str, Any]
    tier1: float
    tier2: float


def offer(raw: Any, plan: Any, visit: Any, *, count: int = 3) -> dict[str, Any]:
    """Return dispatch-slots/1 for a new visit (all three as parsed JSON), best first.

    Raises Misconfigured for input that cannot be read or a plan that is not feasible.
    """
    problem = problems.from_json(raw)
    spec = problems.visit_from_json(visit, problem)
    written = plans.from_json(plan)
    verdict = check(raw, plan)
    if not verdict.feasible:
        raise Misconfigured(f"The plan is not feasible: {verdict.violations[0]}", advice="Plan anew first.")
    both = {**raw, "visits": [*raw["visits"], visit]}
    found = []
    for window, candidate in windows(problem, written, spec, count=count):
        value = plans.to_json(candidate)
        after = check(both, value)
        if after.feasible:
            found.append(Slot(window, value, after.tier1 - verdict.tier1, after.tier2 - verdict.tier2))
    found.sort(key=lambda slot: (slot.tier1, slot.tier2, slot.window))
    return {
        "format": FORMAT,
        "slots": [
            {"window": list(slot.window), "plan": slot.plan, "delta": {"tier1": slot.tier1, "tier2": slot.tier2}}
            for slot in found[:count]
        ],
    }


def windows(problem: Problem, plan: Plan, spec: Visit, *, count: int = 3) -> Iterator[tuple[tuple[int, int], Plan]]:
    """Yield (window, plan with the visit in it), cheapest first; at most `count`."""
    larger = replace(problem, visits=(*problem.visits, spec))
    solution = load(larger, plan, len(problem.visits))
    solution.scale = LEXICAL
    net, visit = solution.net, len(problem.visits)
    if spec.pin is not None:
        raise Misconfigured("visit.pin is set.", advice="A new visit is looked for a place; leave its pin out.")
    found: list[tuple[float, tuple[int, int], Place]] = []
    for width in WIDTHS:
        found = [
            (place.price, window, place)
            for window in _pieces(spec, problem.now, width)
            if (place := _within(solution, visit, window)) is not None
        ]
        if len(found) >= count:
            break
    found.sort(key=lambda item: item[:2])
    for _, window, place in found[:count]:
        mark = solution.mark()
        _narrow(net, visit, window)
        if put_in(solution, visit, place):
            yield window, _amended(solution, plan, visit)
        solution.undo(mark)


def _pieces(spec: Visit, now: int, width: int) -> Iterator[tuple[int, int]]:
    """Yield the visit's windows from now on, cut into pieces of `width` minutes; a short rest joins the last."""
    for a, b in spec.windows:
        begin = max(a, now)
        while begin <= b:
            end = begin + width
            if end + width // 4 >= b:
                end = b
            yield begin, end
            begin = end + 1 if end == b else end


def _narrow(net: Network, visit: int, window: tuple[int, int]) -> None:
    for node in (visit, net.alt[visit]):
        if node >= 0:
            promised = net.problem.visits[visit].promised
            low, high = window
            if promised is not None and node == visit:
                low, high = max(low, promised[0]), min(high, promised[1])
            net.wins[node] = None
            net.lo[node], net.hi[node] = net.static_lo[node], net.static_hi[node] = low, high


def _within(solution: Solution, visit: int, window: tuple[int, int]) -> Place | None:
    """Return the cheapest place of the visit that starts within the window."""
    net = solution.net
    _narrow(net, visit, window)
    for node in (visit, net.alt[visit]):
        if node >= 0:
            solution.cache[node].clear()
    solution.places.clear()
    solution.chances.clear()
    everywhere = net.compatible[visit]
    low, high = window[0] + net.dur[visit], window[1]
    net.compatible[visit] = [lane for lane in everywhere if net.past[lane].base <= high and low <= net.max_finish[lane]]
    place = cheapest(solution, visit)
    net.compatible[visit] = everywhere
    return place


def _amended(solution: Solution, plan: Plan, visit: int) -> Plan:
    """Return the plan with the routes of the visit's technicians written anew, and all others as they were."""
    net, problem = solution.net, solution.net.problem
    spec = problem.visits[visit]
    crew = {net.tech[lane] for lane in (solution.where[visit], solution.second[visit]) if lane >= 0}
    written: dict[tuple[str, int], Route] = {}
    for who in sorted(crew):
        for lane in net.lanes_of[who]:
            route = route_of(solution, lane)
            if route is not None:
                written[route.tech, route.shift] = route
    names = {problem.technicians[who].id for who in crew}
    routes = [written.pop((route.tech, route.shift), None) if route.tech in names else route for route in plan.routes]
    kept = (*(route for route in routes if route is not None), *written.values())
    moved = plan.renegotiate
    if spec.promised and not spec.promised[0] <= solution.start_of(visit) <= spec.promised[1]:
        moved = (*moved, spec.id)
    return Plan(kept, plan.unassigned, moved)
