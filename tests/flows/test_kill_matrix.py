"""Workers killed at every commit boundary of a run: no effect twice, none lost, every doubt told, one bill, one visit.

Two worker processes play each case: the first (and in some cases the second) kills itself at a named point, the last
one goes on. What happened is counted on the host, where every act appends a line.
"""

import signal
from collections import Counter

import pytest
from sqlalchemy import func, select
from world import ANNA, World

from msp import evidence
from msp.contracts.models import BillingEntry
from msp.dispatch.models import WorkOrder
from msp.engine import claims
from msp.engine.models import EffectClaim
from msp.flows import runs
from msp.remote.models import RunHost

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kills")]

GOOD = """\
name: good
version: "1"
action_class: change
steps:
  - name: probed
    probe: "! grep -qx probed effects"
    do: echo probed >> effects
    check: sleep 0.25; grep -qx probed effects
    undo: echo undone >> effects
  - name: repeatable
    idempotent: true
    do: echo repeatable >> repeated; echo set > state
    check: sleep 0.25; grep -qx set state
  - name: plain
    do: echo plain >> effects
    check: sleep 0.25; grep -qx plain effects
"""
#: Each check takes long enough that what was done is written before, so that the writes can be counted.
#: The last step is done, its check says no, and the first is undone.
BAD = GOOD.replace("name: good", "name: bad").replace("grep -qx plain effects", "grep -qx other effects")

#: Every boundary that a run of three steps passes, and pairs in which the next worker dies at going on.
POINTS = (
    "job.start",
    "job.before",
    "run.started",
    "ledger.before:1",
    "ledger.written:1",
    "ledger.written:2",
    "ledger.claimed:1",
    "ledger.claimed:2",
    "ledger.claimed:3",
    "ledger.told:1",
    "ledger.told:2",
    "ledger.told:3",
    "run.driven",
    "run.settled",
    "run.finished",
    "job.handled",
    "job.ended",
    "ledger.claimed:1 ledger.resolved",
    "ledger.claimed:2 ledger.resolved",
    "ledger.claimed:3 run.finished",
    "ledger.told:1 ledger.told:1 run.driven",
)
#: Those of a run that fails and is undone: the claim of the undo is the fourth.
BAD_POINTS = (
    "ledger.claimed:3",
    "ledger.claimed:4",
    "ledger.told:3",
    "ledger.told:4",
    "run.driven",
    "run.settled",
    "run.finished",
    "job.handled",
    "job.ended",
    "ledger.claimed:4 run.settled",
)


def lines(world: World, name: str = "effects") -> Counter[str]:
    file = world.host().root / name
    return Counter(file.read_text().split()) if file.exists() else Counter()


def ended(world: World, run_id: int) -> bool:
    return world.run(run_id).finished_at is not None


def doubts(world: World, run_id: int) -> list[EffectClaim]:
    with world.database.read() as session:
        return claims.in_doubt(session, run_id=run_id)


def answer(world: World, run_id: int) -> int:
    """Let Anna look at the host and say what has happened, until nothing is in doubt; return how often she had to."""
    asked = 0
    while world.run(run_id).state == "in_doubt":
        (doubt,) = doubts(world, run_id)
        effect = {(1, "do"): "probed", (3, "do"): "plain", (1, "undo"): "undone"}[doubt.step, doubt.phase]
        with world.database.begin() as session:
            runs.resolve(session, run_id, doubt.host_id, doubt.step, doubt.phase, lines(world)[effect] > 0, actor=ANNA)
        world.wait(lambda: ended(world, run_id))
        asked += 1
        assert asked < 3
    return asked


def killed_at(world: World, points: str) -> None:
    """Start a worker for each point and wait until it has killed itself there."""
    for point in points.split():
        world.killed(world.start_worker(crash_at=point))


def hold(world: World, run_id: int, *, crashes: int) -> None:
    """What must hold of any run after any number of kills, whatever its outcome."""
    assert max(lines(world).values(), default=0) <= 1, "an effect happened twice"
    assert lines(world, "repeated")["repeatable"] <= 1 + crashes
    assert doubts(world, run_id) == []
    run = world.run(run_id)
    with world.database.read() as session:
        bills = session.scalar(select(func.count()).select_from(BillingEntry).where(BillingEntry.run_id == run_id))
        visits = session.scalar(select(func.count()).select_from(WorkOrder).where(WorkOrder.run_id == run_id))
        left = session.scalars(select(EffectClaim).where(EffectClaim.run_id == run_id, EffectClaim.state == "claimed"))
        host = session.scalars(select(RunHost).where(RunHost.run_id == run_id)).one()
        assert bills == 1
        assert visits == (1 if run.state == "failed" else 0)
        assert list(left) == []
        assert host.outcome is not None
        assert evidence.verify(session)[1] == []
        finished = select(evidence.Evidence).where(
            evidence.Evidence.kind == "run.finished", evidence.Evidence.subject_id == str(run_id)
        )
        told = list(session.scalars(finished.order_by(evidence.Evidence.seq)))
        assert told[-1].data["state"] == run.state


