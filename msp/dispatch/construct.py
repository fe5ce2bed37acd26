"""A first plan: pins, then the plan in force as far as it still holds, then cheapest insertion."""

from collections.abc import Callable, Iterable

from msp.dispatch.crew import bring
from msp.dispatch.insertion import cheapest, put_in
from msp.dispatch.schedule import schedule
from msp.dispatch.solution import Solution
from msp.errors import Misconfigured

SLACK = 1e-9


def start_plan(solution: Solution, expired: Callable[[], bool]) -> None:
    """Plan what is pinned and what the plan in force already says. Raises Misconfigured if the pins cannot hold."""
    _pins(solution)
    if solution.net.problem.incumbent:
        _incumbent(solution, expired)
    solution.forget()


def insert(
    solution: Solution,
    visits: Iterable[int],
    expired: Callable[[], bool],
    blink: Callable[[], float] | None = None,
    rate: float = 0.01,
) -> None:
    """Plan absent visits one by one, each in its cheapest place, if that costs less than leaving it out.

    A visit waits for its predecessors among `visits`; expired: asked before each visit.
    """
    net = solution.net
    queue = list(visits)
    waiting = set(queue)
    while queue:
        later: list[int] = []
        progress = False
        for visit in queue:
            if expired():
                return
            if net.after[visit] and any(other in waiting and solution.where[other] < 0 for other in net.after[visit]):
                later.append(visit)
                continue
            progress = True
            waiting.discard(visit)
            place = cheapest(solution, visit, blink, rate)
            if place is not None and place.tier1 < worth(solution, visit) - SLACK:
                put_in(solution, visit, place)
        if not progress:
            return
        queue = later


def worth(solution: Solution, visit: int) -> float:
    """Return the drop costs at stake: the visit's own and those of all that must come after it."""
    net = solution.net
    if not net.before[visit]:
        return net.drop[visit] + solution.longing[visit]
    seen, stack = {visit}, [visit]
    while stack:
        for other in net.before[stack.pop()]:
            if other not in seen:
                seen.add(other)
                stack.append(other)
    if any(net.problem.visits[other].pin for other in seen):
        return float("inf")
    return sum(net.drop[other] + solution.longing[other] for other in seen)


def by_difficulty(solution: Solution) -> list[int]:
    """Return absent visits, hardest first: bound to a pin, costly to drop, few lanes, a narrow window."""
    net = solution.net

    def key(visit: int) -> tuple[float, ...]:
        node = visit if net.alt[visit] < 0 else net.alt[visit]
        need = len(net.compatible[visit])
        crew = net.problem.visits[visit].crew
        return (
            -(worth(solution, visit) == float("inf")),
            -crew,
            need * (net.hi[node] - net.lo[node] + 60) / (net.drop[visit] + 1),
            visit,
        )

    return sorted(solution.absent, key=key)


def _pins(solution: Solution) -> None:
    net, problem = solution.net, solution.net.problem
    lanes = [lane for lane in range(len(net.tech)) if net.pins[lane]]
    for lane in lanes:
        for visit in net.pins[lane]:
            solution.enter(visit, lane)
    old = problem.incumbent
    for visit, spec in enumerate(problem.visits):
        if spec.pin is None or spec.crew == 1 or solution.where[visit] < 0:
            continue
        sides = [solution.where[visit], solution.second[visit]]
        brought = None
        if old:
            by_tech = {
                route.tech: dict(stop.goods or {})
                for route in old.routes
                for stop in route.stops
                if stop.kind == "visit" and stop.ref == spec.id
            }
            names = [problem.technicians[net.tech[lane]].id for lane in sides]
            if all(name in by_tech for name in names):
                brought = [by_tech[name] for name in names]
                for part, quantity in spec.parts.items():
                    if sum(goods.get(part, 0) for goods in brought) < quantity:
                        brought = None
                        break
        if visit in solution.past_start:
            if brought is None and not any(solution.brings.get((visit, lane)) for lane in sides):
                brought = [dict(spec.parts), {}]
        elif brought is None:
            brought = bring(solution, visit, [(lane, list(net.pins[lane])) for lane in sides]) or [dict(spec.parts), {}]
        if brought is not None:
            for lane, goods in zip(sides, brought, strict=True):
                solution.put(solution.brings, (visit, lane), goods)
                for stop_at, (kind, node, start, _) in enumerate(net.past[lane].stops):
                    if kind == "visit" and node == visit:
                        net.past[lane].stops[stop_at] = (kind, node, start, goods)
    for lane in lanes:
        if not _commit_with_depots(solution, lane, list(net.pins[lane])):
            pinned = ", ".join(problem.visits[visit].id for visit in net.pins[lane])
            raise Misconfigured(
                f"The pins of {problem.technicians[net.tech[lane]].id} in shift {net.shift[lane]} cannot hold "
                f"together: {pinned}.",
                advice="Look at the way between them, the break, the end of the shift and the parts in the van.",
            )


