"""How good and how fast plans are: python bench/dispatch.py FOLDER [--seconds 30] [--only R101,C101]

FOLDER is searched for the public instances of Solomon and of Gehring and Homberger (text files with VEHICLE and
CUSTOMER) and of Pillac, Gueret and Medaglia (technicians with skills, tools and spare parts), and for tables of best
known values (`*.csv`: instance, value, ...). Each is turned into a dispatch problem in tenths of a distance unit.
Without FOLDER: a generated week of 2,000 visits for 150 technicians. Prints one line an instance.
"""

import argparse
import csv
import json
import re
import resource
import time
from math import floor, hypot
from pathlib import Path
from random import Random
from typing import Any

from msp.dispatch.slots import offer
from msp.dispatch.solve import solve

Json = dict[str, Any]
TENTHS = 10
BIG = 10**6


def matrix(points: list[tuple[float, float]]) -> list[list[int]]:
    """Distances in tenths, truncated as the DIMACS challenge of 2022 does."""
    return [[floor(TENTHS * hypot(x - u, y - v) + 1e-9) for u, v in points] for x, y in points]


def frame(name: str, points: list[tuple[float, float]]) -> Json:
    return {
        "format": "dispatch-problem/1",
        "name": name,
        "now": 0,
        "days": 1,
        "locations": [{"id": str(at), "x": x, "y": y} for at, (x, y) in enumerate(points)],
        "travel": {"kind": "matrix", "minutes": matrix(points)},
        "depots": [],
        "incumbent": None,
        "weights": {"renegotiate": 0, "change_tech": 0, "travel": 1, "overtime": 0, "balance": 0},
    }


def shift(start: str, begin: float, end: float) -> Json:
    hours = {"start": int(begin * TENTHS), "end": int(end * TENTHS), "overtime": 0}
    return {**hours, "from": start, "to": start, "break": None}


def work(at: int, row: list[float], **more: Any) -> Json:
    """A visit from (ready, due, service)."""
    ready, due, service = (int(value * TENTHS) for value in row)
    return {"id": str(at), "location": str(at), "duration": service, "windows": [[ready, due]], "drop": BIG, **more}


def vrptw(file: Path) -> Json:
    lines = [line.split() for line in file.read_text().splitlines() if line.strip()]
    vehicles, capacity = next((int(a), int(b)) for a, b in (x for x in lines if len(x) == 2) if a.isdigit())
    rows = [[float(value) for value in line] for line in lines if len(line) == 7 and line[0].isdigit()]
    depot = rows[0]
    found = frame(lines[0][0], [(row[1], row[2]) for row in rows])
    found["technicians"] = [
        {"id": f"k{at}", "skills": {}, "stock": {"load": capacity}, "shifts": [shift("0", depot[4], depot[5])]}
        for at in range(vehicles)
    ]
    found["visits"] = [work(int(row[0]), row[4:], parts={"load": int(row[3])}) for row in rows[1:]]
    return found


def trsp(file: Path) -> Json:
    rows = []
    for line in file.read_text().splitlines():
        lists = [[int(n) for n in re.findall(r"\d+", text)] for text in re.findall(r"\[([^\]]*)\]", line)]
        numbers = line.split("[")[0].split()
        if len(lists) == 3 and len(numbers) == 6:
            rows.append(([float(n) for n in numbers], *lists))
    crew = int(re.findall(r"CREW COUNT.*\n\s*(\d+)", file.read_text())[0])
    found = frame(file.stem, [(row[0][1], row[0][2]) for row in rows])
    tools = sorted({tool for row in rows for tool in row[2]})
    spares = max(len(row[3]) for row in rows)
    everything = {**{f"tool {t}": BIG for t in tools}, **{f"part {p}": BIG for p in range(spares)}}
    found["depots"] = [{"id": "main", "location": "0", "service": 0, "stock": everything}]
    found["weights"]["waiting"] = 0.5  # working time is what this yardstick counts
    found["technicians"] = [
        {
            "id": f"k{at}",
            "skills": {f"skill {s}": 1 for s in skills},
            "stock": {**{f"tool {t}": BIG for t in owned}, **{f"part {p}": n for p, n in enumerate(parts)}},
            "shifts": [shift(str(at), numbers[3], numbers[4])],
        }
        for at, (numbers, skills, owned, parts) in enumerate(rows[1 : crew + 1], 1)
    ]
    found["visits"] = [
        work(
            at,
            numbers[3:],
            skills={f"skill {s}": 1 for s in skills},
            parts={**{f"tool {t}": 1 for t in needed}, **{f"part {p}": n for p, n in enumerate(parts) if n}},
        )
        for at, (numbers, skills, needed, parts) in enumerate(rows[crew + 1 :], crew + 1)
    ]
    return found


