"""A log of a million lines in a real browser: the middle, the end, a search, and what is printed meanwhile."""

import time
from pathlib import Path
from typing import Any

import pytest
from test_web_browser import installed, page, pytestmark  # noqa: F401  fixtures and marks of browser tests

from msp import db
from msp.clock import utc_now
from msp.remote.models import Run, RunHost

MILLION = 1_000_000
NUMBER = "document.querySelector('.long-log').viewer"


@pytest.fixture
def log(page: Any, installed: tuple[Path, int, str]) -> tuple[str, Path]:  # noqa: F811
    """A run that prints: (address of its log, the file it grows in)."""
    with db.begin() as session:
        run = Run(
            client_id=1, playbook="Copy", playbook_version="1", digest="ab" * 32, document="{}", action_class="read",
            actor="seed", state="running", parallel=50, requested_at=utc_now(), started_at=utc_now(),
        )  # fmt: skip
        session.add(run)
        session.flush()
        host = RunHost(run_id=run.id, asset_id=1, name="srv", position=0, state="running")
        session.add(host)
        session.flush()
        folder = installed[0] / "spool" / f"run-{run.id}"
        folder.mkdir(parents=True)
        address = f"{page.base}/runs/{run.id}/log?host={host.id}&step=1&phase=do&stream=stdout"
    file = folder / "00000-srv-1-do-1.stdout"
    begun = time.perf_counter()
    file.write_bytes(b"".join(b"%07d <b>copies</b> \x1b[31m\n" % number for number in range(MILLION)))
    assert time.perf_counter() - begun < 30, "the text of this test is made quickly on any machine"
    return address, file


def until(page: Any, condition: str) -> None:  # noqa: F811
    """Wait for a condition in the page, asked from outside: its policy lets no text become script."""
    for _ in range(400):
        if page.evaluate(condition):
            return
        time.sleep(0.05)
    pytest.fail(f"never came true: {condition}")


def shown(page: Any, number: int) -> None:  # noqa: F811
    page.wait_for_selector(f".log-rows li:has-text('{number:07d} <b>copies</b> \\\\x1b[31m')")


@pytest.mark.slow
def test_a_million_lines_scroll_search_and_grow(page: Any, log: tuple[str, Path]) -> None:  # noqa: F811
    address, file = log
    page.goto(address)
    until(page, f"{NUMBER}.total === {MILLION}")
    shown(page, MILLION - 1)  # it follows what is printed
    page.evaluate("const view = document.querySelector('.log-view'); view.scrollTop = view.scrollHeight / 2")
    until(page, f"Math.abs({NUMBER}.top - {MILLION // 2}) < 200")
    middle = int(page.evaluate(f"Math.ceil({NUMBER}.top)"))
    shown(page, middle)
    assert page.locator(".log-rows li").count() < 200
    assert not page.is_checked("[data-follow-log]")
    page.focus(".log-view")
    page.keyboard.press("ArrowDown")
    until(page, f"Math.ceil({NUMBER}.top) === {middle + 1}")
    page.fill("[data-log-words]", "0777777 <B>COPIES")
    page.keyboard.press("Enter")
    page.wait_for_selector(".log-rows li.hit:has-text('0777777')")
    assert page.inner_text(".log-rows li.hit mark") == "0777777 <b>copies"
    page.focus(".log-view")
    page.keyboard.press("End")
    shown(page, MILLION - 1)
    page.check("[data-follow-log]")
    with file.open("ab") as more:
        more.write(b"%07d <b>copies</b> \x1b[31m\n" % MILLION)
    shown(page, MILLION)
    assert page.locator(".log-rows b").count() == 0
    assert page.complaints == []


@pytest.mark.slow
def test_a_log_goes_on_after_the_server_was_away(page: Any, log: tuple[str, Path]) -> None:  # noqa: F811
    address, file = log
    page.goto(address)
    until(page, f"{NUMBER}.total === {MILLION}")
    page.context.set_offline(True)
    with file.open("ab") as more:
        for number in range(MILLION, MILLION + 1000):
            more.write(b"%07d <b>copies</b> \x1b[31m\n" % number)
    page.wait_for_selector(".long-log.lost", timeout=15_000)
    page.context.set_offline(False)
    until(page, f"{NUMBER}.total === {MILLION + 1000}")
    page.wait_for_selector(".long-log:not(.lost)")
    shown(page, MILLION + 999)
