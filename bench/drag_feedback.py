"""Server time of a drag and of three windows on a board of 2,000 visits and 150 technicians.

    PYTHONPATH=.:web python bench/drag_feedback.py           the functions alone, CPU time
    PYTHONPATH=.:web python bench/drag_feedback.py --http    whole requests to msp serve: its CPU time, and the clock's

Targets: the answer to a drag within 20 ms, three windows within 100 ms, at the 95th percentile.
Figures with date and machine are in docs/reference/speed.md.
"""

import argparse
import http.client
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from sqlalchemy import select

from msp import db
from msp.clock import utc_now
from msp.contracts.models import Client, Site
from msp.dispatch import feedback, windows
from msp.dispatch.models import Appointment, Shift, Technician, WorkOrder
from msp.flows import install
from msp.people import users
from msp.settings import Settings
from msp.vault import create_key_file

VISITS, TECHNICIANS, DAYS, DRAGS, CALLS = 2000, 150, 5, 400, 60
EMAIL, PASSWORD = "dora@provider.example", "a long sentence for the bench"
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


def measured(count: int, act: Callable[[], object], clock: Callable[[], float]) -> str:
    """Return median and 95th percentile by `clock` (seconds) of `count` calls; the first calls warm up."""
    for _ in range(5):
        act()
    found = []
    for _ in range(count):
        begun = clock()
        act()
        found.append((clock() - begun) * 1000)
    found.sort()
    return f"median {found[len(found) // 2]:6.1f} ms   p95 {found[int(len(found) * 0.95)]:6.1f} ms"


class Visitor:
    """Somebody who has logged in to a server on loopback and keeps one connection."""

    def __init__(self, server: "subprocess.Popen[str]", port: int) -> None:
        self.server = server
        self.line = http.client.HTTPConnection("127.0.0.1", port)
        self.cookie = ""
        page = self.ask("GET", "/log-in")
        token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page)
        assert token is not None
        self.ask("POST", "/log-in", urlencode({"email": EMAIL, "password": PASSWORD, "csrf_token": token[1]}))

    def ask(self, method: str, path: str, body: str = "") -> str:
        """Return the answer's text. Raises RuntimeError for anything but success or a redirection."""
        headers = {"Cookie": self.cookie, "Content-Type": "application/x-www-form-urlencoded"}
        self.line.request(method, path, body or None, headers)
        answer = self.line.getresponse()
        text = answer.read().decode()
        cookies = [one.split(";")[0] for one in answer.headers.get_all("Set-Cookie") or []]
        self.cookie = "; ".join(cookies) or self.cookie
        if answer.status >= 400 or answer.headers.get("Location", "").startswith("/log-in"):
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:300]}")
        return text

    def spent(self) -> float:
        """Return seconds that the server's threads have been on a processor (proc(5), schedstat)."""
        total = 0
        for task in Path(f"/proc/{self.server.pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
        return total / 1e9


def over_http(folder: Path, orders: list[int], people: list[int], rng: random.Random) -> None:
    """Measure whole requests: what the server spends, and how long the caller waits."""
    environment = {**os.environ, "MSP_DATA": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "msp", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder) as server:
        assert server.stdout is not None
        address = server.stdout.readline()
        found = re.search(r":(\d+)/", address)
        assert found is not None, address
        try:
            visitor = Visitor(server, int(found[1]))
            first = utc_now().replace(hour=8, minute=0, second=0, microsecond=0) + timedelta(days=1)

            def drag() -> object:
                at = first + timedelta(days=rng.randrange(DAYS), minutes=5 * rng.randrange(100))
                asked = urlencode({"technician": rng.choice(people), "starts_at": at.isoformat()})
                return visitor.ask("GET", f"/dispatch/{rng.choice(orders)}/feedback?{asked}")

            def call() -> object:
                return visitor.ask("GET", f"/dispatch/{rng.choice(orders[VISITS:])}/slots")

            for name, count, act in (("drag feedback", DRAGS, drag), ("three windows", CALLS, call)):
                print(f"{name}  server's CPU  {measured(count, act, visitor.spent)}")
                print(f"{name}  caller waits  {measured(count, act, time.perf_counter)}")
        finally:
            server.terminate()


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--http", action="store_true", help="whole requests to a server of their own")
    whole = parser.parse_args().http
    rng = random.Random(11)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = Settings(data=folder)
        create_key_file(settings.key_path)
        install.prepare(settings)
        database = db.current()
        build()
        with db.begin() as session:
            users.add(session, email=EMAIL, name="Dora", password=PASSWORD, roles=["dispatcher"], by="bench")
        with db.read() as session:
            orders = list(session.scalars(select(WorkOrder.id)))
            people = list(session.scalars(select(Technician.id)))
        print(f"{VISITS} visits, {TECHNICIANS} technicians, {DAYS} days")
        if whole:
            over_http(folder, orders, people, rng)
        else:
            functions(orders, people, rng)
        database.dispose()


def functions(orders: list[int], people: list[int], rng: random.Random) -> None:
    """Measure the functions behind the requests."""
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

    print(f"drag feedback  {measured(DRAGS, drag, time.process_time)}")
    print(f"three windows  {measured(CALLS, call, time.process_time)}")


if __name__ == "__main__":
    main()
