"""Driving a run on real hosts: what stops it, what it leaves in doubt, what follows when it fails."""

import socket
import threading
from datetime import timedelta

import asyncssh
import pytest
from sqlalchemy import func, select, update
from world import ANNA, Doorbell, World, terms

from msp import evidence
from msp.assets import inventory
from msp.assets.models import ConfigurationItem
from msp.clock import utc_now
from msp.contracts.models import BillingEntry
from msp.dispatch.models import Appointment, WorkOrder
from msp.engine import claims, perform, queues
from msp.engine.models import EffectClaim, Job
from msp.errors import Conflict, Misconfigured, NotFound, Refused
from msp.flows import after_run, driving, handlers, repeating, runs, visits
from msp.people.access import Actor
from msp.remote.models import Run, RunHost, StepResult

FIRST = """\
name: own
version: "1"
action_class: change
steps:
  - name: first
    do: echo first >> effects
    check: test -e effects
    undo: echo undone >> effects
"""
TWO = (
    FIRST
    + """\
  - name: second
    do: echo second >> effects
    check: test -e effects
"""
)
HANGS = """\
name: own
version: "1"
action_class: {kind}
steps:
  - name: hang
    do: echo begun >> begun; sleep 30
    check: test -e begun
"""

NEEDS_SECRET = """\
name: own
version: "1"
action_class: read
parameters: {token: secret}
steps:
  - do: test -n {{ token }}
"""


def effects(world: World, name: str = "one") -> list[str]:
    file = world.host(name).root / "effects"
    return file.read_text().split() if file.exists() else []


def pin(world: World, asset: str, public_key: str) -> None:
    with world.database.begin() as session:
        inventory.pin(session, session.get_one(ConfigurationItem, world.asset(asset)), public_key, by="test")


def stranger() -> str:
    return asyncssh.generate_private_key("ssh-ed25519").export_public_key("openssh").decode()


def detail(world: World, run_id: int) -> str:
    with world.database.read() as session:
        return session.scalars(select(RunHost.detail).where(RunHost.run_id == run_id)).first() or ""


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_window_that_closes_between_two_steps_stops_before_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driving, "LOOK_AGAIN", timedelta(0))
    steps = TWO.replace(
        "do: echo first >> effects", "do: echo first >> effects; while ! test -e go; do sleep 0.05; done"
    )
    run = world.request(world.playbook(steps))
    thread = threading.Thread(target=world.drive, args=(run.id,))
    thread.start()
    world.wait(lambda: effects(world) == ["first"])
    later = (utc_now() + timedelta(hours=5)).strftime("%H:00")
    end = (utc_now() + timedelta(hours=7)).strftime("%H:00")
    window = {"id": "9", "text": "Only then.", "effect": "allow", "windows": [{"from": later, "to": end}]}
    world.change_terms(clauses=[window | {"outside": "refuse"}])
    (world.host().root / "go").touch()
    thread.join(60)
    assert world.ends(run.id) == {"one": "refused"}
    assert effects(world) == ["first"]
    assert detail(world, run.id) == "Before Step 2 (second): Only then. Its window is not open."
    assert len(world.of_run(BillingEntry, run.id)) == 1  # something was done


def test_run_that_had_to_be_done_by_an_instant_is_not_begun_after_it(world: World) -> None:
    run = world.request(world.playbook(FIRST))
    with world.database.begin() as session:
        session.get_one(Run, run.id).not_after = utc_now() - timedelta(seconds=1)
    assert world.drive(run.id).state == "refused"
    assert effects(world) == []
    assert world.of_run(BillingEntry, run.id) == []  # nothing was done


def test_contract_that_ended_meanwhile_refuses_before_a_connection_is_opened(world: World) -> None:
    run = world.request(world.playbook(FIRST))
    world.change_terms(clauses=terms()["clauses"][:1])
    with Doorbell() as bell:
        world.point("one", bell.port)
        assert world.drive(run.id).state == "refused"
        assert bell.rung == 0