def best_known(folder: Path) -> dict[str, float]:
    """Instance -> best known value: working time where the table has it, else distance."""
    found = {}
    for file in folder.rglob("*.csv"):
        with file.open() as lines:
            for row in csv.DictReader(lines):
                names = list(row)
                column = next((name for name in names if "duration" in name), names[1])
                found[row[names[0]]] = float(row[column])
    return found


def week(visits: int = 2000, technicians: int = 150, days: int = 5, seed: int = 1) -> Json:
    """A generated week: skills, parts, breaks, deadlines, some visits for two; local days of eight hours."""
    dice = Random(seed)
    skills, parts = ("network", "windows", "linux", "printer", "cabling"), ("disk", "fan", "toner", "switch")
    points = [(dice.uniform(0, 120), dice.uniform(0, 120)) for _ in range(visits + technicians + 1)]
    found = frame(f"week of {visits}", points[:1])
    found["locations"] = [{"id": str(at), "x": x, "y": y} for at, (x, y) in enumerate(points)]
    found["travel"] = {"kind": "euclid", "detour": 1.3, "km_per_min": 0.8}
    found["days"] = days
    depot = str(visits + technicians)
    found["depots"] = [{"id": "main", "location": depot, "service": 10, "stock": dict.fromkeys(parts, 200)}]
    rest = {"duration": 30, "earliest": 660, "latest": 780}
    found["technicians"] = []
    for at in range(technicians):
        home = {"from": str(visits + at), "to": str(visits + at), "overtime": 60}
        days_of = [
            {
                "start": 1440 * d + 480,
                "end": 1440 * d + 1020,
                "break": {**rest, "earliest": 1440 * d + 660, "latest": 1440 * d + 780},
                **home,
            }
            for d in range(days)
        ]
        able = {skill: dice.randint(1, 3) for skill in skills if dice.random() < 0.6}
        stock = {part: dice.randint(0, 6) for part in parts}
        found["technicians"].append({"id": f"T{at}", "skills": able, "stock": stock, "shifts": days_of})
    found["visits"] = []
    for at in range(visits):
        day = dice.randrange(days)
        begin = 1440 * day + dice.choice([480, 600, 720, 840])
        found["visits"].append(
            {
                "id": f"V{at}",
                "location": str(at),
                "duration": dice.choice([30, 45, 60, 90]),
                "windows": [[begin, begin + 150]],
                "skills": {dice.choice(skills): dice.randint(1, 2)},
                "parts": {dice.choice(parts): 1} if dice.random() < 0.2 else {},
                "crew": 2 if dice.random() < 0.03 else 1,
                "sla": {"deadline": begin + 150, "per_min": 1, "fixed": 50} if dice.random() < 0.4 else None,
                "promised": [begin, begin + 60] if dice.random() < 0.1 else None,
                "drop": dice.choice([300, 600, 1200]),
            }
        )
    found["weights"] = {"renegotiate": 300, "change_tech": 15, "travel": 1, "overtime": 2, "balance": 100}
    return found


