"""Amending on a page: fields become terms, problems stand beside their field, nothing is signed unseen."""

import json
import re
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest
import seed
from clicking import Browser, fields_on
from sqlalchemy import select

from msp import db
from msp.clock import utc_now
from msp.contracts import terms
from msp.contracts.models import ContractVersion
from msp.desk.models import Ticket
from msp.evidence import Evidence
from msp_web import terms_draft, terms_form

Ids = dict[str, dict[str, int]]
LogIn = Callable[[str], Browser]


@pytest.fixture
def editing(log_in: LogIn, ids: Ids) -> tuple[Browser, str, dict[str, Any]]:
    browser, path = log_in("manager@provider.example"), f"/contracts/{ids['alfa']['contract_id']}/edit"
    page = browser.get(path)
    assert page.status_code == 200
    return browser, path, fields_on(page.text)


def test_a_page_that_is_sent_back_unchanged_changes_nothing() -> None:
    for document in (seed.TERMS, {**seed.TERMS, "restore": {"proof_every_s": 5}}):
        draft = terms_form.opened(document)
        again = terms_form.of_fields(draft.values, document)
        assert not again.problems
        differing = terms.differences(document, again.document)
        assert differing == (), differing


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("8-12, 12:30-17:30", [["08:00", "12:00"], ["12:30", "17:30"]]),
        ("22:00–06:00", [["22:00", "06:00"]]),
        ("", []),
        ("8 to 12", None),
        ("morning", None),
    ],
)
def test_hours_are_read_as_people_write_them(typed: str, read: Any) -> None:
    assert terms_draft.hours_of(typed) == read


def test_unchanged_page_shows_no_difference_and_offers_no_signing(editing: tuple[Browser, str, dict[str, Any]]) -> None:
    browser, path, fields = editing
    page = browser.send(path, **fields, do="preview")
    assert "Nothing is changed yet" in page.text
    assert 'value="sign"' not in page.text


def test_each_problem_stands_beside_its_field_and_what_was_typed_stays(
    editing: tuple[Browser, str, dict[str, Any]],
) -> None:
    browser, path, fields = editing
    wrong = {"cal-0-mon": "8 to 12", "cal-0-tue": "08:00-12:00, 11:00-13:00", "line-0-P1-resolution": "soon"}
    wrong |= {"cal-0-tz": "Europe/Nowhere", "clause-0-price": "cheap"}
    page = browser.send(path, **{**fields, **wrong}, do="preview")
    assert page.status_code == 200
    for name, value in wrong.items():
        assert f'value="{value}"' in page.text, name
    for name in ("cal-0-mon", "line-0-P1-resolution", "clause-0-price"):
        assert f'id="e-{name}"' in page.text, name
    assert 'value="sign"' not in page.text


def test_overlapping_hours_are_told_at_their_day(editing: tuple[Browser, str, dict[str, Any]]) -> None:
    browser, path, fields = editing
    page = browser.send(path, **{**fields, "cal-0-tue": "08:00-12:00, 11:00-13:00"}, do="preview")
    error = re.search(r'id="e-cal-0-tue"[^>]*>(.*?)</div>', page.text, re.DOTALL)
    assert error is not None
    assert "overlap at 11:00" in error[1]


