"""Plans as people keep them: removed and put back, changed from the command line, and what lacks, kept as evidence."""

import io
import json
import zipfile
from dataclasses import replace
from datetime import timedelta

import pytest
from click.testing import CliRunner
from sqlalchemy import func, select
from test_restores_told import archive as archive
from test_restores_told import plan as plan
from test_restores_told import restore, tickets_of, truncate
from world import World

from msp import evidence
from msp.backup import drafts, plan_changes, plans
from msp.backup.ladder import AFTER_BACKUP, LadderStep
from msp.backup.models import BackupDraft, BackupPlan, RestoreTest
from msp.backup.plan_parts import PlanParts
from msp.clock import utc_now
from msp.console import main
from msp.contracts.models import Client
from msp.engine.models import Job, Schedule
from msp.errors import Conflict, Misconfigured, NotFound, Refused
from msp.evidence import Evidence
from msp.flows import backup_gaps, backup_plans, proof_packs, restores
from msp.vault import Vault


def done(world: World, *words: object) -> str:
    """Run a command of msp backup and return what it printed."""
    said = CliRunner().invoke(main, ["--config", str(world.config), "backup", *map(str, words)])
    assert said.exit_code == 0, said.output
    return said.output


def schedules(world: World, plan: BackupPlan) -> set[str]:
    with world.database.read() as session:
        query = select(Schedule.key).where(Schedule.key.startswith(f"restore-{plan.id}"), Schedule.enabled)
        return set(session.scalars(query))


def test_a_removed_plan_rests_with_its_tests_and_comes_back(world: World, plan: BackupPlan) -> None:
    truncate(world)
    restore(world, plan)
    assert [ticket.is_open for ticket in tickets_of(world)] == [True]
    asked = utc_now()
    with world.database.begin() as session:
        stored = plans.by_id(session, plan.id)
        restores.put_on_schedule(session, stored, asked)
        backup_plans.remove(session, stored, asked, by="anna")
        with pytest.raises(Conflict):
            plan_changes.remove(session, stored, asked, by="anna")
    assert schedules(world, plan) == set()
    assert [ticket.is_open for ticket in tickets_of(world)] == [False]
    restores.perform(world.settings, plan.id, None, asked)  # queued before; nothing is done any more
    with world.database.begin() as session:
        assert session.scalar(select(func.count()).select_from(RestoreTest)) == 1
        assert plans.overview(session, asked) == []
        restores.gave_up(session, {"plan_id": plan.id}, "The worker died.")
        with pytest.raises(NotFound):
            plans.by_id(session, plan.id)
        twin = plans.create(
            session,
            PlanParts(name=plan.name, case=plan.case, cron="0 3 * * *", time_zone="UTC", proof_every=timedelta(days=7)),
            client_id=plan.client_id,
            by="anna",
        )
        with pytest.raises(Conflict, match="named"):
            plan_changes.put_back(session, session.get_one(BackupPlan, plan.id), by="anna")
        plan_changes.remove(session, twin, asked, by="anna")
        backup_plans.put_back(session, session.get_one(BackupPlan, plan.id), asked, by="anna")
    assert len(tickets_of(world)) == 1
    assert schedules(world, plan) == {f"restore-{plan.id}"}
    with world.database.read() as session:
        assert [row["id"] for row in plans.overview(session, asked)] == [plan.id]
        kinds = list(session.scalars(select(Evidence.kind).where(Evidence.kind.startswith("backup_plan."))))
        assert kinds.count("backup_plan.removed") == 2
        assert kinds.count("backup_plan.put_back") == 1
        assert evidence.verify(session)[1] == []


