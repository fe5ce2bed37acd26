"""How many workers a fleet needs: a simulation in which host jobs arrive, wait for a slot, and cost what was measured.

    .venv/bin/python bench/fleet_simulation.py [--endpoints 1000000] [--seed 1]

Nothing is contacted. A discrete simulation in steps of one second over a day: jobs arrive by their schedule, spread by
jitter; each job keeps one slot of a worker for its wall time and takes its share of CPU. A worker is one process: one
core, 2,000 open hosts. The costs are those of docs/reference/speed.md and stand below; change them to yours.
"""

import argparse
import math
import random
from dataclasses import dataclass

COLD_MS, STEP_MS = 2.6, 0.7  # controller CPU per host's log-in, and per step beyond the first
BOOKS_MS = 0.65  # per host and step: claim, result, evidence and event of a batch on the database
JOB_MS = 3.5  # per durable job; one job drives a shard of 200 hosts
SHARD = 200
OPEN_HOSTS = 2000  # per worker: 31 KB each
COMMITS_PER_STEP = 2 / 50  # claims and results of about fifty hosts share a transaction
ROWS_PER_STEP = 4  # claim, result, event, and its share of evidence
ROW_BYTES = 420


@dataclass(frozen=True)
class Schedule:
    """What is done to every endpoint: so often a day, so many steps, within these hours of the day."""

    name: str
    a_day: float
    steps: int
    hours: float  # the window into which all starts fall
    seconds: float  # that one host takes: the network and the work there


SCHEDULES = (
    Schedule("one reading a day, over 24 h", 1, 1, 24, 5),
    Schedule("health check every hour", 24, 2, 24, 5),
    Schedule("inventory and patch state, 2 a day", 2, 5, 24, 30),
    Schedule("patch night: 5 steps within 4 h", 1, 5, 4, 300),
    Schedule("patch night: 5 steps within 1 h", 1, 5, 1, 300),
)


@dataclass(frozen=True)
class Found:
    """What a day needs. workers: the least with which the last host is done within a tenth over its window."""

    workers: int
    peak_jobs: float  # host jobs that begin in a second
    cores: float  # of controllers, in the busiest minute
    open_hosts: int
    commits: float  # a second, in the busiest minute
    gigabytes: float  # of rows a day
    late: float  # seconds that the last host waited


def arrivals(schedule: Schedule, endpoints: int, dice: random.Random) -> list[int]:
    """Return how many host jobs are due in each second of the window, once through; shards of 200 arrive together."""
    seconds = int(schedule.hours * 3600)
    due = [0] * seconds
    for _ in range(math.ceil(endpoints * schedule.a_day / SHARD)):
        due[dice.randrange(seconds)] += SHARD
    return due


def play(schedule: Schedule, due: list[int], workers: int) -> tuple[float, float, float, int]:
    """Return (seconds the last host waited, most jobs begun in a second, busiest minute's cores, most open hosts)."""
    cost = (COLD_MS + STEP_MS * (schedule.steps - 1) + BOOKS_MS * schedule.steps + JOB_MS / SHARD) / 1000
    per_second = workers / cost  # hosts whose work fits into a second of all cores
    room = workers * OPEN_HOSTS
    lasts = max(1, round(schedule.seconds))
    begun: list[float] = []
    open_now, waiting, most_open, late = 0.0, 0.0, 0.0, 0
    second = 0
    while second < len(due) or waiting >= 1:
        waiting += due[second] if second < len(due) else 0
        if second >= lasts:
            open_now -= begun[second - lasts]
        now = max(0.0, min(waiting, per_second, room - open_now))
        begun.append(now)
        waiting -= now
        open_now += now
        most_open = max(most_open, open_now)
        late = max(0, second - len(due))
        second += 1
        if second > 4 * len(due):
            return math.inf, 0, 0, 0
    minute = max(sum(begun[at : at + 60]) / 60 for at in range(0, len(begun), 60))
    return late, max(begun), minute * cost, round(most_open)


def need(schedule: Schedule, endpoints: int, dice: random.Random) -> Found:
    """Return the least number of workers for a schedule, and what they do."""
    due = arrivals(schedule, endpoints, dice)
    few, many = 0, 1
    while play(schedule, due, many)[0] > len(due) * 0.1:
        few, many = many, many * 2
    while many - few > 1:
        middle = (few + many) // 2
        if play(schedule, due, middle)[0] > len(due) * 0.1:
            few = middle
        else:
            many = middle
    late, peak, cores, open_hosts = play(schedule, due, many)
    steps = endpoints * schedule.a_day * schedule.steps
    commits = cores / ((COLD_MS + STEP_MS * (schedule.steps - 1) + BOOKS_MS * schedule.steps) / 1000)
    return Found(many, peak, cores, open_hosts, commits * schedule.steps * COMMITS_PER_STEP,
                 steps * ROWS_PER_STEP * ROW_BYTES / 1e9, late)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoints", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(f"{options.endpoints:,} endpoints\n")
    print(
        "| schedule | workers | cores at the peak | hosts begun a second | open at once | commits a second | GB a day |"
    )
    print("|---|---|---|---|---|---|---|")
    for schedule in SCHEDULES:
        found = need(schedule, options.endpoints, random.Random(options.seed))
        cells = (schedule.name, f"{found.workers}", f"{found.cores:.1f}", f"{found.peak_jobs:,.0f}",
                 f"{found.open_hosts:,}", f"{found.commits:,.0f}", f"{found.gigabytes:.1f}")  # fmt: skip
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
