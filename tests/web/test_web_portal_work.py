"""Tickets, contract and evidence as the client uses them: asked, answered, tried, taken home and verified."""

# ruff: noqa: F401, F811  the fixtures of portal_fixtures replace those of conftest here

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from clicking import Browser
from portal_fixtures import application, ids, known, settings, things
from sqlalchemy import func, select

from msp import db, evidence
from msp.clock import utc_now
from msp.contracts.models import Contract, HourBlock
from msp.desk import clock, tickets
from msp.desk.models import Ticket, TicketEvent

LogIn = Callable[[str], Browser]
BOSS, USER, FOREIGN = "boss@alfa.example", "user@alfa.example", "boss@bravo.example"
TECHNICIAN = "tech@provider.example"


@pytest.fixture
def opened(app: object, things: dict[str, int]) -> int:
    """A ticket that a client's person has just opened."""
    with db.begin() as session:
        opening = tickets.Opening(client_id=things["client_id"], subject="Scanner is dead", asset_id=things["asset_id"])
        return tickets.open_ticket(session, opening, by=USER).id


def ticket_of(ticket_id: int) -> Ticket:
    with db.read() as session:
        return tickets.get(session, ticket_id)


def last_of(ticket_id: int) -> TicketEvent:
    with db.read() as session:
        return tickets.log_of(session, ticket_id)[-1]


# --- tickets


def test_a_ticket_opened_by_form_is_on_the_clock_of_the_contract(log_in: LogIn, things: dict[str, int]) -> None:
    answer = log_in(USER).send(
        "/portal/tickets/new",
        subject="  Mail   does not arrive ",
        text="Since nine.",
        asset=things["asset_id"],
        priority="P2",
        kind="incident",
    )
    assert answer.status_code == 303
    number = int(answer.location.rsplit("/", 1)[1])
    ticket = ticket_of(number)
    assert (ticket.subject, ticket.priority, ticket.client_id) == ("Mail does not arrive", "P2", things["client_id"])
    assert ticket.resolution_due_at is not None
    entry = last_of(number)
    assert (entry.kind, entry.actor, entry.data["channel"], entry.text) == ("created", USER, "portal", "Since nine.")


def test_a_refused_form_keeps_what_was_typed(log_in: LogIn, things: dict[str, int]) -> None:
    answer = log_in(USER).send("/portal/tickets/new", subject=" ", text="A long story.", priority="P2", kind="request")
    assert answer.status_code == 422
    assert "A ticket needs a subject." in answer.text
    assert "A long story." in answer.text
    assert re.search(r'value="P2" checked', answer.text)
    assert re.search(r'value="request" checked', answer.text)


@pytest.mark.parametrize("change", [{"priority": "P1"}, {"kind": "problem"}, {"priority": ""}])
def test_what_the_form_does_not_offer_is_refused(log_in: LogIn, change: dict[str, str]) -> None:
    form = {"subject": "x", "priority": "P3", "kind": "incident", **change}
    assert log_in(USER).send("/portal/tickets/new", **form).status_code == 422


def test_another_clients_machine_cannot_be_named(log_in: LogIn, ids: dict[str, dict[str, int]]) -> None:
    form = {"subject": "x", "asset": ids["bravo"]["asset_id"]}
    assert log_in(USER).send("/portal/tickets/new", **form).status_code == 404
    for path in (f"/portal/tickets/new?about={ids['bravo']['full']}", f"/portal/tickets/{ids['bravo']['full']}/why"):
        assert log_in(USER).get(path).status_code == 404


def test_an_answer_sets_a_waiting_ticket_going_again(log_in: LogIn, opened: int) -> None:
    with db.begin() as session:
        tickets.move(session, opened, "waiting_client", by=TECHNICIAN)
    browser = log_in(USER)
    assert "We wait for your answer" in browser.get(f"/portal/tickets/{opened}").text
    assert browser.send(f"/portal/tickets/{opened}/reply", text="The left one.").status_code == 303
    assert ticket_of(opened).state == "open"
    page = browser.get(f"/portal/tickets/{opened}").text
    assert "The left one." in page
    assert "We wait for your answer" not in page


def test_an_empty_answer_is_refused_in_a_sentence(log_in: LogIn, opened: int) -> None:
    answer = log_in(USER).send(f"/portal/tickets/{opened}/reply", text="  ")
    assert answer.status_code == 422
    assert "The message is empty." in answer.text


