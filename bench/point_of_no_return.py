"""A month of 200 tickets, twice: sent out at 75 % of the target, and at the latest departure that is still in time.

    python bench/point_of_no_return.py [--seeds 10]

The same tickets, technicians, roads and luck in both runs (common random numbers). Work is tried remotely first; six
in ten tickets give way to it in the end. Whoever is sent out leaves as soon as somebody with the skill is free, by the
rules of msp.dispatch.openings. A ticket is broken if it is not solved by its due time.
"""

import argparse
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

from msp.dispatch import openings
from msp.dispatch.openings import Busy, Gap

MINUTE = timedelta(minutes=1)
START = datetime(2026, 3, 2, tzinfo=UTC)  # a Monday
DAYS, TICKETS, TECHNICIANS = 30, 200, 4
STEP = 5 * MINUTE
SKILLS = ("network", "hardware", "printer")
SHARE = 0.75


@dataclass(frozen=True)
class Case:
    """One ticket. `gives_way_at`: when remote work solves it, None if it never does."""

    number: int
    opened_at: datetime
    due_at: datetime
    site: tuple[float, float]
    skill: str
    repair: timedelta
    gives_way_at: datetime | None

    def used(self, now: datetime) -> float:
        return (now - self.opened_at) / (self.due_at - self.opened_at)


@dataclass
class Worker:
    home: tuple[float, float]
    skills: frozenset[str]
    shifts: list[tuple[datetime, datetime]]
    busy: list[Busy] = field(default_factory=list)

    def free(self, now: datetime) -> list[Gap]:
        coming = [span for span in self.shifts if now < span[1] < now + timedelta(days=4)]
        return openings.gaps(coming, [one for one in self.busy if one.ends_at > now - timedelta(days=1)], self.home)


@dataclass(frozen=True)
class Outcome:
    broken: int
    visits: int
    needless: int  # visits to what remote work would have solved in time


def point(dice: Random) -> tuple[float, float]:
    """A place within about 40 km of the office."""
    return 52.5 + dice.uniform(-0.35, 0.35), 13.4 + dice.uniform(-0.55, 0.55)


def month(seed: int) -> tuple[list[Case], list[Worker]]:
    """Return the month's tickets and its technicians, the same for every policy."""
    dice = Random(seed)
    every = [START + timedelta(days=day) for day in range(DAYS + 14)]  # who is sent out on the last day still arrives
    workdays = [day for day in every if day.weekday() < 5]
    workers = []
    for at in range(TECHNICIANS):
        skills = {SKILLS[at % 3], SKILLS[(at + 1) % 3]}
        shifts = [(day + timedelta(hours=8), day + timedelta(hours=18)) for day in workdays]
        workers.append(Worker(point(dice), frozenset(skills), shifts))
    cases = []
    for number in range(TICKETS):
        opened = dice.choice([day for day in workdays if day < START + timedelta(days=DAYS)]) + timedelta(
            minutes=dice.randint(8 * 60, 14 * 60)
        )
        target = timedelta(hours=dice.choice([3, 4, 6]))
        solved = opened + target * dice.betavariate(1.6, 2.2) * 1.15 if dice.random() < 0.6 else None
        repair = timedelta(minutes=dice.choice([30, 45, 60, 90]))
        cases.append(
            Case(number, opened, opened + target, point(dice), dice.choice(SKILLS), repair, solved)
        )  # fmt: skip
    return sorted(cases, key=lambda case: case.opened_at), workers


def send(case: Case, workers: list[Worker], now: datetime) -> tuple[Worker, Busy, datetime] | None:
    """Book whoever is there first; return (worker, booking, departure)."""
    best = None
    for worker in workers:
        if case.skill in worker.skills:
            found = openings.earliest(worker.free(now), case.site, case.repair, now)
            if found is not None and (best is None or found.ends_at < best[1].ends_at):
                best = (worker, found)
    if best is None:
        return None
    worker, found = best
    booking = Busy(found.starts_at, found.ends_at, case.site)
    worker.busy.append(booking)
    return worker, booking, found.leaves_at


def must_leave(case: Case, workers: list[Worker], now: datetime) -> bool:
    """Whether the point of no return is here: at the next look nobody could be in time any more."""
    latest = [
        leaves
        for worker in workers
        if case.skill in worker.skills
        if (leaves := openings.latest_departure(worker.free(now), case.site, case.repair, case.due_at)) is not None
    ]
    return not latest or max(latest) < now + 2 * STEP


def play(seed: int, *, by_departure: bool) -> Outcome:
    """Live through the month with one of the two alarms."""
    cases, workers = month(seed)
    waiting, sent = list(cases), dict[int, tuple[Worker, Busy, datetime]]()
    broken = visits = needless = 0
    now = START
    while waiting:
        now += STEP
        if waiting[0].opened_at > now:
            now = waiting[0].opened_at  # nothing is open
        for case in [one for one in waiting if one.opened_at <= now]:
            booked = sent.get(case.number)
            if case.gives_way_at is not None and case.gives_way_at <= now and (not booked or booked[1].ends_at > now):
                if booked and booked[2] > now:
                    booked[0].busy.remove(booked[1])  # called off before anybody left
                    visits -= 1
                broken += case.gives_way_at > case.due_at
                needless += bool(booked and booked[2] <= now)
                waiting.remove(case)
            elif booked and booked[1].ends_at <= now:
                broken += booked[1].ends_at > case.due_at
                waiting.remove(case)
            elif not booked:
                alarm = must_leave(case, workers, now) if by_departure else case.used(now) >= SHARE
                if alarm and (found := send(case, workers, now)):
                    sent[case.number] = found
                    visits += 1
    return Outcome(broken, visits, needless)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    seeds = range(1, parser.parse_args().seeds + 1)
    print(f"{'seed':>5}  {'alarm at 75 %':>22}  {'at the latest departure':>24}   (broken / visits / needless)")
    totals = [0] * 6
    for seed in seeds:
        share, point_ = play(seed, by_departure=False), play(seed, by_departure=True)
        row = (share.broken, share.visits, share.needless, point_.broken, point_.visits, point_.needless)
        totals = [total + value for total, value in zip(totals, row, strict=True)]
        print(f"{seed:>5}  {row[0]:>8} /{row[1]:>5} /{row[2]:>4}  {row[3]:>10} /{row[4]:>5} /{row[5]:>4}")
    print(
        f"{'all':>5}  {totals[0]:>8} /{totals[1]:>5} /{totals[2]:>4}  {totals[3]:>10} /{totals[4]:>5} /{totals[5]:>4}"
    )


if __name__ == "__main__":
    main()
