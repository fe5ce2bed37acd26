"""Contracts, billing entries and prepaid hours in a real database."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from msp.assets.models import ConfigurationItem
from msp.console import main
from msp.contracts import act_reason, agreements, entries, ledger
from msp.contracts.entries import Worked
from msp.contracts.models import Act, BillingEntry, Client, Contract, HourBlock, Site
from msp.db import Database
from msp.errors import Conflict, Misconfigured
from msp.flows import billing
from msp.migrations import head

JANUARY = date(2026, 1, 1)
START = datetime(2025, 12, 31, 23, tzinfo=UTC)  # the first midnight of 2026 in Berlin
NOON = datetime(2026, 3, 16, 11, tzinfo=UTC)
TERMS: dict[str, Any] = {
    "currency": "EUR",
    "vat": {"mode": "exclusive_on_total", "rates": [{"from": "2026-01-01", "rate": "19"}]},
    "lines": [
        {
            "id": "L1",
            "kind": "t_and_m",
            "name": "Support",
            "rate": "90",
            "increment": 15,
            "minimum": 30,
            "tariffs": [{"name": "night", "multiplier": "1.5", "windows": [{"from": "18:00", "to": "08:00"}]}],
        }
    ],
    "clauses": [
        {"id": "4.1", "text": "Looking is allowed.", "action_classes": ["read"], "effect": "allow"},
        {
            "id": "4.2",
            "text": "Servers are restarted on Saturday night.",
            "action_classes": ["disruptive"],
            "effect": "allow",
            "windows": [{"days": ["sat"], "from": "22:00", "to": "04:00"}],
        },
    ],
}


def signed(session: Session, lines: list[dict[str, Any]] | None = None) -> tuple[Client, Contract]:
    client = agreements.add_client(session, key="alfa", name="Alfa GmbH", time_zone="Europe/Berlin")
    contract = agreements.add_contract(
        session, client, reference="A-17", kind="t_and_m", currency="EUR", starts_on=JANUARY, ends_on=date(2026, 12, 31)
    )
    agreements.add_version(session, contract, TERMS | ({"lines": lines} if lines else {}), START, "test")
    return client, contract


def block(session: Session, contract: Contract, minutes: int, expires_on: date | None = None) -> HourBlock:
    stored = HourBlock(
        contract_id=contract.id, purchased_on=JANUARY, expires_on=expires_on, minutes=minutes, balance_minutes=minutes
    )
    session.add(stored)
    session.flush()
    return stored


@pytest.fixture
def configured(database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A database that the command finds in its settings, and that says it is of this version."""
    monkeypatch.setenv("MSP_DATABASE", database.url)
    with database.begin() as session:
        session.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"))
        session.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": head()})
    return database


def test_sixteen_writers_at_once_never_overdraw_a_block(database: Database) -> None:
    with database.begin() as session:
        _, contract = signed(session)
        block(session, contract, 100, date(2026, 6, 30))
        block(session, contract, 107)
        contract_id = contract.id
    start = threading.Barrier(16)

    def write(number: int) -> int:
        start.wait(timeout=30)
        granted = 0
        for _ in range(3):
            with database.begin() as session:
                granted += ledger.debit(session, contract_id, 5 + number % 3, NOON.date())[0]
        return granted

    with ThreadPoolExecutor(16) as pool:
        granted = sum(pool.map(write, range(16)))
    with database.read() as session:
        assert session.scalar(select(func.sum(HourBlock.balance_minutes))) == 0
    assert granted == 207  # of 285 asked for


def test_blocks_are_drained_by_expiry_and_credited_back_the_other_way(database: Database) -> None:
    with database.begin() as session:
        _, contract = signed(session)
        never, june = block(session, contract, 60), block(session, contract, 60, date(2026, 6, 30))
        block(session, contract, 60, date(2026, 3, 15))  # expired the day before
        assert ledger.debit(session, contract.id, 90, NOON.date()) == (90, 0)
        assert (june.balance_minutes, never.balance_minutes) == (0, 30)
        assert ledger.would_exceed(session, contract.id, 31, NOON.date())
        assert not ledger.would_exceed(session, contract.id, 30, NOON.date())
        assert ledger.debit(session, contract.id, 40, NOON.date()) == (30, 10)
        assert ledger.credit(session, contract.id, 70, NOON.date()) == 70
        session.expire_all()
        assert (june.balance_minutes, never.balance_minutes) == (10, 60)
        assert ledger.balance(session, contract.id, NOON.date()) == (120, 70)


