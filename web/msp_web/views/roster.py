"""Who is on duty when and is told what is at risk; and the link by which one of them takes it."""

from datetime import datetime

from flask import Blueprint, current_app, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from sqlalchemy import ScalarResult, select
from sqlalchemy.orm import Session

from msp.clock import utc_now
from msp.contracts.models import Client
from msp.desk import lines, roster
from msp.desk.models import Ticket
from msp.desk.roster import EscalationNotice
from msp.errors import Misconfigured, NotFound
from msp.flows import escalations
from msp.people.models import User
from msp_web import dates, language, words
from msp_web.access import actor, public, requires, visible
from msp_web.unit import read_only, unit_of_work

bp = Blueprint("roster", __name__)

LATELY = 30


@bp.get("/roster")
@requires("dispatch.see")
def index() -> str:
    """Show the turns from now on, who is on duty now, and what was told lately."""
    now = utc_now()
    with read_only() as session:
        query = (
            select(EscalationNotice, Ticket, User.name)
            .join(Ticket, Ticket.id == EscalationNotice.ticket_id)
            .join(User, User.id == EscalationNotice.user_id)
            .order_by(EscalationNotice.id.desc())
            .limit(LATELY)
        )
        return render_template(
            "roster/index.html",
            turns=roster.upcoming(session, now),
            now=now,
            notices=session.execute(visible(query, Ticket)).all(),
            people=[(user.id, user.name) for user in staff(session)],
            lines=[(name, f"{name} {words.word('line', name)}") for name in lines.LINES],
            levels=[(level, words.word("duty", level)) for level in roster.LEVELS],
            mail=bool(current_app.config["MSP_SETTINGS"].mail_url),
            zone=language.zone(),
        )


def staff(session: Session) -> ScalarResult[User]:
    return session.scalars(select(User).where(User.client_id.is_(None), User.active).order_by(User.name))


@bp.post("/roster/add")
@requires("dispatch.plan")
def add() -> ResponseReturnValue:
    """Put somebody on the roster, perhaps for some weeks in a row."""
    form = request.form
    with unit_of_work() as session:
        user = session.get(User, number_of(form.get("user_id", "")))
        if user is None:
            raise NotFound("There is no such person.", advice="Choose one of the list.")
        roster.add(
            session,
            user,
            line_names=form.getlist("lines"),
            level=number_of(form.get("level", "")),
            begins_at=instant(form.get("begins_at", "")),
            ends_at=instant(form.get("ends_at", "")),
            weeks=number_of(form.get("weeks", "1")),
            by=actor().name,
        )
    flash(gettext("It stands on the roster."), "success")
    return redirect(url_for("roster.index"), 303)


@bp.post("/roster/remove")
@requires("dispatch.plan")
def remove() -> ResponseReturnValue:
    """Take a turn off the roster."""
    with unit_of_work() as session:
        roster.remove(session, number_of(request.form.get("duty", "")), by=actor().name)
    flash(gettext("It is off the roster."), "success")
    return redirect(url_for("roster.index"), 303)


@bp.get("/notices/<token>")
@public
def notice(token: str) -> str:
    """Show what a notice tells of; programs that follow links in mail take nothing by that."""
    with read_only() as session:
        return page(session, escalations.by_token(session, current_app.config["MSP_SETTINGS"], token))


@bp.post("/notices/<token>")
@public
def take(token: str) -> ResponseReturnValue:
    """Take it: whoever holds the link says that they look after the ticket."""
    with unit_of_work() as session:
        found = escalations.by_token(session, current_app.config["MSP_SETTINGS"], token)
        escalations.acknowledge(session, found)
    return redirect(url_for("roster.notice", token=token), 303)


def page(session: Session, found: EscalationNotice) -> str:
    ticket = session.get_one(Ticket, found.ticket_id)
    return render_template(
        "roster/notice.html",
        notice=found,
        ticket=ticket,
        client=session.get_one(Client, ticket.client_id),
        person=session.get_one(User, found.user_id),
    )


def number_of(text: str) -> int:
    if not text.isdecimal() or len(text) > 15:
        raise Misconfigured("A number is missing.", advice="Fill in the whole form.")
    return int(text)


def instant(text: str) -> datetime:
    return dates.instant(text, language.zone())
