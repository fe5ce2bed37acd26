"""Places for a visit of two technicians: two lanes, one common start, every skill had by one of them."""

from collections.abc import Callable

from msp.dispatch.insertion import Place, enough, limits
from msp.dispatch.schedule import closing, opening, schedule
from msp.dispatch.solution import Solution

LANES = 40  # lanes that are paired, cheapest first
TRIALS = 8  # pairs that are scheduled exactly, cheapest estimate first
Chance = tuple[int, int, int, int]  # added travel, earliest start, latest start, position


def chances(solution: Solution, node: int, lane: int, low: int, high: int) -> list[Chance]:
    """Return for every position of a lane the span of starts that its labels allow."""
    net = solution.net
    route = solution.lanes[lane]
    seq, rest = route.seq, net.rest[lane]
    table, loc, length, wins = net.table, net.loc, net.dur[node], net.wins[node]
    room = net.room[lane] - route.timing.travel
    empty = not seq and not net.past[lane].stops
    found = []
    for i in range(low, min(len(seq), high) + 1):
        here = loc[seq[i - 1]] if i else net.past[lane].place
        there = loc[seq[i]] if i < len(seq) else net.dest[lane]
        to, on = table[here][loc[node]], table[loc[node]][there]
        extra = to + on - table[here][there]
        if extra > room:
            continue
        first = max(route.ahead[i] + to, net.lo[node])
        last = route.by[i] - on
        if rest is not None:
            pause, earliest, latest = rest
            if route.by_rested[i] >= earliest + pause:
                last = max(last, min(latest, route.by_rested[i] - on - pause))
            if min(route.ahead_rested[i], max(route.ahead[i], earliest) + pause) + to <= net.hi[node]:
                last = max(last, route.by_rested[i] - on)
        last = min(last - length, net.hi[node])
        if wins is not None:
            first, last = opening(wins, first), closing(wins, last)
        if first <= last:
            found.append((extra + route.timing.travel if empty else extra, first, last, i))
    return found


def cheapest_pair(
    solution: Solution, visit: int, node: int, blink: Callable[[], float] | None, rate: float
) -> Place | None:
    """Return the best pair of places for a crew of two, or None. The pair is scheduled exactly before it counts."""
    net = solution.net
    masks = net.covers[visit]
    full = (1 << len(net.problem.visits[visit].skills)) - 1
    kept = net.lo[node], net.hi[node]
    net.lo[node], net.hi[node] = solution.bounds(visit, node, (-2, -2))
    best: Place | None = None
    memory = solution.chances.setdefault(node, {})
    ordered = bool(net.after[visit] or net.before[visit])  # bounds move with others: nothing to remember
    if net.lo[node] <= net.hi[node]:
        sides: list[tuple[float, int, list[Chance]]] = []
        for lane in net.compatible[visit]:
            if blink is not None and blink() < rate:
                continue
            key = solution.lanes[lane].key
            entry = memory.get(lane)
            if entry is None or entry[0] != key or ordered:
                found = chances(solution, node, lane, *limits(solution, visit, lane))
                worth = min((_estimate(solution, node, extra, first) for extra, first, _, _ in found), default=0.0)
                entry = memory[lane] = (key, worth, found)
            if entry[2]:
                sides.append((entry[1], lane, entry[2]))
        sides.sort(key=lambda side: side[:2])
        best = _best_pair(solution, visit, node, sides[:LANES], masks, full)
        if best is None and len(sides) > LANES:
            best = _best_pair(solution, visit, node, sides, masks, full)
    net.lo[node], net.hi[node] = kept
    return best


def _estimate(solution: Solution, node: int, extra: int, start: int) -> float:
    net = solution.net
    end = start + net.dur[node]
    late = net.fixed[node] + net.per_min[node] * (end - net.dead[node]) if end > net.dead[node] else 0
    return solution.w_travel * extra + solution.scale * late


