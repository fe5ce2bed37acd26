"""Stored plans and tests, and the commands."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sabotage import LOGICAL, NOW, by_tar, case, cut, write_case
from sqlalchemy.orm import Session

from msp import evidence
from msp.backup import plans
from msp.backup.plan_parts import PlanParts
from msp.backup.verdict import Finding, Result, Rung
from msp.clock import utc_now
from msp.console import main
from msp.contracts.models import Client
from msp.db import Database, Model
from msp.errors import Conflict, Misconfigured
from msp.migrations import import_models

WHEN = datetime(2026, 9, 21, tzinfo=UTC)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    import_models()
    database = Database(f"sqlite:///{tmp_path / 'msp.db'}")
    Model.metadata.create_all(database.engine)
    with database.begin() as session:
        session.add(Client(key="alfa", name="Alfa GmbH"))
        session.flush()
        yield session
    database.dispose()


PARTS = PlanParts(
    name="srv01",
    case={"engine": "tar", "file": "/srv/x.tar"},
    cron="30 3 * * *",
    time_zone="Europe/Berlin",
    proof_every=timedelta(days=30),
)


def plan(session: Session, **changes: Any) -> plans.BackupPlan:
    return plans.create(session, replace(PARTS, **changes), client_id=1, by="anna")


def result(*findings: Finding) -> Result:
    return Result("srv01", "tar", "1", "x.tar", (Rung(4, 2.0, findings),), rto_s=2.0, rpo_s=60.0, evidence="00")


def test_a_plan_is_proven_by_its_test_and_unproven_by_a_failed_one(session: Session) -> None:
    made = plan(session)
    assert plans.proof(session, made, WHEN).state == "unproven"
    plans.record_test(session, made, result(), now=WHEN)
    assert plans.proof(session, made, WHEN).state == "proven"
    assert plans.proof(session, made, WHEN + timedelta(days=31)).state == "overdue"
    assert [row["proof"] for row in plans.overview(session, WHEN, client_key="alfa")] == ["proven"]
    stored = plans.record_test(session, made, result(Finding("content", "x")), now=WHEN + timedelta(days=1))
    assert (stored.verdict, stored.reasons, stored.highest_rung) == ("fail", ["content"], 0)
    assert [each.id for each, _ in plans.unproven(session, WHEN + timedelta(days=2))] == [made.id]
    count, breaks = evidence.verify(session)
    assert (count, breaks) == (3, [])


def test_a_cron_instant_is_tested_once(session: Session) -> None:
    made = plan(session)
    plans.begin_test(session, made, WHEN, nominal="2026-09-21T03:30")
    with pytest.raises(Conflict):
        plans.begin_test(session, made, WHEN, nominal="2026-09-21T03:30")


def test_a_plan_renders_to_the_case_it_was_made_of(session: Session) -> None:
    rendered = plans.render(plan(session), secret="hunter2", now=WHEN)
    assert (rendered.name, rendered.engine, rendered.secret, rendered.now) == ("srv01", "tar", "hunter2", WHEN)


@pytest.mark.parametrize(
    "wrong",
    [
        {"case": {"engine": "tar", "file": "/x", "secret": "s"}},
        {"case": {"engine": "punchcards", "file": "/x"}},
        {"time_zone": "Mars/Olympus"},
        {"cron": "daily"},
        {"proof_every": timedelta()},
    ],
)
def test_a_plan_that_cannot_run_is_refused(wrong: dict[str, object], session: Session) -> None:
    with pytest.raises(Misconfigured):
        plan(session, **wrong)


def test_the_command_ends_with_the_verdict_and_its_status(tmp_path: Path) -> None:
    document = case(LOGICAL[0], tmp_path, by_tar)
    done = CliRunner().invoke(main, ["backup", "verify", str(write_case(document, tmp_path))])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout.strip().splitlines()[-1])
    assert (said["verdict"], said["reasons"], said["restored_files"]) == ("pass", [], 97)
    cut(Path(document["file"]))
    os.utime(document["file"], (NOW - 60, NOW - 60))
    done = CliRunner().invoke(main, ["backup", "verify", str(write_case(document, tmp_path)), "--json"])
    assert done.exit_code == 1
    assert json.loads(done.stdout)["verdict"] == "fail"


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"engine": "tar"}', '{"engine": "tar", "file": "/x", "fiel": 1}', '{"engine": "x", "file": "/x"}'],
)
def test_a_case_that_cannot_be_read_exits_with_two_and_a_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "case.json").write_text(text)
    done = CliRunner().invoke(main, ["backup", "verify", str(tmp_path / "case.json")])
    assert done.exit_code == 2
    assert done.stderr.startswith("msp: ")


def test_a_manifest_that_is_none_exits_with_two(tmp_path: Path) -> None:
    document = {"engine": "tar", "file": "/x", "expect": {"manifest": str(tmp_path / "none.json")}}
    assert CliRunner().invoke(main, ["backup", "verify", str(write_case(document, tmp_path))]).exit_code == 2


def test_a_test_that_is_asked_to_end_cleans_up(tmp_path: Path) -> None:
    source = tmp_path / "fifo"
    (tmp_path / "copy").mkdir()
    os.mkfifo(source)
    document = {"engine": "tar", "file": str(source), "now": NOW}
    argv = [sys.executable, "-c", "from msp.console import main; main()", "backup", "verify"]
    words = [str(write_case(document, tmp_path)), "--scratch", str(tmp_path / "scratch")]
    process = subprocess.Popen([*argv, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ends = time.monotonic() + 20
    while not list((tmp_path / "scratch").glob("restore-*")) and time.monotonic() < ends:
        time.sleep(0.05)  # it now waits for somebody to write to the pipe
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 128 + signal.SIGTERM
    assert list((tmp_path / "scratch").iterdir()) == []


def test_times_are_aware(session: Session) -> None:
    assert plan(session).created_at <= utc_now()
