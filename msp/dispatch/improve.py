"""Ruin and recreate: take related visits out, put them back in cheaper places, keep what helps.

Strings of neighbouring stops are removed (slack induction by string removals, Christiaens and Vanden Berghe 2020),
or related or random visits, or whole lanes; simulated annealing decides what is kept. The best plan is compared
tier by tier; the walk itself uses one figure, in which tier 1 counts `SCALE` times.
"""

from collections.abc import Callable
from dataclasses import dataclass
from heapq import nsmallest
from math import exp, log
from random import Random

from msp.dispatch.construct import insert
from msp.dispatch.solution import Solution

NEAR = 80  # neighbours remembered per visit
SETTLINGS, SETTLING_TRIES = 3, 24  # rounds at the end in which changed visits may go back, and tries of each


@dataclass(frozen=True, slots=True)
class Tuning:
    """Knobs of the walk; the defaults were chosen on generated problems of every kind (bench/dispatch.py)."""

    scale: float = 5.0
    hot: float = 10.0  # starting temperature, in minutes of travel
    cold: float = 0.2
    average: float = 10.0  # visits removed per step, on average
    longest: int = 15
    blink: float = 0.01
    patience: int = 60  # steps without a better plan after which what is left out counts more
    longing: float = 0.3  # by this share of its drop cost


