"""The client's own pages. First the three questions: what is open, are my backups proven, what do you need from me."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from markupsafe import Markup
from sqlalchemy import select
from sqlalchemy.orm import Session

from msp.backup import plans as stored_plans
from msp.backup.models import BackupPlan, RestoreTest
from msp.backup.proof import Proof
from msp.clock import utc_now
from msp.contracts import agreements
from msp.contracts.models import Client, HourBlock, Site
from msp.contracts.terms import Terms
from msp.desk import queue
from msp.dispatch import visits as dispatch
from msp.dispatch.models import Appointment, Technician, WorkOrder
from msp.errors import Conflict, MspError, NotFound, Refused
from msp.flows import approving, backup_gaps, backup_trends, credential_grants, prepaid, restores
from msp.remote.models import Run
from msp_web import approval_card, language, portal_words, trend_chart
from msp_web.access import actor, can, current_actor, portal, scoped, visible
from msp_web.filters import moment
from msp_web.run_page import own
from msp_web.unit import read_only, unit_of_work
from msp_web.views import calendars, proof_packs

bp = Blueprint("portal", __name__, url_prefix="/portal")

COMING = ("proposed", "planned", "confirmed", "on_the_way", "working")
#: page -> the menu entry that it stands under
SECTIONS = {
    "portal.approval": "portal.home",
    "portal.backup": "portal.backups",
    "portal_tickets.show": "portal_tickets.index",
    "portal_tickets.why": "portal_tickets.index",
    "portal_tickets.new": "portal_tickets.index",
    "portal_visits.offered": "portal.visits",
    "portal_contract.show": "portal_contract.index",
    "portal_contract.record": "portal_contract.evidence_list",
}
ASKED = 5  # visits whose cost the first page asks about
HISTORY = 50  # restore tests that a plan's page shows


@bp.app_context_processor
def shell() -> dict[str, Any]:
    """Give the client's name and menu to the portal's shell."""

    def name() -> str:
        asking = current_actor()
        if asking is None or asking.client_id is None:
            return "msp-toolkit"
        with read_only() as session:
            return scoped(session, Client, asking.client_id).name

    def entries() -> list[tuple[str, str, str, bool]]:
        every = [
            ("portal.home", "home", gettext("Overview")),
            ("portal_tickets.index", "ticket", gettext("Tickets")),
            ("portal.backups", "shield-check", gettext("Backups")),
            ("portal.visits", "truck", gettext("Visits")),
            ("portal_contract.index", "file-certificate", gettext("Contract")),
            ("portal_acts.index", "file-invoice", gettext("Acts")),
            ("portal_credentials.index", "key", gettext("Access")),
            ("portal_contract.evidence_list", "fingerprint", gettext("Evidence")),
        ]
        here = SECTIONS.get(request.endpoint or "", request.endpoint)
        return [(*entry, entry[0] == here) for entry in every]

    return {"portal_name": name, "portal_navigation": entries, "words_for": portal_words}


def own_client() -> int:
    """Return the client of the asking person; the mark has let only a client's people in."""
    number = actor().client_id
    if number is None:  # never reached
        raise AssertionError
    return number


@bp.get("/")
@portal()
def home() -> str:
    """Answer the three questions."""
    now = utc_now()
    with read_only() as session:
        return render_template(
            "portal/home.html",
            tickets=queue.rows(session, queue.Filter(client_ids=[own_client()]), limit=8),
            open_tickets=queue.counters(session, queue.Filter(client_ids=[own_client()]), now=now).open,
            answers=queue.rows(session, queue.Filter(client_ids=[own_client()], state="waiting_client"), limit=5),
            solved=solved(session),
            plans=watched(session),
            cards=approval_card.waiting(session, actor(), now),
            uses=credential_grants.waiting(session, actor()),
            visits=visits_of(session, coming=True)[:5],
            beyond=beyond(session) if can("portal.approve") else [],
            blocks=blocks_left(session),
        )


