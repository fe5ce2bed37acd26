"""Dispatch: technicians and time on a board, the work nobody does yet, and who could go, with reasons and cost."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from sqlalchemy import select
from sqlalchemy.orm import Session

from msp.assets.models import ConfigurationItem
from msp.clock import utc_now
from msp.contracts.models import Client, Site
from msp.desk.models import Ticket
from msp.dispatch import availability, reasons, visits
from msp.dispatch.models import Appointment, Part, Replan, Technician, WorkOrder
from msp.errors import Conflict, Misconfigured, MspError, NotFound, Refused
from msp.flows import placing, prepaid, replans
from msp.flows import visits as flows
from msp.people.access import may
from msp.remote.output import shown
from msp_web import dates, day_board, language
from msp_web.access import actor, can, requires, scoped, visible
from msp_web.ticket_page import newest
from msp_web.unit import read_only, unit_of_work
from msp_web.views.assets import clients_of
from msp_web.views.desk import granted, number_of

bp = Blueprint("dispatch", __name__, url_prefix="/dispatch")

OVER = frozenset({"done", "cancelled"})
STEP = 300  # seconds
FAR = timedelta(days=400)  # from now: nobody plans further
WINDOW = timedelta(hours=1)  # of arrival, as it is offered to be told to the client


def day_asked() -> date:
    """Return the day in the address, else today in the viewer's zone."""
    try:
        return dates.day(request.args.get("day", ""))
    except Misconfigured:
        return utc_now().astimezone(language.zone()).date()


@bp.get("/")
@requires("dispatch.see")
def board() -> str:
    """Show one day: technicians x time, and what nobody does yet by its latest departure."""
    day, zone = day_asked(), language.zone()
    midnight = datetime.combine(day, time(), zone)
    following = datetime.combine(day + timedelta(days=1), time(), zone)
    with read_only() as session:
        found = visits.board(session, midnight.astimezone(UTC), following.astimezone(UTC), client_ids=granted())
        sites = visible(select(Site), Site).where(Site.id.in_([order.site_id for order in found.waiting]))
        return render_template(
            "dispatch/board.html",
            day=day,
            today=utc_now().astimezone(zone).date(),
            before=day - timedelta(days=1),
            after=day + timedelta(days=1),
            drawn=day_board.draw(found, midnight, following, utc_now()),
            waiting=found.waiting,
            plans=plans_open(session, midnight.astimezone(UTC), following.astimezone(UTC)),
            clients=clients_of(session),
            sites={site.id: site for site in session.scalars(sites)},
            zone=zone,
            listens_from=newest(session),
        )


def plans_open(session: Session, begins: datetime, ends: datetime) -> list[Replan]:
    """Return the plans of these hours that wait for the planner or a decision, and that the asking person may see."""
    mine = granted()
    return [
        plan
        for plan in replans.lately(session, utc_now())
        if plan.begins_at < ends and plan.ends_at > begins and (plan.state != "ready" or plan.changes)
        if mine is None or (plan.client_ids is not None and set(plan.client_ids) <= set(mine))
    ]


@bp.get("/<int:work_order_id>")
@requires("dispatch.see")
def show(work_order_id: int) -> str:
    """Show one work order: why, what was tried, with what, by when, and who could go."""
    return page(work_order_id)


