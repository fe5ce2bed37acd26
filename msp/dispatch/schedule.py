"""The exact schedule of one route: when each stop starts, and where the break goes. Pure.

Every stop starts as early as the stops before it allow; with costs that only grow with time this is best for a
given order and a given place of the break, so the break is tried in each gap that can be best. Beside the times
a route keeps *labels*: the earliest end of each stop and the latest arrival at it that still lets the rest of the
route work, each with the break still to come and already taken. They answer "does this visit fit here" at once.
"""

from typing import Any, NamedTuple

from msp.dispatch.network import FAR, Network


class Timing(NamedTuple):
    """Times of one order of stops. rest_at: the break comes before stop number `rest_at`; -1: no break."""

    cost: float  # lateness and broken promises
    travel: int
    over: int  # minutes of overtime
    starts: list[int]
    rest_at: int
    rest_start: int
    finish: int


class Lane:
    """A route with its timing and labels; never changed once made, so that undoing is putting the old one back."""

    __slots__ = (
        "ahead", "ahead_rested", "by", "by_rested", "key", "seq", "soft", "soft_rested", "timing", "waiting", "widest",
    )  # fmt: skip

    def __init__(self, seq: list[int], timing: Timing, labels: tuple[Any, ...], key: int, waiting: int = 0) -> None:
        self.seq, self.timing, self.key, self.waiting = seq, timing, key, waiting
        self.ahead, self.ahead_rested, self.by, self.by_rested, self.widest, self.soft, self.soft_rested = labels


def schedule(net: Network, lane: int, seq: list[int]) -> Timing | None:
    """Return the best timing of this order of nodes in a lane, or None if it cannot be driven."""
    table, loc, dur, lo, hi, wins = net.table, net.loc, net.dur, net.lo, net.hi, net.wins
    dead, costs = net.dead, net.cost
    past = net.past[lane]
    leave = past.base if seq else past.end
    row, t, travel, cost = table[past.place], leave, 0, 0.0
    starts = []
    for n in seq:
        minutes = row[loc[n]]
        travel += minutes
        t += minutes
        if t < lo[n]:
            t = lo[n]
        if wins[n] is not None:
            t = opening(wins[n], t)
        if t > hi[n]:
            return None
        starts.append(t)
        t += dur[n]
        cost += costs[n]
        if t > dead[n]:
            cost += net.fixed[n] + net.per_min[n] * (t - dead[n])
        row = table[loc[n]]
    minutes = row[net.dest[lane]]
    travel += minutes
    if travel > net.room[lane]:
        return None
    finish = t + minutes
    limit = net.max_finish[lane]
    if finish > limit:
        return None
    end = net.end[lane]
    rest = net.rest[lane]
    if rest is None or finish <= rest[2]:
        return Timing(cost, travel, finish - end if finish > end else 0, starts, -1, -1, finish)
    length, earliest, latest = rest
    best: Timing | None = None
    prefix = 0.0
    for gap in range(len(seq) + 1):
        if gap:
            n = seq[gap - 1]
            leave = starts[gap - 1] + dur[n]
            prefix += costs[n]
            if leave > dead[n]:
                prefix += net.fixed[n] + net.per_min[n] * (leave - dead[n])
        if leave > latest:
            break
        if gap < len(seq) and starts[gap] + dur[seq[gap]] <= earliest:
            continue  # the next stop is over before the break may begin: a later gap is as good
        found = _with_break(net, lane, seq, starts, gap, leave, prefix, travel, (length, earliest, limit, end))
        if found is not None and (best is None or (found.cost, found.over) < (best.cost, best.over)):
            best = found
    return best


def _with_break(
    net: Network,
    lane: int,
    seq: list[int],
    starts: list[int],
    gap: int,
    leave: int,
    cost: float,
    travel: int,
    limits: tuple[int, int, int, int],
) -> Timing | None:
    """Return the timing with the break taken in this gap, whose first stop can be left at `leave`."""
    length, earliest, limit, end = limits
    table, loc, dur, lo, hi, wins, dead = net.table, net.loc, net.dur, net.lo, net.hi, net.wins, net.dead
    begin = max(earliest, leave)
    row = table[loc[seq[gap - 1]]] if gap else table[net.past[lane].place]
    t, pause, floor = leave, length, begin + length
    times = starts[:gap]
    for n in seq[gap:]:
        t += row[loc[n]] + pause
        if t < floor:
            t = floor
        pause = 0
        if t < lo[n]:
            t = lo[n]
        if wins[n] is not None:
            t = opening(wins[n], t)
        if t > hi[n]:
            return None
        times.append(t)
        t += dur[n]
        cost += net.cost[n]
        if t > dead[n]:
            cost += net.fixed[n] + net.per_min[n] * (t - dead[n])
        row = table[loc[n]]
    t += row[net.dest[lane]] + pause
    if t < floor:
        t = floor
    if t > limit:
        return None
    return Timing(cost, travel, t - end if t > end else 0, times, gap, begin, t)