def solved(session: Session) -> list[queue.Row]:
    """Return tickets that we call solved and the client has not confirmed, the newest first."""
    found = queue.rows(session, queue.Filter(client_ids=[own_client()], is_open=False, state="resolved"), limit=200)
    recent = [row for row in found if utc_now() - row.opened_at < timedelta(days=60)]
    return sorted(recent, key=lambda row: -row.id)[:3]


def blocks_left(session: Session) -> list[HourBlock]:
    """Return the blocks of hours that may still be used, the first to expire on top."""
    today = utc_now().date()
    found = session.scalars(visible(select(HourBlock), HourBlock).order_by(HourBlock.purchased_on))
    usable = [block for block in found if block.expires_on is None or block.expires_on >= today]
    return sorted(usable, key=lambda block: (block.expires_on is None, block.expires_on or today))


# --- approvals


@bp.get("/approvals/<int:run_id>")
@portal()
def approval(run_id: int) -> str:
    """Show exactly what is asked for. Who may not decide reads the same card without buttons."""
    return card_page(run_id)


def card_page(run_id: int, error: MspError | None = None) -> str:
    """Return the card; after a decision that could not be taken, with the reason on top."""
    with read_only() as session:
        run = scoped(session, Run, run_id)
        card = approval_card.of_run(session, run, actor(), utc_now())
        if card is None:
            raise NotFound(f"Nobody was asked about run {run_id}.", advice="Look at its ticket.")
        said = why_not(card, error) if error else None
        return render_template("portal/approval.html", card=card, run=run, error=error, said=said)


def why_not(card: approval_card.Card, error: MspError) -> str | Markup:
    """Return in the viewer's language why a decision was not taken."""
    if card.state == "expired":
        text = gettext("This request expired %(when)s. Nothing was done; ask us to send it again.", when="{}")
        return Markup.escape(text).format(moment(card.asked.expires_at))
    if card.state in ("approved", "declined"):
        return str(gettext("Somebody decided before: %(who)s.", who=card.who(card.asked.decided_by)))
    return language.explained(error)


def decided(run_id: int, decide: Callable[[Session], Run], words: str) -> ResponseReturnValue:
    """Take one decision in one transaction; what stands against it is told on the card."""
    try:
        with unit_of_work() as session:
            scoped(session, Run, run_id)
            decide(session)
    except (Conflict, Refused) as error:
        return card_page(run_id, error), error.status
    flash(words, "success")
    return redirect(url_for("portal.home"), code=303)


@bp.post("/approvals/<int:run_id>/approve")
@portal("portal.approve")
def approve(run_id: int) -> ResponseReturnValue:
    """Let the run go ahead, exactly as shown."""
    words = gettext("Approved. It goes ahead now, and its ticket tells you how it ended.")
    return decided(run_id, lambda session: approving.approve(session, run_id, actor=actor(), own=own()), words)


@bp.post("/approvals/<int:run_id>/decline")
@portal("portal.approve")
def decline(run_id: int) -> ResponseReturnValue:
    """End the run; the reason reaches those who asked."""
    reason = request.form.get("reason", "").replace("\x00", "").strip()[:2000]
    words = gettext("Declined. Nothing is done, and we have been told.")
    return decided(run_id, lambda session: approving.decline(session, run_id, actor=actor(), reason=reason), words)


# --- backups


@dataclass(frozen=True, slots=True)
class Watched:
    """One backup as its owner sees it. `tests`: finished ones, newest first."""

    plan: BackupPlan
    proof: Proof
    words: Markup
    tests: tuple[RestoreTest, ...]
    last: RestoreTest | None  # the last that restored something
    rto: timedelta | None  # as promised
    rpo: timedelta | None

    @property
    def proven(self) -> bool:
        return self.proof.state == "proven"


def terms_in_force(session: Session) -> Terms | None:
    version = agreements.version_in_force(session, own_client(), utc_now())
    return agreements.terms_of(version) if version else None


def watched(session: Session) -> list[Watched]:
    """Return every backup that is watched, the unproven first."""
    terms = terms_in_force(session)
    found = [of_state(session, one, terms) for one in restores.states(session, utc_now(), client_ids=[own_client()])]
    return sorted(found, key=lambda one: (one.proven, one.plan.name))