def test_host_with_another_key_is_refused_and_nothing_is_sent(world: World) -> None:
    pin(world, "one", stranger())
    run = world.request(world.playbook(FIRST))
    assert world.drive(run.id).state == "failed"
    assert world.ends(run.id) == {"one": "host_key_changed"}
    assert effects(world) == []
    assert world.of_run(EffectClaim, run.id) == []
    assert world.of_run(BillingEntry, run.id) == []


def test_host_without_a_pinned_key_is_not_talked_to(world: World) -> None:
    with world.database.begin() as session:
        for key in inventory.pinned(session, world.asset("one")):
            key.withdrawn_at = utc_now()
    run = world.request(world.playbook(FIRST))
    world.drive(run.id)
    assert world.ends(run.id) == {"one": "host_key_unknown"}
    assert effects(world) == []


def test_unreachable_host_fails_and_proposes_one_visit_with_the_log(world: World) -> None:
    world.point("one", closed_port())
    ticket = world.ticket(priority="P1", asset_id=world.asset("one"))
    run = world.request(world.playbook(FIRST), ticket_id=ticket)
    assert world.drive(run.id).state == "failed"
    assert world.ends(run.id) == {"one": "unreachable"}
    with world.database.begin() as session:
        assert after_run.finish(session, run.id, now=utc_now()) is False
        visits.propose_for_run(session, session.get_one(Run, run.id), reason="again", now=utc_now())
    (order,) = world.of_run(WorkOrder, run.id)
    assert (order.ticket_id, order.state) == (ticket, "proposed")
    assert order.skills == {"hardware": 1, "linux": 1}
    assert [(entry["host"], entry["phase"], entry["outcome"]) for entry in order.log] == [
        ("one", "connect", "unreachable")
    ]
    assert order.due_at == world.stored_ticket(ticket).resolution_due_at
    with world.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Appointment)) == 0  # nobody has a shift
    assert world.stored_ticket(ticket).is_open


def test_failed_run_is_undone_told_and_proposes_one_visit_while_the_good_host_stays_done(world: World) -> None:
    (world.host("one").root / "broken").touch()
    steps = TWO.replace("do: echo second >> effects", "do: test ! -e broken && echo second >> effects")
    run = world.request(world.playbook(steps), "one", "two")
    assert world.drive(run.id).state == "failed"
    assert world.ends(run.id) == {"one": "failed", "two": "ok"}
    assert (effects(world, "one"), effects(world, "two")) == (["first", "undone"], ["first", "second"])
    assert len(world.of_run(WorkOrder, run.id)) == len(world.of_run(BillingEntry, run.id)) == 1
    again = None
    (world.host("one").root / "broken").unlink()
    with world.database.begin() as session:
        again = repeating.rerun_failed(session, run.id, actor=ANNA, own=world.settings.playbooks)
    assert world.ends(again.id) == {"one": None}
    assert (again.ticket_id, again.parameters) == (run.ticket_id, run.parameters)
    assert world.drive(again.id).state == "succeeded"
    assert effects(world, "one") == ["first", "undone", "first", "second"]
    with pytest.raises(Misconfigured, match="No host"), world.database.begin() as session:
        repeating.rerun_failed(session, again.id, actor=ANNA, own=world.settings.playbooks)


def test_what_is_in_doubt_is_not_simply_run_again(world: World) -> None:
    run = world.request(world.playbook(HANGS.format(kind="change")))
    cancel_while_it_hangs(world, run)
    with pytest.raises(Misconfigured, match="No host"), world.database.begin() as session:
        repeating.rerun_failed(session, run.id, actor=ANNA, own=world.settings.playbooks)


def cancel_while_it_hangs(world: World, run: Run) -> None:
    thread = threading.Thread(target=world.drive, args=(run.id,))
    thread.start()
    world.wait((world.host().root / "begun").exists)
    with world.database.begin() as session:
        assert driving.cancel(session, run.id, by=ANNA.name).state == "cancelling"
    thread.join(20)
    assert not thread.is_alive()


