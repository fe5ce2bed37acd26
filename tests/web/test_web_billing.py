"""Billing pages: the desk, acts for staff and client, the public calculator, reports."""

import json
import re
from collections.abc import Callable
from datetime import timedelta

from clicking import Browser
from flask import Flask
from sqlalchemy import func, select

from msp import db
from msp.clock import utc_now
from msp.contracts import agreements
from msp.contracts.models import Act, BillingEntry, Client, Contract, ContractVersion
from msp.desk import tickets
from msp.evidence import Evidence
from msp.flows import billing

Ids = dict[str, dict[str, int]]
LogIn = Callable[[str], Browser]


def stored(model: type, ident: int):  # type: ignore[no-untyped-def]
    with db.read() as session:
        return session.get(model, ident)


def test_client_reads_every_line_with_its_evidence_and_accepts(app: Flask, ids: Ids, log_in: LogIn) -> None:
    act, evidence_id = ids["alfa"]["act_id"], ids["alfa"]["evidence_id"]
    boss = log_in("boss@alfa.example")
    page = boss.get(f"/portal/acts/{act}").text
    assert f'href="/portal/evidence/{evidence_id}"' in page
    assert "50 min worked, rounded up to 50 min" in page
    assert boss.get(f"/portal/evidence/{evidence_id}").status_code == 200
    user = log_in("user@alfa.example")
    assert "Accept the act" not in user.get(f"/portal/acts/{act}").text
    assert user.send(f"/portal/acts/{act}/accept").status_code == 403
    boss.get(f"/portal/acts/{act}")
    boss.send(f"/portal/acts/{act}/dispute", reason="")
    assert stored(Act, act).state == "sent"
    boss.send(f"/portal/acts/{act}/dispute", reason="The time is wrong.")
    assert stored(Act, act).state == "disputed"
    staff = log_in("manager@provider.example")
    assert "The time is wrong." in staff.get(f"/billing/acts/{act}").text
    staff.send(f"/billing/acts/{act}/send")
    boss.send(f"/portal/acts/{act}/accept")
    assert stored(Act, act).state == "accepted"
    with db.read() as session:
        last = session.scalars(
            select(Evidence).where(Evidence.subject_kind == "act").order_by(Evidence.id.desc())
        ).first()
    assert (last.kind, last.actor) == ("act.accepted", "boss@alfa.example")


def test_act_and_its_evidence_are_not_there_for_another_client(app: Flask, ids: Ids, log_in: LogIn) -> None:
    other, boss = ids["bravo"], log_in("boss@alfa.example")
    paths = [f"/portal/acts/{other['act_id']}", f"/portal/evidence/{other['evidence_id']}"]
    paths += [f"/portal/acts/{other['act_id']}/file.{form}" for form in ("pdf", "xlsx", "csv", "json")]
    for path in paths:
        assert boss.get(path).status_code == 404, path
    for what in ("accept", "dispute"):
        assert boss.send(f"/portal/acts/{other['act_id']}/{what}", reason="x").status_code == 404
    limited = log_in("limited@provider.example")
    assert limited.get(f"/billing/acts/{other['act_id']}").status_code == 404
    assert limited.get(f"/reports/{other['client_id']}/month.pdf").status_code == 404
    assert "Bravo" not in limited.get("/billing/?state=all").text
    assert "bravo" not in limited.get("/reports/kept.csv").text.lower()
    limited.send("/billing/entries", id=other["entry_id"], what="confirm")
    assert stored(BillingEntry, other["entry_id"]).state == "proposed"


def test_draft_act_is_not_shown_to_the_client(app: Flask, ids: Ids, log_in: LogIn) -> None:
    with db.begin() as session:
        sent = session.get(Act, ids["alfa"]["act_id"])
        draft = Act(
            contract_id=sent.contract_id, period="2020-01", currency="EUR", lines=[], net=sent.net, vat=None,
            gross=sent.gross, created_by="seed",
        )  # fmt: skip
        session.add(draft)
        session.flush()
        number = draft.id
    boss = log_in("boss@alfa.example")
    assert boss.get(f"/portal/acts/{number}").status_code == 404
    assert "2020-01" not in boss.get("/portal/acts").text
    assert boss.get(f"/portal/acts/{number}/file.json").status_code == 404