def page(work_order_id: int, error: MspError | None = None) -> str:
    with read_only() as session:
        order = scoped(session, WorkOrder, work_order_id)
        current = current_of(session, order)
        told = current is not None and current.state not in ("proposed", *OVER) and current.promised_from is not None
        open_for_plans = order.state not in (*OVER, "working") and can("dispatch.plan", order.client_id)
        site = session.get(Site, order.site_id) if order.site_id else None
        client = scoped(session, Client, order.client_id)
        candidates = visits.candidates(session, order, utc_now()) if open_for_plans else []
        return render_template(
            "dispatch/show.html",
            order=order,
            current=current,
            asked=question_of(session, order, current, candidates) if order.state not in OVER else None,
            technician=session.get(Technician, current.technician_id) if current else None,
            next_states=sorted(visits.NEXT_STATES.get(current.state, ())) if current else [],
            may_carry=can("visit.work", order.client_id) or can("dispatch.plan", order.client_id),
            candidates=candidates,
            open_for_plans=open_for_plans,
            reasons=reasons.why(session, order, utc_now(), language.zone(), granted())
            if order.state not in OVER
            else None,
            client=client,
            site=site,
            site_zone=(site.time_zone if site else None) or client.time_zone,
            ticket=scoped(session, Ticket, order.ticket_id) if order.ticket_id else None,
            parts=parts_of(session, order),
            error=error,
            typed=request.form,
            local=local,
            shown_text=lambda text: shown(text.encode("utf-8", "surrogateescape")),
            window=WINDOW,
            told=told,
            zone=language.zone(),
            listens_from=newest(session),
        )


def question_of(
    session: Session, order: WorkOrder, current: Appointment | None, candidates: Sequence[visits.Candidate]
) -> prepaid.Question | None:
    """Return what the visit bills beyond the prepaid hours: at the time just tried, else where it stands or could."""
    was = current.starts_at if current is not None and current.state in availability.STANDING else None
    with suppress(Misconfigured):
        return prepaid.question(session, order, instant(request.form.get("starts_at", "")), was)
    if current is not None and current.state != "cancelled":
        return prepaid.question(session, order, current.starts_at, was)
    return prepaid.dearest(session, order, [one.starts_at for one in candidates[:1]] or [utc_now()])


def current_of(session: Session, order: WorkOrder) -> Appointment | None:
    """Return the appointment that stands, else the last that was made."""
    query = visible(select(Appointment), Appointment).where(Appointment.work_order_id == order.id)
    return session.scalar(query.order_by(Appointment.state == "cancelled", Appointment.id.desc()).limit(1))


def parts_of(session: Session, order: WorkOrder) -> list[tuple[str, str, int]]:
    """Return (number, name, quantity) of the parts that the work takes."""
    named = select(Part.sku, Part.name).where(Part.sku.in_(list(order.parts)))
    names = {row[0]: row[1] for row in session.execute(named)}
    return [(sku, names.get(sku, ""), int(quantity)) for sku, quantity in sorted(order.parts.items())]