def test_confirming_closes_and_reopening_takes_a_word(log_in: LogIn, opened: int) -> None:
    browser = log_in(USER)
    for act in ("confirm", "reopen"):
        assert browser.send(f"/portal/tickets/{opened}/{act}", text="x").status_code == 409, "it is not solved yet"
    with db.begin() as session:
        tickets.move(session, opened, "resolved", by=TECHNICIAN)
    assert browser.send(f"/portal/tickets/{opened}/reopen", text="").status_code == 422
    assert browser.send(f"/portal/tickets/{opened}/reopen", text="Still dead.").status_code == 303
    assert ticket_of(opened).state == "open"
    with db.begin() as session:
        tickets.move(session, opened, "resolved", by=TECHNICIAN)
    assert browser.send(f"/portal/tickets/{opened}/confirm", stars="six").status_code == 422
    assert ticket_of(opened).state == "resolved"
    assert browser.send(f"/portal/tickets/{opened}/confirm", stars="4", said="Quick.").status_code == 303
    assert ticket_of(opened).state == "closed"
    assert last_of(opened).actor == USER
    page = browser.get(f"/portal/tickets/{opened}").text
    assert "rating: 4 of 5" in page
    assert "Quick." in page
    assert f"/portal/tickets/new?about={opened}" in page
    assert browser.send(f"/portal/tickets/{opened}/reply", text="One more.").status_code == 409
    assert "Scanner is dead" in browser.get(f"/portal/tickets/new?about={opened}").text


def test_only_public_entries_are_told_and_staff_by_name(log_in: LogIn, things: dict[str, int]) -> None:
    text = log_in(USER).get(f"/portal/tickets/{things['full']}").text
    for part in ("Nobody can save a document.", "We look at it.", "<strong>Tech</strong>", "free-disk-space"):
        assert part in text, part
    assert "Internal" not in text
    assert TECHNICIAN not in text


def test_the_reckoning_adds_up_to_what_the_contract_promises(log_in: LogIn, things: dict[str, int]) -> None:
    with db.read() as session:
        view = clock.view(session, tickets.get(session, things["full"]), utc_now())
    assert view is not None
    resolution = next(why for why in view.why if why.name == "resolution")
    assert sum(span.seconds for span in resolution.counted) == resolution.goal_s == 8 * 3600
    section = log_in(USER).get(f"/portal/tickets/{things['full']}/why").text.split('id="resolution"')[1]
    assert "within 8 h of service hours" in section
    assert resolution.due is not None
    assert f'datetime="{resolution.due.isoformat(timespec="seconds")}"' in section


def test_the_list_is_sorted_by_time_left_and_pages_by_key(log_in: LogIn, things: dict[str, int]) -> None:
    with db.begin() as session:
        for number in range(120):
            opening = tickets.Opening(client_id=things["client_id"], subject=f"Row n{number}", priority="P3")
            tickets.open_ticket(session, opening, by=USER, now=utc_now() - timedelta(minutes=number))
    browser, seen, path = log_in(USER), list[int](), "/portal/tickets?show=all"
    while path:
        text = browser.get(path).text
        seen += [int(number) for number in re.findall(r'<td><a href="/portal/tickets/(\d+)">', text)]
        following = re.search(r'href="([^"]+)" rel="next"', text)
        path = following[1].replace("&amp;", "&") if following else ""
    with db.read() as session:
        due = dict(
            session.execute(select(Ticket.id, Ticket.next_due_at).where(Ticket.client_id == things["client_id"])).all()
        )
    assert len(seen) == len(set(seen)) == len(due)
    running = [due[number] for number in seen if due[number] is not None]
    assert running == sorted(running)
    assert all(due[number] is None for number in seen[len(running) :])
    found = browser.get("/portal/tickets?q=Row+n119").text
    assert re.findall(r'<td><a href="/portal/tickets/\d+">#\d+ (.+?)</a>', found) == ["Row n119"]


def test_the_live_part_is_the_same_as_on_the_page(log_in: LogIn, things: dict[str, int]) -> None:
    browser = log_in(USER)
    part = browser.get(f"/portal/tickets/{things['full']}/now").text
    assert "<html" not in part
    assert "We look at it." in part
    assert browser.get(f"/live/ticket:{things['full']}").status_code == 200


