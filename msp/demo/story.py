"""The closed loop in seven steps. Each does the real thing, proves its result, and says what it proved."""

import os
import shutil
import sqlite3
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select

from msp import db, evidence
from msp.backup import plans
from msp.backup.models import RestoreTest
from msp.backup.plan_parts import PlanParts
from msp.clock import utc_now
from msp.contracts.models import BillingEntry
from msp.demo.browser import Browser
from msp.demo.stage import Stage
from msp.desk import clock, tickets
from msp.desk.models import Ticket
from msp.dispatch.models import Appointment, Technician, WorkOrder
from msp.engine.models import EffectClaim
from msp.errors import StepFailed
from msp.flows import restores, runs
from msp.people import users
from msp.people.access import Actor
from msp.remote.models import Run, RunHost, StepResult


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the story: its title, and what plays it and yields the sentences that it proved."""

    title: str
    play: Callable[[Stage], Iterator[str]]


def prove(holds: object, otherwise: str) -> None:
    """Raise StepFailed unless it holds."""
    if not holds:
        raise StepFailed(otherwise, advice="The demo's folder holds its logs.")


def actor(email: str) -> Actor:
    """Return one of the demo's people."""
    with db.read() as session:
        return users.actor_of(session, users.by_email(session, email))


def ended(stage: Stage, run_id: int) -> Run:
    """Wait until a run has ended and return it."""

    def look() -> Run | None:
        with db.read() as session:
            run = session.get_one(Run, run_id)
            return run if run.finished_at is not None else None

    stage.wait(f"run {run_id} to end", lambda: look() is not None)
    run = look()
    if run is None:
        raise StepFailed(f"Run {run_id} went on after it had ended.")
    return run


def open_ticket(stage: Stage, client: str, subject: str, *, asset: str, symptom: str, priority: str = "P2") -> int:
    """Let a ticket arrive by mail and return its number."""
    opening = tickets.Opening(
        client_id=stage.client(client),
        subject=subject,
        priority=priority,
        channel="email",
        text=f"{subject}. Please help.",
        asset_id=stage.asset(asset),
        symptom=symptom,
    )
    with db.begin() as session:
        return tickets.open_ticket(session, opening, by="mail").id


def request(playbook: str, asset: int, ticket: int | None, stage: Stage, **parameters: Any) -> int:
    """Let Anna ask for a run and return its number."""
    with db.begin() as session:
        run = runs.request_run(
            session,
            playbook=playbook,
            asset_ids=[asset],
            parameters=parameters,
            ticket_id=ticket,
            actor=actor("anna@provider.example"),
            own=stage.settings.playbooks,
        )
        return run.id


def ticket_on_its_clock(stage: Stage) -> Iterator[str]:
    number = open_ticket(stage, "sever", "No space left on srv-fs1", asset="srv-fs1", symptom="disk_full")
    other = open_ticket(stage, "spree", "Shared folder is slow", asset="spree-fs1", symptom="slow")
    stage.notes["disk_ticket"] = number
    with db.read() as session:
        for ticket_id in (number, other):
            ticket = tickets.get(session, ticket_id)
            view = clock.view(session, ticket, utc_now())
            prove(view and view.resolution.due_at, f"Ticket {ticket_id} has no clock.")
            prove(ticket.resolution_due_at == view.resolution.due_at, "The stored due time is not the recomputed one.")  # type: ignore[union-attr]
            why = next(reason for reason in view.why if reason.name == "resolution")  # type: ignore[union-attr]
            prove(why.counted_s == why.goal_s, "The explanation does not add up to the target.")
            yield (
                f"ticket {ticket_id} is due {ticket.resolution_due_at:%Y-%m-%d %H:%M} UTC: line {view.clause} "  # type: ignore[union-attr]
                f"({why.zone}), {why.counted_s // 60} covered minutes in {len(why.counted)} spans"
            )


