"""PyVRP as an accelerator: routes of a simplified problem, put through our own scheduler stop by stop.

PyVRP (Wouda, Lan and Kool 2024) is very good at what its model can say: travel, windows, shifts, loads, prizes. Ours
says more: breaks, two technicians at once, precedence, depot stops, lateness by the minute. So its routes are only a
seed. Whatever our scheduler refuses stays out and is planned by our own insertion, and the result is kept only if it
is better by our own score. Without the package, or where little of a problem fits its model, nothing changes.
"""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

from msp.dispatch.network import Network
from msp.dispatch.solution import Solution

UNIT = 10  # of PyVRP's whole costs in one minute of travel
LARGEST = 1500  # places; its tables are dense
DIMENSIONS = 48  # kinds of load: skills are loads that only those who have them can carry
HOPELESS_PENALTY = 1e7  # its own largest makes lateness cheaper than a dropped visit
ENOUGH = 0.6  # share of the visits that must fit the simplified model
SHORTEST = 1.0  # seconds left, below which importing and building it is not worth while
MOST, SOME = 0.85, 0.35  # share of the time that it gets where the model holds everything, and where it does not


def available() -> bool:
    """Whether the package is installed (extra `routing`)."""
    return find_spec("pyvrp") is not None


def fits(net: Network) -> float:
    """Return the share of the visits that the simplified model can hold; 0 where it should not be tried at all."""
    problem = net.problem
    usable = not problem.incumbent and len(problem.place_ids) <= LARGEST and len(net.tech) > 0 and net.visit_count > 1
    if not usable or any(visit.pin for visit in problem.visits):
        return 0.0
    possible = [visit for visit in range(net.visit_count) if net.compatible[visit]]
    whole = sum(_plain(net, visit) for visit in possible) / max(1, len(possible))
    resting = sum(pause is not None for pause in net.rest) / len(net.rest)
    return whole * (1 - 0.5 * resting)


def _plain(net: Network, visit: int) -> bool:
    windows = net.alt[visit] >= 0 or net.static_lo[visit] <= net.static_hi[visit]
    return not net.tied[visit] and bool(net.compatible[visit]) and windows


