"""Server time of the queue and of a ticket's page with 100,000 open tickets on SQLite.

    .venv/bin/python bench/pages.py [--tickets 100000] [--rounds 30]

Prints the median and the 95th percentile of each page in milliseconds of CPU: the server's own time, database included
(SQLite works inside the process), whatever else the machine is doing.
The bar is 100 ms. Figures with date and machine are in docs/reference/speed.md.
"""

import argparse
import random
import statistics
import tempfile
import time
from datetime import timedelta
from pathlib import Path

from sqlalchemy import insert, select

from msp import db
from msp.clock import utc_now
from msp.contracts.models import Client, ContractVersion
from msp.demo import seed
from msp.desk import clock, tickets
from msp.desk.models import Ticket, TicketEvent
from msp.settings import Settings

WORDS = ("Disk", "Printer", "Mail", "VPN", "Backup", "Switch", "Terminal", "Password", "Database", "Update")


def fill(count: int) -> int:
    """Add `count` open tickets with three events each and return the id of one in the middle."""
    dice, now = random.Random(1), utc_now()
    with db.begin() as session:
        clients = list(session.scalars(select(Client.id)))
        version = session.scalar(select(ContractVersion).limit(1))
        assert version is not None
        line = next(line["id"] for line in version.terms["lines"] if line.get("targets"))
        first = (session.scalar(select(Ticket.id).order_by(Ticket.id.desc()).limit(1)) or 0) + 1
        for begin in range(0, count, 5000):
            numbers = range(first + begin, first + min(begin + 5000, count))
            rows = []
            for number in numbers:
                opened = now - timedelta(minutes=5 + dice.randrange(60 * 24 * 30))
                due = opened + timedelta(hours=dice.randrange(1, 24 * 31))
                rows.append(
                    {
                        "id": number,
                        "client_id": dice.choice(clients),
                        "contract_version_id": version.id,
                        "contract_line": line,
                        "kind": "incident",
                        "subject": f"{dice.choice(WORDS)} {dice.choice(WORDS).lower()} {number}",
                        "opened_at": opened,
                        "log_version": 3,
                        "priority": dice.choice(("P1", "P2", "P3", "P3")),
                        "line": dice.choice(("L1", "L1", "L2", "L3")),
                        "resolution_due_at": due,
                        "next_due_at": due if dice.random() < 0.9 else None,
                        "paused": False,
                        "breached": due < now,
                        "state": "open",
                        "is_open": True,
                    }
                )
            session.execute(insert(Ticket), rows)
            events = []
            for row in rows:
                for seq, kind in enumerate(("created", "agent_reply", "customer_message"), 1):
                    data = {"priority": row["priority"], "channel": "email"} if kind == "created" else {}
                    at = row["opened_at"] + timedelta(minutes=seq - 1)
                    events.append(
                        {
                            "ticket_id": row["id"],
                            "seq": seq,
                            "at": at,
                            "kind": kind,
                            "actor": "bench",
                            "public": True,
                            "text": "It hums.",
                            "data": data,
                        }
                    )
            session.execute(insert(TicketEvent), events)
    middle = first + count // 2
    with db.begin() as session:
        ticket = tickets.get(session, middle, lock=True)
        clock.refresh(session, ticket, tickets.log_of(session, middle), now)
    return middle


def main() -> None:
    """Make the data in a temporary folder, measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tickets", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=30)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data=Path(folder))
        planted = seed.plant(settings)
        started = time.perf_counter()
        middle = fill(asked.tickets)
        print(f"{asked.tickets} tickets made in {time.perf_counter() - started:.1f} s")
        from msp_web.app import create_app

        browser = create_app(settings).test_client()
        page = browser.get("/log-in").get_data(as_text=True)
        token = page.split('name="csrf_token"')[1].split('value="')[1].split('"')[0]
        form = {"email": "anna@provider.example", "password": planted.password, "csrf_token": token}
        assert browser.post("/log-in", data=form).status_code == 302, "the technician could not log in"
        for page in ("/tickets", "/tickets?q=printer", "/tickets?line=L2", f"/tickets/{middle}", "/"):
            browser.get(page, follow_redirects=True)
            times = []
            for _ in range(asked.rounds):
                started = time.process_time()
                answer = browser.get(page, follow_redirects=True)
                times.append((time.process_time() - started) * 1000)
                assert answer.status_code == 200, (page, answer.status_code, answer.get_data(as_text=True)[-1500:])
            times.sort()
            print(f"{page:24} median {statistics.median(times):6.1f} ms   p95 {times[int(len(times) * 0.95)]:6.1f} ms")


if __name__ == "__main__":
    main()
