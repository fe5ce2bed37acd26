"""CPU time of the server for a drag and of three windows on a board of 2,000 visits and 150 technicians.

Run: PYTHONPATH=.:web python bench/drag_feedback.py
Targets: the answer to a drag within 20 ms, three windows within 100 ms, at the 95th percentile.
"""

import random
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from sqlalchemy import select

from msp import db
from msp.clock import utc_now
from msp.contracts.models import Client, Site
from msp.dispatch import feedback, windows
from msp.dispatch.models import Appointment, Shift, Technician, WorkOrder
from msp.migrations import import_models

VISITS, TECHNICIANS, DAYS, DRAGS, CALLS = 2000, 150, 5, 400, 60
SKILLS = ("linux", "windows", "network", "hardware")


def build() -> None:
    """Fill an empty database with a full week."""
    rng, now = random.Random(7), utc_now()
    first = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    with db.begin() as session:
        client = Client(key="bench", name="Bench", time_zone="UTC")
        session.add(client)
        session.flush()
        sites = [
            Site(client_id=client.id, name=f"s{n}", latitude=52.3 + rng.random() / 2, longitude=13 + rng.random() / 2)
            for n in range(400)
        ]
        technicians = [
            Technician(
                name=f"t{n}", skills={skill: rng.randint(1, 3) for skill in rng.sample(SKILLS, 3)},
                latitude=52.3 + rng.random() / 2, longitude=13 + rng.random() / 2,
            )
            for n in range(TECHNICIANS)
        ]  # fmt: skip
        session.add_all([*sites, *technicians])
        session.flush()
        for one in technicians:
            for day in range(DAYS):
                at = first + timedelta(days=day, hours=8)
                session.add(Shift(technician_id=one.id, starts_at=at, ends_at=at + timedelta(hours=9)))
        for number in range(VISITS + 50):
            order = WorkOrder(
                client_id=client.id, site_id=rng.choice(sites).id, summary=f"work {number}", created_at=now,
                skills={rng.choice(SKILLS): 1}, duration=timedelta(hours=1), due_at=now + timedelta(days=4),
                state="confirmed" if number < VISITS else "proposed",
            )  # fmt: skip
            session.add(order)
            session.flush()
            if number < VISITS:
                slot = number // TECHNICIANS
                at = first + timedelta(days=slot % DAYS, hours=8.75 + slot // DAYS * 2.5)
                technician = technicians[number % TECHNICIANS]
                session.add(
                    Appointment(
                        work_order_id=order.id, technician_id=technician.id, starts_at=at,
                        ends_at=at + timedelta(hours=1), state="confirmed", travel=timedelta(minutes=30),
                    )
                )  # fmt: skip


def measured(count: int, act: Callable[[], object]) -> str:
    """Return median and 95th percentile of the CPU time of `count` calls; the first call warms up."""
    act()
    found = []
    for _ in range(count):
        begun = time.process_time()
        act()
        found.append((time.process_time() - begun) * 1000)
    found.sort()
    return f"median {found[len(found) // 2]:6.1f} ms   p95 {found[int(len(found) * 0.95)]:6.1f} ms"


def main() -> None:
    """Build, measure, print."""
    rng = random.Random(11)
    with tempfile.TemporaryDirectory() as folder:
        import_models()
        database = db.use(f"sqlite:///{Path(folder) / 'board.db'}")
        db.Model.metadata.create_all(database.engine)
        build()
        with db.read() as session:
            orders = list(session.scalars(select(WorkOrder.id)))
            people = list(session.scalars(select(Technician.id)))
        now = utc_now()
        morning = now.replace(hour=8, minute=0, second=0, microsecond=0) + timedelta(days=1)

        def drag() -> object:
            at = morning + timedelta(days=rng.randrange(DAYS), minutes=5 * rng.randrange(100))
            with db.read() as session:
                order = session.get_one(WorkOrder, rng.choice(orders))
                technician = session.get_one(Technician, rng.choice(people))
                return feedback.judge(session, order, technician, at, now)

        def call() -> object:
            with db.read() as session:
                order = session.get_one(WorkOrder, rng.choice(orders[VISITS:]))
                return windows.offers(session, order, now, zone=ZoneInfo("UTC"))

        print(f"{VISITS} visits, {TECHNICIANS} technicians, {DAYS} days")
        print(f"drag feedback  {measured(DRAGS, drag)}")
        print(f"three windows  {measured(CALLS, call)}")
        database.dispose()


if __name__ == "__main__":
    main()
