"""Effects followed to their end over a real sshd: a lost connection, a lost worker, a cancelled run."""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import accounts
import playing
import pytest
import sshd

from msp.remote import traces
from msp.remote.ledger import MemoryLedger
from msp.remote.render import Script
from msp.remote.ssh import SshTransport
from msp.remote.sudo import Become
from msp.remote.target import Credential, Target
from msp.secret import Secret

pytestmark = [pytest.mark.server, pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing())]
SHORT = timedelta(seconds=20)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Target, Path]]:
    folder = tmp_path_factory.mktemp("sshd")
    home = folder / "home"
    home.mkdir()
    with sshd.running(folder, options=f"SetEnv HOME={home}") as server:
        credential = Credential(server.user, key_file=server.key_file)
        yield Target("real", "127.0.0.1", server.port, credential, (server.host_key,)), home


def document(do: str, check: str, *, timeout: str = "15s", extra: str = "") -> str:
    return f"name: e\naction_class: change\nsteps:\n  - {{do: '{do}', check: '{check}', timeout: {timeout}{extra}}}\n"


def written(path: Path) -> int:
    """Wait for the number that a command writes into `path`, and return it."""
    for _ in range(400):
        if path.exists() and path.read_text().strip():
            return int(path.read_text())
        time.sleep(0.025)
    raise AssertionError(f"{path} was never written")


def cut(path: Path) -> None:
    """Kill the process of sshd that serves the command which writes its parent's number into `path`."""
    os.kill(written(path), signal.SIGKILL)


