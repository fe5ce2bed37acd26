"""The database goes away for a while under a worker that works."""

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import postgres
import pytest
from sqlalchemy import select

from msp.db import Model, use
from msp.engine import queues, runtime
from msp.engine.claims import in_doubt
from msp.engine.models import Job

CHILD = Path(__file__).with_name("engine_child.py")


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.skipif(postgres.programs() is None, reason="PostgreSQL is not installed")
def test_worker_outlives_an_outage_and_no_effect_happens_twice(tmp_path: Path, all_models: None) -> None:
    with postgres.running() as server:
        runtime.prepare(server.url)
        database = use(server.url)
        Model.metadata.create_all(database.engine)
        runs = [f"run:{number}" for number in range(8)]
        with database.begin() as session:
            for number, job in enumerate(runs):
                payload = {"run": number, "seconds": 3}
                queues.enqueue(session, "runs", "change", payload, job_id=job, partition=number % 2)
        command = [sys.executable, str(CHILD), server.url, "worker-01", str(tmp_path), "5"]
        environment = os.environ | {"PYTHONPATH": str(CHILD.parents[2])}
        with (tmp_path / "worker.log").open("w") as log:
            worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment)
        try:
            effects = tmp_path / "effects"
            end = time.monotonic() + 60
            while not effects.exists() or len(effects.read_text().splitlines()) < 6:
                assert time.monotonic() < end
                time.sleep(0.05)
            server.stop()
            database.dispose()
            time.sleep(8)  # longer than the lease
            server.start()
            while True:
                assert time.monotonic() < end + 120, (tmp_path / "worker.log").read_text()[-3000:]
                with database.read() as session:
                    states = Counter(session.scalars(select(Job.state)))
                if states["queued"] == 0:
                    break
                time.sleep(0.2)
            assert worker.poll() is None
        finally:
            worker.kill()
            worker.wait()
            if worker.stdout is not None:
                worker.stdout.close()
        with database.read() as session:
            doubtful = {(claim.run_id, claim.step) for claim in in_doubt(session)}
            takeovers = list(session.scalars(select(Job.takeovers)))
        database.dispose()
        done = [tuple(map(int, line.split()[:2])) for line in effects.read_text().splitlines()]
        assert len(done) == len(set(done))
        assert states == {"done": 8}
        for number in range(8):
            unfinished = {step for run, step in doubtful if run == number}
            assert unfinished or {step for run, step in done if run == number} == {0, 1, 2}
        assert takeovers == [0] * 8  # it was never taken for dead: it retried by itself
        assert len((tmp_path / "worker.log").read_text().splitlines()) < 200
