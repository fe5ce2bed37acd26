"""Calendar addresses: staff subscribe to a technician's visits, a client's people to those at their site."""

from flask import Blueprint, Response, current_app, flash, redirect, render_template, request, url_for
from flask import session as cookie
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from sqlalchemy import select
from sqlalchemy.orm import Session

from msp.clock import utc_now
from msp.contracts.models import Site
from msp.dispatch import calendar_feed, feeds
from msp.dispatch.models import CalendarFeed, Technician
from msp.errors import NotFound, Refused
from msp_web.access import actor, portal, public, requires, scoped, visible
from msp_web.unit import read_only, unit_of_work
from msp_web.views.roster import number_of

bp = Blueprint("calendars", __name__)

FRESH = "calendar_word"  # of the address just made, until it has been shown


def base() -> str:
    """Return the address under which others reach these pages."""
    return (current_app.config["MSP_SETTINGS"].public_url or request.url_root).rstrip("/")


@bp.get("/calendar/<token>.ics")
@public
def feed(token: str) -> ResponseReturnValue:
    """Give the calendar of an address, with what its maker may see; whoever holds the address reads it."""
    now = utc_now()
    with unit_of_work() as session:
        found = feeds.by_word(session, token)
        shown = feeds.entries(session, found, now, base=base(), maker=feeds.maker_of(session, found))
        text = calendar_feed.written(feeds.name_of(session, found), shown)
        found.read_at = now
    answer = Response(text, content_type="text/calendar; charset=utf-8")
    answer.headers["Content-Disposition"] = 'inline; filename="visits.ics"'
    answer.add_etag()
    return answer.make_conditional(request)


@bp.get("/dispatch/calendars")
@requires("dispatch.see")
def index() -> str:
    """List the technicians with their calendar addresses: all for who plans, one's own for a technician."""
    with read_only() as session:
        query = (
            select(CalendarFeed, Technician)
            .join(Technician, Technician.id == CalendarFeed.technician_id)
            .where(CalendarFeed.withdrawn_at.is_(None))
            .order_by(Technician.name, CalendarFeed.id)
        )
        return render_template(
            "dispatch/calendars.html",
            rows=[row for row in session.execute(query) if own(row[1])],
            technicians=[one for one in session.scalars(select(Technician).order_by(Technician.name)) if own(one)],
            fresh=shown_once(),
        )


def own(technician: Technician) -> bool:
    """Whether the asker may hold a calendar of this technician."""
    return feeds.may_hold(actor(), technician)


@bp.post("/dispatch/calendars/add")
@requires("dispatch.see")
def add() -> ResponseReturnValue:
    """Make an address for a technician's visits."""
    with unit_of_work() as session:
        technician = session.get(Technician, number_of(request.form.get("technician", "")))
        if technician is None:
            raise NotFound("There is no such technician.", advice="Choose one of the list.")
        if not own(technician):
            raise Refused("This calendar is not yours.", advice="Ask who plans the visits.")
        made(session, technician=technician)
    return redirect(url_for("calendars.index"), 303)


@bp.post("/dispatch/calendars/withdraw")
@requires("dispatch.see")
def withdraw() -> ResponseReturnValue:
    """End an address of a technician's visits."""
    with unit_of_work() as session:
        found = session.get(CalendarFeed, number_of(request.form.get("feed", "")))
        technician = session.get(Technician, found.technician_id) if found and found.technician_id else None
        if found is None or technician is None or not own(technician):
            raise NotFound("There is no such calendar.", advice="Look at the list again.")
        feeds.withdraw(session, found, by=actor().name, now=utc_now())
    flash(gettext("The calendar address is withdrawn."), "success")
    return redirect(url_for("calendars.index"), 303)


@bp.post("/portal/visits/calendar")
@portal()
def add_site() -> ResponseReturnValue:
    """Make an address for the visits at a site of the client."""
    with unit_of_work() as session:
        made(session, site=scoped(session, Site, number_of(request.form.get("site", ""))))
    return redirect(url_for("portal.visits", _anchor="calendar"), 303)


@bp.post("/portal/visits/calendar/withdraw")
@portal()
def withdraw_site() -> ResponseReturnValue:
    """End an address of the client's."""
    with unit_of_work() as session:
        found = scoped(session, CalendarFeed, number_of(request.form.get("feed", "")))
        feeds.withdraw(session, found, by=actor().name, now=utc_now())
    flash(gettext("The calendar address is withdrawn."), "success")
    return redirect(url_for("portal.visits", _anchor="calendar"), 303)


def made(session: Session, *, technician: Technician | None = None, site: Site | None = None) -> None:
    """Make an address and keep it in the asker's cookie until the next page has shown it."""
    _, word = feeds.make(session, by=actor().name, now=utc_now(), technician=technician, site=site)
    cookie[FRESH] = word


def shown_once() -> str | None:
    """Return the address just made, once."""
    word = cookie.pop(FRESH, None)
    return f"{base()}{url_for('calendars.feed', token=word)}" if word else None


def of_client(session: Session) -> list[tuple[CalendarFeed, Site]]:
    """Return the standing calendars of the asking client with their sites."""
    query = select(CalendarFeed, Site).join(Site, Site.id == CalendarFeed.site_id)
    query = visible(query.where(CalendarFeed.withdrawn_at.is_(None)), CalendarFeed)
    return [(row[0], row[1]) for row in session.execute(query.order_by(Site.name, CalendarFeed.id))]
