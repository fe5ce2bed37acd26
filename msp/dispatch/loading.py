"""A written plan taken up again as lanes, so that one visit can be tried in it without planning anew."""

from dataclasses import replace

from msp.dispatch.network import Network
from msp.dispatch.plan import Plan
from msp.dispatch.problem import Problem
from msp.dispatch.solution import Solution
from msp.dispatch.stock import Allotment
from msp.errors import Misconfigured


def load(problem: Problem, plan: Plan, visit: int) -> Solution:
    """Return the plan as a solution whose promised, paired and ordered visits stand still at their planned starts.

    All other visits may start earlier or later within their routes, as the scheduler sees fit.
    visit: the only one that will be tried in other places.
    Raises Misconfigured for a plan that the problem does not allow.
    """
    net = Network(replace(problem, incumbent=plan), pairs=True, only=visit)
    solution = Solution(net)
    ids = {visit.id: at for at, visit in enumerate(problem.visits)}
    depots = {depot.id: net.first_depot + at for at, depot in enumerate(problem.depots)}
    lanes = {(problem.technicians[net.tech[lane]].id, net.shift[lane]): lane for lane in range(len(net.tech))}
    orders: list[tuple[int, list[int]]] = []
    allotted = [Allotment({}, {}) for _ in problem.technicians]
    for route in plan.routes:
        lane = lanes[route.tech, route.shift]
        order: list[int] = []
        skip = {(kind, node) for kind, node, _, _ in net.past[lane].stops if kind == "visit"}
        frozen_depots = sum(kind == "depot" for kind, *_ in net.past[lane].stops)
        for stop in route.stops:
            if stop.kind == "depot":
                if frozen_depots:
                    frozen_depots -= 1
                    continue
                found = allotted[net.tech[lane]]
                found.takes[lane, len(order)] = dict(stop.goods or {})
                order.append(depots[stop.ref])
                for part, quantity in (stop.goods or {}).items():
                    slot = (depots[stop.ref] - net.first_depot, part)
                    found.charged[slot] = found.charged.get(slot, 0) + quantity
                    solution.left[slot] = solution.left.get(slot, 0) - quantity
            elif stop.kind == "visit" and ("visit", ids[stop.ref]) not in skip:
                visit = ids[stop.ref]
                order.append(_node(solution, visit, stop.start))
                if problem.visits[visit].crew == 2:
                    solution.brings[visit, lane] = dict(stop.goods or {})
                solution.enter(visit, lane)
        orders.append((lane, order))
    solution.allotted[:] = allotted
    for lane, order in orders:
        if not solution.store(lane, order):
            raise Misconfigured(
                f"The route of {problem.technicians[net.tech[lane]].id} in shift {net.shift[lane]} cannot be driven.",
                advice="Run msp dispatch check on this plan.",
            )
    solution.forget()
    return solution


def _node(solution: Solution, visit: int, start: int) -> int:
    """Return the node that stands for a visit at its planned start; tied and promised visits are held there."""
    net = solution.net
    spec = net.problem.visits[visit]
    node = visit
    if spec.promised is not None and spec.pin is None and not spec.promised[0] <= start <= spec.promised[1]:
        node = net.alt[visit]
    solution.node_of[visit] = node
    if spec.promised is not None or net.tied[visit]:
        net.lo[node] = net.hi[node] = net.static_lo[node] = net.static_hi[node] = start
    return node