def test_files_of_an_act_are_the_same_for_staff_and_client(app: Flask, ids: Ids, log_in: LogIn) -> None:
    act = ids["alfa"]["act_id"]
    staff, boss = log_in("manager@provider.example"), log_in("boss@alfa.example")
    for form, start in (("pdf", b"%PDF"), ("xlsx", b"PK"), ("csv", b"\xef\xbb\xbf"), ("json", b"{")):
        ours, theirs = staff.get(f"/billing/acts/{act}/file.{form}"), boss.get(f"/portal/acts/{act}/file.{form}")
        assert ours.data == theirs.data
        assert ours.data.startswith(start)
        assert "attachment" in ours.headers["Content-Disposition"]
    assert boss.get(f"/portal/acts/{act}/file.exe").status_code == 404


def test_entries_are_confirmed_in_bulk_and_refusals_are_told_by_row(app: Flask, ids: Ids, log_in: LogIn) -> None:
    staff, entry = log_in("manager@provider.example"), ids["alfa"]["entry_id"]
    assert f'name="id" value="{entry}"' in staff.get("/billing/").text
    staff.post("/billing/entries", data={"csrf_token": staff.token, "id": [entry, 999999], "what": "confirm"})
    assert stored(BillingEntry, entry).confirmed_by == "manager@provider.example"
    page = staff.get("/billing/").text
    assert "1 entry is done." in page
    assert "999999: There is no such thing" in page
    staff.send("/billing/entries", id=entry, what="withdraw")
    assert stored(BillingEntry, entry).state == "withdrawn"


def test_month_is_closed_once(app: Flask, ids: Ids, log_in: LogIn) -> None:
    staff = log_in("manager@provider.example")
    period = stored(Act, ids["bravo"]["act_id"]).period
    for _ in range(2):
        staff.send("/billing/close", contract=ids["bravo"]["contract_id"], period=period)
    assert "Nothing to do" in staff.get("/billing/").text
    staff.send("/billing/close", contract=ids["bravo"]["contract_id"], period="2026-99")
    assert "is no month" in staff.get("/billing/").text
    with db.read() as session:
        query = select(func.count()).select_from(Act).where(Act.period == period)
        assert session.scalar(query.where(Act.contract_id == ids["bravo"]["contract_id"])) == 1


def test_anybody_plays_with_the_calculator_without_log_in_or_script(app: Flask) -> None:
    browser = app.test_client()
    page = browser.get("/calculator?servers=3")
    assert page.status_code == 200
    assert "€195.00" in page.text
    links = re.findall(r'href="(/calculator\?[^"]*night=1[^"]*)"', page.text)
    assert links, "one more of what needs others adds them as well"
    added = browser.get(links[0].replace("&amp;", "&")).text
    assert "€655.00" in added  # 195 + 5 users at least for 14 + 390
    assert "needs Server care. Add it" in browser.get("/calculator?proof=2").text
    assert "give a whole number" in browser.get("/calculator?servers=-1").text
    assert "give a whole number" in browser.get("/calculator?servers=99999999999").text
    assert "<script>" not in page.text


def test_the_calculator_is_slowed_down(app: Flask) -> None:
    browser = app.test_client()
    answers = [browser.get("/calculator", environ_base={"REMOTE_ADDR": "192.0.2.7"}).status_code for _ in range(125)]
    assert answers[0] == 200
    assert answers[-1] == 429