def late_starts(net: Network, lane: int, seq: list[int], timing: Timing) -> list[int]:
    """Return the starts moved as late as they can be without a later finish or a worse promise.

    A route with a break, with something frozen, or with visits tied to others stays as it is.
    """
    if timing.rest_at >= 0 or net.past[lane].stops or any(net.tied[net.visit[n]] for n in seq if n < net.first_depot):
        return timing.starts
    found = list(timing.starts)
    place, leave = net.dest[lane], timing.finish
    for at in range(len(seq) - 1, -1, -1):
        n = seq[at]
        t = min(leave - net.table[net.loc[n]][place] - net.dur[n], net.hi[n])
        if net.cost[n] or found[at] + net.dur[n] > net.dead[n]:
            t = found[at]  # late or moved as it is: not a minute more
        t = min(t, max(net.dead[n] - net.dur[n], found[at]))
        if net.wins[n] is not None:
            t = closing(net.wins[n], t)
        found[at] = max(t, found[at])
        place, leave = net.loc[n], found[at]
    return found


def departure(net: Network, lane: int, seq: list[int], timing: Timing, first: int) -> int:
    """Return when a technician leaves for a route of which nothing has happened, to start its first stop at `first`."""
    past, rest = net.past[lane], net.rest[lane]
    lead = rest[0] if timing.rest_at == 0 and rest is not None else 0
    depart: int = first - net.table[past.place][net.loc[seq[0]]] - lead
    if timing.rest_at == 0:
        depart = min(depart, timing.rest_start)
    return max(depart, past.base)


def waiting(net: Network, lane: int, seq: list[int], timing: Timing) -> int:
    """Return the minutes of a route that are neither travel, work nor break, left as late as it can be."""
    past, rest = net.past[lane], net.rest[lane]
    if past.stops:
        depart = past.depart
    elif seq:
        depart = departure(net, lane, seq, timing, late_starts(net, lane, seq, timing)[0])
    else:
        return 0
    busy: int = past.travel + past.busy + timing.travel + sum(net.dur[n] for n in seq)
    if timing.rest_at >= 0 and rest is not None:
        busy += rest[0]
    return int(timing.finish) - depart - busy


def opening(windows: Any, t: int) -> int:
    """Return the first minute at or after `t` within sorted windows; FAR when there is none."""
    for a, b in windows:
        if t <= b:
            return t if t > a else int(a)
    return FAR


def closing(windows: Any, t: int) -> int:
    """Return the last minute at or before `t` within sorted windows; -FAR when there is none."""
    for a, b in reversed(windows):
        if a <= t:
            return t if t < b else int(b)
    return -FAR


def labels(net: Network, lane: int, seq: list[int]) -> tuple[Any, ...]:
    """Return the labels of a route that can be driven.

    ahead[i], ahead_rested[i]: earliest minute the place before stop i can be left, break to come or taken.
    by[i], by_rested[i]: latest arrival at stop i (at the end: the destination) that the rest allows.
    soft, soft_rested: the same with nothing late and no overtime. widest[i]: the larger of by and by_rested.
    """
    table, loc, dur, lo, wins = net.table, net.loc, net.dur, net.lo, net.wins
    hi, dead = net.hi, net.dead
    past, rest = net.past[lane], net.rest[lane]
    length, earliest, latest = rest if rest is not None else (0, 0, FAR)
    row = table[past.place]
    t, u = past.base, FAR
    ahead, ahead_rested = [t], [u]
    for n in seq:
        minutes = row[loc[n]]
        if rest is not None:
            u += minutes
            if t <= latest:
                v = max(t + minutes, earliest, t) + length
                if v < u:
                    u = v
            if u < lo[n]:
                u = lo[n]
            if wins[n] is not None:
                u = opening(wins[n], u)
            u = FAR if u > hi[n] else u + dur[n]
        t += minutes
        if t < lo[n]:
            t = lo[n]
        if wins[n] is not None:
            t = opening(wins[n], t)
        t = FAR if t > hi[n] else t + dur[n]
        ahead.append(t)
        ahead_rested.append(u)
        row = table[loc[n]]
    hard = _backward(net, lane, seq, net.max_finish[lane], hi)
    tight = [min(hi[n], dead[n] - dur[n]) for n in seq]
    soft = _backward(net, lane, seq, min(net.end[lane], net.max_finish[lane]), None, tight)
    widest = [max(b, a) for a, b in zip(*hard, strict=True)]
    return ahead, ahead_rested, *hard, widest, *soft


def _backward(
    net: Network, lane: int, seq: list[int], limit: int, hi: list[int] | None, tight: list[int] | None = None
) -> tuple[list[int], list[int]]:
    table, loc, dur, lo, wins = net.table, net.loc, net.dur, net.lo, net.wins
    rest = net.rest[lane]
    size = len(seq)
    by, by_rested = [0] * (size + 1), [0] * (size + 1)
    if rest is None:
        length, earliest, latest, x, y = 0, 0, 0, limit, -FAR
    else:
        length, earliest, latest = rest
        x, y = min(limit, latest), limit
    by[size], by_rested[size] = x, y
    target = net.dest[lane]
    for i in range(size - 1, -1, -1):
        n = seq[i]
        minutes = table[loc[n]][target]
        leave = x - minutes
        if rest is not None:
            if y >= earliest + length:
                z = y - minutes - length
                if z > latest:
                    z = latest
                if z > leave:
                    leave = z
            y = y - minutes - dur[n]
        x = leave - dur[n]
        top = tight[i] if tight is not None else hi[n]  # type: ignore[index]
        if x > top:
            x = top
        if wins[n] is not None:
            x = closing(wins[n], x)
        if x < lo[n]:
            x = -FAR
        if rest is not None:
            if y > top:
                y = top
            if wins[n] is not None:
                y = closing(wins[n], y)
            if y < lo[n]:
                y = -FAR
        by[i], by_rested[i] = x, y
        target = loc[n]
    return by, by_rested