def marked_processes(token: str) -> list[str]:
    """Return every process of this machine that carries a token."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"MSP_STEP={token}".encode() in path.read_bytes():
                found.append(path.parent.name)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("status", "outcome"), [(0, "ok"), (3, "failed(3)")])
async def test_lost_connection_ends_in_the_true_outcome(
    place: tuple[Target, Path], tmp_path: Path, status: int, outcome: str
) -> None:
    target, _ = place
    do = f"echo $PPID > {tmp_path}/served; sleep 1.5; echo done >> {tmp_path}/effect; echo said; exit {status}"
    cutting = asyncio.create_task(asyncio.to_thread(cut, tmp_path / "served"))
    played = await playing.play(
        document(do, f"test -s {tmp_path}/effect"), [target], ledger=MemoryLedger(mark=tmp_path.name)
    )
    await cutting
    assert str(played.outcome) == outcome
    assert "the host tells how it ended" in played.of(1, "do").outcome.detail
    assert (tmp_path / "effect").read_text() == "done\n"


@pytest.mark.slow
async def test_command_that_was_killed_on_its_host_stays_in_doubt(place: tuple[Target, Path], tmp_path: Path) -> None:
    target, _ = place
    do = f"echo $$ > {tmp_path}/own; echo $PPID > {tmp_path}/served; sleep 5; echo done >> {tmp_path}/effect"

    def cut_all() -> None:
        cut(tmp_path / "served")
        own = written(tmp_path / "own")
        children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
        for process in (own, *map(int, children)):
            os.kill(process, signal.SIGKILL)

    cutting = asyncio.create_task(asyncio.to_thread(cut_all))
    played = await playing.play(document(do, "true"), [target], ledger=MemoryLedger(mark=tmp_path.name))
    await cutting
    assert played.outcome.kind == "lost"
    assert not (tmp_path / "effect").exists()


async def test_after_a_lost_worker_the_host_tells_how_the_effect_ended(
    place: tuple[Target, Path], tmp_path: Path
) -> None:
    """The worker died after sending; the next one finds the claim, asks the host, and does nothing twice."""
    target, _ = place
    ledger = MemoryLedger(mark=tmp_path.name)
    text = document(f"echo once >> {tmp_path}/effect", f"test -s {tmp_path}/effect")
    assert (await playing.play(text, [target], ledger=ledger)).outcome.ok
    ledger.records = []
    ledger.finished = set()  # as it stood when the worker died: claimed, and no result
    played = await playing.play(text, [target], ledger=ledger)
    assert played.outcome.ok
    assert (tmp_path / "effect").read_text() == "once\n"
    assert "during an interruption" in played.of(1, "do").outcome.detail


@pytest.mark.slow
@pytest.mark.parametrize("how", ["cancel", "timeout"])
async def test_everything_that_a_command_started_ends_with_it(
    place: tuple[Target, Path], tmp_path: Path, how: str
) -> None:
    target, _ = place
    token = tmp_path.name
    do = f"setsid sleep 77 & trap : TERM; echo 1 > {tmp_path}/begun; sleep 78; sleep 79"
    text = document(do, "true", timeout="2s" if how == "timeout" else "60s")
    transport = {"ssh": SshTransport()}
    runner = playing.Runner(playing.planned(text), [target], MemoryLedger(mark=token), transport.__getitem__)
    running = asyncio.create_task(runner.run())
    await asyncio.to_thread(written, tmp_path / "begun")
    if how == "cancel":
        runner.cancel("Enough.")
    (end,) = (await running).ends
    assert end.outcome.kind == ("cancelled" if how == "cancel" else "timeout")
    assert end.outcome.in_doubt
    assert await asyncio.to_thread(marked_processes, f"msp-{token}") == []
    if how == "timeout":
        assert "its host says that it has" in end.outcome.detail


@pytest.mark.slow
@pytest.mark.skipif(bool(accounts.missing()), reason=accounts.missing())
async def test_command_under_sudo_is_ended_too_although_its_account_is_another() -> None:
    with accounts.open_folder() as folder, sshd.running(folder) as server:
        folder.chmod(0o755)
        with accounts.account(folder, sudo="(ALL) ALL") as account:
            credential = Credential(account.name, key_file=server.key_file, become_password=Secret(account.password))
            target = Target("real", "127.0.0.1", server.port, credential, (server.host_key,))
            text = document("sleep 76", "true", timeout="1500ms", extra=", become: true")
            played = await playing.play(text, [target], ledger=MemoryLedger(mark=account.name))
            assert played.outcome.kind == "timeout"
            assert "its host says that it has" in played.outcome.detail
            async with SshTransport().open(target) as shell:
                script = traces.alive(f"msp-{account.name}-0-1-do-1", "linux")
                asked = await shell.run_as(Become("root", Secret(account.password)), script, timeout=SHORT)
                assert asked.status == 1


@pytest.mark.parametrize(
    "body", ["exit 4", "false", "set -e; false; true", "(exit 4)", "/bin/false", "set -u; echo $nope"]
)
@pytest.mark.parametrize("shell", ["", "#!/bin/bash\n"])
def test_mark_changes_no_exit_status_and_notes_it(tmp_path: Path, body: str, shell: str) -> None:
    def run(script: str) -> int:
        first = script.partition("\n")[0]
        interpreter = first[2:] if first.startswith("#!") else "/bin/sh"
        environment = {**os.environ, "HOME": str(tmp_path)}
        return subprocess.run([interpreter, "-c", script], env=environment, capture_output=True, check=False).returncode

    plain, noted = run(shell + body), run(traces.marked(Script(shell + body), "tok").text)
    assert plain == noted
    assert (tmp_path / ".msp/steps/tok_").read_text().split()[1:] == [str(noted)]


def test_home_that_cannot_be_written_does_no_harm(tmp_path: Path) -> None:
    script = traces.marked(Script("echo fine"), "tok").text
    for home in ("/proc/nowhere", ""):
        done = subprocess.run(
            ["/bin/sh", "-c", script], env={"HOME": home, "PATH": os.environ["PATH"]}, capture_output=True, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"fine\n", b"")


def test_old_notes_are_cleared_away(tmp_path: Path) -> None:
    steps = tmp_path / ".msp/steps"
    steps.mkdir(parents=True)
    for number in range(310):
        (steps / f"old-{number}").write_text("1 0\n")
        os.utime(steps / f"old-{number}", (time.time() - 30 * 86400,) * 2)
    (steps / "fresh").write_text("1 0\n")
    for _ in range(2000):  # one step in a hundred, by its process number, takes the old ones away
        subprocess.run(
            ["/bin/sh", "-c", traces.marked(Script("true"), "tok").text],
            env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
            check=True,
        )
        if len(list(steps.iterdir())) < 300:
            break
    assert sorted(path.name for path in steps.iterdir()) == ["fresh", "tok_"]


@pytest.mark.slow
async def test_mark_costs_little_of_ours(place: tuple[Target, Path]) -> None:
    target, _ = place
    transport = SshTransport()

    async def cost(script: str) -> float:
        async with transport.open(target) as shell:
            began = time.process_time()
            for _ in range(40):
                await shell.run(script, timeout=SHORT)
            return (time.process_time() - began) / 40

    await cost("true")
    plain, noted = await cost("true"), await cost(traces.marked(Script("true"), "tok").text)
    await transport.close()
    assert noted - plain < 0.0006, f"{plain * 1000:.2f} and {noted * 1000:.2f} ms"


@pytest.mark.slow
async def test_changed_host_key_between_two_steps_stops_the_host(tmp_path: Path) -> None:
    """The host comes back with another key: the effect stays in doubt, and nothing else is done."""
    folder = tmp_path / "sshd"
    with sshd.running(folder, options=f"SetEnv HOME={tmp_path}") as server:
        target = Target(
            "real", "127.0.0.1", server.port, Credential(server.user, key_file=server.key_file), (server.host_key,)
        )
        text = (
            f"name: e\naction_class: change\nsteps:\n"
            f"  - {{do: 'echo $PPID > {tmp_path}/served; sleep 1', check: 'true', on_failure: continue}}\n"
            f"  - {{do: 'touch {tmp_path}/second', check: 'true'}}\n"
        )

        def swap() -> None:
            served = written(tmp_path / "served")
            for name in ("host", "host.pub"):
                (folder / name).unlink()
            sshd.key(folder / "host")
            os.kill(server.pid, signal.SIGHUP)  # sshd starts itself anew and reads the new key
            time.sleep(0.3)
            os.kill(served, signal.SIGKILL)

        swapping = asyncio.create_task(asyncio.to_thread(swap))
        played = await playing.play(text, [target], ledger=MemoryLedger(mark=tmp_path.name))
        await swapping
    assert str(played.of(1, "do").outcome) == "lost"
    assert played.outcome.kind == "host_key_changed"
    assert not (tmp_path / "second").exists()
