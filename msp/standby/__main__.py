"""`python -m msp.standby FOLDER`: what a worker starts. It ends when its standard input ends."""

import logging
import os
import signal
import sys
from pathlib import Path

from msp.standby.server import Standby, claim, prepare


def main() -> int:
    """Serve the folder given; status 0 when the owner has ended, 75 when another one serves it."""
    logging.basicConfig(level=logging.WARNING)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # its owner drains; it ends with it
    folder = Path(sys.argv[1])
    try:
        lock = claim(folder)
    except BlockingIOError:
        return 75
    except OSError as error:
        logging.warning("No standby: %s cannot be used: %s.", folder, error.strerror)
        return 1
    order = Standby(folder, lock, prepare()).serve(0)
    if order is None:
        return 0
    status = order.carry_out()
    sys.stdout.flush()
    os._exit(status & 0xFF)


sys.exit(main())
