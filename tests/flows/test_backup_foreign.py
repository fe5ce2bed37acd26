"""No plan reads another client's backup or this installation's own files: not when saved, and not when tested."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from test_restores_told import archive, restore, tickets_of
from test_restores_told import plan as plan
from world import World

from msp import evidence
from msp.backup import drafts, plans
from msp.backup.models import BackupPlan, RestoreTest
from msp.backup.plan_parts import PlanParts
from msp.clock import utc_now
from msp.contracts.models import Client
from msp.errors import Misconfigured, MspError, Refused
from msp.flows import backup_plans


def stored(world: World, client_id: int, case: dict[str, Any], name: str = "own") -> BackupPlan:
    """Store a plan as an administrator does, who may write what staff may not."""
    parts = PlanParts(name=name, case=case, cron="0 3 * * *", time_zone="UTC", proof_every=timedelta(days=7))
    with world.database.begin() as session:
        return plans.create(session, parts, client_id=client_id, by="anna")


def drafted(world: World, case: dict[str, Any]) -> int:
    now = utc_now()
    with world.database.begin() as session:
        draft = drafts.begin(session, now, client_id=world.alfa, by="anna", time_zone="UTC")
        drafts.answer(draft, now, name="shop", engine=case["engine"], scheduled=True, case=case)
        return draft.id


def other_client(world: World) -> int:
    with world.database.read() as session:
        return session.scalars(select(Client.id).where(Client.id != world.alfa)).one()


@pytest.fixture
def folder(world: World) -> Path:
    """A folder of alfa's backups."""
    own = world.folder / "backups/alfa"
    own.mkdir(parents=True)
    return own


@pytest.fixture
def theirs(world: World) -> Path:
    """The archive of another client's plan."""
    file = archive(world.folder / "backups/theirs/nightly.tar.gz")
    stored(world, other_client(world), {"engine": "tar", "file": str(file), "root": "data"})
    return file


def refused(test: RestoreTest, words: str) -> None:
    assert (test.verdict, test.highest_rung, test.snapshot) == ("error", 0, None)
    assert test.result is not None
    assert words in test.result["findings"][0]["what"]
    assert test.result["findings"][0]["advice"]


def test_a_link_does_not_lead_to_what_is_ours(world: World, folder: Path) -> None:
    (folder / "innocent").symlink_to(world.settings.key_path)
    number, now = drafted(world, {"engine": "tree", "file": str(folder / "innocent")}), utc_now()
    with world.database.begin() as session, pytest.raises(Refused, match="belongs to this installation"):
        backup_plans.ask_trial(session, drafts.by_id(session, number), world.settings, now)
    (folder / "innocent").unlink()
    with world.database.begin() as session:
        draft = drafts.by_id(session, number)
        backup_plans.ask_trial(session, draft, world.settings, now)
        asked = draft.trial_number
    (folder / "innocent").symlink_to(world.settings.key_path)
    with pytest.raises(Refused, match="innocent belongs"):
        backup_plans.perform_trial(world.settings, number, asked)
    with world.database.begin() as session:
        backup_plans.gave_up(session, {"draft_id": number, "number": asked}, "It belongs to this installation.")
        assert drafts.by_id(session, number).trial_state == "failed"


def test_a_link_to_another_clients_backup_is_refused_when_saved_and_when_tested(
    world: World, folder: Path, theirs: Path
) -> None:
    link = folder / "nightly.tar.gz"
    case = {"engine": "tar", "file": str(link), "root": "data"}
    link.symlink_to(theirs)
    number = drafted(world, case)
    with world.database.begin() as session, pytest.raises(Refused, match="another client"):
        backup_plans.save(session, drafts.by_id(session, number), world.settings, utc_now(), by="anna")
    link.unlink()
    with world.database.begin() as session:
        made = backup_plans.save(session, drafts.by_id(session, number), world.settings, utc_now(), by="anna")
    archive(link)
    assert restore(world, made).verdict == "pass"
    link.unlink()
    link.symlink_to(theirs)
    test = restore(world, made)
    refused(test, f"{link} is a backup of another client.")
    assert [ticket.id for ticket in tickets_of(world)] == [test.ticket_id]
    with world.database.read() as session:
        assert evidence.verify(session)[1] == []
    link.unlink()
    archive(link)
    assert restore(world, made).verdict == "pass"
    assert [ticket.is_open for ticket in tickets_of(world)] == [False]


