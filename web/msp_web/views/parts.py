"""The spare-parts kit: what lies where, what must be ordered, and the movements between depot and vans."""

import csv
import io

from flask import Blueprint, Response, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from sqlalchemy import select
from sqlalchemy.orm import Session

from msp.dispatch import kit
from msp.dispatch.models import Technician
from msp.errors import Conflict, Misconfigured, MspError, NotFound
from msp_web.access import actor, requires
from msp_web.unit import read_only, unit_of_work
from msp_web.views.assets import plain_cell

bp = Blueprint("parts", __name__, url_prefix="/dispatch/parts")

ACTS = ("receive", "move", "write_off")


@bp.get("")
@requires("dispatch.see")
def index() -> str:
    """Show every part, those to order first."""
    return page()


def page(error: MspError | None = None) -> str:
    with read_only() as session:
        return render_template(
            "dispatch/parts.html",
            levels=kit.levels(session),
            technicians=list(session.scalars(select(Technician).where(Technician.active).order_by(Technician.name))),
            error=error,
            typed=request.form,
        )


@bp.get("/order.csv")
@requires("dispatch.see")
def as_csv() -> Response:
    """Give the order list as CSV."""
    out = io.StringIO()
    rows = csv.writer(out)
    rows.writerow(["sku", "name", "order", "free", "minimum", "wanted"])
    with read_only() as session:
        for level in kit.levels(session):
            if level.order:
                part = level.part
                figures = (level.order, level.free, part.minimum, level.wanted)
                rows.writerow([plain_cell(part.sku), plain_cell(part.name), *figures])
    answer = Response(out.getvalue(), mimetype="text/csv")
    answer.headers["Content-Disposition"] = 'attachment; filename="parts-to-order.csv"'
    return answer


@bp.post("/add")
@requires("dispatch.plan")
def add() -> ResponseReturnValue:
    """Add a part to the kit."""
    form = request.form
    try:
        with unit_of_work() as session:
            minimum = whole(form.get("minimum", "0"))
            kit.add(session, sku=form.get("sku", ""), name=form.get("name", ""), minimum=minimum, by=actor().name)
    except (Misconfigured, Conflict) as error:
        return page(error), error.status
    flash(gettext("The part is in the kit."), "success")
    return redirect(url_for("parts.index"), 303)


@bp.post("/move")
@requires("dispatch.plan")
def move() -> ResponseReturnValue:
    """Take parts in, carry them from one shelf to another, or write them off."""
    form, by = request.form, actor().name
    try:
        with unit_of_work() as session:
            part, quantity = kit.by_sku(session, form.get("sku", "")), whole(form.get("quantity", ""))
            source, target = shelf(session, form.get("source", "")), shelf(session, form.get("target", ""))
            match form.get("act"):
                case "receive":
                    kit.receive(session, part, quantity, by=by, technician=target)
                case "move":
                    kit.move(session, part, quantity, by=by, source=source, target=target)
                case "write_off":
                    kit.write_off(session, part, quantity, form.get("reason", ""), by=by, technician=source)
                case _:
                    raise Misconfigured("That cannot be done with parts.", advice="Choose from the list.")
    except (Misconfigured, Conflict, NotFound) as error:
        return page(error), error.status
    flash(gettext("The kit is up to date."), "success")
    return redirect(url_for("parts.index"), 303)


def shelf(session: Session, text: str) -> Technician | None:
    """Return whose van is meant; an empty text is the depot. Raises NotFound."""
    if not text:
        return None
    found = session.get(Technician, whole(text))
    if found is None:
        raise NotFound("There is no such technician.", advice="Choose one of the list.")
    return found


def whole(text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise Misconfigured("A number is missing.", advice="Write a whole number.")
    return int(text)
