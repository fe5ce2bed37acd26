"""The client's pages: decisions taken in one tap, backups in words, visits; each through a real session."""

# ruff: noqa: F401, F811  the fixtures of portal_fixtures replace those of conftest here

import re
from collections.abc import Callable
from datetime import timedelta

import portal_seed
import pytest
from clicking import Browser
from flask import Flask
from portal_fixtures import application, ids, known, settings, things
from sqlalchemy import select

from msp import db
from msp.backup.models import BackupPlan, RestoreTest
from msp.backup.proof import Proof
from msp.clock import utc_now
from msp.desk.models import TicketEvent
from msp.dispatch.models import Appointment, Technician
from msp.evidence import Evidence
from msp.remote.models import Approval, Run
from msp_web import keyset, portal_words

LogIn = Callable[[str], Browser]
BOSS, USER, FOREIGN = "boss@alfa.example", "user@alfa.example", "boss@bravo.example"


@pytest.fixture
def asked(app: Flask, things: dict[str, int]) -> int:
    """A run that waits for the client's word."""
    with db.begin() as session:
        return portal_seed.ask(session, things, things["full"], path="/srv/share")


def stored(run_id: int) -> tuple[Run, Approval]:
    with db.read() as session:
        query = select(Run, Approval).join(Approval, Approval.run_id == Run.id).where(Run.id == run_id)
        run, approval = session.execute(query).one()
        return run, approval


def page_of(browser: Browser, path: str, language: str = "en") -> str:
    browser.send("/language", language=language)
    answer = browser.get(path)
    assert answer.status_code == 200, (path, answer.status_code)
    return str(answer.text)


# --- approvals


def test_the_first_page_offers_both_answers_with_a_token(log_in: LogIn, asked: int) -> None:
    text = log_in(BOSS).get("/portal/").text
    assert f'href="/portal/approvals/{asked}"' in text
    for act in ("approve", "decline"):
        form = re.search(rf'<form method="post" action="/portal/approvals/{asked}/{act}".*?</form>', text, re.DOTALL)
        assert form is not None
        assert re.search(r'name="csrf_token" value="[^"]+"', form[0])


def test_one_tap_approves_and_the_run_is_queued_with_evidence(log_in: LogIn, asked: int) -> None:
    browser = log_in(BOSS)
    page = browser.get("/portal/").text
    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page)
    assert token is not None
    answer = browser.post(f"/portal/approvals/{asked}/approve", data={"csrf_token": token[1]})
    assert (answer.status_code, answer.location) == (303, "/portal/")
    run, approval = stored(asked)
    assert (run.state, approval.decision, approval.decided_by) == ("queued", "approved", BOSS)
    with db.read() as session:
        proof = session.scalars(
            select(Evidence).where(Evidence.kind == "run.approved", Evidence.subject_id == str(asked))
        )
        assert proof.one().actor == BOSS
    assert f"/portal/approvals/{asked}/approve" not in browser.get("/portal/").text
    assert "approved" in browser.get(f"/portal/approvals/{asked}").text


def test_a_decline_ends_the_run_and_keeps_the_reason(log_in: LogIn, asked: int) -> None:
    browser = log_in(BOSS)
    assert browser.send(f"/portal/approvals/{asked}/decline", reason="  Not on a Friday. ").status_code == 303
    run, approval = stored(asked)
    assert (run.state, approval.decision, approval.reason) == ("cancelled", "declined", "Not on a Friday.")
    assert "Not on a Friday." in browser.get(f"/portal/approvals/{asked}").text


def test_deciding_twice_is_a_conflict_that_names_who_was_first(log_in: LogIn, asked: int) -> None:
    browser = log_in(BOSS)
    browser.send(f"/portal/approvals/{asked}/approve")
    answer = browser.send(f"/portal/approvals/{asked}/decline")
    assert answer.status_code == 409
    assert f"Somebody decided before: {BOSS}" in answer.text
    assert stored(asked)[0].state == "queued"


