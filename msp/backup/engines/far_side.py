"""The other end of away.py: runs one restore test where it was sent, and prints the verdict as its last line."""

import base64
import json
import os
import select
import signal
import sys
import threading
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msp.backup.case import parse
from msp.backup.process import Runner
from msp.backup.verify import verify
from msp.clock import utc_now
from msp.errors import Misconfigured


def main(given: Mapping[str, Any]) -> None:
    """Run the test that was sent: `case`, `scratch`, `deadline`, `niceness`, `io`, and the text of its `manifest`."""
    threading.Thread(target=_listen, daemon=True).start()
    signal.signal(signal.SIGALRM, signal.getsignal(signal.SIGTERM))
    signal.alarm(int(given["deadline"]) + 1)
    document = dict(given["case"])
    if "manifest" in given:
        document["expect"] = {**document["expect"], "manifest": _in_memory(given["manifest"])}
    try:
        base = Path(given["scratch"]) if given.get("scratch") else None
        runner = Runner(niceness=given["niceness"], io=given["io"])
        result = verify(parse(document, now=utc_now()), base=base, runner=runner)
    except Misconfigured as error:
        _say({"misconfigured": error.what, "advice": error.advice})
    else:
        pictures = [(one.name, base64.b64encode(one.png).decode()) for one in result.pictures]
        counts = [len(rung.findings) for rung in result.rungs]
        _say({"plain": result.plain(), "counts": counts, "pictures": pictures})


def _listen() -> None:
    """End this process in good order when nobody reads its output any more: sshd need not pass signals on."""
    waiting = select.poll()
    waiting.register(sys.stdout.fileno(), 0)  # a reader that went away is reported without being asked for
    while not waiting.poll(1000):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _in_memory(text: str) -> str:
    """Return a path under which this process can read `text`, without writing it to a disk."""
    handle = os.memfd_create("manifest", 0)
    with os.fdopen(os.dup(handle), "w", encoding="utf-8") as file:
        file.write(text)
    return f"/proc/{os.getpid()}/fd/{handle}"


def _say(answer: Mapping[str, Any]) -> None:
    """Print an answer so that it is one line, fits into what a way in keeps, and cannot be mistaken."""
    sys.stdout.write("\nmsp:" + base64.b64encode(zlib.compress(json.dumps(answer).encode(), 9)).decode() + "\n")
    sys.stdout.flush()