def test_an_amendment_is_previewed_then_signed_with_evidence_and_open_tickets_stay(
    editing: tuple[Browser, str, dict[str, Any]], ids: Ids
) -> None:
    browser, path, fields = editing
    number = len(fields_of_clauses(fields))
    changed = {**fields, "cal-0-sat": "10-14", "line-0-P2-resolution": "6:00", "line-0-new": "P4"}
    changed |= {"line-0-new-resolution": "2880", f"clause-{number}-id": "4.9", f"clause-{number}-text": "Consoles."}
    changed |= {f"clause-{number}-actions": ["access"], f"clause-{number}-effect": "ask"}
    unseen = browser.send(path, **changed, do="sign")
    assert "Look at the differences first" in unseen.text
    shown = browser.send(path, **changed, do="preview")
    for words in ("calendars.office.week.sat", "targets.P2.resolution", "targets.P4", "clauses[4.9]"):
        assert words in shown.text, words
    ready = fields_on(shown.text)
    assert ready["cal-0-sat"] == "10:00-14:00"
    today = browser.send(path, **{**ready, "effective_on": utc_now().date().isoformat()}, do="sign")
    assert "cannot begin in the past" in today.text
    day = date.today() + timedelta(days=30)  # noqa: DTZ011
    done = browser.send(path, **{**ready, "effective_on": day.isoformat()}, do="sign")
    assert done.status_code == 303, done.text
    again = browser.send(path, **{**ready, "effective_on": day.isoformat()}, do="sign")
    assert "meanwhile" in again.text
    with db.read() as session:
        query = select(ContractVersion).where(ContractVersion.contract_id == ids["alfa"]["contract_id"])
        newest = list(session.scalars(query.order_by(ContractVersion.number)))[-1]
        assert newest.terms["calendars"]["office"]["week"]["sat"] == [["10:00", "14:00"]]
        assert newest.terms["lines"][0]["targets"]["P4"] == {"resolution": 2880}
        assert newest.terms["clauses"][-1]["action_classes"] == ["access"]
        told = session.scalars(select(Evidence).where(Evidence.kind == "contract.amended")).all()[-1]
        assert told.data["digest"] == newest.digest
        ticket = session.get_one(Ticket, ids["alfa"]["ticket_id"])
        assert ticket.contract_version_id == ids["alfa"]["version_id"]
    page = browser.get(path.replace("edit", f"rebase?version={newest.number}"))
    assert page.status_code == 200, page.text
    assert f"#{ids['alfa']['ticket_id']}" in page.text
    refused = browser.send(
        path.replace("edit", "rebase"), version=newest.number, ticket=ids["alfa"]["ticket_id"], reason="Agreed."
    )
    assert refused.status_code == 409  # it holds only in 30 days


def fields_of_clauses(fields: dict[str, Any]) -> list[str]:
    return [name for name in fields if re.fullmatch(r"clause-\d+-id", name) and fields[name]]


def test_the_expert_tab_takes_json_and_tells_what_is_wrong_with_it(
    editing: tuple[Browser, str, dict[str, Any]],
) -> None:
    browser, path, fields = editing
    kept = {key: fields[key] for key in ("draft", "after", "effective_on")}
    assert "This is not JSON" in browser.send(path, **kept, raw="{", do="preview").text
    assert "must be a JSON object" in browser.send(path, **kept, raw="[]", do="preview").text
    wrong = browser.send(path, **kept, raw='{"currency": "EUR", "linse": []}', do="preview")
    assert "linse" in wrong.text
    for broken in ('{"lines": 5}', '{"calendars": [1], "lines": [1], "clauses": [null]}'):
        assert browser.send(path, **kept, raw=broken, do="preview").status_code == 200
    good = json.loads(fields["draft"])
    good["lines"][0]["name"] = "Machines"
    assert "Machines" in browser.send(path, **kept, raw=json.dumps(good), do="preview").text


@pytest.mark.parametrize("draft", ["", "{", "[]", '{"lines": 5, "clauses": 7}', '{"calendars": {"a": 5}}'])
def test_a_damaged_draft_is_refused_in_a_sentence(editing: tuple[Browser, str, dict[str, Any]], draft: str) -> None:
    browser, path, fields = editing
    assert browser.send(path, **{**fields, "draft": draft}, do="sign").status_code in (200, 422)


def test_technicians_see_contracts_and_amend_none(log_in: LogIn, ids: Ids) -> None:
    browser = log_in("tech@provider.example")
    assert browser.get(f"/contracts/{ids['alfa']['contract_id']}/edit").status_code == 403
    assert browser.get(f"/contracts/{ids['alfa']['contract_id']}").status_code == 200


def test_clocks_are_tried_with_pauses_and_say_when_and_why(log_in: LogIn, ids: Ids) -> None:
    browser, path = log_in("tech@provider.example"), f"/contracts/{ids['alfa']['contract_id']}/clocks"
    assert "When would it be due?" in browser.get(path).text
    asked = "version=2&line=L1&priority=P1&start=2026-03-27T16:00"  # a Friday; summer time begins on Sunday
    page = browser.get(f"{path}?{asked}")
    assert 'datetime="2026-03-30T08:30:00+00:00"' in page.text  # 1 h 30 min on Friday, 2 h 30 min on Monday
    paused = browser.get(f"{path}?{asked}&from0=2026-03-30T08:00&to0=2026-03-30T09:00")
    assert 'datetime="2026-03-30T09:30:00+00:00"' in paused.text
    wrong = browser.get(f"{path}?{asked}&from0=2026-03-30T08:00&to0=2026-03-30T07:00")
    assert "A pause ends before it begins." in wrong.text
    for start in ("soon", "9999-12-31T23:59", "0001-01-01T00:00"):
        assert browser.get(f"{path}?start={start}").status_code == 200
