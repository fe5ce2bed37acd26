"""Calendar addresses on the pages: shown once, read by whoever holds them, withdrawn by their owner."""

import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
import seed
from clicking import Browser
from flask import Flask
from sqlalchemy import select
from sqlalchemy.orm import Session

from msp import db
from msp.clock import utc_now
from msp.contracts.models import Site
from msp.dispatch import feeds
from msp.dispatch.models import Appointment, CalendarFeed, Handover, Technician, WorkOrder
from msp.people import users
from msp.people.models import Grant, User

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


@contextmanager
def changed(email: str) -> Iterator[User]:
    """Let a test change a person."""
    with db.begin() as session:
        yield users.by_email(session, email)


@pytest.fixture
def wanderer(app: Flask, ids: Ids) -> tuple[str, int, dict[str, int]]:
    """A technician granted Alfa alone who was sent to both clients: address, technician, visits by client."""
    now, email = utc_now(), f"{uuid.uuid4()}@provider.example"
    with db.begin() as session:
        user = users.add(session, email=email, name="W", password=seed.PASSWORD, roles=["technician"], by="test")
        session.add(Grant(user_id=user.id, client_id=ids["alfa"]["client_id"]))
        technician = Technician(name=email.split("@")[0], skills={}, user_id=user.id)
        session.add(technician)
        session.flush()
        found = {}
        for key in ("alfa", "bravo"):
            order = WorkOrder(
                client_id=ids[key]["client_id"], site_id=ids[key]["site_id"], summary=f"Look at {key}",
                duration=timedelta(hours=1), created_at=now, due_at=now + timedelta(hours=6),
            )  # fmt: skip
            session.add(order)
            session.flush()
            starts, ends = now + timedelta(hours=2), now + timedelta(hours=3)
            visit = Appointment(
                work_order_id=order.id, technician_id=technician.id, starts_at=starts, ends_at=ends,
                state="confirmed", version=2,
            )  # fmt: skip
            session.add(visit)
            session.flush()
            found[key] = visit.id
        return email, technician.id, found


def test_a_calendar_shows_what_its_maker_may_see_when_it_is_read(
    app: Flask, log_in: Callable, ids: Ids, wanderer: tuple[str, int, dict[str, int]]
) -> None:
    email, technician, visits = wanderer
    paths = []
    for asking in ("limited@provider.example", "dispatch@provider.example", email):
        browser = log_in(asking)
        assert browser.send("/dispatch/calendars/add", technician=technician).status_code == 303
        paths.append(address(browser.get("/dispatch/calendars").text))
    reader = app.test_client()
    for path, foreign in zip(paths, (False, True, False), strict=True):
        text = reader.get(path).text
        assert "SUMMARY:Alfa Foods: Look at alfa" in text
        assert ("SUMMARY:Bravo Steel: Look at bravo" in text) == foreign
        assert (f"visit-{visits['bravo']}-" in text) == foreign
    with db.begin() as session:  # both are handed on
        for ident in visits.values():
            visit = session.get_one(Appointment, ident)
            visit.technician_id = other(session)
            session.add(
                Handover(
                    appointment_id=ident, technician_id=technician, starts_at=visit.starts_at, ends_at=visit.ends_at,
                    version=3, at=utc_now(),
                )
            )  # fmt: skip
    for path, foreign in zip(paths, (False, True, False), strict=True):
        text = reader.get(path).text
        assert "SUMMARY:Look at alfa" in text
        assert ("SUMMARY:Look at bravo" in text) == foreign
    with changed(email) as person:
        person.active = False
    assert [reader.get(path).status_code for path in paths] == [200, 200, 404]


def other(session: Session) -> int:
    return session.scalars(select(Technician.id).where(Technician.name == "Boris")).one()


def test_a_calendar_ends_with_the_role_that_let_it_be_made(app: Flask, ids: Ids) -> None:
    email = "planner-for-a-day@provider.example"
    with db.begin() as session:
        users.add(session, email=email, name="P", password=seed.PASSWORD, roles=["dispatcher"], by="test")
        someone, site = session.scalars(select(Technician)).first(), session.scalars(select(Site)).first()
        _, word = feeds.make(session, by=email, now=utc_now(), technician=someone)
        _, of_site = feeds.make(session, by=email, now=utc_now(), site=site)
    reader = app.test_client()
    assert reader.get(f"/calendar/{word}.ics").status_code == 200
    assert reader.get(f"/calendar/{of_site}.ics").status_code == 404, "only a client's person holds one of a site"
    with db.begin() as session:
        person = users.by_email(session, email)
        person.roles = list(users.by_email(session, "keeper@provider.example").roles)
    assert reader.get(f"/calendar/{word}.ics").status_code == 404


def test_who_was_sent_to_a_client_can_do_that_visit_and_nothing_else_there(
    log_in: Callable[[str], Browser], wanderer: tuple[str, int, dict[str, int]]
) -> None:
    email, _, visits = wanderer
    browser = log_in(email)
    document = browser.get("/field/today.json").json
    assert {one["id"] for one in document["visits"]} == set(visits.values())
    act = {"kind": "time", "at": utc_now().isoformat(), "base": 2, "data": {"minutes": 5}}
    headers = {"X-CSRFToken": document["token"]}
    for ident in visits.values():
        answer = browser.post("/field/acts", json={**act, "id": str(uuid.uuid4()), "visit": ident}, headers=headers)
        assert (answer.status_code, answer.json["state"]) == (200, "applied"), answer.text
    with db.begin() as session:
        visit = session.get_one(Appointment, visits["bravo"])
        order, visit.state = visit.work_order_id, "done"
    assert browser.get(f"/field/{visits['bravo']}/sheet.pdf").status_code == 200
    assert browser.get(f"/dispatch/{order}").status_code == 404
    assert log_in("limited@provider.example").get(f"/field/{visits['bravo']}/sheet.pdf").status_code == 404
