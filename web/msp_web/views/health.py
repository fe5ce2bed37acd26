"""For supervisors: does the process live, is it ready, and its figures."""

from datetime import timedelta
from ipaddress import ip_address

from flask import Blueprint, Response, current_app, jsonify, request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from msp.clock import utc_now
from msp.desk.models import Ticket
from msp.engine.models import Job, WorkerLease
from msp.errors import NotFound
from msp.remote.models import Run
from msp_web.access import can, public
from msp_web.unit import read_only

bp = Blueprint("health", __name__)


@bp.get("/healthz")
@public
def healthz() -> Response:
    """Say that the process answers; asks nothing else."""
    return jsonify(status="ok")


def workers(session: Session) -> int:
    """Return the number of workers whose heartbeat is fresh."""
    fresh = utc_now() - timedelta(seconds=current_app.config["MSP_SETTINGS"].lease_seconds)
    return session.scalar(select(func.count()).where(WorkerLease.heartbeat_at >= fresh)) or 0


@bp.get("/readyz")
@public
def readyz() -> tuple[Response, int]:
    """Say whether pages can be served and work is being driven: the database answers, a worker holds a lease."""
    with read_only() as session:
        count = workers(session)
    return jsonify(status="ready" if count else "no worker", database="ok", workers=count), 200 if count else 503


@bp.get("/metrics")
@public
def metrics() -> Response:
    """Return figures for Prometheus, to this machine or to an administrator; nobody else learns that they exist."""
    near = ip_address(request.remote_addr or "0.0.0.0").is_loopback  # noqa: S104  compared, not listened on
    proxied = "X-Forwarded-For" in request.headers
    if not can("admin.see") and (proxied or not near):
        raise NotFound("There is no such page.", advice="Use the menu or the search.")
    registry = CollectorRegistry()
    with read_only() as session:
        Gauge("msp_workers", "Workers with a fresh heartbeat.", registry=registry).set(workers(session))
        tickets = Gauge("msp_tickets_open", "Open tickets.", ["breached"], registry=registry)
        for breached, count in session.execute(
            select(Ticket.breached, func.count()).where(Ticket.is_open).group_by(Ticket.breached)
        ):
            tickets.labels("yes" if breached else "no").set(count)
        runs = Gauge("msp_runs", "Runs by state.", ["state"], registry=registry)
        for state, count in session.execute(select(Run.state, func.count()).group_by(Run.state)):
            runs.labels(state).set(count)
        jobs = Gauge("msp_jobs", "Jobs by queue and state.", ["queue", "state"], registry=registry)
        for queue, state, count in session.execute(
            select(Job.queue, Job.state, func.count()).group_by(Job.queue, Job.state)
        ):
            jobs.labels(queue, state).set(count)
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
