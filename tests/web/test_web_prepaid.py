"""A visit beyond the prepaid hours on pages: who must agree sees the price, and nobody promises it before."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from uuid import uuid4

import pytest
from clicking import Browser
from flask import Flask
from sqlalchemy import select, update

from msp import db
from msp.clock import utc_now
from msp.contracts.models import HourBlock
from msp.dispatch import visits
from msp.dispatch.models import Appointment, Shift, Technician, WorkOrder
from msp.evidence import Evidence
from msp.flows import prepaid

LogIn = Callable[[str], Browser]
Ids = dict[str, dict[str, int]]
HOUR = timedelta(hours=1)
UNAGREED = "Nobody has agreed to that yet."
PRICE = "30 min at 95.00 EUR an hour, 47.50 EUR."


@pytest.fixture
def order(app: Flask, ids: Ids) -> Iterator[int]:
    """A visit of an hour that is proposed, with half an hour left of the client's block."""
    now, alfa = utc_now().replace(second=0, microsecond=0), ids["alfa"]
    with db.begin() as session:
        going = Technician(name=f"Greta {uuid4().hex[:8]}", skills={"glazing": 1}, latitude=52.5, longitude=13.4)
        session.add(going)
        session.flush()
        session.add(Shift(technician_id=going.id, starts_at=now, ends_at=now + 40 * HOUR))
        session.flush()
        found = visits.propose(
            session, client_id=alfa["client_id"], site_id=alfa["site_id"], summary="Glaze the rack", now=now,
            duration=HOUR, skills={"glazing": 1}, due_at=now + 48 * HOUR, ticket_id=alfa["ticket_id"],
        )  # fmt: skip
        held = visits.standing(session, found.id)
        assert held is not None
        for left in range(60 * 24, -1, -30):  # what other visits of the client were promised is not free
            session.execute(update(HourBlock).values(balance_minutes=left))
            asked = prepaid.question(session, found, held.starts_at)
            if asked is not None and asked.beyond.over == 30:
                break
        else:
            pytest.fail("The block is never half an hour short.")
        number = found.id
    yield number
    with db.begin() as session:
        session.execute(update(HourBlock).values(balance_minutes=1330))
        session.execute(update(Appointment).where(Appointment.work_order_id == number).values(state="cancelled"))
        session.execute(update(WorkOrder).where(WorkOrder.id == number).values(state="cancelled"))


def fields(page: str) -> dict[str, str]:
    """Return the fields of the first candidate's form, as a browser would send them."""
    form = page.partition('name="technician"')[2].partition("</form>")[0]
    found = {"technician": form.partition('value="')[2].partition('"')[0]}
    for name in ("starts_at", "version"):
        found[name] = form.partition(f'name="{name}" value="')[2].partition('"')[0]
    return found


def state(order: int) -> str:
    with db.read() as session:
        return session.get_one(WorkOrder, order).state


def yeses(order: int) -> list[str]:
    with db.read() as session:
        query = select(Evidence).where(Evidence.kind == prepaid.AGREED, Evidence.subject_id == str(order))
        return [row.actor for row in session.scalars(query)]


def test_a_dispatcher_sees_the_price_and_cannot_confirm_before_a_yes(log_in: LogIn, order: int) -> None:
    dora, max_ = log_in("dispatch@provider.example"), log_in("manager@provider.example")
    page = dora.get(f"/dispatch/{order}").text
    assert PRICE in page
    assert f"/dispatch/{order}/agree" not in page
    answer = dora.send(f"/dispatch/{order}/assign", **fields(page))
    assert answer.status_code == 403
    assert UNAGREED in answer.text
    assert dora.send(f"/dispatch/{order}/agree", amount="47.50", word="Clara").status_code == 403
    assert (state(order), yeses(order)) == ("proposed", [])

    assert f"/dispatch/{order}/agree" in max_.get(f"/dispatch/{order}").text
    assert max_.send(f"/dispatch/{order}/agree", amount="47.50").status_code == 422
    assert max_.send(f"/dispatch/{order}/agree", amount="47.50", word="Clara by phone").status_code == 303
    page = dora.get(f"/dispatch/{order}").text
    assert "manager@provider.example agreed to up to" in page
    assert "Clara by phone" in page
    assert dora.send(f"/dispatch/{order}/assign", **fields(page)).status_code == 303
    assert (state(order), yeses(order)) == ("confirmed", ["manager@provider.example"])


