"""Tickets as the client sees them: by time left, with what was promised and why, answered and confirmed."""

from collections.abc import Callable, Mapping
from typing import Any

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from msp.assets.models import ConfigurationItem
from msp.clock import utc_now
from msp.contracts.models import Contact
from msp.desk import clock, queue, tickets
from msp.desk.models import Ticket
from msp.errors import Conflict, Misconfigured, MspError
from msp.events import Event
from msp.people.models import User
from msp.remote.models import Run, RunHost
from msp_web import acting, keyset, portal_story, portal_words
from msp_web.access import actor, portal, scoped, visible
from msp_web.unit import read_only, unit_of_work
from msp_web.views.evidence import whole_number
from msp_web.views.portal import own_client, visits_of

bp = Blueprint("portal_tickets", __name__, url_prefix="/portal/tickets")

PAGE = 50
LONGEST = 20_000  # characters of a message
#: The priorities that a client may ask for; whoever takes the ticket may set another.
URGENCIES = ("P3", "P2")
WISHES = ("incident", "request")
STARS = ("5", "4", "3", "2", "1")
ENDED = ("closed", "cancelled", "merged")


@bp.get("")
@portal()
def index() -> str:
    """List tickets by time left: the open ones, or all."""
    show = "all" if request.args.get("show") == "all" else "open"
    wanted = queue.Filter(
        client_ids=[own_client()],
        is_open=None if show == "all" else True,
        words=request.args.get("q", "").strip()[:200],
    )
    with read_only() as session:
        rows = queue.rows(session, wanted, limit=PAGE + 1, after=keyset.read(request.args.get("after", "")))
        last = rows[PAGE - 1] if len(rows) > PAGE else None
        return render_template(
            "portal/tickets.html",
            rows=rows[:PAGE],
            after=keyset.write(last.next_due_at, last.id) if last else None,
            show=show,
            open_count=queue.counters(session, queue.Filter(client_ids=[own_client()])).open,
        )


@bp.get("/<int:ticket_id>")
@portal()
def show(ticket_id: int) -> str:
    """Show one ticket."""
    return page(ticket_id)


def page(ticket_id: int, error: MspError | None = None) -> str:
    """Return a ticket's page; after an error with what was typed."""
    with read_only() as session:
        ticket = scoped(session, Ticket, ticket_id)
        item = scoped(session, ConfigurationItem, ticket.asset_id) if ticket.asset_id else None
        return render_template(
            "portal/ticket.html",
            **present(session, ticket),
            item=item,
            error=error,
            typed=request.form,
            ended=ENDED,
            stars=STARS,
        )


@bp.get("/<int:ticket_id>/now")
@portal()
def now_part(ticket_id: int) -> str:
    """Return clocks and story alone, for a page that is open."""
    with read_only() as session:
        return render_template("portal/ticket_now.html", **present(session, scoped(session, Ticket, ticket_id)))


def present(session: Session, ticket: Ticket) -> dict[str, Any]:
    """Return what moves on a ticket's page: clocks, what is being tried, visits, and the public story."""
    query = visible(select(Run), Run).where(Run.ticket_id == ticket.id, Run.dry_run.is_(False))
    runs = {run.id: run for run in session.scalars(query.order_by(Run.id))}
    hosts: dict[int, list[str]] = {}
    for number, name in session.execute(
        select(RunHost.run_id, RunHost.name).where(RunHost.run_id.in_(runs)).order_by(RunHost.position)
    ):
        hosts.setdefault(number, []).append(name)
    log = tickets.log_of(session, ticket.id)
    names = portal_words.people(session, (one.actor for one in log if one.public))
    own = set(session.scalars(select(User.email).where(User.client_id == ticket.client_id)))
    return {
        "ticket": ticket,
        "view": clock.view(session, ticket, utc_now()) if log else None,
        "story": portal_story.of(log, runs, names, own),
        "runs": runs.values(),
        "hosts": hosts,
        "visits": visits_of(session, coming=True, ticket_id=ticket.id),
        "listens_from": session.scalar(select(func.max(Event.id))) or 0,
    }


@bp.get("/<int:ticket_id>/why")
@portal()
def why(ticket_id: int) -> str:
    """Say in a client's words why a promise is due when it is."""
    with read_only() as session:
        ticket = scoped(session, Ticket, ticket_id)
        view = clock.view(session, ticket, utc_now()) if tickets.log_of(session, ticket.id) else None
        return render_template("portal/why.html", ticket=ticket, view=view)