def test_entry_is_billed_by_the_version_in_force_on_the_date_of_work(database: Database) -> None:
    dearer = [TERMS["lines"][0] | {"rate": "120"}]
    with database.begin() as session:
        client, contract = signed(session)
        agreements.add_version(session, contract, TERMS | {"lines": dearer}, NOON, "test", now=NOON - timedelta(days=9))
        before = entries.propose_entry(session, Worked(client.id, NOON - timedelta(minutes=1), 40))
        after = entries.propose_entry(session, Worked(client.id, NOON, 40))
        assert [(one.billed_minutes, one.amount) for one in (before, after)] == [(45, 67.50), (45, 90)]
        assert "40 min rounded up to 45" in before.reason


def test_a_retainer_is_drawn_at_the_rate_of_the_day_of_work(database: Database) -> None:
    line = {"id": "L", "kind": "retainer_money", "name": "Retainer", "monthly_fee": "1000", "rate": "50"}
    third, middle = datetime(2026, 3, 3, 9, tzinfo=UTC), datetime(2026, 3, 14, 23, tzinfo=UTC)
    with database.begin() as session:
        client, contract = signed(session, [line])
        assert entries.propose_entry(session, Worked(client.id, third, 600)).amount == 0
        dearer = TERMS | {"lines": [line | {"rate": "100"}]}
        agreements.add_version(session, contract, dearer, middle, "test", now=third)
        found = [entries.propose_entry(session, Worked(client.id, NOON, hours * 60)) for hours in (1, 5, 1)]
        assert [one.amount for one in found] == [0, 100, 100]  # 500 and 100 are drawn: 400 are left
        entries.withdraw(session, found[0])
        assert entries.propose_entry(session, Worked(client.id, NOON, 60)).amount == 0


def test_entry_across_the_evening_is_split_before_rounding(database: Database) -> None:
    with database.begin() as session:
        client, _ = signed(session)
        evening = datetime(2026, 3, 16, 16, 50, tzinfo=UTC)  # 17:50 in Berlin
        entry = entries.propose_entry(session, Worked(client.id, evening, 30))
        assert (entry.billed_minutes, entry.amount) == (45, Decimal("90.00"))


def test_work_beyond_the_block_is_overage_and_a_withdrawn_entry_gives_its_minutes_back(database: Database) -> None:
    line = {"id": "B", "kind": "block_hours", "name": "Hours", "overage_rate": "100", "increment": 15}
    with database.begin() as session:
        client, contract = signed(session, [line])
        stored = block(session, contract, 50)
        entry = entries.propose_entry(session, Worked(client.id, NOON, 61))
        assert (entry.billed_minutes, entry.prepaid_minutes, entry.amount) == (75, 50, Decimal("41.67"))
        session.refresh(stored)
        assert stored.balance_minutes == 0
        entries.withdraw(session, entry)
        session.refresh(stored)
        assert stored.balance_minutes == 50
        with pytest.raises(Conflict):
            entries.withdraw(session, entry)


@pytest.mark.parametrize(
    ("line", "amounts"),
    [
        ({"kind": "call_out", "call_out_fee": "50", "rate": "60"}, ["80.00", "30.00", "30.00"]),
        ({"kind": "per_ticket", "price_per_ticket": "25"}, ["25.00", "25.00", "25.00"]),
        ({"kind": "per_device", "price_per_device": "9"}, ["0.00", "0.00", "0.00"]),
        ({"kind": "fixed_scope", "monthly_fee": "9", "included_minutes": 45, "rate": "60"}, ["0.00", "15.00", "30.00"]),
        ({"kind": "retainer_money", "monthly_fee": "70", "rate": "60"}, ["0.00", "0.00", "20.00"]),
    ],
)
def test_each_kind_of_line_bills_its_own_way(database: Database, line: dict[str, Any], amounts: list[str]) -> None:
    with database.begin() as session:
        client, _ = signed(session, [{"id": "L", "name": "Line"} | line])
        works = ["onsite", "remote", "remote"]
        found = [entries.propose_entry(session, Worked(client.id, NOON, 30, work=work)) for work in works]
        assert [str(entry.amount) for entry in found] == amounts


