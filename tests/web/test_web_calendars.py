"""Calendar addresses on the pages: shown once, read by whoever holds them, withdrawn by their owner."""

import re
from collections.abc import Callable

from flask import Flask
from sqlalchemy import select

from msp import db
from msp.contracts.models import Site
from msp.dispatch.models import CalendarFeed, Technician

Ids = dict[str, dict[str, int]]


def address(page: str) -> str:
    found = re.search(r"https?://[^\"]+(/calendar/[\w-]+\.ics)", page)
    assert found, page[:2000]
    return found[1]


def test_an_address_is_shown_once_and_read_without_log_in(app: Flask, log_in: Callable, ids: Ids) -> None:
    planner = log_in("dispatch@provider.example")
    with db.read() as session:
        someone = session.scalars(select(Technician)).first()
    assert someone is not None
    assert planner.send("/dispatch/calendars/add", technician=someone.id).status_code == 303
    path = address(planner.get("/dispatch/calendars").text)
    assert "/calendar/" not in planner.get("/dispatch/calendars").text
    reader = app.test_client()
    answer = reader.get(path)
    assert (answer.status_code, answer.mimetype) == (200, "text/calendar")
    assert answer.data.startswith(b"BEGIN:VCALENDAR\r\n")
    assert reader.get(path, headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304
    with db.read() as session:
        feed = session.scalars(select(CalendarFeed).order_by(CalendarFeed.id.desc())).first()
    assert feed is not None
    assert log_in("tech@provider.example").send("/dispatch/calendars/withdraw", feed=feed.id).status_code == 404
    assert planner.send("/dispatch/calendars/withdraw", feed=feed.id).status_code == 303
    assert reader.get(path).status_code == 404


def test_a_client_subscribes_to_its_own_sites_alone(app: Flask, log_in: Callable, ids: Ids) -> None:
    with db.read() as session:
        sites = {one.client_id: one.id for one in session.scalars(select(Site))}
    own, foreign = sites[ids["alfa"]["client_id"]], sites[ids["bravo"]["client_id"]]
    browser = log_in("user@alfa.example")
    assert browser.send("/portal/visits/calendar", site=foreign).status_code == 404
    assert browser.send("/portal/visits/calendar", site="x").status_code == 422
    assert browser.send("/portal/visits/calendar", site=own).status_code == 303
    path = address(browser.get("/portal/visits").text)
    assert app.test_client().get(path).status_code == 200
    with db.read() as session:
        feed = session.scalars(select(CalendarFeed).where(CalendarFeed.site_id == own)).one()
    assert log_in("boss@bravo.example").send("/portal/visits/calendar/withdraw", feed=feed.id).status_code == 404
    assert browser.send("/portal/visits/calendar/withdraw", feed=feed.id).status_code == 303
    assert app.test_client().get(path).status_code == 404