def local(at: datetime) -> str:
    """Return an instant as a field for date and time wants it, in the viewer's zone: the next whole five minutes.

    An opening that begins now would be over by the time that somebody presses the button.
    """
    whole = -(-at.timestamp() // STEP) * STEP
    return f"{datetime.fromtimestamp(whole, language.zone()):%Y-%m-%dT%H:%M}"


def instant(text: str) -> datetime:
    """Return the instant that a script (with its zone) or a field (in the viewer's) names. Raises Misconfigured."""
    at = dates.instant(text, language.zone())
    if abs(at - utc_now()) > FAR:
        raise Misconfigured("That time is too far away.", advice="Choose one within a year.")
    return at


def acted(work_order_id: int, act: Callable[[Session], object], words: str) -> ResponseReturnValue:
    """Do one thing to a work order in one transaction; an error shows the page again, as things are now."""
    try:
        with unit_of_work() as session:
            scoped(session, WorkOrder, work_order_id)
            act(session)
    except (Misconfigured, Conflict, Refused) as error:
        return page(work_order_id, error), error.status
    flash(words, "success")
    return redirect(url_for("dispatch.show", work_order_id=work_order_id), code=303)


@bp.post("/<int:work_order_id>/assign")
@requires("dispatch.plan")
def assign(work_order_id: int) -> ResponseReturnValue:
    """Confirm the visit with a technician: skills, parts and time are held, or what is missing is named.

    A window that was told to the client stands unless the form says that the client agreed to another.
    """
    form = request.form

    def act(session: Session) -> None:
        technician = number_of(form.get("technician"))
        if technician is None:
            raise Misconfigured("No technician was chosen.", advice="Choose one from the list.")
        promised = None
        if form.get("promised_from") and form.get("promised_until"):
            promised = instant(form["promised_from"]), instant(form["promised_until"])
            if promised[0] >= promised[1]:
                raise Misconfigured("The window ends before it begins.", advice="Give the earlier time first.")
        placing.place(
            session,
            work_order_id,
            technician,
            instant(form.get("starts_at", "")),
            by=actor().name,
            now=utc_now(),
            expected_version=number_of(form.get("version")),
            promised=promised,
            renegotiated=form.get("renegotiated") == "1",
        )

    return acted(work_order_id, act, gettext("The visit is confirmed; its parts and its time are held."))


@bp.post("/<int:work_order_id>/agree")
@requires("contract.edit")
def agree(work_order_id: int) -> ResponseReturnValue:
    """Record the client's yes to what the visit bills beyond its prepaid hours."""
    form = request.form
    given = prepaid.Given(actor(), form.get("amount", ""), form.get("word", ""))

    def act(session: Session) -> None:
        prepaid.agree(session, scoped(session, WorkOrder, work_order_id), given, now=utc_now())

    return acted(work_order_id, act, gettext("Recorded: the visit may go beyond the prepaid hours."))


@bp.post("/<int:work_order_id>/visits/<int:visit_id>")
@requires("dispatch.see")
def advance(work_order_id: int, visit_id: int) -> ResponseReturnValue:
    """Carry the visit on: on the way, working, done, cancelled."""
    form = request.form

    def act(session: Session) -> None:
        order, visit = scoped(session, WorkOrder, work_order_id), scoped(session, Appointment, visit_id)
        if visit.work_order_id != order.id:
            raise NotFound("This work order has no such visit.", advice="Look at it again.")
        if not (may(actor(), "visit.work", order.client_id) or may(actor(), "dispatch.plan", order.client_id)):
            raise Refused("Your role does not allow this.", advice="Ask the dispatcher.")
        version = number_of(form.get("version")) or 0
        flows.carry_on(session, visit_id, form.get("to", ""), by=actor().name, now=utc_now(), expected_version=version)

    return acted(work_order_id, act, gettext("Recorded."))


@bp.get("/tickets/<int:ticket_id>")
@requires("ticket.work")
def propose(ticket_id: int) -> str:
    """Offer the form that turns a ticket into a visit."""
    return form_of(ticket_id)


def form_of(ticket_id: int, error: MspError | None = None) -> str:
    with read_only() as session:
        ticket = scoped(session, Ticket, ticket_id)
        orders = visible(select(WorkOrder), WorkOrder).where(WorkOrder.ticket_id == ticket.id)
        item = scoped(session, ConfigurationItem, ticket.asset_id) if ticket.asset_id else None
        context: dict[str, Any] = {"skills": flows.skills_for([item]), "parts": flows.parts_for([item])} if item else {}
        return render_template(
            "dispatch/propose.html",
            ticket=ticket,
            orders=[order for order in session.scalars(orders) if order.state not in OVER],
            item=item,
            error=error,
            typed=request.form,
            **context,
        )


@bp.post("/tickets/<int:ticket_id>")
@requires("ticket.work")
def propose_now(ticket_id: int) -> ResponseReturnValue:
    """Propose a visit with everything that was tried remotely."""
    try:
        with unit_of_work() as session:
            scoped(session, Ticket, ticket_id)
            reason = request.form.get("reason", "")
            order = flows.propose_for_ticket(session, ticket_id, actor=actor(), reason=reason)
    except (Misconfigured, Conflict, Refused) as error:
        return form_of(ticket_id, error), error.status
    flash(gettext("A visit is proposed; choose who goes."), "success")
    return redirect(url_for("dispatch.show", work_order_id=order.id), code=303)