class Improver:
    """One walk over plans. Deterministic for a seed as long as `progress` depends on the iteration alone."""

    def __init__(self, solution: Solution, seed: int, tuning: Tuning | None = None) -> None:
        self.solution, self.net = solution, solution.net
        self.random = Random(seed)  # noqa: S311  a walk, not a secret
        self.tuning = tuning or Tuning()
        solution.scale = self.tuning.scale
        self.near: dict[int, list[int]] = {}
        self.locked = self._locked()
        self.movable = [visit for visit in range(self.net.visit_count) if not self.locked[visit]]
        self.best = solution.snapshot()
        self.best_score = (solution.tier1, solution.tier2)
        self.iterations = 0

    def _locked(self) -> list[bool]:
        """Pinned visits, and those that a pinned visit needs before it, stay where they are."""
        net = self.net
        locked = [spec.pin is not None for spec in net.problem.visits]
        stack = [visit for visit, is_locked in enumerate(locked) if is_locked]
        while stack:
            for other in net.after[stack.pop()]:
                if not locked[other]:
                    locked[other] = True
                    stack.append(other)
        return locked

    def run(self, progress: Callable[[int], float], expired: Callable[[], bool]) -> None:
        """Walk until `progress(iteration)` reaches 1; the solution then holds the best plan seen."""
        solution, tuning, random = self.solution, self.tuning, self.random.random
        if not self.movable:
            return
        unit = max(solution.w_travel, 1e-6)
        hot, cold = tuning.hot * unit, tuning.cold * unit
        ratio = log(cold / hot)
        temperature, current = hot, self._price()
        stale, returns = 0, [0.5, 0.75, 0.9]
        while True:
            if not self.iterations % 8:
                done = progress(self.iterations)
                if done >= 1:
                    break
                temperature = hot * exp(ratio * done)
                if returns and done >= returns[0]:
                    returns.pop(0)
                    solution.restore(self.best)
                    self._forget_longing()
                    current = self._price()
            self.iterations += 1
            mark = solution.mark()
            if not self._step(expired):
                solution.undo(mark)
                continue
            price = self._price()
            stale += 1
            if (solution.tier1, solution.tier2) < self.best_score and self._gain(self.best_score):
                if self.net.problem.depots and solution.any_parts:
                    self._shorten()
                    price = self._price()
                self.best = solution.snapshot()
                self.best_score = (solution.tier1, solution.tier2)
                current = price
                solution.forget()
                stale = 0
            elif price < current - temperature * log(random() or 1e-12):
                current = price
                solution.forget()
            else:
                solution.undo(mark)
            if stale and stale % tuning.patience == 0 and solution.absent:
                self._long()
                current = self._price()
        solution.restore(self.best)
        self._forget_longing()
        self._settle(expired)

    def _settle(self, expired: Callable[[], bool]) -> None:
        """Try to give every visit that changed hands back to who had it, with the lanes concerned planned anew.

        Whoever reads a new plan in the middle of a day asks of every change why; a change that buys nothing is noise.
        """
        gained, rounds = True, 0
        while gained and rounds < SETTLINGS:
            changed = [visit for visit in self.movable if self._changed(visit)]
            gained, rounds = False, rounds + 1
            for visit in changed:
                for attempt in range(SETTLING_TRIES):
                    if expired() or not self._changed(visit):
                        break
                    gained |= self._give_back(visit, attempt, expired)
        self.best, self.best_score = self.solution.snapshot(), (self.solution.tier1, self.solution.tier2)

    def _shorten(self) -> None:
        """Leave out every depot stop whose parts an earlier stop of the same technician can take along."""
        solution, net = self.solution, self.net
        for lane in range(len(solution.lanes)):
            at = 0
            while at < len(solution.lanes[lane].seq):
                seq = solution.lanes[lane].seq
                if seq[at] >= net.first_depot:
                    before, mark = (solution.tier1, solution.tier2), solution.mark()
                    if solution.commit(lane, [*seq[:at], *seq[at + 1 :]]) and self._gain(before):
                        continue
                    solution.undo(mark)
                at += 1

    def _depots_of(self, lane: int) -> int:
        return sum(node >= self.net.first_depot for node in self.solution.lanes[lane].seq)

    def _gain(self, before: tuple[float, float]) -> bool:
        """Whether the plan is better now than it was."""
        tier1, tier2 = self.solution.tier1 - before[0], self.solution.tier2 - before[1]
        return tier1 < -1e-7 or (tier1 < 1e-7 and tier2 < -1e-7)

    def _changed(self, visit: int) -> bool:
        return self.solution.where[visit] >= 0 and self.solution.change_cost(visit) > 0

    def _give_back(self, visit: int, attempt: int, expired: Callable[[], bool]) -> bool:
        """Plan a changed visit anew: alone, with the lanes of who had it, with its own too; keep what is better."""
        solution, net = self.solution, self.net
        home = solution.home[visit] or frozenset()
        lanes = [lane for lane in range(len(solution.lanes)) if net.tech[lane] in home] if attempt else []
        if attempt % 2 == 0 and attempt:
            lanes += [lane for lane in (solution.where[visit], solution.second[visit]) if lane >= 0]
        before, mark = (solution.tier1, solution.tier2), solution.mark()
        out: dict[int, None] = {}
        self._take(visit, out)
        for lane in lanes:
            for node in solution.lanes[lane].seq:
                if net.visit[node] >= 0:
                    self._take(net.visit[node], out)
        if solution.remove(out):
            absent = [other for other in solution.absent if not self.locked[other]]
            self._sort(absent)
            everywhere = net.compatible[visit]
            if attempt % 3 == 2 and lanes:  # nowhere else but at home: the others find their places around it
                net.compatible[visit] = [lane for lane in everywhere if net.tech[lane] in home]
            insert(solution, absent, expired, self.random.random, 4 * self.tuning.blink)
            net.compatible[visit] = everywhere
            if any(self._depots_of(lane) > 1 for lane in lanes):
                self._shorten()
            if self._gain(before):
                solution.forget()
                return True
        solution.undo(mark)
        return False

    def _forget_longing(self) -> None:
        self.solution.longing[:] = [0.0] * self.net.visit_count

    def _price(self) -> float:
        """Return the walk's one figure: lower is better."""
        solution = self.solution
        longing = solution.longing
        extra = sum(longing[visit] for visit in solution.absent)
        return self.tuning.scale * (solution.tier1 + extra) + solution.tier2

    def _long(self) -> None:
        """Nothing better for a while: make leaving out dearer for those left out now, and forget old longings a bit.

        This is guided local search (Voudouris and Tsang 1999) on the drop costs: it moves the walk to plans that
        leave out other visits. The best plan is always judged by the true costs.
        """
        solution, drop = self.solution, self.net.drop
        longing = solution.longing
        for visit, value in enumerate(longing):
            if value:
                longing[visit] = 0.9 * value if value > 1 else 0.0
        for visit in solution.absent:
            longing[visit] += self.tuning.longing * drop[visit]

    def _step(self, expired: Callable[[], bool]) -> bool:
        solution, random = self.solution, self.random
        out, seed = self._ruin()
        if not solution.remove(out):
            return False
        absent = list(out)
        others = [visit for visit in solution.absent if visit not in out and not self.locked[visit]]
        if len(others) > 12:
            near = [visit for visit in self._near(seed) if visit in solution.absent and visit not in out]
            others = near[:6] + random.sample(others, 6)
        absent += dict.fromkeys(others)
        self._sort(absent)
        insert(solution, absent, expired, random.random, self.tuning.blink)
        return True

    def _sort(self, visits: list[int]) -> None:
        net, draw = self.net, self.random.random()
        self.random.shuffle(visits)
        if draw < 0.35:
            return
        if draw < 0.6:
            longing = self.solution.longing
            visits.sort(key=lambda visit: -net.drop[visit] - longing[visit])
        elif draw < 0.75:
            visits.sort(key=lambda visit: len(net.compatible[visit]))
        elif draw < 0.85:
            visits.sort(key=lambda visit: -net.dur[visit])
        elif draw < 0.95:
            visits.sort(key=lambda visit: min(net.dead[visit], net.static_hi[visit]))
        else:
            visits.sort(key=lambda visit: net.static_hi[visit] - net.static_lo[visit])

    # ruin
    def _near(self, visit: int) -> list[int]:
        found = self.near.get(visit)
        if found is None:
            net = self.net
            row, loc, low, high = net.table[net.loc[visit]], net.loc, net.static_lo, net.static_hi
            mine, until = low[visit], high[visit]

            def distance(other: int) -> float:
                gap = max(0, low[other] - until, mine - high[other])
                return float(row[loc[other]]) + 0.3 * min(gap, 1000)

            found = nsmallest(NEAR, range(net.visit_count), key=distance)
            self.near[visit] = found
        return found

    def _ruin(self) -> tuple[dict[int, None], int]:
        random, solution, net = self.random, self.solution, self.net
        out: dict[int, None] = {}
        draw = random.random()
        seed = self._seed()
        average = self.tuning.average
        planned = net.visit_count - len(solution.absent)
        most = max(1, min(planned, int(random.random() * 2 * average) + 1))
        if draw < 0.72:
            longest = min(self.tuning.longest, max(1.0, 1.5 * planned / max(1, self._driven())))
            strings = max(1, round(most / (1 + longest) * 2))
            ruined: set[int] = set()
            for visit in self._near(seed):
                if len(ruined) >= strings:
                    break
                for lane in (solution.where[visit], solution.second[visit]):
                    if lane >= 0 and lane not in ruined and visit not in out:
                        ruined.add(lane)
                        self._string(lane, visit, longest, out)
        elif draw < 0.86:
            for visit in self._near(seed):
                if len(out) >= most:
                    break
                if solution.where[visit] >= 0 and random.random() < 0.75:
                    self._take(visit, out)
        elif draw < 0.94:
            for _ in range(most):
                self._take(random.choice(self.movable), out)
        else:
            lanes = 0
            for visit in self._near(seed):
                lane = solution.where[visit]
                if lane >= 0 and visit not in out:
                    for node in solution.lanes[lane].seq:
                        if net.visit[node] >= 0:
                            self._take(net.visit[node], out)
                    lanes += 1
                    if lanes >= 2 or random.random() < 0.4:
                        break
        if not out:
            self._take(random.choice(self.movable), out)
        return out, seed

    def _driven(self) -> int:
        return sum(1 for lane in self.solution.lanes if lane.seq)

    def _seed(self) -> int:
        random, solution = self.random, self.solution
        if solution.absent and random.random() < 0.4:
            return random.choice(list(solution.absent))
        if random.random() < 0.3:
            late = [lane for lane in solution.lanes if lane.timing.cost > 0 and lane.seq]
            if late:
                node = random.choice(random.choice(late).seq)
                if self.net.visit[node] >= 0:
                    return self.net.visit[node]
        return random.choice(self.movable)

    def _string(self, lane: int, visit: int, longest: float, out: dict[int, None]) -> None:
        """Take a run of stops that contains a visit, sometimes keeping a few in its middle."""
        random, net = self.random, self.net
        seq = self.solution.lanes[lane].seq
        node = self.solution.node_of[visit]
        if node not in seq:
            return
        at = seq.index(node)
        length = min(len(seq), int(random.random() * longest) + 1)
        begin = random.randint(max(0, at - length + 1), min(at, len(seq) - length))
        for node in seq[begin : begin + length]:
            other = net.visit[node]
            if other >= 0 and (other == visit or random.random() < 0.9):
                self._take(other, out)

    def _take(self, visit: int, out: dict[int, None]) -> None:
        """Mark a planned visit, and all planned visits that must come after it, for removal."""
        if self.locked[visit] or self.solution.where[visit] < 0 or visit in out:
            return
        out[visit] = None
        for other in self.net.before[visit]:
            self._take(other, out)
