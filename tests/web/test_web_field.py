"""A visit in a cellar: ten photos, parts and a signature without a line, and each exactly once when it is back."""

import socket
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import seed
from sqlalchemy import select
from test_web_browser import CHROMIUM, playwright, serve

from msp import db
from msp.clock import utc_now
from msp.dispatch import kit, visits
from msp.dispatch.models import Appointment, FieldAction, Part, Shift, Stock, Technician, VisitPicture, WorkOrder
from msp.evidence import Evidence
from msp.people.models import User

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed (apt install chromium)"),
]
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
PHONE = {"width": 390, "height": 844}


def picture(shade: int) -> bytes:
    """Return a small PNG of one shade."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 40, 30, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes([shade]) * 40) * 30)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@dataclass
class Cellar:
    """A technician's phone and the visit that it carries."""

    context: Any
    page: Any
    base: str
    order: int
    visit: int
    other: int  # another technician
    ids: dict[str, dict[str, int]]


@pytest.fixture
def cellar(tmp_path: Path) -> Iterator[Cellar]:
    settings = seed.prepare(tmp_path)
    now = utc_now().replace(second=0, microsecond=0)
    with db.begin() as session:
        ids = seed.fill(session)
        user = session.scalars(select(User).where(User.email == "tech@provider.example")).one()
        tom = Technician(name="Tom", skills={"welding": 1}, user_id=user.id, latitude=52.5, longitude=13.4)
        tina = Technician(name="Tina", skills={"welding": 1}, latitude=52.5, longitude=13.4)
        session.add_all((tom, tina))
        session.flush()
        for one in (tom, tina):
            session.add(Shift(technician_id=one.id, starts_at=now, ends_at=now + timedelta(hours=12)))
        part = kit.add(session, sku="PSU-1", name="Power supply", minimum=0, by="seed")
        kit.receive(session, part, 3, by="seed", technician=tom)
        order = visits.propose(
            session, client_id=ids["alfa"]["client_id"], site_id=ids["alfa"]["site_id"], summary="Weld the cellar door",
            ticket_id=ids["alfa"]["ticket_id"], now=now, duration=timedelta(hours=1), skills={"welding": 1},
            parts={"PSU-1": 2}, due_at=now + timedelta(hours=10),
            checklist=[{"text": "Repair it"}, {"text": "Show that it works"}],
        )  # fmt: skip
        version = visits.standing(session, order.id)
        visit = visits.assign(
            session, order.id, tom.id, now + timedelta(hours=1), by="seed", now=now,
            expected_version=version.version if version else None,
        )  # fmt: skip
        found = order.id, visit.id, tina.id
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server, base = serve(Path(settings.data), port), f"http://127.0.0.1:{port}"
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        try:
            context = browser.new_context(viewport=PHONE, has_touch=True)
            page = context.new_page()
            page.set_default_timeout(20_000)
            page.goto(f"{base}/log-in")
            page.fill("#email", "tech@provider.example")
            page.fill("#password", seed.PASSWORD)
            page.tap("form[action*='log-in'] button")
            page.wait_for_url(lambda address: "/log-in" not in address)
            page.goto(f"{base}/field/")
            page.wait_for_selector(f"#visit-{found[1]}")
            page.evaluate("navigator.serviceWorker.ready.then(() => true)")
            page.reload()  # from now on the worker answers
            page.wait_for_selector(f"#visit-{found[1]}")
            yield Cellar(context, page, base, *found, ids)
        finally:
            browser.close()
            server.kill()
            server.wait()
            server.stdout.close()  # type: ignore[union-attr]


