"""What a technician's phone sends: each act counts once, what no longer fits comes back with both versions."""

import base64
import hashlib
import re
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import seed
from clicking import Browser
from flask import Flask
from sqlalchemy import select

from msp import db
from msp.clock import utc_now
from msp.dispatch import visits
from msp.dispatch.models import Appointment, FieldAction, Shift, Technician, VisitPicture, WorkOrder
from msp.people.models import User

LogIn = Callable[[str], Browser]
Ids = dict[str, dict[str, int]]


@pytest.fixture
def visit(app: Flask, ids: Ids) -> int:
    """A visit of tomorrow's that the technician at tech@provider.example makes."""
    now = utc_now()
    with db.begin() as session:
        user = session.scalars(select(User).where(User.email == "tech@provider.example")).one()
        who = session.scalar(select(Technician).where(Technician.user_id == user.id))
        if who is None:
            who = Technician(name="Tom of the phone", skills={"phone": 1}, user_id=user.id)
            session.add(who)
            session.flush()
            session.add(Shift(technician_id=who.id, starts_at=now, ends_at=now + timedelta(days=3)))
            session.flush()
        order = visits.propose(
            session, client_id=ids["alfa"]["client_id"], summary="Answer the phone", now=now, skills={"phone": 1},
            duration=timedelta(minutes=10), due_at=now + timedelta(days=2), checklist=[{"text": "Do it"}],
        )  # fmt: skip
        found = visits.standing(session, order.id)
        assert found is not None
        visits.assign(session, order.id, who.id, found.starts_at, by="x", now=now, expected_version=found.version)
        return found.id


def act(visit: int, kind: str, base: int = 2, **data: Any) -> dict[str, Any]:
    at = utc_now().isoformat()
    return {"id": str(uuid.uuid4()), "visit": visit, "kind": kind, "at": at, "base": base, "data": data}


def send(browser: Browser, document: object) -> Any:
    if not browser.token:
        browser.get("/account")
    return browser.post(
        "/field/acts", json=document, headers={"X-CSRFToken": browser.token, "Accept": "application/json"}
    )


def test_a_visit_is_worked_and_every_act_sent_twice_counts_once(log_in: LogIn, visit: int) -> None:
    browser, text = log_in("tech@provider.example"), "I confirm."
    digest = hashlib.sha256(text.encode()).hexdigest()
    picture = base64.b64encode(seed.PICTURE).decode()
    acts = [
        act(visit, "on_the_way"), act(visit, "working"), act(visit, "check", line=0, done=True),
        act(visit, "photo", when="before", picture=picture), act(visit, "time", minutes=9, note=""),
        act(visit, "leftover", text="Call again"),
        act(visit, "sign", name="Clara", document=text, sha256=digest, picture=picture),
        act(visit, "done"),
    ]  # fmt: skip
    for one in acts:
        first, second = send(browser, one), send(browser, one)
        assert (first.status_code, first.json["state"]) == (200, "applied"), first.text
        assert second.json == first.json
    with db.read() as session:
        stored = session.scalars(select(FieldAction).where(FieldAction.appointment_id == visit)).all()
        assert sorted(one.kind for one in stored) == sorted(one["kind"] for one in acts)
        assert len(session.scalars(select(VisitPicture).where(VisitPicture.appointment_id == visit)).all()) == 2
        assert session.get_one(Appointment, visit).state == "done"
        assert len(session.scalars(select(WorkOrder).where(WorkOrder.reason == "Call again")).all()) == 1
    assert browser.get(f"/field/{visit}/sheet.pdf").data.startswith(b"%PDF")


def test_a_step_that_no_longer_fits_changes_nothing_and_brings_both_versions(log_in: LogIn, visit: int) -> None:
    browser = log_in("tech@provider.example")
    answer = send(browser, act(visit, "working", base=1))
    assert answer.status_code == 409
    assert (answer.json["state"], answer.json["theirs"]["state"]) == ("conflict", "confirmed")
    again = send(browser, act(visit, "working", base=answer.json["version"]))
    assert again.status_code == 200, again.text


@pytest.mark.parametrize(
    "damage",
    [
        {"id": "1"},
        {"kind": "fly"},
        {"at": "soon"},
        {"at": "2026-11-22T10:00:00"},
        {"data": {"picture": "!"}, "kind": "photo"},
        {"data": {"document": "half a character: \ud800", "name": "Clara"}, "kind": "sign"},
        {"visit": 10**25},
    ],
)
def test_what_cannot_be_meant_is_said_in_a_sentence(log_in: LogIn, visit: int, damage: dict[str, Any]) -> None:
    answer = send(log_in("tech@provider.example"), {**act(visit, "working"), **damage})
    assert answer.status_code in (404, 422)
    assert "Traceback" not in answer.text


def test_a_signature_of_another_text_is_refused(log_in: LogIn, visit: int) -> None:
    wrong = act(visit, "sign", name="Clara", document="I confirm.", sha256="0" * 64, picture="")
    assert send(log_in("tech@provider.example"), wrong).status_code == 422


def test_the_phone_is_told_in_the_language_of_its_technician_and_a_program_in_english(
    log_in: LogIn, visit: int
) -> None:
    browser = log_in("tech@provider.example")
    assert send(browser, {**act(visit, "working"), "at": "soon"}).json["title"] == "The act is not complete."
    browser.send("/language", language="ru")
    try:
        refused, held = (
            send(browser, {**act(visit, "working"), "at": "soon"}),
            send(browser, act(visit, "working", base=1)),
        )
        assert re.search("[а-я]", refused.json["title"] + refused.json["detail"])
        assert not re.search("[A-Za-z]{4}", refused.json["title"])
        assert re.search("[а-я]", held.json["words"])
        told = browser.get("/api/v1/nowhere", headers={"Accept": "application/json"})
        assert not re.search("[а-я]", told.text)
    finally:
        browser.send("/language", language="en")