def disk_is_freed(stage: Stage) -> Iterator[str]:
    number = int(stage.notes["disk_ticket"])  # type: ignore[call-overload]
    share = stage.hosts["srv-fs1"].root / "share"
    share.mkdir(exist_ok=True)
    (share / "report.txt").write_text("must stay\n")
    for count in range(8):
        file = share / f"cache-{count}.tmp"
        file.write_bytes(os.urandom(512 * 1024))
        os.utime(file, (time.time() - 86400 * 3,) * 2)
    run = ended(
        stage,
        request(
            "free-disk-space",
            stage.asset("srv-fs1"),
            number,
            stage,
            path=str(share),
            limit_kb=4096,
            threshold=80,
            older_than_minutes=60,
        ),
    )
    prove(run.state == "succeeded", f"free-disk-space ended {run.state}.")
    prove(not list(share.glob("*.tmp")) and (share / "report.txt").exists(), "The wrong files are gone.")
    with db.read() as session:
        phases = session.scalars(
            select(StepResult.phase).where(StepResult.run_id == run.id, StepResult.outcome == "ok")
        )
        prove("check" in set(phases), "Nothing checked the result.")
        prove(tickets.get(session, number).state == "resolved", "The ticket is not resolved.")
        entry = session.scalar(select(BillingEntry).where(BillingEntry.run_id == run.id))
        prove(entry is not None and entry.evidence_id, "No bill line was proposed.")
        yield f"4 MB freed on a host whose folder was full, proven by its check; ticket {number} is resolved"
        if entry is not None:
            yield f"bill line: {entry.billed_minutes} min, {entry.amount} {entry.currency}, linked to evidence"


def service_needs_a_visit(stage: Stage) -> Iterator[str]:
    root = stage.hosts["srv-app1"].root
    (root / "crm.pid").write_text("0\n")
    number = open_ticket(stage, "sever", "CRM does not answer", asset="srv-app1", symptom="service_down", priority="P1")
    run = ended(
        stage,
        request(
            "restart-service",
            stage.asset("srv-app1"),
            number,
            stage,
            service="crm",
            stop_command="echo stopped >> crm.log",
            start_command="echo started >> crm.log",
            status_command="test -e crm.ready",  # the power supply is dead: it never becomes ready
            wait_seconds=2,
        ),
    )
    prove(run.state == "failed", f"restart-service ended {run.state}.")
    with db.read() as session:
        undone = session.scalar(select(StepResult).where(StepResult.run_id == run.id, StepResult.phase == "undo"))
        prove(undone is not None and undone.outcome == "ok", "The failed step was not undone.")
        orders = list(session.scalars(select(WorkOrder).where(WorkOrder.run_id == run.id)))
        prove(len(orders) == 1, f"{len(orders)} visits were proposed instead of one.")
        order = orders[0]
        prove(order.skills.get("hardware") and order.parts == {"PSU-550": 1}, "Skill or part is missing.")
        prove(order.latest_dispatch_at is not None and order.log, "No latest dispatch, or no log.")
        visit = session.scalar(select(Appointment).where(Appointment.work_order_id == order.id))
        yield f"the check failed, the step was undone, one visit was proposed in the same transaction: {order.reason}"
        wanted = ", ".join(f"{name} {level}" for name, level in order.skills.items())
        yield f"skills {wanted}; part PSU-550; leave by {order.latest_dispatch_at:%H:%M} UTC; with its log attached"
        if visit is not None:
            who = session.get_one(Technician, visit.technician_id).name
            yield f"best: {who}, {visit.starts_at:%Y-%m-%d %H:%M} UTC, {visit.travel // timedelta(minutes=1)} min away"


