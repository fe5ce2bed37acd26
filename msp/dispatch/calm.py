"""A new plan made calm: whoever keeps the technician keeps the hour too, as far as the routes allow. Pure.

The planner sends everybody as early as can be; a dispatcher asks of every moved minute why. Routes stay as they are,
and nothing gets later than the planner had it where that costs lateness or overtime.
"""

from collections.abc import Mapping
from typing import Any

from msp.dispatch.checker import check

STEP = 5  # minutes: new starts are at whole ones where that costs nothing


def calmed(raw: dict[str, Any], plan: dict[str, Any]) -> dict[str, Any]:
    """Return the plan with starts as near to those of the plan in force as its routes allow."""
    told = {
        stop["visit"]: (route["tech"], stop["start"])
        for route in raw["incumbent"]["routes"]
        for stop in route["stops"]
        if stop["kind"] == "visit"
    }
    techs = {one["id"]: one for one in raw["technicians"]}
    calm = [_calm(raw, route, techs[route["tech"]]["shifts"][route["shift"]], told) for route in plan["routes"]]
    if (found := _no_worse(raw, plan, calm)) is not None:
        return found
    best = plan
    for at, route in enumerate(calm):  # one of them does not hold: take those that do
        routes = [*best["routes"][:at], route, *best["routes"][at + 1 :]]
        best = _no_worse(raw, best, routes) or best
    return best


def _no_worse(raw: dict[str, Any], plan: dict[str, Any], routes: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the plan with these routes, None if it does not hold or costs more."""
    starts = {stop["visit"]: stop["start"] for route in routes for stop in route["stops"] if stop["kind"] == "visit"}
    moved = [
        job["id"]
        for job in raw["visits"]
        if (told := job.get("promised")) and not (job["id"] in starts and told[0] <= starts[job["id"]] <= told[1])
    ]
    found = {**plan, "routes": routes, "renegotiate": moved}
    before, after = check(raw, plan), check(raw, found)
    return found if after.feasible and (after.tier1, after.tier2) <= (before.tier1, before.tier2) else None


def _calm(
    raw: dict[str, Any], route: dict[str, Any], shift: dict[str, Any], told: Mapping[str, tuple[str, int]]
) -> dict[str, Any]:
    table = raw["travel"]["minutes"]
    where = {place["id"]: at for at, place in enumerate(raw["locations"])}
    if not route["stops"] or any(stop["kind"] == "break" for stop in route["stops"]):
        return route  # the board plans no breaks; where there are some, they stay where they are
    things = {("visit", job["id"]): job for job in raw["visits"]}
    things |= {("depot", depot["id"]): depot for depot in raw.get("depots") or []}
    stops = [things[stop["kind"], stop.get("visit") or stop.get("depot")] for stop in route["stops"]]
    places = [where[shift["from"]], *(where[one["location"]] for one in stops), where[shift["to"]]]
    lengths = [one["duration"] if "duration" in one else one.get("service") or 0 for one in stops]
    # latest starts, from the way home back to the first stop
    latest = [0] * len(stops)
    limit = max(route["finish"], shift["end"])
    for at in reversed(range(len(stops))):
        limit -= table[places[at + 1]][places[at + 2]] + lengths[at]
        planned, job = route["stops"][at]["start"], stops[at]
        if "windows" in job:
            ends = [end for begin, end in job["windows"] if begin <= planned <= end]
            limit = min([limit, *ends])
            if job.get("sla"):
                limit = min(limit, max(planned, job["sla"]["deadline"] - job["duration"]))
            if job.get("promised") and job["promised"][0] <= planned <= job["promised"][1]:
                limit = min(limit, job["promised"][1])
        latest[at] = limit = max(limit, planned)
    found, leave = [], max(shift["start"], raw["now"])
    for at, (stop, job) in enumerate(zip(route["stops"], stops, strict=True)):
        earliest = leave + table[places[at]][places[at + 1]]
        if "windows" in job:
            earliest = max(earliest, min(begin for begin, end in job["windows"] if end >= earliest))
            if job.get("promised") and job["promised"][0] <= stop["start"] <= job["promised"][1]:
                earliest = max(earliest, job["promised"][0])
        tech, hour = told.get(stop.get("visit", ""), ("", -1))
        start = hour if tech == route["tech"] and hour >= 0 else -(-earliest // STEP) * STEP
        start = min(max(start, earliest), max(latest[at], earliest))
        found.append({**stop, "start": start})
        leave = start + lengths[at]
    depart = max(shift["start"], raw["now"], found[0]["start"] - table[places[0]][places[1]])
    return {**route, "depart": depart, "finish": leave + table[places[-2]][places[-1]], "stops": found}
