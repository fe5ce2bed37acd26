"""Where does a visit fit best? The cheapest place in each lane, remembered until the lane changes.

A place costs `scale * change of tier 1 + change of tier 2`. Most places are judged by the lanes' labels alone; only
where something would be late is the lane scheduled with the visit in it.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from msp.dispatch.network import FAR
from msp.dispatch.schedule import opening, schedule
from msp.dispatch.solution import Solution
from msp.dispatch.stock import allot

NEVER = float("inf")


class Place(NamedTuple):
    """One way to plan a visit. `orders`: per lane its new order of stops and, for a crew of two, the parts brought."""

    price: float
    tier1: float
    tier2: float
    node: int
    orders: tuple[tuple[int, list[int], dict[str, int] | None], ...]
    start: int = -1  # common start of a crew of two


def in_lane(
    solution: Solution, node: int, lane: int, ceiling: float = NEVER, low: int = 0, high: int = FAR
) -> tuple[float, float, float, int] | None:
    """Return (price, tier 1, tier 2, position) of the cheapest position in a lane below `ceiling`, or None."""
    found = positions(solution, node, lane, ceiling, low, high, best_only=True)
    return found[-1] if found else None


def positions(
    solution: Solution,
    node: int,
    lane: int,
    ceiling: float = NEVER,
    low: int = 0,
    high: int = FAR,
    *,
    best_only: bool = False,
) -> list[tuple[float, float, float, int]]:
    """Return (price, tier 1, tier 2, position) of every position of a lane that works.

    best_only: each entry is cheaper than the one before, and the last is the cheapest.
    """
    net = solution.net
    route = solution.lanes[lane]
    seq, timing = route.seq, route.timing
    ahead, rested, by, by_rested = route.ahead, route.ahead_rested, route.by, route.by_rested
    soft, soft_rested, widest = route.soft, route.soft_rested, route.widest
    table, loc, rest = net.table, net.loc, net.rest[lane]
    place, length = loc[node], net.dur[node]
    open_, close, wins = net.lo[node], net.hi[node], net.wins[node]
    dead, own = net.dead[node], net.cost[node]
    scale, w_travel, w_wait = solution.scale, solution.w_travel, solution.w_wait
    room = net.room[lane] - timing.travel
    past = net.past[lane]
    first = not seq and not past.stops
    out = table[place]
    size = len(seq)
    least = open_ + length
    found: list[tuple[float, float, float, int]] = []
    pause, earliest, latest = rest if rest is not None else (0, 0, 0)
    here = past.place
    old_travel = timing.travel
    for i in range(low, (min(high, size)) + 1):
        t = ahead[i]
        if t > close:
            break
        if widest[i] < least:
            continue
        if i:
            here = loc[seq[i - 1]]
        there = loc[seq[i]] if i < size else net.dest[lane]
        to, on = table[here][place], out[there]
        extra = to + on - table[here][there]
        if extra > room:
            continue
        d2 = w_travel * (extra + old_travel if first else extra)
        if w_wait:  # against what is waited now before the next stop; what comes after that is not looked at
            d2 += w_wait * _waited(solution, lane, i, node, t, to, on)
        if scale * own + d2 >= ceiling and timing.cost == 0:
            continue
        a = t + to
        if a < open_:
            a = open_
        if wins is not None:
            a = opening(wins, a)
        if a > close:
            continue
        a += length
        b = FAR
        late = own
        if rest is None:
            if a + on > by[i]:
                continue
            fine = a <= dead and a + on <= soft[i]
        else:
            b = rested[i] + to
            if t <= latest:
                c = (max(earliest, t + to)) + pause
                if c < b:
                    b = c
            if b < open_:
                b = open_
            if wins is not None:
                b = opening(wins, b)
            b = b + length if b <= close else FAR
            after = (max(earliest, a + on)) + pause if a <= latest else FAR
            if a + on > by[i] and after > by_rested[i] and b + on > by_rested[i]:
                continue
            fine = (a <= dead and (a + on <= soft[i] or after <= soft_rested[i])) or (
                b <= dead and b + on <= soft_rested[i]
            )
        if fine and not timing.over:
            price = scale * late + d2
            if price < ceiling:
                found.append((price, late, d2, i))
                if best_only:
                    ceiling = price
            continue
        if (
            timing.cost == 0
            and a > dead
            and scale * (own + net.fixed[node] + net.per_min[node] * (a - dead)) + d2 >= ceiling
        ):
            continue
        trial = schedule(net, lane, [*seq[:i], node, *seq[i:]])
        if trial is None:
            continue
        late = trial.cost - timing.cost
        d2 += solution.w_over * (trial.over - (0 if first else timing.over))
        price = scale * late + d2
        if price < ceiling:
            found.append((price, late, d2, i))
            if best_only:
                ceiling = price
    return found


def _waited(solution: Solution, lane: int, at: int, node: int, leave: int, to: int, on: int) -> int:
    """Return how many more minutes are waited around a visit that comes before stop number `at`, about."""
    net, route = solution.net, solution.lanes[lane]
    seq, starts = route.seq, route.timing.starts
    begin = max(leave + to, net.lo[node])
    if at == len(seq):
        return begin - leave - to if at else 0
    due, over = starts[at], on + net.dur[node]
    if not at:  # the technician leaves later
        return max(0, due - over - max(begin, min(net.hi[node], due - over)))
    before: int = due - leave - net.table[net.loc[seq[at - 1]]][net.loc[seq[at]]]
    return begin - leave - to + max(0, due - begin - over) - max(0, before)


def cheapest(
    solution: Solution, visit: int, blink: Callable[[], float] | None = None, rate: float = 0.01
) -> Place | None:
    """Return the best place of an absent visit, or None if it has none.

    blink: a source of random numbers; a lane is overlooked at `rate`, which lets the search leave ruts.
    """
    net = solution.net
    if any(solution.where[other] < 0 for other in net.after[visit]):
        return None
    found = _cheapest(solution, visit, visit, blink, rate)
    other = net.alt[visit]
    if other >= 0 and (found is None or found.tier1 >= net.cost[other]):
        outside = _cheapest(solution, visit, other, blink, rate)
        if outside is not None and (found is None or outside.price < found.price):
            found = outside
    return found


def _cheapest(
    solution: Solution, visit: int, node: int, blink: Callable[[], float] | None, rate: float
) -> Place | None:
    from msp.dispatch.crew import cheapest_pair
    from msp.dispatch.supply import cheapest_supplied

    net = solution.net
    if net.static_lo[node] > net.static_hi[node]:
        return None
    if net.problem.visits[visit].crew == 2:
        return cheapest_pair(solution, visit, node, blink, rate)
    lanes: Iterable[int] = net.compatible[visit]
    if net.parts[visit]:
        return cheapest_supplied(solution, visit, node, blink, rate)
    if net.tied[visit]:
        return _cheapest_tied(solution, visit, node, blink, rate)
    cache, routes = solution.cache[node], solution.lanes
    home, change, tech = solution.home[visit], solution.w_change, net.tech
    change = change if home is not None else 0
    best, best_lane, position = NEVER, -1, -1
    d1 = d2 = 0.0
    for lane in lanes:
        if blink is not None and blink() < rate:
            continue
        key = routes[lane].key
        entry = cache.get(lane)
        if entry is None or entry[0] != key:
            entry = remember(solution, node, lane)
        price = entry[1]
        if price < best:
            if change and home is not None and home != {tech[lane]}:
                price += change
                if price >= best:
                    continue
            best, d1, d2, position, best_lane = price, entry[2], entry[3] + price - entry[1], entry[4], lane
    if best_lane < 0:
        return None
    seq = routes[best_lane].seq
    return Place(best, d1, d2, node, ((best_lane, [*seq[:position], node, *seq[position:]], None),))


def remember(solution: Solution, node: int, lane: int) -> tuple[int, float, float, float, int]:
    """Return (key of the lane, price, tier 1, tier 2, position) of a node's best place in a lane, kept for later."""
    key = solution.lanes[lane].key
    entry = solution.cache[node].get(lane)
    if entry is None or entry[0] != key:
        here = in_lane(solution, node, lane)
        entry = (key, *here) if here is not None else (key, NEVER, 0.0, 0.0, -1)
        solution.cache[node][lane] = entry
    return entry


