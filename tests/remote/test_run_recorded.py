"""`msp run` beside an installation: the contract decides on its assets, and everything is recorded."""

import json
import sqlite3
import subprocess
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest
from test_run_command import ECHO, ends, msp

from msp import db
from msp.assets import inventory
from msp.clock import utc_now
from msp.contracts import terms
from msp.contracts.models import Client, Contract, ContractVersion
from msp.demo.hosts import DemoHosts
from msp.desk import tickets

pytestmark = pytest.mark.slow  # every test starts the command beside a database, several times
CHANGE = ECHO.replace("read", "change").replace("do: {shell: echo fx-1}", "do: touch t, check: test -e t")
TERMS = {
    "currency": "EUR",
    "zone": "Europe/Berlin",
    "calendars": {"office": {"tz": "Europe/Berlin", "week": {"mon": [["08:00", "17:30"]]}, "holidays": []}},
    "lines": [
        {
            "id": "L1", "kind": "block_hours", "name": "Servers", "calendar": "office", "overage_rate": "95.00",
            "targets": {f"P{n}": {"first_response": 30, "next_reply": 60, "resolution": 240} for n in (1, 2, 3, 4)},
        }
    ],
    "clauses": [
        {"id": "4.1", "text": "Reading is free.", "action_classes": ["read"], "effect": "allow"},
        {"id": "4.2", "text": "Changes need the client.", "action_classes": ["change"], "effect": "ask",
         "approver": "client_approver"},
        {"id": "4.3", "text": "Nothing interrupts.", "action_classes": ["disruptive"], "effect": "refuse"},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("installed")
    done = msp(folder, "init", MSP_DATA=str(folder / "var"))
    assert done.returncode == 0, done.stderr
    with DemoHosts(folder / "hosts", ["one", "stray"]) as hosts:
        hosts.write_list(folder / "list")
        (folder / "only-one").write_text(hosts["one"].line)
        (folder / "only-stray").write_text(hosts["stray"].line)
        (folder / "echo.yml").write_text(ECHO)
        (folder / "change.yml").write_text(CHANGE)
        database = db.Database(f"sqlite:///{folder / 'var/msp.db'}")
        with database.begin() as session:
            client = Client(key="alfa", name="Alfa", time_zone="Europe/Berlin")
            session.add(client)
            session.flush()
            contract = Contract(
                client_id=client.id, reference="MSP-1", title="Care", kind="block_hours", currency="EUR",
                starts_on=date(2020, 1, 1), ends_on=None,
            )  # fmt: skip
            session.add(contract)
            session.flush()
            session.add(
                ContractVersion(
                    contract_id=contract.id,
                    number=1,
                    effective_at=utc_now() - timedelta(days=1),
                    terms=TERMS,
                    digest=terms.digest(TERMS),
                    created_by="test",
                )
            )
            item = inventory.add(
                session, client_id=client.id, name="one", kind="server", by="test", address="127.0.0.1", criticality=2
            )
            opening = tickets.Opening(
                client_id=client.id, subject="Disk full", kind="incident", channel="phone_by_agent", asset_id=item.id
            )
            tickets.open_ticket(session, opening, by="test", now=utc_now())
        database.dispose()
        yield folder


def run(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return msp(folder, "run", *words, "--json", MSP_DATA=str(folder / "var"))


def rows(folder: Path, query: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(folder / "var/msp.db") as connection:
        return connection.execute(query).fetchall()


def test_run_for_a_ticket_is_recorded_with_evidence_and_stands_in_the_ticket(folder: Path) -> None:
    done = run(folder, "echo.yml", "--hosts", "only-one", "--ticket", "1")
    assert done.returncode == 0, done.stderr
    run_id, state, clause = rows(folder, "SELECT id, state, decision FROM run ORDER BY id DESC LIMIT 1")[0]
    assert state == "succeeded"
    assert json.loads(str(clause))["clause_id"] == "4.1"
    assert rows(folder, f"SELECT name, outcome FROM run_host WHERE run_id = {run_id}") == [("one", "ok")]
    stored = rows(folder, f"SELECT phase, outcome, stdout_head FROM step_result WHERE run_id = {run_id}")
    assert stored == [("do", "ok", b"fx-1\n")]
    kinds = [
        kind
        for (kind,) in rows(folder, f"SELECT kind FROM evidence WHERE subject_kind = 'run' AND subject_id = '{run_id}'")
    ]
    assert kinds == ["run.requested", "run.steps", "run.finished"]
    assert rows(folder, "SELECT count(*) FROM ticket_event WHERE kind = 'playbook_run'") == [(1,)]
    assert msp(folder, "evidence", "verify", MSP_DATA=str(folder / "var")).returncode == 0


def test_contract_refuses_before_any_socket_opens_and_exit_status_is_4(folder: Path) -> None:
    for words in (["--ticket", "1"], []):  # an asset of a client is known also without a ticket
        done = run(folder, "change.yml", "--hosts", "only-one", *words)
        assert done.returncode == 4, done.stderr
        assert "Changes need the client." in done.stderr
    assert not (folder / "hosts/one/t").exists()
    assert rows(folder, "SELECT state FROM run ORDER BY id DESC LIMIT 1") == [("refused",)]
    assert rows(folder, "SELECT kind FROM evidence ORDER BY id DESC LIMIT 1") == [("run.refused",)]


def test_refused_host_of_many_is_left_alone(folder: Path) -> None:
    done = run(folder, "change.yml", "--hosts", "list")
    assert {name: end["outcome"] for name, end in ends(done).items()} == {"one": "refused", "stray": "ok"}
    assert not (folder / "hosts/one/t").exists()
    assert (folder / "hosts/stray/t").exists()


def test_host_that_is_no_asset_of_the_ticket_s_client_is_refused(folder: Path) -> None:
    done = run(folder, "echo.yml", "--hosts", "only-stray", "--ticket", "1")
    assert done.returncode == 4
    assert "no asset of the client" in done.stderr


def test_broken_glass_is_recorded_with_its_reason(folder: Path) -> None:
    for action_class in ("change", "disruptive"):  # what would be asked, and what would be refused
        (folder / "glass.yml").write_text(CHANGE.replace("class: change", f"class: {action_class}"))
        done = run(folder, "glass.yml", "--hosts", "only-one", "--break-glass", "the building burns")
        assert done.returncode == 0, done.stderr
        assert (folder / "hosts/one/t").exists()
        (folder / "hosts/one/t").unlink()
    data = rows(folder, "SELECT data FROM evidence WHERE kind = 'run.requested' ORDER BY id DESC LIMIT 1")[0][0]
    assert "the building burns" in str(data)


def test_secret_from_the_vault_reaches_the_host_and_is_stored_nowhere(folder: Path) -> None:
    text = ECHO.replace("steps:", "parameters: {token: secret}\nsteps:").replace(
        "echo fx-1", "\"printf %s {{ token }} > kept; echo it is {{ token }}\""
    )  # fmt: skip
    (folder / "secret.yml").write_text(text)
    (folder / "token").write_text("correct horse battery")
    done = run(folder, "secret.yml", "--hosts", "only-stray", "--param", "token=file:token")
    assert done.returncode == 0, done.stderr
    assert (folder / "hosts/stray/kept").read_text() == "correct horse battery"
    assert "correct horse" not in done.stdout + done.stderr
    assert "it is ***" in done.stdout
    for name in ("msp.db", "msp.db-wal"):
        if (folder / "var" / name).exists():
            assert b"correct horse" not in (folder / "var" / name).read_bytes()
