"""The work pages in a real browser: parts that update in place, and take nothing from the reader."""

from pathlib import Path
from typing import Any

from test_web_browser import installed, page, pytestmark  # noqa: F401  fixtures and marks of browser tests

from msp import db, events
from msp.desk import tickets
from msp.desk.models import Ticket


def test_the_log_of_a_run_goes_on_as_text_and_never_as_markup(page: Any) -> None:  # noqa: F811
    page.goto(f"{page.base}/runs/1")
    said = {"host": "<b>host</b>", "step": 2, "name": "<img src=x>", "phase": "do", "outcome": "failed", "detail": "no"}
    with db.begin() as session:
        events.record(session, "run:1", "run.steps", client_id=1, data={"steps": [said, said], "hosts": []})
    page.wait_for_selector("#log li:has-text('<img src=x>')")
    assert "<b>host</b> 2. <img src=x> · action failed no" in page.inner_text("#log li:last-child")
    assert page.locator("#log li:has-text('<img src=x>')").count() == 2
    assert page.locator("#log img, #log b").count() == 0
    assert page.complaints == []


def test_what_comes_in_shows_at_once_and_a_draft_stays(page: Any, installed: tuple[Path, int, str]) -> None:  # noqa: F811
    with db.begin() as session:
        number = tickets.open_ticket(session, tickets.Opening(1, "Live one", "P2"), by="seed").id
    page.goto(f"{page.base}/tickets/{number}")
    page.fill("#reply-text", "half a reply")
    with db.begin() as session:
        tickets.client_message(session, number, "One more question", by="boss@alfa.example")
    page.wait_for_selector("#story :text('One more question')")
    assert page.input_value("#reply-text") == "half a reply"
    page.keyboard.press("Escape")
    page.keyboard.press("n")
    assert page.evaluate("document.activeElement.id") == "note-text"
    assert page.complaints == []


def test_the_queue_tells_of_a_new_order_and_moves_no_row(page: Any) -> None:  # noqa: F811
    with db.begin() as session:
        numbers = [tickets.open_ticket(session, tickets.Opening(1, f"Row {n}", "P3"), by="seed").id for n in range(3)]
    page.goto(f"{page.base}/tickets?q=Row")
    before = page.evaluate("inOrder(document)")
    page.check(f"[data-row='{numbers[2]}'] input")
    with db.begin() as session:
        tickets.set_priority(session, numbers[2], "P1", by="seed")
        assert session.get_one(Ticket, numbers[2]).next_due_at is not None
    page.evaluate("refreshQueue()")
    page.wait_for_selector("#changed:not([hidden])")
    assert page.evaluate("inOrder(document)") == before
    assert page.is_checked(f"[data-row='{numbers[2]}'] input")
