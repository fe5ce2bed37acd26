"""The technician's phone: today's visits, off-line too. One page, one answer with the day, one address for acts."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from babel.dates import format_datetime
from flask import Blueprint, Response, current_app, jsonify, render_template, request, send_from_directory, url_for
from flask.typing import ResponseReturnValue
from flask_babel import get_locale, gettext
from flask_wtf.csrf import generate_csrf
from sqlalchemy import select
from sqlalchemy.orm import Session

from msp.clock import utc_now
from msp.contracts.models import Client, Site
from msp.dispatch.models import Appointment, Handover, Technician, WorkOrder
from msp.errors import Misconfigured, NotFound
from msp.flows import field_work, visit_sheet
from msp.flows.field_work import Act
from msp_web import language
from msp_web.access import actor, portal, requires, scoped, signed_in, storable
from msp_web.unit import read_only, unit_of_work

bp = Blueprint("field", __name__)

AHEAD, BEHIND = timedelta(hours=36), timedelta(hours=18)  # of now: what the phone carries


@bp.get("/field/")
@requires("visit.work")
def page() -> str:
    """Give the page that works without a line; everything in it comes from the day's answer."""
    return render_template("dispatch/field.html", words=words())


@bp.get("/field/worker.js")
@signed_in
def worker() -> Response:
    """Give the service worker; it may serve everything under /field/."""
    folder = current_app.static_folder or ""
    answer = send_from_directory(folder, "field-worker.js", mimetype="text/javascript", max_age=0)
    answer.headers["Cache-Control"] = "no-cache"
    return answer


@bp.get("/field/manifest.webmanifest")
@signed_in
def manifest() -> Response:
    """Tell a phone how the page is installed."""
    icons = [
        {"src": url_for("static", filename=f"icon-{name}.png"), "sizes": f"{size}x{size}", "type": "image/png", **more}
        for name, size, more in (("192", 192, {}), ("512", 512, {}), ("maskable-512", 512, {"purpose": "maskable"}))
    ]
    icons.append({"src": url_for("static", filename="icon.svg"), "sizes": "any", "type": "image/svg+xml"})
    answer = jsonify(
        name=gettext("My visits"),
        short_name=gettext("My visits"),
        id=url_for("field.page"),
        start_url=url_for("field.page"),
        scope=url_for("field.page"),
        display="standalone",
        background_color="#ffffff",
        theme_color="#0b5394",
        icons=icons,
    )
    answer.mimetype = "application/manifest+json"
    return answer


@bp.get("/field/today.json")
@requires("visit.work")
def today() -> Response:
    """Give the visits that the phone carries with it, and the token for sending acts.

    These are all that the technician is to do, whichever clients are granted: `reached` takes the acts of each.
    """
    now = utc_now()
    with read_only() as session:
        technician = session.scalar(select(Technician).where(Technician.user_id == actor().user_id))
        query = (
            select(Appointment, WorkOrder, Client, Site)
            .join(WorkOrder, WorkOrder.id == Appointment.work_order_id)
            .join(Client, Client.id == WorkOrder.client_id)
            .outerjoin(Site, Site.id == WorkOrder.site_id)
            .where(Appointment.technician_id == (technician.id if technician else None))
            .where(Appointment.starts_at < now + AHEAD, Appointment.ends_at > now - BEHIND)
            .where(Appointment.state.not_in(("proposed", "cancelled")))
            .order_by(Appointment.starts_at, Appointment.id)
        )
        found = [told(session, *row) for row in session.execute(query)]
        name = technician.name if technician else None
    return jsonify(technician=name, visits=found, token=generate_csrf(), at=now.isoformat())


def told(session: Session, visit: Appointment, order: WorkOrder, client: Client, site: Site | None) -> dict[str, Any]:
    """Return one visit as the phone keeps it."""
    zone = language.zone()
    begins, ends = visit.starts_at.astimezone(zone), visit.ends_at.astimezone(zone)
    acts = field_work.acts_of(session, visit.id)
    return {
        "id": visit.id,
        "order": order.id,
        "version": visit.version,
        "state": visit.state,
        "when": f"{format_datetime(begins, 'EEE d MMM HH:mm', tzinfo=zone, locale=get_locale())}–{ends:%H:%M}",
        "travel": visit.travel // timedelta(minutes=1),
        "client": client.name,
        "site": site.name if site else "",
        "address": (site.address or "") if site else "",
        "place": [site.latitude, site.longitude] if site and site.latitude is not None else None,
        "summary": language.said(order.summary),
        "reason": language.said(order.reason),
        "parts": order.parts,
        "checklist": order.checklist,
        "ticket": order.ticket_id,
        "acts": [{"id": one.id, "kind": one.kind, "data": one.data, "at": one.at.isoformat()} for one in acts],
    }


@bp.post("/field/acts")
@requires("visit.work")
def send() -> ResponseReturnValue:
    """Take one act. Sent again it changes nothing; 409 brings both versions, 422 says what cannot be meant."""
    act, now = read(request.get_json(silent=True)), utc_now()
    with unit_of_work() as session:
        technician = field_work.technician_of(session, actor().user_id)
        reached(session, act.visit)
        answer = field_work.receive(session, act, technician=technician, by=actor().name, now=now)
    told = {**answer, "words": language.said(answer["words"])}
    return jsonify(told), 409 if told["state"] == "conflict" else 200


