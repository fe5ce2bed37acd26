"""Tickets: my queue by time left, one ticket with its clocks and its story, and what a technician does to it."""

import csv
import io
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from flask import Blueprint, Response, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext, lazy_gettext
from sqlalchemy import select
from sqlalchemy.orm import Session

from msp.assets.models import ConfigurationItem
from msp.clock import utc_now
from msp.contracts import agreements
from msp.contracts.clocks import Clocks
from msp.contracts.models import Client, Contact, ContractVersion, Site
from msp.desk import clock, lines, queue, tickets
from msp.desk.models import Ticket, TicketEvent
from msp.errors import Conflict, Misconfigured, MspError, NotFound
from msp.flows import attention
from msp.people.models import User
from msp_web import acting, keyset, playbooks, reckoning, ticket_page, words_of_work
from msp_web.access import actor, requires, scoped, visible
from msp_web.ticket_page import newest
from msp_web.unit import read_only, unit_of_work
from msp_web.views.assets import clients_of, plain_cell

bp = Blueprint("desk", __name__, url_prefix="/tickets")
words_of_work.install(bp)

PAGE = 50
SOON = timedelta(hours=1)
#: saved view -> its words; what each narrows is said in `asked`
VIEWS = {
    "": lazy_gettext("All open"),
    "mine": lazy_gettext("Mine"),
    "nobody": lazy_gettext("Nobody's"),
    "soon": lazy_gettext("Due within the hour"),
    "late": lazy_gettext("Late"),
    "over": lazy_gettext("Resolved and closed"),
}
#: states a person sets by hand; `merged` is not among them
STATES = tickets.STATES


def granted() -> list[int] | None:
    """Return the clients that the asking person may know of, None for all: the gate of lists by client."""
    return None if actor().granted is None else sorted(actor().granted or ())


def number_of(text: str | None) -> int | None:
    """Return a number of an address or a form, or None."""
    return int(text) if text and text.isdecimal() and len(text) < 16 else None


def asked() -> queue.Filter:
    """Return the filter that the address asks for."""
    args = request.args
    view = args.get("view", "")
    clients = granted()
    if chosen := number_of(args.get("client")):
        clients = [chosen] if clients is None or chosen in clients else []
    return queue.Filter(
        client_ids=clients,
        is_open=view != "over",
        line=args.get("line") or None,
        state=args.get("state") or None,
        priority=args.get("priority") or None,
        kind=args.get("kind") or None,
        assignee_id=actor().user_id if view == "mine" else None,
        unassigned=view == "nobody",
        breached=True if view == "late" else None,
        words=args.get("q", "").strip(),
    )


def listed(session: Session, limit: int, after: tuple[datetime | None, int] | None = None) -> list[queue.Row]:
    """Return the rows that the address asks for, by time left."""
    soon = request.args.get("view") == "soon"
    now = utc_now()
    found = queue.rows(session, asked(), limit=limit, after=after or ((now, 0) if soon else None))
    return [row for row in found if not soon or (row.next_due_at and row.next_due_at <= now + SOON)]


def standings(session: Session, rows: Sequence[queue.Row]) -> dict[int, Clocks]:
    """Return the clocks of every ticket of a page, read from their logs in one query."""
    logs: dict[int, list[TicketEvent]] = {row.id: [] for row in rows}
    query = visible(select(TicketEvent), TicketEvent).where(TicketEvent.ticket_id.in_(logs))
    for entry in session.scalars(query.order_by(TicketEvent.ticket_id, TicketEvent.seq)):
        logs[entry.ticket_id].append(entry)
    now = utc_now()
    found: dict[int, Clocks] = {}
    for ticket in session.scalars(visible(select(Ticket), Ticket).where(Ticket.id.in_(logs))):
        promise = clock.promise_of(session, ticket)
        if promise and logs[ticket.id]:
            found[ticket.id] = clock.clocks(promise, logs[ticket.id], now)
    return found


def staff(session: Session) -> list[User]:
    """Return the people to whom a ticket may be given."""
    return list(session.scalars(select(User).where(User.client_id.is_(None), User.active).order_by(User.name)))


