"""Scratch is gone after every exit, also after kill -9, and is never taken from a running test."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from msp.backup.process import DeadlinePassed, Runner
from msp.backup.scratch import QuotaExceeded, scratch, sweep
from msp.errors import Misconfigured

HOLD = """
import sys, time
from pathlib import Path
from msp.backup.process import Runner
from msp.backup.scratch import scratch
with scratch(Path(sys.argv[1])) as space:
    (space.path / "secret").write_text("restored")
    print(space.path, flush=True)
    Runner().run(["sleep", "600"])
"""


def test_scratch_is_private_and_gone_afterwards(tmp_path: Path) -> None:
    with scratch(tmp_path / "s") as space:
        assert space.path.stat().st_mode & 0o777 == 0o700
        closed = space.folder("closed")
        (closed / "file").touch()
        closed.chmod(0)
    assert list((tmp_path / "s").iterdir()) == []


def test_scratch_is_gone_after_an_exception(tmp_path: Path) -> None:
    def broken() -> None:
        with scratch(tmp_path / "s") as space:
            (space.path / "x").touch()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert list((tmp_path / "s").iterdir()) == []


def test_what_kill_nine_leaves_is_swept_and_a_running_test_is_not(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "s"], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    left = Path(holder.stdout.readline().strip())
    assert (left / "secret").exists()
    assert sweep(tmp_path / "s") == [], "a running test was swept"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    assert (left / "secret").exists()
    swept, ends = sweep(tmp_path / "s"), time.monotonic() + 10
    while not swept and time.monotonic() < ends:  # a child between fork and exec still holds the lock
        time.sleep(0.05)
        swept = sweep(tmp_path / "s")
    assert swept == [left.name]
    assert list((tmp_path / "s").iterdir()) == []


def test_a_program_dies_with_the_killed_test(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "s"], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    holder.stdout.readline()

    def children() -> list[str]:
        return [p.name for p in Path("/proc").glob("[0-9]*") if _parent(p) == holder.pid]

    ends = time.monotonic() + 10
    while not children() and time.monotonic() < ends:
        time.sleep(0.02)
    child = children()[0]
    time.sleep(0.3)  # until nice and setpriv have become sleep
    holder.kill()
    holder.wait()
    holder.stdout.close()
    while Path("/proc", child).exists() and _state(child) != "Z" and time.monotonic() < ends:
        time.sleep(0.02)
    assert not Path("/proc", child).exists() or _state(child) == "Z"


def _parent(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return -1


def _state(process: str) -> str:
    try:
        return Path("/proc", process, "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_a_shared_folder_is_refused_as_scratch(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s").chmod(0o777)
    with pytest.raises(Misconfigured), scratch(tmp_path / "s"):
        pass


def test_more_than_the_quota_is_refused_before_it_is_written(tmp_path: Path) -> None:
    with scratch(tmp_path / "s", quota=10) as space:
        space.require(10)
        with pytest.raises(QuotaExceeded):
            space.require(11)


def test_a_program_past_its_deadline_is_ended_with_its_children() -> None:
    began = time.monotonic()
    with pytest.raises(DeadlinePassed):
        Runner().run(["sh", "-c", "sleep 60 & sleep 60"], deadline=0.3)
    assert time.monotonic() - began < 10


def test_a_line_of_complaint_can_end_a_program() -> None:
    done = Runner().run(["sh", "-c", "echo bad >&2; sleep 60"], stop_at="bad")
    assert done.stopped
    assert done.stderr == "bad\n"


def test_engines_do_not_see_their_callers_settings() -> None:
    os.environ["RESTIC_REPOSITORY"] = "/elsewhere"
    try:
        assert b"elsewhere" not in Runner().run(["env"]).stdout
    finally:
        del os.environ["RESTIC_REPOSITORY"]


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed (package util-linux)")
def test_a_program_whose_parent_died_before_it_could_ask_to_die_with_it_does_nothing(tmp_path: Path) -> None:
    done = tmp_path / "done"
    late = """
import subprocess, sys
from msp.backup.process import Runner
words = Runner().argv(["touch", sys.argv[1]], None, "KILL")
subprocess.Popen(["sh", "-c", 'sleep 0.3; exec "$@"', "late", *words], start_new_session=True)
"""
    subprocess.run([sys.executable, "-c", late, str(done)], check=True)
    time.sleep(1)
    assert not done.exists()


def test_the_sweep_ends_what_a_dead_test_left_at_work(tmp_path: Path) -> None:
    base = tmp_path / "s"
    dead = """
import os, subprocess, sys
from pathlib import Path
from msp.backup.scratch import scratch
with scratch(Path(sys.argv[1])) as space:
    subprocess.Popen(["sleep", "600"], cwd=space.path, start_new_session=True)
    subprocess.Popen(["sh", "-c", "trap : QUIT; while :; do sleep 1; done", str(space.path)])
    os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", dead, str(base)], check=False)
    assert subprocess.run(["pgrep", "-f", str(base)], check=False, capture_output=True).returncode == 0
    assert len(sweep(base)) == 1
    assert subprocess.run(["pgrep", "-f", str(base)], check=False, capture_output=True).returncode == 1
