"""A worker process for tests to kill: `python engine_child.py URL SLOT FOLDER [lease seconds] [drain seconds]`.

Effects are lines appended to files in FOLDER, as a managed host would see them.
"""

import json
import os
import signal
import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from msp import db, events, log, worker
from msp.clock import utc_now
from msp.engine import crashpoints, perform, queues, ticks
from msp.engine.claims import ClaimKey, claim_many, end_many
from msp.engine.worker import run_worker
from msp.errors import Conflict, MspError
from msp.settings import Settings

url, slot, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
lease = int(sys.argv[4]) if len(sys.argv) > 4 else 60
drain = int(sys.argv[5]) if len(sys.argv) > 5 else 5


def effect(name: str, what: str) -> None:
    with (folder / name).open("a") as file:
        file.write(f"{what} {time.monotonic():.6f} {os.getpid()}\n")


def finish(session: Session, key: ClaimKey) -> None:
    if not end_many(session, [key], "finished", utc_now()):
        raise Conflict("The effect is no longer claimed by this worker.")


@queues.register("count")
def count(payload: dict[str, Any]) -> None:
    """Count up once a step, in the transaction of the claim."""
    for step in range(payload["steps"]):
        with db.begin() as session:
            key = ClaimKey(payload["run"], 0, step, "do")
            if claim_many(session, [key], slot, utc_now())[0].verdict == "granted":
                session.execute(text("UPDATE test_counter SET n = n + 1"))
                finish(session, key)
        crashpoints.at("count.step")


@queues.register("change")
def change(payload: dict[str, Any]) -> None:
    """Three steps on a host; the second is slow and must not happen twice."""
    for step, seconds in enumerate((0, payload.get("seconds", 2), 0)):
        if perform.draining():
            raise queues.HandBack
        key = ClaimKey(payload["run"], 1, step, "do")
        with db.begin() as session:
            verdict = claim_many(session, [key], slot, utc_now())[0].verdict
            if verdict == "in_doubt":
                events.record(session, f"run:{payload['run']}", "step.in_doubt", data={"step": step})
        crashpoints.at("claimed")
        if verdict == "in_doubt":
            time.sleep(payload.get("linger", 0))
            return
        if verdict == "finished":
            continue
        effect("effects", f"{payload['run']} {step}")
        crashpoints.at("acted")
        time.sleep(seconds)
        with db.begin() as session:
            finish(session, key)
        crashpoints.at("finished")


@queues.register("span")
def span(payload: dict[str, Any]) -> None:
    """Note when it begins and ends."""
    effect("spans", f"{payload['client']} begin")
    time.sleep(payload["seconds"])
    effect("spans", f"{payload['client']} end")


@queues.register("killer")
def killer(payload: dict[str, Any]) -> None:
    """Take the worker down with it, every time."""
    effect("effects", "killer")
    os.kill(os.getpid(), signal.SIGKILL)


@ticks.on_tick("test_tick", 0.5)
def count_ticks(session: Session, now: datetime) -> None:
    """A tick of a room above; its effect is in the database."""
    events.record(session, "test", "ticked", data={"worker": slot})


def configure(settings: Settings) -> None:
    """What the worker process asks of a module of handlers; these need no settings."""


def close() -> None:
    """What it asks for at its end; these hold nothing open."""


if __name__ == "__main__":
    if os.environ.get("MSP_TEST_WHOLE"):  # the real process around the worker, with these handlers
        sys.modules["msp.flows.handlers"] = sys.modules["__main__"]
        whole = Settings(
            database=url, worker_name=slot, lease_seconds=lease, drain_seconds=drain, data=folder, standby=False
        )
        sys.exit(worker.run(whole))
    log.configure("INFO")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    settings = Settings(
        database=url,
        worker_name=slot,
        lease_seconds=lease,
        drain_seconds=drain,
        client_concurrency=int(os.environ.get("MSP_TEST_PER_CLIENT", "4")),
    )
    try:
        ended = run_worker(settings, stop, lambda: print("ready", flush=True))
    except MspError as error:
        print(json.dumps({"error": error.code, "what": error.what}), flush=True)
        os._exit(error.exit_status)
    print(json.dumps({"running": ended.running, "lost": ended.lost}), flush=True)
    os._exit(0)
