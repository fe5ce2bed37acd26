"""Technicians: who they are, as which user they log in, where they start, when they work; and where the depot is."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext, ngettext
from sqlalchemy import select

from msp.clock import utc_now
from msp.dispatch import technicians
from msp.dispatch.models import Shift
from msp.errors import Conflict, Misconfigured, MspError, NotFound
from msp.people.models import User
from msp_web import dates, language
from msp_web.access import actor, requires
from msp_web.unit import read_only, unit_of_work
from msp_web.views.desk import number_of

bp = Blueprint("technicians", __name__, url_prefix="/dispatch/technicians")

WEEKDAYS = frozenset("0123456")
DAY = 24 * 60  # minutes: more than any overtime that is let in


@bp.get("")
@requires("dispatch.see")
def index() -> str:
    """List the technicians; `who` in the address opens one, `who=new` an empty form."""
    return page(request.args.get("who", ""))


def page(who: str, error: MspError | None = None, wrong: str = "") -> str:
    now = utc_now()
    with read_only() as session:
        chosen = technicians.get(session, number_of(who) or 0) if who and who != "new" else None
        people = technicians.every(session)
        clock = ZoneInfo(chosen.time_zone) if chosen is not None else language.zone()
        users = session.scalars(select(User).where(User.client_id.is_(None), User.active).order_by(User.name)).all()
        return render_template(
            "dispatch/technicians.html",
            people=people,
            chosen=chosen,
            seen=technicians.digest(chosen) if chosen is not None else "",
            who=who,
            users={user.id: user for user in users},
            taken={one.user_id: one.name for one in people if one.user_id is not None},
            shifts=technicians.shifts_of(session, chosen.id, now) if chosen is not None else [],
            working={one.id: working(technicians.shifts_of(session, one.id, now), now) for one in people},
            depot=technicians.depot(session),
            kinds=technicians.KINDS,
            clock=clock,
            today=now.astimezone(clock).date(),
            error=error,
            wrong=wrong,
            typed=request.form,
            zone=str(language.zone()),
        )


def working(shifts: Sequence[Shift], now: datetime) -> str | None:
    """Return what counts now, an absence before all others; None if the technician is not at work."""
    here = [one.kind for one in shifts if one.starts_at <= now < one.ends_at]
    return max(here, key=technicians.KINDS.index, default=None)


@bp.post("/save")
@requires("dispatch.plan")
def save() -> ResponseReturnValue:
    """Add or change a technician, with the user who logs in as this one."""
    form, who = request.form, request.form.get("who", "new")
    try:
        with unit_of_work() as session:
            found = technicians.save(
                session,
                None if who == "new" else number_of(who) or 0,
                name=form.get("name", ""),
                phone=form.get("phone", ""),
                skills=technicians.skills_from(form.get("skills", "")),
                place=technicians.place_from(form.get("latitude", ""), form.get("longitude", "")),
                time_zone=form.get("time_zone", "").strip(),
                user_id=number_of(form.get("user")),
                active=form.get("active") == "1",
                by=actor().name,
                seen=form.get("seen", ""),
            )
            ident = found.id
    except (Misconfigured, Conflict) as error:
        return page(who, error, "person"), error.status
    flash(gettext("The technician is saved."), "success")
    return redirect(url_for("technicians.index", who=ident), 303)


@bp.post("/shifts")
@requires("dispatch.plan")
def add_shifts() -> ResponseReturnValue:
    """Add working time, on-call time or absence, perhaps on several days."""
    form, who = request.form, request.form.get("who", "")
    try:
        with unit_of_work() as session:
            added = technicians.add_shifts(
                session,
                number_of(who) or 0,
                dates.wall(form.get("begins", "")),
                dates.wall(form.get("ends", "")),
                kind=form.get("kind", ""),
                days=(number_of(form.get("weeks")) or 0) * 7 or 1,
                weekdays=frozenset(int(day) for day in form.getlist("weekday") if day in WEEKDAYS),
                overtime=timedelta(minutes=min(number_of(form.get("overtime")) or 0, DAY)),
                by=actor().name,
            )
    except (Misconfigured, Conflict) as error:
        return page(who, error, "shifts"), error.status
    if added:
        flash(ngettext("%(num)d span is added.", "%(num)d spans are added.", added), "success")
    else:
        flash(gettext("That stands there already."), "info")
    return redirect(url_for("technicians.index", who=who), 303)


@bp.post("/shifts/remove")
@requires("dispatch.plan")
def remove_shift() -> ResponseReturnValue:
    """Take a span away."""
    with unit_of_work() as session:
        who = technicians.remove_shift(session, number_of(request.form.get("shift")) or 0, by=actor().name)
    flash(gettext("The span is removed; look at the visits in it."), "success")
    return redirect(url_for("technicians.index", who=who), 303)


@bp.post("/depot")
@requires("dispatch.plan")
def depot() -> ResponseReturnValue:
    """Say where the depot is."""
    form = request.form
    try:
        with unit_of_work() as session:
            technicians.save_depot(
                session,
                name=form.get("name", ""),
                address=form.get("address", ""),
                place=technicians.place_from(form.get("latitude", ""), form.get("longitude", "")),
                by=actor().name,
            )
    except (Misconfigured, NotFound) as error:
        return page("", error, "depot"), error.status
    flash(gettext("The depot is saved."), "success")
    return redirect(url_for("technicians.index"), 303)
