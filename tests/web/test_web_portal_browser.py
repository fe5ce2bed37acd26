"""The portal on a phone, in a real browser: no page wider than the screen, one tap decides, an answer appears alone."""

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import portal_seed
import pytest
import seed
from test_web_browser import CHROMIUM, playwright, serve

from msp import db
from msp.desk import tickets
from msp.remote.models import Run

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed (apt install chromium)"),
]
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
PHONE = {"width": 390, "height": 844}


@dataclass(frozen=True)
class Phone:
    """A client's person at the portal."""

    page: Any
    base: str
    things: dict[str, int]
    complaints: list[str]

    def open(self, path: str) -> None:
        answer = self.page.goto(self.base + path)
        assert answer.status == 200, path


@pytest.fixture
def phone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phone]:
    settings = seed.prepare(tmp_path_factory.mktemp("phone"))
    things = portal_seed.prepare(settings)["alfa"]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server, base, complaints = serve(Path(settings.data), port), f"http://127.0.0.1:{port}", list[str]()
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        try:
            page = browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True).new_page()
            page.on("console", lambda message: complaints.append(message.text))
            page.goto(f"{base}/log-in")
            page.fill("#email", "boss@alfa.example")
            page.fill("#password", seed.PASSWORD)
            page.tap("form[action*='log-in'] button")
            page.wait_for_url("**/portal/")
            yield Phone(page, base, things, complaints)
        finally:
            browser.close()
            server.kill()
            server.wait()
            server.stdout.close()  # type: ignore[union-attr]


def test_the_portal_works_on_a_phone(phone: Phone) -> None:
    page, things = phone.page, phone.things
    paths = [
        "/portal/", f"/portal/approvals/{things['asked']}", "/portal/tickets", f"/portal/tickets/{things['full']}",
        f"/portal/tickets/{things['full']}/why", f"/portal/tickets/{things['solved']}", "/portal/tickets/new",
        "/portal/backups", f"/portal/backups/{things['erp']}", "/portal/visits", "/portal/contract",
        "/portal/evidence", f"/portal/evidence/{things['proof']}",
    ]  # fmt: skip
    for language in ("ru", "en"):
        page.locator(f"button[name=language][value={language}]").first.tap()
        page.wait_for_selector(f"html[lang={language}]")
        for path in paths:
            phone.open(path)
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= PHONE["width"], (path, language, wide)
        phone.open("/portal/")

    # an answer appears on the open page, and what is being typed stays
    phone.open(f"/portal/tickets/{things['full']}")
    page.wait_for_timeout(500)
    page.fill("#text", "half typed")
    with db.begin() as session:
        tickets.reply(session, things["full"], "It has space again.", by="tech@provider.example")
    page.wait_for_selector("text=It has space again.", timeout=10_000)
    assert page.input_value("#text") == "half typed"

    # one tap on the first page decides
    phone.open("/portal/")
    page.locator(f"form[action$='/approvals/{things['asked']}/approve'] button").tap()
    page.wait_for_selector(".notice")
    assert re.search("Approved", page.inner_text(".notice"))
    with db.read() as session:
        assert session.get_one(Run, things["asked"]).state == "queued"
    assert not phone.complaints