def reached(session: Session, visit_id: int) -> Appointment:
    """Return a visit that the asker may see or has to do: who was sent to a client may do that visit, and send what
    was done before it was handed on; nothing else of that client opens by it. Raises NotFound."""
    mine = select(Technician.id).where(Technician.user_id == actor().user_id)
    before = select(Handover.appointment_id).where(Handover.technician_id.in_(mine))
    own = select(Appointment).where(Appointment.id == visit_id)
    own = own.where(Appointment.technician_id.in_(mine) | Appointment.id.in_(before))
    found = session.scalar(own.where(Appointment.state != "proposed")) if storable(visit_id) else None
    return found or scoped(session, Appointment, visit_id)


def read(document: object) -> Act:
    """Return the act that a JSON document names. Raises Misconfigured."""
    if not isinstance(document, dict):
        raise Misconfigured("That is no act.", advice="Load the page again.")
    try:
        at = datetime.fromisoformat(str(document["at"]))
        if at.tzinfo is None:
            raise ValueError("an instant without its zone")
        json.dumps(document, ensure_ascii=False).encode()  # half a character can be neither hashed nor stored
        data = document.get("data") or {}
        found = Act(
            id=str(document["id"]),
            visit=int(document["visit"]),
            kind=str(document["kind"]),
            at=at.astimezone(UTC),
            base=int(document["base"]),
            data=data if isinstance(data, dict) else {},
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise Misconfigured("The act is not complete.", advice="Load the page again.") from error
    return found


@bp.get("/field/<int:visit_id>/sheet.pdf")
@requires("dispatch.see")
def sheet(visit_id: int) -> Response:
    """Give the act of a visit: what was done, used and signed."""
    return as_pdf(visit_id, reached)


@bp.get("/portal/visits/<int:visit_id>/sheet.pdf")
@portal()
def portal_sheet(visit_id: int) -> Response:
    """Give the same to the client."""
    return as_pdf(visit_id, lambda session, ident: scoped(session, Appointment, ident))


def as_pdf(visit_id: int, fetch: Callable[[Session, int], Appointment]) -> Response:
    with read_only() as session:
        visit = fetch(session, visit_id)
        if visit.state != "done":
            raise NotFound("The visit is not over yet.", advice="Its act is here when the work is done.")
        content = visit_sheet.pdf(session, visit, labels(), locale=language.language())
    answer = Response(content, mimetype="application/pdf")
    answer.headers["Content-Disposition"] = f'inline; filename="visit-{visit_id}.pdf"'
    return answer


def labels() -> dict[str, str]:
    return {
        "title": gettext("Act of the visit"),
        "what": gettext("What"),
        "value": gettext("Result"),
        "client": gettext("Client"),
        "site": gettext("Site"),
        "work": gettext("Work"),
        "technician": gettext("Technician"),
        "arrived": gettext("Arrived"),
        "done": gettext("Done"),
        "record": gettext("What was done"),
        "checklist": gettext("Checklist"),
        "yes": gettext("done"),
        "no": gettext("not done"),
        "parts": gettext("Parts used"),
        "photos": gettext("Photos"),
        "minutes": gettext("Minutes of work"),
        "left": gettext("Left to do"),
        "signed": gettext("Signed by"),
        "digest": gettext("SHA-256 of what was signed"),
        "page": gettext("page"),
    }


def words() -> dict[str, str]:
    """Return the words of the script."""
    return {
        "none": gettext("No visit today."),
        "nobody": gettext("Your log-in is linked with no technician."),
        "on_the_way": gettext("On the way"),
        "working": gettext("Arrived"),
        "done": gettext("Done"),
        "navigate": gettext("Navigate"),
        "record": gettext("What was done"),
        "checklist": gettext("Checklist"),
        "run": gettext("Run the playbook"),
        "before": gettext("Photo before"),
        "after": gettext("Photo after"),
        "photos": gettext("Photos"),
        "parts": gettext("Parts used"),
        "scan": gettext("Number, typed or scanned"),
        "quantity": gettext("How many"),
        "add": gettext("Add"),
        "time": gettext("Time"),
        "minutes": gettext("Minutes of work"),
        "note": gettext("Note"),
        "save": gettext("Save"),
        "sign": gettext("Signature"),
        "signer": gettext("Name of who signs"),
        "signed": gettext("Signed by"),
        "signs": gettext("I confirm the work above."),
        "clear": gettext("Clear"),
        "left": gettext("Left to do"),
        "follow": gettext("Propose another visit"),
        "waiting": gettext("not sent yet"),
        "sent": gettext("sent"),
        "offline": gettext("No line. What you do is kept and sent later."),
        "unsent": gettext("not sent yet: "),
        "all_sent": gettext("Everything is sent."),
        "conflict": gettext("This does not fit what was changed meanwhile."),
        "mine": gettext("Mine"),
        "theirs": gettext("Theirs"),
        "keep_mine": gettext("Mine holds"),
        "keep_theirs": gettext("Theirs holds"),
        "refused": gettext("Not accepted:"),
        "login": gettext("Log in again to send what waits."),
        "sheet": gettext("Act as PDF"),
        "scheduled": gettext("Scheduled"),
        "road": gettext("minutes on the road"),
        "brings": gettext("Bring along"),
        "confirmed": gettext("confirmed"),
        "cancelled": gettext("cancelled"),
    }