def test_the_command_line_changes_removes_and_shows_the_trend(world: World, plan: BackupPlan) -> None:
    restore(world, plan)
    number = plan.id
    assert "proof_every" in done(world, "plan", "change", number, "--proof-every", 3, "--step", "4,5=30 3 * * 6",
                                 "--window", "22:00-06:00")  # fmt: skip
    assert "Nothing differs." in done(world, "plan", "change", number, "--proof-every", 3)
    shown = json.loads(done(world, "plan", "show", number, "--json"))
    assert (shown["proof_every_s"], shown["limits"]["window"]) == (259200, "22:00-06:00")
    assert (shown["rto"]["measured"], shown["rto"]["promised_s"]) == (1, 14400)  # the contract, before the case
    assert schedules(world, plan) == {f"restore-{number}-4-5"}
    assert "put-back" in done(world, "plan", "remove", number)
    assert done(world, "plan", "list", "--json") == ""
    assert "back" in done(world, "plan", "put-back", number)
    token = done(world, "plan", "token", number).strip()
    with world.database.read() as session:
        stored = session.get_one(BackupPlan, number)
        assert plan_changes.opens(stored, token)
        assert not plan_changes.opens(stored, token + "x")
        assert token not in json.dumps([row.data for row in session.scalars(select(Evidence))])
    done(world, "plan", "token", number, "--withdraw")
    with world.database.read() as session:
        assert not plan_changes.opens(session.get_one(BackupPlan, number), token)


def test_a_change_that_means_nothing_changes_nothing(world: World, plan: BackupPlan) -> None:
    with world.database.begin() as session:
        stored = plans.by_id(session, plan.id)
        parts = PlanParts(name="n", case=plan.case, cron="0 3 * * *", time_zone="UTC", proof_every=timedelta(days=1))
        for wrong in (
            {"cron": "99 3 * * *"}, {"time_zone": "Mars/Base"}, {"name": "  "}, {"case": {"engine": "tar"}},
            {"ladder": (LadderStep((4,), "30 3 * *"),)}, {"limits": {"nice": 40}}, {"proof_every": timedelta(0)},
        ):  # fmt: skip
            with pytest.raises(Misconfigured):
                plan_changes.change(session, stored, replace(parts, **wrong), by="a")  # type: ignore[arg-type]
        assert stored.name == "nightly"


def test_one_backup_told_of_twice_is_tested_once_and_two_in_a_minute_are_two(world: World, plan: BackupPlan) -> None:
    now = utc_now()
    with world.database.begin() as session:
        stored = plans.by_id(session, plan.id)
        assert restores.after_backup(session, stored, now, backup="a") is None  # no rung after a backup
        stored.ladder = [{"rungs": [1, 2], "when": AFTER_BACKUP}]
        told = [restores.after_backup(session, stored, now + timedelta(seconds=n), backup=name)
                for n, name in enumerate(("a", "a", "b"))]  # fmt: skip
        assert [one and one.new for one in told] == [True, False, True]
        jobs = list(session.scalars(select(Job)))
        assert len({job.payload["asked_at"] for job in jobs}) == len(jobs) == 2
        plans.switch(session, stored, False, by="anna")
        assert restores.after_backup(session, stored, now, backup="c") is None


def test_what_lacks_is_kept_when_it_changes_and_stands_in_the_pack(world: World, plan: BackupPlan) -> None:
    world.change_terms(restore={"proof_every_s": 604800})
    now = utc_now()
    with world.database.begin() as session:
        alfa = session.get_one(Client, world.alfa)
        assert backup_gaps.seen_until(session, alfa, now, now + timedelta(days=40)) is None
        first = backup_gaps.note(session, backup_gaps.gaps(session, now), now)
        assert first >= 1
        assert backup_gaps.note(session, backup_gaps.gaps(session, now), now + timedelta(hours=1)) == 0
    restore(world, plan)
    later = utc_now()
    with world.database.begin() as session:
        assert backup_gaps.note(session, backup_gaps.gaps(session, later), later) == 1
        vault = Vault.from_file(world.settings.key_path)
        alfa = session.get_one(Client, world.alfa)
        month = f"{later:%Y-%m}"
        packs = [proof_packs.of_month(session, vault, alfa, month, later + timedelta(days=d)) for d in (40, 80)]
        assert packs[0] == packs[1]
        with zipfile.ZipFile(io.BytesIO(packs[0])) as pack:
            gaps = json.loads(pack.read("proof.json"))["gaps"]
            assert pack.read("proof.pdf").startswith(b"%PDF")
        found = [one.item.name for one in backup_gaps.gaps(session, later, client_ids=[world.alfa])]
    assert [one["machine"] for one in gaps] == found
    assert "one" not in found


