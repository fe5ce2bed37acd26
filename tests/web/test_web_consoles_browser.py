"""In a real browser: a terminal and a screen driven end to end, both recordings played back, a withdrawal felt."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import console_stage
import pytest
import seed
import sshd
import vnc
from console_stage import ADMIN, PLANTED, TECH, Person, Stage
from test_web_browser import CHROMIUM, playwright
from winrm_places import Places

from msp import db

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed (apt install chromium)"),
    pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing() or "never"),
]
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
#: What the terminal of a page shows, as text.
TERMINAL = "(view) => { if (!view) return ''; const b = view.buffer.active; let t = ''; for (let i = 0; i < b.length; i++) t += (b.getLine(i)?.translateToString(true) ?? '') + '\\n'; return t; }"  # noqa: E501  one expression
#: Whether the screen of a page is red somewhere in its middle.
RED = "() => { const c = document.querySelector('canvas'); if (!c?.width) return 0; const p = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let n = 0; for (let i = 0; i < p.length; i += 4) n += p[i] > 200 && p[i + 1] < 60 && p[i + 2] < 60; return n; }"  # noqa: E501


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("browsed-consoles")
    with sshd.running(folder / "sshd", options="ForceCommand /bin/sh") as machine:
        stage = console_stage.prepare(folder / "installed")
        stage.ids["box"] = console_stage.add_terminal(
            stage,
            "box",
            port=machine.port,
            user=machine.user,
            key=machine.key_file.read_text(),
            host_key=machine.host_key,
        )
        with console_stage.served(stage):
            yield stage


@contextmanager
def browsing(stage: Stage, email: str, **size: int) -> Iterator[Any]:
    """A page of a person who has logged in. Its `complaints` are what the browser said on its console."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1440, "height": 900} | size)
        page.complaints = []
        page.on("console", lambda said: page.complaints.append(said.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.goto(f"{stage.base}/log-in")
        page.fill("#email", email)
        page.fill("#password", seed.PASSWORD)
        page.click("form[action*='log-in'] button")
        page.wait_for_url(lambda address: "/log-in" not in address)
        try:
            yield page
        finally:
            browser.close()


def shows(page: Any, words: str, view: str = "consoleView", seconds: float = 10) -> str:
    """Return what the terminal of a page shows once `words` stand there."""
    end = time.monotonic() + seconds
    text = ""
    while time.monotonic() < end:
        text = page.evaluate(f"({TERMINAL})(window.{view})")
        if words in text:
            return text
        time.sleep(0.1)
    raise AssertionError(f"{words!r} is not shown:\n{text.strip()}")


def play_to_the_end(page: Any) -> None:
    page.wait_for_selector("[data-player][data-ready]")
    page.select_option("#speed", "16")
    page.click("[data-toggle]")
    page.wait_for_selector("[data-player][data-state=ended]", timeout=30_000)


def test_a_terminal_is_driven_ended_and_played_back_from_its_ticket(stage: Stage) -> None:
    db.use(stage.settings.database_url)
    with browsing(stage, TECH) as page:
        page.goto(f"{stage.base}/assets/{stage.ids['box']}")
        assert "Technicians may work at the machines." in page.inner_text("#consoles")
        page.select_option("#console-ticket-terminal", "")  # a quick look opens its own ticket
        page.click("#consoles button")
        page.wait_for_selector(".console.live")
        assert page.inner_text("[data-state]") == "Being recorded"
        page.keyboard.type(f"echo sum-$((40+2)); echo {PLANTED[:9]}''{PLANTED[9:]}\n")
        assert PLANTED in shows(page, PLANTED)
        assert "sum-42" in shows(page, "sum-42")
        wide = int(page.evaluate("window.consoleView.cols"))
        page.set_viewport_size({"width": 390, "height": 800})
        page.wait_for_function(f"() => window.consoleView.cols < {wide}")
        page.keyboard.type("stty size\n")
        narrow = page.evaluate("`${window.consoleView.rows} ${window.consoleView.cols}`")
        shows(page, narrow)
        assert page.is_visible("[data-end] button")
        page.set_viewport_size({"width": 1440, "height": 900})
        page.keyboard.press("Control+Shift+F10")
        assert page.evaluate("document.activeElement.closest('[data-end]') !== null"), "the keyboard is not given back"
        page.keyboard.press("Enter")
        page.wait_for_selector("[data-over]:not([hidden])")
        console = stage.newest()
        page.goto(f"{stage.base}/tickets/{console.ticket_id}")
        page.click(f"#story a[href='/consoles/{console.id}'] >> nth=-1")
        play_to_the_end(page)
        text = shows(page, "sum-42", "replayView")
        assert PLANTED not in text
        assert "***" in text
        page.evaluate("window.replayGo(0)")  # back to the beginning: nothing is shown yet, or only the prompt
        page.wait_for_function(f"() => !({TERMINAL})(window.replayView).includes('sum-42')")
        page.locator("[data-seek]").fill(page.locator("[data-seek]").get_attribute("max"))
        shows(page, "sum-42", "replayView")
        with page.expect_download() as download:
            page.click("a[href*='keep=1']")
        kept = Path(download.value.path()).read_text("utf-8")
        assert kept.startswith('{"version": 2')
        assert PLANTED not in kept
        assert page.complaints == []


def test_powershell_is_driven_by_lines_left_and_played_back(stage: Stage, peers: Places) -> None:
    db.use(stage.settings.database_url)
    number = console_stage.add_windows(stage, "win", peers.target(tls=True))
    with browsing(stage, TECH) as page:
        page.goto(f"{stage.base}/assets/{number}")
        page.click("#consoles button")
        page.wait_for_selector(".console.live")
        assert "variables are not" in page.inner_text("#console-hint"), "what WinRM cannot do is said"
        shows(page, "PS />")
        page.keyboard.type("cd /usr\n")
        shows(page, "PS /usr>")
        page.keyboard.type(f"echo sum-$((40+1)); echo {PLANTED}\n")
        shows(page, "sum-41")
        page.keyboard.press("ArrowUp")
        page.keyboard.press("ArrowUp")
        assert "PS /usr> cd /usr" in shows(page, "PS /usr> cd /usr")
        page.keyboard.press("Control+c")
        page.keyboard.type("sleep 60\n")
        page.keyboard.press("Control+c")
        shows(page, "sleep 60\n^C\nPS /usr>")
        page.keyboard.type("exit\n")
        page.wait_for_selector("[data-over]:not([hidden])")
        assert page.inner_text("[data-detail]") == "The person left it."
        page.goto(f"{stage.base}/consoles/{stage.newest().id}")
        play_to_the_end(page)
        text = shows(page, "sum-41", "replayView")
        assert PLANTED not in text
        assert "***" in text
        assert page.complaints == []


@pytest.mark.skipif(bool(vnc.missing()), reason=vnc.missing() or "never")
def test_a_screen_is_driven_ended_and_played_back(stage: Stage, tmp_path: Path) -> None:
    db.use(stage.settings.database_url)
    with vnc.tigervnc(tmp_path / "vnc") as screen, browsing(stage, TECH) as page:
        number = console_stage.add_screen(stage, "desk", port=screen.port, password=vnc.PASSWORD)
        screen.show("xterm", "-geometry", "78x20+0+0", "-bg", "red", "-e", "sh", "-c", "cat > typed.txt; sleep 60")
        page.goto(f"{stage.base}/assets/{number}")
        page.click("#consoles button")
        page.wait_for_selector(".console.live")
        page.wait_for_function(f"() => ({RED})() > 10000")
        page.mouse.click(600, 300)
        page.keyboard.type("typed in the browser")
        page.keyboard.press("Enter")
        page.keyboard.press("Control+d")
        for _ in range(100):
            if (screen.folder / "typed.txt").read_text():
                break
            time.sleep(0.1)
        assert (screen.folder / "typed.txt").read_text() == "typed in the browser\n"
        time.sleep(2.5)  # the second picture
        page.click("[data-end] button")
        page.wait_for_selector("[data-over]:not([hidden])")
        assert "Closed by the person who opened it." in page.inner_text("[data-detail]")
        page.click("[data-over] a.btn-primary")
        page.wait_for_selector("[data-player][data-ready]")
        assert page.evaluate(RED) < 10000, "the end is shown before it was played"
        play_to_the_end(page)
        page.wait_for_function(f"() => ({RED})() > 10000")
        pictures = page.locator(".filmstrip button")
        assert pictures.count() >= 1
        page.evaluate("window.replayGo(0)")
        page.wait_for_function(f"() => ({RED})() < 10000")
        pictures.last.click()
        page.wait_for_function(f"() => ({RED})() > 10000")
        whole = b"".join(path.read_bytes() for path in stage.settings.recordings_path.rglob("*.rfb"))
        assert vnc.PASSWORD.encode() not in whole
        assert b"typed in" not in whole
        assert page.complaints == []


def test_a_withdrawn_admission_takes_the_terminal_from_the_page_within_two_seconds(stage: Stage) -> None:
    db.use(stage.settings.database_url)
    admin = Person(stage, ADMIN)
    with browsing(stage, TECH) as page:
        page.goto(f"{stage.base}/tickets/{stage.ids['ticket_id']}")
        page.goto(f"{stage.base}/assets/{stage.ids['box']}")
        page.click("#consoles button")
        page.wait_for_selector(".console.live")
        console = stage.newest()
        assert admin.ask(f"/consoles/{console.id}/end", back="list").status == 303
        begun = time.monotonic()
        page.wait_for_selector("[data-over]:not([hidden])")
        assert time.monotonic() - begun < 2
        assert f"{ADMIN} withdrew the admission." in page.inner_text("[data-detail]")
        page.keyboard.type("echo after-$((1+1))\n")
        page.reload()  # the page of a used admission is its recording, not a second way in
        assert page.locator("[data-console]").count() == 0
        assert page.locator("[data-player]").count() == 1


def test_a_lost_line_is_told_and_the_way_back_is_a_button(stage: Stage) -> None:
    db.use(stage.settings.database_url)
    with browsing(stage, TECH, width=390, height=800) as page:
        page.goto(f"{stage.base}/assets/{stage.ids['box']}")
        page.click("#consoles button")
        page.wait_for_selector(".console.live")
        first = stage.newest().id
        page.evaluate("window.consoleLine.close()")
        page.wait_for_selector("[data-over]:not([hidden])")
        page.click("[data-over] form button")
        page.wait_for_selector(".console.live")
        assert stage.newest().id == first + 1
        page.keyboard.type("echo again-$((1+1))\n")
        shows(page, "again-2")


def test_who_looks_sees_what_is_recorded_and_the_person_is_told_who_looks(stage: Stage) -> None:
    db.use(stage.settings.database_url)
    with browsing(stage, TECH) as page:
        page.goto(f"{stage.base}/assets/{stage.ids['box']}")
        page.click("#consoles button")
        page.wait_for_selector(".console.live")
        page.keyboard.type("echo before-$((1+1))\n")
        shows(page, "before-2")
        console = stage.newest()
        other = page.context.browser.new_page()
        other.goto(f"{stage.base}/log-in")
        other.fill("#email", ADMIN)
        other.fill("#password", seed.PASSWORD)
        other.click("form[action*='log-in'] button")
        other.wait_for_url(lambda address: "/log-in" not in address)
        other.goto(f"{stage.base}/consoles/{console.id}")
        shows(other, "before-2", "replayView")
        page.wait_for_selector("[data-watchers]:has-text('watching: Admin')")
        page.keyboard.type(f"echo {PLANTED[:9]}''{PLANTED[9:]} after-$((1+1))\n")
        text = shows(other, "after-2", "replayView")
        assert PLANTED not in text
        other.close()
        page.wait_for_function("() => !document.querySelector('[data-watchers]').textContent", timeout=15_000)
        page.click("[data-end] button")
        page.wait_for_selector("[data-over]:not([hidden])")
        assert [one.kind for one in stage.evidence(console.id)].count("console.watched") == 1