@bp.get("", endpoint="queue")
@requires("ticket.see")
def by_time_left() -> str:
    """Show the queue: what is at risk first."""
    with read_only() as session:
        rows = listed(session, PAGE + 1, keyset.read(request.args.get("after", "")))
        last = rows[PAGE - 1] if len(rows) > PAGE else None
        rows = rows[:PAGE]
        return render_template(
            "desk/index.html",
            rows=rows,
            after=keyset.write(last.next_due_at, last.id) if last else None,
            clocks=standings(session, rows),
            figures=attention.of(session, granted(), user_id=actor().user_id),
            clients=clients_of(session),
            people=staff(session),
            suggested={row.id: playbooks.for_symptom(row.symptom) for row in rows if row.symptom},
            views=VIEWS,
            lines=lines.LINES,
            states=STATES,
            kinds=tickets.KINDS,
            listens_from=newest(session),
        )


@bp.get("/list.csv")
@requires("ticket.see")
def as_csv() -> Response:
    """Give away the list that is on the page, whole."""
    columns = ("id", "priority", "kind", "subject", "client", "site", "asset", "line", "state", "assignee")
    times = ("opened_at", "next_due_at", "resolution_due_at", "latest_dispatch_at")
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow((*columns, *times, "breached"))
    after: tuple[datetime | None, int] | None = None
    with read_only() as session:
        while rows := listed(session, 500, after):
            for row in rows:
                instants = [value.isoformat() if (value := getattr(row, name)) else "" for name in times]
                cells = [*(getattr(row, name) for name in columns), *instants, "yes" if row.breached else "no"]
                writer.writerow([plain_cell(cell) for cell in cells])
            after = rows[-1].next_due_at, rows[-1].id
    answer = Response("\ufeff" + text.getvalue(), mimetype="text/csv")
    answer.headers["Content-Disposition"] = 'attachment; filename="tickets.csv"'
    return answer


@bp.get("/assign")
@requires("ticket.work")
def preview_assign() -> str:
    """Say, ticket by ticket, what giving them to somebody would do, before it is done."""
    numbers = [number for text in request.args.getlist("id")[:200] if (number := number_of(text))]
    with read_only() as session:
        found = list(session.scalars(visible(select(Ticket), Ticket).where(Ticket.id.in_(numbers)).order_by(Ticket.id)))
        person = person_of(session, request.args.get("to", ""))
        return render_template(
            "desk/assign.html",
            found=[(ticket, refusal(ticket, person)) for ticket in found],
            person=person,
            to=request.args.get("to", ""),
            people=staff(session),
            names={user.id: user.name for user in staff(session)},
        )


def person_of(session: Session, text: str) -> User | None:
    """Return the member of staff whom a form names: `me`, a number, or nobody. Raises NotFound."""
    if not text:
        return None
    number = actor().user_id if text == "me" else number_of(text)
    person = session.get(User, number) if number else None
    if person is None or person.client_id is not None or not person.active:
        raise NotFound("There is no such member of staff.", advice="Choose one from the list.")
    return person


def refusal(ticket: Ticket, person: User | None) -> str | None:
    """Return why a ticket would not be given to a person, or None."""
    why: str | None = None
    if not ticket.is_open:
        why = gettext("It is over.")
    elif ticket.assignee_id == (person.id if person else None):
        why = gettext("Nothing would change.")
    return why


@bp.post("/assign")
@requires("ticket.work")
def assign_many() -> ResponseReturnValue:
    """Give several tickets to one person; those to which it cannot be done stay as they are."""
    numbers = [number for text in request.form.getlist("id")[:200] if (number := number_of(text))]
    count = 0
    with unit_of_work() as session:
        person = person_of(session, request.form.get("to", ""))
        for ticket in list(session.scalars(visible(select(Ticket), Ticket).where(Ticket.id.in_(numbers)))):
            if refusal(ticket, person) is None:
                tickets.assign(session, ticket.id, person, by=actor().name)
                count += 1
    flash(gettext("Assigned: %(count)s.", count=count), "success")
    return redirect(url_for("desk.queue"), code=303)


