"""A host that does not answer: asked again until somebody must leave, then visited. A command that died: in doubt."""

import os
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from postgres import free_port
from sqlalchemy import select
from world import ANNA, ROOT, World

from msp.clock import utc_now
from msp.desk.models import Ticket
from msp.dispatch.models import WorkOrder
from msp.engine import claims
from msp.engine.models import Job
from msp.errors import Conflict
from msp.flows import adrift, approving, driving, offline, repeating
from msp.remote.ledger import Key, StepRecord
from msp.remote.models import Run, RunHost
from msp.remote.outcome import Outcome
from msp.remote.sql_ledger import SqlLedger

WAITS = """\
name: own
version: "1"
action_class: change
offline: wait
limits: {connect: 2s}
steps:
  - do: echo done >> effects
    check: test -e effects
"""


def set_deadline(world: World, ticket_id: int | None, **ahead: float) -> datetime:
    """Let the ticket's clock say when somebody must leave, until it is looked at anew; return that instant."""
    leave_by = utc_now() + timedelta(**ahead)
    with world.database.begin() as session:
        session.get_one(Ticket, ticket_id).latest_dispatch_at = leave_by
    return leave_by


def host_of(world: World, run_id: int) -> RunHost:
    with world.database.read() as session:
        return session.scalars(select(RunHost).where(RunHost.run_id == run_id)).one()


def jobs(world: World, run_id: int) -> list[str]:
    with world.database.read() as session:
        query = select(Job.id).where(Job.id.startswith(f"run:{run_id}:")).order_by(Job.created_at)
        return list(session.scalars(query))


def test_host_that_does_not_answer_is_asked_again_until_the_latest_dispatch_and_then_done_once(world: World) -> None:
    world.point("one", free_port())
    run = world.request(world.playbook(WAITS), ticket_id=world.ticket(asset_id=world.asset("one")))
    leave_by = set_deadline(world, run.ticket_id, hours=2)
    assert world.drive(run.id).state == "queued"
    host = host_of(world, run.id)
    assert (host.outcome, host.state, host.waits_until) == (None, "waiting", leave_by - offline.MARGIN)
    assert "Does not answer" in host.detail
    assert world.of_run(WorkOrder, run.id) == []
    assert any("not answer" in (entry.text or "") for entry in world.log(run.ticket_id or 0))
    assert len(jobs(world, run.id)) == 2  # the first, and the next try
    stored = world.run(run.id)
    assert stored.not_before is not None
    assert timedelta(seconds=30) < stored.not_before - utc_now() <= offline.FIRST
    world.drive(run.id)  # still nothing
    assert host_of(world, run.id).asked_times == 2
    world.point("one", world.host().port)
    assert world.drive(run.id).state == "succeeded"
    assert (world.host().root / "effects").read_text() == "done\n"
    assert sum("not answer" in (entry.text or "") for entry in world.log(run.ticket_id or 0)) == 1  # told once


@pytest.mark.parametrize("phase", ["do", "undo"])
def test_host_that_went_silent_when_work_on_it_had_begun_is_not_asked_again(world: World, phase: str) -> None:
    world.point("one", free_port())
    run = world.request(world.playbook(WAITS), ticket_id=world.ticket(asset_id=world.asset("one")))
    set_deadline(world, run.ticket_id, hours=2)
    with world.database.begin() as session:
        driving.begin(session, run.id, 0)
    now = utc_now()
    came = Outcome("unreachable" if phase == "do" else "ok", detail="The connection had gone.")
    told = StepRecord(Key(0, 1, phase), "one", "one", came, "", now, now)  # type: ignore[arg-type]
    SqlLedger(run.id, "worker-01").write([told], [], [])
    assert world.drive(run.id).state == "failed"
    host = host_of(world, run.id)
    assert (host.outcome, host.asked_times) == ("unreachable", 0)
    assert len(jobs(world, run.id)) == 1
    assert len(world.of_run(WorkOrder, run.id)) == 1


def test_when_the_deadline_has_come_the_run_fails_and_proposes_one_visit(world: World) -> None:
    world.point("one", free_port())
    run = world.request(world.playbook(WAITS), ticket_id=world.ticket(asset_id=world.asset("one")))
    set_deadline(world, run.ticket_id, hours=2)
    assert world.drive(run.id).state == "queued"
    set_deadline(world, run.ticket_id, minutes=10)  # less than the dispatcher's margin
    assert world.drive(run.id).state == "failed"
    assert host_of(world, run.id).outcome == "unreachable"
    (order,) = world.of_run(WorkOrder, run.id)
    assert "own could not mend one remotely" in order.reason


def test_playbook_that_may_not_wait_fails_at_once(world: World) -> None:
    world.point("one", free_port())
    run = world.request(world.playbook(WAITS.replace("offline: wait\n", "")))
    assert world.drive(run.id).state == "failed"


def test_waiting_run_can_be_cancelled(world: World) -> None:
    world.point("one", free_port())
    run = world.request(world.playbook(WAITS))
    set_deadline(world, run.ticket_id, hours=2)
    world.drive(run.id)
    with world.database.begin() as session:
        driving.cancel(session, run.id, by=ANNA.name)
    assert host_of(world, run.id).outcome == "not_started"
    assert world.drive(run.id).state == "cancelled"


