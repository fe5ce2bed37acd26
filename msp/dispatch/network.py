"""A problem laid out flat for the search: nodes and lanes as lists of numbers.

A *node* is a thing a route can stop at: a visit kept within its promise, the same visit outside its promise (at the
cost of renegotiating), or a depot. A *lane* is one technician's shift, from where its frozen past ends.
"""

from dataclasses import dataclass, field
from typing import Any

from msp.dispatch.plan import Route as PlannedRoute
from msp.dispatch.problem import Problem, Shift, Visit
from msp.errors import Misconfigured

FAR = 1 << 40  # later than any minute
Windows = tuple[tuple[int, int], ...]


@dataclass(slots=True)
class Past:
    """What of a lane has happened, or can no longer change: its stops, and where that leaves the technician."""

    depart: int
    place: int
    base: int  # nothing new leaves before this minute
    end: int  # when the frozen stops are over; going home may begin then
    stops: list[tuple[str, int, int, dict[str, int] | None]] = field(default_factory=list)  # kind, node, start, goods
    travel: int = 0
    busy: int = 0  # minutes of work and break
    cost: float = 0
    rested: bool = False


class Network:
    """Flat lists over nodes (`loc`, `dur`, `lo`, ...) and lanes (`tech`, `base`, ...); built once per problem.

    `lo` and `hi` of visits tied to others (precedence, crew of two) are moved by the search; the rest is constant.
    """

    def __init__(self, problem: Problem, *, pairs: bool = False, only: int | None = None) -> None:
        self.problem, self.table = problem, problem.travel(pairs=pairs)
        self.visit_count = len(problem.visits)
        self.loc: list[int] = []
        self.dur: list[int] = []
        self.lo: list[int] = []
        self.hi: list[int] = []
        self.wins: list[Windows | None] = []  # only where there is more than one window
        self.dead: list[int] = []  # end after this costs
        self.per_min: list[float] = []
        self.fixed: list[float] = []
        self.cost: list[float] = []  # for stopping here at all: a broken promise
        self.visit: list[int] = []  # -1 for a depot
        self.alt: list[int] = [-1] * self.visit_count  # the node outside the promise
        self._add_visits()
        self.first_depot = len(self.loc)
        for depot in problem.depots:
            self._add(depot.location, depot.service, ((-FAR, FAR),), visit=-1)
        self.static_lo, self.static_hi = list(self.lo), list(self.hi)
        self.after = [visit.after for visit in problem.visits]
        self.before: list[list[int]] = [[] for _ in problem.visits]
        for at, visit in enumerate(problem.visits):
            for earlier in visit.after:
                self.before[earlier].append(at)
        self.tied = [bool(visit.after or self.before[at]) or visit.crew == 2 for at, visit in enumerate(problem.visits)]
        self.parts = [dict(visit.parts) for visit in problem.visits]
        weight = problem.weights
        self.drop = [v.drop + (weight.renegotiate if v.promised else 0) for v in problem.visits]
        self._add_lanes()
        self._add_compatible(only)

    # nodes
    def _add(self, place: int, duration: int, windows: Windows, *, visit: int, cost: float = 0) -> int:
        self.loc.append(place)
        self.dur.append(duration)
        self.lo.append(windows[0][0] if windows else FAR)
        self.hi.append(windows[-1][1] if windows else -FAR)
        self.wins.append(windows if len(windows) > 1 else None)
        sla = self.problem.visits[visit].sla if visit >= 0 else None
        self.dead.append(sla.deadline if sla else FAR)
        self.per_min.append(sla.per_min if sla else 0)
        self.fixed.append(sla.fixed if sla else 0)
        self.cost.append(cost)
        self.visit.append(visit)
        return len(self.loc) - 1

    def _add_visits(self) -> None:
        problem, weight = self.problem, self.problem.weights.renegotiate
        later: list[tuple[int, Windows]] = []
        for at, visit in enumerate(problem.visits):
            if visit.pin is not None:
                start = visit.pin.start
                moved = visit.promised is not None and not visit.promised[0] <= start <= visit.promised[1]
                self._add(visit.location, visit.duration, ((start, start),), visit=at, cost=weight if moved else 0)
                continue
            windows = clipped(visit.windows, problem.now, FAR)
            if visit.promised is not None:
                later.append((at, windows))
                windows = clipped(windows, *visit.promised)
            self._add(visit.location, visit.duration, windows, visit=at)
        for at, windows in later:
            visit = problem.visits[at]
            self.alt[at] = self._add(visit.location, visit.duration, windows, visit=at, cost=weight)

    # lanes
    def _add_lanes(self) -> None:
        problem = self.problem
        self.tech: list[int] = []
        self.shift: list[int] = []
        self.lanes_of: list[list[int]] = [[] for _ in problem.technicians]  # in order of time
        self.dest: list[int] = []
        self.end: list[int] = []
        self.max_finish: list[int] = []
        self.rest: list[tuple[int, int, int] | None] = []  # break still to come: duration, earliest, latest
        self.room: list[int] = []  # travel minutes left
        self.past: list[Past] = []
        self.closed: list[bool] = []
        self.pins: list[list[int]] = []  # visits pinned in the lane's future, by start
        self.lane_of_pin: dict[tuple[int, int], int] = {}
        self.pins_of: list[list[tuple[int, int]]] = [[] for _ in problem.technicians]
        for at, visit in enumerate(problem.visits):
            for who in visit.pin.technicians if visit.pin else ():
                self.pins_of[who].append((at, visit.pin.start if visit.pin else 0))
        routes = problem.incumbent.routes if problem.incumbent else ()
        self.in_force = {(route.tech, route.shift): route for route in reversed(routes)}
        for who, technician in enumerate(problem.technicians):
            order = sorted(range(len(technician.shifts)), key=lambda k: technician.shifts[k].start)
            for rank, k in enumerate(order):
                shift = technician.shifts[k]
                limit = shift.end + shift.overtime
                if rank + 1 < len(order):
                    limit = min(limit, technician.shifts[order[rank + 1]].start)
                self.lanes_of[who].append(len(self.tech))
                self._add_lane(who, k, shift, limit)
        for at, visit in enumerate(problem.visits):
            for who in visit.pin.technicians if visit.pin else ():
                if (at, who) not in self.lane_of_pin:
                    raise _cannot_hold(visit, problem.technicians[who].id, "no shift has room for it")

    def _add_lane(self, who: int, k: int, shift: Shift, limit: int) -> None:
        problem, lane = self.problem, len(self.tech)
        technician = problem.technicians[who]
        pinned = []
        for at, start in self.pins_of[who]:
            fits = shift.start <= start and start + problem.visits[at].duration <= limit
            if fits and (at, who) not in self.lane_of_pin:
                pinned.append(at)
                self.lane_of_pin[at, who] = lane
        pinned.sort(key=lambda at: (self.lo[at], at))
        past, pinned = self._past(technician.id, shift, pinned, self.in_force.get((technician.id, k)))
        self.tech.append(who)
        self.shift.append(k)
        self.dest.append(shift.destination)
        self.end.append(shift.end)
        self.max_finish.append(limit)
        pause = shift.rest
        due = pause is not None and not past.rested
        self.rest.append((pause.duration, pause.earliest, pause.latest) if pause is not None and due else None)
        self.room.append((technician.max_travel if technician.max_travel is not None else FAR) - past.travel)
        self.past.append(past)
        self.closed.append(past.base > limit or (due and pause is not None and past.base > pause.latest))
        self.pins.append(pinned)

    def _past(
        self, technician: str, shift: Shift, pinned: list[int], old: PlannedRoute | None
    ) -> tuple[Past, list[int]]:
        """Return the frozen beginning of a lane and the pins that come after it."""
        problem, table = self.problem, self.table
        now = problem.now
        done: list[tuple[int, str, int, dict[str, int] | None]] = []
        brought: dict[str, dict[str, int] | None] = {}
        depots = {depot.id: at for at, depot in enumerate(problem.depots)}
        for stop in old.stops if old else ():
            goods = dict(stop.goods) if stop.goods is not None else None
            if stop.kind == "visit":
                brought[stop.ref] = goods
            elif stop.start < now and stop.kind == "break" and shift.rest:
                done.append((stop.start, "break", -1, None))
            elif stop.start < now and stop.kind == "depot" and stop.ref in depots:
                done.append((stop.start, "depot", self.first_depot + depots[stop.ref], goods or {}))
        rest_of = list(pinned)
        while rest_of and self.lo[rest_of[0]] <= now:
            at = rest_of.pop(0)
            done.append((self.lo[at], "visit", at, brought.get(problem.visits[at].id)))
        done.sort(key=lambda entry: entry[0])
        begin = max(now, shift.start)
        past = Past(shift.start, shift.origin, begin, begin)
        leaves, pause = shift.start, 0
        for start, kind, node, goods in done:
            if kind == "break":
                past.rested, pause = True, shift.rest.duration if shift.rest else 0
                past.stops.append((kind, node, start, goods))
                past.busy += pause
                past.base = max(past.base, start + pause)
                past.end = max(leaves + pause, start + pause)
                continue
            leaves = self._go(past, technician, leaves, pause, start, kind, node, goods)
            pause = 0
        while rest_of and past.base + table[past.place][self.loc[rest_of[0]]] > self.lo[rest_of[0]]:
            at = rest_of.pop(0)  # already on the way there
            leaves = self._go(
                past, technician, leaves, pause, self.lo[at], "visit", at, brought.get(problem.visits[at].id)
            )
            pause = 0
        if past.stops:
            first = next(((n, s) for kind, n, s, _ in past.stops if kind != "break"), None)
            latest = min(s for _, _, s, _ in past.stops)
            if first is not None:
                ahead = past.stops[0][0] == "break" and shift.rest
                lead = shift.rest.duration if ahead and shift.rest else 0
                latest = min(latest, first[1] - table[shift.origin][self.loc[first[0]]] - lead)
            past.depart = max(shift.start, min(old.depart, latest) if old else latest)
        if past.stops and shift.rest and not past.rested and past.base > shift.rest.latest:
            home = past.end + table[past.place][shift.destination]
            if rest_of or home > shift.rest.latest:  # else the day was over before a break was due
                self._rest_in_past(past, shift)
        return past, rest_of

    def _go(
        self, past: Past, technician: str, leaves: int, pause: int, start: int, kind: str, node: int, goods: Any
    ) -> int:
        """Add one frozen stop; returns the minute it ends. Raises Misconfigured when it cannot be reached."""
        minutes = self.table[past.place][self.loc[node]]
        if kind == "visit" and leaves + minutes + pause > start:
            raise _cannot_hold(
                self.problem.visits[self.visit[node]],
                technician,
                f"the way from the stop before takes {minutes} minutes",
            )
        past.stops.append((kind, node, start, goods))
        past.travel += minutes
        past.busy += self.dur[node]
        past.place = self.loc[node]
        end = start + self.dur[node]
        past.base = max(past.base, end)
        past.end = end
        past.cost += self.cost[node]
        if end > self.dead[node]:
            past.cost += self.fixed[node] + self.per_min[node] * (end - self.dead[node])
        return end

    def _rest_in_past(self, past: Past, shift: Shift) -> None:
        """Put the break that must have been taken into the last gap of the frozen stops that holds it."""
        if shift.rest is None:
            return
        length, earliest, latest = shift.rest.duration, shift.rest.earliest, shift.rest.latest
        places = [shift.origin] + [self.loc[node] for _, node, _, _ in past.stops]
        ends = [past.depart] + [start + self.dur[node] for _, node, start, _ in past.stops]
        for gap in range(len(past.stops), -1, -1):
            leave = ends[gap] if gap else shift.start
            begin = max(leave, earliest)
            if begin > latest:
                continue
            if gap < len(past.stops):
                due = past.stops[gap][2]
                minutes = self.table[places[gap]][places[gap + 1]]
                if max(leave + minutes + length, begin + length) > due:
                    continue
                if not gap:
                    past.depart = min(begin, due - minutes - length)
            past.stops.insert(gap, ("break", -1, begin, None))
            past.base = max(past.base, begin + length)
            if gap == len(past.stops) - 1:
                past.end = begin + length
            past.rested = True
            past.busy += length
            return

    # who may do what
    def _add_compatible(self, only: int | None) -> None:
        """`compatible[visit]`: lanes whose technician may do it (for a crew of two: may take part) in some window."""
        problem = self.problem
        self.covers: list[list[int]] = []  # for a crew of two: bit mask of the needed skills each technician has
        self.compatible: list[list[int]] = []
        known: dict[Any, list[int]] = {}
        for at, visit in enumerate(problem.visits):
            if only is not None and at != only:  # a single visit will be tried: the others have their places
                self.covers.append([])
                self.compatible.append([])
                continue
            needed = sorted(visit.skills.items())
            key = tuple(needed)
            if key not in known:
                known[key] = [
                    sum(1 << bit for bit, (skill, level) in enumerate(needed) if t.skills.get(skill, 0) >= level)
                    for t in problem.technicians
                ]
            masks, full = known[key], (1 << len(needed)) - 1
            self.covers.append(masks)
            node = self.alt[at] if self.alt[at] >= 0 else at
            low, high, length = self.lo[node], self.hi[node], self.dur[node]
            lanes = []
            for who in range(len(problem.technicians)):
                if visit.crew == 1 and masks[who] != full:
                    continue
                if who in visit.never or (visit.only is not None and who not in visit.only):
                    continue
                lanes += [
                    lane
                    for lane in self.lanes_of[who]
                    if not self.closed[lane] and self.past[lane].base <= high and low + length <= self.max_finish[lane]
                ]
            self.compatible.append(lanes)


def clipped(windows: Windows, low: int, high: int) -> Windows:
    """Return the parts of sorted windows that lie within [low, high]."""
    return tuple((max(a, low), min(b, high)) for a, b in windows if max(a, low) <= min(b, high))


def _cannot_hold(visit: Visit, technician: str, why: str) -> Misconfigured:
    return Misconfigured(
        f"The pin of visit {visit.id} on {technician} cannot hold: {why}.", advice="Move the pin, or remove it."
    )