def test_a_drop_on_the_board_and_a_window_on_the_phone_ask_too(log_in: LogIn, order: int) -> None:
    dora = log_in("dispatch@provider.example")
    seen = fields(dora.get(f"/dispatch/{order}").text)
    verdict = dora.get(f"/dispatch/{order}/feedback", query_string=seen).get_json()
    assert any(PRICE in one for one in verdict["breaks"])
    assert UNAGREED in verdict["breaks"]
    assert dora.send(f"/dispatch/{order}/place", **seen).status_code == 403
    page = dora.get(f"/dispatch/{order}/slots").text
    assert PRICE in page
    begins = re.search(r'name="begins" value="([^"]+)"', page)
    assert begins
    answer = dora.send(f"/dispatch/{order}/slots", begins=begins[1])
    assert answer.status_code == 403
    assert UNAGREED in answer.text
    assert state(order) == "proposed"
    max_ = log_in("manager@provider.example")
    assert max_.send(f"/dispatch/{order}/agree", amount="47.50", word="Clara").status_code == 303
    verdict = dora.get(f"/dispatch/{order}/feedback", query_string=seen).get_json()
    assert verdict["breaks"] == []
    assert any(PRICE in one for one in verdict["warns"])


def test_the_client_ticks_that_it_agrees_before_it_books(log_in: LogIn, order: int) -> None:
    boss, user = log_in("boss@alfa.example"), log_in("user@alfa.example")
    assert "Glaze the rack" in boss.get("/portal/").text.partition('id="needed"')[2].partition("</section>")[0]
    page = boss.get(f"/portal/visits/{order}/book").text
    assert PRICE in page
    tick = re.search(r'name="agreed" value="([^"]+)" required', page)
    begins = re.search(r'name="begins" value="([^"]+)"', page)
    assert tick
    assert begins
    answer = boss.send(f"/portal/visits/{order}/book", begins=begins[1])
    assert answer.status_code == 403
    assert UNAGREED in answer.text

    theirs = user.get(f"/portal/visits/{order}/book").text
    assert "Your approver decides this." in theirs
    assert 'name="begins"' not in theirs
    assert user.send(f"/portal/visits/{order}/book", begins=begins[1], agreed=tick[1]).status_code == 403
    assert user.send(f"/portal/visits/{order}/agree", agreed=tick[1]).status_code == 403
    assert (state(order), yeses(order)) == ("proposed", [])

    assert boss.send(f"/portal/visits/{order}/book", begins=begins[1], agreed=tick[1]).status_code == 303
    assert (state(order), yeses(order)) == ("confirmed", ["boss@alfa.example"])


def test_the_client_may_agree_and_leave_the_hour_to_others(log_in: LogIn, order: int) -> None:
    boss, user = log_in("boss@alfa.example"), log_in("user@alfa.example")
    assert boss.send(f"/portal/visits/{order}/agree", agreed="nothing").status_code == 422
    assert boss.send(f"/portal/visits/{order}/agree", agreed="47.50").status_code == 303
    page = user.get(f"/portal/visits/{order}/book").text
    assert 'name="agreed"' not in page
    begins = re.search(r'name="begins" value="([^"]+)"', page)
    assert begins
    assert user.send(f"/portal/visits/{order}/book", begins=begins[1]).status_code == 303
    assert state(order) == "confirmed"


def test_while_the_prepaid_hours_reach_nobody_is_asked(log_in: LogIn, order: int) -> None:
    with db.begin() as session:
        session.execute(update(HourBlock).values(balance_minutes=2400))
    for email, path in (
        ("dispatch@provider.example", f"/dispatch/{order}"),
        ("dispatch@provider.example", f"/dispatch/{order}/slots"),
        ("boss@alfa.example", f"/portal/visits/{order}/book"),
    ):
        assert 'id="beyond"' not in log_in(email).get(path).text
