"""From the search's lanes back to a plan that people and programs can read."""

from msp.dispatch.plan import Plan, Route, Stop
from msp.dispatch.schedule import departure, late_starts
from msp.dispatch.solution import Solution


def to_plan(solution: Solution, *, out_of_time: bool = False) -> Plan:
    """Return the plan: a technician leaves as late as the first stop allows; every visit left out has a reason."""
    net = solution.net
    problem = net.problem
    routes = []
    for lane in range(len(net.tech)):
        route = route_of(solution, lane)
        if route is not None:
            routes.append(route)
    unassigned = {
        problem.visits[visit].id: why_left_out(solution, visit, out_of_time=out_of_time)
        for visit in sorted(solution.absent)
    }
    moved = []
    for visit, spec in enumerate(problem.visits):
        if spec.promised is None:
            continue
        if visit in solution.absent or not spec.promised[0] <= solution.start_of(visit) <= spec.promised[1]:
            moved.append(spec.id)
    return Plan(tuple(routes), unassigned, tuple(moved))


def route_of(solution: Solution, lane: int) -> Route | None:
    net, made, past = solution.net, solution.lanes[lane], solution.net.past[lane]
    problem = net.problem
    if not made.seq and not any(kind != "break" for kind, *_ in past.stops):
        return None
    stops = [_stop(solution, lane, kind, node, start, goods) for kind, node, start, goods in past.stops]
    timing = made.timing
    starts = late_starts(net, lane, made.seq, timing) if solution.w_wait else timing.starts
    takes = solution.allotted[net.tech[lane]].takes
    for at, node in enumerate(made.seq):
        if timing.rest_at == at:
            stops.append(Stop("break", timing.rest_start))
        kind = "depot" if node >= net.first_depot else "visit"
        goods = takes.get((lane, at), {}) if kind == "depot" else solution.brings.get((net.visit[node], lane))
        stops.append(_stop(solution, lane, kind, node, starts[at], goods))
    if timing.rest_at == len(made.seq):
        stops.append(Stop("break", timing.rest_start))
    depart = past.depart if past.stops else departure(net, lane, made.seq, timing, starts[0])
    return Route(problem.technicians[net.tech[lane]].id, net.shift[lane], depart, timing.finish, tuple(stops))


def _stop(solution: Solution, lane: int, kind: str, node: int, start: int, goods: dict[str, int] | None) -> Stop:
    net = solution.net
    if kind == "break":
        return Stop("break", start)
    if kind == "depot":
        return Stop("depot", start, net.problem.depots[node - net.first_depot].id, dict(sorted((goods or {}).items())))
    visit = net.problem.visits[net.visit[node]]
    if visit.crew == 1 and goods is None:
        return Stop("visit", start, visit.id, dict(sorted(visit.parts.items())))
    return Stop("visit", start, visit.id, dict(sorted((goods or {}).items())))


def why_left_out(solution: Solution, visit: int, *, out_of_time: bool = False) -> str:
    """Return one sentence on why a visit is in no route."""
    net = solution.net
    problem, spec = net.problem, net.problem.visits[visit]
    missing = [problem.visits[other].id for other in spec.after if other in solution.absent]
    if missing:
        return f"{', '.join(missing)} must come first and is not planned."
    for skill, level in spec.skills.items():
        if not any(t.skills.get(skill, 0) >= level for t in problem.technicians):
            return f"Nobody has skill {skill} at level {level}."
    if not any(b >= problem.now for _, b in spec.windows):
        return "Every window lies in the past." if spec.windows else "It has no window."
    if not net.compatible[visit]:
        return "No technician who may do it works within its windows for as long as it takes."
    for part, quantity in spec.parts.items():
        there = sum(t.stock.get(part, 0) for t in problem.technicians) + sum(
            d.stock.get(part, 0) for d in problem.depots
        )
        if there < quantity:
            return f"It needs {quantity} x {part}, and {there} are in stock."
    if out_of_time:
        return "Planning time ended before it was placed."
    return "No place was found that costs less than leaving it out."
