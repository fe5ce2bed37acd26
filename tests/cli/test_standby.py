"""The standby: a command that it carries out is the same command, and without it nothing is missing."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from msp.flows import install
from msp.settings import load
from msp.standby import wire
from msp.standby.keeper import TAKEN
from msp.vault import create_key_file

MSP = [sys.executable, "-m", "msp"]
TOLD = """name: told
version: "1"
action_class: read
parameters: {word: {type: string}}
steps:
  - name: tell
    changes: false
    do: |
      printf '%s|%s|%s|%s' {{ word }} "$PPID" "$(umask)" "$(cut -d' ' -f4 /proc/$PPID/stat)"
"""
SLOW = """name: slow
version: "1"
action_class: change
steps:
  - name: wait
    changes: false
    timeout: 60s
    do: |
      touch begun
      sleep 30
      touch done
"""


class Ground:
    """An installation, with a list of one host: this machine."""

    def __init__(self, folder: Path, prepared: Path) -> None:
        self.folder, self.data = folder, folder / "data"
        self.standby: subprocess.Popen[bytes] | None = None
        shutil.copytree(prepared, self.data)
        (folder / "hosts").write_text("here localhost transport=local\n")
        (folder / "told.yml").write_text(TOLD)
        (folder / "slow.yml").write_text(SLOW)

    def environment(self, **more: str) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("MSP_")}
        return kept | {"MSP_DATA": str(self.data)} | more

    def begin(self, *words: str, umask: int = -1, **more: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*MSP, *words], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env=self.environment(**more), umask=umask,
        )  # fmt: skip

    def told(self, word: str = "x", umask: int = -1) -> list[str]:
        """Return what the host was told: the word, the process that told it, its umask, and who started that."""
        done = self.begin("run", "told.yml", "--hosts", "hosts", "--json", "--param", f"word={word}", "--break-glass",
                          "test", umask=umask)  # fmt: skip
        out, err = done.communicate(timeout=60)
        assert done.returncode == 0, out + err
        step = next(line for line in map(json.loads, out.splitlines()) if line["phase"] == "do")
        said: str = step["stdout"]
        return said.rsplit("|", 3)

    def start(self) -> int:
        command = [sys.executable, "-P", "-m", "msp.standby", str(self.data)]
        self.standby = subprocess.Popen(command, stdin=subprocess.PIPE, env=self.environment())
        until((self.data / wire.SOCKET).exists)
        return self.standby.pid

    def end(self) -> int:
        """Let go of the standby and return its status, once all that it carries out has ended."""
        assert self.standby is not None
        self.standby.communicate(timeout=20)
        return self.standby.returncode


def until(done: Callable[[], Any], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("prepared")
    settings = load(None, {"MSP_DATA": str(data)})
    install.prepare(settings)
    create_key_file(settings.key_path)
    return data


@pytest.fixture
def ground(tmp_path: Path, prepared: Path) -> Iterator[Ground]:
    made = Ground(tmp_path, prepared)
    yield made
    if made.standby is not None:
        made.standby.kill()
        made.standby.communicate()


def test_a_command_is_carried_out_by_the_standby_as_it_was_typed(ground: Ground) -> None:
    standby = ground.start()
    word = 'it\'s "ж" $(id) \\ %'
    said = ground.told(word, umask=0o027)
    assert said[0] == word
    assert (said[2], int(said[3])) == ("0027", standby)
    again = ground.told()
    assert again[1] != said[1], "each command has a process of its own"


def test_without_a_standby_the_command_does_the_work_itself(ground: Ground) -> None:
    assert int(ground.told()[3]) == os.getpid()
    ground.start()
    assert ground.standby is not None
    ground.standby.kill()  # its socket stays
    ground.standby.wait()
    assert int(ground.told()[3]) == os.getpid()


@pytest.mark.slow
def test_results_status_and_words_are_those_of_the_command(ground: Ground) -> None:
    (ground.folder / "fails.yml").write_text(TOLD.replace("told", "fails").replace("printf", "false; exit 7; printf"))
    words = ("run", "fails.yml", "--hosts", "hosts", "--param", "word=x", "--break-glass", "test")
    alone = ground.begin(*words)
    first = (*alone.communicate(timeout=60), alone.returncode)
    ground.start()
    helped = ground.begin(*words)
    second = (*helped.communicate(timeout=60), helped.returncode)
    assert alone.returncode == helped.returncode == 1
    assert [text.split(" (")[0] for text in first[:2]] == [text.split(" (")[0] for text in second[:2]]
    wrong = ground.begin("run", "nosuch", "--hosts", "hosts")
    said = wrong.communicate(timeout=60)[1]
    assert wrong.returncode == 2
    assert "nosuch" in said


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["cancelled", "killed"])
def test_whoever_waits_can_cancel_and_going_away_cancels_too(ground: Ground, number: int) -> None:
    ground.start()
    command = ground.begin("run", "slow.yml", "--hosts", "hosts", "--break-glass", "test")
    until((ground.folder / "begun").exists)
    command.send_signal(number)
    out, err = command.communicate(timeout=20)
    assert command.returncode == (1 if number == signal.SIGINT else -number), out + err
    assert "cancelled" in out
    assert ground.end() == 0, "its command did not end"
    assert not (ground.folder / "done").exists()


@pytest.mark.slow
def test_a_command_that_gave_up_waiting_and_did_it_itself_is_not_done_twice(ground: Ground) -> None:
    (ground.folder / "told.yml").write_text(TOLD.replace("do: |\n", "do: |\n      echo {{ word }} >>done\n"))
    standby = ground.start()
    os.kill(standby, signal.SIGSTOP)
    assert int(ground.told("once")[3]) == os.getpid()
    os.kill(standby, signal.SIGCONT)
    assert int(ground.told("again")[3]) == standby  # it has worked off what stood in its way
    assert (ground.folder / "done").read_text().split() == ["once", "again"]


@pytest.mark.slow
def test_an_end_and_a_signal_at_the_same_moment_end_one_command_only(ground: Ground) -> None:
    (ground.folder / "short.yml").write_text(SLOW.replace("slow", "short").replace("sleep 30", "sleep 1"))
    (ground.folder / "slow.yml").write_text(SLOW.replace("sleep 30", "sleep 6").replace("begun", "other"))
    standby = ground.start()
    other = ground.begin("run", "slow.yml", "--hosts", "hosts", "--break-glass", "test")
    short = ground.begin("run", "short.yml", "--hosts", "hosts", "--break-glass", "test")
    until((ground.folder / "begun").exists)
    os.kill(standby, signal.SIGSTOP)
    until((ground.folder / "done").exists)
    time.sleep(1.5)  # its process has ended, and nobody has heard of it yet
    short.send_signal(signal.SIGINT)
    time.sleep(0.2)
    os.kill(standby, signal.SIGCONT)
    assert short.wait(20) == 0
    assert other.wait(30) == 0, other.communicate()
    assert int(ground.told()[3]) == standby


@pytest.mark.slow
def test_it_ends_with_its_owner_after_what_it_does(ground: Ground) -> None:
    (ground.folder / "slow.yml").write_text(SLOW.replace("sleep 30", "sleep 1.5"))
    ground.start()
    command = ground.begin("run", "slow.yml", "--hosts", "hosts", "--break-glass", "test")
    until((ground.folder / "begun").exists)
    assert ground.end() == 0
    assert not (ground.data / wire.SOCKET).exists()
    assert (ground.folder / "done").exists()
    assert command.wait(20) == 0


@pytest.mark.slow
def test_one_standby_serves_an_installation(ground: Ground) -> None:
    ground.start()
    second = subprocess.run(
        [sys.executable, "-m", "msp.standby", str(ground.data)], stdin=subprocess.DEVNULL, check=False, timeout=20
    )
    assert second.returncode == TAKEN
    assert (ground.data / wire.SOCKET).exists()


@pytest.mark.slow
def test_what_is_no_order_is_refused_and_harms_nothing(ground: Ground) -> None:
    standby = ground.start()
    path = str(ground.data / wire.SOCKET)
    other = {"stamp": wire.stamp() | {"package": "/elsewhere"}, "arguments": ["--version"]}
    for data in (b"", b"\0", b"\xff\xff\xff\xff", b"\0\0\0\2[]", b"\0\0\0\1{", wire.pack(other)):
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(10)
            peer.connect(path)
            peer.sendall(data)
            peer.shutdown(socket.SHUT_WR)
            assert b"ready" not in peer.recv(1000)
    assert (ground.data / wire.SOCKET).stat().st_mode & 0o077 == 0
    assert int(ground.told()[3]) == standby


@pytest.mark.slow
@pytest.mark.parametrize("age", [0, 10**6], ids=["newer", "older"])
def test_a_program_that_changed_is_not_carried_out_from_memory(ground: Ground, age: int) -> None:
    package = ground.folder / "copy" / "msp"
    package.parent.mkdir()
    subprocess.run(["cp", "-r", str(Path(wire.__file__).parents[1]), str(package)], check=True)
    ground.environment = lambda **more: dict(os.environ) | {  # type: ignore[method-assign]
        "MSP_DATA": str(ground.data), "PYTHONPATH": str(package.parent)} | more  # fmt: skip
    standby = ground.start()
    assert int(ground.told()[3]) == standby
    os.utime(package / "errors.py", (time.time() - age, time.time() - age))
    assert int(ground.told()[3]) == os.getpid()
    assert ground.end() == 0, "it makes room for a fresh one"
