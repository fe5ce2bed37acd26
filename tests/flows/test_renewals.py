"""What ends soon is told once, with everything that loses cover; and whether an asset is covered at an instant."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import select
from sqlalchemy.orm import Session

from msp import db, migrations
from msp.assets import inventory
from msp.assets.models import ConfigurationItem
from msp.backup.models import BackupPlan
from msp.console import main
from msp.contracts import agreements
from msp.contracts.models import Client, HourBlock, Site
from msp.db import Database
from msp.desk import tickets
from msp.desk.models import Ticket
from msp.flows import covering, renewals
from msp.people import users
from msp.people.models import Grant

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
TERMS: dict[str, Any] = {
    "currency": "EUR",
    "calendars": {},
    "lines": [
        {"id": "1", "kind": "t_and_m", "name": "Servers", "rate": "60.00", "covers": {"asset_classes": ["server"]}}
    ],
    "clauses": [{"id": "4.1", "text": "Looking is allowed.", "action_classes": ["read"], "effect": "allow"}],
}


def client_of(session: Session, ends_on: date | None, key: str = "alfa") -> Client:
    client = agreements.add_client(session, key=key, name=key.title(), time_zone="Europe/Berlin")
    contract = agreements.add_contract(
        session,
        client,
        reference=f"C-{key}",
        kind="t_and_m",
        currency="EUR",
        starts_on=date(2026, 1, 1),
        ends_on=ends_on,
    )
    agreements.add_version(session, contract, TERMS, datetime(2026, 1, 1, tzinfo=UTC), "test", now=NOON)
    return client


def furnished(session: Session, client: Client) -> ConfigurationItem:
    item = inventory.add(session, client_id=client.id, name="srv-1", kind="server", by="test")
    plan = BackupPlan(
        client_id=client.id, name="files nightly", engine="tar", case={}, cron="0 3 * * *", time_zone="UTC",
        proof_every=timedelta(days=7), created_at=NOON,
    )  # fmt: skip
    session.add(plan)
    tickets.open_ticket(session, tickets.Opening(client_id=client.id, subject="Slow"), by="test", now=NOON)
    return item


def test_a_contract_that_ends_names_what_loses_cover_and_opens_one_ticket_for_ever(database: Database) -> None:
    with database.begin() as session:
        client = client_of(session, date(2026, 4, 30))
        furnished(session, client)
        one, _ = (
            users.add(session, email=f"{name}@p.example", name=name, password="x" * 12, roles=[role], by="t")
            for name, role in (("max", "account manager"), ("tech", "technician"))
        )
        (found,) = renewals.ending(session, NOON)
        assert (found.kind, found.days, found.assets, found.plans) == ("contract", 57, ("srv-1",), ("files nightly",))
        assert len(found.open_tickets) == 1
        assert renewals.tell(session, NOON) == 1
        assert renewals.tell(session, NOON + timedelta(hours=1)) == 0
        ticket = session.scalars(select(Ticket).where(Ticket.dedup_key == found.key)).one()
        assert ticket.assignee_id == one.id
        assert "C-alfa ends with 2026-04-30" in ticket.subject
        assert "srv-1" in tickets.log_of(session, ticket.id)[0].text
        tickets.move(session, ticket.id, "closed", by="max", now=NOON)
        assert renewals.tell(session, NOON + timedelta(days=1)) == 0


@pytest.mark.parametrize(
    ("ends_on", "told"),
    [(None, 0), (date(2026, 3, 3), 0), (date(2026, 3, 4), 1), (date(2026, 5, 3), 1), (date(2026, 5, 4), 0)],
)
def test_only_what_ends_within_sixty_days_is_told(database: Database, ends_on: date | None, told: int) -> None:
    with database.begin() as session:
        client_of(session, ends_on)
        assert len(renewals.ending(session, NOON)) == told


def test_a_contract_that_another_follows_is_not_told(database: Database) -> None:
    with database.begin() as session:
        client = client_of(session, date(2026, 3, 31))
        agreements.add_contract(
            session, client, reference="C-next", kind="t_and_m", currency="EUR", starts_on=date(2026, 4, 1)
        )
        assert renewals.ending(session, NOON) == []


def test_a_block_with_minutes_left_is_told_before_it_expires(database: Database) -> None:
    with database.begin() as session:
        client = client_of(session, None)
        contract = agreements.contract_by_reference(session, "C-alfa")
        for left in (90, 0):
            block = HourBlock(
                contract_id=contract.id, purchased_on=date(2026, 1, 1), expires_on=date(2026, 3, 31), minutes=600,
                balance_minutes=left,
            )  # fmt: skip
            session.add(block)
        session.flush()
        (found,) = renewals.ending(session, NOON)
        assert (found.kind, found.minutes, found.client.id) == ("block", 90, client.id)
        assert "1 h 30 min left" in found.sentences()[0]


def test_prepaid_hours_nearly_used_up_are_told_at_eighty_and_at_ninety_five_percent(database: Database) -> None:
    with database.begin() as session:
        client = client_of(session, None)
        contract = agreements.contract_by_reference(session, "C-alfa")
        prepaid = HourBlock(
            contract_id=contract.id, purchased_on=date(2026, 1, 1), minutes=600, balance_minutes=121
        )  # fmt: skip
        session.add(prepaid)
        session.flush()
        said = []
        for left in (121, 120, 90, 30, 0):
            prepaid.balance_minutes = left
            session.flush()
            said.append((renewals.tell(session, NOON), renewals.tell(session, NOON)))
        assert said == [(0, 0), (1, 0), (0, 0), (1, 0), (0, 0)]
        subjects = session.scalars(select(Ticket.subject).where(Ticket.client_id == client.id).order_by(Ticket.id))
        assert [subject.partition(" of")[0] for subject in subjects] == ["80 %", "95 %"]


def test_a_later_block_of_the_same_size_is_told_of_again(database: Database) -> None:
    with database.begin() as session:
        client_of(session, None)
        contract = agreements.contract_by_reference(session, "C-alfa")
        for begins, ends in ((date(2026, 1, 1), date(2026, 3, 31)), (date(2026, 4, 1), date(2026, 6, 30))):
            prepaid = HourBlock(
                contract_id=contract.id, purchased_on=begins, expires_on=ends, minutes=600, balance_minutes=600
            )
            session.add(prepaid)
            session.flush()
            now, said = datetime(2026, begins.month, 15, 12, tzinfo=UTC), []
            for left in (600, 100, 20):
                prepaid.balance_minutes = left
                session.flush()
                said.append([renewals._told(session, *one, now) for one in renewals._used(session, now)])
            assert said == [[], [True], [True]]


def test_a_manager_of_just_this_client_goes_before_one_of_all(database: Database) -> None:
    with database.begin() as session:
        client, other = client_of(session, None), client_of(session, None, "beta")
        people = [
            users.add(session, email=f"{n}@p.example", name=n, password="x" * 12, roles=["account manager"], by="t")
            for n in ("all", "own", "foreign")
        ]
        session.add_all(
            (Grant(user_id=people[1].id, client_id=client.id), Grant(user_id=people[2].id, client_id=other.id))
        )
        session.flush()
        found = renewals.manager_of(session, client.id)
        assert found is not None
        assert found.name == "own"


def test_an_asset_is_covered_by_a_line_and_each_action_has_its_clause(database: Database) -> None:
    with database.begin() as session:
        item = furnished(session, client_of(session, date(2026, 4, 30)))
        printer = inventory.add(session, client_id=item.client_id, name="prn", kind="printer", by="test")
        session.add(Site(client_id=item.client_id, name="Berlin"))
        found = covering.of(session, item, NOON, actor="test")
        assert found.covered
        assert found.line is not None
        said = {name: (one.effect, one.clause_id) for name, one in found.decisions}
        assert said["read"] == ("allow", "4.1")
        assert said["change"][0] == "refuse"
        assert not covering.of(session, printer, NOON, actor="test").covered
        assert not covering.of(session, item, NOON + timedelta(days=80), actor="test").covered
        assert covering.of(session, item, NOON + timedelta(days=80), actor="test").contract is None


def test_commands_say_cover_endings_and_holidays(empty_database_url: str, tmp_path: Path, monkeypatch: Any) -> None:
    migrations.upgrade(empty_database_url, copies=tmp_path / "copies")
    db.use(empty_database_url)
    monkeypatch.setenv("MSP_DATABASE", empty_database_url)
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke
    with db.begin() as session:
        furnished(session, client_of(session, date(2026, 4, 30)))
    said = run(main, ["contract", "covered", "--asset", "srv-1", "--at", NOON.isoformat()])
    assert said.exit_code == 0, said.output
    assert "is covered by line 1 (Servers) of contract C-alfa, version 1." in said.output
    gone = run(main, ["contract", "covered", "--asset", "srv-1", "--at", "2026-08-01T00:00:00Z", "--json"])
    assert (gone.exit_code, json.loads(gone.output)["covered"]) == (1, False)
    assert run(main, ["contract", "covered", "--asset", "none"]).exit_code == 1
    assert run(main, ["contract", "ending"]).exit_code == 0
    terms = tmp_path / "terms.json"
    terms.write_text(
        json.dumps({**TERMS, "calendars": {"office": {"tz": "Europe/Berlin", "holidays": ["2027-01-01"]}}})
    )
    options = ["--country", "DE", "--subdivision", "BE", "--year", "2027"]
    done = run(main, ["contract", "holidays", *options, "--into", str(terms)])
    assert done.output.startswith("9 of 10 days added"), done.output
    assert json.loads(terms.read_text())["calendars"]["office"]["holidays"][:3] == [
        "2027-01-01", "2027-03-08", "2027-03-26",
    ]  # fmt: skip
    again = run(main, ["contract", "holidays", *options, "--into", str(terms)])
    assert again.output.startswith("0 of 10")
    for wrong in (["--country", "XX", "--year", "2027"], ["--country", "DE", "--subdivision", "QQ", "--year", "2027"]):
        assert run(main, ["contract", "holidays", *wrong]).exit_code == 2
