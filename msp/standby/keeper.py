"""The worker's side: start a standby once there is time for it, start it again when the program has changed."""

import logging
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

SETTLED: Final = 3.0  # seconds: a worker's start has more urgent things to do
AGAIN: Final = 5.0  # after the program has changed: an upgrade may not be through
LATER: Final = 60.0
TAKEN: Final = 75  # exit status: another worker of this machine has one there

logger = logging.getLogger(__name__)


class Keeper:
    """Keeps one standby beside this process; when this process dies, however it dies, the standby ends too."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._over = folder, threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, name="standby", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Have it take no more orders. Commands that it carries out go on to their end."""
        self._over.set()
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def _keep(self) -> None:
        pause = SETTLED
        while not self._over.wait(pause):
            command = [sys.executable, "-P", "-m", "msp.standby", str(self._folder)]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
            )
            status = self._process.wait()
            if status not in (0, TAKEN) and not self._over.is_set():
                logger.warning("The standby ended with status %d.", status)
            pause = AGAIN if status == 0 else LATER