def test_quote_becomes_a_draft_contract_that_allows_nothing_yet(app: Flask, ids: Ids, log_in: LogIn) -> None:
    staff, client = log_in("manager@provider.example"), ids["alfa"]["client_id"]
    terms = json.loads(staff.get("/billing/quote/terms.json?servers=2&desk=8").data)
    assert [line["kind"] for line in terms["lines"]] == ["per_user", "per_device"]
    form = {"client": client, "reference": "Q-1", "starts_on": "2027-01-01", "servers": 2, "desk": 8}
    answer = staff.send("/billing/quote", **form)
    assert answer.location.startswith("/contracts/")
    with db.read() as session:
        contract = session.scalars(select(Contract).where(Contract.reference == "Q-1")).one()
        version = session.scalars(select(ContractVersion).where(ContractVersion.contract_id == contract.id)).one()
    assert version.terms["clauses"] == []
    assert staff.get(answer.location).status_code == 200
    again = staff.send("/billing/quote", **form)
    assert "reference=Q-1" in again.location  # what was typed is kept
    assert "There is a contract Q-1 already" in staff.get(again.location).text
    assert staff.send("/billing/quote", **{**form, "client": 999999, "reference": "Q-2"}).status_code == 404


def test_a_draft_is_in_force_only_once_it_is_signed(app: Flask, ids: Ids, log_in: LogIn) -> None:
    staff, client = log_in("manager@provider.example"), ids["alfa"]["client_id"]
    today = utc_now().date()
    with db.read() as session:
        before = agreements.contract_for(session, client, utc_now())
    assert before is not None
    form = {"client": client, "reference": "Q-7", "starts_on": today.isoformat(), "servers": 2, "desk": 8}
    address = staff.send("/billing/quote", **form).location
    assert "Signed: put it in force" in staff.get(address).text
    assert ">Draft<" in staff.get("/contracts/").text
    with db.read() as session:
        draft = agreements.contract_by_reference(session, "Q-7")
        found = agreements.contract_for(session, client, utc_now() + timedelta(days=1))
        assert found is not None
        assert (found.reference, draft.draft) == (before.reference, True)
        begins, ends = agreements.in_force(draft, session.get_one(Client, client))
        assert begins == ends
        assert billing.closable(session, [draft], utc_now() + timedelta(days=90)) == []
    assert log_in("tech@provider.example").send(f"{address}/sign").status_code == 403
    staff.send(f"{address}/sign", begins="2101-01-01")
    assert "The year 2101 is out of reach." in staff.get(address).text  # and nothing begins on another day than typed
    staff.send(f"{address}/sign", begins=today.isoformat())
    assert f"Contract {before.reference} of this client is in force in these days too." in staff.get(address).text
    answer = staff.send(f"{address}/sign", begins=(today + timedelta(days=5)).isoformat(), replace="1")
    assert answer.status_code == 303
    assert "Signed: put it in force" not in staff.get(address).text
    with db.read() as session:
        for days, reference in ((4, before.reference), (6, "Q-7")):
            found = agreements.contract_for(session, client, utc_now() + timedelta(days=days))
            assert found is not None
            assert found.reference == reference
        signed = session.scalars(select(Evidence).where(Evidence.kind == "contract.signed")).one()
        assert signed.data["ended"] == [before.reference]


def test_reports_draw_without_scripts_and_export(app: Flask, ids: Ids, log_in: LogIn) -> None:
    staff = log_in("manager@provider.example")
    with db.begin() as session:
        opening = tickets.Opening(ids["alfa"]["client_id"], "Printer", priority="P3")
        number = tickets.open_ticket(session, opening, by="seed").id
        tickets.reply(session, number, "Looking.", by="seed")
        tickets.move(session, number, "resolved", by="seed")
    for by in ("client", "line", "priority", "technician", "nonsense"):
        page = staff.get(f"/reports/?by={by}")
        assert page.status_code == 200
        assert 'class="bars"' in page.text
    assert staff.get("/reports/?month=2026-13").status_code == 422
    assert staff.get("/reports/kept.csv").data.startswith(b"\xef\xbb\xbf")
    path = f"/reports/{ids['alfa']['client_id']}/month"
    assert staff.get(f"{path}.pdf").data.startswith(b"%PDF")
    assert staff.get(f"{path}.xlsx").data == staff.get(f"{path}.xlsx").data
    assert staff.get(f"{path}.exe").status_code == 404
