"""The worker process: drives runs, restore tests and notices. `msp worker` starts it."""

import importlib
import logging
import os
import signal
import sys
import threading
from types import FrameType

from msp import log, memory, open_files
from msp.settings import Settings
from msp.standby.keeper import Keeper

logger = logging.getLogger(__name__)


def run(settings: Settings) -> int:
    """Run one worker until SIGTERM or SIGINT and return its exit status.

    The first signal drains: no new work, and up to `drain_seconds` for the step in hand. The second ends the
    process at once; its work is taken over, and effects in hand are in doubt. Status 3: the slot was lost.
    """
    from msp.engine.worker import run_worker

    handlers = importlib.import_module("msp.flows.handlers")  # registers every handler and tick
    handlers.configure(settings)
    stop = threading.Event()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    log.configure(settings.log_level)
    keeper = Keeper(settings.data.resolve()) if settings.standby else None

    def ready() -> None:
        logger.info("Worker %s takes work.", settings.worker_name)
        if keeper is not None:
            keeper.start()

    memory.settle()
    open_files.allow_many()
    try:
        ended = run_worker(settings, stop, ready)
    finally:
        if keeper is not None:
            keeper.stop()
    status = 3 if ended.lost else 0
    if ended.running:  # their threads would keep this process alive, unsupervised
        logging.shutdown()
        sys.stdout.flush()
        os._exit(status)
    handlers.close()
    return status
