"""Backups: the proof board with the worst first, one plan with its tests, one restore test with what it found."""

import csv
import io
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from flask import Blueprint, Response, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from sqlalchemy import select
from sqlalchemy.orm import Session

from msp.assets.models import ConfigurationItem
from msp.backup import drafts, drill, ladder, plans, proposals, trend
from msp.backup.models import BackupDrill, BackupPlan, BackupWatch, RestoreTest
from msp.backup.proof import Proof
from msp.backup.verdict import PROOF_RUNG, RUNGS
from msp.clock import utc_now
from msp.contracts.models import Client
from msp.desk.models import Ticket
from msp.engine.models import Schedule
from msp.errors import NotFound
from msp.flows import backup_gaps, backup_trends, drills, restores
from msp_web import language, trend_chart
from msp_web.access import actor, requires, scoped, visible
from msp_web.sparkline import Spark, spark
from msp_web.ticket_page import newest
from msp_web.unit import read_only, unit_of_work
from msp_web.views import backup_plans, calendars
from msp_web.views.assets import clients_of, plain_cell
from msp_web.views.desk import granted, number_of

bp = Blueprint("backups", __name__, url_prefix="/backups")

SHOWN = 15  # tests of a plan before one asks for the older ones
TREND = 12  # tests that the drawing shows
ORDER = {"unproven": 0, "overdue": 1, "proven": 2}


@dataclass(frozen=True, slots=True)
class Line:
    """One plan as the board shows it. `share`: how much of the allowed age of its proof is used up; 1 and more: all."""

    plan: BackupPlan
    client: Client
    proof: Proof
    share: float | None
    last: RestoreTest | None
    running: bool
    finding: str
    measured: timedelta | None  # the last restore that was timed
    promised: timedelta | None
    drawing: Spark | None
    pictured: int | None = None  # the newest test whose machine was seen on its screen


def promised_rto(session: Session, plan: BackupPlan, now: datetime) -> timedelta | None:
    """Return how long a restore may take: by the contract in force, else by the plan's own case."""
    return backup_trends.promised(session, plan, "rto")(now)


def finding_of(test: RestoreTest | None) -> str:
    """Return the first thing that a test found, as it was said; empty if it found nothing."""
    found = (test.result.get("findings") or []) if test else []
    return str(found[0].get("what", "")) if found else ""


def line_of(session: Session, state: restores.PlanState, client: Client, now: datetime) -> Line:
    """Return a plan with everything that the board says of it."""
    plan, proof = state.plan, state.proof
    tests = plans.recent(session, plan.id, TREND)
    last = next((test for test in tests if test.finished_at is not None), None)
    promised = promised_rto(session, plan, now)
    measured = [took for test in reversed(tests) if (took := trend.measured(test, "rto")) is not None]
    return Line(
        plan=plan,
        client=client,
        proof=proof,
        share=(now - proof.proven_at) / plan.proof_every if proof.proven_at else None,
        last=last,
        running=any(test.finished_at is None for test in tests),
        finding=finding_of(last),
        measured=measured[-1] if measured else None,
        promised=promised,
        drawing=spark(measured, promised),
        pictured=max(plans.pictures(session, (test.id for test in tests)), default=None),
    )


def lines(session: Session) -> list[Line]:
    """Return the plans that the address asks for, the worst first."""
    now, clients = utc_now(), clients_of(session)
    found = [
        line_of(session, state, clients[state.plan.client_id], now)
        for state in restores.states(session, now, client_ids=granted())
        if state.plan.client_id in clients
    ]
    return sorted(found, key=lambda one: (ORDER.get(one.proof.state, 0), -(one.share or 0.0), one.plan.name))


def narrowed(every: list[Line]) -> list[Line]:
    """Return the lines that pass the filters of the address."""
    show, client = request.args.get("show", ""), number_of(request.args.get("client"))
    words = request.args.get("q", "").strip().lower().split()
    return [
        one
        for one in every
        if (not show or (one.proof.state == show or (show == "unproven" and one.proof.state != "proven")))
        and (not client or one.plan.client_id == client)
        and all(word in f"{one.plan.name} {one.client.name} {one.plan.engine}".lower() for word in words)
    ]


