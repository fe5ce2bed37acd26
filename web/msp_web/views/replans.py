"""A better plan for the board: asked for, shown as what it changes and what that costs, accepted, undone."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, time, timedelta
from typing import Any

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext, ngettext
from sqlalchemy import select
from sqlalchemy.orm import Session

from msp.clock import utc_now
from msp.contracts.models import Client, Site
from msp.dispatch import visits
from msp.dispatch.models import Appointment, Replan, Technician, WorkOrder
from msp.dispatch.visits import Board, BoardRow, BoardVisit
from msp.errors import Conflict, Misconfigured, MspError, NotFound, Refused
from msp.flows import replans
from msp.people.access import may
from msp_web import day_board, language
from msp_web.access import actor, requires, storable
from msp_web.unit import read_only, unit_of_work
from msp_web.views.desk import granted, number_of
from msp_web.views.dispatch import day_asked

bp = Blueprint("replans", __name__, url_prefix="/dispatch/plans")

SPANS = (1, 7)  # days
DRAWN = 7  # days at most


def plan_of(session: Session, replan_id: int) -> Replan:
    """Return a plan whose every client the asking person may know of. Raises NotFound."""
    found = session.get(Replan, replan_id) if storable(replan_id) else None
    mine = granted()
    if found is None or (mine is not None and (found.client_ids is None or not set(found.client_ids) <= set(mine))):
        raise NotFound("There is no such plan.", advice="Ask for a new one on the board.")
    return found


@bp.post("")
@requires("dispatch.plan")
def ask() -> ResponseReturnValue:
    """Ask the planner for a better plan of one day, or of the week that begins with it."""
    days = number_of(request.form.get("days")) or 1
    seconds = number_of(request.form.get("seconds")) or replans.SECONDS[0]
    day, zone, now = day_asked(), language.zone(), utc_now()
    if days not in SPANS:
        raise Misconfigured("So many days are not planned at once.", advice="Choose a day or a week.")
    begins = datetime.combine(day, time(), zone).astimezone(UTC)
    ends = datetime.combine(day + timedelta(days=days), time(), zone).astimezone(UTC)
    try:
        with unit_of_work() as session:
            mine = granted()
            if mine is not None:
                mine = [client for client in mine if may(actor(), "dispatch.plan", client)]
            found = replans.ask(session, begins, ends, seconds=seconds, client_ids=mine, by=actor().name, now=now)
            ident = found.id
    except Misconfigured as error:
        flash(language.explained(error), "danger")
        return redirect(url_for("dispatch.board", day=day.isoformat()), code=303)
    return redirect(url_for("replans.show", replan_id=ident), code=303)


@bp.get("/<int:replan_id>")
@requires("dispatch.see")
def show(replan_id: int) -> str:
    """Show how far the planner is, or what it would change."""
    return page(replan_id)


def page(replan_id: int, error: MspError | None = None) -> str:
    zone = language.zone()
    with read_only() as session:
        plan = plan_of(session, replan_id)
        wanted = [one["order"] for one in plan.changes]
        query = (
            select(WorkOrder, Client.name, Site.name)
            .join(Client, Client.id == WorkOrder.client_id)
            .outerjoin(Site, Site.id == WorkOrder.site_id)
            .where(WorkOrder.id.in_(wanted))
        )
        orders = {order.id: (order, client, site) for order, client, site in session.execute(query)}
        names = {one.id: one.name for one in session.scalars(select(Technician))}
        changes = [read(one) for one in plan.changes]
        return render_template(
            "dispatch/plan.html",
            plan=plan,
            changes=changes,
            orders=orders,
            names=names,
            touched=sorted({names[one] for change in changes for one in concerned(change) if one in names}),
            told=sorted({orders[one["order"]][1] for one in changes if one["order"] in orders}),
            days=[*drawn(session, plan, changes, orders)] if plan.state in ("ready", "accepted") else [],
            day=plan.begins_at.astimezone(zone).date(),
            last=(plan.ends_at - timedelta(seconds=1)).astimezone(zone).date(),
            spans=SPANS,
            times=replans.SECONDS,
            may_decide=all(may(actor(), "dispatch.plan", orders[one][0].client_id) for one in orders),
            waited=utc_now() - plan.asked_at,
            asks_again=sorted(replans.renegotiated(plan) & orders.keys()) if plan.state == "accepted" else [],
            error=error,
            typed=request.form,
            ticked=set(request.form.getlist("order")) if request.method == "POST" else None,
            zone=zone,
        )


def read(change: dict[str, Any]) -> dict[str, Any]:
    """Return a stored change with its instants as such."""
    found = dict(change)
    for name in ("starts_at", "ends_at"):
        found[name] = datetime.fromisoformat(change[name]) if change.get(name) else None
    if change.get("was"):
        was = dict(change["was"])
        for name in ("starts_at", "ends_at"):
            was[name] = datetime.fromisoformat(was[name])
        was["promised"] = [datetime.fromisoformat(edge) for edge in was["promised"]] if was["promised"] else None
        found["was"] = was
    return found


def concerned(change: dict[str, Any]) -> set[int]:
    """Return the technicians whose day a change touches."""
    found = {change["technician"], change["was"]["technician"] if change["was"] else None}
    return {one for one in found if one is not None}


def drawn(
    session: Session, plan: Replan, changes: list[dict[str, Any]], orders: dict[int, Any]
) -> Iterator[day_board.Day]:
    """Yield a picture of each day that changes: who is touched, what stays, what leaves (was) and what comes (new)."""
    zone = language.zone()
    moments = [at for one in changes for at in (one["starts_at"], one["was"] and one["was"]["starts_at"]) if at]
    for day in sorted({at.astimezone(zone).date() for at in moments})[:DRAWN]:
        midnight = datetime.combine(day, time(), zone)
        following = datetime.combine(day + timedelta(days=1), time(), zone)
        since, until = midnight.astimezone(UTC), following.astimezone(UTC)
        found = visits.board(session, since, until, client_ids=granted())
        moving = {one["order"] for one in changes}
        rows = []
        for row in found.rows:
            marks = [
                mark
                for one in changes
                for mark in marked(one, row.technician.id, orders)
                if since <= mark.appointment.starts_at < until
            ]
            if marks:
                stays = [visit for visit in row.visits if visit.work_order.id not in moving and firm(visit)]
                rows.append(BoardRow(row.technician, row.shifts, (*stays, *marks)))
        yield day_board.draw(Board(tuple(rows)), midnight, following, utc_now())


def firm(visit: BoardVisit) -> bool:
    return visit.appointment.state != "proposed"


def marked(change: dict[str, Any], technician: int, orders: dict[int, Any]) -> Iterator[BoardVisit]:
    """Yield what a change takes from this technician's day and what it brings; the visits are drawn, never stored."""
    if change["order"] not in orders:
        return
    order, client, site = orders[change["order"]]
    was = change["was"]
    for state, who, at in (
        ("was", was["technician"] if was else None, was),
        ("new", change["technician"], change),
    ):
        if who == technician and at["starts_at"] is not None:
            visit = Appointment(
                id=0, technician_id=who, starts_at=at["starts_at"], ends_at=at["ends_at"],
                travel=timedelta(), state=state,
            )  # fmt: skip
            yield BoardVisit(visit, order, client, site, bool(order.due_at and at["ends_at"] > order.due_at))