def limits(solution: Solution, visit: int, lane: int) -> tuple[int, int]:
    """Return the positions in a lane between which precedence allows a visit."""
    net = solution.net
    seq = solution.lanes[lane].seq
    low, high = 0, len(seq)
    for other in net.after[visit]:
        if lane in (solution.where[other], solution.second[other]) and solution.node_of[other] in seq:
            low = max(low, seq.index(solution.node_of[other]) + 1)
    for other in net.before[visit]:
        if lane in (solution.where[other], solution.second[other]) and solution.node_of[other] in seq:
            high = min(high, seq.index(solution.node_of[other]))
    return low, high


def change_for(solution: Solution, visit: int, lane: int) -> float:
    home = solution.home[visit]
    return solution.w_change if home is not None and home != {solution.net.tech[lane]} else 0


def _cheapest_tied(
    solution: Solution, visit: int, node: int, blink: Callable[[], float] | None, rate: float
) -> Place | None:
    """As above for a visit with predecessors or successors: its bounds depend on the lane."""
    net = solution.net
    best: Place | None = None
    kept = net.lo[node], net.hi[node]
    for lane in net.compatible[visit]:
        if blink is not None and blink() < rate:
            continue
        net.lo[node], net.hi[node] = solution.bounds(visit, node, (lane,))
        if net.lo[node] > net.hi[node]:
            continue
        low, high = limits(solution, visit, lane)
        extra = change_for(solution, visit, lane)
        ceiling = best.price - extra if best is not None else NEVER
        here = in_lane(solution, node, lane, ceiling, low, high)
        if here is not None:
            seq = solution.lanes[lane].seq
            order = [*seq[: here[3]], node, *seq[here[3] :]]
            best = Place(here[0] + extra, here[1], here[2] + extra, node, ((lane, order, None),))
    net.lo[node], net.hi[node] = kept
    return best


def enough(solution: Solution, lane: int, order: list[int]) -> bool:
    """Return whether the technician's parts last with this order of stops in a lane."""
    return allot(solution, solution.net.tech[lane], {lane: order}) is not None


def put_in(solution: Solution, visit: int, place: Place) -> bool:
    """Plan an absent visit at a place found for it; on False the state is as before."""
    mark = solution.mark()
    if solution.net.problem.visits[visit].crew == 2:
        sides = [(lane, list(order), goods or {}) for lane, order, goods in place.orders]
        done = solution.place_crew(visit, place.node, place.start, sides)
    else:
        lane, order, _ = place.orders[0]
        done = solution.place(visit, place.node, lane, list(order))
    if not done:
        solution.undo(mark)
    return done
