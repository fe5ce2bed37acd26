"""One day on a map: each technician's route in a colour with numbers, waiting work as pins; the same as a list."""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, current_app, make_response, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from sqlalchemy.orm import Session

from msp.clock import utc_now
from msp.contracts.models import Client, Site
from msp.dispatch import availability, openings, technicians, visits
from msp.dispatch.openings import Point
from msp.dispatch.roads import book
from msp.dispatch.travel import DETOUR, great_circle_km
from msp.dispatch.visits import BoardRow
from msp_web import language, security
from msp_web.access import requires
from msp_web.unit import read_only
from msp_web.views.desk import granted
from msp_web.views.dispatch import day_asked

bp = Blueprint("visit_map", __name__, url_prefix="/dispatch/map")

MINUTE = timedelta(minutes=1)
#: Told apart on white and on tiles, and with a number on them; more technicians begin anew.
COLOURS = (
    "#0b5394", "#b3261e", "#1d6b34", "#7a3e9d", "#8a5a00", "#00695c", "#ad1457", "#37474f", "#5d4037", "#1a237e",
    "#827717", "#bf360c",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Leg:
    """One visit of a route. minutes, km: from the stop before it; km None where a place is not known."""

    number: int
    words: str
    address: str
    at: datetime
    ends: datetime
    minutes: int
    km: float | None
    place: Point
    order: int
    late: bool


@dataclass(frozen=True, slots=True)
class Tour:
    """What one technician drives on one day."""

    name: str
    colour: str
    home: Point
    legs: tuple[Leg, ...]

    @property
    def km(self) -> float:
        return sum(leg.km or 0.0 for leg in self.legs)

    @property
    def minutes(self) -> int:
        return sum(leg.minutes for leg in self.legs)


@bp.get("")
@requires("dispatch.see")
def show() -> ResponseReturnValue:
    """Show one day's routes and the work that waits. Tiles come from another server only if a setting says so."""
    day, zone = day_asked(), language.zone()
    since = datetime.combine(day, time(), zone).astimezone(UTC)
    until = datetime.combine(day + timedelta(days=1), time(), zone).astimezone(UTC)
    settings = current_app.config["MSP_SETTINGS"]
    with read_only() as session:
        board = visits.board(session, since, until, client_ids=granted())
        roads = book.read(session)
        rows = [row for row in board.rows if any(one.appointment.state != "proposed" for one in row.visits)]
        tours = [toured(session, row, COLOURS[number % len(COLOURS)], roads) for number, row in enumerate(rows)]
        waiting = []
        for order in board.waiting:
            site = session.get(Site, order.site_id) if order.site_id else None
            client = session.get_one(Client, order.client_id)
            place = availability.point(site.latitude, site.longitude) if site else None
            waiting.append((order, f"{client.name} / {site.name}" if site else client.name, place))
        depot = technicians.depot(session)
        text = render_template(
            "dispatch/map.html",
            day=day,
            today=utc_now().astimezone(zone).date(),
            before=day - timedelta(days=1),
            after=day + timedelta(days=1),
            tours=tours,
            waiting=waiting,
            unplaced=sum(place is None for _, _, place in waiting)
            + sum(leg.place is None for tour in tours for leg in tour.legs),
            drawn=drawing(tours, waiting, depot, settings),
            zone=zone,
        )
    answer = make_response(text)
    host = tiles_host(settings.map_tiles_url)
    if host:
        policy = security.CONTENT_SECURITY_POLICY.replace("img-src 'self'", f"img-src 'self' {host}")
        answer.headers["Content-Security-Policy"] = policy
        answer.headers["Referrer-Policy"] = "origin"  # who gives tiles may ask which site shows them; never which page
    return answer


def tiles_host(address: str) -> str:
    """Return scheme, host and port of the tiles, "" where there are none or the address cannot be meant."""
    parts = urlsplit(address)
    whole = all(slot in address for slot in ("{z}", "{x}", "{y}"))
    clean = parts.netloc and not set(parts.netloc) & set(" ;,'\"{}@*")
    return f"{parts.scheme}://{parts.netloc}" if parts.scheme in ("http", "https") and clean and whole else ""


def toured(session: Session, row: BoardRow, colour: str, roads: book.Roads) -> Tour:
    """Return a technician's confirmed visits in order, with the way to each."""
    home = availability.point(row.technician.latitude, row.technician.longitude)
    here = home
    legs: list[Leg] = []
    for one in sorted(row.visits, key=lambda visit: visit.appointment.starts_at):
        if one.appointment.state == "proposed":
            continue
        site = session.get(Site, one.work_order.site_id) if one.work_order.site_id else None
        place = availability.point(site.latitude, site.longitude) if site else None
        km = DETOUR * great_circle_km(here, place) if here is not None and place is not None else None
        leg = Leg(
            number=len(legs) + 1,
            words=f"{one.client}{f' / {one.site}' if one.site else ''}: {language.said(one.work_order.summary)}",
            address=site.address if site else "",
            at=one.appointment.starts_at,
            ends=one.appointment.ends_at,
            minutes=openings.road(here, place, roads, one.appointment.starts_at) // MINUTE,
            km=km,
            place=place,
            order=one.work_order.id,
            late=one.late,
        )
        legs.append(leg)
        here = place
    return Tour(row.technician.name, colour, home, tuple(legs))


def drawing(tours: list[Tour], waiting: list[tuple[Any, str, Point]], depot: Any, settings: Any) -> dict[str, Any]:
    """Return what the script draws, as JSON values."""
    zone = language.zone()
    pins = [
        {
            "place": place,
            "words": f"{where}: {language.said(order.summary)}",
            "to": url_for("dispatch.show", work_order_id=order.id),
        }
        for order, where, place in waiting
        if place is not None
    ]
    routes = [
        {
            "name": tour.name,
            "colour": tour.colour,
            "home": tour.home,
            "stops": [
                {
                    "number": leg.number,
                    "place": leg.place,
                    "words": f"{leg.at.astimezone(zone):%H:%M}–{leg.ends.astimezone(zone):%H:%M} {leg.words}",
                    "to": url_for("dispatch.show", work_order_id=leg.order),
                }
                for leg in tour.legs
                if leg.place is not None
            ],
        }
        for tour in tours
    ]
    there = availability.point(depot.latitude, depot.longitude) if depot is not None else None
    host = tiles_host(settings.map_tiles_url)
    return {
        "routes": routes,
        "waiting": pins,
        "depot": {"place": there, "words": depot.name} if there is not None else None,
        "tiles": settings.map_tiles_url if host else "",
        "credit": settings.map_tiles_credit,
        "words": {
            "open": gettext("Whole work order"),
            "waiting": gettext("Nobody goes yet"),
            "depot": gettext("Depot"),
            "home": gettext("The day begins here"),
        },
    }
