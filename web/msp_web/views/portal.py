"""The client's own pages. First the three questions: what is open, are my backups proven, what do you need from me."""

from typing import Any

from flask import Blueprint, Response, render_template
from flask_babel import gettext
from sqlalchemy import select

from msp import evidence
from msp.backup.models import BackupPlan, RestoreTest
from msp.clock import utc_now
from msp.contracts.models import Client, Contract, HourBlock
from msp.desk.models import Ticket
from msp.dispatch.models import Appointment, WorkOrder
from msp.evidence import Evidence
from msp.remote.models import Approval, Run
from msp_web.access import actor, current_actor, portal, scoped, visible
from msp_web.unit import read_only
from msp_web.views.evidence import as_file

bp = Blueprint("portal", __name__, url_prefix="/portal")

PROVEN = 4  # the rung from which a restore test is a proof


@bp.app_context_processor
def shell() -> dict[str, Any]:
    """Give the client's name and menu to the portal's shell."""

    def name() -> str:
        asking = current_actor()
        if asking is None or asking.client_id is None:
            return "msp-toolkit"
        with read_only() as session:
            return scoped(session, Client, asking.client_id).name

    def entries() -> list[tuple[str, str, str]]:
        return [
            ("portal.home", "home", gettext("Overview")),
            ("portal.backups", "shield-check", gettext("Backups")),
            ("portal.documents", "file-certificate", gettext("Contract and evidence")),
        ]

    return {"portal_name": name, "portal_navigation": entries}


@bp.get("/")
@portal()
def home() -> str:
    """Answer the three questions."""
    with read_only() as session:
        tickets = visible(select(Ticket).where(Ticket.is_open), Ticket)
        asked = select(Approval, Run).join(Run, Run.id == Approval.run_id).where(Approval.decided_at.is_(None))
        visits = select(Appointment, WorkOrder).join(WorkOrder, WorkOrder.id == Appointment.work_order_id)
        visits = visits.where(Appointment.state.in_(("proposed", "confirmed", "on_the_way", "working")))
        return render_template(
            "portal/home.html",
            tickets=list(session.scalars(tickets.order_by(Ticket.next_due_at.is_(None), Ticket.next_due_at).limit(50))),
            plans=plans(session),
            approvals=session.execute(visible(asked, Approval).order_by(Approval.expires_at)).all(),
            visits=session.execute(visible(visits, Appointment).order_by(Appointment.starts_at).limit(20)).all(),
            moment_now=utc_now(),
        )


def plans(session: Any) -> list[tuple[BackupPlan, RestoreTest | None, bool]]:
    """Return (plan, last proof, whether it is young enough), unproven first."""
    found = []
    for plan in session.scalars(visible(select(BackupPlan).where(BackupPlan.enabled), BackupPlan)):
        proof = session.scalar(
            select(RestoreTest)
            .where(RestoreTest.plan_id == plan.id, RestoreTest.verdict.in_(("pass", "warn")))
            .where(RestoreTest.highest_rung >= PROVEN)
            .order_by(RestoreTest.finished_at.desc())
            .limit(1)
        )
        young = (
            proof is not None and proof.finished_at is not None and utc_now() - proof.finished_at <= plan.proof_every
        )
        found.append((plan, proof, young))
    return sorted(found, key=lambda row: (row[2], row[0].name))


@bp.get("/backups")
@portal()
def backups() -> str:
    """Show every backup plan with its last proof."""
    with read_only() as session:
        return render_template("portal/backups.html", plans=plans(session))


@bp.get("/documents")
@portal()
def documents() -> str:
    """Show contracts, hours left and the evidence to take home."""
    with read_only() as session:
        contracts = list(session.scalars(visible(select(Contract), Contract).order_by(Contract.reference)))
        blocks = list(session.scalars(visible(select(HourBlock), HourBlock).order_by(HourBlock.purchased_on)))
        last = session.scalars(visible(select(Evidence), Evidence).order_by(Evidence.id.desc()).limit(10))
        return render_template("portal/documents.html", contracts=contracts, blocks=blocks, last=list(last))


@bp.get("/evidence.jsonl")
@portal()
def export() -> Response:
    """Give the client its own chain."""
    chain = actor().client_id
    if chain is None or chain == evidence.PROVIDER:  # never reached: the mark wants a client's person
        raise AssertionError
    with read_only() as session:
        key = scoped(session, Client, chain).key
    return as_file(chain, key)
