"""The queue and the ticket: time left first, forms that keep what was typed, every act in the log."""

import csv
import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from clicking import Browser
from flask import Flask
from sqlalchemy import select

from msp import db
from msp.clock import utc_now
from msp.contracts.explain import Counted, NotCounted, Why
from msp.desk import tickets
from msp.desk.models import Ticket, TicketEvent
from msp_web import reckoning

LogIn = Callable[[str], Browser]
Ids = dict[str, dict[str, int]]
NOON = datetime(2026, 3, 31, 12, tzinfo=UTC)


@pytest.fixture
def browser(log_in: LogIn) -> Browser:
    return log_in("tech@provider.example")


@pytest.fixture
def ticket_id(app: Flask, ids: Ids) -> int:
    """A ticket on the contract's clock, opened half an hour ago."""
    alfa = ids["alfa"]
    opening = tickets.Opening(alfa["client_id"], "Mail stands still", "P2", asset_id=alfa["asset_id"])
    with db.begin() as session:
        return tickets.open_ticket(session, opening, by="seed", now=utc_now() - timedelta(minutes=30)).id


def log_of(ticket_id: int) -> list[TicketEvent]:
    with db.read() as session:
        return tickets.log_of(session, ticket_id)


def test_the_start_page_of_staff_is_the_queue(browser: Browser) -> None:
    assert browser.get("/").location == "/tickets"


def test_the_queue_shows_the_clock_and_the_four_counters(browser: Browser, ticket_id: int) -> None:
    page = browser.get("/tickets").text
    assert "Mail stands still" in page
    assert "first response" in page
    assert f"/tickets/{ticket_id}/why" in page
    assert page.count('class="counter ') == 4


def test_pages_of_the_queue_hold_every_ticket_once(app: Flask, browser: Browser, ids: Ids, ticket_id: int) -> None:
    with db.begin() as session:
        for number in range(60):
            opening = tickets.Opening(ids["alfa"]["client_id"], f"Paged {number:02d}", "P3")
            tickets.open_ticket(session, opening, by="seed", now=utc_now() - timedelta(minutes=number % 7))
    seen: list[str] = []
    address = "/tickets?q=Paged"
    while address:
        page = browser.get(address).text
        seen += [piece[:2] for piece in page.split("Paged ")[1:] if piece[:2].isdecimal()]
        rest = page.partition('rel="next"')[0].rpartition('href="')[2].partition('"')[0]
        address = rest.replace("&amp;", "&") if 'rel="next"' in page else ""
    assert sorted(seen) == [f"{number:02d}" for number in range(60)]


def test_filters_live_in_the_address_and_in_the_export(browser: Browser, ticket_id: int) -> None:
    exported = browser.get("/tickets/list.csv?q=Mail+stands&priority=P2").text
    rows = list(csv.DictReader(io.StringIO(exported.lstrip("\ufeff"))))
    assert {row["subject"] for row in rows} == {"Mail stands still"}
    assert "Nothing matches" in browser.get("/tickets?q=Mail+stands&priority=P1").text


@pytest.mark.parametrize("after", ["nonsense", "~", "2026-99-01~3", "~99999999999999999999"])
def test_a_broken_place_in_the_list_is_the_start(browser: Browser, after: str) -> None:
    assert browser.get("/tickets", query_string={"after": after}).status_code == 200


def test_assigning_many_says_beforehand_what_will_not_happen(browser: Browser, ticket_id: int, ids: Ids) -> None:
    with db.begin() as session:
        closed = tickets.open_ticket(session, tickets.Opening(ids["alfa"]["client_id"], "Old"), by="seed").id
        tickets.move(session, closed, "closed", by="seed")
    page = browser.get(f"/tickets/assign?id={ticket_id}&id={closed}&to=me").text
    assert "It is over." in page
    assert "Assign 1 ticket" in page
    answer = browser.send("/tickets/assign", id=[ticket_id, closed], to="me")
    assert answer.status_code == 303
    with db.read() as session:
        assert session.get_one(Ticket, ticket_id).assignee_id is not None
        assert session.get_one(Ticket, closed).assignee_id is None


def test_a_ticket_is_opened_on_the_contracts_clock(browser: Browser, ids: Ids) -> None:
    alfa = ids["alfa"]
    form = {"client": alfa["client_id"], "subject": "Lamp blinks", "priority": "P3", "kind": "incident"}
    answer = browser.send("/tickets/new", **form, channel="phone_by_agent", text="It blinks.", take="1")
    assert answer.status_code == 303
    with db.read() as session:
        ticket = session.scalars(select(Ticket).where(Ticket.subject == "Lamp blinks")).one()
        assert ticket.next_due_at is not None
        assert ticket.assignee_id is not None