def _best_pair(
    solution: Solution,
    visit: int,
    node: int,
    sides: list[tuple[float, int, list[Chance]]],
    masks: list[int],
    full: int,
) -> Place | None:
    net = solution.net
    wins = net.wins[node]
    found: list[tuple[float, int, int, int, int, int]] = []
    limit = float("inf")
    for rank, (worth, lane, mine) in enumerate(sides):
        for other_worth, other, theirs in sides[rank + 1 :]:
            if max(worth, other_worth) >= limit:
                break
            who, mate = net.tech[lane], net.tech[other]
            if who == mate or masks[who] | masks[mate] != full:
                continue
            for extra, first, last, at in mine:
                for more, begin, end, there in theirs:
                    start = max(begin, first)
                    if wins is not None:
                        start = opening(wins, start)
                    if start > last or start > end:
                        continue
                    price = _estimate(solution, node, extra + more, start)
                    if price < limit:
                        found.append((price, start, lane, at, other, there))
        if len(found) >= TRIALS:
            found.sort()
            del found[4 * TRIALS :]
            limit = found[min(len(found), 2 * TRIALS) - 1][0]
    best: Place | None = None
    found.sort()
    tried = 0
    for price, start, lane, at, other, there in found:
        if tried >= TRIALS or (best is not None and price >= best.price):
            break
        place = _exact(solution, visit, node, start, lane, at, other, there)
        tried += place is not None
        if place is not None and (best is None or place.price < best.price):
            best = place
    return best


def _exact(
    solution: Solution, visit: int, node: int, start: int, lane: int, at: int, other: int, there: int
) -> Place | None:
    net = solution.net
    kept = net.lo[node], net.hi[node]
    net.lo[node] = net.hi[node] = start
    tier1 = tier2 = 0.0
    orders = []
    for here, position in ((lane, at), (other, there)):
        route = solution.lanes[here]
        order = [*route.seq[:position], node, *route.seq[position:]]
        timing = schedule(net, here, order)
        if timing is None:
            break
        driven = bool(route.seq or net.past[here].stops)
        tier1 += timing.cost - route.timing.cost
        tier2 += solution.w_travel * (timing.travel - (route.timing.travel if driven else 0))
        tier2 += solution.w_over * (timing.over - (route.timing.over if driven else 0))
        orders.append((here, order))
    net.lo[node], net.hi[node] = kept
    if len(orders) < 2:
        return None
    end = start + net.dur[node]
    tier1 -= net.cost[node]  # both sides counted what happens once
    if end > net.dead[node]:
        tier1 -= net.fixed[node] + net.per_min[node] * (end - net.dead[node])
    home = solution.home[visit]
    if home is not None and home != {net.tech[lane], net.tech[other]}:
        tier2 += solution.w_change
    goods = bring(solution, visit, orders)
    if goods is None:
        return None
    price = solution.scale * tier1 + tier2
    sides = tuple((here, order, brought) for (here, order), brought in zip(orders, goods, strict=True))
    return Place(price, tier1, tier2, node, sides, start)


def bring(solution: Solution, visit: int, orders: list[tuple[int, list[int]]]) -> list[dict[str, int]] | None:
    """Return who of the two brings which parts, or None if their vans do not hold them."""
    parts = solution.net.parts[visit]
    if not parts:
        return [{}, {}]
    options = [[dict(parts), {}], [{}, dict(parts)], _split(solution, visit, orders)]
    for option in options:
        kept = {}
        for (lane, _), goods in zip(orders, option, strict=True):
            kept[lane] = solution.brings.get((visit, lane))
            solution.brings[visit, lane] = goods
        good = all(enough(solution, lane, order) for lane, order in orders)
        for lane, before in kept.items():
            if before is None:
                del solution.brings[visit, lane]
            else:
                solution.brings[visit, lane] = before
        if good:
            return option
    return None


def _split(solution: Solution, visit: int, orders: list[tuple[int, list[int]]]) -> list[dict[str, int]]:
    """Let the first bring what is left in the van at the end of the horizon, the second the rest."""
    net = solution.net
    first: dict[str, int] = {}
    second: dict[str, int] = {}
    lane = orders[0][0]
    who = net.tech[lane]
    for part, quantity in net.parts[visit].items():
        used = sum(
            solution.uses(net.visit[node], here).get(part, 0)
            for here in net.lanes_of[who]
            for node in solution.lanes[here].seq
            if node < net.first_depot
        )
        some = max(0, min(quantity, net.problem.technicians[who].stock.get(part, 0) - used))
        first[part], second[part] = some, quantity - some
    return [{p: q for p, q in first.items() if q}, {p: q for p, q in second.items() if q}]