def test_a_visit_owes_its_fee_and_overage_its_tariff_beside_included_minutes(database: Database) -> None:
    line = {
        "id": "L", "name": "Visits", "kind": "call_out", "call_out_fee": "80", "rate": "60", "included_minutes": 60,
        "tariffs": [{"name": "night", "multiplier": "2", "windows": [{"from": "18:00", "to": "08:00"}]}],
    }  # fmt: skip
    evening = datetime(2026, 3, 16, 16, 30, tzinfo=UTC)  # 17:30 in Berlin
    with database.begin() as session:
        client, contract = signed(session, [line])
        work = [
            Worked(client.id, evening + timedelta(hours=1), 120, work="onsite"),  # 60 included, 60 beyond at night
            Worked(client.id, evening, 60, work="remote"),  # nothing included is left: 30 ordinary, 30 at night
        ]
        found = [entries.propose_entry(session, one) for one in work]
        assert [one.amount for one in found] == [Decimal("200.00"), Decimal("90.00")]
        assert found[0].reason.endswith("60 prepaid, 60 at overage; 60 min night 120.00 EUR; call-out fee 80.00")
        for one in found:
            entries.confirm(session, one, "boss")
        act = entries.close_period(session, contract, "2026-03", "boss")
        assert act is not None
        assert [one["amount"] for one in act.lines] == ["90.00", "80.00", "120.00"]
        words = [act_reason.reason(one, "EUR", "en") for one in act.lines]
        assert words[0].endswith("tariff “ordinary”: 30 min, 30.00 EUR; tariff “night”: 30 min, 60.00 EUR")
        assert words[2].endswith("60 min beyond at 60.00 EUR an hour; tariff “night”: 60 min, 120.00 EUR")


def test_work_at_night_beyond_a_block_is_overage_at_the_tariff(database: Database) -> None:
    line = {
        "id": "B", "kind": "block_hours", "name": "Hours", "overage_rate": "100",
        "tariffs": [{"name": "night", "multiplier": "1.5", "windows": [{"from": "18:00", "to": "08:00"}]}],
    }  # fmt: skip
    with database.begin() as session:
        client, contract = signed(session, [line])
        block(session, contract, 40)
        evening = datetime(2026, 3, 16, 16, 30, tzinfo=UTC)  # 17:30 in Berlin: 30 min ordinary, 30 at night
        entry = entries.propose_entry(session, Worked(client.id, evening, 60))
        assert (entry.prepaid_minutes, entry.amount) == (40, Decimal("50.00"))  # 20 at night beyond


def test_closing_a_month_twice_makes_one_act_of_confirmed_entries(database: Database) -> None:
    with database.begin() as session:
        client, contract = signed(session)
        kept = entries.propose_entry(session, Worked(client.id, NOON, 60))
        entries.confirm(session, kept, "boss")
        entries.propose_entry(session, Worked(client.id, NOON, 60))
        april = entries.propose_entry(session, Worked(client.id, datetime(2026, 3, 31, 22, tzinfo=UTC), 60))
        entries.confirm(session, april, "boss")  # already April in Berlin
        act = entries.close_period(session, contract, "2026-03", "boss", fees=[(Decimal("10.00"), "Devices")])
        assert act is not None
        assert (act.net, act.vat, act.gross) == (Decimal("100.00"), Decimal("19.00"), Decimal("119.00"))
        assert (kept.act_id, april.act_id) == (act.id, None)
        assert entries.close_period(session, contract, "2026-03", "boss") is None
        assert session.scalar(select(func.count()).select_from(Act)) == 1
        with pytest.raises(Conflict, match="act of 2026-03 is closed"):
            entries.propose_entry(session, Worked(client.id, NOON, 5))
        with pytest.raises(Conflict):
            entries.withdraw(session, kept)


def test_version_of_a_contract_is_never_changed(database: Database) -> None:
    with database.begin() as session:
        _, contract = signed(session)
        version = agreements.versions(session, contract.id)[0]
        version.created_by = "test"  # touched, and set to what it was
        session.flush()
        version.terms = {}
        with pytest.raises(Conflict, match="cannot be changed"):
            session.flush()
        session.rollback()


@pytest.mark.parametrize(
    ("effective_at", "message"),
    [
        (NOON - timedelta(seconds=1), "cannot begin in the past"),
        (datetime(2026, 4, 1, 21, 59, tzinfo=UTC), "Two versions of the contract start on 2026-04-01"),
    ],
)
def test_second_version_begins_neither_in_the_past_nor_on_the_day_of_another(
    database: Database, effective_at: datetime, message: str
) -> None:
    with database.begin() as session:
        _, contract = signed(session)
        agreements.add_version(session, contract, TERMS, datetime(2026, 4, 1, 8, tzinfo=UTC), "test", now=NOON)
        with pytest.raises(Misconfigured, match=message):
            agreements.add_version(session, contract, TERMS, effective_at, "test", now=NOON)


def test_contract_is_in_force_on_its_days_in_the_zone_of_the_client(database: Database) -> None:
    with database.begin() as session:
        client, contract = signed(session)
        begins, ends = agreements.in_force(contract, client)
        assert (begins, ends) == (START, datetime(2026, 12, 31, 23, tzinfo=UTC))
        for at, known in ((begins, True), (begins - timedelta(seconds=1), False), (ends, False)):
            assert at is not None
            assert (agreements.version_in_force(session, client.id, at) is not None) is known


