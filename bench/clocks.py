"""The clock tick of a worker with 100,000 armed timers on SQLite: what an idle second costs, and how fast many fire.

    .venv/bin/python bench/clocks.py [--tickets 100000] [--fire 5000]

Every open ticket has one armed timer: the next warning, breach or point of no return. Prints the median of an idle tick
and how many timers a worker works off a second, with evidence and events, in the batches in which it commits them.
Figures with date and machine are in docs/reference/speed.md.
"""

import argparse
import statistics
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import pages
from sqlalchemy import func, select, update

from msp import db
from msp.clock import utc_now
from msp.demo import seed
from msp.desk import clock
from msp.desk.models import Ticket
from msp.engine.ticks import run_tick
from msp.settings import Settings


def armed() -> int:
    with db.read() as session:
        return session.scalar(select(func.count()).where(Ticket.next_wake_at.is_not(None))) or 0


def idle() -> list[float]:
    """CPU milliseconds of ticks at which nothing is due."""
    times = []
    for _ in range(200):
        started = time.process_time()
        run_tick(clock.wake)
        times.append((time.process_time() - started) * 1000)
    return sorted(times)


def main() -> None:
    """Make the data in a temporary folder, measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tickets", type=int, default=100_000)
    parser.add_argument("--fire", type=int, default=5000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seed.plant(Settings(data=Path(folder)))
        pages.fill(asked.tickets)
        later = utc_now() + timedelta(days=1)
        with db.begin() as session:
            session.execute(update(Ticket).where(Ticket.is_open).values(next_wake_at=later))
        print(f"{armed()} timers armed")
        times = idle()
        print(f"idle tick, CPU: median {statistics.median(times):.2f} ms, p95 {times[int(len(times) * 0.95)]:.2f} ms")
        with db.begin() as session:
            chosen = select(Ticket.id).where(Ticket.next_wake_at.is_not(None)).order_by(Ticket.id).limit(asked.fire)
            session.execute(update(Ticket).where(Ticket.id.in_(chosen)).values(next_wake_at=utc_now()))
        started, used = time.perf_counter(), time.process_time()
        run_tick(clock.wake)
        took, used = time.perf_counter() - started, time.process_time() - used
        with db.read() as session:
            due = session.scalar(select(func.count()).where(Ticket.next_wake_at <= utc_now())) or 0
        print(
            f"{asked.fire} timers due at once, most of them breaches: {took:.1f} s ({used:.1f} s CPU), "
            f"{asked.fire / took:.0f} a second ({asked.fire / used:.0f} a second of CPU); {due} left"
        )


if __name__ == "__main__":
    main()