def test_a_refused_form_of_a_new_ticket_keeps_what_was_typed(browser: Browser, ids: Ids) -> None:
    form = {"client": ids["alfa"]["client_id"], "priority": "P9", "kind": "incident", "channel": "portal"}
    answer = browser.send("/tickets/new", subject="Kept subject", text="Kept text", **form)
    assert answer.status_code == 422
    assert "P9" in answer.text
    assert "Kept subject" in answer.text
    assert "Kept text" in answer.text


def test_an_asset_of_another_client_cannot_be_named(log_in: LogIn, ids: Ids) -> None:
    browser = log_in("limited@provider.example")
    form = {"client": ids["alfa"]["client_id"], "asset": ids["bravo"]["asset_id"], "subject": "x"}
    assert browser.send("/tickets/new", **form).status_code == 404


def test_a_reply_meets_first_response_and_may_set_the_state(browser: Browser, ticket_id: int) -> None:
    answer = browser.send(f"/tickets/{ticket_id}/reply", text="We look.", then="waiting_client")
    assert answer.status_code == 303
    kinds = [(entry.kind, entry.public) for entry in log_of(ticket_id)]
    assert kinds[-2:] == [("agent_reply", True), ("state", True)]
    page = browser.get(f"/tickets/{ticket_id}").text
    assert "kept" in page
    assert "paused" in page


def test_a_note_is_not_public(browser: Browser, ticket_id: int) -> None:
    browser.send(f"/tickets/{ticket_id}/note", text="Between us.")
    assert not log_of(ticket_id)[-1].public
    assert "the client does not see this" in browser.get(f"/tickets/{ticket_id}?show=note").text


def test_a_handover_without_what_was_tried_keeps_what_was_typed(browser: Browser, ticket_id: int) -> None:
    answer = browser.send(f"/tickets/{ticket_id}/line", to="L2", reason="Needs a specialist", tried=" ")
    assert answer.status_code == 422
    assert "Needs a specialist" in answer.text
    assert all(entry.kind != "line" for entry in log_of(ticket_id))
    browser.send(f"/tickets/{ticket_id}/line", to="L2", reason="Needs a specialist", tried="Restarted twice")
    assert log_of(ticket_id)[-1].data["tried"] == "Restarted twice"


@pytest.mark.parametrize(
    ("act", "form", "kind"),
    [
        ("priority", {"to": "P1"}, "priority"),
        ("state", {"to": "resolved"}, "state"),
        ("assign", {"to": "me"}, "assigned"),
        ("message", {"text": "The client called."}, "customer_message"),
    ],
)
def test_every_act_stands_in_the_log(
    browser: Browser, ticket_id: int, act: str, form: dict[str, str], kind: str
) -> None:
    assert browser.send(f"/tickets/{ticket_id}/{act}", **form).status_code == 303
    assert log_of(ticket_id)[-1].kind == kind


def test_doing_it_twice_is_a_conflict_on_the_same_page(browser: Browser, ticket_id: int) -> None:
    browser.send(f"/tickets/{ticket_id}/state", to="resolved")
    answer = browser.send(f"/tickets/{ticket_id}/state", to="resolved")
    assert answer.status_code == 409
    assert "resolved already" in answer.text


def test_why_adds_up_to_the_target(browser: Browser, ticket_id: int) -> None:
    page = browser.get(f"/tickets/{ticket_id}/why").text
    assert "they add up to the target" in page
    assert "<svg" in page


def test_text_of_people_is_never_markup(browser: Browser, ticket_id: int) -> None:
    browser.send(f"/tickets/{ticket_id}/reply", text="<script>alert(1)</script>")
    page = browser.get(f"/tickets/{ticket_id}").text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def why(**changes: object) -> Why:
    values: dict[str, object] = {
        "name": "resolution", "clause": "", "calendar": "office", "zone": "UTC", "started_at": NOON, "due": None,
        "met_at": None, "breached": False, "paused": False, "stopped": None, "goal_s": 7200, "elapsed_s": 0,
        "counted_s": 0, "changes": (), "counted": (), "not_counted": (),
    }  # fmt: skip
    return Why(**{**values, **changes})  # type: ignore[arg-type]


def test_the_drawing_of_a_clock_places_spans_by_their_time(app: Flask) -> None:
    hour = timedelta(hours=1)
    reckoned = why(
        due=NOON + 4 * hour,
        counted=(Counted(NOON, NOON + hour, 3600), Counted(NOON + 3 * hour, NOON + 4 * hour, 3600)),
        not_counted=(NotCounted(NOON + hour, NOON + 3 * hour, "waiting_client", 7200),),
    )
    with app.test_request_context():
        drawn = reckoning.picture(reckoned, NOON + 2 * hour)
    assert drawn is not None
    assert [bar[:3] for bar in drawn.bars] == [(0, 250, "counted"), (750, 250, "counted"), (250, 500, "stop")]
    assert [(x, kind) for x, kind, _ in drawn.marks] == [(997, "due"), (500, "now")]


def test_a_clock_on_which_nothing_happened_has_no_drawing(app: Flask) -> None:
    with app.test_request_context():
        assert reckoning.picture(why(), NOON) is None