def written(name: str) -> str:
    """Return what was typed into a field, no longer than LONGEST. No database takes a NUL."""
    return request.form.get(name, "").replace("\x00", "")[:LONGEST]


def acted(ticket_id: int, act: Callable[[Session], object], words: str) -> ResponseReturnValue:
    """Do one thing to a ticket; see acting.acted."""
    return acting.acted(
        Ticket, ticket_id, act, words, page=page, done=url_for("portal_tickets.show", ticket_id=ticket_id)
    )


@bp.post("/<int:ticket_id>/reply")
@portal("portal.open_ticket")
def reply(ticket_id: int) -> ResponseReturnValue:
    """Write to those who work on it; a ticket that waited for this goes on."""
    text = written("text")
    return acted(
        ticket_id,
        lambda session: tickets.client_message(session, ticket_id, text, by=actor().name),
        gettext("Your message is with us."),
    )


@bp.post("/<int:ticket_id>/confirm")
@portal("portal.open_ticket")
def confirm(ticket_id: int) -> ResponseReturnValue:
    """Confirm that it is solved: the ticket is closed, and rated if the client likes."""
    stars = request.form.get("stars", "")

    def close(session: Session) -> None:
        ticket = tickets.get(session, ticket_id, lock=True)
        if ticket.state != "resolved":
            raise Conflict(f"Ticket {ticket_id} is not called solved.", advice="Look at it again.")
        if stars:
            number = int(stars) if stars in STARS else 0
            tickets.rate(session, ticket_id, number, by=actor().name, text=written("said"))
        tickets.move(session, ticket_id, "closed", by=actor().name)

    return acted(ticket_id, close, gettext("Thank you. The ticket is closed."))


@bp.post("/<int:ticket_id>/reopen")
@portal("portal.open_ticket")
def reopen(ticket_id: int) -> ResponseReturnValue:
    """Say that it is not solved: the ticket is open again, and its clock goes on where it stood."""

    def open_again(session: Session) -> None:
        ticket = tickets.get(session, ticket_id, lock=True)
        if ticket.state != "resolved":
            raise Conflict(f"Ticket {ticket_id} is not called solved.", advice="Open a new one that names this.")
        tickets.client_message(session, ticket_id, written("text"), by=actor().name)

    return acted(ticket_id, open_again, gettext("The ticket is open again."))


@bp.get("/new")
@portal("portal.open_ticket")
def new() -> str:
    """Offer the form of a new ticket."""
    return blank_form(request.args)


def blank_form(typed: Mapping[str, Any], error: MspError | None = None) -> str:
    with read_only() as session:
        items = visible(select(ConfigurationItem), ConfigurationItem).where(ConfigurationItem.status != "retired")
        about = whole_number("about")
        return render_template(
            "portal/new_ticket.html",
            typed=typed,
            error=error,
            items=list(session.scalars(items.order_by(ConfigurationItem.name).limit(2000))),
            about=scoped(session, Ticket, about) if about else None,
            urgencies=URGENCIES,
            wishes=WISHES,
        )


@bp.post("/new")
@portal("portal.open_ticket")
def add() -> ResponseReturnValue:
    """Open a ticket on the clock of the client's contract."""
    form = request.form
    try:
        with unit_of_work() as session:
            ticket = opened(session, form)
    except (Misconfigured, Conflict) as error:
        return blank_form(form, error), error.status
    flash(gettext("Ticket %(number)s is open.", number=ticket.id), "success")
    return redirect(url_for("portal_tickets.show", ticket_id=ticket.id), code=303)


def opened(session: Session, form: Mapping[str, str]) -> Ticket:
    """Open the ticket that a form describes. Raises Misconfigured for what cannot be chosen, NotFound for an item."""
    priority, kind = form.get("priority", "P3"), form.get("kind", "incident")
    if priority not in URGENCIES or kind not in WISHES:
        raise Misconfigured("The form names a priority or a kind that is not offered.", advice="Choose from its lists.")
    asset = form.get("asset", "")
    number = int(asset) if asset.isdecimal() and asset.isascii() and len(asset) < 16 else None
    item = scoped(session, ConfigurationItem, number) if number else None
    contact = select(Contact.id).where(Contact.client_id == own_client(), func.lower(Contact.email) == actor().name)
    opening = tickets.Opening(
        client_id=own_client(),
        subject=" ".join(written("subject").split())[:300],
        priority=priority,
        kind=kind,
        channel="portal",
        text=written("text"),
        asset_id=item.id if item else None,
        contact_id=session.scalar(contact),
    )
    return tickets.open_ticket(session, opening, by=actor().name)
