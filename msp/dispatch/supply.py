"""Places for a visit that needs parts: from the van, or with a depot stop on the way."""

from collections.abc import Callable, Iterable

from msp.dispatch.insertion import NEVER, Place, change_for, enough, limits, positions, remember
from msp.dispatch.schedule import schedule
from msp.dispatch.solution import Solution

DETOURS = 6  # lanes in which a new depot stop is tried, nearest first


def cheapest_supplied(
    solution: Solution, visit: int, node: int, blink: Callable[[], float] | None, rate: float
) -> Place | None:
    """Return the best place of a visit of one technician that needs parts, or None."""
    net = solution.net
    if net.tied[visit]:
        return _cheapest_slowly(solution, visit, node, net.compatible[visit], blink, rate)
    parts, depots = net.parts[visit], bool(net.problem.depots)
    best: Place | None = None
    slow: list[int] = []  # lanes of technicians who stop at a depot: parts depend on the order
    bare: list[tuple[float, int]] = []
    price, best_lane, at, best1, best2 = NEVER, -1, -1, 0.0, 0.0
    routes, cache, tech, allotted = solution.lanes, solution.cache[node], net.tech, solution.allotted
    for lane in net.compatible[visit]:
        if blink is not None and blink() < rate:
            continue
        spare = allotted[tech[lane]].spare
        if spare is None:
            slow.append(lane)
            continue
        entry = cache.get(lane)
        if entry is None or entry[0] != routes[lane].key:
            entry = remember(solution, node, lane)
        if entry[1] >= price:
            continue
        extra = change_for(solution, visit, lane)
        for part, quantity in parts.items():
            if spare.get(part, 0) < quantity:
                if depots:
                    bare.append((entry[1] + extra, lane))
                break
        else:
            if entry[1] + extra < price:
                price, best_lane, at, best1, best2 = entry[1] + extra, lane, entry[4], entry[2], entry[3] + extra
    if best_lane >= 0:
        seq = routes[best_lane].seq
        best = Place(price, best1, best2, node, ((best_lane, [*seq[:at], node, *seq[at:]], None),))
    if slow:
        other = _cheapest_slowly(solution, visit, node, slow, None, 0, price)
        if other is not None and other.price < price:
            best, price = other, other.price
    bare.sort()
    for estimate, lane in bare[:DETOURS]:
        if estimate >= price:
            break
        found = _remembered(solution, node, lane, False, 0, 0)
        detour = _with_depot(solution, node, lane, found, price, change_for(solution, visit, lane))
        if detour is not None:
            best, price = detour, detour.price
    return best


def _cheapest_slowly(
    solution: Solution,
    visit: int,
    node: int,
    lanes: Iterable[int],
    blink: Callable[[], float] | None,
    rate: float,
    ceiling: float = NEVER,
) -> Place | None:
    """The same, position by position: for visits tied to others, and where a depot stop is on the way."""
    net = solution.net
    tied = net.tied[visit]
    kept = net.lo[node], net.hi[node]
    best: Place | None = None
    bare: list[tuple[float, int, list[tuple[float, float, float, int]]]] = []  # lanes whose van lacks the parts
    for lane in lanes:
        if blink is not None and blink() < rate:
            continue
        low, high = 0, len(solution.lanes[lane].seq)
        if tied:
            net.lo[node], net.hi[node] = solution.bounds(visit, node, (lane,))
            low, high = limits(solution, visit, lane)
            if net.lo[node] > net.hi[node]:
                continue
        extra = change_for(solution, visit, lane)
        most = (best.price if best is not None else ceiling) - extra
        found = sorted(_remembered(solution, node, lane, tied, low, high))
        seq = solution.lanes[lane].seq
        for price, tier1, tier2, at in found:
            if price >= most:
                break
            order = [*seq[:at], node, *seq[at:]]
            if enough(solution, lane, order):
                best = Place(price + extra, tier1, tier2 + extra, node, ((lane, order, None),))
                break
        else:
            if found:
                bare.append((found[0][0] + extra, lane, found))
    bare.sort()
    for price, lane, found in bare[:DETOURS]:
        most = best.price if best is not None else ceiling
        if price >= most:
            break
        if tied:
            net.lo[node], net.hi[node] = solution.bounds(visit, node, (lane,))
        best = _with_depot(solution, node, lane, found, most, change_for(solution, visit, lane)) or best
    net.lo[node], net.hi[node] = kept
    return best


def _remembered(
    solution: Solution, node: int, lane: int, tied: bool, low: int, high: int
) -> list[tuple[float, float, float, int]]:
    """Return the positions that work in time, from memory while the lane has not changed."""
    if tied:
        return positions(solution, node, lane, NEVER, low, high)
    key = solution.lanes[lane].key
    entry = solution.places.get((node, lane))
    if entry is None or entry[0] != key:
        entry = (key, positions(solution, node, lane))
        solution.places[node, lane] = entry
    return entry[1]


def _with_depot(
    solution: Solution,
    node: int,
    lane: int,
    found: list[tuple[float, float, float, int]],
    ceiling: float,
    extra: float,
) -> Place | None:
    """Return the best place in a lane with one new depot stop somewhere before the visit."""
    net = solution.net
    visit = net.visit[node]
    route = solution.lanes[lane]
    seq, old = route.seq, route.timing
    base_over = old.over if seq or net.past[lane].stops else 0
    base_travel = old.travel if seq or net.past[lane].stops else 0
    trials: list[tuple[float, int, float, float, list[int]]] = []
    for price, _, _, at in found:
        if price + extra >= ceiling:
            continue
        for number in range(len(net.problem.depots)):
            if not any(solution.left.get((number, part), 0) > 0 for part in net.parts[visit]):
                continue
            stop = net.first_depot + number
            for before in range(at + 1):
                order = [*seq[:before], stop, *seq[before:at], node, *seq[at:]]
                timing = schedule(net, lane, order)
                if timing is None:
                    continue
                tier1 = timing.cost - old.cost
                tier2 = solution.w_travel * (timing.travel - base_travel) + solution.w_over * (timing.over - base_over)
                full = solution.scale * tier1 + tier2 + extra
                if full < ceiling:
                    trials.append((full, len(trials), tier1, tier2 + extra, order))
    trials.sort()
    for full, _, tier1, tier2, order in trials[:12]:
        if enough(solution, lane, order):
            return Place(full, tier1, tier2, node, ((lane, order, None),))
    return None