@pytest.mark.slow
def test_worker_asks_again_by_itself(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job of the next try lies on the queue with its time; when it comes, any worker takes it."""
    monkeypatch.setattr(offline, "FIRST", timedelta(seconds=1))
    world.point("one", free_port())
    run = world.request(world.playbook(WAITS))
    set_deadline(world, run.ticket_id, hours=2)
    world.drive(run.id)
    world.point("one", world.host().port)
    world.start_worker()
    world.wait(lambda: world.run(run.id).state == "succeeded")
    assert (world.host().root / "effects").read_text() == "done\n"


SLOW = """\
name: slow
version: "1"
action_class: change
steps:
  - do: echo begun >> effects; sleep 60
    check: test -e effects
"""


@pytest.fixture
def killed_run(world: World, tmp_path: Path) -> int:
    """A run of `msp run` whose process was killed while its command was on the wire."""
    (tmp_path / "slow.yml").write_text(SLOW)
    (tmp_path / "list").write_text(f"{world.host('one').line}\n{world.host('two').line}\n")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MSP_")}
    command = [sys.executable, "-m", "msp", "--config", str(world.config), "run", str(tmp_path / "slow.yml")]
    process = subprocess.Popen(
        [*command, "--hosts", str(tmp_path / "list"), "--parallel", "1"], cwd=ROOT, env=environment
    )
    world.wait((world.host().root / "effects").exists)
    time.sleep(0.2)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    with world.database.read() as session:
        return session.scalars(select(Run.id)).one()


def test_run_whose_command_was_killed_ends_in_doubt_when_its_lease_is_over(world: World, killed_run: int) -> None:
    with world.database.begin() as session:
        assert adrift.end_adrift(session, utc_now()) == 0  # it may still live
    assert world.run(killed_run).state == "running"
    with world.database.begin() as session:
        assert adrift.end_adrift(session, utc_now() + adrift.LEASE + timedelta(seconds=1)) == 1
    assert world.run(killed_run).state == "in_doubt"
    assert world.ends(killed_run) == {"one": "lost", "two": "not_started"}
    with world.database.read() as session:
        (doubt,) = claims.in_doubt(session, run_id=killed_run)
    assert (doubt.step, doubt.phase) == (1, "do")
    with pytest.raises(Conflict):  # the command was only stopped, and wakes up: it may begin nothing more
        SqlLedger(killed_run, "cli:late").write((), (), [Key(1, 1, "do")])


@pytest.mark.slow
def test_a_worker_finds_runs_adrift(world: World, killed_run: int) -> None:
    with world.database.begin() as session:
        session.get_one(Run, killed_run).lease_until = utc_now() - timedelta(seconds=1)
    world.start_worker()
    world.wait(lambda: world.run(killed_run).state == "in_doubt")


def test_repeating_on_the_failed_keeps_parameters(world: World) -> None:
    text = WAITS.replace("offline: wait\n", "parameters: {word: string}\n").replace("echo done", "echo {{ word }}")
    world.point("one", free_port())
    first = world.request(world.playbook(text), "one", "two", parameters={"word": "this"})
    assert world.drive(first.id).state == "failed"
    world.point("one", world.host().port)
    with world.database.begin() as session:
        again = repeating.rerun_failed(session, first.id, actor=ANNA, own=world.settings.playbooks)
        assert again.parameters == {"word": "this"}
    assert world.drive(again.id).state == "succeeded"
    assert world.ends(again.id) == {"one": "ok"}


ASKS = WAITS.replace("offline: wait\n", "parameters: {word: string}\n").replace("class: change", "class: disruptive")


@pytest.fixture
def approved(world: World) -> Run:
    """A run on two hosts that the client approved, and that failed on one of them."""
    world.point("one", free_port())
    run = world.request(world.playbook(ASKS), "one", "two", parameters={"word": "this"})
    assert run.state == "awaiting_approval"
    with world.database.begin() as session:
        approving.approve(session, run.id, actor=world.olga)
    assert world.drive(run.id).state == "failed"
    world.point("one", world.host().port)
    return run


def again(world: World, run: Run, **ahead: float) -> Run:
    with world.database.begin() as session:
        now = utc_now() + timedelta(**ahead)
        return repeating.rerun_failed(session, run.id, actor=ANNA, own=world.settings.playbooks, now=now)


def test_repeating_keeps_the_approval_while_nothing_has_changed(world: World, approved: Run) -> None:
    repeated = again(world, approved)
    assert repeated.state == "queued"
    assert world.drive(repeated.id).state == "succeeded"
    assert world.ends(repeated.id) == {"one": "ok"}
    assert any("still holds" in (entry.text or "") for entry in world.log(approved.ticket_id or 0))


def test_repeating_asks_again_when_the_text_has_changed_or_time_is_over(world: World, approved: Run) -> None:
    assert again(world, approved, hours=2).state == "awaiting_approval"  # the clause gives an hour
    world.playbook(ASKS.replace("echo done", "echo more"))
    assert again(world, approved).state == "awaiting_approval"
    world.playbook(ASKS)
    assert again(world, approved).state == "queued"