# --- contract


@pytest.mark.parametrize(
    ("action", "at", "effect", "clause"),
    [
        ("read", "2026-11-23T10:00", "allowed", "4.1"),
        ("change", "2026-11-23T22:30", "allowed", "4.2"),
        ("change", "2026-11-23T10:00", "needs approval", "4.2"),
        ("disruptive", "2026-11-23T10:00", "refused", "4.3"),
        ("access", "2026-11-23T10:00", "refused", None),
    ],
)
def test_try_it_answers_with_the_clause(
    log_in: LogIn,
    things: dict[str, int],
    action: str,
    at: str,
    effect: str,
    clause: str | None,
) -> None:
    path = f"/portal/contracts/{things['contract_id']}?asset={things['asset_id']}&action={action}&at={at}"
    text = log_in(USER).get(path).text.split('role="status"')[1].split("</form>")[0]
    assert f"<span>{effect}</span>" in text
    assert ("#clause-" in text) == (clause is not None)
    if clause:
        assert f"#clause-{clause}" in text


def test_a_time_that_is_none_is_refused_in_a_sentence(log_in: LogIn, things: dict[str, int]) -> None:
    answer = log_in(USER).get(f"/portal/contract?asset={things['asset_id']}&action=read&at=yesterday")
    assert answer.status_code == 422
    assert "not a date and time" in answer.text


def test_the_contract_shows_hours_left_and_each_entry_with_its_evidence(
    log_in: LogIn,
    things: dict[str, int],
) -> None:
    with db.read() as session:
        left = session.scalars(select(HourBlock.balance_minutes)).first() or 0
    text = log_in(USER).get("/portal/contract").text
    for part in (
        "MSP-ALFA-1",
        f"{left // 60} h {left % 60} min",
        "40 h",
        "Looking at servers is always allowed.",
        "08:00–17:30",
    ):
        assert part in text, part
    worked = text.split('id="worked"')[1]
    assert worked.count(f'href="/portal/evidence/{things["proof"]}"') == 2
    assert f'href="/portal/tickets/{things["full"]}"' in worked
    assert log_in(USER).get(f"/portal/evidence/{things['proof']}").status_code == 200


def test_a_client_without_a_contract_is_told_so(log_in: LogIn, ids: dict[str, dict[str, int]]) -> None:
    with db.begin() as session:
        contract = session.get_one(Contract, ids["bravo"]["contract_id"])
        kept, contract.client_id = contract.client_id, ids["alfa"]["client_id"]
    try:
        browser = log_in(FOREIGN)
        for path in ("/portal/", "/portal/contract", "/portal/backups"):
            assert browser.get(path).status_code == 200, path
        assert "There is no contract in force" in browser.get("/portal/contract").text
    finally:
        with db.begin() as session:
            session.get_one(Contract, ids["bravo"]["contract_id"]).client_id = kept


# --- evidence


def test_evidence_taken_home_verifies_and_a_changed_byte_is_named(
    log_in: LogIn,
    tmp_path: Path,
    things: dict[str, int],
) -> None:
    browser = log_in(USER)
    assert "msp evidence verify" in browser.get("/portal/evidence").text
    answer = browser.get("/portal/evidence.jsonl")
    assert answer.mimetype == "application/jsonl"
    file = tmp_path / "evidence.jsonl"
    file.write_bytes(answer.data)
    count, breaks = evidence.verify_file(file)
    with db.read() as session:
        query = select(func.count()).where(evidence.Evidence.chain == things["client_id"])
        assert count == session.scalar(query)
    assert not breaks
    file.write_bytes(answer.data.replace(b"worker", b"wurker", 1))
    assert len(evidence.verify_file(file)[1]) == 1


def test_records_can_be_narrowed_to_one_thing(log_in: LogIn, things: dict[str, int]) -> None:
    browser = log_in(USER)
    text = browser.get(f"/portal/evidence?q=ticket:{things['full']}").text
    rows = re.findall(r'q=(\w+:\d+)">', text)
    assert rows
    assert set(rows) == {f"ticket:{things['full']}"}
    assert "was changed" not in browser.get(f"/portal/evidence/{things['proof']}").text