def backups_are_proven(stage: Stage) -> Iterator[str]:
    folder = stage.folder / "backups"
    folder.mkdir(exist_ok=True)
    _make_backup(folder / "crm-good.tar.gz", cut=False)
    _make_backup(folder / "shop-cut.tar.gz", cut=True)
    now = utc_now()
    numbers = {}
    with db.begin() as session:
        for name, file in (("crm-daily", "crm-good.tar.gz"), ("shop-daily", "shop-cut.tar.gz")):
            plan = plans.create(
                session,
                PlanParts(
                    asset_id=stage.asset("srv-db1"),
                    name=name,
                    case=_case(folder / file),
                    cron="30 3 * * *",
                    time_zone="Europe/Moscow",
                    proof_every=timedelta(days=7),
                ),
                client_id=stage.client("sever"),
                by="demo",
            )
            restores.put_on_schedule(session, plan, now)
            restores.request_test(session, plan.id, actor=actor("anna@provider.example"))
            numbers[name] = plan.id

    def tested(name: str) -> RestoreTest | None:
        with db.read() as session:
            query = select(RestoreTest).where(
                RestoreTest.plan_id == numbers[name], RestoreTest.finished_at.is_not(None)
            )
            return session.scalar(query.order_by(RestoreTest.id.desc()).limit(1))

    stage.wait("both restore tests", lambda: all(tested(name) for name in numbers))
    good, bad = tested("crm-daily"), tested("shop-daily")
    prove(
        good and good.verdict == "pass", f"The good backup was judged {good and good.verdict}: {good and good.result}"
    )
    prove(bad and bad.verdict == "fail", f"The truncated backup was judged {bad and bad.verdict}.")
    with db.read() as session:
        states = {state.plan.name: state for state in restores.states(session, utc_now())}
        prove(states["crm-daily"].proven and not states["shop-daily"].proven, "The board tells it the wrong way round.")
        ticket = session.scalar(select(Ticket).where(Ticket.dedup_key == f"backup:{numbers['shop-daily']}"))
        prove(ticket is not None and ticket.is_open, "No ticket was opened for the truncated backup.")
        yield f"crm-daily: {states['crm-daily'].proof.words}"
        finding = bad.result["findings"][0]["what"] if bad else ""
        yield f"shop-daily: {finding} -> ticket {ticket.id if ticket else '?'}"


def _case(file: Path) -> dict[str, Any]:
    query = {"path": "app.sqlite", "query": "select count(*) from orders", "min": 5000}
    return {"engine": "tar", "file": str(file), "root": "data", "expect": {"rto_s": 600, "sqlite": [query]}}