@pytest.mark.parametrize("points", POINTS)
def test_killed_anywhere_a_run_is_finished_by_the_next_worker_and_no_effect_is_doubled_or_lost(
    world: World, points: str
) -> None:
    run_id = world.request(world.playbook(GOOD)).id
    killed_at(world, points)
    world.start_worker()
    world.wait(lambda: ended(world, run_id))
    in_doubt = world.run(run_id).state == "in_doubt"
    assert in_doubt == bool(doubts(world, run_id))
    assert in_doubt == points.startswith("ledger.claimed:3")  # the effect without a probe, and nothing else
    asked = answer(world, run_id)
    assert asked == in_doubt
    assert world.run(run_id).state == "succeeded"
    assert lines(world) == {"probed": 1, "plain": 1}
    assert (world.host().root / "state").read_text() == "set\n"
    hold(world, run_id, crashes=len(points.split()) + asked)


@pytest.mark.parametrize("points", BAD_POINTS)
def test_killed_anywhere_a_run_that_fails_is_undone_once_and_proposes_one_visit(world: World, points: str) -> None:
    run_id = world.request(world.playbook(BAD)).id
    killed_at(world, points)
    world.start_worker()
    world.wait(lambda: ended(world, run_id))
    in_doubt = world.run(run_id).state == "in_doubt"
    assert in_doubt == bool(doubts(world, run_id))
    assert in_doubt == points.startswith(("ledger.claimed:3", "ledger.claimed:4"))
    answer(world, run_id)
    assert world.run(run_id).state == "failed"
    assert lines(world) == {"probed": 1, "plain": 1, "undone": 1}
    hold(world, run_id, crashes=len(points.split()) + 1)


@pytest.mark.parametrize("step", ["probed", "repeatable", "plain", "untold"])
def test_killed_while_the_command_is_on_the_wire(world: World, step: str) -> None:
    """The process on the host lives on after the kill, and the next worker must neither repeat nor forget it.

    It asks the host how the process ended; only one that could not note its end needs a person.
    """
    slow = {"probed": "probed >> effects", "repeatable": "repeatable >> repeated"}.get(step, "plain >> effects")
    sleeps = "exec sleep 1.5" if step == "untold" else "sleep 1.5"
    run_id = world.request(world.playbook(GOOD.replace(f"echo {slow}", f"echo {slow}; touch begun; {sleeps}"))).id
    first = world.start_worker()
    world.wait((world.host().root / "begun").exists)
    first.kill()
    assert first.wait() == -signal.SIGKILL
    assert not ended(world, run_id)
    world.start_worker()
    world.wait(lambda: ended(world, run_id))
    asked = answer(world, run_id)
    assert (asked > 0) == (step == "untold")
    assert world.run(run_id).state == "succeeded"
    assert lines(world) == {"probed": 1, "plain": 1}
    hold(world, run_id, crashes=1 + asked)


def test_what_a_probe_found_done_is_undone_although_the_worker_died_before_it_said_so(world: World) -> None:
    slow = BAD.replace("echo probed >> effects", "echo probed >> effects; touch begun; sleep 1.5", 1)
    run_id = world.request(world.playbook(slow)).id
    first = world.start_worker()
    world.wait((world.host().root / "begun").exists)
    first.kill()
    assert first.wait() == -signal.SIGKILL
    killed_at(world, "ledger.resolved")
    world.start_worker()
    world.wait(lambda: ended(world, run_id))
    assert world.run(run_id).state == "failed"
    assert lines(world) == {"probed": 1, "plain": 1, "undone": 1}
    hold(world, run_id, crashes=2)


def test_a_worker_of_another_slot_takes_over_when_the_lease_of_the_dead_is_over(world: World) -> None:
    """On PostgreSQL another slot takes over when the lease is over; SQLite has one slot only."""
    if world.database.is_sqlite:
        pytest.skip("SQLite has one worker")
    run_id = world.request(world.playbook(GOOD)).id
    world.killed(world.start_worker(crash_at="ledger.told:2"))
    world.config.write_text(world.config.read_text() + 'worker_name = "worker-02"\n')
    world.start_worker()
    world.wait(lambda: ended(world, run_id))
    assert world.run(run_id).state == "succeeded"
    hold(world, run_id, crashes=1)