@bp.get("/new")
@requires("ticket.work")
def new() -> str:
    """Offer the form of a new ticket; its lists are those of the client chosen."""
    return blank_form(request.args)


def blank_form(typed: Any, error: MspError | None = None) -> str:
    with read_only() as session:
        client = scoped(session, Client, number) if (number := number_of(typed.get("client"))) else None
        of_client = client.id if client else 0
        items = visible(select(ConfigurationItem), ConfigurationItem).where(ConfigurationItem.client_id == of_client)
        version = agreements.version_in_force(session, client.id, utc_now()) if client else None
        return render_template(
            "desk/new.html",
            typed=typed,
            error=error,
            client=client,
            clients=clients_of(session),
            covered=version is not None,
            items=list(session.scalars(items.order_by(ConfigurationItem.name))),
            sites=list(session.scalars(visible(select(Site), Site).where(Site.client_id == of_client))),
            contacts=list(session.scalars(visible(select(Contact), Contact).where(Contact.client_id == of_client))),
            priorities=priorities_of(version),
            kinds=tickets.KINDS,
            channels=tickets.CHANNELS,
        )


def priorities_of(version: ContractVersion | None) -> list[str]:
    """Return the priorities that a contract knows; the usual ones without a contract."""
    if version is None:
        return ["P1", "P2", "P3", "P4"]
    known: set[str] = set()
    for line in agreements.terms_of(version).lines:
        known |= set(line.targets)
    return sorted(known) or ["P1", "P2", "P3", "P4"]


@bp.post("/new")
@requires("ticket.work")
def add() -> ResponseReturnValue:
    """Open a ticket on the clock of the client's contract."""
    form = request.form
    try:
        with unit_of_work() as session:
            client = scoped(session, Client, number_of(form.get("client")) or 0)
            for model, name in ((ConfigurationItem, "asset"), (Site, "site"), (Contact, "contact")):
                if number := number_of(form.get(name)):
                    scoped(session, model, number)
            opening = tickets.Opening(
                client_id=client.id,
                subject=form.get("subject", ""),
                priority=form.get("priority", "P3"),
                kind=form.get("kind", "incident"),
                channel=form.get("channel", "phone_by_agent"),
                text=form.get("text", ""),
                site_id=number_of(form.get("site")),
                contact_id=number_of(form.get("contact")),
                asset_id=number_of(form.get("asset")),
            )
            ticket = tickets.open_ticket(session, opening, by=actor().name)
            if form.get("take"):
                tickets.assign(session, ticket.id, person_of(session, "me"), by=actor().name)
    except (Misconfigured, Conflict) as error:
        return blank_form(form, error), error.status
    flash(gettext("Ticket %(number)s is open.", number=ticket.id), "success")
    return redirect(url_for("desk.show", ticket_id=ticket.id), code=303)


@bp.get("/<int:ticket_id>")
@requires("ticket.see")
def show(ticket_id: int) -> str:
    """Show one ticket."""
    return page(ticket_id)


def page(ticket_id: int, error: MspError | None = None) -> str:
    """Return the ticket's page; after an error with what was typed."""
    with read_only() as session:
        ticket = scoped(session, Ticket, ticket_id)
        return render_template(
            "desk/show.html",
            **ticket_page.standing(session, ticket),
            **ticket_page.story(session, ticket, request.args.get("show", "")),
            **ticket_page.facts(session, ticket),
            error=error,
            typed=request.form,
            people=[(one.id, one.name) for one in staff(session)],
            priorities=priorities_of(agreements.version_in_force(session, ticket.client_id, ticket.opened_at)),
            states=STATES,
            lines=lines.LINES,
            next_line=lines.following(ticket.line),
            listens_from=newest(session),
        )


@bp.get("/<int:ticket_id>/clocks")
@requires("ticket.see")
def clocks_part(ticket_id: int) -> str:
    """Return the clocks alone, for a page that is open."""
    with read_only() as session:
        return render_template("desk/clocks.html", **ticket_page.standing(session, scoped(session, Ticket, ticket_id)))


