"""Is this plan feasible, and what is it worth? Reads the raw JSON and shares no code with the planner.

Where the planner keeps clever tables, this file counts by hand, so that a mistake in one is caught by the other.
"""

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

Json = dict[str, Any]


@dataclass(slots=True)
class Verdict:
    """Every violation in words (none: feasible), and the score tier by tier; lower is better."""

    violations: list[str] = field(default_factory=list)
    tier1: float = 0
    tier2: float = 0
    tier3: float = 0
    travel: int = 0
    overtime: int = 0
    waiting: int = 0  # neither travel, work nor break, between departures and finishes
    late: int = 0  # visits
    dropped: int = 0
    moved: int = 0  # promised visits outside their promise, or dropped
    changed: int = 0  # visits whose technicians differ from the plan in force

    @property
    def feasible(self) -> bool:
        return not self.violations

    @property
    def score(self) -> tuple[float, float, float]:
        return self.tier1, self.tier2, self.tier3


@dataclass(slots=True)
class _Served:
    """What the routes say about one visit."""

    tech: str
    start: int
    brings: dict[str, int] | None
    place: str


def check(problem: Json, plan: Any) -> Verdict:
    """Judge a dispatch-plan/1 against a well-formed dispatch-problem/1, both as parsed JSON.

    A plan that cannot even be read is infeasible, with the reason among the violations.
    """
    verdict = Verdict()
    wrong = _shape(plan)
    if wrong:
        verdict.violations = wrong
        return verdict
    _Judge(problem, plan, verdict).judge()
    return verdict


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _shape(plan: Any) -> list[str]:
    """Return what keeps the plan from being read."""
    if not isinstance(plan, dict):
        return ["The plan is not a JSON object."]
    wrong = []
    if plan.get("format") != "dispatch-plan/1":
        wrong.append(f"The plan's format is {plan.get('format')!r}, not 'dispatch-plan/1'.")
    lists = ("routes", "unassigned", "renegotiate")
    wrong += [f"The plan has no list {key}." for key in lists if not isinstance(plan.get(key), list)]
    if wrong:
        return wrong
    for at, route in enumerate(plan["routes"]):
        if not isinstance(route, dict) or not isinstance(route.get("stops"), list):
            wrong.append(f"routes[{at}] is not a route with stops.")
            continue
        wrong += [
            f"routes[{at}].{key} is {route.get(key)!r}, not a whole number."
            for key in ("shift", "depart", "finish")
            if not _whole(route.get(key))
        ]
        for number, stop in enumerate(route["stops"]):
            place = f"routes[{at}].stops[{number}]"
            if not isinstance(stop, dict) or stop.get("kind") not in ("visit", "break", "depot"):
                wrong.append(f"{place} is not a visit, a break or a depot.")
                continue
            if not _whole(stop.get("start")):
                wrong.append(f"{place}.start is {stop.get('start')!r}, not a whole number.")
            goods = stop.get("parts" if stop["kind"] == "visit" else "take")
            if goods is not None and not (
                isinstance(goods, dict) and all(_whole(n) and n >= 0 for n in goods.values())
            ):
                wrong.append(f"{place} has quantities of parts that are not whole numbers of 0 or more.")
    for at, item in enumerate(plan["unassigned"]):
        if not isinstance(item, dict) or not isinstance(item.get("visit"), str):
            wrong.append(f"unassigned[{at}] names no visit.")
    wrong += [
        f"renegotiate[{at}] is no visit id." for at, v in enumerate(plan["renegotiate"]) if not isinstance(v, str)
    ]
    return wrong