def _commit_with_depots(solution: Solution, lane: int, order: list[int]) -> bool:
    """Commit an order of pinned stops, with one depot stop before some of them if the van needs it."""
    net = solution.net
    mark = solution.mark()
    trials = [order]
    for number in range(len(net.problem.depots)):
        trials += [[*order[:at], net.first_depot + number, *order[at:]] for at in range(len(order))]
    for trial in trials:
        if schedule(net, lane, trial) is not None and solution.commit(lane, list(trial)):
            return True
        solution.undo(mark)
    return False


def _incumbent(solution: Solution, expired: Callable[[], bool]) -> None:
    """Put the visits of the plan in force back where they were, by time; what no longer fits stays absent."""
    net, problem = solution.net, solution.net.problem
    in_force = problem.incumbent.routes if problem.incumbent else ()
    ids = {visit.id: at for at, visit in enumerate(problem.visits)}
    lanes = {(problem.technicians[net.tech[lane]].id, net.shift[lane]): lane for lane in range(len(net.tech))}
    found: dict[int, list[tuple[int, dict[str, int]]]] = {}
    starts: dict[int, int] = {}
    for route in in_force:
        lane = lanes.get((route.tech, route.shift), -1)
        for stop in route.stops:
            visit = ids.get(stop.ref, -1) if stop.kind == "visit" else -1
            if visit >= 0 and lane >= 0 and solution.where[visit] < 0 and lane in net.compatible[visit]:
                found.setdefault(visit, []).append((lane, dict(stop.goods or {})))
                starts[visit] = stop.start
    depots: dict[int, list[tuple[int, int]]] = {}
    names = {depot.id: net.first_depot + at for at, depot in enumerate(problem.depots)}
    for route in in_force:
        lane = lanes.get((route.tech, route.shift), -1)
        for stop in route.stops:
            if stop.kind == "depot" and stop.start >= problem.now and stop.ref in names and lane >= 0:
                depots.setdefault(lane, []).append((stop.start, names[stop.ref]))
    order = sorted(found, key=lambda visit: (starts[visit], visit))
    for visit in order:
        if expired():
            return
        spec = problem.visits[visit]
        if any(solution.where[other] < 0 for other in spec.after):
            continue
        nodes = [visit] if net.alt[visit] < 0 else [visit, net.alt[visit]]
        for node in nodes:
            if net.static_lo[node] > net.static_hi[node]:
                continue
            mark = solution.mark()
            if spec.crew == 1:
                lane = found[visit][0][0]
                here = _by_start(solution, lane, visit, node, starts)
                if solution.place(visit, node, lane, list(here)):
                    break
                solution.undo(mark)
                done = False
                for start, depot in depots.get(lane, []):  # the parts came from a depot on the way
                    if start <= starts[visit]:
                        at = here.index(node)
                        if solution.place(visit, node, lane, [*here[:at], depot, *here[at:]]):
                            done = True
                            break
                        solution.undo(mark)
                if done:
                    break
            elif len(found[visit]) == 2:
                start = starts[visit]
                if not net.static_lo[node] <= start <= net.static_hi[node]:
                    continue
                sides = [(lane, _by_start(solution, lane, visit, node, starts), goods) for lane, goods in found[visit]]
                if _opens(net.wins[node], start) and solution.place_crew(visit, node, start, sides):
                    break
                solution.undo(mark)


def _opens(windows: tuple[tuple[int, int], ...] | None, start: int) -> bool:
    return windows is None or any(a <= start <= b for a, b in windows)


def _by_start(solution: Solution, lane: int, visit: int, node: int, starts: dict[int, int]) -> list[int]:
    """Return the lane's stops with a visit put where its old start puts it."""
    net = solution.net
    seq = solution.lanes[lane].seq
    times = solution.lanes[lane].timing.starts
    at = len(seq)
    while at and starts.get(net.visit[seq[at - 1]], times[at - 1]) > starts[visit]:
        at -= 1
    return [*seq[:at], node, *seq[at:]]