@bp.get("/")
@requires("backup.see")
def board() -> str:
    """Show every plan: how far it is proven, how old the proof is, what a restore takes against the promise."""
    with read_only() as session:
        every = lines(session)
        return render_template(
            "backups/board.html",
            month=f"{utc_now().astimezone(language.zone()):%Y-%m}",
            lines=narrowed(every),
            drills=drilled(session, {one.plan.engine for one in every}),
            mine=drafts.open_ones(session, granted(), actor().name),
            paused=paused(session),
            gaps=backup_gaps.gaps(session, utc_now(), client_ids=granted()),
            figures={state: sum(one.proof.state == state for one in every) for state in ORDER},
            slow=sum(bool(one.measured is not None and one.promised and one.measured > one.promised) for one in every),
            clients=clients_of(session),
            listens_from=newest(session),
        )


@dataclass(frozen=True, slots=True)
class Drilled:
    """One engine's drill. `state`: passed, failed, never (none in due time), or none: there is no drill for it."""

    engine: str
    state: str
    at: datetime | None
    caught: int
    planted: int
    got_by: tuple[BackupDrill, ...]


def drilled(session: Session, used: Collection[str]) -> list[Drilled]:
    """Return the drill of every engine in use or drilled before, the worst first."""
    known, found = drills.last(session), []
    for engine in sorted({*known, *used}):
        rows = [row for row in known.get(engine, []) if row.verdict != drill.SKIPPED]
        got_by = tuple(row for row in rows if not row.caught)
        state = drills.state(rows, utc_now()) if rows or engine in drill.ENGINES else "none"
        at = rows[0].at if rows else None
        found.append(Drilled(engine, state, at, len(rows) - len(got_by), len(rows), got_by))
    return sorted(found, key=lambda one: ("failed", "none", "never", "passed").index(one.state))


def paused(session: Session) -> list[BackupPlan]:
    """Return the plans that are paused, by name: nothing proves them meanwhile."""
    query = visible(select(BackupPlan), BackupPlan)
    query = query.where(BackupPlan.enabled.is_(False), BackupPlan.removed_at.is_(None))
    return list(session.scalars(query.order_by(BackupPlan.name, BackupPlan.id)))


