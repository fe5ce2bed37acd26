"""A client's person chooses when we come: only windows that keep what the contract promises."""

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext

from msp.clock import utc_now
from msp.dispatch.models import WorkOrder
from msp.errors import Misconfigured, MspError, Refused
from msp.flows import placing, prepaid
from msp_web.access import actor, portal, scoped
from msp_web.unit import read_only, unit_of_work
from msp_web.views.slots import booked

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
        offered = placing.offer(session, order, utc_now(), count=OFFERED, in_time=True)
        starts = [one.starts_at for one in offered.windows] or [utc_now()]
        return render_template(
            "portal/book.html",
            order=order,
            offered=offered,
            asked=prepaid.dearest(session, order, starts) if offered.free else None,
            windows=sorted(offered.windows, key=lambda one: one.begins),
            error=error,
        )


@bp.post("/<int:work_order_id>/book")
@portal("portal.open_ticket")
def take(work_order_id: int) -> ResponseReturnValue:
    """Confirm the visit in the window chosen; whoever was later is offered what is still free."""
    amount = request.form.get("agreed")
    given = prepaid.Given(actor(), amount) if amount else None
    if error := booked(work_order_id, by=f"portal:{actor().name}", in_time=True, given=given):
        return page(work_order_id, error), error.status
    flash(gettext("It is arranged: we come in this window."), "success")
    return redirect(url_for("portal.visits"), code=303)


@bp.post("/<int:work_order_id>/agree")
@portal("portal.approve")
def agree(work_order_id: int) -> ResponseReturnValue:
    """Agree to what the visit bills beyond the prepaid hours, and leave it to others when we come."""
    try:
        with unit_of_work() as session:
            order = scoped(session, WorkOrder, work_order_id)
            prepaid.agree(session, order, prepaid.Given(actor(), request.form.get("agreed", "")), now=utc_now())
    except (Misconfigured, Refused) as error:
        return page(work_order_id, error), error.status
    flash(gettext("Thank you: the visit may go beyond the prepaid hours."), "success")
    return redirect(url_for("portal_visits.offered", work_order_id=work_order_id), code=303)
