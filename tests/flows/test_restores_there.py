"""Restore tests that a plan does on the client's own host, over a real SSH server."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sshd
from sqlalchemy import func, select
from test_restores_told import archive, tickets_of
from world import World

from msp import evidence
from msp.assets import inventory
from msp.assets.models import ConfigurationItem
from msp.backup import plans
from msp.backup.models import BackupPlan, RestoreTest
from msp.backup.plan_parts import PlanParts
from msp.clock import utc_now
from msp.errors import Misconfigured, NotFound
from msp.flows import restores
from msp.vault import Vault

pytestmark = [pytest.mark.server, pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing() or "here")]


@pytest.fixture
def server(world: World, tmp_path: Path) -> Iterator[sshd.Sshd]:
    """The asset `one`, as a host of its own with a place for scratch."""
    with sshd.running(tmp_path / "sshd") as running:
        admit(world, running, tmp_path / "there")
        yield running


def admit(world: World, server: sshd.Sshd, scratch: Path) -> None:
    with world.database.begin() as session:
        item = session.get_one(ConfigurationItem, world.asset("one"))
        item.port, item.username, item.secret_name = server.port, server.user, "host-key"
        item.facts = {**item.facts, "scratch": str(scratch)}
        for known in inventory.pinned(session, item.id):
            session.delete(known)
        session.flush()
        inventory.pin(session, item, server.host_key, by="test")
        key = server.key_file.read_text()
        Vault.from_file(world.settings.key_path).put(session, "host-key", key, by="test", client_id=world.alfa)


def planned(world: World, case: dict[str, Any], name: str = "there") -> BackupPlan:
    with world.database.begin() as session:
        return plans.create(
            session,
            PlanParts(
                asset_id=world.asset("one"),
                name=name,
                case={"on": "one", **case},
                cron="30 3 * * *",
                time_zone="UTC",
                proof_every=timedelta(days=7),
            ),
            client_id=world.alfa,
            by="test",
        )


def packed(world: World, **expect: Any) -> dict[str, Any]:
    query = {"path": "app.sqlite", "query": "select count(*) from orders", "min": 50}
    file = str(archive(world.folder / "backups/nightly.tar.gz"))
    return {"engine": "tar", "file": file, "root": "data", "expect": {"sqlite": [query], **expect}}


def carried_out(world: World, plan: BackupPlan) -> RestoreTest:
    restores.perform(world.settings, plan.id, None, utc_now())
    with world.database.read() as session:
        return plans.recent(session, plan.id, 1)[0]


def first_finding(test: RestoreTest) -> str:
    assert test.result is not None
    return str(test.result["findings"][0]["what"])


def test_plan_that_names_a_host_is_proven_there_and_nothing_is_restored_here(
    world: World, server: sshd.Sshd, tmp_path: Path
) -> None:
    left = tmp_path / "there/restore-0123456789abcdef"  # of a test that was killed there
    left.mkdir(parents=True)
    (tmp_path / "there").chmod(0o711)
    (left / "customers.csv").write_text("confidential")
    left.with_name(left.name + ".lock").write_text("4711\n")
    test = carried_out(world, planned(world, packed(world)))
    assert (test.verdict, test.highest_rung) == ("pass", 5), test.result
    assert list((tmp_path / "there").iterdir()) == []
    assert not world.settings.scratch_path.exists()
    with world.database.read() as session:
        used = session.scalars(select(evidence.Evidence).where(evidence.Evidence.kind == "credential.used")).one()
        assert used.data["secrets"] == ["vault:host-key"]
        assert evidence.verify(session)[1] == []
    assert tickets_of(world) == []


def test_age_is_judged_by_our_clock_and_not_by_the_hosts(world: World, server: sshd.Sshd, tmp_path: Path) -> None:
    case = packed(world, rpo_s=3600)
    os.utime(case["file"], (datetime(2026, 1, 1, tzinfo=UTC).timestamp(),) * 2)
    plan = planned(world, case)
    with world.database.read() as session:
        stored = session.get_one(BackupPlan, plan.id)
        told = plans.document(stored, secret=None, now=datetime(2026, 1, 1, 0, 30, tzinfo=UTC))
        assert told["now"] == "2026-01-01T00:30:00+00:00"
    test = carried_out(world, plan)
    assert (test.verdict, test.reasons) == ("fail", ["rpo"])


@pytest.mark.slow
def test_no_room_on_the_host_is_an_error_and_never_a_pass(world: World, server: sshd.Sshd, tmp_path: Path) -> None:
    with small_disk(tmp_path / "there", megabytes=1) as really:
        case = packed(world, **({} if really else {"scratch_quota_bytes": 100}))
        noise = world.folder / "backups/data/noise.bin"
        noise.write_bytes(os.urandom(3 << 20))
        subprocess.run(["tar", "-czf", case["file"], "-C", str(world.folder / "backups"), "data"], check=True)
        test = carried_out(world, planned(world, case))
        assert (test.verdict, test.reasons) == ("error", ["quota"]), test.result
        assert list((tmp_path / "there").iterdir()) == []
    (ticket,) = tickets_of(world)
    assert ticket.priority == "P3"


@contextmanager
def small_disk(folder: Path, *, megabytes: int) -> Iterator[bool]:
    """Give a folder a disk of its own where this account may; say whether it has one."""
    folder.mkdir(mode=0o711)
    words = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0711", "tmpfs", str(folder)]
    mounted = subprocess.run(words, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_host_that_goes_in_the_middle_is_an_error_and_tidies_up_by_itself(
    world: World, server: sshd.Sshd, tmp_path: Path
) -> None:
    (tmp_path / "slow").mkdir()
    with (tmp_path / "slow/large").open("wb") as file:
        file.truncate(64 << 30)  # hashing it takes minutes
    there = tmp_path / "there"
    plan, tests = planned(world, {"engine": "tree", "repo": str(tmp_path / "slow")}), list[RestoreTest]()
    worker = threading.Thread(target=lambda: tests.append(carried_out(world, plan)))
    worker.start()
    wait(lambda: any(there.glob("restore-*/restored/large")))
    for pid in subprocess.run(["pgrep", "-P", str(server.pid)], capture_output=True, check=True).stdout.split():
        os.kill(int(pid), signal.SIGKILL)
    worker.join(30)
    (test,) = tests
    assert (test.verdict, test.reasons) == ("error", ["restore"])
    assert "told no verdict" in first_finding(test)
    wait(lambda: list(there.iterdir()) == [])
    (ticket,) = tickets_of(world)
    assert ticket.priority == "P3"


def wait(done: Any, seconds: float = 30) -> None:
    ends = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < ends
        time.sleep(0.05)


@pytest.mark.slow
def test_host_that_is_off_or_another_one_is_an_error_of_the_test(
    world: World, server: sshd.Sshd, tmp_path: Path
) -> None:
    plan = planned(world, packed(world))
    with world.database.begin() as session:
        item = session.get_one(ConfigurationItem, world.asset("one"))
        (known,) = inventory.pinned(session, item.id)
        session.delete(known)
        session.flush()
        inventory.pin(session, item, sshd.key(tmp_path / "impostor"), by="test")
    test = carried_out(world, plan)
    assert (test.verdict, test.reasons) == ("error", ["restore"])
    assert "could not be entered" in first_finding(test)
    world.point("one", 9)
    assert carried_out(world, plan).verdict == "error"
    assert len(tickets_of(world)) == 1
    with world.database.read() as session:
        assert session.scalar(select(func.count()).select_from(RestoreTest)) == 2


def test_host_of_another_client_or_without_a_shell_is_refused(world: World, server: sshd.Sshd) -> None:
    with pytest.raises(NotFound, match="no item named far"):
        restores.perform(world.settings, planned(world, {**packed(world), "on": "far"}, "foreign").id, None, utc_now())
    with world.database.begin() as session:
        session.get_one(ConfigurationItem, world.asset("one")).transport = "winrm"
    with pytest.raises(Misconfigured, match="reached by winrm"):
        restores.perform(world.settings, planned(world, packed(world)).id, None, utc_now())


def test_sample_is_compared_with_the_living_source_on_the_clients_host(
    world: World, server: sshd.Sshd, tmp_path: Path
) -> None:
    case = packed(world)
    case["expect"]["live"] = {"root": str(world.folder / "backups/data"), "on": "one"}
    plan = planned(world, {**case, "on": None})
    test = carried_out(world, plan)
    assert (test.verdict, test.reasons) == ("pass", []), test.result
    assert test.result is not None
    assert next(rung for rung in test.result["rungs"] if rung["rung"] == 4)["figures"]["live_compared"] == 2
    readme = world.folder / "backups/data/readme.txt"
    info = readme.stat()
    readme.write_text("Another text.\n" * 50)
    os.utime(readme, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert carried_out(world, plan).verdict == "fail"
    os.utime(readme)  # somebody worked on it since: no fault of the backup
    assert carried_out(world, plan).verdict == "pass"
    world.point("one", 9)
    assert carried_out(world, plan).verdict == "error"


def test_case_that_is_tested_on_the_host_compares_with_the_source_there(world: World, server: sshd.Sshd) -> None:
    case = packed(world)
    case["expect"]["live"] = {"root": str(world.folder / "backups/data"), "on": "one"}
    test = carried_out(world, planned(world, case))
    assert (test.verdict, test.reasons) == ("pass", []), test.result
    case["expect"]["live"]["on"] = "two"
    both = planned(world, case, "both")
    with pytest.raises(Misconfigured, match="compared with two"):
        restores.perform(world.settings, both.id, None, utc_now())
