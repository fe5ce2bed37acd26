"""What a command spends: CPU of it and of everything it starts, daemons included, and its memory.

    python bench/fanout/spending.py RESULT.json TIMEOUT PID COMMAND...

Runs COMMAND as a sub-reaper, so that what detaches itself (ControlPersist masters) is ended and counted too. PID: a
process that helps and was there before, or 0; what it and its children spend meanwhile is counted as well. Writes `cpu`
and `wall` in seconds, `memory` as the largest sum of PSS in MB seen (sampled), `status`.
"""

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
EVERY = 0.1  # seconds between looks at the memory


def children(pid: int) -> list[int]:
    """Return every descendant of a process."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for word in task.read_text().split():
                found += [int(word), *children(int(word))]
    return found


def spent_by(pid: int) -> float:
    """Return the seconds of CPU that a process and its ended children have used; 0 for no process."""
    if not pid:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def pss(pids: list[int]) -> float:
    """Return the proportional set size of processes together, in MB."""
    total = 0
    for pid in pids:
        with suppress(OSError, IndexError):
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += int(text.split("Pss:", 1)[1].split()[0])
    return total / 1024


def main() -> None:
    result, limit, helper, command = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    most, over = 0.0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not over.wait(EVERY):
            most = max(most, pss(children(os.getpid()) + (children(helper) if helper else [])))

    watcher = threading.Thread(target=watch, daemon=True)
    before, began = spent_by(helper), time.monotonic()
    process = subprocess.Popen(command)
    watcher.start()
    try:
        status: int | None = process.wait(limit)
    except subprocess.TimeoutExpired:
        status = None
    wall = time.monotonic() - began
    over.set()
    watcher.join()
    while left := children(os.getpid()):
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM if time.monotonic() - began < wall + 3 else signal.SIGKILL)
        time.sleep(0.1)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    helped = spent_by(helper) - before
    spent = {"cpu": used.ru_utime + used.ru_stime + helped, "wall": wall, "memory": most, "status": status}
    result.write_text(json.dumps(spent))


if __name__ == "__main__":
    main()