class Simplified:
    """A problem in PyVRP's terms: one client per visit and window, one vehicle type per kind of lane."""

    def __init__(self, net: Network, scale: float) -> None:
        import numpy
        import pyvrp

        self._net, self._pyvrp = net, pyvrp
        self.visits: list[int] = []  # of each client
        self.lanes: list[list[int]] = []  # of each vehicle type
        size = len(net.problem.place_ids)
        table: Any = numpy.array([[net.table[a][b] for b in range(size)] for a in range(size)], dtype=numpy.int64)
        self._kinds = self._loads()
        clients, groups = self._clients(scale)
        vehicles, depots = self._vehicles()
        locations = [pyvrp.Location(0, 0) for _ in range(size)]
        self.data = pyvrp.ProblemData(locations, clients, depots, vehicles, [table], [table], groups)

    def _loads(self) -> list[tuple[frozenset[int], str]]:
        """Return the kinds of load: (lanes that may carry it, "") for skills and lists, (all, part) for van stock."""
        net = self._net
        every = frozenset(range(len(net.tech)))
        counted: dict[tuple[frozenset[int], str], int] = {}
        for visit in range(net.visit_count):
            allowed = frozenset(net.compatible[visit])
            if _plain(net, visit) and allowed != every:
                counted[allowed, ""] = counted.get((allowed, ""), 0) + 1
            for part in net.parts[visit] if not net.problem.depots else ():
                counted[every, part] = counted.get((every, part), 0) + 1
        return [kind for kind, _ in sorted(counted.items(), key=lambda item: -item[1])[:DIMENSIONS]]

    def _clients(self, scale: float) -> tuple[list[Any], list[Any]]:
        net, pyvrp = self._net, self._pyvrp
        clients: list[Any] = []
        groups: list[Any] = []
        for visit in range(net.visit_count):
            if not _plain(net, visit) or net.static_lo[visit] > net.static_hi[visit]:
                continue
            allowed = frozenset(net.compatible[visit])
            load = [
                net.parts[visit].get(part, 0) if part else int(allowed == carriers) for carriers, part in self._kinds
            ]
            prize = max(1, round(min(net.drop[visit] * scale, 1e9) * UNIT))
            windows = net.wins[visit] or ((net.static_lo[visit], net.static_hi[visit]),)
            first = len(clients)
            for low, high in windows:
                alternatives = len(windows) > 1
                clients.append(
                    pyvrp.Client(
                        net.loc[visit],
                        delivery=load,
                        service_duration=net.dur[visit],
                        tw_early=max(0, low),
                        tw_late=max(0, high),
                        prize=prize,
                        required=False,
                        group=len(groups) if alternatives else None,
                    )
                )
                self.visits.append(visit)
            if len(windows) > 1:
                groups.append(pyvrp.ClientGroup(list(range(first, len(clients))), required=False))
        return clients, groups

    def _vehicles(self) -> tuple[list[Any], list[Any]]:
        """Return vehicle types and depots; lanes that are alike make one type."""
        net, pyvrp = self._net, self._pyvrp
        depots: dict[int, int] = {}
        kinds: dict[tuple[Any, ...], list[int]] = {}
        for lane, past in enumerate(net.past):
            if net.closed[lane] or past.stops:
                continue
            who = net.problem.technicians[net.tech[lane]]
            load = tuple(
                int(who.stock.get(part, 0)) if part else (net.visit_count if lane in carriers else 0)
                for carriers, part in self._kinds
            )
            begin, end = (depots.setdefault(place, len(depots)) for place in (past.place, net.dest[lane]))
            over = net.max_finish[lane] - net.end[lane]
            key = (begin, end, past.base, net.end[lane], max(0, over), min(net.room[lane], 1 << 30), load)
            kinds.setdefault(key, []).append(lane)
        weights = net.problem.weights
        travel, overtime = max(1, round(weights.travel * UNIT)), max(1, round(weights.overtime * UNIT))
        vehicles = []
        for (begin, end, early, late, over, room, load), lanes in kinds.items():
            self.lanes.append(lanes)
            vehicles.append(
                pyvrp.VehicleType(
                    len(lanes),
                    capacity=list(load),
                    start_depot=begin,
                    end_depot=end,
                    tw_early=early,
                    tw_late=late + over,
                    max_distance=room,
                    unit_distance_cost=travel,
                    max_overtime=over,
                    shift_duration=max(0, late - early),
                    unit_overtime_cost=overtime if over else 0,
                )
            )
        return vehicles, [pyvrp.Depot(place) for place in depots]

    def routes(self, enough: int | Callable[[], bool], seed: int) -> Iterator[tuple[int, list[int]]]:
        """Solve and yield (lane, visits in order); each lane at most once."""
        from pyvrp import PenaltyParams, SolveParams, solve
        from pyvrp.stop import MaxIterations

        stop = MaxIterations(enough) if isinstance(enough, int) else lambda _cost: enough()
        params = SolveParams(penalty=PenaltyParams(max_penalty=HOPELESS_PENALTY))
        best = solve(self.data, stop, seed=seed, collect_stats=False, display=False, params=params).best
        free = [list(lanes) for lanes in self.lanes]
        for route in best.routes():
            order = [self.visits[step.idx] for step in route.schedule() if step.is_client()]
            if order and free[route.vehicle_type()]:
                yield free[route.vehicle_type()].pop(0), order


def reseed(solution: Solution, *, enough: int | Callable[[], bool], seed: int, scale: float) -> list[int]:
    """Replace the plan by PyVRP's as far as our scheduler takes it, and return the visits that are out.

    enough: iterations of its search, or what says that there have been enough. solution: nothing in it pinned. The
    caller plans those visits, compares, and goes back to what it had if that was better.
    """
    net = solution.net
    found = list(Simplified(net, scale).routes(enough, seed))
    planned = [visit for visit in range(net.visit_count) if solution.where[visit] >= 0]
    solution.remove(dict.fromkeys(planned))
    for lane, order in found:
        for visit in order:
            mark = solution.mark()
            here = solution.lanes[lane].seq
            placed = solution.where[visit] < 0 and lane in net.compatible[visit]
            if not (placed and solution.place(visit, visit, lane, [*here, visit])):
                solution.undo(mark)
    solution.forget()
    return list(solution.absent)
