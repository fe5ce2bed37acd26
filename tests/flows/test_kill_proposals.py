"""Workers killed between a run that failed and the visit that it proposes: exactly one proposal, and one told ticket.

MSP_TEST_MANY=1: 21 kills on each database; else six.
"""

import os
from itertools import cycle, islice

import pytest
from sqlalchemy import func, select
from world import World

from msp import evidence
from msp.desk.models import TicketEvent
from msp.dispatch.models import Appointment, WorkOrder

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kills")]

#: A job whose worker died three times is stopped, so each run is killed three times: before its proposal, after it and
#: before the commit, and after that.
POINTS = (("visit.due", "visit.proposed", "run.finished"), ("run.driven", "run.settled", "run.finished"))
RUNS = 7 if os.environ.get("MSP_TEST_MANY") else len(POINTS)

FAILS = """\
name: fails
version: "1"
action_class: change
steps:
  - name: in vain
    idempotent: true
    do: "true"
    check: "false"
"""


def test_a_run_that_fails_proposes_exactly_one_visit_however_often_the_worker_is_killed(world: World) -> None:
    playbook = world.playbook(FAILS)
    asked: list[int] = []
    for points in islice(cycle(POINTS), RUNS):
        asked.append(world.request(playbook).id)
        for point in points:
            world.killed(world.start_worker(crash_at=point))
    world.start_worker()
    world.wait(lambda: all(world.run(run).finished_at is not None for run in asked))
    with world.database.read() as session:
        for run in asked:
            assert world.run(run).state == "failed"
            proposed = session.scalars(select(WorkOrder).where(WorkOrder.run_id == run)).all()
            assert len(proposed) == 1
            told = session.scalars(
                select(TicketEvent).where(TicketEvent.ticket_id == proposed[0].ticket_id, TicketEvent.kind == "visit")
            )
            assert sum(entry.data.get("work_order") == proposed[0].id for entry in told) == 1
            of_order = select(func.count()).where(Appointment.work_order_id == proposed[0].id)
            assert (session.scalar(of_order) or 0) <= 1
            recorded = select(func.count(evidence.Evidence.id)).where(
                evidence.Evidence.kind == "visit.proposed", evidence.Evidence.subject_id == str(proposed[0].id)
            )
            assert session.scalar(recorded) == 1
        assert evidence.verify(session)[1] == []
