"""A plan under construction: lanes, who is absent, running costs, and an exact way back.

Every change goes through `commit`, which schedules the lane anew, moves the bounds of visits tied to it in other
lanes, and re-derives depot takes. `mark` and `undo` bracket a trial.
"""

from collections.abc import Iterable
from typing import Any

from msp.dispatch.network import FAR, Network
from msp.dispatch.schedule import Lane, Timing, labels, schedule, waiting
from msp.dispatch.stock import Allotment, allot

_NONE = object()


class Solution:
    """State of the search over a network. `tier1` and `tier2` are kept up to date, drop costs included."""

    def __init__(self, net: Network) -> None:
        self.net = net
        count = net.visit_count
        self.where = [-1] * count  # lane of a visit; -1: absent
        self.second = [-1] * count  # the other lane of a crew of two
        self.node_of = list(range(count))
        self.brings: dict[tuple[int, int], dict[str, int]] = {}  # (visit of a crew of two, lane) -> parts
        self.absent: dict[int, None] = dict.fromkeys(range(count))
        self.key = 0
        self.cache: list[dict[int, tuple[int, float, float, float, int]]] = [{} for _ in net.loc]
        self.places: dict[tuple[int, int], tuple[int, list[tuple[float, float, float, int]]]] = {}
        self.chances: dict[int, dict[int, tuple[int, float, list[tuple[int, int, int, int]]]]] = {}  # of crews of two
        self.any_tied, self.any_parts = any(net.tied), any(net.parts)
        self.allotted = [Allotment({}, {}) for _ in net.problem.technicians]
        self.left: dict[tuple[int, str], int] = {}
        for at, depot in enumerate(net.problem.depots):
            for part, quantity in depot.stock.items():
                self.left[at, part] = quantity
        self.past_start: dict[int, int] = {}
        self.past_lanes: dict[int, list[int]] = {}
        self.longing = [0.0] * count  # what the search adds to a drop cost when a visit is long left out
        self.home = self._home()
        weights = net.problem.weights
        self.w_travel, self.w_over, self.w_change = weights.travel, weights.overtime, weights.change_tech
        self.w_wait = weights.waiting
        self.scale = 1.0  # of tier 1 against tier 2 in the search's single figure
        self.log: list[tuple[Any, Any, Any]] = []
        self.tier1 = float(sum(net.drop))
        self.tier2 = 0.0
        self.lanes: list[Lane] = []
        for lane in range(len(net.tech)):
            self.lanes.append(self._made(lane, []))
        self._admit_past()
        for who in range(len(self.allotted) if self.any_parts else 0):
            found = allot(self, who, {})
            if found is not None:
                self.allotted[who] = found

    def _home(self) -> list[frozenset[int] | None]:
        """Return for each visit the technicians of the plan in force."""
        problem = self.net.problem
        found: list[frozenset[int] | None] = [None] * len(problem.visits)
        if problem.incumbent:
            names = {technician.id: at for at, technician in enumerate(problem.technicians)}
            planned = problem.incumbent.technicians_of()
            for at, visit in enumerate(problem.visits):
                if visit.id in planned:
                    found[at] = frozenset(names.get(who, -1) for who in planned[visit.id])
        return found

    def _admit_past(self) -> None:
        net = self.net
        for lane, past in enumerate(net.past):
            self.tier1 += past.cost
            self.tier2 += self.w_travel * (self.lanes[lane].timing.travel + past.travel if past.stops else 0)
            self.tier2 += self.w_over * self.lanes[lane].timing.over if past.stops else 0
            self.tier2 += self.w_wait * self.lanes[lane].waiting if past.stops else 0
            for kind, node, start, goods in past.stops:
                if kind == "visit":
                    self.enter(node, lane)
                    self.past_start[node] = start
                    if net.problem.visits[node].crew == 2:
                        self.brings[node, lane] = dict(goods or {})
                elif kind == "depot":
                    for part, quantity in (goods or {}).items():
                        slot = (node - net.first_depot, part)
                        self.left[slot] = self.left.get(slot, 0) - quantity

    def enter(self, visit: int, lane: int) -> None:
        """Note that a visit is planned in a lane; counts its drop cost and change of technician once complete."""
        net = self.net
        if self.where[visit] < 0:
            self.put(self.where, visit, lane)
        else:
            self.put(self.second, visit, lane)
        crew = net.problem.visits[visit].crew
        if crew == 1 or self.second[visit] >= 0:
            self.put(self.absent, visit, _NONE)
            self.tier1 -= net.drop[visit]
            if crew == 2:
                self.tier1 -= self.cost_at(self.node_of[visit])  # both lanes count what happens once
            self.tier2 += self.change_cost(visit)

    def cost_at(self, node: int) -> float:
        """Return lateness and broken promise of a crew's visit, whose start is fixed."""
        net = self.net
        end = net.lo[node] + net.dur[node]
        late = net.fixed[node] + net.per_min[node] * (end - net.dead[node]) if end > net.dead[node] else 0
        return net.cost[node] + late

    def change_cost(self, visit: int) -> float:
        home = self.home[visit]
        if home is None or not self.w_change:
            return 0
        techs = {self.net.tech[lane] for lane in (self.where[visit], self.second[visit]) if lane >= 0}
        return self.w_change if techs != home else 0

    # the way back
    def put(self, box: Any, key: Any, value: Any) -> None:
        """Set box[key] (or remove it), and remember what was there."""
        old = box.get(key, _NONE) if isinstance(box, dict) else box[key]
        self.log.append((box, key, old))
        if value is _NONE:
            box.pop(key, None)
        else:
            box[key] = value

    def mark(self) -> tuple[int, float, float]:
        return len(self.log), self.tier1, self.tier2

    def undo(self, mark: tuple[int, float, float]) -> None:
        log, size = self.log, mark[0]
        while len(log) > size:
            box, key, old = log.pop()
            if old is _NONE:
                box.pop(key, None)
            else:
                box[key] = old
        self.tier1, self.tier2 = mark[1], mark[2]

    def forget(self) -> None:
        """Drop the way back: what is now, stays."""
        self.log.clear()

    # changing lanes
    def uses(self, visit: int, lane: int) -> dict[str, int]:
        """Return the parts that the technician of `lane` brings to a planned visit."""
        found = self.brings.get((visit, lane)) if self.net.problem.visits[visit].crew == 2 else self.net.parts[visit]
        return found or {}

    def _made(self, lane: int, seq: list[int]) -> Lane:
        timing = schedule(self.net, lane, seq)
        if timing is None:  # an empty lane that cannot be driven (closed) still needs something in its place
            empty = [-FAR] * (len(seq) + 1)
            return Lane(
                seq, Timing(0, 0, 0, [], -1, -1, 0), ([FAR], [FAR], empty, empty, empty, empty, empty), self._key()
            )
        return self._lane(lane, seq, timing)

    def _lane(self, lane: int, seq: list[int], timing: Timing) -> Lane:
        waited = waiting(self.net, lane, seq, timing) if self.w_wait else 0
        return Lane(seq, timing, labels(self.net, lane, seq), self._key(), waited)

    def _key(self) -> int:
        self.key += 1
        return self.key

    def price(self, lane: int, made: Lane) -> float:
        """Return what a lane adds to tier 2; a lane without stops is not driven."""
        past = self.net.past[lane]
        if not made.seq and not past.stops:
            return 0
        driven = self.w_travel * (made.timing.travel + past.travel)
        return driven + self.w_over * made.timing.over + self.w_wait * made.waiting

    def store(self, lane: int, seq: list[int]) -> bool:
        timing = schedule(self.net, lane, seq)
        if timing is None:
            return False
        old = self.lanes[lane]
        new = self._lane(lane, seq, timing)
        self.tier1 += timing.cost - old.timing.cost
        self.tier2 += self.price(lane, new) - self.price(lane, old)
        self.put(self.lanes, lane, new)
        return True

    def commit(self, lane: int, seq: list[int], *, parts: bool = True) -> bool:
        """Put a new order of stops into a lane; False (and nothing promised about the state) if it does not work."""
        if self.any_parts and parts and not self._supply(lane, seq):
            return False
        if not self.store(lane, seq):
            return False
        return not self.any_tied or self._ripple([lane])

    def _supply(self, lane: int, seq: list[int]) -> bool:
        net = self.net
        first, old = net.first_depot, self.lanes[lane].seq
        touched = [node for node in (*seq, *old) if node >= first or net.parts[net.visit[node]]]
        if not touched:
            return True
        who = net.tech[lane]
        found = allot(self, who, {lane: seq})
        if found is None:
            return False
        idle = [place for place, take in found.takes.items() if not take]
        for place in reversed(idle):  # a depot stop that hands nothing out is not driven to
            here = seq if place[0] == lane else self.lanes[place[0]].seq
            without = here[: place[1]] + here[place[1] + 1 :]
            if schedule(net, place[0], without) is None:
                continue
            if place[0] == lane:
                del seq[place[1]]
            elif not self.store(place[0], without):
                return False
        if idle:
            found = allot(self, who, {lane: seq})
            if found is None:
                return False
        self._charge(who, found)
        return True

    def _charge(self, who: int, found: Allotment) -> None:
        old = self.allotted[who]
        for slot in {**old.charged, **found.charged}:
            change = found.charged.get(slot, 0) - old.charged.get(slot, 0)
            if change:
                self.put(self.left, slot, self.left[slot] - change)
        self.put(self.allotted, who, found)

    # visits tied to others
    def start_of(self, visit: int) -> int:
        if visit in self.past_start:
            return self.past_start[visit]
        lane = self.lanes[self.where[visit]]
        return lane.timing.starts[lane.seq.index(self.node_of[visit])]

    def bounds(self, visit: int, node: int, lanes: tuple[int, ...]) -> tuple[int, int]:
        """Return the earliest and latest start that visits tied to this one, planned in other lanes, allow."""
        net = self.net
        low, high = net.static_lo[node], net.static_hi[node]
        for other in net.after[visit]:
            if len(lanes) > 1 or (self.where[other] not in lanes and self.second[other] not in lanes):
                low = max(low, self.start_of(other) + net.dur[self.node_of[other]])
        for other in net.before[visit]:
            if self.where[other] >= 0 and (
                len(lanes) > 1 or (self.where[other] not in lanes and self.second[other] not in lanes)
            ):
                high = min(high, self.start_of(other) - net.dur[node])
        return low, high

    def rebound(self, visit: int) -> bool:
        """Set the bounds of a planned visit of one technician anew; True if they moved."""
        net = self.net
        if visit in self.past_start or net.problem.visits[visit].crew == 2 or net.problem.visits[visit].pin:
            return False
        node = self.node_of[visit]
        low, high = self.bounds(visit, node, (self.where[visit],))
        if (low, high) == (net.lo[node], net.hi[node]):
            return False
        self.put(net.lo, node, low)
        self.put(net.hi, node, high)
        return True

    def _ripple(self, queue: list[int]) -> bool:
        """Carry changed times to tied visits in other lanes until nothing moves; False if something breaks."""
        net = self.net
        for _ in range(60):
            if not queue:
                return True
            lane = queue.pop(0)
            for node in self.lanes[lane].seq:
                visit = net.visit[node]
                if visit < 0 or not net.tied[visit]:
                    continue
                for other in (*net.after[visit], *net.before[visit]):
                    there = self.where[other]
                    if there >= 0 and self.rebound(other):
                        before = self.lanes[there].timing.starts
                        if not self.store(there, self.lanes[there].seq):
                            return False
                        if self.lanes[there].timing.starts != before and there not in queue:
                            queue.append(there)
        return not queue

    # visits in and out
    def place(self, visit: int, node: int, lane: int, seq: list[int]) -> bool:
        """Plan a visit of one technician: `seq` is the lane's order with `node` (and any new depot stop) in it."""
        self.put(self.node_of, visit, node)
        self.enter(visit, lane)
        if self.net.tied[visit]:
            self.rebound(visit)
        return self.commit(lane, seq)

    def place_crew(
        self, visit: int, node: int, start: int, sides: Iterable[tuple[int, list[int], dict[str, int]]]
    ) -> bool:
        """Plan a visit of two technicians at a common start; sides: lane, its new order, parts brought."""
        net = self.net
        self.put(self.node_of, visit, node)
        self.put(net.lo, node, start)
        self.put(net.hi, node, start)
        for lane, _, goods in sides:
            self.put(self.brings, (visit, lane), goods)
            self.enter(visit, lane)
        return all(self.commit(lane, seq) for lane, seq, _ in sides)

    def remove(self, visits: Iterable[int]) -> bool:
        """Take visits out (with everything that must come after them already among them)."""
        net = self.net
        touched: dict[int, None] = {}
        gone: dict[int, None] = {}
        eased: dict[int, None] = {}
        for visit in visits:
            self.tier2 -= self.change_cost(visit)
            self.tier1 += net.drop[visit]
            if self.second[visit] >= 0:
                self.tier1 += self.cost_at(self.node_of[visit])
            gone[self.node_of[visit]] = None
            for box in (self.where, self.second):
                if box[visit] >= 0:
                    touched[box[visit]] = None
                    if (visit, box[visit]) in self.brings:
                        self.put(self.brings, (visit, box[visit]), _NONE)
                    self.put(box, visit, -1)
            self.put(self.absent, visit, None)
            for other in net.after[visit]:
                eased[other] = None
        for lane in touched:
            if not self.commit(lane, [node for node in self.lanes[lane].seq if node not in gone]):
                return False
        for other in eased:
            lane = self.where[other]
            moved = lane >= 0 and self.rebound(other)
            if moved and not (self.store(lane, self.lanes[lane].seq) and self._ripple([lane])):
                return False
        return True

    def snapshot(self) -> tuple[Any, ...]:
        """Return everything that `restore` needs."""
        return (
            list(self.where), list(self.second), list(self.node_of), dict(self.brings), dict(self.absent),
            list(self.allotted), dict(self.left), list(self.lanes), list(self.net.lo), list(self.net.hi),
            self.tier1, self.tier2,
        )  # fmt: skip

    def restore(self, shot: tuple[Any, ...]) -> None:
        self.where[:], self.second[:], self.node_of[:] = shot[0], shot[1], shot[2]
        self.brings, self.absent, self.left = dict(shot[3]), dict(shot[4]), dict(shot[6])
        self.allotted[:], self.lanes[:], self.net.lo[:], self.net.hi[:] = shot[5], shot[7], shot[8], shot[9]
        self.tier1, self.tier2 = shot[10], shot[11]
        self.log.clear()