def test_cancelling_a_change_at_work_leaves_it_in_doubt_until_a_person_answers(world: World) -> None:
    run = world.request(world.playbook(HANGS.format(kind="change")))
    cancel_while_it_hangs(world, run)
    assert (world.run(run.id).state, world.ends(run.id)) == ("in_doubt", {"one": "cancelled"})
    with world.database.read() as session:
        (doubt,) = claims.in_doubt(session, run_id=run.id)
    assert (doubt.step, doubt.phase) == (1, "do")
    olga = Actor("olga@alfa.example", frozenset({"client approver"}), client_id=world.alfa)
    ben = Actor("ben@beta.example", frozenset({"client user"}), client_id=world.planted.clients["beta"])
    for actor, error in ((olga, Refused), (ben, NotFound)):
        with pytest.raises(error), world.database.begin() as session:
            runs.resolve(session, run.id, doubt.host_id, 1, "do", True, actor=actor)
    with world.database.begin() as session:
        runs.resolve(session, run.id, doubt.host_id, 1, "do", True, actor=ANNA, note="The file is there.")
    with pytest.raises(Conflict), world.database.begin() as session:
        runs.resolve(session, run.id, doubt.host_id, 1, "do", True, actor=ANNA)
    assert world.drive(run.id).state == "cancelled"  # it stays so: nothing more is done
    assert (world.host().root / "begun").read_text() == "begun\n"
    assert len(world.of_run(BillingEntry, run.id)) == 1


def test_cancelling_a_reading_at_work_leaves_nothing_in_doubt(world: World) -> None:
    run = world.request(world.playbook(HANGS.format(kind="read").replace("    check: test -e begun\n", "")))
    cancel_while_it_hangs(world, run)
    assert world.run(run.id).state in ("cancelled", "in_doubt")
    assert world.of_run(EffectClaim, run.id) == []


def in_doubt_on(world: World, *assets: str) -> tuple[Run, list[RunHost]]:
    """Return a run whose only effect is in doubt on every host, as workers leave it that died."""
    run = world.request(world.playbook(FIRST), *assets)
    with world.database.begin() as session:
        driving.begin(session, run.id, 0)
        hosts = list(session.scalars(select(RunHost).where(RunHost.run_id == run.id).order_by(RunHost.position)))
        keys = [claims.ClaimKey(run.id, host.id, 1, "do") for host in hosts]
        claims.claim_many(session, keys, "worker-01", utc_now())
        for host in hosts:
            host.started_at = utc_now()
    assert world.drive(run.id).state == "in_doubt"
    assert set(world.ends(run.id).values()) == {"lost"}
    return run, hosts


def test_doubts_on_two_hosts_are_answered_one_after_the_other_by_one_further_job(world: World) -> None:
    run, hosts = in_doubt_on(world, "one", "two")
    (world.host("one").root / "effects").write_text("first\n")
    for host, ran in zip(hosts, (True, False), strict=True):
        with world.database.begin() as session:
            runs.resolve(session, run.id, host.id, 1, "do", ran, actor=ANNA)
    with world.database.read() as session:
        assert len(list(session.scalars(select(Job.id)))) == 2
    assert world.drive(run.id).state == "succeeded"
    assert (effects(world, "one"), effects(world, "two")) == (["first"], ["first"])


def test_nobody_answers_while_the_run_is_at_work_on_other_hosts(world: World) -> None:
    run, hosts = in_doubt_on(world, "one", "two")
    with world.database.begin() as session:
        runs.resolve(session, run.id, hosts[0].id, 1, "do", False, actor=ANNA)
        driving.begin(session, run.id, 0)
    with pytest.raises(Conflict, match="still at work"), world.database.begin() as session:
        runs.resolve(session, run.id, hosts[1].id, 1, "do", False, actor=ANNA)


