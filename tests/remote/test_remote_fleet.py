"""Many hosts at once: every fault with its right outcome within the bound, and much output in little memory.

MSP_TEST_MANY=1 plays the fault fleet twenty times and lets 200 hosts print 50 MB each.
"""

import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sshd
import sshd_fleet
from ssh_faults import GARBAGE, FaultFleet

MANY = os.environ.get("MSP_TEST_MANY") == "1"
MSP = [sys.executable, "-c", "from msp.console import main; main()"]
CONNECT, STEP = 5, 5  # seconds that a host has to connect, and a step to end
ECHO = f"""name: echo
version: "1"
action_class: read
limits: {{connect: {CONNECT}s, step: {STEP}s}}
steps:
  - {{name: say, do: echo fx-1}}
"""
FLEET = {"healthy": 78, "refuse": 10, "silent": 3, "hang": 2, "drop": 5, "garbage": 1, "changed_key": 1}
EXPECTED = {
    "healthy": "ok",
    "refuse": "unreachable",
    "silent": "unreachable",
    "hang": "timeout",
    "drop": "lost",
    "garbage": "ok",
    "changed_key": "host_key_changed",
}


@dataclass(frozen=True)
class Done:
    """A command that has ended: exit status, JSON lines, what it said, its largest memory in MB."""

    status: int
    lines: list[dict[str, Any]]
    raw: bytes  # standard output
    said: str
    memory: float
    seconds: float

    def of(self, phase: str) -> dict[str, dict[str, Any]]:
        return {line["host"]: line for line in self.lines if line["phase"] == phase}


