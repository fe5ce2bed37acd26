"""What a client meets at the portal, made by the flows themselves on top of seed.py."""

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import seed
from sqlalchemy import select
from sqlalchemy.orm import Session

from msp import db, evidence
from msp.assets.models import ConfigurationItem
from msp.backup.models import BackupPlan, RestoreTest
from msp.clock import utc_now
from msp.contracts import entries
from msp.desk import tickets
from msp.dispatch.models import Appointment, WorkOrder
from msp.engine import runtime
from msp.flows import runs
from msp.people.access import Actor
from msp.remote.models import Approval
from msp.settings import Settings

TECHNICIAN = Actor("tech@provider.example", frozenset({"technician"}))


def asking_time(now: datetime) -> datetime:
    """Return the latest instant, `now` if possible, at which seed's clause 4.2 asks: not in a night of a weekday."""
    local = now.astimezone(ZoneInfo("Europe/Berlin"))
    return now - timedelta(hours=10) if local.hour >= 20 or local.hour < 5 else now


def prepare(settings: Settings) -> dict[str, dict[str, int]]:
    """Fill an installation that is able to queue work, and return the ids by client."""
    runtime.prepare(settings.database_url)
    with db.begin() as session:
        ids = seed.fill(session)
        for key in ids:
            ids[key] |= furnish(session, key, ids[key])
    return ids


def ask(session: Session, things: dict[str, int], ticket_id: int | None = None, **parameters: Any) -> int:
    """Let a technician ask for a playbook for which the client's word is needed; return the run's number."""
    run = runs.request_run(
        session,
        playbook="free-disk-space",
        asset_ids=[things["asset_id"]],
        parameters=parameters,
        ticket_id=ticket_id,
        actor=TECHNICIAN,
        now=asking_time(utc_now()),
    )
    assert run.state == "awaiting_approval", run.decision
    approval = session.scalars(select(Approval).where(Approval.run_id == run.id)).one()
    approval.expires_at = utc_now() + timedelta(hours=20)
    return run.id


def furnish(session: Session, key: str, things: dict[str, int]) -> dict[str, int]:
    """Store tickets in every state, a question to the client, tests, visits and bills for one client."""
    now = utc_now()

    def opened(subject: str, hours: float, priority: str = "P2", text: str = "") -> int:
        opening = tickets.Opening(
            client_id=things["client_id"], subject=subject, priority=priority, text=text, asset_id=things["asset_id"]
        )
        return tickets.open_ticket(session, opening, by=f"boss@{key}.example", now=now - timedelta(hours=hours)).id

    full = opened(f"No space left on the {key} file server", 3, text="Nobody can save a document.\nSince this morning.")
    tickets.reply(session, full, "We look at it.", by="tech@provider.example", now=now - timedelta(hours=2, minutes=40))
    tickets.note(session, full, "Internal: the client never cleans up.", by="tech@provider.example")
    asked = ask(session, things, full, path="/srv/share", threshold=80)
    waiting = opened("Printer prints stripes", 30, "P3")
    tickets.reply(session, waiting, "Which printer is it?", by="tech@provider.example", now=now - timedelta(hours=29))
    tickets.move(session, waiting, "waiting_client", by="tech@provider.example", now=now - timedelta(hours=29))
    solved = opened("VPN does not connect", 50, "P3")
    tickets.move(session, solved, "resolved", by="tech@provider.example", text="A new certificate.", now=now)
    order = session.get_one(WorkOrder, things["work_order_id"])
    order.ticket_id = full
    visit = session.get_one(Appointment, things["visit_id"])
    visit.promised_from, visit.promised_until = visit.starts_at, visit.starts_at + timedelta(hours=2)
    before = WorkOrder(
        client_id=things["client_id"], site_id=things["site_id"], summary="Replace a fan",
        duration=timedelta(hours=1), created_at=now - timedelta(days=20), state="done",
    )  # fmt: skip
    session.add(before)
    session.flush()
    session.add(
        Appointment(
            work_order_id=before.id,
            technician_id=visit.technician_id,
            starts_at=now - timedelta(days=19, hours=2),
            ends_at=now - timedelta(days=19),
            state="done",
        )
    )
    erp = session.scalars(select(BackupPlan).where(BackupPlan.name == f"{key} ERP database")).one()
    finding = {"reason": "content", "what": "2 of 4 files differ.", "where": "data/app.sqlite", "advice": "Look."}
    session.add_all(
        RestoreTest(
            plan_id=erp.id, started_at=now - timedelta(days=days), finished_at=now - timedelta(days=days) + took,
            verdict=verdict, highest_rung=rung, rto=took, rpo=timedelta(hours=5), reasons=reasons,
            result={"findings": [finding] if reasons else []},
        )
        for days, verdict, rung, took, reasons in (
            (8, "pass", 5, timedelta(minutes=31), []),
            (1, "fail", 2, timedelta(minutes=29), ["content"]),
        )
    )  # fmt: skip
    proof = evidence.record(
        session, "run.finished", actor="worker", subject=("run", things["run_id"]), client_id=things["client_id"]
    )
    item = session.get_one(ConfigurationItem, things["asset_id"])
    for hours, minutes in ((26, 7), (50, 40)):
        worked = entries.Worked(
            client_id=things["client_id"], begun_at=now - timedelta(hours=hours), minutes=minutes, ticket_id=full,
            run_id=things["run_id"], evidence_id=proof.id, asset=item.name, asset_class=item.kind, work="remote",
        )  # fmt: skip
        entries.propose_entry(session, worked, now=now)
    session.flush()
    return {"full": full, "waiting": waiting, "solved": solved, "asked": asked, "erp": erp.id, "proof": proof.id}