def test_job_of_an_earlier_segment_that_is_begun_again_leaves_the_run_alone(world: World) -> None:
    run, hosts = in_doubt_on(world, "one")
    with world.database.begin() as session:
        runs.resolve(session, run.id, hosts[0].id, 1, "do", False, actor=ANNA)
    driving.drive(world.settings, run.id, 0, "1")
    assert (world.run(run.id).state, effects(world)) == ("queued", [])
    with world.database.begin() as session:
        driving.gave_up(session, {"run_id": run.id, "shard": 0, "segment": "1"}, "Its worker died.")
    assert world.run(run.id).state == "queued"
    with world.database.read() as session:
        segment = max(session.scalars(select(Job.id))).rpartition(":")[2]
    driving.drive(world.settings, run.id, 0, segment)
    assert (world.run(run.id).state, effects(world)) == ("succeeded", ["first"])


HANGS_ONCE = """\
name: own
version: "1"
action_class: change
limits: {idle: 1s}
steps:
  - do: echo begun >> begun; if test "$(wc -l < begun)" -lt 2; then sleep 30; fi; %s
    check: test -e begun
    idempotent: true
    retry: {attempts: 2, delay: 10ms}
"""


def test_attempt_that_ran_out_of_time_is_settled_by_the_next_that_succeeds(world: World) -> None:
    run = world.request(world.playbook(HANGS_ONCE % "true"))
    assert world.drive(run.id).state == "succeeded"
    told = [(claim.attempt, claim.state) for claim in world.of_run(EffectClaim, run.id)]
    assert sorted(told) == [(1, "resolved"), (2, "finished")]
    assert sorted(row.outcome for row in world.of_run(StepResult, run.id) if row.phase == "do") == ["ok", "timeout"]


def test_person_settles_the_attempt_that_is_in_doubt_and_not_the_last_one(world: World) -> None:
    run = world.request(world.playbook(HANGS_ONCE % "exit 3"))
    assert (world.drive(run.id).state, world.ends(run.id)) == ("in_doubt", {"one": "failed"})
    (host,) = world.of_run(RunHost, run.id)
    with world.database.begin() as session:
        runs.resolve(session, run.id, host.id, 1, "do", True, actor=ANNA)
    assert [claim.state for claim in sorted(world.of_run(EffectClaim, run.id), key=lambda claim: claim.attempt)] == [
        "resolved", "finished"]  # fmt: skip
    with pytest.raises(Conflict), world.database.begin() as session:
        runs.resolve(session, run.id, host.id, 1, "do", True, actor=ANNA)


def work(world: World, run_id: int) -> Job:
    """Do the run's first job as the durable engine does, and return it."""
    handlers.configure(world.settings)
    job_id = runs.job_id(run_id, 0, "1")
    perform.perform(job_id, 1)
    with world.database.read() as session:
        return session.get_one(Job, job_id)


def test_job_that_cannot_even_begin_ends_the_run_and_says_why(world: World) -> None:
    run = world.request(world.playbook(NEEDS_SECRET), parameters={"token": "vault:nobody-put-it"})
    job = work(world, run.id)
    assert (job.state, job.error) == ("failed", "There is no secret 'nobody-put-it' for this client.")
    assert world.run(run.id).finished_at is not None
    assert world.ends(run.id) == {"one": "not_started"}
    assert detail(world, run.id) == job.error
    assert world.of_run(BillingEntry, run.id) == []


