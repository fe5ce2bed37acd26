"""The dispatch board: places by time, who could go with reasons, one of two dispatchers is told who was first."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from clicking import Browser
from flask import Flask
from sqlalchemy import select

from msp import db
from msp.clock import utc_now
from msp.desk import tickets
from msp.dispatch import visits
from msp.dispatch.models import Appointment, Shift, Technician, WorkOrder
from msp.dispatch.visits import Board, BoardRow, BoardVisit
from msp.flows import placing
from msp_web import day_board

LogIn = Callable[[str], Browser]
Ids = dict[str, dict[str, int]]
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
def browser(log_in: LogIn) -> Browser:
    return log_in("dispatch@provider.example")


@pytest.fixture
def order_id(app: Flask, ids: Ids) -> int:
    """A proposed work order and a technician, on shift from now, who can do it."""
    now = utc_now().replace(second=0, microsecond=0)
    alfa = ids["alfa"]
    with db.begin() as session:
        name = f"Wanda {now:%H%M%S} {session.query(Technician).count()}"
        technician = Technician(name=name, skills={"welding": 2}, latitude=52.5, longitude=13.4)
        session.add(technician)
        session.flush()
        session.add(Shift(technician_id=technician.id, starts_at=now, ends_at=now + timedelta(hours=9)))
        session.flush()
        order = visits.propose(
            session, client_id=alfa["client_id"], site_id=alfa["site_id"], summary="Weld the rack", now=now,
            duration=timedelta(hours=1), skills={"welding": 2}, due_at=now + timedelta(hours=8),
        )  # fmt: skip
        return order.id


def notice(page: str) -> str:
    """Return what a page says went wrong."""
    return page.partition('role="alert"')[2].partition("</div>")[0]


def chosen(page: str) -> dict[str, str]:
    """Return the fields of the first candidate's form, as a browser would send them."""
    form = page.partition('name="technician"')[2].partition("</form>")[0]
    technician = form.partition('value="')[2].partition('"')[0]
    begins = form.partition('name="starts_at" value="')[2].partition('"')[0]
    version = form.partition('name="version" value="')[2].partition('"')[0]
    return {"technician": technician, "starts_at": begins, "version": version}


def test_the_board_shows_technicians_and_what_nobody_does_yet(browser: Browser, order_id: int) -> None:
    page = browser.get("/dispatch/").text
    assert "Weld the rack" in page
    assert "welding 2" in page
    assert f"/dispatch/{order_id}" in page


def test_candidates_come_with_reasons_and_are_confirmed(browser: Browser, order_id: int) -> None:
    page = browser.get(f"/dispatch/{order_id}").text
    assert "Has the skills: welding 2." in page
    answer = browser.send(f"/dispatch/{order_id}/assign", **chosen(page))
    assert answer.status_code == 303, notice(answer.text)
    with db.read() as session:
        assert session.get_one(WorkOrder, order_id).state == "confirmed"


def test_the_second_of_two_dispatchers_is_told_who_was_first(browser: Browser, order_id: int) -> None:
    seen = chosen(browser.get(f"/dispatch/{order_id}").text)
    assert browser.send(f"/dispatch/{order_id}/assign", **seen).status_code == 303
    answer = browser.send(f"/dispatch/{order_id}/assign", **seen)
    assert answer.status_code == 409
    assert "Somebody else was first" in answer.text


def test_a_time_without_an_opening_is_refused_with_what_is_missing(browser: Browser, order_id: int) -> None:
    seen = chosen(browser.get(f"/dispatch/{order_id}").text)
    free_of_shifts = f"{utc_now() + timedelta(days=60):%Y-%m-%d}T03:00"
    answer = browser.send(f"/dispatch/{order_id}/assign", **{**seen, "starts_at": free_of_shifts})
    assert answer.status_code == 403
    assert "has no opening" in answer.text
    for unclear in ("soon", "9999-12-31T23:59"):
        assert browser.send(f"/dispatch/{order_id}/assign", **{**seen, "starts_at": unclear}).status_code == 422


def minutes(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M}+00:00"


@pytest.fixture
def promised(ids: Ids, order_id: int) -> tuple[int, dict[str, object], datetime]:
    """A visit of a ticket, confirmed in two hours, whose client was told that hour; with the form's fields."""
    at = utc_now().replace(second=0, microsecond=0) + timedelta(hours=2)
    with db.begin() as session:
        session.get_one(WorkOrder, order_id).ticket_id = ids["alfa"]["ticket_id"]
        current = visits.standing(session, order_id)
        who = session.scalars(select(Technician.id).order_by(Technician.id.desc())).first()  # has nothing else to do
        assert current is not None
        assert who is not None
        found = placing.place(
            session, order_id, who, at, by="x", now=utc_now(), expected_version=current.version,
            promised=(at, at + timedelta(hours=1)),
        )  # fmt: skip
        return order_id, {"technician": found.technician_id, "version": found.version}, at


