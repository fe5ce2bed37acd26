"""A closed month: the same act for ever, in every format, in any process."""

import hashlib
import io
import json
import subprocess
import sys
import zipfile
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from msp import evidence
from msp.assets.models import ConfigurationItem
from msp.contracts import act_reason, act_states, agreements, corrections, entries
from msp.contracts.entries import Worked
from msp.contracts.models import Act, BillingEntry, Client, Contract, HourBlock
from msp.contracts.outputs import FORMATS, written
from msp.contracts.outputs.act_json import digest
from msp.db import Database
from msp.desk import tickets
from msp.errors import Conflict, Misconfigured
from msp.evidence import Evidence
from msp.flows import billing

START = datetime(2025, 12, 31, 23, tzinfo=UTC)  # the first midnight of 2026 in Berlin
NOON = datetime(2026, 3, 16, 11, tzinfo=UTC)  # a Monday
APRIL = datetime(2026, 4, 2, 9, tzinfo=UTC)
OFFICE = {"tz": "Europe/Berlin", "week": {day: [["08:00", "18:00"]] for day in ("mon", "tue", "wed", "thu", "fri")}}
TERMS: dict[str, Any] = {
    "currency": "EUR",
    "calendars": {"office": OFFICE},
    "vat": {"mode": "exclusive_per_rate", "rates": [{"from": "2026-01-01", "rate": "19"}]},
    "lines": [
        {
            "id": "L1",
            "kind": "block_hours",
            "name": "Servers",
            "covers": {"asset_classes": ["server"]},
            "calendar": "office",
            "overage_rate": "120",
            "increment": 15,
            "targets": {"P2": {"first_response": 60, "resolution": 480}},
            "service_credits": [{"below": 95, "credit_percent": 5}, {"below": 60, "credit_percent": "20"}],
        },
        {
            "id": "L2",
            "kind": "per_device",
            "name": "Watch",
            "price_per_device": "31",
            "covers": {"assets": ["srv-fs1"]},
        },
        {"id": "L3", "kind": "call_out", "name": "Visits", "call_out_fee": "50", "rate": "90", "increment": 30},
    ],
    "clauses": [],
}


def signed(session: Session, locale: str = "en", zone: str = "Europe/Berlin") -> tuple[Client, Contract]:
    client = agreements.add_client(session, key="alfa", name="Альфа & Co <Berlin>", time_zone=zone, locale=locale)
    contract = agreements.add_contract(
        session, client, reference="A-17", kind="block_hours", currency="EUR", starts_on=date(2026, 1, 1)
    )
    agreements.add_version(session, contract, TERMS, START, "test")
    block = HourBlock(contract_id=contract.id, purchased_on=date(2026, 1, 1), minutes=100, balance_minutes=100)
    asset = ConfigurationItem(
        client_id=client.id, name="srv-fs1", kind="server", created_at=datetime(2026, 3, 17, 10, tzinfo=UTC)
    )
    session.add_all((block, asset))
    session.flush()
    return client, contract


def worked_month(session: Session, client: Client) -> list[BillingEntry]:
    """One ticket kept, one late; 75 minutes and 40 minutes on the block, one visit, all confirmed."""
    asset = session.scalars(select(ConfigurationItem)).one()
    numbers = []
    for subject, solved in (("=1+1 disk", timedelta(hours=2)), ("Принтер", timedelta(days=3))):
        opening = tickets.Opening(client.id, subject, priority="P2", asset_id=asset.id)
        ticket = tickets.open_ticket(session, opening, by="test", now=NOON)
        tickets.reply(session, ticket.id, "Looking.", by="anna", now=NOON + timedelta(minutes=30))
        tickets.move(session, ticket.id, "resolved", by="anna", now=NOON + solved)
        numbers.append(ticket.id)
    proof = evidence.record(session, "run.finished", actor="anna", subject=("run", 1), client_id=client.id)
    server = {"client_id": client.id, "asset_class": "server"}
    found = [
        entries.propose_entry(session, Worked(begun_at=NOON, minutes=70, ticket_id=numbers[0], **server)),
        entries.propose_entry(
            session, Worked(begun_at=NOON, minutes=40, ticket_id=numbers[1], evidence_id=proof.id, **server)
        ),
        entries.propose_entry(
            session, Worked(client.id, NOON, 31, asset="prn-2", asset_class="printer", work="onsite")
        ),
    ]
    for entry in found:
        entries.confirm(session, entry, "boss")
    return found