def of_state(session: Session, one: restores.PlanState, terms: Terms | None) -> Watched:
    """Return a plan with its proof in words."""
    tests = tuple(test for test in stored_plans.recent(session, one.plan.id, HISTORY) if test.finished_at)
    return Watched(
        plan=one.plan,
        proof=one.proof,
        words=portal_words.proof(one.proof, tests, one.plan),
        tests=tests,
        last=next((test for test in tests if test.rto is not None), None),
        rto=portal_words.promised(one.plan, terms, "rto_s"),
        rpo=portal_words.promised(one.plan, terms, "rpo_s"),
    )


@bp.get("/backups")
@portal()
def backups() -> str:
    """Show every backup, proven or not, and why."""
    with read_only() as session:
        client = scoped(session, Client, own_client())
        return render_template(
            "portal/backups.html",
            plans=watched(session),
            months=proof_packs.months(client, utc_now()),
            gaps=[gap for gap in backup_gaps.gaps(session, utc_now(), client_ids=[client.id]) if gap.why == "plan"],
        )


@bp.get("/backups/<int:plan_id>")
@portal()
def backup(plan_id: int) -> str:
    """Show one backup: what each restore test found and measured."""
    with read_only() as session:
        plan = scoped(session, BackupPlan, plan_id)
        if plan.removed_at is not None:
            raise NotFound("There is no such backup plan.", advice="Go back to the list.")
        state = restores.PlanState(plan, stored_plans.proof(session, plan, utc_now()))
        now, zone = utc_now(), ZoneInfo(plan.time_zone)
        return render_template(
            "portal/backup.html",
            one=of_state(session, state, terms_in_force(session)),
            plan=plan,
            trends=[(one, trend_chart.draw(one, zone, now)) for one in backup_trends.of_plan(session, plan, now)],
        )


# --- visits


@dataclass(frozen=True, slots=True)
class Visit:
    """One visit as the client expects it."""

    visit: Appointment
    order: WorkOrder
    technician: str
    site: str | None
    zone: str | None


def visits_of(session: Session, *, coming: bool, ticket_id: int | None = None) -> list[Visit]:
    """Return visits with the technician's name: those to come, the nearest first, or the past, newest first."""
    query = (
        visible(select(Appointment, WorkOrder, Technician.name, Site.name, Site.time_zone), Appointment)
        .join(WorkOrder, WorkOrder.id == Appointment.work_order_id)
        .join(Technician, Technician.id == Appointment.technician_id)
        .outerjoin(Site, Site.id == WorkOrder.site_id)
        .order_by(Appointment.starts_at if coming else Appointment.starts_at.desc())
        .limit(100)
    )
    if ticket_id is not None:
        query = query.where(WorkOrder.ticket_id == ticket_id)
    elif coming:
        query = query.where(Appointment.state.in_(COMING))
    else:
        query = query.where(Appointment.state.not_in(COMING))
    return [Visit(*row) for row in session.execute(query)]


def unbooked(session: Session) -> list[WorkOrder]:
    """Return the work for which no time is agreed."""
    query = visible(select(WorkOrder), WorkOrder).where(WorkOrder.state == "proposed").order_by(WorkOrder.id)
    return list(session.scalars(query.limit(50)))


def beyond(session: Session) -> list[tuple[WorkOrder, prepaid.Question]]:
    """Return the visits that wait for a yes to what they bill beyond the prepaid hours, each with what that is."""
    asked = []
    for order in unbooked(session)[:ASKED]:
        standing = dispatch.standing(session, order.id)
        question = prepaid.question(session, order, standing.starts_at if standing else utc_now())
        if question is not None and question.open:
            asked.append((order, question))
    return asked


@bp.get("/visits")
@portal()
def visits() -> str:
    """Show who comes and when, and who was there."""
    with read_only() as session:
        return render_template(
            "portal/visits.html",
            coming=visits_of(session, coming=True),
            past=visits_of(session, coming=False),
            unbooked=unbooked(session),
            calendars=calendars.of_client(session),
            sites=list(session.scalars(visible(select(Site), Site).order_by(Site.name))),
            fresh=calendars.shown_once(),
        )