def test_a_visit_without_a_line_counts_exactly_once_after_reconnect(cellar: Cellar) -> None:
    page, visit = cellar.page, cellar.visit
    cellar.context.set_offline(True)
    page.reload()
    page.wait_for_selector(f"#visit-{visit}")  # the page comes from the phone
    box = f"#visit-{visit} "
    page.tap(box + "button:has-text('On the way')")
    page.tap(box + "button:has-text('Arrived')")
    page.set_input_files(
        f"#photo-before-{visit}",
        [{"name": f"{n}.png", "mimeType": "image/png", "buffer": picture(n * 20)} for n in range(5)],
    )
    page.wait_for_selector("#line[data-waiting='7']")
    page.set_input_files(
        f"#photo-after-{visit}",
        [{"name": f"{n}.png", "mimeType": "image/png", "buffer": picture(n * 20)} for n in range(5, 10)],
    )
    page.wait_for_selector("#line[data-waiting='12']")
    page.fill(f"#sku-{visit}", "PSU-1")
    page.keyboard.press("Enter")
    page.locator(box + ".tick input").first.check()
    page.fill(f"#minutes-{visit}", "50")
    page.tap(box + "button:has-text('Save') >> nth=0")
    page.fill(f"#left-{visit}", "Paint the door")
    page.tap(box + "button:has-text('Propose another visit')")
    page.wait_for_selector("#line[data-waiting='16']")
    page.tap(f"#sign-{visit} summary")
    pad = page.locator(box + ".pad")
    pad.scroll_into_view_if_needed()
    edges = pad.bounding_box()
    page.mouse.move(edges["x"] + 30, edges["y"] + 60)
    page.mouse.down()
    page.mouse.move(edges["x"] + 200, edges["y"] + 90, steps=5)
    page.mouse.up()
    page.fill(f"#signer-{visit}", "Clara")
    page.tap(f"#sign-{visit} button:has-text('Save')")
    page.wait_for_selector("#line[data-waiting='17']")
    page.tap(box + "button:has-text('Done')")
    page.wait_for_selector("#line[data-waiting='18']")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    with db.read() as session:
        assert session.scalars(select(FieldAction)).all() == []

    # the line comes back, and the answers to the first acts are lost on the way: they are sent again
    lost: list[str] = []

    def lose(route: Any) -> None:
        route.fetch()
        lost.append(route.request.post_data or "")
        route.abort() if len(lost) <= 2 else route.continue_()

    cellar.context.route("**/field/acts", lose)
    cellar.context.set_offline(False)
    page.wait_for_timeout(1500)
    cellar.context.unroute("**/field/acts")
    page.reload()
    page.wait_for_selector("#line[data-waiting='0']", timeout=60_000)
    assert len(lost) >= 1
    with db.read() as session:
        acts = session.scalars(select(FieldAction)).all()
        assert {one.state for one in acts} == {"applied"}
        kinds = Counter(one.kind for one in acts)
        assert kinds == {
            "on_the_way": 1, "working": 1, "done": 1, "photo": 10, "part": 1, "check": 1, "time": 1, "leftover": 1,
            "sign": 1,
        }  # fmt: skip
        assert len(session.scalars(select(VisitPicture)).all()) == 11
        assert session.get_one(Appointment, visit).state == "done"
        stock = session.scalars(select(Stock).join(Part).where(Part.sku == "PSU-1", Stock.technician_id > 0)).one()
        assert (stock.quantity, stock.reserved) == (2, 0)  # one used, the other free again
        follow = session.scalars(select(WorkOrder).where(WorkOrder.summary.endswith(": the rest"))).one()
        assert follow.due_at == session.get_one(WorkOrder, cellar.order).due_at
        signed = session.scalars(select(Evidence).where(Evidence.kind == "visit.signed")).one()
        assert signed.data["name"] == "Clara"
        (act,) = [one for one in acts if one.kind == "sign"]
        assert signed.data["signed_sha256"] == act.data["sha256"]
    sheet = cellar.context.request.get(f"{cellar.base}/field/{visit}/sheet.pdf")
    assert sheet.body().startswith(b"%PDF")


def test_both_versions_are_shown_when_a_dispatcher_changed_the_visit_meanwhile(cellar: Cellar) -> None:
    page, visit = cellar.page, cellar.visit
    cellar.context.set_offline(True)
    page.tap(f"#visit-{visit} button:has-text('Arrived')")
    page.wait_for_selector("#line[data-waiting='1']")
    with db.begin() as session:
        now, current = utc_now(), session.get_one(Appointment, visit)
        at = current.starts_at + timedelta(hours=3)
        visits.assign(
            session, cellar.order, current.technician_id, at, by="x", now=now, expected_version=current.version
        )
    cellar.context.set_offline(False)
    page.wait_for_selector(".conflict")
    assert "Mine" in page.inner_text(".conflict")
    assert "Theirs" in page.inner_text(".conflict")
    with db.read() as session:
        assert session.get_one(Appointment, visit).state == "confirmed"
    page.tap(".conflict button:has-text('Mine holds')")
    page.wait_for_selector(".conflict", state="detached")
    page.wait_for_selector("#line[data-waiting='0']")
    with db.read() as session:
        assert session.get_one(Appointment, visit).state == "working"