def closed(session: Session, locale: str = "en") -> Act:
    client, contract = signed(session, locale)
    worked_month(session, client)
    act = billing.close_month(
        session, contract, "2026-03", by="boss", provider=billing.Provider("We", "Road 1"), now=APRIL
    )
    assert act is not None
    return act


EXPORT = """
import hashlib, sys
from msp import db
from msp.contracts.models import Act
from msp.contracts.outputs import FORMATS, written
from msp.flows import billing
from msp.migrations import import_models
import_models()
db.use(sys.argv[1])
with db.read() as session:
    document = billing.document_of(session, session.get_one(Act, int(sys.argv[2])))
for form in FORMATS:
    print(form, hashlib.sha256(written(document, form)).hexdigest())
"""


@pytest.mark.parametrize("locale", ["en", "ru"])
def test_a_closed_month_is_the_same_bytes_in_every_format_and_in_another_process(
    database: Database, locale: str
) -> None:
    with database.begin() as session:
        act = closed(session, locale)
        before = {form: written(billing.document_of(session, act), form) for form in FORMATS}
        number = act.id
    with database.begin() as session:  # the world goes on
        client = session.scalars(select(Client)).one()
        client.name = "Another name"
        tickets.move(session, 1, "open", by="anna", now=APRIL)
        session.scalars(select(HourBlock)).one().balance_minutes = 0
        act = session.get_one(Act, number)
        act_states.send(session, act, by="boss", digest="x")
    with database.read() as session:
        after = {form: written(billing.document_of(session, session.get_one(Act, number)), form) for form in FORMATS}
    assert after == before
    command = [sys.executable, "-c", EXPORT, database.url, str(number)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert dict(line.split() for line in done.stdout.splitlines()) == {
        form: hashlib.sha256(raw).hexdigest() for form, raw in before.items()
    }


def test_lines_say_clause_rounding_and_evidence_and_add_up(database: Database) -> None:
    with database.begin() as session:
        act = closed(session)
        document = billing.document_of(session, act)
    amounts = [(row.clause, row.amount) for row in document.rows]
    # 31 a device for 15 of 31 days; 75 of 100 min prepaid, then 25 of 45 and 20 over at 2 a minute; fee and 60 min
    assert amounts == [
        ("L2", Decimal("15.00")),
        ("L1", Decimal("0.00")),
        ("L1", Decimal("40.00")),
        ("L3", Decimal("50.00")),
        ("L3", Decimal("90.00")),
    ]
    assert (act.net, act.vat, act.gross) == (Decimal("195.00"), Decimal("37.05"), Decimal("232.05"))
    assert document.vat_rows == ((Decimal("0.19"), Decimal("195.00"), Decimal("37.05")),)
    reasons = [row.reason for row in document.rows]
    assert "1 devices at 31.00 EUR: srv-fs1; days 17 to 31 of the month" in reasons[0]
    assert reasons[2] == (
        "Clause L1, Servers: 40 min worked, rounded up to 45 min (step 15 min); "
        "25 min prepaid, 20 min beyond at 120.00 EUR an hour"
    )
    assert document.rows[2].evidence is not None
    assert document.blocks == {"before": 100, "bought": 0, "used": 100, "expired": 0, "after": 0}
    assert [(one.first_response, one.resolution) for one in document.tickets] == [("kept", "kept"), ("kept", "late")]
    (credit,) = document.credits
    assert (credit.counted, credit.kept, credit.attainment) == (4, 3, Decimal("75.00"))
    assert (credit.base, credit.amount) == (Decimal("40.00"), Decimal("2.00"))  # 5 % of what line L1 costs


def test_russian_act_speaks_russian_and_its_csv_opens_in_a_russian_spreadsheet(database: Database) -> None:
    with database.begin() as session:
        document = billing.document_of(session, closed(session, "ru"))
    text = written(document, "csv").decode("utf-8")
    assert text.startswith("\ufeffСтрока;Дата;")
    assert ";40,00;EUR;19 %;" in text.replace("\xa0", " ")
    assert "'=1+1 disk" in text  # no formula from a subject
    assert "отработано 40 мин, округлено вверх до 45 мин (шаг 15 мин)" in document.rows[2].reason
    assert "rounded" not in text


def test_files_are_what_their_names_say(database: Database) -> None:
    with database.begin() as session:
        document = billing.document_of(session, closed(session))
    assert written(document, "pdf").startswith(b"%PDF-")
    sheets = zipfile.ZipFile(io.BytesIO(written(document, "xlsx")))
    assert b"<f>" not in b"".join(sheets.read(name) for name in sheets.namelist() if "sheet" in name)
    plain = json.loads(written(document, "json"))
    assert (plain["gross"], plain["rows"][2]["amount"]) == ("232.05", "40.00")
    with pytest.raises(Misconfigured):
        written(document, "docx")


def test_closing_again_makes_nothing_and_an_unfinished_month_is_not_closed(database: Database) -> None:
    with database.begin() as session:
        act = closed(session)
        contract = session.get_one(Contract, act.contract_id)
        assert billing.close_month(session, contract, "2026-03", by="boss", now=APRIL) is None
        assert session.scalar(select(func.count()).select_from(Act)) == 1
        kinds = session.scalars(select(Evidence.kind).where(Evidence.subject_kind == "act"))
        assert list(kinds) == ["act.closed"]
        with pytest.raises(Conflict, match="not over yet"):
            billing.close_month(session, contract, "2026-04", by="boss", now=APRIL)


def test_act_is_sent_then_accepted_and_nothing_else_moves_it(database: Database) -> None:
    with database.begin() as session:
        act = closed(session)
        mark = digest(billing.document_of(session, act))
        with pytest.raises(Conflict, match="is draft"):
            act_states.accept(session, act, by="clara", digest=mark)
        act_states.send(session, act, by="boss", digest=mark)
        with pytest.raises(Misconfigured, match="needs a reason"):
            act_states.dispute(session, act, " ", by="clara", digest=mark)
        act_states.dispute(session, act, "Line 3 is wrong.", by="clara", digest=mark)
        act_states.send(session, act, by="boss", digest=mark)
        act_states.accept(session, act, by="clara", digest=mark)
        with pytest.raises(Conflict, match="is accepted"):
            act_states.dispute(session, act, "Too late.", by="clara", digest=mark)
        rows = session.execute(
            select(Evidence.kind, Evidence.data).where(Evidence.subject_kind == "act").order_by(Evidence.seq)
        ).all()
        assert [kind for kind, _ in rows] == [
            "act.closed", "act.sent", "act.disputed", "act.sent", "act.accepted",
        ]  # fmt: skip
        assert rows[2][1]["reason"] == "Line 3 is wrong."
        assert {data["digest"] for _, data in rows} == {mark}
        assert not evidence.verify(session)[1]


def test_a_correction_is_a_new_entry_of_an_open_month(database: Database) -> None:
    with database.begin() as session:
        act = closed(session)
        wrong = session.scalars(select(BillingEntry).where(BillingEntry.amount == Decimal("40.00"))).one()
        right = corrections.correct(session, wrong, Decimal(10), "half an hour", by="boss", now=APRIL)
        assert (right.amount, right.act_id, right.minutes) == (Decimal("-30.00"), None, 0)
        with pytest.raises(Conflict, match="2026-03 is closed"):
            corrections.correct(session, wrong, Decimal(10), "half an hour", by="boss", now=NOON)
        with pytest.raises(Conflict, match="in no act"):
            corrections.correct(session, right, Decimal(10), "again", by="boss", now=APRIL)
        credit = corrections.propose_credit(session, act, "L1", by="boss", now=APRIL)
        assert (credit.amount, credit.contract_line) == (Decimal("-2.00"), "L1")
        with pytest.raises(Conflict, match="proposed already"):
            corrections.propose_credit(session, act, "L1", by="boss", now=APRIL)
        for entry in (right, credit):
            entries.confirm(session, entry, "boss")
        contract = session.get_one(Contract, act.contract_id)
        may = datetime(2026, 5, 2, tzinfo=UTC)
        april = billing.close_month(session, contract, "2026-04", by="boss", now=may)
        assert april is not None
        assert april.net == Decimal("31.00") - 32  # a whole month of the device, less what is put right
        document = billing.document_of(session, april)
        assert document.rows[1].reason.startswith("Correction of entry ")
        assert all(row.evidence for row in document.rows[1:])


def test_included_minutes_that_were_left_are_used_in_the_next_month(database: Database) -> None:
    line = {
        "id": "L", "kind": "fixed_scope", "name": "Care", "monthly_fee": "300", "rate": "60",
        "included_minutes": 300, "rollover_cap_minutes": 60, "rollover_months": 1,
    }  # fmt: skip
    with database.begin() as session:
        client = agreements.add_client(session, key="alfa", name="Alfa", time_zone="Europe/Berlin")
        contract = agreements.add_contract(
            session, client, reference="B", kind="fixed_scope", currency="EUR", starts_on=date(2026, 3, 10)
        )
        agreements.add_version(session, contract, {"currency": "EUR", "lines": [line]}, START, "test")
        march = entries.propose_entry(session, Worked(client.id, NOON, 200))
        april = entries.propose_entry(session, Worked(client.id, APRIL, 400))
        may = entries.propose_entry(session, Worked(client.id, APRIL + timedelta(days=30), 400))
        assert [one.prepaid_minutes for one in (march, april, may)] == [200, 360, 300]  # 100 left, 60 of them kept
        assert april.amount == Decimal("40.00")


def test_a_month_of_nothing_but_fees_is_offered_until_it_is_closed(database: Database) -> None:
    line = {"id": "L", "kind": "fixed_scope", "name": "Care", "monthly_fee": "300"}
    with database.begin() as session:
        client = agreements.add_client(session, key="alfa", name="Alfa", time_zone="Europe/Berlin")
        contract = agreements.add_contract(
            session, client, reference="B", kind="fixed_scope", currency="EUR", starts_on=date(2026, 1, 10),
            ends_on=date(2026, 5, 31),
        )  # fmt: skip
        agreements.add_version(session, contract, {"currency": "EUR", "lines": [line]}, START, "test")
        june = datetime(2026, 7, 2, tzinfo=UTC)

        def offered() -> list[str]:
            return [one.period for one in billing.closable(session, [contract], june)]

        assert offered() == ["2026-01", "2026-02", "2026-03", "2026-04", "2026-05"]
        for period in ("2026-03", "2026-01"):
            assert billing.close_month(session, contract, period, by="boss", now=june) is not None
        assert offered() == ["2026-02", "2026-04", "2026-05"]


FEBRUARY, MARCH = datetime(2026, 2, 10, 9, tzinfo=UTC), datetime(2026, 3, 3, 9, tzinfo=UTC)


def left_out(session: Session, line: dict[str, Any], minutes: int, at: datetime) -> tuple[Contract, BillingEntry]:
    """Return a contract of one line, and what was worked in February that its act left out."""
    client = agreements.add_client(session, key="alfa", name="Alfa", time_zone="Europe/Berlin")
    contract = agreements.add_contract(
        session, client, reference="B", kind="fixed_scope", currency="EUR", starts_on=date(2026, 2, 1)
    )
    terms = {"currency": "EUR", "lines": [{"id": "L", "name": "Care"} | line]}
    agreements.add_version(session, contract, terms, START, "test")
    entry = entries.propose_entry(session, Worked(client.id, at, minutes))
    assert entries.close_period(session, contract, "2026-02", "boss", fees=[(Decimal(1), "Fee")]) is not None
    return contract, entry


@pytest.mark.parametrize(
    ("line", "march"),
    [
        ({"kind": "fixed_scope", "monthly_fee": "300", "rate": "60", "included_minutes": 300}, [120, 180, 60]),
        ({"kind": "retainer_money", "monthly_fee": "300", "rate": "60"}, [120, 180, 60]),
        (
            {"kind": "fixed_scope", "monthly_fee": "300", "rate": "60", "included_minutes": 300}
            | {"rollover_cap_minutes": 60, "rollover_months": 1},
            [120, 180, 60],  # February used its 300: nothing rolls over
        ),
    ],
)
def test_what_is_carried_over_counts_in_the_month_of_its_work(
    database: Database, line: dict[str, Any], march: list[int]
) -> None:
    with database.begin() as session:
        contract, entry = left_out(session, line, 300, FEBRUARY)
        again = corrections.carry_over(session, entry, by="boss", now=MARCH)
        found = [entries.propose_entry(session, Worked(entry.client_id, NOON, minutes)) for minutes in march]
        assert [str(one.amount) for one in found] == ["0.00", "0.00", "60.00"]
        for one in (again, *found):
            entries.confirm(session, one, "boss")
        act = entries.close_period(session, contract, "2026-03", "boss")
        assert act is not None
        assert (act.net, act.lines[0]["worked_on"], act.lines[0]["amount"]) == (60, "2026-02-10", "0.00")


def test_a_carried_line_prints_the_day_and_the_tariffs_of_its_work(database: Database) -> None:
    night = {"name": "night", "multiplier": "2", "windows": [{"from": "18:00", "to": "08:00"}]}
    evening = datetime(2026, 2, 10, 16, 30, tzinfo=UTC)  # 17:30 in Berlin
    with database.begin() as session:
        contract, entry = left_out(session, {"kind": "t_and_m", "rate": "60", "tariffs": [night]}, 60, evening)
        again = corrections.carry_over(session, entry, by="boss", now=MARCH)
        assert (again.amount, again.reason) == (Decimal("90.00"), f"Of 2026-02-10: {entry.reason}")
        assert entries.close_period(session, contract, "2026-03", "boss", fees=[(Decimal(1), "Fee")]) is not None
        once_more = corrections.carry_over(session, again, by="boss", now=APRIL)
        assert (once_more.carried_from, once_more.reason) == (entry.id, again.reason)
        entries.confirm(session, once_more, "boss")
        act = entries.close_period(session, contract, "2026-04", "boss")
        assert act is not None
        assert sum(Decimal(part["amount"]) for part in act.lines[0]["parts"]) == act.net == 90
        assert "carried over from 2026-02-10; 60 min worked" in act_reason.reason(act.lines[0], "EUR", "en")


def test_what_a_block_paid_for_is_carried_over_with_the_entry(database: Database) -> None:
    with database.begin() as session:
        contract, _ = left_out(session, {"kind": "block_hours", "overage_rate": "60"}, 1, FEBRUARY)
        block = HourBlock(contract_id=contract.id, purchased_on=date(2026, 1, 1), minutes=100, balance_minutes=100)
        session.add(block)
        session.flush()
        entry = entries.propose_entry(session, Worked(contract.client_id, MARCH, 60))
        assert entries.close_period(session, contract, "2026-03", "boss", fees=[(Decimal(1), "Fee")]) is not None
        again = corrections.carry_over(session, entry, by="boss", now=APRIL)
        session.refresh(block)
        assert (again.prepaid_minutes, block.balance_minutes) == (60, 40)
        zone = ZoneInfo("Europe/Berlin")
        march = billing.blocks_of(session, contract, zone, date(2026, 3, 1), date(2026, 3, 31))
        april = billing.blocks_of(session, contract, zone, date(2026, 4, 1), date(2026, 4, 30))
        assert march
        assert april
        assert (march.used, march.after, april.before, april.used) == (60, 40, 40, 0)
        entries.withdraw(session, again)
        session.refresh(block)
        assert block.balance_minutes == 100