def told(order: int) -> tuple[datetime, datetime | None, datetime | None]:
    with db.read() as session:
        visit = visits.standing(session, order)
        assert visit is not None
        return visit.starts_at, visit.promised_from, visit.promised_until


def entries(ticket: int) -> list[str]:
    with db.read() as session:
        return [entry.text or "" for entry in tickets.log_of(session, ticket)]


def test_a_told_window_is_left_only_if_the_client_agreed(
    browser: Browser, ids: Ids, promised: tuple[int, dict[str, object], datetime]
) -> None:
    order, seen, at = promised
    hour, address, ticket = timedelta(hours=1), f"/dispatch/{order}/assign", ids["alfa"]["ticket_id"]
    before, later = told(order), at + 2 * hour
    page = browser.get(f"/dispatch/{order}").text
    assert 'name="promised_from" value=""' in page
    assert 'name="renegotiated" value="1"' in page
    window = {"promised_from": minutes(later), "promised_until": minutes(later + hour)}
    inside = {"promised_from": minutes(at + hour / 2), "promised_until": minutes(at + 3 * hour / 2)}
    for start, fields in ((later, window), (later, {}), (at + hour / 2, inside)):
        answer = browser.send(address, **seen, **fields, starts_at=minutes(start))
        assert answer.status_code == 409
        assert "The client was told another window." in notice(answer.text)
    assert told(order) == before
    log = entries(ticket)
    answer = browser.send(address, **seen, **window, starts_at=minutes(later), renegotiated="1")
    assert answer.status_code == 303, notice(answer.text)
    assert told(order) == (later, later, later + hour)
    new = entries(ticket)[len(log) :]
    assert len(new) == 1
    assert " comes on " in new[0]


def test_a_told_window_stands_when_the_fields_are_empty(
    browser: Browser, promised: tuple[int, dict[str, object], datetime]
) -> None:
    order, seen, at = promised
    half = timedelta(minutes=30)
    empty = {"promised_from": "", "promised_until": "", "starts_at": minutes(at + half)}
    answer = browser.send(f"/dispatch/{order}/assign", **seen, **empty)
    assert answer.status_code == 303, notice(answer.text)
    assert told(order) == (at + half, at, at + 2 * half)


def test_a_visit_begins_in_the_window_that_is_told(browser: Browser, order_id: int) -> None:
    seen = chosen(browser.get(f"/dispatch/{order_id}").text)
    begins = utc_now() + timedelta(hours=6)
    window = {"promised_from": minutes(begins), "promised_until": minutes(begins + timedelta(hours=1))}
    answer = browser.send(f"/dispatch/{order_id}/assign", **seen, **window)
    assert answer.status_code == 422
    assert "outside of the window" in notice(answer.text)


def test_a_technician_looks_but_does_not_plan(log_in: LogIn, order_id: int) -> None:
    technician = log_in("tech@provider.example")
    assert "Who could go" not in technician.get(f"/dispatch/{order_id}").text
    assert technician.send(f"/dispatch/{order_id}/assign", technician="1").status_code == 403


def test_a_visit_is_carried_through(browser: Browser, log_in: LogIn, order_id: int) -> None:
    browser.send(f"/dispatch/{order_id}/assign", **chosen(browser.get(f"/dispatch/{order_id}").text))
    with db.read() as session:
        visit = session.query(Appointment).filter_by(work_order_id=order_id).one()
    technician = log_in("tech@provider.example")
    version = visit.version
    for state in ("on_the_way", "working", "done"):
        answer = technician.send(f"/dispatch/{order_id}/visits/{visit.id}", to=state, version=version)
        assert answer.status_code == 303, notice(answer.text)
        version += 1
    stale = technician.send(f"/dispatch/{order_id}/visits/{visit.id}", to="done", version=1)
    assert stale.status_code == 409
    with db.read() as session:
        assert session.get_one(WorkOrder, order_id).state == "done"


def test_pages_of_one_client_do_not_name_the_work_of_another(log_in: LogIn, ids: Ids, order_id: int) -> None:
    now = utc_now().replace(second=0, microsecond=0)
    with db.begin() as session:
        who = session.scalars(select(Technician.id).order_by(Technician.id.desc())).first()
        current = visits.standing(session, order_id)
        assert who is not None
        assert current is not None
        other = WorkOrder(client_id=ids["bravo"]["client_id"], site_id=ids["alfa"]["site_id"], summary="Bravo's secret",
                          created_at=now, duration=timedelta(hours=1))  # fmt: skip
        session.add(other)
        session.flush()
        at = now + timedelta(hours=1)
        visits.assign(session, other.id, who, at, by="x", now=now)
        visits.assign(session, order_id, who, at + timedelta(hours=1), by="x", now=now,
                      expected_version=current.version)  # fmt: skip
    begins = minutes(at)
    paths = (f"/dispatch/{order_id}", f"/dispatch/{order_id}/picker",
             f"/dispatch/{order_id}/feedback?technician={who}&starts_at={begins.replace('+', '%2B')}")  # fmt: skip
    limited, all_of_them = log_in("limited@provider.example"), log_in("dispatch@provider.example")
    for path in paths:
        page = limited.get(path)
        assert page.status_code == 200
        assert "is at another visit" in page.text, path
        assert "secret" not in page.text, path
        assert "secret" in all_of_them.get(path).text, path


