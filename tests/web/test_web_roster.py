"""The roster on a page, and the link of a notice: seen by whoever holds it, taken by a button, once."""

from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from sqlalchemy import delete, select

from msp import db
from msp.clock import utc_now
from msp.desk import roster
from msp.desk.models import Ticket
from msp.desk.roster import EscalationNotice, RosterDuty
from msp.flows import escalations
from msp.people.models import User
from msp.settings import Settings

Ids = dict[str, dict[str, int]]


@pytest.fixture
def notice(app: Flask, ids: Ids) -> Iterator[int]:
    with db.begin() as session:
        user = session.scalars(select(User).where(User.email == "tech@provider.example")).one()
        ticket = ids["bravo"]["ticket_id"]
        number = roster.tell(session, ticket, user.email, 0, "50% of its time is used up.", utc_now()).id
    yield number
    with db.begin() as session:
        session.execute(delete(EscalationNotice))
        session.get_one(Ticket, ticket).assignee_id = None


def test_a_turn_is_put_on_the_roster_for_weeks_and_taken_off(log_in: Callable, ids: Ids) -> None:
    browser = log_in("dispatch@provider.example")
    with db.read() as session:
        user = session.scalars(select(User).where(User.email == "tech@provider.example")).one()
    turn = {"user_id": user.id, "level": "0", "lines": ["L1", "L2"], "weeks": "2"}
    times = {"begins_at": "2099-03-04T08:00", "ends_at": "2099-03-04T20:00"}
    assert browser.send("/roster/add", **turn, **times).status_code == 303
    page = browser.get("/roster")
    assert page.text.count("L1, L2") == 2
    with db.read() as session:
        duties = list(session.scalars(select(RosterDuty)))
    for duty in duties:
        assert browser.send("/roster/remove", duty=duty.id).status_code == 303
    assert "L1, L2" not in browser.get("/roster").text
    for wrong in ({"level": "9"}, {"weeks": "0"}, {"user_id": "x"}, {"lines": ["L9"]}, {"ends_at": "2099-01-01T00:00"}):
        assert browser.send("/roster/add", **{**turn, **times, **wrong}).status_code == 422, wrong
    assert log_in("tech@provider.example").send("/roster/add", **turn, **times).status_code == 403


def test_a_link_shows_its_ticket_without_log_in_and_is_taken_once(
    app: Flask, settings: Settings, ids: Ids, notice: int
) -> None:
    browser = app.test_client()
    path = f"/notices/{escalations.token(settings, notice)}"
    for _ in range(2):  # a mail scanner follows it
        page = browser.get(path)
        assert (page.status_code, "I take it" in page.text) == (200, True)
    assert browser.send(path).status_code == 303
    assert "has taken it" in browser.get(path).text
    assert browser.send(path).status_code == 409
    with db.read() as session:
        assert session.get_one(Ticket, ids["bravo"]["ticket_id"]).assignee_id is not None


@pytest.mark.parametrize("token", ["1", "1-", "x", "1-" + "0" * 40, "9" * 40])
def test_a_forged_link_leads_nowhere(app: Flask, notice: int, token: str) -> None:
    browser = app.test_client()
    browser.get("/log-in")
    assert browser.get(f"/notices/{token}").status_code == 404
    assert browser.send(f"/notices/{token}").status_code == 404


def test_notices_about_foreign_clients_are_not_on_the_page(log_in: Callable, notice: int) -> None:
    assert "bravo" in log_in("dispatch@provider.example").get("/roster").text
    assert "bravo" not in log_in("limited@provider.example").get("/roster").text.lower()


def test_an_item_says_what_covers_it(log_in: Callable, ids: Ids) -> None:
    page = log_in("tech@provider.example").get(f"/assets/{ids['alfa']['asset_id']}").text
    assert "Is it covered now?" in page
    assert "MSP-ALFA-1" in page
