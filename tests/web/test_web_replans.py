"""A better plan as pages: asked for, ticked, accepted, undone; technicians with their users; the map and its policy."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from clicking import Browser
from flask import Flask
from sqlalchemy import select

from msp import db
from msp.clock import utc_now
from msp.contracts.models import Site
from msp.dispatch import technicians, visits
from msp.dispatch.models import Depot, Replan, Shift, Technician, WorkOrder
from msp.flows import placing
from msp.people import users
from msp.people.models import User

LogIn = Callable[[str], Browser]
Ids = dict[str, dict[str, int]]
HOUR = timedelta(hours=1)


@pytest.fixture
def browser(log_in: LogIn) -> Browser:
    return log_in("dispatch@provider.example")


@pytest.fixture
def replan(app: Flask, ids: Ids) -> tuple[int, int]:
    """A plan that is ready: one visit, that nobody makes, to somebody who can; returns the plan and the work order."""
    now = utc_now().replace(second=0, microsecond=0)
    with db.begin() as session:
        who = Technician(name=f"Paula {utc_now():%H%M%S%f}", skills={"plans": 1})
        session.add(who)
        session.flush()
        session.add(Shift(technician_id=who.id, starts_at=now, ends_at=now + 9 * HOUR))
        order = WorkOrder(client_id=ids["alfa"]["client_id"], summary="Plan the rack", created_at=now, duration=HOUR,
                          skills={"plans": 1})  # fmt: skip
        session.add(order)
        session.flush()
        at = now + 2 * HOUR
        change = {
            "kind": "new", "order": order.id, "appointment": None, "version": None, "technician": who.id,
            "starts_at": at.isoformat(), "ends_at": (at + HOUR).isoformat(), "was": None, "promise": "none", "late": 0,
            "was_late": 0, "reason": "",
        }  # fmt: skip
        figures = {"waiting": 1, "impossible": 0, "late": 0, "late_minutes": 0, "road": 0, "overtime": 0, "broken": 0}
        found = Replan(
            asked_by="dispatch@provider.example", asked_at=now, begins_at=now, ends_at=now + 24 * HOUR, seconds=5,
            state="ready", changes=[change],
            figures={"before": figures, "after": {**figures, "waiting": 0, "road": 60}},
        )  # fmt: skip
        session.add(found)
        session.flush()
        return found.id, order.id


@pytest.mark.usefixtures("engine")
def test_a_plan_is_asked_for_waits_for_a_worker_and_is_cancelled(browser: Browser) -> None:
    answer = browser.send("/dispatch/plans", days=1, seconds=5)
    assert answer.status_code == 303
    page = browser.get(answer.location).text
    assert "as soon as a worker is free" in page
    assert 'hx-trigger="every 1s"' in page
    assert "The planner is at work for dispatch@provider.example" in browser.get("/dispatch/").text
    gone = browser.send(f"{answer.location}/discard")
    assert gone.status_code == 303
    assert "put it away" in browser.get(gone.location).text


def test_days_that_are_over_are_refused_in_a_sentence(browser: Browser) -> None:
    answer = browser.send("/dispatch/plans?day=2020-01-01", days=1, seconds=5)
    assert answer.status_code == 303
    assert "These days are over." in browser.get(answer.location).text
    assert browser.send("/dispatch/plans", days=3, seconds=5).status_code == 422


def test_changes_are_shown_accepted_and_undone(browser: Browser, replan: tuple[int, int]) -> None:
    plan, order = replan
    page = browser.get(f"/dispatch/plans/{plan}").text
    assert "Plan the rack" in page
    assert "nobody goes yet" in page
    assert "plan-new" in page
    assert "waits for a decision: 1 change" in browser.get("/dispatch/").text
    assert browser.send(f"/dispatch/plans/{plan}/accept").status_code == 422  # nothing is ticked
    assert browser.send(f"/dispatch/plans/{plan}/accept", order=order).status_code == 303
    with db.read() as session:
        visit = visits.standing(session, order)
        assert visit is not None
        assert visit.state == "confirmed"
    second = browser.send(f"/dispatch/plans/{plan}/accept", order=order)
    assert second.status_code == 409
    assert "dispatch@provider.example was first" in second.text
    assert browser.send(f"/dispatch/plans/{plan}/undo").status_code == 303
    with db.read() as session:
        assert visits.standing(session, order) is None


def test_an_undo_asks_again_for_a_window_that_the_client_agreed_to_leave(
    browser: Browser, replan: tuple[int, int]
) -> None:
    plan, order = replan
    with db.begin() as session:
        found = session.get_one(Replan, plan)
        change, after = found.changes[0], found.begins_at + 5 * HOUR
        at = found.begins_at + 4 * HOUR
        visit = placing.place(session, order, change["technician"], at, by="x", now=utc_now(), promised=(at, after))
        was = {"technician": visit.technician_id, "starts_at": at.isoformat(), "ends_at": after.isoformat(),
               "promised": [at.isoformat(), after.isoformat()]}  # fmt: skip
        found.changes = [{**change, "kind": "move", "appointment": visit.id, "version": visit.version, "was": was,
                          "promise": "broken"}]  # fmt: skip
    assert browser.send(f"/dispatch/plans/{plan}/accept", order=order).status_code == 409
    assert browser.send(f"/dispatch/plans/{plan}/accept", order=order, agreed=order).status_code == 303
    page = browser.get(f"/dispatch/plans/{plan}").text
    assert f'name="agreed" value="{order}"' in page
    silent = browser.send(f"/dispatch/plans/{plan}/undo")
    assert silent.status_code == 409
    assert "Plan the rack: the client was told another window." in silent.text
    assert browser.send(f"/dispatch/plans/{plan}/undo", agreed=order).status_code == 303
    with db.read() as session:
        back = visits.standing(session, order)
        assert back is not None
        assert (back.starts_at, back.promised_from, back.promised_until) == (at, at, after)


def test_who_may_only_look_accepts_nothing(log_in: LogIn, replan: tuple[int, int]) -> None:
    tech = log_in("tech@provider.example")
    page = tech.get(f"/dispatch/plans/{replan[0]}")
    assert page.status_code == 200
    assert 'name="order"' not in page.text
    assert tech.send(f"/dispatch/plans/{replan[0]}/accept", order=replan[1]).status_code == 403


def test_a_plan_for_all_clients_is_not_there_for_somebody_with_some(log_in: LogIn, replan: tuple[int, int]) -> None:
    assert log_in("limited@provider.example").get(f"/dispatch/plans/{replan[0]}").status_code == 404


@pytest.mark.parametrize(
    ("text", "skills"),
    [
        ("Linux 3, hardware", {"linux": 3, "hardware": 1}),
        ("cisco  ios : 2;\nvoip:1", {"cisco ios": 2, "voip": 1}),
        ("tcp4", {"tcp": 4}),
        (" , ;\n", {}),
    ],
)
def test_skills_are_read_as_typed(text: str, skills: dict[str, int]) -> None:
    assert technicians.skills_from(text) == skills


def test_a_technician_is_linked_with_a_user_and_that_user_finds_the_phone_page(browser: Browser, log_in: LogIn) -> None:
    with db.begin() as session:
        user = session.scalars(select(User).where(User.email == "second@provider.example")).first()
        user = user or session.scalars(select(User).where(User.client_id.is_(None)).order_by(User.id.desc())).first()
        assert user is not None
        for one in session.scalars(select(Technician).where(Technician.user_id == user.id)):
            one.user_id = None
        ident = user.id
    person = {"name": "Lea  Link", "skills": "Linux 3, hardware", "latitude": "52,5", "longitude": "13.4",
              "time_zone": "Europe/Berlin", "active": "1", "user": ident}  # fmt: skip
    answer = browser.send("/dispatch/technicians/save", who="new", **person)
    assert answer.status_code == 303
    with db.read() as session:
        lea = session.scalars(select(Technician).where(Technician.name == "Lea Link")).one()
        assert (lea.user_id, lea.skills, lea.latitude) == (ident, {"linux": 3, "hardware": 1}, 52.5)
    again = browser.send("/dispatch/technicians/save", who="new", **{**person, "name": "Leo"})
    assert again.status_code == 409
    assert "is linked with Lea Link already" in again.text
    assert 'value="Leo"' in again.text  # what was typed stays
    long = {"skills": "a" + " " * 800 + ":x"}, {"skills": "linux " + "9" * 900}, {"skills": "a" * 1001}
    for wrong in (
        *long,
        {"skills": "linux 99"},
        {"skills": "3"},
        {"skills": "linux 003"},
        {"latitude": "north"},
        {"time_zone": "Mars"},
        {"name": " "},
    ):
        refused = browser.send("/dispatch/technicians/save", who=lea.id, **{**person, **wrong})
        assert refused.status_code == 422, wrong


def test_a_technician_keeps_a_user_that_is_locked_and_a_garbled_number_adds_nobody(browser: Browser) -> None:
    with db.begin() as session:
        name = f"Locked {utc_now():%H%M%S%f}"
        user = users.add(
            session, email=f"{name.replace(' ', '.')}@p.example", name=name, password="x" * 12, roles=["technician"],
            by="test",
        )  # fmt: skip
        user.active = False
        who = Technician(name=name, skills={}, time_zone="UTC", user_id=user.id)
        session.add(who)
        session.flush()
        ident, linked = who.id, user.id
    page = browser.get(f"/dispatch/technicians?who={ident}").text
    assert f'<option value="{linked}" selected>a user that is locked</option>' in page
    for garbled in ("abc", "", "9" * 30):
        answer = browser.send("/dispatch/technicians/save", who=garbled, name=f"{name} 2", time_zone="UTC")
        assert answer.status_code == 404
    with db.read() as session:
        assert session.scalars(select(Technician).where(Technician.name == f"{name} 2")).all() == []


def test_the_second_of_two_who_change_a_technician_is_told_and_keeps_what_was_typed(browser: Browser) -> None:
    with db.begin() as session:
        who = Technician(name=f"Bob {utc_now():%H%M%S%f}", skills={"linux": 1}, time_zone="UTC")
        session.add(who)
        session.flush()
        ident, name = who.id, who.name
    person = {"who": ident, "name": name, "skills": "linux 1", "time_zone": "UTC", "phone": "", "latitude": "",
              "longitude": ""}  # fmt: skip
    page = browser.get(f"/dispatch/technicians?who={ident}").text
    seen = page.partition('name="seen" value="')[2].partition('"')[0]
    assert len(seen) == 32
    assert browser.send("/dispatch/technicians/save", **person, seen=seen).status_code == 303  # not active any more
    for stale in ({"seen": seen}, {}):
        answer = browser.send("/dispatch/technicians/save", **{**person, **stale, "active": "1", "phone": "555-0199"})
        assert answer.status_code == 409
        assert "Somebody else has changed this technician meanwhile." in answer.text
        assert 'value="555-0199"' in answer.text
    wrong = browser.send("/dispatch/technicians/save", **{**person, "time_zone": "Mars"}, seen=seen)
    assert f'name="seen" value="{seen}"' in wrong.text  # what was seen first, not what stands now
    with db.read() as session:
        bob = session.get_one(Technician, ident)
        assert (bob.active, bob.phone) == (False, None)
        now = technicians.digest(bob)
    assert browser.send("/dispatch/technicians/save", **person, seen=now, active="1").status_code == 303


def test_shifts_repeat_on_the_technicians_clock_over_the_change_to_winter_time(browser: Browser) -> None:
    with db.begin() as session:
        who = Technician(name=f"Shifty {utc_now():%H%M%S%f}", time_zone="Europe/Berlin")
        session.add(who)
        session.flush()
        ident = who.id
    form = {"who": ident, "kind": "shift", "begins": "2031-10-24T08:00", "ends": "2031-10-24T17:00", "weeks": 1,
            "overtime": 30, "weekday": ["0", "4"]}  # fmt: skip
    assert browser.send("/dispatch/technicians/shifts", **form).status_code == 303
    assert browser.send("/dispatch/technicians/shifts", **form).status_code == 303  # pressed twice
    with db.read() as session:
        query = select(Shift).where(Shift.technician_id == ident).order_by(Shift.starts_at)
        found = session.scalars(query).all()
    assert [f"{one.starts_at:%a %H:%M}" for one in found] == ["Fri 06:00", "Mon 07:00"]
    assert {one.overtime for one in found} == {timedelta(minutes=30)}
    assert browser.send("/dispatch/technicians/shifts/remove", shift=found[0].id).status_code == 303
    backwards = browser.send("/dispatch/technicians/shifts", **{**form, "ends": "2031-10-24T07:00"})
    assert backwards.status_code == 422
    assert "ends before it begins" in backwards.text
    for wrong, words in (
        ({"begins": "0001-01-01T00:00"}, "The year 1 is out of reach."),
        ({"ends": "9999-12-31T23:59"}, "The year 9999 is out of reach."),
        ({"begins": "soon"}, "That is not a date and time."),
        ({"overtime": "999999999999999"}, "8 hours of overtime"),
        ({"weeks": "999999999999999"}, "At most 26 weeks"),
    ):
        refused = browser.send("/dispatch/technicians/shifts", **{**form, **wrong})
        assert refused.status_code == 422, wrong
        assert words in refused.text
    assert browser.send("/dispatch/technicians/shifts", **{**form, "weekday": ["", "01"]}).status_code == 303


def test_the_depot_has_a_place_and_technicians_may_not_change_it(browser: Browser, log_in: LogIn) -> None:
    form = {"name": "Main depot", "address": "Dock 1", "latitude": "52.5", "longitude": "13.5"}
    assert browser.send("/dispatch/technicians/depot", **form).status_code == 303
    with db.read() as session:
        assert session.scalars(select(Depot)).one().longitude == 13.5
    assert browser.send("/dispatch/technicians/depot", **{**form, "latitude": "95"}).status_code == 422
    assert log_in("tech@provider.example").send("/dispatch/technicians/depot", **form).status_code == 403


def test_the_map_lists_routes_and_asks_no_other_server(browser: Browser, app: Flask, ids: Ids) -> None:
    with db.begin() as session:
        site = session.get_one(Site, ids["alfa"]["site_id"])
        site.latitude, site.longitude = 52.5, 13.4
    answer = browser.get("/dispatch/map")
    assert answer.status_code == 200
    assert "Replace disk 2" in answer.text
    assert "img-src 'self';" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("https://tiles.example:8443/osm/{z}/{x}/{y}.png", "https://tiles.example:8443"),
        ("https://tiles.example/no-slots.png", ""),
        ("https://tiles.example;script-src *//{z}/{x}/{y}", ""),
        ("javascript:alert(1)//{z}{x}{y}", ""),
        ("", ""),
    ],
)
def test_tiles_widen_the_policy_for_their_one_host_alone(browser: Browser, app: Flask, address: str, host: str) -> None:
    kept = app.config["MSP_SETTINGS"]
    app.config["MSP_SETTINGS"] = replace(kept, map_tiles_url=address)
    try:
        policy = browser.get("/dispatch/map").headers["Content-Security-Policy"]
        other = browser.get("/dispatch/").headers["Content-Security-Policy"]
    finally:
        app.config["MSP_SETTINGS"] = kept
    images = next(part.strip() for part in policy.split(";") if "img-src" in part)
    assert images == f"img-src 'self' {host}".strip()
    assert policy.replace(f" {host}" if host else "\0", "") == other


def test_the_phone_page_is_installed_with_pictures_of_the_sizes_it_names(log_in: LogIn) -> None:
    tech = log_in("tech@provider.example")
    icons = tech.get("/field/manifest.webmanifest").get_json()["icons"]
    drawn = [one for one in icons if one["type"] == "image/png"]
    assert {(one["sizes"], one.get("purpose")) for one in drawn} == {
        ("192x192", None), ("512x512", None), ("512x512", "maskable"),
    }  # fmt: skip
    for one in drawn:
        picture = tech.get(one["src"]).data
        assert picture[:8] == b"\x89PNG\r\n\x1a\n"
        width, height = (int.from_bytes(picture[at : at + 4], "big") for at in (16, 20))
        assert f"{width}x{height}" == one["sizes"]
