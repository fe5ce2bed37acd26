"""Runs that a command drives itself. A lease says that its process lives; when it is over the run ends, in doubt."""

import logging
import threading
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from msp import db
from msp.clock import utc_now
from msp.errors import MspError
from msp.flows import after_run
from msp.remote.models import Run, RunHost

LEASE = timedelta(seconds=60)
EVERY = 15.0  # seconds between renewals
GONE = "The command that drove the run has died; what it had begun here may have happened."

logger = logging.getLogger(__name__)


class Lease:
    """Renews the lease of one run in a thread until `end`."""

    def __init__(self, run_id: int) -> None:
        self._run_id, self._over = run_id, threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease-of-run-{run_id}", daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        self._thread.join()

    def _renew(self) -> None:
        while not self._over.wait(EVERY):
            try:
                with db.begin() as session:
                    mine = update(Run).where(Run.id == self._run_id, Run.finished_at.is_(None))
                    session.execute(mine.values(lease_until=utc_now() + LEASE))
            except (MspError, OSError) as error:  # the next renewal may succeed; the lease bears three missing
                logger.warning("The lease of run %d was not renewed: %s", self._run_id, error)


def end_adrift(session: Session, now: datetime) -> int:
    """End the runs whose command is dead and return how many; a tick calls it, and the next command."""
    query = (
        select(Run)
        .where(Run.state.in_(("running", "cancelling")), Run.lease_until < now)
        .limit(20)
        .with_for_update(skip_locked=True)
    )
    runs = list(session.scalars(query))
    for run in runs:
        after_run.end_rest(session, run, "lost", GONE, now)
        hosts = session.scalars(select(RunHost).where(RunHost.run_id == run.id).order_by(RunHost.position))
        after_run.settle(session, run, list(hosts), now)
    return len(runs)