def _make_backup(path: Path, *, cut: bool) -> None:
    """Write an archive with a database of 5,000 orders; `cut` loses its second half, as a full disk does."""
    work = path.parent / "data"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    with sqlite3.connect(work / "app.sqlite") as database:
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, amount INTEGER)")
        rows = ((f"Customer {number}", number * 7 % 1000) for number in range(5000))
        database.executemany("INSERT INTO orders (customer, amount) VALUES (?, ?)", rows)
    database.close()
    if cut:
        whole = (work / "app.sqlite").read_bytes()
        (work / "app.sqlite").write_bytes(whole[: len(whole) // 2])
    (work / "readme.txt").write_text("Nightly dump of the application.\n")
    with tarfile.open(path, "w:gz") as archive:
        archive.add(work, "data")
    shutil.rmtree(work)


def contract_decides(stage: Stage) -> Iterator[str]:
    stage.hosts["srv-db1"].root.joinpath("untouched").write_text("yes")
    before = len(list(stage.hosts["srv-db1"].root.iterdir()))
    refused_id = request("switch-release", stage.asset("srv-db1"), None, stage, release="2.0")
    with db.read() as session:
        refused = session.get_one(Run, refused_id)
        prove(refused.state == "refused" and refused.decision["clause_id"] == "4.3", f"It was {refused.state}.")
        results = session.scalar(select(StepResult.id).where(StepResult.run_id == refused_id))
        prove(results is None and len(list(stage.hosts["srv-db1"].root.iterdir())) == before, "The host was touched.")
        yield f"refused before any connection: clause {refused.decision['clause_id']}, {refused.decision['text']}"
    root = stage.hosts["srv-web1"].root
    for release in ("1.0", "2.0"):
        (root / "releases" / release).mkdir(parents=True, exist_ok=True)
        (root / "releases" / release / "VERSION").write_text(release + "\n")
    (root / "current").unlink(missing_ok=True)
    (root / "current").symlink_to("releases/1.0")
    asked_id = request("switch-release", stage.asset("srv-web1"), None, stage, release="2.0")
    with db.read() as session:
        prove(session.get_one(Run, asked_id).state == "awaiting_approval", "It did not wait for the client.")
    time.sleep(1)
    prove((root / "current" / "VERSION").read_text().strip() == "1.0", "It ran before the client agreed.")
    olga = Browser(stage.address)
    olga.log_in("olga@sever.example", stage.password)
    page = olga.get("/portal/")
    prove(f"/portal/approvals/{asked_id}" in page, "The portal does not show what waits for the client.")
    olga.post(f"/portal/approvals/{asked_id}/approve", page)
    run = ended(stage, asked_id)
    prove(run.state == "succeeded", f"The approved run ended {run.state}.")
    prove((root / "current" / "VERSION").read_text().strip() == "2.0", "The release was not switched.")
    yield f"inside its window it waited; Olga approved it in the portal, and run {asked_id} switched to 2.0"


def worker_is_killed(stage: Stage) -> Iterator[str]:
    register = stage.hosts["srv-app1"].root / "licences.txt"
    before = register.read_text().count("ACME-2027-0001") if register.exists() else 0
    run_id = request("register-licence", stage.asset("srv-app1"), None, stage, key="ACME-2027-0001")
    stage.wait("the step to be at work", lambda: register.exists() and register.read_text().count("ACME") > before)
    stage.kill_worker()
    with db.read() as session:
        claim = session.scalar(select(EffectClaim).where(EffectClaim.run_id == run_id, EffectClaim.phase == "do"))
        prove(claim is not None and claim.state == "claimed", "The effect was not claimed before it was sent.")
        prove(session.get_one(Run, run_id).finished_at is None, "The run ended although its worker was killed.")
    yield "the worker was killed while the key was being added: what happened is unknown, and nobody guesses"
    stage.start_worker()
    run = ended(stage, run_id)
    prove(run.state == "succeeded", f"After the restart the run ended {run.state}.")
    prove(register.read_text().count("ACME-2027-0001") == before + 1, "The key was added twice.")
    with db.read() as session:
        claim = session.scalars(
            select(EffectClaim).where(EffectClaim.run_id == run_id, EffectClaim.phase == "do")
        ).one()
        prove(claim.resolution == "probe_ran", f"The doubt was resolved by {claim.resolution}, not by the probe.")
        hosts = session.scalars(select(RunHost.outcome).where(RunHost.run_id == run_id)).all()
    yield f"the restarted worker did not run it again; its probe found it done ({hosts[0]}): one key in the register"


def evidence_is_whole(stage: Stage) -> Iterator[str]:
    with db.read() as session:
        count, breaks = evidence.verify(session)
    prove(not breaks, f"The chain is broken: {breaks[:1]}")
    yield f"{count} records, every chain whole"
    copy = stage.folder / "one-byte-changed.db"
    path = stage.folder / "msp.db"
    from msp.migrations import copy_sqlite

    copy_sqlite(path, copy)
    with sqlite3.connect(copy) as damaged:
        middle = damaged.execute(
            "SELECT id FROM evidence ORDER BY id LIMIT 1 OFFSET (SELECT count(*) / 2 FROM evidence)"
        )
        (record,) = middle.fetchone()
        damaged.execute("UPDATE evidence SET actor = '?' || substr(actor, 2) WHERE id = ?", (record,))
        changed = damaged.execute("SELECT chain, seq FROM evidence WHERE id = ?", (record,)).fetchone()
    damaged.close()
    other = db.Database(f"sqlite:///{copy}")
    with other.read() as session:
        broken = evidence.verify(session)[1]
    other.dispose()
    copy.unlink()
    prove([(one.chain, one.seq) for one in broken] == [tuple(changed)], f"The change was not named: {broken}")
    yield f"with one byte changed in a copy: chain {changed[0]}, record {changed[1]} {broken[0].what}"


STORY = (
    Step("A ticket arrives on the clock of its contract", ticket_on_its_clock),
    Step("A playbook frees a full disk, proves it, resolves the ticket, is billed", disk_is_freed),
    Step("A restart fails, undoes itself, and a visit is proposed", service_needs_a_visit),
    Step("A good backup is proven, a truncated one is caught", backups_are_proven),
    Step("The contract refuses outside its window; inside, the client approves", contract_decides),
    Step("The worker is killed in the middle of a step", worker_is_killed),
    Step("The evidence verifies, and a changed byte is named", evidence_is_whole),
)
