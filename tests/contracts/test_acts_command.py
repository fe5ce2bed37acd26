"""`msp billing act`: from closing a month to the file."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import text
from test_acts_closing import signed, worked_month

from msp.console import main
from msp.db import Database
from msp.migrations import head


@pytest.fixture
def configured(database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A database with a month to close that the command finds in its settings."""
    monkeypatch.setenv("MSP_DATABASE", database.url)
    monkeypatch.setenv("MSP_PROVIDER", "Provider Ltd")
    with database.begin() as session:
        session.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"))
        session.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": head()})
        worked_month(session, signed(session)[0])
    return database


def test_a_month_is_closed_shown_exported_and_sent(configured: Database, tmp_path: Path) -> None:
    run = CliRunner().invoke
    closed = run(main, ["billing", "act", "close", "A-17", "2026-03", "--json"])
    assert closed.exit_code == 0, closed.output
    assert {**json.loads(closed.stdout), "id": 1} == {
        "id": 1, "period": "2026-03", "state": "draft", "currency": "EUR", "contract": "A-17",
        "net": "195.00", "vat": "37.05", "gross": "232.05", "lines": 5,
    }  # fmt: skip
    again = run(main, ["billing", "act", "close", "A-17", "2026-03"])
    assert (again.exit_code, "closed already" in again.stdout) == (0, True)
    shown = run(main, ["billing", "act", "show", "1"])
    assert "25 min prepaid, 20 min beyond at 120.00 EUR an hour" in shown.stdout
    assert json.loads(run(main, ["billing", "act", "show", "1", "--json"]).stdout)["provider"] == "Provider Ltd"
    files = []
    for name in ("one.pdf", "two.pdf"):
        written = run(main, ["billing", "act", "export", "1", "-o", str(tmp_path / name)])
        assert written.exit_code == 0, written.output
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]
    assert run(main, ["billing", "act", "send", "1"]).exit_code == 0
    assert '"state": "sent"' in run(main, ["billing", "act", "list", "--json"]).stdout
    assert "sent" in run(main, ["billing", "act", "list", "--contract", "A-17", "--period", "2026-03"]).stdout


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["close", "A-18", "2026-03"], 1, "no contract 'A-18'"),
        (["close", "A-17", "March"], 2, "must be a date"),
        (["close", "A-17", "9999-11"], 1, "not over yet"),
        (["show", "7"], 1, "no act 7"),
        (["send", "7"], 1, "no act 7"),
        (["export", "7", "--format", "csv"], 1, "no act 7"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    configured: Database, arguments: list[str], status: int, words: str
) -> None:
    done = CliRunner().invoke(main, ["billing", "act", *arguments])
    assert (done.exit_code, words in done.stderr) == (status, True), done.output