def msp(folder: Path, *words: str, before: Callable[[], None] | None = None) -> Done:
    """Run `msp run` in a process of its own and return what it did."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MSP_")}
    began = time.monotonic()
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        command = subprocess.Popen(
            [*MSP, "run", *words, "--json"], cwd=folder, stdout=out, stderr=err, env=environment, preexec_fn=before
        )
        _, status, used = os.wait4(command.pid, 0)
    took = time.monotonic() - began
    command.returncode = os.waitstatus_to_exitcode(status)
    raw = (folder / "out").read_bytes()
    lines = [json.loads(line) for line in raw.splitlines()]
    return Done(command.returncode, lines, raw, (folder / "err").read_text(), used.ru_maxrss / 1024, took)


def finished(line: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(line["started_at"]) + timedelta(seconds=line["seconds"])


def healthy_seconds(done: Done) -> float:
    """Return in how many seconds from the first host on 95 of 100 healthy hosts were done."""
    ends = done.of("host")
    begin = min(datetime.fromisoformat(line["started_at"]) for line in ends.values() if line["started_at"])
    took = sorted((finished(line) - begin).total_seconds() for name, line in ends.items() if name.startswith("healthy"))
    return took[int(len(took) * 0.95) - 1]


@pytest.mark.slow
def test_hundred_hosts_with_every_fault_end_each_with_its_right_outcome_within_the_bound(tmp_path: Path) -> None:
    """78 healthy, 10 refuse, 3 silent, 2 hang after printing, 5 drop mid-command, 1 garbage, 1 with a changed key."""
    kinds = [kind for kind, number in FLEET.items() for _ in range(number)]
    (tmp_path / "echo.yml").write_text(ECHO)
    alone: list[float] = []
    among: list[float] = []
    with FaultFleet(tmp_path / "fleet", kinds) as fleet:
        fleet.write_list(tmp_path / "list")
        (tmp_path / "healthy").write_text("\n".join(line for line in fleet.lines if line.startswith("healthy")) + "\n")
        for _ in range(20 if MANY else 2):
            alone.append(healthy_seconds(msp(tmp_path, "echo.yml", "--hosts", "healthy")))
            asked_before = {name: len(asked) for name, asked in fleet.asked.items()}
            done = msp(tmp_path, "echo.yml", "--hosts", "list")
            among.append(healthy_seconds(done))
            assert done.seconds < CONNECT + STEP + 5
            check_faults(done, fleet, asked_before)
    # The silent and the hung hold nothing that the others need. Half a second is noise of a shared machine.
    assert statistics.median(among) < statistics.median(alone) * 1.5 + 0.5, (alone, among)


def check_faults(done: Done, fleet: FaultFleet, asked_before: dict[str, int]) -> None:
    """Check that every host has one end, the right one, and that nothing was sent twice or to an impostor."""
    ends, steps = done.of("host"), done.of("do")
    assert Counter(line["host"] for line in done.lines if line["phase"] == "host") == Counter(list(fleet.kind_of))
    assert {name: end["outcome"] for name, end in ends.items()} == {
        name: EXPECTED[kind] for name, kind in fleet.kind_of.items()
    }
    assert done.status == 3  # unknown outranks failed
    for name, kind in fleet.kind_of.items():
        asked = len(fleet.asked[name]) - asked_before[name]
        match kind:
            case "healthy":
                assert (steps[name]["stdout"], asked) == ("fx-1\n", 1)
            case "refuse" | "silent":
                assert ends[name]["reason"] == ("refused" if kind == "refuse" else "banner")
                assert ends[name]["unknown"] is False
            case "hang" | "drop":
                assert (steps[name]["stdout"], asked) == ("fx-1\npartial", 1)  # kept, and never sent again
                assert ends[name]["unknown"] is True
            case "garbage":
                assert steps[name]["stdout"] == GARBAGE.decode("utf-8", "backslashreplace")
            case "changed_key":
                assert asked == 0
    assert not {b"\x1b", b"\x9b", b"\xff"} & {bytes([byte]) for byte in done.raw}  # nothing steers a terminal


@pytest.mark.slow
@pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing() or "here")
def test_much_output_of_many_hosts_is_counted_and_hashed_whole_in_little_memory(tmp_path: Path) -> None:
    hosts, size = (200, 50_000_000) if MANY else (40, 10_000_000)
    (tmp_path / "much.yml").write_text(
        ECHO.replace("echo fx-1", f"head -c {size} /dev/zero").replace(
            "connect: 5s, step: 5s", "connect: 2m, step: 30m"
        )
    )
    with sshd_fleet.running(tmp_path / "fleet", hosts) as fleet:
        fleet.write_list(tmp_path / "list")
        done = msp(tmp_path, "much.yml", "--hosts", "list")
    assert done.status == 0, done.said
    digest = hashlib.sha256(bytes(size)).hexdigest()
    said = {(line["stdout_bytes"], line["stdout_sha256"]) for line in done.of("do").values()}
    assert (said, len(done.of("host"))) == ({(size, digest)}, hosts)
    print(f"{hosts} hosts x {size} bytes: {done.memory:.0f} MB, {done.seconds:.0f} s")
    assert done.memory < 300


def print_much(folder: Path, size: int = 2_000_000) -> bytes:
    """Write a playbook that prints a secret within much text, and a list of this machine; return what it prints."""
    body = b"0123456789abcde\n" * (size // 16)
    (folder / "body").write_bytes(body[: size // 2] + b"geheim-4711\n" + body[size // 2 :])
    (folder / "much.yml").write_text(
        'name: much\nversion: "1"\naction_class: read\nparameters: {password: secret}\nsteps:\n'
        f"  - name: print\n    do: cat {folder / 'body'}; echo done >&2; exit 3\n"
    )
    (folder / "list").write_text("here transport=local\n")
    (folder / "secret").write_text("geheim-4711")
    return (folder / "body").read_bytes()


def test_full_output_is_kept_in_a_file_with_secrets_masked(tmp_path: Path) -> None:
    printed = print_much(tmp_path)
    done = msp(tmp_path, "much.yml", "--hosts", "list", "--spool", "kept", "--param", "password=file:secret")
    line = done.of("do")["here"]
    assert (done.status, line["status"], line["stdout_bytes"]) == (1, 3, len(printed))
    assert line["stdout_sha256"] == hashlib.sha256(printed).hexdigest()  # of what the host printed
    kept = tmp_path / line["stdout_file"]
    assert (line["stdout_file_whole"], kept.read_bytes()) == (True, printed.replace(b"geheim-4711", b"***"))
    assert kept.stat().st_mode & 0o777 == 0o600
    assert "stderr_file" not in line  # it stands in the result whole


def test_quota_ends_the_file_and_not_the_command(tmp_path: Path) -> None:
    printed = print_much(tmp_path)
    words = ("--spool", "kept", "--spool-mb", "1", "--param", "password=file:secret")
    line = msp(tmp_path, "much.yml", "--hosts", "list", *words).of("do")["here"]
    assert (line["outcome"], line["status"], line["stdout_bytes"]) == ("failed", 3, len(printed))
    assert (tmp_path / line["stdout_file"]).stat().st_size == 1024 * 1024
    assert line["stdout_file_whole"] is False
    assert "quota of 1 MB" in line["detail"]


def test_full_disk_cuts_the_file_short_and_says_so_and_the_outcome_stands(tmp_path: Path) -> None:
    """The system refuses to let any file of the process grow beyond 300 KB, as it does on a full disk."""
    printed = print_much(tmp_path)
    limit = 300 * 1024
    words = ("--spool", "kept", "--param", "password=file:secret")
    done = msp(
        tmp_path, "much.yml", "--hosts", "list", *words,
        before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    line = done.of("do")["here"]
    assert (line["outcome"], line["status"], line["stdout_bytes"]) == ("failed", 3, len(printed))
    assert line["stdout_sha256"] == hashlib.sha256(printed).hexdigest()
    assert (line["stdout_file_whole"], (tmp_path / line["stdout_file"]).stat().st_size) == (False, limit)
    assert "not whole after 307200 bytes" in line["detail"]
    assert "Traceback" not in done.said


def test_folder_for_full_output_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    print_much(tmp_path)
    done = msp(tmp_path, "much.yml", "--hosts", "list", "--spool", "list/kept", "--param", "password=file:secret")
    assert done.status == 2
    assert "cannot be made" in done.said
    assert done.lines == []
