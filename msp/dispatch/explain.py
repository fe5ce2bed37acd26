"""Why does a visit stand here, why not earlier, and why not with somebody else? Said in sentences."""

from typing import Any

from msp.dispatch import plan as plans
from msp.dispatch import problem as problems
from msp.dispatch.checker import check
from msp.dispatch.insertion import Place, cheapest
from msp.dispatch.loading import load
from msp.dispatch.problem import Problem, Visit
from msp.dispatch.report import why_left_out
from msp.dispatch.slots import LEXICAL
from msp.dispatch.solution import Solution
from msp.errors import Misconfigured, NotFound


def explain(raw: Any, plan: Any, name: str) -> dict[str, Any]:
    """Return {"visit", "sentences": [text], "others": [{"tech", "reason"}]} for one visit of a plan.

    Raises NotFound for an unknown visit and Misconfigured for a plan that is not feasible.
    """
    problem = problems.from_json(raw)
    visit = next((at for at, spec in enumerate(problem.visits) if spec.id == name), -1)
    if visit < 0:
        raise NotFound(f"The problem has no visit {name}.", advice="Name one by its id.")
    verdict = check(raw, plan)
    if not verdict.feasible:
        raise Misconfigured(f"The plan is not feasible: {verdict.violations[0]}", advice="Plan anew first.")
    solution = load(problem, plans.from_json(plan), visit)
    solution.scale = LEXICAL
    spec = problem.visits[visit]
    if spec.pin is not None:
        who = ", ".join(problem.technicians[at].id for at in spec.pin.technicians)
        text = f"{name} is pinned: {who} starts it at {clock(spec.pin.start)}."
        return {"visit": name, "sentences": [text], "others": []}
    if solution.where[visit] < 0:
        reason = plan_reason(plan, name) or why_left_out(solution, visit)
        sentences = [f"{name} is not planned: {reason}"]
        return {"visit": name, "sentences": sentences, "others": _others(solution, visit, set(), None)}
    sentences, lanes = [], [lane for lane in (solution.where[visit], solution.second[visit]) if lane >= 0]
    sentences.append(_where(solution, visit, lanes))
    sentences += [_why_not_earlier(solution, visit, lane) for lane in lanes]
    here = _released(solution, visit)
    if here is not None:
        sentences.append(f"Here it costs {_cost(here.tier1, here.tier2)}.")
    crew = {solution.net.tech[lane] for lane in lanes}
    return {"visit": name, "sentences": sentences, "others": _others(solution, visit, crew, here)}


def plan_reason(plan: Any, name: str) -> str:
    """Return the reason that a plan gives for leaving a visit out."""
    return next((str(item.get("reason", "")) for item in plan["unassigned"] if item["visit"] == name), "")


def clock(minute: int) -> str:
    """Return a minute of the horizon as people say it."""
    day, rest = divmod(minute, 1440)
    return f"{rest // 60:02}:{rest % 60:02}" + (f" on day {day}" if day else "")


def _where(solution: Solution, visit: int, lanes: list[int]) -> str:
    net, problem = solution.net, solution.net.problem
    parts = []
    for lane in lanes:
        seq, at = solution.lanes[lane].seq, solution.lanes[lane].seq.index(solution.node_of[visit])
        before = _called(problem, net.visit[seq[at - 1]]) if at else "the start of the shift"
        after = _called(problem, net.visit[seq[at + 1]]) if at + 1 < len(seq) else "the end of the shift"
        parts.append(f"{problem.technicians[net.tech[lane]].id} between {before} and {after}")
    return f"{problem.visits[visit].id} starts at {clock(solution.start_of(visit))} with {' and '.join(parts)}."


def _called(problem: Problem, visit: int) -> str:
    return problem.visits[visit].id if visit >= 0 else "the depot"