@bp.get("/list.csv")
@requires("backup.see")
def as_csv() -> Response:
    """Give away the board as it is filtered."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(
        ("client", "plan", "engine", "proof", "rung", "proven_at", "allowed_s", "rto_s", "promised_s", "finding")
    )
    with read_only() as session:
        for one in narrowed(lines(session)):
            proven = one.proof.proven_at.isoformat() if one.proof.proven_at else ""
            rto = one.measured.total_seconds() if one.measured is not None else ""
            allowed, promised = one.plan.proof_every.total_seconds(), one.promised
            cells: list[Any] = [
                one.client.name,
                one.plan.name,
                one.plan.engine,
                one.proof.state,
                one.proof.rung,
                proven,
            ]
            cells += [int(allowed), rto, promised.total_seconds() if promised else "", one.finding]
            writer.writerow([plain_cell(cell) for cell in cells])
    answer = Response("\ufeff" + text.getvalue(), mimetype="text/csv")
    answer.headers["Content-Disposition"] = 'attachment; filename="backups.csv"'
    return answer


@bp.get("/<int:plan_id>")
@requires("backup.see")
def show(plan_id: int) -> str:
    """Show one plan with its tests."""
    with read_only() as session:
        plan, now = scoped(session, BackupPlan, plan_id), utc_now()
        zone = ZoneInfo(plan.time_zone)
        state = restores.PlanState(plan, plans.proof(session, plan, now))
        client = scoped(session, Client, plan.client_id)
        ticket = select(Ticket).where(Ticket.dedup_key == f"backup:{plan.id}", Ticket.client_id == client.id)
        return render_template(
            "backups/show.html",
            line=line_of(session, state, client, now),
            item=scoped(session, ConfigurationItem, plan.asset_id) if plan.asset_id else None,
            tests=plans.recent(session, plan.id),
            shown=plans.RECENT if "all" in request.args else SHOWN,
            ticket=session.scalar(visible(ticket.where(Ticket.is_open), Ticket)),
            rungs=RUNGS,
            proof_rung=PROOF_RUNG,
            steps=ladder.read(plan.ladder),
            limits=ladder.read_limits(plan.limits),
            watched=session.get(BackupWatch, plan.id),
            trends=[(one, trend_chart.draw(one, zone, now)) for one in backup_trends.of_plan(session, plan, now)],
            next_at=schedules_of(session, plan),
            token=backup_plans.shown_once(plan.id),
            command=trigger_command(f"{calendars.base()}{url_for('api.backup_written', plan_id=plan.id)}"),
            held=proposals.standing(dict(plan.case.get("expect") or {}), ()),
            listens_from=newest(session),
        )


def trigger_command(address: str) -> str:
    """Return what a backup job runs when it has written."""
    held, kind = '-H "Authorization: Bearer $TOKEN"', '-H "Content-Type: application/json"'
    return f'curl --fail -X POST {held} {kind} -d \'{{"backup": "…"}}\' {address}'


def schedules_of(session: Session, plan: BackupPlan) -> dict[str, datetime]:
    """Return when each cron line of a plan fires next, as the worker has it."""
    own = f"restore-{plan.id}"
    query = select(Schedule).where((Schedule.key == own) | Schedule.key.startswith(f"{own}-"), Schedule.enabled)
    return {row.cron: row.next_due_at for row in session.scalars(query) if row.next_due_at is not None}


@bp.get("/tests/<int:test_id>")
@requires("backup.see")
def test(test_id: int) -> str:
    """Show one restore test: each rung, what it found, what was run, and what a reader may conclude."""
    with read_only() as session:
        found = scoped(session, RestoreTest, test_id)
        plan = scoped(session, BackupPlan, found.plan_id)
        return render_template(
            "backups/test.html",
            test=found,
            plan=plan,
            client=scoped(session, Client, plan.client_id),
            ticket=scoped(session, Ticket, found.ticket_id) if found.ticket_id else None,
            promised=promised_rto(session, plan, found.started_at),
            rungs=[(number, name, rung_of(found, number)) for number, name in RUNGS.items()],
            compared=next(
                (rung["figures"] for rung in found.rungs if (rung.get("figures") or {}).get("compared")), None
            ),
            findings=found.result.get("findings") or [],
            picture=plans.pictures(session, [found.id]).get(found.id),
            proof_rung=PROOF_RUNG,
            listens_from=newest(session),
        )


@bp.get("/tests/<int:test_id>/screen.png")
@requires("backup.see")
def picture(test_id: int) -> Response:
    """Show the screen of the machine that a test booted."""
    with read_only() as session:
        found = plans.pictures(session, [scoped(session, RestoreTest, test_id).id]).get(test_id)
        if found is None:
            raise NotFound("This test took no picture.", advice="Only a disk image that is booted has a screen.")
        answer = Response(found.png, mimetype="image/png")
        answer.headers["Cache-Control"] = "private, max-age=86400, immutable"
        return answer


def rung_of(test: RestoreTest, number: int) -> dict[str, Any] | None:
    """Return what was done on one rung of the ladder, or None if it was not climbed."""
    return next((rung for rung in test.rungs if rung.get("rung") == number), None)


@bp.post("/<int:plan_id>/tests")
@requires("backup.request")
def test_now(plan_id: int) -> ResponseReturnValue:
    """Queue a restore test; the worker does it."""
    with unit_of_work() as session:
        scoped(session, BackupPlan, plan_id)
        restores.request_test(session, plan_id, actor=actor())
    flash(gettext("A restore test is queued. This page tells as soon as it has ended."), "success")
    return redirect(url_for("backups.show", plan_id=plan_id), code=303)
