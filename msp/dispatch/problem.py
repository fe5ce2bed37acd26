"""A dispatch problem (dispatch-problem/1): read, checked, and turned into values with indexes for names.

Whatever can still be planned is accepted: a visit that nobody can do ends up unassigned with its reason.
What contradicts itself (a shift that ends before it begins, a cycle of predecessors, a pin on a technician who
does not exist) is refused in a sentence that names the field. Times are whole minutes from midnight of day 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from msp.dispatch import plan as plans
from msp.dispatch.plan import Plan
from msp.dispatch.travel import Plane, Rows
from msp.errors import Misconfigured

FORMAT = "dispatch-problem/1"
Travel = Mapping[int, Any] | list[list[int]]


@dataclass(frozen=True, slots=True)
class Break:
    duration: int
    earliest: int  # of its start
    latest: int


@dataclass(frozen=True, slots=True)
class Shift:
    start: int
    end: int
    overtime: int  # minutes allowed after `end`
    origin: int  # index into Problem.points
    destination: int
    rest: Break | None


@dataclass(frozen=True, slots=True)
class Technician:
    id: str
    skills: Mapping[str, int]
    stock: Mapping[str, int]
    max_travel: int | None  # minutes per shift
    shifts: tuple[Shift, ...]


@dataclass(frozen=True, slots=True)
class Depot:
    id: str
    location: int
    service: int
    stock: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Sla:
    deadline: int  # of the end
    per_min: float
    fixed: float

    def cost(self, end: int) -> float:
        return self.fixed + self.per_min * (end - self.deadline) if end > self.deadline else 0


@dataclass(frozen=True, slots=True)
class Pin:
    technicians: tuple[int, ...]
    start: int


@dataclass(frozen=True, slots=True)
class Visit:
    id: str
    location: int
    duration: int
    windows: tuple[tuple[int, int], ...]  # sorted, merged; of the start
    skills: Mapping[str, int]
    parts: Mapping[str, int]
    crew: int
    only: frozenset[int] | None
    never: frozenset[int]
    after: tuple[int, ...]
    sla: Sla | None
    drop: float
    pin: Pin | None
    promised: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Weights:
    renegotiate: float = 0
    change_tech: float = 0
    travel: float = 1
    overtime: float = 1
    balance: float = 0
    waiting: float = 0  # per minute between a departure and a finish that is no travel, work or break


@dataclass(frozen=True, slots=True)
class Problem:
    name: str
    now: int
    points: tuple[tuple[float, float], ...]
    place_ids: tuple[str, ...]
    plane: Plane | None
    matrix: list[list[int]] | None
    technicians: tuple[Technician, ...]
    depots: tuple[Depot, ...]
    visits: tuple[Visit, ...]
    incumbent: Plan | None
    weights: Weights

    def travel(self, *, pairs: bool = False) -> Any:
        """Return the table `table[a][b]` in minutes; `pairs`: few are needed, compute each on demand."""
        if self.matrix is not None:
            return self.matrix
        return Rows(self.points, self.plane or Plane(1.0, 1.0), pairs=pairs)


class Field:
    """A JSON value that knows where it stands, so that every complaint can name the place."""

    __slots__ = ("value", "where")

    def __init__(self, value: Any, where: str) -> None:
        self.value, self.where = value, where

    def wrong(self, what: str, advice: str = "Correct this field of the problem.") -> Misconfigured:
        return Misconfigured(f"{self.where or 'The problem'} {what}.", advice=advice)

    def table(self) -> "Field":
        if not isinstance(self.value, dict):
            raise self.wrong(f"is {_shown(self.value)}, not a table of fields")
        return self

    def has(self, key: str) -> bool:
        return self.table().value.get(key) is not None

    def get(self, key: str) -> "Field":
        self.table()
        place = f"{self.where}.{key}" if self.where else key
        if key not in self.value:
            raise Misconfigured(f"{place} is missing.", advice="Add this field to the problem.")
        return Field(self.value[key], place)

    def items(self, key: str, *, optional: bool = False) -> list["Field"]:
        if optional and not self.has(key):
            return []
        found = self.get(key)
        if not isinstance(found.value, list):
            raise found.wrong(f"is {_shown(found.value)}, not a list")
        return [Field(value, f"{found.where}[{at}]") for at, value in enumerate(found.value)]

    def whole(self, *, least: int | None = None) -> int:
        value = self.value
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong(f"is {_shown(value)}, not a whole number")
        if least is not None and value < least:
            raise self.wrong(f"is {value}, and must be {least} or more")
        return value

    def number(self, *, least: float | None = None) -> float:
        value = self.value
        if not isinstance(value, int | float) or isinstance(value, bool) or not isfinite(value):
            raise self.wrong(f"is {_shown(value)}, not a number")
        if least is not None and value < least:
            raise self.wrong(f"is {value}, and must be {least:g} or more")
        return value

    def text(self) -> str:
        if not isinstance(self.value, str) or not self.value:
            raise self.wrong(f"is {_shown(self.value)}, not an id")
        return self.value

    def name_in(self, known: Mapping[str, int], what: str) -> int:
        if not isinstance(self.value, str) or self.value not in known:
            raise self.wrong(f"names the {what} {_shown(self.value)}, which does not exist")
        return known[self.value]

    def counts(self, key: str) -> dict[str, int]:
        if not self.has(key):
            return {}
        found = self.get(key).table()
        return {name: Field(value, f"{found.where}.{name}").whole(least=0) for name, value in found.value.items()}

    def span(self) -> tuple[int, int]:
        if not isinstance(self.value, list) or len(self.value) != 2:
            raise self.wrong(f"is {_shown(self.value)}, not a pair [from, until]")
        begin, end = (Field(value, f"{self.where}[{at}]").whole() for at, value in enumerate(self.value))
        if end < begin:
            raise self.wrong(f"ends at {end}, before it begins at {begin}")
        return begin, end


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def from_json(value: Any) -> Problem:
    """Read dispatch-problem/1; raises Misconfigured with a sentence that names the field."""
    root = Field(value, "").table()
    if root.value.get("format") != FORMAT:
        raise Misconfigured(
            f'format is {_shown(root.value.get("format"))}, not "{FORMAT}".', advice="Name a dispatch problem."
        )
    places: dict[str, int] = {}
    points: list[tuple[float, float]] = []
    plane, matrix, need_points = None, None, True
    travel = root.get("travel").table()
    kind = travel.get("kind").value
    if kind == "euclid":
        detour = travel.get("detour").number(least=0) if travel.has("detour") else 1.0
        speed = travel.get("km_per_min")
        if speed.number() <= 0:
            raise speed.wrong(f"is {speed.value}, and must be more than 0")
        plane = Plane(detour, speed.number())
    elif kind == "matrix":
        need_points = False
    else:
        raise travel.get("kind").wrong(f"is {_shown(kind)}", 'Use "euclid" or "matrix".')
    for item in root.items("locations"):
        name = item.table().get("id").text()
        if name in places:
            raise item.get("id").wrong(f"is {name!r} a second time")
        places[name] = len(places)
        points.append((item.get("x").number(), item.get("y").number()) if need_points else (0.0, 0.0))
    if kind == "matrix":
        matrix = _matrix(travel, len(places))
    technicians = [_technician(item, places) for item in root.items("technicians")]
    techs = _indexed(technicians, root.items("technicians"))
    depots = [_depot(item, places) for item in root.items("depots", optional=True)]
    _indexed(depots, root.items("depots", optional=True))
    entries = root.items("visits")
    names: dict[str, int] = {}
    for item in entries:
        name = item.table().get("id").text()
        if name in names:
            raise item.get("id").wrong(f"is {name!r} a second time")
        names[name] = len(names)
    visits = [_visit(item, places, techs, names) for item in entries]
    _refuse_cycle(visits)
    weights = Weights()
    if root.has("weights"):
        given = root.get("weights").table()
        weights = Weights(
            **{
                name: given.get(name).number(least=0)
                for name in ("renegotiate", "change_tech", "travel", "overtime", "balance", "waiting")
                if given.has(name)
            }
        )
    problem = Problem(
        name=str(root.value.get("name", "")),
        now=root.get("now").whole() if root.has("now") else 0,
        points=tuple(points),
        place_ids=tuple(places),
        plane=plane,
        matrix=matrix,
        technicians=tuple(technicians),
        depots=tuple(depots),
        visits=tuple(visits),
        incumbent=plans.from_json(root.value["incumbent"], "incumbent") if root.has("incumbent") else None,
        weights=weights,
    )
    _refuse_bad_pins(problem)
    return problem


def visit_from_json(value: Any, problem: Problem) -> Visit:
    """Read one new visit against a problem; raises Misconfigured as `from_json` does."""
    item = Field(value, "visit").table()
    names = {visit.id: at for at, visit in enumerate(problem.visits)}
    name = item.get("id").text()
    if name in names:
        raise item.get("id").wrong(f"is {name!r}, which is in the problem already", "Give the new visit its own id.")
    places = {place: at for at, place in enumerate(problem.place_ids)}
    techs = {technician.id: at for at, technician in enumerate(problem.technicians)}
    return _visit(item, places, techs, names)


def _indexed(things: list[Any], fields: list[Field]) -> dict[str, int]:
    found: dict[str, int] = {}
    for at, thing in enumerate(things):
        if thing.id in found:
            raise fields[at].get("id").wrong(f"is {thing.id!r} a second time")
        found[thing.id] = at
    return found


def _matrix(travel: Field, size: int) -> list[list[int]]:
    rows = travel.items("minutes")
    if len(rows) != size:
        raise travel.get("minutes").wrong(f"has {len(rows)} rows for {size} locations")
    table = []
    for row in rows:
        if not isinstance(row.value, list) or len(row.value) != size:
            count = len(row.value) if isinstance(row.value, list) else 0
            raise row.wrong(f"has {count} values for {size} locations")
        if all(type(value) is int and value >= 0 for value in row.value):
            table.append(row.value)
        else:
            table.append([Field(value, f"{row.where}[{at}]").whole(least=0) for at, value in enumerate(row.value)])
    return table


def _technician(item: Field, places: Mapping[str, int]) -> Technician:
    item.table()
    shifts = []
    for given in item.items("shifts"):
        given.table()
        start, end = given.get("start").whole(), given.get("end").whole()
        if end <= start:
            raise given.wrong(f"ends at {end}, before it begins at {start}")
        rest = None
        if given.has("break"):
            pause = given.get("break").table()
            rest = Break(
                pause.get("duration").whole(least=0), pause.get("earliest").whole(), pause.get("latest").whole()
            )
            if rest.latest < rest.earliest:
                raise pause.wrong(f"must start by {rest.latest}, before its earliest start {rest.earliest}")
        shifts.append(
            Shift(
                start,
                end,
                given.get("overtime").whole(least=0) if given.has("overtime") else 0,
                given.get("from").name_in(places, "location"),
                given.get("to").name_in(places, "location"),
                rest,
            )
        )
        if any(other.start < end and start < other.end for other in shifts[:-1]):
            raise given.wrong("overlaps another shift of the same technician")
    most = item.get("max_travel").whole(least=0) if item.has("max_travel") else None
    return Technician(item.get("id").text(), item.counts("skills"), item.counts("stock"), most, tuple(shifts))


def _depot(item: Field, places: Mapping[str, int]) -> Depot:
    service = item.table().get("service").whole(least=0) if item.has("service") else 0
    location = item.get("location").name_in(places, "location")
    return Depot(item.get("id").text(), location, service, item.counts("stock"))


def _visit(item: Field, places: Mapping[str, int], techs: Mapping[str, int], names: Mapping[str, int]) -> Visit:
    windows: list[tuple[int, int]] = []
    for begin, end in sorted(field.span() for field in item.items("windows")):
        if windows and begin <= windows[-1][1] + 1:  # whole minutes: [1,2] and [3,4] are [1,4]
            windows[-1] = (windows[-1][0], max(end, windows[-1][1]))
        else:
            windows.append((begin, end))
    crew = item.get("crew").whole() if item.has("crew") else 1
    if crew not in (1, 2):
        raise item.get("crew").wrong(f"is {crew}, and must be 1 or 2")
    sla = None
    if item.has("sla"):
        late = item.get("sla").table()
        sla = Sla(
            late.get("deadline").whole(),
            late.get("per_min").number(least=0) if late.has("per_min") else 0,
            late.get("fixed").number(least=0) if late.has("fixed") else 0,
        )
    pin = None
    if item.has("pin"):
        given = item.get("pin").table()
        who = tuple(field.name_in(techs, "technician") for field in given.items("tech"))
        if len(set(who)) != crew or len(who) != crew:
            raise given.get("tech").wrong(f"names {len(set(who))} technicians for a crew of {crew}")
        pin = Pin(who, given.get("start").whole())
    only = [field.name_in(techs, "technician") for field in item.items("only")] if item.has("only") else None
    return Visit(
        id=item.get("id").text(),
        location=item.get("location").name_in(places, "location"),
        duration=item.get("duration").whole(least=0),
        windows=tuple(windows),
        skills=item.counts("skills"),
        parts={part: quantity for part, quantity in item.counts("parts").items() if quantity},
        crew=crew,
        only=None if only is None else frozenset(only),
        never=frozenset(field.name_in(techs, "technician") for field in item.items("never", optional=True)),
        after=tuple(dict.fromkeys(field.name_in(names, "visit") for field in item.items("after", optional=True))),
        sla=sla,
        drop=item.get("drop").number(least=0),
        pin=pin,
        promised=item.get("promised").span() if item.has("promised") else None,
    )


def _refuse_cycle(visits: list[Visit]) -> None:
    """Raise Misconfigured when visits wait for each other in a ring."""
    state = [0] * len(visits)  # 1: on the path, 2: done
    for root in range(len(visits)):
        path = [(root, iter(visits[root].after))] if not state[root] else []
        state[root] = state[root] or 1
        while path:
            here, rest = path[-1]
            following = next(rest, None)
            if following is None:
                state[here] = 2
                path.pop()
            elif state[following] == 1:
                ring = [at for at, _ in path]
                names = " after ".join(visits[at].id for at in [*ring[ring.index(following) :], following])
                raise Misconfigured(
                    f"visits[{following}].after makes a circle: {names}.", advice="Remove one of these predecessors."
                )
            elif not state[following]:
                state[following] = 1
                path.append((following, iter(visits[following].after)))


def _refuse_bad_pins(problem: Problem) -> None:
    """Raise Misconfigured for a pin that cannot hold whatever else is planned."""
    for at, visit in enumerate(problem.visits):
        if visit.pin is None:
            continue
        where, start = f"visits[{at}].pin", visit.pin.start
        crew = [problem.technicians[who] for who in visit.pin.technicians]
        for who, technician in zip(visit.pin.technicians, crew, strict=True):
            if not any(
                shift.start <= start and start + visit.duration <= shift.end + shift.overtime
                for shift in technician.shifts
            ):
                raise Misconfigured(
                    f"{where} cannot hold: {technician.id} has no shift from {start} to {start + visit.duration}.",
                    advice="Move the pin into a shift, or remove it.",
                )
            if who in visit.never or (visit.only is not None and who not in visit.only):
                raise Misconfigured(
                    f"{where} cannot hold: {technician.id} may not do visit {visit.id}.",
                    advice="Correct the pin, or the visit's only and never.",
                )
        for skill, level in visit.skills.items():
            if all(technician.skills.get(skill, 0) < level for technician in crew):
                raise Misconfigured(
                    f"{where} cannot hold: nobody pinned has skill {skill} at level {level}.",
                    advice="Pin a technician who has it.",
                )