def test_contract_that_ends_before_it_begins_is_refused(database: Database) -> None:
    with database.begin() as session:
        client, _ = signed(session)
        with pytest.raises(Misconfigured, match="not after it begins"):
            agreements.add_contract(
                session, client, reference="B", kind="t_and_m", currency="EUR", starts_on=JANUARY, ends_on=JANUARY
            )


def test_terms_in_another_currency_are_refused(database: Database) -> None:
    with database.begin() as session:
        _, contract = signed(session)
        with pytest.raises(Misconfigured, match="terms are in RUB"):
            agreements.add_version(session, contract, TERMS | {"currency": "RUB"}, NOON, "test", now=NOON)


@pytest.mark.parametrize(
    ("action", "at", "status", "effect"),
    [
        ("read", "2026-03-16T12:00:00Z", 0, "allow"),
        ("disruptive", "2026-03-16T12:00:00Z", 4, "refuse"),
        ("disruptive", "2026-03-14T22:30:00+01:00", 0, "allow"),
        ("read", "2027-01-01T00:00:00+01:00", 4, "refuse"),
    ],
)
def test_contract_decide_answers_with_the_clause_and_status_4_for_a_refusal(
    configured: Database, action: str, at: str, status: int, effect: str
) -> None:
    with configured.begin() as session:
        client, _ = signed(session)
        site = Site(client_id=client.id, name="Head office")
        session.add(site)
        session.flush()
        session.add(
            ConfigurationItem(client_id=client.id, site_id=site.id, name="srv-fs1", kind="server", created_at=NOON)
        )
    arguments = ["contract", "decide", "--contract", "A-17", "--action", action, "--asset", "srv-fs1", "--at", at]
    outcome = CliRunner().invoke(main, [*arguments, "--json"])
    assert outcome.exit_code == status, outcome.output
    assert json.loads(outcome.stdout)["effect"] == effect
    plain = CliRunner().invoke(main, arguments)
    assert plain.stdout.startswith(effect)


def test_clients_and_contracts_are_listed_and_shown(configured: Database) -> None:
    with configured.begin() as session:
        signed(session)
    run = CliRunner().invoke
    assert run(main, ["client", "add", "beta", "--name", "Beta"]).exit_code == 0
    assert [json.loads(line)["key"] for line in run(main, ["client", "list", "--json"]).stdout.splitlines()] == [
        "alfa",
        "beta",
    ]
    assert json.loads(run(main, ["client", "show", "alfa", "--json"]).stdout)["contracts"] == ["A-17"]
    assert "A-17" in run(main, ["contract", "list", "--client", "alfa"]).stdout
    assert "clause 4.2: allow" in run(main, ["contract", "show", "A-17"]).stdout
    assert len(json.loads(run(main, ["contract", "show", "A-17", "--json"]).stdout)["versions"]) == 1
    missing = run(main, ["client", "show", "gamma"])
    assert (missing.exit_code, "no client 'gamma'" in missing.stderr) == (1, True)


def test_a_draft_is_signed_on_the_command_line_and_bills_nothing_before(configured: Database) -> None:
    with configured.begin() as session:
        client, contract = signed(session)
        contract.draft = True
        with pytest.raises(Misconfigured, match="No contract was in force"):
            entries.propose_entry(session, Worked(client.id, NOON, 5))
        with pytest.raises(Conflict, match="A-17 is a draft"):
            billing.close_month(session, contract, "2026-02", by="boss", now=NOON)
    run = CliRunner().invoke
    decide = ["contract", "decide", "--contract", "A-17", "--action", "read", "--asset", "srv-fs1"]
    with configured.begin() as session:
        session.add(ConfigurationItem(client_id=client.id, name="srv-fs1", kind="server", created_at=NOON))
    assert run(main, [*decide, "--at", "2026-03-16T12:00:00Z"]).exit_code == 4
    assert "a draft, to be in force from" in run(main, ["contract", "show", "A-17"]).stdout
    assert (
        run(main, ["contract", "sign", "A-17"]).stdout == "Contract A-17 is signed and in force from 2026-01-01 on.\n"
    )
    again = run(main, ["contract", "sign", "A-17"])
    assert (again.exit_code, "is signed already" in again.stderr) == (1, True)
    with configured.begin() as session:
        assert entries.propose_entry(session, Worked(client.id, NOON, 5)).amount


def test_entries_without_a_contract_in_force_are_refused(database: Database) -> None:
    with database.begin() as session:
        client, _ = signed(session)
        with pytest.raises(Misconfigured, match=r"No contract was in force on 2027-03-16"):
            entries.propose_entry(session, Worked(client.id, NOON.replace(year=2027), 5))
        assert session.scalar(select(func.count()).select_from(BillingEntry)) == 0