@pytest.mark.parametrize(("language", "sentence"), [("en", "This request expired"), ("ru", "Этот запрос истёк")])
def test_an_expired_request_is_refused_in_a_sentence(log_in: LogIn, asked: int, language: str, sentence: str) -> None:
    browser = log_in(BOSS)
    with db.begin() as session:
        approval = session.scalars(select(Approval).where(Approval.run_id == asked)).one()
        approval.expires_at = utc_now() - timedelta(minutes=1)
    browser.send("/language", language=language)
    try:
        answer = browser.send(f"/portal/approvals/{asked}/approve")
        assert answer.status_code == 409
        assert sentence in answer.text
        assert stored(asked)[0].state == "awaiting_approval"
        assert f"/portal/approvals/{asked}/approve" not in browser.get("/portal/").text
    finally:
        browser.send("/language", language="en")


def test_who_may_not_approve_reads_the_same_card_without_buttons(log_in: LogIn, asked: int) -> None:
    browser = log_in(USER)
    for path in ("/portal/", f"/portal/approvals/{asked}"):
        text = browser.get(path).text
        assert f"/portal/approvals/{asked}" in text or "free-disk-space" in text
        assert f"/approvals/{asked}/approve" not in text
    assert browser.send(f"/portal/approvals/{asked}/approve").status_code == 403
    assert stored(asked)[0].state == "awaiting_approval"


def test_a_foreign_approver_finds_nothing(log_in: LogIn, asked: int) -> None:
    browser = log_in(FOREIGN)
    for act in ("approve", "decline"):
        assert browser.send(f"/portal/approvals/{asked}/{act}").status_code == 404
    assert browser.get(f"/portal/approvals/{asked}").status_code == 404
    assert stored(asked)[0].state == "awaiting_approval"


def test_what_was_changed_after_it_was_shown_does_not_run(log_in: LogIn, asked: int) -> None:
    with db.begin() as session:
        session.get_one(Run, asked).parameters = {"path": "/"}
    answer = log_in(BOSS).send(f"/portal/approvals/{asked}/approve")
    assert answer.status_code == 403
    assert "not what the approval was asked for" in answer.text
    assert stored(asked)[0].state == "awaiting_approval"


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", ("Delete old temporary files", "Changes are made at night", "It changes files or settings", "Tech")),
        ("ru", ("Удаляет старые временные файлы", "Изменения вносятся ночью", "Меняет файлы или настройки", "Tech")),
    ],
)
def test_the_card_says_everything_in_the_viewers_language(
    log_in: LogIn, asked: int, language: str, words: tuple[str, ...]
) -> None:
    browser = log_in(BOSS)
    try:
        text = page_of(browser, f"/portal/approvals/{asked}", language)
    finally:
        browser.send("/language", language="en")
    run, _ = stored(asked)
    for part in (*words, run.digest, "4.2", "alfa-srv-fs1", "/srv/share", "MSP-ALFA-1"):
        assert part in text, part


def test_a_secret_is_told_apart_and_never_named(app: Flask) -> None:
    with app.test_request_context():
        shown = dict(portal_words.parameters({"password": "vault:db-root", "n": 3, "on": True, "names": ["a", "b"]}))
    assert "db-root" not in str(shown)
    assert (shown["n"], shown["on"], shown["names"]) == ("3", "yes", "a, b")


def test_a_run_for_the_providers_own_word_is_not_the_clients_to_decide(log_in: LogIn, asked: int) -> None:
    with db.begin() as session:
        session.scalars(select(Approval).where(Approval.run_id == asked)).one().rule = "account_manager"
    browser = log_in(BOSS)
    assert f"/portal/approvals/{asked}" not in browser.get("/portal/").text
    card = browser.get(f"/portal/approvals/{asked}").text
    assert "This is not yours to decide" in card
    assert f"/approvals/{asked}/approve" not in card
    assert browser.send(f"/portal/approvals/{asked}/approve").status_code == 403


