"""Places where a test may kill this process: one at every commit boundary. They do nothing otherwise."""

import os
import signal
from collections import Counter

_passed: Counter[str] = Counter()


def at(name: str) -> None:
    """Pass the point `name`. With MSP_TEST_CRASH_AT=name[:n] the n-th passing (default 1) is the last act."""
    wanted = os.environ.get("MSP_TEST_CRASH_AT")
    if not wanted:
        return
    point, _, number = wanted.partition(":")
    if point != name:
        return
    _passed[name] += 1
    if _passed[name] >= int(number or 1):
        os.kill(os.getpid(), signal.SIGKILL)