def acted(replan_id: int, act: Callable[[Session], object], words: str) -> ResponseReturnValue:
    """Do one thing to a plan in one transaction; an error shows the page again, as things are now."""
    try:
        with unit_of_work() as session:
            plan = plan_of(session, replan_id)
            for change in plan.changes:
                order = session.get(WorkOrder, change["order"])
                if order is None or not may(actor(), "dispatch.plan", order.client_id):
                    raise Refused("Your role does not allow this.", advice="Ask the dispatcher.")
            act(session)
    except (Misconfigured, Conflict, Refused) as error:
        return page(replan_id, error), error.status
    flash(words, "success")
    return redirect(url_for("replans.show", replan_id=replan_id), code=303)


def numbers(name: str) -> list[int]:
    """Return the work orders ticked in a form."""
    return [found for text in request.form.getlist(name) if (found := number_of(text)) is not None]


@bp.post("/<int:replan_id>/accept")
@requires("dispatch.plan")
def accept(replan_id: int) -> ResponseReturnValue:
    """Carry out the changes that are ticked, all or none."""
    chosen = numbers("order")
    words = ngettext(
        "%(num)d visit is where the plan wants it.", "%(num)d visits are where the plan wants them.", len(chosen)
    )
    return acted(
        replan_id,
        lambda session: replans.accept(
            session, replan_id, chosen, agreed=numbers("agreed"), by=actor().name, now=utc_now()
        ),
        words,
    )


@bp.post("/<int:replan_id>/undo")
@requires("dispatch.plan")
def undo(replan_id: int) -> ResponseReturnValue:
    """Put every visit back where it was before the plan was accepted; a window agreed upon since, if it is ticked."""
    return acted(
        replan_id,
        lambda session: replans.take_back(session, replan_id, agreed=numbers("agreed"), by=actor().name, now=utc_now()),
        gettext("Every visit is back where it was."),
    )


@bp.post("/<int:replan_id>/discard")
@requires("dispatch.plan")
def discard(replan_id: int) -> ResponseReturnValue:
    """Put the plan away."""
    return acted(
        replan_id,
        lambda session: replans.discard(session, replan_id, by=actor().name, now=utc_now()),
        gettext("The plan is put away; nothing was changed."),
    )


@bp.post("/<int:replan_id>/enough")
@requires("dispatch.plan")
def enough(replan_id: int) -> ResponseReturnValue:
    """End the search and show what was found by now."""
    return acted(
        replan_id,
        lambda session: replans.enough(session, replan_id, by=actor().name, now=utc_now()),
        gettext("The planner stops; what it has found by now is shown."),
    )
