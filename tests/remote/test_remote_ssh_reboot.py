"""The reboot step over a real sshd that goes away and comes back with another boot id."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import playing
import pytest
import sshd

from msp.remote.ledger import MemoryLedger
from msp.remote.target import Credential, Target

pytestmark = [
    pytest.mark.server,
    pytest.mark.slow,
    pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing()),
]


class Machine:
    """A machine as far as SSH shows it: `boot_id` names its boot; asked by the file `asked` it restarts."""

    def __init__(self, folder: Path, *, comes_back: bool = True, other_key: bool = False) -> None:
        self.folder, self._comes_back, self._other_key = folder, comes_back, other_key
        self.boot_id, self.asked = folder / "boot_id", folder / "asked"
        self.boot_id.write_text("boot-1\n")
        self._stack = ExitStack()
        self.server = self._stack.enter_context(sshd.running(folder / "sshd", options=f"SetEnv HOME={folder}"))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    @property
    def target(self) -> Target:
        server = self.server
        return Target(
            "real", "127.0.0.1", server.port, Credential(server.user, key_file=server.key_file), (server.host_key,)
        )

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            if self.asked.exists():
                self.asked.unlink()
                time.sleep(0.3)
                if self._comes_back:
                    self.boot_id.write_text("boot-2\n")
                if self._other_key:
                    for name in ("host", "host.pub"):
                        (self.folder / "sshd" / name).unlink()
                    sshd.key(self.folder / "sshd/host")
                if self._comes_back:
                    os.kill(self.server.pid, signal.SIGHUP)
                else:
                    os.kill(self.server.pid, signal.SIGTERM)
                for connection in _served_by(self.server.pid):
                    os.kill(connection, signal.SIGKILL)

    def close(self) -> None:
        self._over.set()
        self._thread.join(5)
        self._stack.close()


def _served_by(pid: int) -> list[int]:
    """Return the processes that serve connections of an sshd."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


@contextmanager
def machine(folder: Path, **options: bool) -> Iterator[Machine]:
    made = Machine(folder, **options)
    try:
        yield made
    finally:
        made.close()


def document(made: Machine, wait: str = "20s", command: str | None = None) -> str:
    return f"""
name: restart
action_class: disruptive
steps:
  - do:
      reboot:
        wait: {wait}
        boot_id: {made.boot_id}
        command: {command or f"touch {made.asked}"}
        message: Back soon.
  - {{do: cat {made.boot_id}, changes: false, register: boot}}
  - assert: boot.stdout == 'boot-2'
"""


async def test_host_restarts_and_the_run_goes_on_there(tmp_path: Path) -> None:
    with machine(tmp_path) as made:
        played = await playing.play(document(made), [made.target], ledger=MemoryLedger(mark="m"))
    assert played.outcome.ok, played.outcome
    assert played.phases() == ["1 do ok", "2 do ok", "3 do ok"]


async def test_host_that_does_not_restart_is_told_with_what_it_said(tmp_path: Path) -> None:
    with machine(tmp_path) as made:
        text = document(made, "5s", "echo no right to restart >&2; false")
        played = await playing.play(text, [made.target], ledger=MemoryLedger(mark="m"))
    assert str(played.outcome) == "failed(1)"
    assert "still has the boot of before. no right to restart" in played.outcome.detail


async def test_host_that_stays_away_is_in_doubt(tmp_path: Path) -> None:
    with machine(tmp_path, comes_back=False) as made:
        played = await playing.play(document(made, "5s"), [made.target], ledger=MemoryLedger(mark="m"))
    assert played.outcome.kind == "lost"
    assert "has not come back" in played.outcome.detail


async def test_host_that_comes_back_with_another_key_is_not_entered(tmp_path: Path) -> None:
    with machine(tmp_path, other_key=True) as made:
        played = await playing.play(document(made), [made.target], ledger=MemoryLedger(mark="m"))
    assert played.outcome.kind == "host_key_changed"


@pytest.mark.parametrize("restarted", [True, False])
async def test_restart_interrupted_by_the_death_of_the_worker_is_not_begun_again(
    tmp_path: Path, restarted: bool
) -> None:
    with machine(tmp_path) as made:
        ledger = MemoryLedger(mark="m")
        assert (await playing.play(document(made), [made.target], ledger=ledger)).outcome.ok
        ledger.records, ledger.finished = [], set()  # claimed, and no result: the worker died
        if not restarted:
            made.boot_id.write_text("boot-1\n")  # as if the restart had not yet come
        asked: Callable[[], bool] = made.asked.exists
        played = await playing.play(document(made, "5s"), [made.target], ledger=ledger)
        assert not asked()
        assert str(played.outcome) == ("ok" if restarted else "failed(1)")