@bp.get("/<int:ticket_id>/story")
@requires("ticket.see")
def story_part(ticket_id: int) -> str:
    """Return the timeline alone, for a page that is open."""
    with read_only() as session:
        ticket = scoped(session, Ticket, ticket_id)
        return render_template(
            "desk/story.html", ticket=ticket, **ticket_page.story(session, ticket, request.args.get("show", ""))
        )


@bp.get("/<int:ticket_id>/why")
@requires("ticket.see")
def why(ticket_id: int) -> str:
    """Explain every due time: the clause, the target, and each span that was counted or not."""
    with read_only() as session:
        ticket = scoped(session, Ticket, ticket_id)
        view = clock.view(session, ticket, utc_now())
        reckonings = (
            [(why, shown, reckoning.picture(why, view.as_of)) for why, shown in zip(view.why, view.clocks, strict=True)]
            if view
            else []
        )
        return render_template("desk/why.html", ticket=ticket, view=view, reckonings=reckonings)


def acted(ticket_id: int, act: Callable[[Session], object], words: str) -> ResponseReturnValue:
    """Do one thing to a ticket; see acting.acted."""
    return acting.acted(Ticket, ticket_id, act, words, page=page, done=url_for("desk.show", ticket_id=ticket_id))


@bp.post("/<int:ticket_id>/reply")
@requires("ticket.work")
def reply(ticket_id: int) -> ResponseReturnValue:
    """Answer the client, and set the state the answer leads to."""
    form, by = request.form, actor().name

    def act(session: Session) -> None:
        tickets.reply(session, ticket_id, form.get("text", ""), by=by)
        then = form.get("then", "")
        if then and then != tickets.get(session, ticket_id).state:
            tickets.move(session, ticket_id, then, by=by)

    return acted(ticket_id, act, gettext("The reply is on its way to the client."))


@bp.post("/<int:ticket_id>/note")
@requires("ticket.work")
def note(ticket_id: int) -> ResponseReturnValue:
    """Leave a note that the client does not see."""
    text, by = request.form.get("text", ""), actor().name
    return acted(ticket_id, lambda session: tickets.note(session, ticket_id, text, by=by), gettext("The note is kept."))


@bp.post("/<int:ticket_id>/message")
@requires("ticket.work")
def message(ticket_id: int) -> ResponseReturnValue:
    """Record what the client said on the phone."""
    text, by = request.form.get("text", ""), actor().name
    words = gettext("The client's words are recorded.")
    return acted(ticket_id, lambda session: tickets.client_message(session, ticket_id, text, by=by), words)


@bp.post("/<int:ticket_id>/state")
@requires("ticket.work")
def move(ticket_id: int) -> ResponseReturnValue:
    """Change the state."""
    to, text, by = request.form.get("to", ""), request.form.get("text", ""), actor().name
    words = gettext("The state is changed.")
    return acted(ticket_id, lambda session: tickets.move(session, ticket_id, to, by=by, text=text), words)


@bp.post("/<int:ticket_id>/priority")
@requires("ticket.work")
def priority(ticket_id: int) -> ResponseReturnValue:
    """Change the priority; due times follow."""
    to, by = request.form.get("to", ""), actor().name
    words = gettext("The priority is changed; due times follow.")
    return acted(ticket_id, lambda session: tickets.set_priority(session, ticket_id, to, by=by), words)


@bp.post("/<int:ticket_id>/line")
@requires("ticket.work")
def hand_over(ticket_id: int) -> ResponseReturnValue:
    """Hand over to another support line, which is told why and what was tried."""
    form, by = request.form, actor().name

    def act(session: Session) -> None:
        to, reason, tried = form.get("to", ""), form.get("reason", ""), form.get("tried", "")
        tickets.hand_over(session, ticket_id, to, by=by, reason=reason, tried=tried)

    return acted(ticket_id, act, gettext("The ticket is handed over."))


@bp.post("/<int:ticket_id>/assign")
@requires("ticket.work")
def assign(ticket_id: int) -> ResponseReturnValue:
    """Give the ticket to a member of staff, to oneself, or to nobody."""
    to, by = request.form.get("to", ""), actor().name

    def act(session: Session) -> None:
        tickets.assign(session, ticket_id, person_of(session, to), by=by)

    return acted(ticket_id, act, gettext("Assigned."))
