"""Moves on the dispatch board: what a drop would break, the drop, its undo, and the panel that needs no mouse."""

from typing import Any

from flask import Blueprint, jsonify, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from sqlalchemy.orm import Session

from msp.clock import utc_now
from msp.dispatch import feedback, reasons, visits
from msp.dispatch.models import Appointment, Technician, WorkOrder
from msp.errors import Misconfigured, NotFound, Refused
from msp.flows import placing, prepaid
from msp.flows import visits as flows
from msp.people.access import may
from msp_web import language
from msp_web.access import actor, requires, scoped
from msp_web.unit import read_only, unit_of_work
from msp_web.views.desk import granted, number_of
from msp_web.views.dispatch import current_of, instant, local

bp = Blueprint("moves", __name__, url_prefix="/dispatch")


def chosen(session: Session, ident: str | None) -> Technician:
    """Return the technician of a form. Raises Misconfigured."""
    number = number_of(ident)
    found = session.get(Technician, number) if number is not None else None
    if found is None:
        raise Misconfigured("No technician was chosen.", advice="Choose one from the list.")
    return found


@bp.get("/<int:work_order_id>/feedback")
@requires("dispatch.plan")
def judged(work_order_id: int) -> ResponseReturnValue:
    """Say what this work order at this time with this technician would break, cost and touch."""
    with read_only() as session:
        order = scoped(session, WorkOrder, work_order_id)
        try:
            who, at = chosen(session, request.args.get("technician")), instant(request.args.get("starts_at", ""))
        except Misconfigured as error:
            return jsonify(breaks=[language.said(error.what)], warns=[], touched=[], words=language.said(error.advice))
        found = feedback.judge(session, order, who, at, utc_now(), granted())
        current = visits.standing(session, order.id)
        was = current.starts_at if current is not None and current.state != "proposed" else None
        asked = prepaid.question(session, order, at, was)
    beyond = [asked.beyond.words()] if asked is not None else []
    unagreed = [*beyond, prepaid.UNAGREED] if asked is not None and asked.open else []
    begins, ends = at.astimezone(language.zone()), found.ends_at.astimezone(language.zone())
    return jsonify(
        breaks=[language.said(one) for one in (*found.breaks, *unagreed)],
        warns=[language.said(one) for one in (*found.warns, *([] if unagreed else beyond))],
        touched=[language.said(one) for one in found.touched],
        cost=None if found.cost is None else round(found.cost),
        leaves_promise=found.leaves_promise,
        words=f"{who.name} · {begins:%H:%M}–{ends:%H:%M}",
    )


@bp.get("/<int:work_order_id>/picker")
@requires("dispatch.plan")
def picker(work_order_id: int) -> str:
    """Offer who could go and any other time, as a panel on the board."""
    now = utc_now()
    with read_only() as session:
        order = scoped(session, WorkOrder, work_order_id)
        current = current_of(session, order)
        standing = current if current is not None and current.state not in ("cancelled", "done") else None
        return render_template(
            "dispatch/picker.html",
            order=order,
            current=standing,
            candidates=visits.candidates(session, order, now)[:5],
            technicians=visits.technicians(session),
            begins=local(standing.starts_at if standing else now),
            local=local,
            reasons=reasons.why(session, order, now, language.zone(), granted())
            if order.state not in ("done", "cancelled")
            else None,
            movable=order.state not in ("done", "cancelled", "working", "on_the_way"),
        )


@bp.post("/<int:work_order_id>/place")
@requires("dispatch.plan")
def place(work_order_id: int) -> ResponseReturnValue:
    """Put the work on a technician's day; the answer says how it is undone."""
    form, now = request.form, utc_now()
    with unit_of_work() as session:
        order = scoped(session, WorkOrder, work_order_id)
        may_plan(order)
        who, at = chosen(session, form.get("technician")), instant(form.get("starts_at", ""))
        before = memory(current_of(session, order))
        visit = placing.place(
            session,
            work_order_id,
            who.id,
            at,
            by=actor().name,
            now=now,
            expected_version=number_of(form.get("version")),
            renegotiated=form.get("renegotiated") == "1",
        )
        begins = at.astimezone(language.zone())
        words = gettext("%(who)s goes at %(time)s.", who=who.name, time=f"{begins:%H:%M}")
        undo = {**before, "visit": visit.id, "version": visit.version}
    return jsonify(words=words, undo=undo, undo_at=url_for("moves.undo", work_order_id=work_order_id))


def memory(current: Appointment | None) -> dict[str, Any]:
    """Return what a later undo needs of the visit as it is now."""
    if current is None or current.state != "confirmed":
        return {}
    found = {"technician": current.technician_id, "starts_at": current.starts_at.isoformat()}
    if current.promised_from and current.promised_until and not feedback.leaves_promise(current, current.starts_at):
        told = {
            "promised_from": current.promised_from.isoformat(),
            "promised_until": current.promised_until.isoformat(),
        }
        found.update(told)
    return found


@bp.post("/<int:work_order_id>/undo")
@requires("dispatch.plan")
def undo(work_order_id: int) -> ResponseReturnValue:
    """Put a visit back where it was, or among the work that nobody does; a change made meanwhile is kept."""
    form, now = request.form, utc_now()
    with unit_of_work() as session:
        order = scoped(session, WorkOrder, work_order_id)
        may_plan(order)
        visit = scoped(session, Appointment, number_of(form.get("visit")) or 0)
        if visit.work_order_id != order.id:
            raise NotFound("This work order has no such visit.", advice="Look at it again.")
        version = number_of(form.get("version")) or 0
        if form.get("technician"):
            who, at = chosen(session, form["technician"]), instant(form.get("starts_at", ""))
            promised = None
            if form.get("promised_from") and form.get("promised_until"):
                promised = instant(form["promised_from"]), instant(form["promised_until"])
            placing.place(
                session, order.id, who.id, at, by=actor().name, now=now, expected_version=version, promised=promised,
                renegotiated=True,
            )  # fmt: skip
        else:
            flows.carry_on(session, visit.id, "cancelled", by=actor().name, now=now, expected_version=version)
    return jsonify(words=gettext("Put back."))


def may_plan(order: WorkOrder) -> None:
    if not may(actor(), "dispatch.plan", order.client_id):
        raise Refused("Your role does not allow this.", advice="Ask the dispatcher.")
