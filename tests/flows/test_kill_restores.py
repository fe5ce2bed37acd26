"""Workers killed in the middle of a restore test: one row, one verdict, one ticket, and nothing left in scratch."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from test_restores_told import archive
from world import ANNA, World

from msp import evidence
from msp.backup import plans
from msp.backup.models import RestoreTest
from msp.backup.plan_parts import PlanParts
from msp.desk.models import Ticket
from msp.engine.models import Job
from msp.flows import restores

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kills")]

POINTS = ("job.before", "restore.begun", "restore.verified", "restore.recorded", "job.handled")


def planned(world: World, file: Path) -> int:
    case: dict[str, Any] = {"engine": "tar", "file": str(file), "root": "data", "expect": {"rto_s": 600}}
    with world.database.begin() as session:
        plan = plans.create(
            session,
            PlanParts(
                asset_id=world.asset("one"),
                name="nightly",
                case=case,
                cron="30 3 * * *",
                time_zone="UTC",
                proof_every=timedelta(days=7),
            ),
            client_id=world.alfa,
            by="test",
        )
        return plan.id


@pytest.mark.parametrize("good", [True, False], ids=["good", "truncated"])
@pytest.mark.parametrize("point", POINTS)
def test_killed_anywhere_a_restore_test_ends_once_with_one_verdict(world: World, point: str, good: bool) -> None:
    file = archive(world.folder / "backups/nightly.tar.gz")
    if not good:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    plan_id = planned(world, file)
    with world.database.begin() as session:
        job_id = restores.request_test(session, plan_id, actor=ANNA)
    world.killed(world.start_worker(crash_at=point))
    world.start_worker()

    def done(*which: Any) -> bool:
        with world.database.read() as session:
            return set(session.scalars(select(Job.state).where(*which))) == {"done"}

    world.wait(lambda: done(Job.id == job_id))
    with world.database.read() as session:
        test = session.scalars(select(RestoreTest)).one()
        assert test.verdict == ("pass" if good else "fail")
        # The other assets have no plan at all, and their gaps are told of on tickets of their own.
        tickets = session.scalars(select(Ticket).where(Ticket.asset_id == world.asset("one"))).all()
        assert [ticket.dedup_key for ticket in tickets] == ([] if good else [f"backup:{plan_id}"])
        told = select(func.count()).select_from(evidence.Evidence).where(evidence.Evidence.kind == "restore.tested")
        assert session.scalar(told) == 1
        assert evidence.verify(session)[1] == []
    world.wait(done)  # the engine's drill too, which a worker begins at its first start and which uses the same folder
    assert list(world.settings.scratch_path.iterdir()) == []