# --- backups and visits


def test_backups_say_proven_or_not_and_why(log_in: LogIn, things: dict[str, int]) -> None:
    text = log_in(BOSS).get("/portal/backups").text
    assert text.index("alfa ERP database") < text.index("alfa files nightly"), "the unproven stands below the proven"
    assert "The restore test of" in text
    assert "Restored on" in text
    page = log_in(BOSS).get(f"/portal/backups/{things['erp']}").text
    for part in ("2 of 4 files differ.", "data/app.sqlite", "29 min", "31 min", "promised 1 h", "unproven"):
        assert part in page, part


@pytest.mark.parametrize(
    ("state", "verdicts", "sentence"),
    [
        (Proof("unproven", "Unproven: never restored yet."), (), "never restored yet"),
        (Proof("unproven", "Unproven: the last 3 ..."), ("error", "error", "error"), "could not be carried out"),
        (Proof("unproven", "Unproven: failed"), ("fail",), "failed"),
        (Proof("overdue", "", utc_now() - timedelta(days=9), 5), ("pass",), "too long ago"),
        (Proof("proven", "", utc_now() - timedelta(days=9), 5), ("pass",), "Restored on"),
    ],
)
def test_each_state_of_a_proof_has_its_sentence(
    app: Flask, state: Proof, verdicts: tuple[str, ...], sentence: str
) -> None:
    plan = BackupPlan(proof_every=timedelta(days=7))
    finished = utc_now() - timedelta(days=9)
    tests = [RestoreTest(verdict=verdict, finished_at=finished) for verdict in verdicts]
    with app.test_request_context():
        assert sentence in portal_words.proof(state, tests, plan)


def test_visits_show_window_and_name_and_the_past_below(log_in: LogIn, things: dict[str, int]) -> None:
    text = log_in(BOSS).get("/portal/visits").text
    with db.read() as session:
        technician = session.get_one(Technician, session.get_one(Appointment, things["visit_id"]).technician_id)
    assert technician.name in text
    assert f'href="/portal/tickets/{things["full"]}"' in text
    assert text.index("Replace disk 2") < text.index("Past visits") < text.index("Replace a fan")


# --- what everybody's first page promises


def test_no_page_tells_a_client_what_was_noted_inside(app: Flask, log_in: LogIn, things: dict[str, int]) -> None:
    browser = log_in(BOSS)
    with db.read() as session:
        inside = session.scalars(select(TicketEvent.text).where(~TicketEvent.public, TicketEvent.text != "")).all()
    assert inside
    for path in ("/portal/", "/portal/tickets", f"/portal/tickets/{things['full']}", "/portal/evidence"):
        text = browser.get(path).text
        assert not [note for note in inside if note in text], path


def test_the_menu_marks_the_section_of_every_page(log_in: LogIn, things: dict[str, int]) -> None:
    browser = log_in(BOSS)
    for path, section in (
        ("/portal/", "/portal/"),
        (f"/portal/tickets/{things['full']}/why", "/portal/tickets"),
        (f"/portal/backups/{things['erp']}", "/portal/backups"),
        (f"/portal/contracts/{things['contract_id']}", "/portal/contract"),
        (f"/portal/evidence/{things['proof']}", "/portal/evidence"),
    ):
        assert f'<a href="{section}" aria-current="page">' in browser.get(path).text, path


@pytest.mark.parametrize("text", ["", "~", "x~1", "2026-99-01~1", "~-1", "~1e3", "9999-12-31T23:59:59-14:00~1", "~²"])
def test_a_broken_place_in_a_list_is_its_start(text: str) -> None:
    assert keyset.read(text) is None


def test_a_place_in_a_list_reads_back_as_written() -> None:
    now = utc_now()
    assert keyset.read(keyset.write(now, 7)) == (now, 7)
    assert keyset.read(keyset.write(None, 7)) == (None, 7)