def test_a_draft_is_tried_by_the_worker_and_saved_whole(world: World, plan: BackupPlan) -> None:
    now, folder = utc_now(), world.folder / "backups"
    with world.database.begin() as session:
        draft = drafts.begin(session, now, client_id=world.alfa, by="anna", time_zone="Europe/Moscow")
        drafts.answer(draft, now, name="shop", engine="tar", scheduled=True, case={
            "engine": "tar", "file": str(archive(folder / "shop.tar.gz")), "root": "data"})  # fmt: skip
        number = draft.id
        backup_plans.ask_trial(session, draft, world.settings, now)
        asked = draft.trial_number
    backup_plans.perform_trial(world.settings, number, asked)
    with world.database.begin() as session:
        draft = drafts.by_id(session, number)
        assert (draft.trial_state, draft.trial["files"]) == ("done", 2)
        keys = [one.question.key for one in drafts.choices(draft)]
        assert len(keys) == 2
        drafts.tick(draft, keys[1:], now)
        assert drafts.document(draft)["expect"] == {
            "sqlite": [{"path": "app.sqlite", "query": 'select count(*) from "orders"', "min": 45}]
        }
        drafts.answer(draft, now, case={**draft.answers["case"], "root": ""})
        assert draft.trial_state is None  # what was tried is another place
    with world.database.begin() as session:
        draft = drafts.by_id(session, number)
        drafts.answer(draft, now, name="nightly")
        with pytest.raises(Conflict, match="nightly"):
            backup_plans.save(session, draft, world.settings, now, by="anna")
        drafts.answer(draft, now, name="shop")
    with world.database.begin() as session:
        made = backup_plans.save(session, drafts.by_id(session, number), world.settings, now, by="anna")
        assert session.scalar(select(func.count()).select_from(BackupDraft)) == 0
    assert schedules(world, made) == {f"restore-{made.id}"}
    assert restore(world, made).verdict == "pass"


def test_a_draft_of_a_number_given_again_is_tried_by_itself(world: World) -> None:
    now, folder = utc_now(), world.folder / "backups"
    folder.mkdir()
    file = str(archive(folder / "shop.tar.gz"))
    asked: list[tuple[int, int]] = []
    for client in ("alfa", "beta"):
        with world.database.begin() as session:
            draft = drafts.begin(session, now, client_id=world.planted.clients[client], by="anna", time_zone="UTC")
            drafts.answer(draft, now, engine="tar", case={"engine": "tar", "file": file})
            job = backup_plans.ask_trial(session, draft, world.settings, now)
            assert session.get_one(Job, job).client_id == draft.client_id
            asked.append((draft.id, draft.trial_number))
        if client == "alfa":
            with world.database.begin() as session:
                session.delete(session.get_one(BackupDraft, draft.id))
    (_, theirs), (number, own) = asked
    backup_plans.perform_trial(world.settings, number, theirs)  # what was asked for alfa comes late
    with world.database.begin() as session:
        assert (drafts.by_id(session, number).trial_state, theirs == own) == ("queued", False)
        draft = drafts.by_id(session, number)
        draft.trial_state, draft.trial_number = None, own - 1
        with pytest.raises(Conflict, match="Another draft"):
            backup_plans.ask_trial(session, draft, world.settings, now)
        session.rollback()
    backup_plans.perform_trial(world.settings, number, own)
    with world.database.read() as session:
        assert drafts.by_id(session, number).trial_state == "done"


def test_paths_of_different_hosts_are_different_places(world: World, plan: BackupPlan) -> None:
    there = {"engine": "tree", "file": "/srv/data"}
    with world.database.begin() as session:
        other = session.scalars(select(Client.id).where(Client.id != world.alfa)).first()
        assert other is not None
        for name, case in (("here", there), ("there", {**there, "on": "two"})):
            plans.create(
                session,
                PlanParts(name=name, case=case, cron="0 3 * * *", time_zone="UTC", proof_every=timedelta(days=7)),
                client_id=other,
                by="anna",
            )
        drafts.refuse_foreign(session, world.alfa, {**there, "on": "one"}, ["/srv"])
        drafts.refuse_foreign(session, other, there)
        for case, closed in (
            ({**there, "on": "two"}, []),
            (there, []),
            ({**there, "file": "/srv/own"}, ["/srv/own/k"]),
        ):
            with pytest.raises(Refused):
                drafts.refuse_foreign(session, world.alfa, case, closed)
