"""One worker, from taking its slot to giving it up. The caller owns the process: its signals and its end."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from msp import db
from msp.clock import utc_now
from msp.engine import leases, perform, runtime, ticks
from msp.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stopped:
    """How a worker ended. running: jobs whose handlers still run; lost: its slot was taken over."""

    running: tuple[str, ...]
    lost: bool


def run_worker(settings: Settings, stop: threading.Event, ready: Callable[[], object] | None = None) -> Stopped:
    """Work until `stop` is set, then drain for up to `drain_seconds`, and return what is still running.

    Handlers and ticks are registered before. ready: called once jobs are being taken. Raises Conflict if the
    slot is held (on SQLite: if any worker runs) and Misconfigured if the engine's tables are not prepared.
    After a return with `running`, the process must end at once: its handlers are no longer supervised.
    """
    database = db.use(settings.database_url)
    limit = timedelta(seconds=settings.lease_seconds)
    lease = leases.acquire(database, settings.worker_name, utc_now(), limit)
    lost = threading.Event()

    def give_way() -> None:
        lost.set()
        stop.set()

    ticker = ticks.Ticker(settings, lease, give_way)
    launched, running = False, []
    try:
        with database.begin() as session:
            reaped = leases.reap(session, utc_now(), limit, restarted=settings.worker_name)
        logger.info("Took over %d jobs from before, stopped %d.", len(reaped.resumed), len(reaped.stopped))
        runtime.launch(settings)
        launched = True
        ticker.start()
        if ready is not None:
            ready()
        stop.wait()
        ticker.only_heartbeat()
        perform.set_draining(True)
    finally:
        if launched:
            drain = timedelta() if lost.is_set() else timedelta(seconds=settings.drain_seconds)
            running = runtime.shutdown(drain)
        ticker.stop()
        lease.release()
    if running:
        logger.warning("Leaving %d jobs to be taken over: %s.", len(running), ", ".join(running))
    return Stopped(tuple(running), lost.is_set())