def test_a_ticket_becomes_a_visit_only_with_a_reason(browser: Browser, ids: Ids) -> None:
    address = f"/dispatch/tickets/{ids['bravo']['ticket_id']}"
    assert browser.send(address, reason="").status_code == 422
    answer = browser.send(address, reason="The disk rattles.")
    assert answer.status_code == 303, notice(answer.text)
    assert "The disk rattles." in browser.get(answer.location).text


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25", "0001-01-01", "9999-12-31", "nonsense"])
def test_any_day_can_be_asked_for(browser: Browser, day: str) -> None:
    assert browser.get("/dispatch/", query_string={"day": day}).status_code == 200


def visit(begins: datetime, hours: float, state: str = "confirmed") -> BoardVisit:
    ends = begins + timedelta(hours=hours)
    appointment = Appointment(starts_at=begins, ends_at=ends, travel=timedelta(minutes=30), state=state)
    return BoardVisit(appointment, WorkOrder(summary="w"), "client", None, late=False)


def day_of(*found: BoardVisit, on: datetime, until: datetime) -> day_board.Day:
    row = BoardRow(Technician(name="T", skills={}), (), found)
    return day_board.draw(Board((row,)), on, until, on + timedelta(hours=13))


def test_a_visit_stands_where_its_time_is() -> None:
    midnight = datetime(2026, 3, 31, tzinfo=BERLIN)
    drawn = day_of(visit(midnight.replace(hour=10), 3), on=midnight, until=midnight + timedelta(days=1))
    bar = drawn.lanes[0].bars[0]
    assert (bar.x, bar.width) == (25.0, 25.0)  # 7 to 19 o'clock are shown
    assert bar.travel is not None
    assert [round(place, 2) for place in bar.travel] == [20.83, 4.17]
    assert drawn.now_x == 50.0


def test_the_day_of_the_clock_change_is_drawn_by_real_hours() -> None:
    midnight = datetime(2026, 3, 29, tzinfo=BERLIN)
    following = datetime(2026, 3, 30, tzinfo=BERLIN)
    night = visit(datetime(2026, 3, 29, 0, 30, tzinfo=UTC), 1.0)  # 1:30 to 3:30 on the wall, one hour long
    drawn = day_of(night, on=midnight, until=following)
    bar = drawn.lanes[0].bars[0]
    shown = (drawn.ends.astimezone(UTC) - drawn.begins.astimezone(UTC)) / timedelta(hours=1)
    assert bar.width == pytest.approx(100 / shown, abs=0.01)


def test_visits_that_overlap_stand_below_each_other_and_proposals_give_way() -> None:
    midnight = datetime(2026, 3, 31, tzinfo=BERLIN)
    ten = midnight.replace(hour=10)
    drawn = day_of(
        visit(ten, 2, "proposed"), visit(ten + timedelta(hours=1), 2), visit(ten + timedelta(hours=3), 1),
        on=midnight, until=midnight + timedelta(days=1),
    )  # fmt: skip
    assert [(bar.visit.appointment.state, bar.level) for bar in drawn.lanes[0].bars] == [
        ("proposed", 1), ("confirmed", 0), ("confirmed", 0),
    ]  # fmt: skip
    assert drawn.lanes[0].levels == 2


def test_an_undo_touches_no_visit_of_another_work_order(browser: Browser, order_id: int) -> None:
    with db.begin() as session:
        other = session.get_one(WorkOrder, order_id)
        technician = session.scalars(select(Technician).order_by(Technician.id.desc())).first()
        assert technician is not None
        begins = utc_now() + timedelta(hours=2)
        visit = placing.place(session, other.id, technician.id, begins, by="test", now=utc_now())
        mine = visits.propose(
            session, client_id=other.client_id, summary="Look at it", duration=timedelta(hours=1), now=utc_now()
        )
        version = visit.version
        number, mine_id = visit.id, mine.id
    answer = browser.send(f"/dispatch/{mine_id}/undo", visit=number, version=version)
    assert answer.status_code == 404
    with db.read() as session:
        assert session.get_one(Appointment, number).state == "confirmed"
