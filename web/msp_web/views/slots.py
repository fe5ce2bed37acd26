"""Windows of arrival to offer while the client is on the line: three, best first, with who goes and what it costs."""

from datetime import UTC, datetime

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext

from msp.clock import utc_now
from msp.contracts.models import Client
from msp.dispatch.models import WorkOrder
from msp.errors import Conflict, Misconfigured, MspError, Refused
from msp.flows import placing, prepaid
from msp_web import dates
from msp_web.access import actor, requires, scoped
from msp_web.unit import read_only, unit_of_work

bp = Blueprint("slots", __name__, url_prefix="/dispatch")

COUNTS = (3, 6, 12)


def beginning(text: str) -> datetime:
    """Return when the window begins that a button names. Raises Misconfigured."""
    try:
        return dates.instant(text, UTC)
    except Misconfigured as error:
        raise Misconfigured("No window was chosen.", advice="Choose one of those that are offered.") from error


@bp.get("/<int:work_order_id>/slots")
@requires("dispatch.plan")
def offered(work_order_id: int) -> str:
    """Show the windows that can be promised now."""
    return page(work_order_id)


def page(work_order_id: int, error: MspError | None = None) -> str:
    asked = request.args.get("count", "")
    count = int(asked) if asked.isdecimal() and int(asked[:4]) in COUNTS else COUNTS[0]
    with read_only() as session:
        order = scoped(session, WorkOrder, work_order_id)
        offered = placing.offer(session, order, utc_now(), count=count, in_time=False)
        return render_template(
            "dispatch/slots.html",
            order=order,
            client=scoped(session, Client, order.client_id),
            offered=offered,
            asked=prepaid.dearest(session, order, [one.starts_at for one in offered.windows]),
            more=next((one for one in COUNTS if one > count), None),
            error=error,
        )


def booked(work_order_id: int, *, by: str, in_time: bool, given: prepaid.Given | None = None) -> MspError | None:
    """Confirm the visit in the window that the form names, and promise it; return why that cannot be.

    given: the yes to what it bills beyond the prepaid hours, given with it.
    """
    try:
        with unit_of_work() as session:
            order = scoped(session, WorkOrder, work_order_id)
            begins = beginning(request.form.get("begins", ""))
            placing.book(session, order, begins, by=by, now=utc_now(), in_time=in_time, given=given)
    except (Misconfigured, Conflict, Refused) as error:
        return error
    return None


@bp.post("/<int:work_order_id>/slots")
@requires("dispatch.plan")
def promise(work_order_id: int) -> ResponseReturnValue:
    """Confirm the visit in the window the client chose, and promise that window."""
    if error := booked(work_order_id, by=actor().name, in_time=False):
        return page(work_order_id, error), error.status
    flash(gettext("The visit is confirmed and its window is promised; the ticket tells the client."), "success")
    return redirect(url_for("dispatch.show", work_order_id=work_order_id), code=303)
