"""Random dispatch problems with every kind of constraint, and a live morning after from any plan."""

import copy
from random import Random
from typing import Any

Json = dict[str, Any]
SKILLS = ("network", "windows", "linux", "printer", "cabling")
PARTS = ("disk", "fan", "toner", "switch")


def problem(seed: int, *, visits: int = 30, technicians: int = 5, days: int = 2, tight: float = 1.0) -> Json:
    """Return a dispatch-problem/1; about one in three is a matrix, the rest lie in a plane of 60 by 60 km."""
    rng = Random(seed)
    places = [
        {"id": f"L{at}", "x": rng.uniform(0, 60), "y": rng.uniform(0, 60)} for at in range(visits + technicians + 2)
    ]
    travel: Json = {"kind": "euclid", "detour": 1.3, "km_per_min": 0.8}
    if seed % 3 == 0:
        size = len(places)
        travel = {
            "kind": "matrix",
            "minutes": [[0 if a == b else rng.randint(3, 60) for b in range(size)] for a in range(size)],
        }
    homes = [f"L{visits + at}" for at in range(technicians)]
    crew = []
    for at in range(technicians):
        shifts = []
        for day in range(days):
            if rng.random() < 0.1 and days > 1:
                continue
            start = 1440 * day + rng.choice([420, 480, 540])
            shifts.append(
                {
                    "start": start,
                    "end": start + rng.choice([480, 540]),
                    "overtime": rng.choice([0, 60, 120]),
                    "from": homes[at],
                    "to": rng.choice([homes[at], homes[at], f"L{visits + technicians}"]),
                    "break": rng.choice([None, {"duration": 30, "earliest": start + 180, "latest": start + 270}]),
                }
            )
        crew.append(
            {
                "id": f"T{at}",
                "skills": {skill: rng.randint(1, 3) for skill in SKILLS if rng.random() < 0.6},
                "stock": {part: rng.randint(0, 2) for part in PARTS if rng.random() < 0.6},
                "max_travel": rng.choice([None, None, 240, 180]),
                "shifts": shifts,
            }
        )
    wanted = []
    for at in range(visits):
        windows = []
        for day in rng.sample(range(days), rng.randint(1, days)):
            begin = 1440 * day + rng.randint(420, 840)
            windows.append([begin, begin + rng.choice([60, 120, 240])])
            if rng.random() < 0.2:
                windows.append([begin + 300, begin + 360])
        two = rng.random() < 0.12
        wanted.append(
            {
                "id": f"V{at}",
                "location": f"L{at}",
                "duration": rng.choice([20, 30, 45, 60, 90, 120]),
                "windows": sorted(windows),
                "skills": {rng.choice(SKILLS): rng.randint(1, 2) for _ in range(rng.choice([0, 1, 1, 2]))},
                "parts": {rng.choice(PARTS): rng.randint(1, 2)} if rng.random() < 0.25 * tight else {},
                "crew": 2 if two else 1,
                "only": rng.sample([t["id"] for t in crew], min(3, technicians)) if rng.random() < 0.1 else None,
                "never": [f"T{rng.randrange(technicians)}"] if rng.random() < 0.1 else [],
                "after": [f"V{rng.randrange(at)}"] if at and rng.random() < 0.1 else [],
                "sla": {
                    "deadline": min(w[0] for w in windows) + rng.choice([60, 120, 240]),
                    "per_min": rng.choice([0, 1, 2]),
                    "fixed": rng.choice([0, 50, 100]),
                }
                if rng.random() < 0.4
                else None,
                "drop": rng.choice([200, 400, 800, 1500]),
                "pin": None,
                "promised": None,
            }
        )
    for visit in wanted:
        if rng.random() < 0.15:
            a, b = rng.choice(visit["windows"])
            visit["promised"] = [a, min(b, a + 60)]
    return {
        "format": "dispatch-problem/1",
        "name": f"random {seed}",
        "now": 0,
        "days": days,
        "locations": places,
        "travel": travel,
        "technicians": crew,
        "depots": [
            {"id": "D0", "location": f"L{visits + technicians}", "service": 10, "stock": dict.fromkeys(PARTS, 6)},
            {"id": "D1", "location": f"L{visits + technicians + 1}", "service": 5, "stock": {"disk": 3}},
        ],
        "visits": wanted,
        "incumbent": None,
        "weights": {"renegotiate": 300, "change_tech": 15, "travel": 1, "overtime": 2, "balance": 100,
                    "waiting": (0, 1, 0, 3)[seed % 4]},
    }  # fmt: skip


def live(source: Json, plan: Json, seed: int, now: int) -> Json:
    """Return the problem at minute `now` of `plan`: what has begun is pinned, somebody is ill, new work has come."""
    rng = Random(seed)
    after = copy.deepcopy(source)
    after["now"], after["incumbent"], after["name"] = now, copy.deepcopy(plan), f"{source['name']} at {now}"
    crews: dict[str, list[str]] = {}
    starts: dict[str, int] = {}
    for route in plan["routes"]:
        for stop in route["stops"]:
            if stop["kind"] == "visit":
                crews.setdefault(stop["visit"], []).append(route["tech"])
                starts[stop["visit"]] = stop["start"]
    for visit in after["visits"]:
        name = visit["id"]
        if name in starts and starts[name] <= now:
            visit["pin"] = {"tech": crews[name], "start": starts[name]}
        elif name in starts and rng.random() < 0.5:
            visit["promised"] = [starts[name] - 30, starts[name] + 30]
    for at in range(3):
        name = f"N{at}"
        after["visits"].append(
            {
                **copy.deepcopy(rng.choice(source["visits"])),
                "id": name, "windows": [[now, now + 600]], "pin": None, "promised": None, "after": [], "crew": 1,
                "sla": {"deadline": now + 240, "per_min": 2, "fixed": 100}, "drop": 1000,
            }
        )  # fmt: skip
    idle = [
        t for t in after["technicians"] if not any(t["id"] in (v["pin"] or {}).get("tech", []) for v in after["visits"])
    ]
    if idle:
        rng.choice(idle)["shifts"] = []
        after["incumbent"]["routes"] = [
            r
            for r in after["incumbent"]["routes"]
            if any(t["id"] == r["tech"] and t["shifts"] for t in after["technicians"])
        ]
    return after
