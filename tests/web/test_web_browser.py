"""In a real browser: keys, forms that keep what was typed, live parts that catch up, a silent console."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import seed

from msp import db, events

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = Path(os.environ.get("MSP_TEST_CHROMIUM", "/usr/bin/chromium"))
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed (apt install chromium)"),
]
ROOT = Path(__file__).resolve().parents[2]
SERVE = """
import sys
from pathlib import Path
from msp.settings import Settings
from msp_web.server import run
run(Settings(data=Path(sys.argv[1]), port=int(sys.argv[2]), log_level="ERROR"), lambda url: print(url, flush=True))
"""


def serve(data: Path, port: int) -> "subprocess.Popen[str]":
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'web'}", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", SERVE, str(data), str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("http")
    return process


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str]:
    settings = seed.prepare(tmp_path_factory.mktemp("browsed"))
    with db.begin() as session:
        seed.fill(session)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return settings.data, port, settings.database_url


@pytest.fixture
def page(installed: tuple[Path, int, str]) -> Iterator["playwright.Page"]:
    data, port, url = installed
    db.use(url)
    server = serve(data, port)
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=arguments)
        try:
            opened = browser.new_page()
            opened.server, opened.base = server, f"http://127.0.0.1:{port}"  # type: ignore[attr-defined]
            opened.complaints = []  # type: ignore[attr-defined]
            opened.on("console", lambda m: opened.complaints.append(m.text))  # type: ignore[attr-defined]
            opened.goto(f"{opened.base}/log-in")  # type: ignore[attr-defined]
            opened.fill("#email", "admin@provider.example")
            opened.fill("#password", seed.PASSWORD)
            opened.click("form[action*='log-in'] button")
            opened.wait_for_url(lambda address: "/log-in" not in address)
            yield opened
        finally:
            browser.close()
            opened.server.kill()  # type: ignore[attr-defined]
            opened.server.wait()  # type: ignore[attr-defined]
            server.stdout.close()  # type: ignore[union-attr]


def test_keys_move_open_and_search(page: "playwright.Page") -> None:
    page.goto(f"{page.base}/assets/")
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.closest('tr').rowIndex") == 2
    page.keyboard.press("k")
    name = page.evaluate("document.activeElement.textContent")
    page.keyboard.press("Enter")
    page.wait_for_url("**/assets/1")
    assert page.inner_text("h1") == name
    page.keyboard.press("?")
    assert page.is_visible("#keys")
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("e")
    page.wait_for_url("**/evidence/")
    assert page.complaints == []


def test_a_refused_form_keeps_what_was_typed(page: "playwright.Page") -> None:
    page.goto(f"{page.base}/assets/new")
    page.fill("[name=name]", "alfa-hv1")
    page.fill("[name=address]", "typed.example")
    page.click("main form button.btn-primary")
    page.wait_for_selector(".form-error .notice")
    assert "already has an item named alfa-hv1" in page.inner_text(".form-error")
    assert page.input_value("[name=address]") == "typed.example"
    page.fill("[name=name]", "alfa-other")
    page.click("main form button.btn-primary")
    page.wait_for_url("**/assets/15")
    assert page.inner_text("h1") == "alfa-other"


LISTEN = """() => {
  const part = document.createElement("div");
  part.dataset.live = "/live/ticket:1"; part.dataset.liveAfter = "0"; window.told = [];
  part.addEventListener("live", (event) => window.told.push(event.detail.data.number));
  document.body.append(part); listenAll(part);
}"""


def test_a_page_says_that_the_line_is_down_and_catches_up_without_gaps(
    page: "playwright.Page", installed: tuple[Path, int, str]
) -> None:
    data, port, _ = installed

    def tell(number: int) -> None:
        with db.begin() as session:
            events.record(session, "ticket:1", "ticket.changed", client_id=1, data={"number": number})

    def told(wanted: list[int]) -> list[int]:
        for _ in range(60):
            found = [number for number in page.evaluate("window.told") if number]
            if found == wanted:
                break
            page.wait_for_timeout(250)
        return found

    page.goto(f"{page.base}/assets/")
    page.evaluate(LISTEN)
    tell(1)
    assert told([1]) == [1]
    page.server.kill()
    page.server.wait()
    tell(2)
    page.wait_for_selector("#live-bar:not([hidden])", timeout=10000)
    assert "lost" in page.inner_text("#live-bar")
    page.server.stdout.close()
    page.server = serve(data, port)
    tell(3)
    assert told([1, 2, 3]) == [1, 2, 3]
    assert "Connected again" in page.inner_text("#live-bar")
    page.server.kill()
    page.server.wait()
    page.server.stdout.close()
