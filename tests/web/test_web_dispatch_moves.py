"""The board in a real browser: drag with the server's word at once, the panel by keyboard, windows of arrival."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import seed
from sqlalchemy import select
from test_web_browser import CHROMIUM, playwright, serve

from msp import db
from msp.clock import utc_now
from msp.contracts.models import Site
from msp.dispatch import visits
from msp.dispatch.models import Appointment, Replan, Shift, Technician, WorkOrder
from msp.engine import runtime
from msp.flows import replans

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed (apt install chromium)"),
]
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
WIDE, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}


@dataclass
class Room:
    """A running installation with two technicians who can weld and one who cannot; work waits for tomorrow."""

    browser: Any
    base: str
    ids: dict[str, dict[str, int]]
    technicians: list[int]
    day: datetime  # tomorrow, midnight UTC
    complaints: list[str] = field(default_factory=list)

    def page(self, email: str, viewport: dict[str, int] = WIDE) -> Any:
        context = self.browser.new_context(viewport=viewport, has_touch=viewport is PHONE, timezone_id="UTC")
        page = context.new_page()
        page.on("console", lambda message: self.complaints.append(message.text))
        page.goto(f"{self.base}/log-in")
        page.fill("#email", email)
        page.fill("#password", seed.PASSWORD)
        page.click("form[action*='log-in'] button")
        page.wait_for_url(lambda address: "/log-in" not in address)
        return page

    def work(self, summary: str) -> int:
        now = utc_now()
        with db.begin() as session:
            order = visits.propose(
                session, client_id=self.ids["alfa"]["client_id"], site_id=self.ids["alfa"]["site_id"], summary=summary,
                now=now, duration=timedelta(hours=1), skills={"welding": 1}, due_at=now + timedelta(days=3),
                ticket_id=self.ids["alfa"]["ticket_id"],
            )  # fmt: skip
            return order.id

    def visit(self, order: int) -> Appointment:
        with db.read() as session:
            query = select(Appointment).where(Appointment.work_order_id == order).order_by(Appointment.id.desc())
            return session.scalars(query.limit(1)).one()

    def board(self, page: Any) -> None:
        page.goto(f"{self.base}/dispatch/?day={self.day:%Y-%m-%d}")
        page.wait_for_selector(".lane[data-technician]", state="attached")

    def point(self, page: Any, technician: int, hour: float) -> tuple[float, float]:
        """Return where on the screen an hour of a technician's day is."""
        box = page.locator(f".lane[data-technician='{technician}'] svg.time").bounding_box()
        begins, ends = (float(page.locator("#board").get_attribute(f"data-{edge}")) for edge in ("begins", "ends"))
        at = (self.day + timedelta(hours=hour)).timestamp()
        return box["x"] + box["width"] * (at - begins) / (ends - begins), box["y"] + 25


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    settings = seed.prepare(tmp_path_factory.mktemp("moves"))
    runtime.prepare(settings.database_url)  # a plan is asked of a worker
    day = (utc_now() + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    with db.begin() as session:
        ids = seed.fill(session)
        for visit in session.scalars(select(Appointment)):  # in three hours: late in the day that is on our board
            visit.starts_at, visit.ends_at = visit.starts_at + timedelta(days=3), visit.ends_at + timedelta(days=3)
        people = [
            Technician(name=name, skills=skills, latitude=52.52, longitude=13.41)
            for name, skills in (("Wanda", {"welding": 2}), ("Willi", {"welding": 1}), ("Udo", {"cabling": 1}))
        ]
        session.add_all(people)
        session.flush()
        for one in people:
            session.add(
                Shift(technician_id=one.id, starts_at=day + timedelta(hours=7), ends_at=day + timedelta(hours=19))
            )
        session.get_one(Site, ids["alfa"]["site_id"]).time_zone = "UTC"
        technicians = [one.id for one in people]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = serve(Path(settings.data), port)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        try:
            yield Room(browser, f"http://127.0.0.1:{port}", ids, technicians, day)
        finally:
            browser.close()
            server.kill()
            server.wait()
            server.stdout.close()  # type: ignore[union-attr]


def drag(page: Any, source: Any, target: tuple[float, float]) -> None:
    """Hold `source` over `target`. The board may be drawn anew before it is held: then once more, as people do."""
    for _ in range(3):
        box = source.bounding_box()
        page.mouse.move(box["x"] + 4, box["y"] + min(8, box["height"] / 2))
        page.mouse.down()
        page.mouse.move(target[0], target[1], steps=6)
        if page.locator("body.dragging").count():
            return
        page.mouse.up()
    raise AssertionError("nothing was held")


def test_work_is_dragged_onto_a_day_with_the_servers_word_and_undone(room: Room) -> None:
    order = room.work("Weld the gate")
    page, other = room.page("dispatch@provider.example"), room.page("admin@provider.example")
    room.board(page)
    room.board(other)
    waiting = page.locator(f"tr[data-order='{order}'] .handle")
    waiting.scroll_into_view_if_needed()
    able, unable = room.technicians[0], room.technicians[2]

    drag(page, waiting, room.point(page, unable, 10))
    page.wait_for_selector("#drag-says.hard")
    assert "Udo does not have the skill welding" in page.inner_text("#drag-says")
    page.keyboard.press("Escape")
    page.mouse.up()
    assert room.visit(order).state == "proposed", "a drag that was given up changed something"

    drag(page, waiting, room.point(page, able, 10))
    page.wait_for_selector("#drag-says:has-text('Wanda')")
    page.mouse.up()
    page.wait_for_selector("#told.good")
    visit = room.visit(order)
    assert (visit.technician_id, visit.state) == (able, "confirmed")
    assert abs(visit.starts_at - (room.day + timedelta(hours=10))) <= timedelta(minutes=10)
    other.wait_for_selector(f".lane[data-technician='{able}'] a[data-order='{order}'].x, .lane a[data-order='{order}']")

    bar = page.locator(f".lane a[data-order='{order}'] svg")
    bar.wait_for()
    drag(page, bar, room.point(page, room.technicians[1], 14))
    page.wait_for_selector("#drag-says:has-text('Wanda no longer goes')")
    page.mouse.up()
    page.wait_for_selector("#told.good:has-text('Willi')")
    assert room.visit(order).technician_id == room.technicians[1]
    page.click("#told button:has-text('Undo')")
    page.wait_for_selector("#told.good:has-text('Put back')")
    assert room.visit(order).technician_id == able
    assert not [words for words in room.complaints if "409" not in words]


def test_the_second_of_two_who_drag_is_told(room: Room) -> None:
    order = room.work("Weld the ladder")
    page = room.page("dispatch@provider.example")
    room.board(page)
    page.evaluate("document.querySelector('#board').removeAttribute('hx-trigger')")
    version = room.visit(order).version
    with db.begin() as session:
        at = room.day + timedelta(hours=12)
        visits.assign(session, order, room.technicians[1], at, by="x", now=utc_now(), expected_version=version)
    answer = page.evaluate(
        """async ([address, technician, at]) => (await fetch(address, {method: 'POST',
        headers: {Accept: 'application/json', 'X-CSRFToken': document.querySelector('meta[name="csrf-token"]').content},
        body: new URLSearchParams({technician, starts_at: at, version: '1'})})).json()""",
        [f"/dispatch/{order}/place", str(room.technicians[0]), (room.day + timedelta(hours=15)).isoformat()],
    )
    assert "Somebody else was first: Willi" in answer["title"]
    room.complaints.clear()


def test_the_panel_assigns_by_keyboard_alone(room: Room) -> None:
    order = room.work("Weld the rail")
    page = room.page("dispatch@provider.example")
    room.board(page)
    page.locator(f"tr[data-order='{order}'] td a").first.focus()
    page.keyboard.press("d")
    page.wait_for_selector("#picker[open] .says:has-text('·')")
    assert page.evaluate("document.activeElement.name") == "candidate"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_selector("#told.good")
    assert room.visit(order).state == "confirmed"
    assert not page.is_visible("#picker")


def test_the_board_is_cards_with_the_panel_on_a_phone(room: Room) -> None:
    order = room.work("Weld the box")
    page = room.page("dispatch@provider.example", PHONE)
    room.board(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.locator(f"tr[data-order='{order}'] [data-pick]").tap()
    page.wait_for_selector("#picker[open] .says:has-text('·')")
    assert page.evaluate("document.querySelector('#picker').getBoundingClientRect().width") <= PHONE["width"]
    page.locator("#picker button.btn-primary").tap()
    page.wait_for_selector("#told.good")
    assert room.visit(order).state == "confirmed"


def test_three_windows_are_offered_on_the_phone_and_one_is_promised(room: Room) -> None:
    order = room.work("Weld the frame")
    page = room.page("dispatch@provider.example")
    page.goto(f"{room.base}/dispatch/{order}/slots")
    assert page.locator(".slots > li").count() == 3
    page.locator(".slots button").first.click()
    page.wait_for_url(f"**/dispatch/{order}")
    visit = room.visit(order)
    assert visit.promised_from is not None
    assert visit.promised_until is not None
    assert visit.promised_from <= visit.starts_at <= visit.promised_until


def test_a_client_takes_a_window_in_the_portal(room: Room) -> None:
    order = room.work("Weld the shelf")
    page = room.page("boss@alfa.example", PHONE)
    page.goto(f"{room.base}/portal/visits")
    page.locator(f"a[href='/portal/visits/{order}/book']").tap()
    page.wait_for_url("**/book")
    page.wait_for_load_state()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.locator("form[action$='/book'] button").first.tap()
    page.wait_for_selector(".notice")
    visit = room.visit(order)
    assert visit.state == "confirmed"
    assert visit.promised_until is not None
    with db.read() as session:
        due = session.get_one(WorkOrder, order).due_at
        assert due is not None
        assert visit.promised_until + timedelta(hours=1) <= due
    page.goto(f"{room.base}/portal/tickets/{room.ids['alfa']['ticket_id']}")
    assert "comes on" in page.inner_text("#now")


def test_a_plan_is_asked_for_appears_by_itself_is_taken_in_part_and_undone(room: Room) -> None:
    orders = [room.work(f"Weld plan {number}") for number in range(2)]
    page = room.page("dispatch@provider.example")
    room.board(page)
    page.click("form[action*='/plans'] button")
    page.wait_for_selector("#plan progress")
    with db.begin() as session:
        asked = session.scalars(select(Replan).order_by(Replan.id.desc())).first()
        assert asked is not None
        asked.stopping, ident = True, asked.id  # as if somebody had pressed "show what is found"
    replans.compute(ident)
    page.wait_for_selector(f".changes input[name=order][value='{orders[0]}']")  # the page has asked by itself
    page.wait_for_selector(".plan-new")
    boxes = page.locator(".changes input[name=order]")
    every = boxes.count()
    assert every >= 2
    page.uncheck(f".changes input[name=order][value='{orders[1]}']")
    button = page.locator("[data-count-ticks]")
    assert button.inner_text().endswith(f"({every - 1})")
    page.uncheck("[data-tick-all]") if page.is_checked("[data-tick-all]") else page.check("[data-tick-all]")
    assert button.inner_text().endswith(f"({every})")
    page.uncheck("[data-tick-all]")
    assert button.is_disabled()
    page.check("[data-tick-all]")
    page.uncheck(f".changes input[name=order][value='{orders[1]}']")  # what is new and left out stands in nobody's way
    button.click()
    page.wait_for_selector(".notice.tone-green:has-text('accepted it')")
    assert room.visit(orders[0]).state == "confirmed"
    assert room.visit(orders[1]).state == "proposed"
    page.click(".notice.tone-green button:has-text('Undo')")
    page.wait_for_selector(".notice:has-text('took it back')")
    assert room.visit(orders[0]).state == "cancelled"
    page.context.close()


def test_the_map_shows_routes_and_waiting_work_and_asks_nobody_else(room: Room) -> None:
    order = room.work("Weld the map")
    with db.begin() as session:
        site = session.get_one(Site, room.ids["alfa"]["site_id"])
        site.latitude, site.longitude = 52.55, 13.35
        at = room.day + timedelta(hours=17)
        current = visits.standing(session, order)
        visits.assign(session, order, room.technicians[1], at, by="seed", now=utc_now(),
                      expected_version=current.version if current else None)  # fmt: skip
    page = room.page("dispatch@provider.example")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{room.base}/dispatch/map?day={room.day:%Y-%m-%d}")
    page.wait_for_selector("#map .map-mark.stop")
    assert page.locator("#map path.leaflet-interactive, #map path").count() >= 1
    page.locator("#map .map-mark.stop").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".leaflet-popup-content a")
    marks = page.locator("#map .map-mark.stop").count()
    page.locator("details[data-tour] summary").first.click()  # folded up, a route leaves the map
    page.wait_for_selector(f"#map .map-mark.stop >> nth={marks - 1}", state="detached")
    assert all(address.startswith(room.base) for address in asked), asked
    page.context.close()