def _why_not_earlier(solution: Solution, visit: int, lane: int) -> str:
    net, problem = solution.net, solution.net.problem
    route, node = solution.lanes[lane], solution.node_of[visit]
    who = problem.technicians[net.tech[lane]].id
    at = route.seq.index(node)
    start = route.timing.starts[at]
    spec = problem.visits[visit]
    for other in spec.after:
        if solution.start_of(other) + net.dur[solution.node_of[other]] == start:
            return f"Not earlier: {problem.visits[other].id} must end before it, at {clock(start)}."
    place = net.loc[route.seq[at - 1]] if at else net.past[lane].place
    leave = route.timing.starts[at - 1] + net.dur[route.seq[at - 1]] if at else net.past[lane].base
    way = net.table[place][net.loc[node]]
    rest = net.rest[lane]
    pause = rest[0] if rest is not None and route.timing.rest_at == at else 0
    if pause and start <= max(leave + way, route.timing.rest_start) + pause:
        return f"Not earlier: {who} takes the break at {clock(route.timing.rest_start)} and drives {way} minutes."
    if start == leave + way:
        return f"Not earlier: {who} can leave at {clock(leave)} and drives {way} minutes."
    if spec.promised and start == spec.promised[0]:
        return f"Not earlier: the client was promised {clock(spec.promised[0])} at the earliest."
    if any(start == a for a, _ in spec.windows):
        return f"Not earlier: its window opens at {clock(start)}."
    if spec.crew == 2:
        return f"Not earlier: both technicians start together; {who} could be there by {clock(leave + way)}."
    return (
        f"It stands still because it was promised or others depend on it; {who} could be there by {clock(leave + way)}."
    )


def _released(solution: Solution, visit: int) -> Place | None:
    """Take the visit out and return its cheapest place with the technicians it has."""
    net = solution.net
    node = solution.node_of[visit]
    lanes = [lane for lane in (solution.where[visit], solution.second[visit]) if lane >= 0]
    windows = net.lo[node], net.hi[node], net.static_lo[node], net.static_hi[node]
    if not solution.remove([visit]):
        return None
    everywhere = net.compatible[visit]
    net.compatible[visit] = [lane for lane in everywhere if lane in lanes]
    place = cheapest(solution, visit)
    net.compatible[visit] = everywhere
    net.lo[node], net.hi[node], net.static_lo[node], net.static_hi[node] = windows
    return place


def _others(solution: Solution, visit: int, crew: set[int], here: Place | None) -> list[dict[str, str]]:
    net, problem = solution.net, solution.net.problem
    spec = problem.visits[visit]
    everywhere = net.compatible[visit]
    found = []
    for who, technician in enumerate(problem.technicians):
        if who in crew:
            continue
        reason = _cannot(technician, spec, who)
        if not reason and spec.crew == 1:
            net.compatible[visit] = [lane for lane in everywhere if net.tech[lane] == who]
            place = cheapest(solution, visit)
            if place is None:
                reason = "has no room for it: time, break, travel limit or parts"
            elif here is None:
                reason = f"would cost {_cost(place.tier1, place.tier2)}"
            else:
                reason = f"would cost {_cost(place.tier1, place.tier2)}, here {_cost(here.tier1, here.tier2)}"
        elif not reason:
            reason = "could be one of the two"
        found.append({"tech": technician.id, "reason": reason})
    net.compatible[visit] = everywhere
    return found


def _cannot(technician: problems.Technician, spec: Visit, who: int) -> str:
    if who in spec.never:
        return "may never do it"
    if spec.only is not None and who not in spec.only:
        return "is not among those who may do it"
    if spec.crew == 1:
        for skill, level in spec.skills.items():
            if technician.skills.get(skill, 0) < level:
                return f"lacks {skill} at level {level}"
    return "has no shift" if not technician.shifts else ""


def _cost(tier1: float, tier2: float) -> str:
    late = f"{tier1:g} in lateness and promises and " if tier1 else ""
    return f"{late}{tier2:g} on the road"