class _Judge:
    def __init__(self, problem: Json, plan: Json, verdict: Verdict) -> None:
        self.problem, self.plan, self.verdict = problem, plan, verdict
        self.now = problem.get("now") or 0
        self.techs = {tech["id"]: tech for tech in problem["technicians"]}
        self.visits = {visit["id"]: visit for visit in problem["visits"]}
        self.depots = {depot["id"]: depot for depot in problem.get("depots") or []}
        self.places = {place["id"]: at for at, place in enumerate(problem["locations"])}
        self.served: dict[str, list[_Served]] = {}
        self.stock_moves: dict[str, list[tuple[int, int, int, str, int, str]]] = {}
        self.taken: dict[tuple[str, str], int] = {}
        self.work: dict[str, float] = {}

    def say(self, sentence: str) -> None:
        self.verdict.violations.append(sentence)

    def minutes(self, a: str, b: str) -> int:
        i, j = self.places[a], self.places[b]
        travel = self.problem["travel"]
        if travel["kind"] == "matrix":
            return int(travel["minutes"][i][j])
        if i == j:
            return 0
        one, two = self.problem["locations"][i], self.problem["locations"][j]
        km = math.hypot(one["x"] - two["x"], one["y"] - two["y"])
        detour = 1 if travel.get("detour") is None else travel["detour"]
        return max(0, math.ceil(detour * km / float(travel["km_per_min"]) - 1e-9))

    def judge(self) -> None:
        self._routes()
        self._stocks()
        self._assignment()
        for name, stops in self.served.items():
            self._visit(self.visits[name], stops)
        self._order()
        self._costs()

    # routes
    def _routes(self) -> None:
        seen: set[tuple[str, int]] = set()
        spans: dict[str, list[tuple[int, int, str]]] = {}
        for at, route in enumerate(self.plan["routes"]):
            name, k = route.get("tech"), route["shift"]
            tech = self.techs.get(name) if isinstance(name, str) else None
            if tech is None:
                self.say(f"routes[{at}] is for technician {name!r}, who does not exist.")
                continue
            if not 0 <= k < len(tech["shifts"]):
                self.say(f"routes[{at}]: {name} has no shift {k}.")
                continue
            if (name, k) in seen:
                self.say(f"routes[{at}]: {name} has a second route in shift {k}.")
            seen.add((name, k))
            spans.setdefault(name, []).append((route["depart"], route["finish"], f"shift {k}"))
            self._route(f"{name}, shift {k}", route, tech, tech["shifts"][k])
        for name, own in spans.items():
            own.sort()
            for (_, finish, one), (depart, _, two) in pairwise(own):
                if depart < finish:
                    self.say(f"{name} departs on {two} at {depart}, before {one} finishes at {finish}.")

    def _route(self, label: str, route: Json, tech: Json, shift: Json) -> None:
        limit = shift["end"] + (shift.get("overtime") or 0)
        depart, finish = route["depart"], route["finish"]
        if depart < shift["start"]:
            self.say(f"{label}: departs at {depart}, before the shift starts at {shift['start']}.")
        if finish > limit:
            self.say(f"{label}: finishes at {finish}, after the shift and its overtime end at {limit}.")
        here, leave = shift["from"], depart
        travel = service = 0
        rest = shift.get("break")
        pauses: list[int] = []
        pending: int | None = None  # start of a break taken since the last place
        past = self._past(tech["id"], route)
        for number, stop in enumerate(route["stops"]):
            start, kind = stop["start"], stop["kind"]
            if kind == "break":
                pauses.append(start)
                if rest is None:
                    self.say(f"{label}: takes a break at {start}, but the shift has none.")
                    continue
                if pending is not None:
                    continue  # two breaks in a row: reported below as more than one
                if start < leave:
                    self.say(f"{label}: the break starts at {start}, before the stop before it ends at {leave}.")
                if not rest["earliest"] <= start <= rest["latest"]:
                    self.say(f"{label}: the break starts at {start}, outside {rest['earliest']} to {rest['latest']}.")
                if start < self.now and number not in past:
                    self.say(f"{label}: the break starts at {start}, before now ({self.now}).")
                pending = start
                continue
            thing = (self.visits if kind == "visit" else self.depots).get(stop.get(kind))
            if thing is None:
                self.say(f"{label}: stop {number} is {kind} {stop.get(kind)!r}, which does not exist.")
                continue
            name = thing["id"]
            way = self.minutes(here, thing["location"])
            travel += way
            ready = self._ready(leave, way, pending, rest)
            if start < ready:
                self.say(f"{label}: {kind} {name} starts at {start}, but cannot be reached before {ready}.")
            early = number == 0 and depart < self.now and start < self.now + way
            if early and not self._was_under_way(tech["id"], route, number, past):
                self.say(f"{label}: has to depart for {name} before now ({self.now}).")
            pending = None
            length = thing["duration"] if kind == "visit" else thing.get("service") or 0
            service += length
            leave, here = start + length, thing["location"]
            if kind == "visit":
                brings = stop.get("parts")
                self.served.setdefault(name, []).append(_Served(tech["id"], start, brings, label))
                if brings is None:
                    brings = thing.get("parts") or {} if (thing.get("crew") or 1) == 1 else {}
                for part, quantity in brings.items():
                    self._move(tech["id"], shift, number, part, -quantity, f"{label}: visit {name}")
            else:
                if start < self.now and number not in past:
                    self.say(f"{label}: depot {name} starts at {start}, before now ({self.now}).")
                for part, quantity in (stop.get("take") or {}).items():
                    self._move(tech["id"], shift, number, part, quantity, f"{label}: depot {name}")
                    self.taken[name, part] = self.taken.get((name, part), 0) + quantity
        way = self.minutes(here, shift["to"])
        travel += way
        ready = self._ready(leave, way, pending, rest)
        if finish < ready:
            self.say(f"{label}: finishes at {finish}, but cannot be back before {ready}.")
        if rest is not None:
            if len(pauses) > 1:
                self.say(f"{label}: takes {len(pauses)} breaks instead of one.")
            if not pauses and finish > rest["latest"]:
                self.say(f"{label}: finishes at {finish} without the break due by {rest['latest']}.")
        most = tech.get("max_travel")
        if most is not None and travel > most:
            self.say(f"{label}: travels {travel} minutes, more than {most}.")
        self.verdict.travel += travel
        self.verdict.overtime += max(0, finish - shift["end"])
        self.verdict.waiting += finish - depart - travel - service
        self.verdict.waiting -= len(pauses) * int(rest["duration"]) if rest is not None else 0
        self.work[tech["id"]] = self.work.get(tech["id"], 0) + service + travel

    @staticmethod
    def _ready(leave: int, way: int, pending: int | None, rest: Json | None) -> int:
        if pending is None or rest is None:
            return leave + way
        return max(leave + way + int(rest["duration"]), pending + int(rest["duration"]))

    def _incumbent_stops(self, tech: str, shift: int) -> list[Json]:
        for route in (self.problem.get("incumbent") or {}).get("routes", []):
            if route.get("tech") == tech and route.get("shift") == shift:
                return list(route.get("stops", []))
        return []

    def _past(self, tech: str, route: Json) -> set[int]:
        """Return the stops that are history: in the plan in force, or before a pinned visit that has begun."""
        old = [
            (stop.get("kind"), stop.get("depot"), stop.get("start"))
            for stop in self._incumbent_stops(tech, route["shift"])
        ]
        found, history = set(), False
        for number in range(len(route["stops"]) - 1, -1, -1):
            stop = route["stops"][number]
            pin = (self.visits.get(stop.get("visit")) or {}).get("pin") if stop["kind"] == "visit" else None
            if pin and stop["start"] <= self.now:
                history = True
            if history or (stop["kind"], stop.get("depot"), stop["start"]) in old:
                found.add(number)
        return found

    def _was_under_way(self, tech: str, route: Json, number: int, past: set[int]) -> bool:
        stop = route["stops"][number]
        if number in past:
            return True
        if stop["kind"] != "visit":
            return False
        if (self.visits.get(stop.get("visit")) or {}).get("pin"):
            return True
        old = self._incumbent_stops(tech, route["shift"])
        return bool(old) and old[0].get("visit") == stop.get("visit") and old[0].get("start") == stop["start"]

    # parts
    def _move(self, tech: str, shift: Json, number: int, part: str, quantity: int, where: str) -> None:
        moves = self.stock_moves.setdefault(tech, [])
        moves.append((shift["start"], number, len(moves), part, quantity, where))

    def _stocks(self) -> None:
        for tech, moves in self.stock_moves.items():
            stock = dict(self.techs[tech].get("stock") or {})
            for _, _, _, part, quantity, where in sorted(moves):
                stock[part] = stock.get(part, 0) + quantity
                if quantity < 0 and stock[part] < 0:
                    self.say(f"{where} needs {-quantity} x {part}, and {tech} is {-stock[part]} short.")
        for (name, part), quantity in self.taken.items():
            there = (self.depots[name].get("stock") or {}).get(part, 0)
            if quantity > there:
                self.say(f"Depot {name} hands out {quantity} x {part} and has {there}.")

    # visits
    def _assignment(self) -> None:
        left_out: set[str] = set()
        for item in self.plan["unassigned"]:
            name = item["visit"]
            if name not in self.visits:
                self.say(f"Unassigned visit {name!r} does not exist.")
                continue
            if name in left_out:
                self.say(f"Visit {name} is listed as unassigned twice.")
            left_out.add(name)
            if name in self.served:
                self.say(f"Visit {name} is both in a route and unassigned.")
            if self.visits[name].get("pin"):
                self.say(f"Visit {name} is pinned and may not be dropped.")
        for name in self.visits:
            if name not in self.served and name not in left_out:
                self.say(f"Visit {name} is neither in a route nor unassigned.")
        for name in self.plan["renegotiate"]:
            if name not in self.visits:
                self.say(f"Visit {name!r} to renegotiate does not exist.")

    def _visit(self, visit: Json, stops: list[_Served]) -> None:
        name, crew, pin = visit["id"], visit.get("crew") or 1, visit.get("pin")
        who = [stop.tech for stop in stops]
        if len(stops) != crew or len(set(who)) != len(who):
            self.say(f"Visit {name} needs {crew} technician(s) and has {', '.join(who)}.")
        starts = sorted({stop.start for stop in stops})
        if len(starts) > 1:
            self.say(f"Visit {name} starts at {starts[0]} for one technician and at {starts[-1]} for the other.")
        start = starts[0]
        if pin:
            if start != pin["start"] or len(starts) > 1:
                self.say(f"Visit {name} is pinned to start at {pin['start']} and starts at {start}.")
            if sorted(who) != sorted(pin["tech"]):
                self.say(f"Visit {name} is pinned on {', '.join(pin['tech'])} and is done by {', '.join(who)}.")
        else:
            for at in starts:
                if not any(a <= at <= b for a, b in visit["windows"]):
                    self.say(f"Visit {name} starts at {at}, outside its windows.")
            if start < self.now:
                self.say(f"Visit {name} starts at {start}, before now ({self.now}).")
        for skill, level in (visit.get("skills") or {}).items():
            if not any((self.techs[tech].get("skills") or {}).get(skill, 0) >= level for tech in who):
                self.say(f"Visit {name} needs {skill} at level {level}, which {', '.join(who)} does not have.")
        for tech in who:
            if visit.get("only") is not None and tech not in visit["only"]:
                self.say(f"Visit {name} may be done only by {', '.join(visit['only'])}, not by {tech}.")
            if tech in (visit.get("never") or []):
                self.say(f"Visit {name} may never be done by {tech}.")
        needed = visit.get("parts") or {}
        for part, quantity in needed.items():
            default = quantity if crew == 1 else 0
            brought = sum(default if stop.brings is None else stop.brings.get(part, 0) for stop in stops)
            if brought < quantity:
                self.say(f"Visit {name} needs {quantity} x {part} and is brought {brought}.")

    def _order(self) -> None:
        for name, stops in self.served.items():
            for earlier in self.visits[name].get("after") or []:
                if earlier not in self.served:
                    self.say(f"Visit {name} is planned, but {earlier}, which must come before it, is not.")
                    continue
                end = max(stop.start for stop in self.served[earlier]) + self.visits[earlier]["duration"]
                start = min(stop.start for stop in stops)
                if start < end:
                    self.say(f"Visit {name} starts at {start}, before {earlier} ends at {end}.")

    # the score
    def _costs(self) -> None:
        verdict, weights = self.verdict, self.problem.get("weights") or {}
        renegotiate = set(self.plan["renegotiate"])
        old: dict[str, set[str]] = {}
        for route in (self.problem.get("incumbent") or {}).get("routes", []):
            for stop in route.get("stops", []):
                if stop.get("kind") == "visit":
                    old.setdefault(stop["visit"], set()).add(route["tech"])
        for name, visit in self.visits.items():
            stops = self.served.get(name)
            promised = visit.get("promised")
            if not stops:
                verdict.dropped += 1
                verdict.tier1 += visit.get("drop") or 0
                moved = bool(promised)
            else:
                start = max(stop.start for stop in stops)
                sla = visit.get("sla")
                minutes_late = start + visit["duration"] - sla["deadline"] if sla else 0
                if sla and minutes_late > 0:
                    verdict.late += 1
                    verdict.tier1 += (sla.get("fixed") or 0) + (sla.get("per_min") or 0) * minutes_late
                moved = bool(promised) and not promised[0] <= start <= promised[1]
                if name in old and old[name] != {stop.tech for stop in stops}:
                    verdict.changed += 1
            if moved:
                verdict.moved += 1
                verdict.tier1 += weights.get("renegotiate") or 0
                if name not in renegotiate:
                    self.say(f"Visit {name} leaves its promise and is not listed in renegotiate.")
        verdict.tier2 = (
            _weight(weights, "travel", 1) * verdict.travel
            + _weight(weights, "overtime", 1) * verdict.overtime
            + _weight(weights, "change_tech", 0) * verdict.changed
            + _weight(weights, "waiting", 0) * verdict.waiting
        )
        shares = []
        for name, tech in self.techs.items():
            length = sum(shift["end"] - shift["start"] for shift in tech["shifts"])
            if length > 0:
                shares.append(self.work.get(name, 0) / length)
        mean = sum(shares) / len(shares) if shares else 0
        verdict.tier3 = _weight(weights, "balance", 0) * sum((share - mean) ** 2 for share in shares)


def _weight(weights: Json, name: str, default: float) -> float:
    value = weights.get(name)
    return default if value is None else float(value) if isinstance(value, float) else int(value)
