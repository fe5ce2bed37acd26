"""A client's person chooses when we come: only windows that keep what the contract promises."""

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext

from msp.clock import utc_now
from msp.dispatch import visits, windows
from msp.dispatch.models import WorkOrder
from msp.errors import Conflict, Misconfigured, MspError, Refused
from msp.flows import placing
from msp_web.access import actor, portal, scoped
from msp_web.unit import read_only, unit_of_work
from msp_web.views.slots import beginning

bp = Blueprint("portal_visits", __name__, url_prefix="/portal/visits")

OFFERED = 6


@bp.get("/<int:work_order_id>/book")
@portal()
def offered(work_order_id: int) -> str:
    """Offer windows in which we can come and be done in time."""
    return page(work_order_id)


def page(work_order_id: int, error: MspError | None = None) -> str:
    with read_only() as session:
        order = scoped(session, WorkOrder, work_order_id)
        zone, free = placing.zone_of(session, order), order.state in ("proposed", "planned")
        found = windows.offers(session, order, utc_now(), zone=zone, count=OFFERED, only_in_time=True) if free else []
        return render_template(
            "portal/book.html",
            order=order,
            offers=sorted(found, key=lambda one: one.begins),
            free=free,
            current=visits.standing(session, order.id),
            zone=zone,
            error=error,
        )


@bp.post("/<int:work_order_id>/book")
@portal("portal.open_ticket")
def take(work_order_id: int) -> ResponseReturnValue:
    """Confirm the visit in the window chosen; whoever was later is offered what is still free."""
    try:
        with unit_of_work() as session:
            order = scoped(session, WorkOrder, work_order_id)
            begins = beginning(request.form.get("begins", ""))
            zone, by = placing.zone_of(session, order), f"portal:{actor().name}"
            placing.book(session, order, begins, zone=zone, by=by, now=utc_now(), in_time=True)
    except (Misconfigured, Conflict, Refused) as error:
        return page(work_order_id, error), error.status
    flash(gettext("It is arranged: we come in this window."), "success")
    return redirect(url_for("portal.visits"), code=303)
