"""A plan in words and as JSON (dispatch-plan/1): who drives when, who is left out, whose promise moves.

Times are whole minutes from local midnight of day 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from msp.errors import Misconfigured

FORMAT = "dispatch-plan/1"


@dataclass(frozen=True, slots=True)
class Stop:
    """One entry of a route. `ref` is the id of the visit or depot, empty for a break.

    goods: what the technician brings to a visit, or takes from a depot; None means the default.
    """

    kind: Literal["visit", "break", "depot"]
    start: int
    ref: str = ""
    goods: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """One technician's shift: leaves the shift's `from` at `depart`, is at its `to` at `finish`."""

    tech: str
    shift: int
    depart: int
    finish: int
    stops: tuple[Stop, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    routes: tuple[Route, ...] = ()
    unassigned: Mapping[str, str] = field(default_factory=dict)  # visit -> reason
    renegotiate: tuple[str, ...] = ()

    def technicians_of(self) -> dict[str, list[str]]:
        """Return the sorted technicians of every planned visit."""
        found: dict[str, list[str]] = {}
        for route in self.routes:
            for stop in route.stops:
                if stop.kind == "visit":
                    found.setdefault(stop.ref, []).append(route.tech)
        return {visit: sorted(techs) for visit, techs in found.items()}

    def starts(self) -> dict[str, int]:
        """Return the start of every planned visit."""
        return {stop.ref: stop.start for route in self.routes for stop in route.stops if stop.kind == "visit"}


def to_json(plan: Plan) -> dict[str, Any]:
    """Return the plan as JSON values, always in the same order."""
    return {
        "format": FORMAT,
        "routes": [
            {
                "tech": route.tech,
                "shift": route.shift,
                "depart": route.depart,
                "finish": route.finish,
                "stops": [_stop_to_json(stop) for stop in route.stops],
            }
            for route in plan.routes
        ],
        "unassigned": [{"visit": visit, "reason": reason} for visit, reason in plan.unassigned.items()],
        "renegotiate": list(plan.renegotiate),
    }


def _stop_to_json(stop: Stop) -> dict[str, Any]:
    entry: dict[str, Any] = {"kind": stop.kind}
    if stop.kind != "break":
        entry[stop.kind] = stop.ref
    entry["start"] = stop.start
    if stop.kind == "depot":
        entry["take"] = dict(stop.goods or {})
    elif stop.kind == "visit" and stop.goods is not None:
        entry["parts"] = dict(stop.goods)
    return entry


def from_json(value: Any, where: str = "The plan") -> Plan:
    """Read dispatch-plan/1; raises Misconfigured with the place that cannot be read."""
    if not isinstance(value, dict) or value.get("format", FORMAT) != FORMAT:
        raise Misconfigured(
            f'{where} is not of format "{FORMAT}".', advice="Name a file that msp dispatch solve wrote."
        )
    routes = []
    for number, route in enumerate(_items(value, "routes", where)):
        place = f"{where}, routes[{number}]"
        stops = tuple(
            _stop_from_json(stop, f"{place}.stops[{at}]") for at, stop in enumerate(_items(route, "stops", place))
        )
        tech = route.get("tech")
        if not isinstance(tech, str):
            raise Misconfigured(f"{place}.tech is not a technician's id.", advice="Put the id there, as text.")
        whole = [_whole(route.get(name), f"{place}.{name}") for name in ("shift", "depart", "finish")]
        routes.append(Route(tech, whole[0], whole[1], whole[2], stops))
    unassigned = {}
    for number, item in enumerate(_items(value, "unassigned", where)):
        if not isinstance(item, dict) or not isinstance(item.get("visit"), str):
            raise Misconfigured(f"{where}, unassigned[{number}] names no visit.", advice='Write {"visit": id}.')
        unassigned[item["visit"]] = str(item.get("reason", ""))
    renegotiate = value.get("renegotiate") or []
    if not isinstance(renegotiate, list) or not all(isinstance(visit, str) for visit in renegotiate):
        raise Misconfigured(f"{where}, renegotiate is not a list of visit ids.", advice="Write a list of ids.")
    return Plan(tuple(routes), unassigned, tuple(renegotiate))


def _items(value: Any, key: str, where: str) -> list[Any]:
    found = value.get(key) if isinstance(value, dict) else None
    if key == "unassigned" and found is None and isinstance(value, dict):
        return []
    if not isinstance(found, list):
        raise Misconfigured(f"{where} has no list {key}.", advice=f"A plan of format {FORMAT} has one.")
    return found


def _whole(value: Any, where: str) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Misconfigured(f"{where} is {value!r}, not a whole number.", advice="Times are whole minutes.")
    return value


def _stop_from_json(value: Any, where: str) -> Stop:
    kind = value.get("kind") if isinstance(value, dict) else None
    if kind not in ("visit", "break", "depot"):
        raise Misconfigured(f"{where}.kind is {kind!r}.", advice="A stop is a visit, a break or a depot.")
    ref = "" if kind == "break" else value.get(kind)
    if not isinstance(ref, str):
        raise Misconfigured(f"{where}.{kind} is not an id.", advice="Put the id there, as text.")
    goods = value.get({"visit": "parts", "depot": "take"}.get(kind, "")) if kind != "break" else None
    if goods is not None:
        if not isinstance(goods, dict):
            raise Misconfigured(f"{where} has parts that are not a table.", advice='Write {"part": quantity}.')
        goods = {str(part): _whole(quantity, f"{where}, part {part}") for part, quantity in goods.items()}
    return Stop(kind, _whole(value.get("start"), f"{where}.start"), ref, goods)
