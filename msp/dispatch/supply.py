"""Places for a visit that needs parts: from the van, or with a depot stop on the way."""

from collections.abc import Callable

from msp.dispatch.insertion import NEVER, Place, change_for, enough, limits, positions
from msp.dispatch.schedule import schedule
from msp.dispatch.solution import Solution

DETOURS = 6  # lanes in which a new depot stop is tried, nearest first


def cheapest_supplied(
    solution: Solution, visit: int, node: int, blink: Callable[[], float] | None, rate: float
) -> Place | None:
    """Return the best place of a visit of one technician that needs parts, or None."""
    net = solution.net
    tied = net.tied[visit]
    kept = net.lo[node], net.hi[node]
    best: Place | None = None
    bare: list[tuple[float, int, list[tuple[float, float, float, int]]]] = []  # lanes whose van lacks the parts
    for lane in net.compatible[visit]:
        if blink is not None and blink() < rate:
            continue
        low, high = 0, len(solution.lanes[lane].seq)
        if tied:
            net.lo[node], net.hi[node] = solution.bounds(visit, node, (lane,))
            low, high = limits(solution, visit, lane)
            if net.lo[node] > net.hi[node]:
                continue
        extra = change_for(solution, visit, lane)
        ceiling = best.price - extra if best is not None else NEVER
        found = sorted(_remembered(solution, node, lane, tied, low, high))
        seq = solution.lanes[lane].seq
        for price, tier1, tier2, at in found:
            if price >= ceiling:
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
        if best is not None and price >= best.price:
            break
        if tied:
            net.lo[node], net.hi[node] = solution.bounds(visit, node, (lane,))
        detour = _with_depot(
            solution, node, lane, found, best.price if best else NEVER, change_for(solution, visit, lane)
        )
        best = detour or best
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
        for number, depot in enumerate(net.problem.depots):
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
            del depot
    trials.sort()
    for full, _, tier1, tier2, order in trials[:12]:
        if enough(solution, lane, order):
            return Place(full, tier1, tier2, node, ((lane, order, None),))
    return None