def test_a_link_of_another_client_does_not_stop_our_tests(world: World, folder: Path, plan: BackupPlan) -> None:
    (folder / "link").symlink_to("/")
    stored(world, other_client(world), {"engine": "tree", "file": str(folder / "link")})
    assert restore(world, plan).verdict == "pass"


def test_a_plan_that_was_stored_before_ends_its_test_with_the_sentence(world: World, theirs: Path) -> None:
    for number, (case, words) in enumerate([
        ({"engine": "tar", "file": "backups/nightly.tar.gz"}, "not an absolute path"),
        ({"engine": "tar", "file": str(theirs), "expect": {"manifest": "x"}}, "not an absolute path"),
        ({"engine": "tree", "file": str(world.folder / "scratch")}, "this installation"),
        ({"engine": "restic", "repo": "rclone::sftp,ssh=program:/b"}, "cannot be the place"),
    ]):  # fmt: skip
        refused(restore(world, stored(world, world.alfa, case, name=f"plan {number}")), words)


def test_two_clients_whom_an_administrator_keeps_in_one_place_are_both_tested(world: World, theirs: Path) -> None:
    made = stored(world, world.alfa, {"engine": "tar", "file": str(theirs), "root": "data"})
    assert restore(world, made).verdict == "pass"


def test_every_spelling_of_what_is_not_this_clients_is_refused(world: World, plan: BackupPlan) -> None:
    there = other_client(world)
    stored(world, there, {"engine": "restic", "repo": "local:/srv/b"})
    stored(world, there, {"engine": "tar", "file": "/srv/c/x.tar", "expect": {"manifest": "/srv/m"}}, name="second")
    stored(world, there, {"engine": "restic", "repo": "sftp:a:/b"}, name="third")
    stored(world, there, {"engine": "tar", "file": "/srv/d/x.tar", "expect": {"manifest": "m"}}, name="fourth")
    with world.database.read() as session:
        for case in (
            {"engine": "restic", "repo": "/srv/b"},
            {"engine": "restic", "repo": "local:/srv/../srv/b"},
            {"engine": "borg", "repo": "file:///srv/b"},
            {"engine": "borg", "repo": "file:///srv/c"},
            {"engine": "restic", "repo": "sftp:a:/b/"},
            {"engine": "tar", "file": "/srv/own", "expect": {"manifest": "/srv/c/x.tar"}},
            {"engine": "tree", "file": "/srv/m"},
            {"engine": "tree", "file": "/srv/d"},
            {"engine": "tree", "file": "/proc/self/root/srv/b"},
            {"engine": "restic", "repo": "local:/etc/own"},
            {"engine": "tar", "file": "/srv/own", "expect": {"manifest": "/etc/own/key"}},
            {"engine": "bacula", "repo": "/etc/own/x.conf"},
        ):
            with pytest.raises(Refused):
                drafts.refuse_foreign(session, world.alfa, case, ["/etc/own"])
        for case in (
            {"engine": "tar", "file": "../srv/b"},
            {"engine": "restic", "repo": "local:b"},
            {"engine": "tar", "file": "/srv/own", "expect": {"manifest": "../srv/m"}},
        ):
            with pytest.raises(Misconfigured):
                drafts.refuse_foreign(session, world.alfa, case)
        for case in (
            {"engine": "restic", "repo": "sftp:b:/b"},
            {"engine": "restic", "repo": "rclone:remote:b"},
            {"engine": "borg", "repo": "anna@a:/srv/b"},
            {"engine": "tar", "file": "/srv/own.tar", "expect": {"manifest": "/srv/own.manifest"}},
        ):
            drafts.refuse_foreign(session, world.alfa, case, ["/etc/own"])


def test_a_relative_place_is_refused_before_anything_is_kept(world: World) -> None:
    number = drafted(world, {"engine": "tar", "file": "../theirs.tar"})
    with world.database.begin() as session:
        draft = drafts.by_id(session, number)
        with pytest.raises(MspError, match="absolute"):
            backup_plans.ask_trial(session, draft, world.settings, utc_now())
        with pytest.raises(MspError, match="absolute"):
            backup_plans.save(session, draft, world.settings, utc_now(), by="anna")