def duration(raw: Json, plan: Json) -> float:
    """Working time of all routes in matrix units: each left as late as it can be without ending later."""
    visits, minutes = {one["id"]: one for one in raw["visits"]}, raw["travel"]["minutes"]
    at = {one["id"]: place for place, one in enumerate(raw["locations"])}
    homes = {one["id"]: one["shifts"] for one in raw["technicians"]}
    depots = {one["id"]: one for one in raw["depots"]}
    total = 0
    for route in plan["routes"]:
        shift = homes[route["tech"]][route["shift"]]
        here, now, waited, slack = at[shift["from"]], shift["start"], 0, float("inf")
        for stop in route["stops"]:
            one = visits[stop["visit"]] if stop["kind"] == "visit" else depots[stop["depot"]]
            there = at[one["location"]]
            arrival = now + minutes[here][there]
            ready, due = one["windows"][0] if stop["kind"] == "visit" else (arrival, float("inf"))
            begin = max(arrival, ready)
            waited += begin - arrival
            slack = min(slack, due - begin + waited)
            here, now = there, begin + one.get("duration", one.get("service", 0))
        end = now + minutes[here][at[shift["to"]]]
        total += end - shift["start"] - min(waited, slack) if route["stops"] else 0
    return total


def yardsticks(folder: Path, seconds: float, only: set[str], accelerator: str) -> None:
    known, gaps = best_known(folder), []
    for file in sorted(folder.rglob("*.txt")):
        text = file.read_text(errors="replace")
        if file.name.endswith(".sol.txt") or (only and file.stem not in only and file.stem.split(".")[0] not in only):
            continue
        raw = vrptw(file) if "VEHICLE" in text else trsp(file) if "CREW COUNT" in text and "TOOLS" in text else None
        if raw is None:
            continue
        begin = time.process_time()
        found = solve(raw, seconds=seconds, accelerator=accelerator, clock=time.process_time)
        spent = time.process_time() - begin
        length = (duration(raw, found.plan) if "CREW COUNT" in text else found.verdict.travel) / TENTHS
        best = known.get(raw["name"], known.get(file.stem))
        gap = (length / best - 1) * 100 if best else None
        if gap is not None and not found.verdict.dropped:
            gaps.append(gap)
        shown = f"{gap:+.1f} %" if gap is not None else "no best known value"
        print(
            f"{file.stem}: {length:.1f} against {best}: {shown}, {found.verdict.dropped} left out, "
            f"{len(found.plan['routes'])} routes, {found.iterations} iterations, "
            f"{spent:.0f} CPU s",
            flush=True,
        )
    if gaps:
        print(f"mean gap of {len(gaps)} complete plans: {sum(gaps) / len(gaps):+.2f} %")


def big(seconds: float) -> None:
    raw = week()
    begin = time.process_time()
    first = solve(raw, iterations=0)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"2,000 x 150 x 5: first plan after {time.process_time() - begin:.1f} CPU seconds, {memory:.0f} MB")
    print(f"  tier 1 {first.verdict.tier1:.0f}, tier 2 {first.verdict.tier2:.0f}, {first.verdict.dropped} left out")
    found = solve(raw, seconds=seconds)
    print(f"  after {seconds:.0f} s: tier 1 {found.verdict.tier1:.0f}, tier 2 {found.verdict.tier2:.0f}")
    new = {**raw["visits"][7], "id": "new", "windows": [[480, 1000], [1920, 2440]]}
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        offer(json.loads(json.dumps(raw)), found.plan, new)
        times.append(time.perf_counter() - begin)
    print(f"  three slots, everything read anew: {min(times) * 1000:.0f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--accelerator", default="auto", choices=("auto", "pyvrp", "none"))
    parser.add_argument("--only", default="", help="names of instances, with commas between")
    given = parser.parse_args()
    if given.folder:
        yardsticks(given.folder, given.seconds, set(filter(None, given.only.split(","))), given.accelerator)
    else:
        big(given.seconds)