def test_run_whose_workers_keep_dying_is_in_doubt_as_far_as_an_effect_was_claimed(world: World) -> None:
    run = world.request(world.playbook(FIRST), "one", "two")
    with world.database.begin() as session:
        driving.begin(session, run.id, 0)
        one = session.scalars(select(RunHost).where(RunHost.run_id == run.id, RunHost.name == "one")).one()
        one.started_at = utc_now()
        claims.claim_many(session, [claims.ClaimKey(run.id, one.id, 1, "do")], "worker-01", utc_now())
        driving.gave_up(session, {"run_id": run.id, "shard": 0}, "Its worker died 4 times while running it.")
    assert world.ends(run.id) == {"one": "lost", "two": "not_started"}
    assert world.run(run.id).state == "in_doubt"
    with world.database.read() as session:
        assert [claim.host_id for claim in claims.in_doubt(session)] == [one.id]
        assert evidence.verify(session)[1] == []


def in_two_shards(world: World) -> tuple[Run, list[RunHost]]:
    """Return a run whose two hosts, each in a shard of its own, are at work and have claimed their effect."""
    run = world.request(world.playbook(FIRST), "one", "two")
    with world.database.begin() as session:
        driving.begin(session, run.id, 0)
        hosts = list(session.scalars(select(RunHost).where(RunHost.run_id == run.id).order_by(RunHost.position)))
        for shard, host in enumerate(hosts):
            host.shard, host.started_at = shard, utc_now()
        keys = [claims.ClaimKey(run.id, host.id, 1, "do") for host in hosts]
        claims.claim_many(session, keys, "worker-01", utc_now())
    return run, hosts


def test_shard_whose_job_failed_leaves_the_hosts_of_others_at_work(world: World) -> None:
    run, hosts = in_two_shards(world)
    with world.database.begin() as session:
        driving.gave_up(session, {"run_id": run.id, "shard": 1}, "Its worker died.")
    assert world.ends(run.id) == {"one": None, "two": "lost"}
    assert world.run(run.id).state == "running"
    with world.database.read() as session:
        assert claims.in_doubt(session, run_id=run.id) == [], "nobody may answer while the command still runs"
    with world.database.begin() as session:  # the other worker ends its host
        host = session.get_one(RunHost, hosts[0].id)
        host.state, host.outcome, host.finished_at = "finished", "ok", utc_now()
        claims.end_many(session, [claims.ClaimKey(run.id, host.id, 1, "do")], "finished", utc_now())
        after_run.finish(session, run.id, now=utc_now())
    assert (world.run(run.id).state, world.ends(run.id)) == ("in_doubt", {"one": "ok", "two": "lost"})
    with world.database.read() as session:
        assert [claim.host_id for claim in claims.in_doubt(session, run_id=run.id)] == [hosts[1].id]


def test_what_a_worker_has_just_told_of_a_host_counts_when_the_rest_is_ended(world: World) -> None:
    run = world.request(world.playbook(FIRST), "one", "two")
    with world.database.begin() as session:
        driving.begin(session, run.id, 0)
        known = list(session.scalars(select(RunHost).where(RunHost.run_id == run.id)))
        told = update(RunHost).where(RunHost.id == known[0].id).values(started_at=utc_now())
        session.execute(told.execution_options(synchronize_session=False))
        after_run.end_rest(session, session.get_one(Run, run.id), "lost", "Its worker died.", utc_now())
    assert world.ends(run.id) == {"one": "lost", "two": "not_started"}


def test_worker_that_stops_hands_the_run_back_between_two_steps(world: World) -> None:
    steps = TWO.replace(
        "do: echo first >> effects", "do: echo first >> effects; while ! test -e go; do sleep 0.05; done"
    )
    run = world.request(world.playbook(steps))

    def stop() -> None:
        world.wait(lambda: effects(world) == ["first"])
        perform.set_draining(True)
        (world.host().root / "go").touch()

    stopping = threading.Thread(target=stop)
    stopping.start()
    try:
        with pytest.raises(queues.HandBack):
            driving.drive(world.settings, run.id, 0)
    finally:
        stopping.join(60)
        perform.set_draining(False)
    assert (world.run(run.id).state, effects(world)) == ("running", ["first"])
    assert world.drive(run.id).state == "succeeded"
    assert effects(world) == ["first", "second"]
