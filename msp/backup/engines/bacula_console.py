"""Bacula's console, spoken without a person: commands in, answers out, jobs as records.

Every value that reaches a command is checked and quoted, and every name is compared with what the director knows,
because a director that does not find a client takes the only other one.
"""

import contextlib
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from msp.backup.engine import Found
from msp.backup.process import Runner, end, kill
from msp.backup.verdict import Finding, Weight
from msp.errors import Misconfigured

SAFE = re.compile(r"[\w .:@+/,=-]*")
ENDED = "TWEefABDI"  # job statuses after which nothing more happens
GOOD = "TW"
QUEUED = re.compile(r"^Job queued\. JobId=(\d+)", re.MULTILINE)
ASKING = 120  # seconds for one answer of the director
POLL = (0.2, 2.0)  # seconds between two looks at a running job: at first, at most
PATIENCE = 6  # seconds that a job may wait for a volume to be mounted; it would wait for an operator for ever
MOUNT = re.compile(r"mount|intervention|operator|media", re.IGNORECASE)

#: Arguments: the configuration, the folder restored to or nothing, the command. A line on stdin means that all is well.
GUARD = r"""
tell() { printf '%s\nquit\n' "$1" | bconsole -n -c "$config" 2>&1; }
config=$1 where=$2
said=$(tell "$3")
printf '%s\n' "$said"
job=$(printf '%s\n' "$said" | sed -n 's/^Job queued\. JobId=\([0-9]*\).*/\1/p' | head -n 1)
exec >/dev/null
read -r _ && exit 0
[ -n "$job" ] || exit 0
tell "cancel jobid=$job yes"
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
	tell ".status dir running" | grep -q "^ *$job " || break
	sleep 1
done
if [ -n "$where" ]; then
	rm -rf -- "$where"
	rmdir -- "${where%/*}"
fi
"""


@dataclass(frozen=True, slots=True)
class Job:
    """One record of the catalogue's job table."""

    id: int
    name: str
    type: str  # B backup, R restore, V verify
    level: str  # F full, I incremental, D differential; O volume, d disk, A data of a verify job
    client: str
    fileset: str
    status: str
    began: datetime | None
    files: int
    bytes: int  # as read from the source
    errors: int


def _job(record: dict[str, str]) -> Job:
    return Job(
        id=int(record["JobId"]),
        name=record.get("Name", ""),
        type=record.get("Type", ""),
        level=record.get("Level", ""),
        client=record.get("ClientName", ""),
        fileset=record.get("FileSet", ""),
        status=record.get("JobStatus", ""),
        began=_instant(record),
        files=_number(record, "JobFiles"),
        bytes=_number(record, "ReadBytes") or _number(record, "JobBytes"),
        errors=_number(record, "JobErrors"),
    )


def _number(record: dict[str, str], name: str) -> int:
    digits = record.get(name, "").replace(",", "")
    return int(digits) if digits.isdigit() else 0


def _instant(record: dict[str, str]) -> datetime | None:
    """Return when a job began. Its times are the director's local ones; JobTDate is its end in seconds since 1970."""
    with contextlib.suppress(ValueError):
        began = datetime.fromisoformat(record.get("StartTime", "")).replace(tzinfo=UTC)
        ended = datetime.fromisoformat(record.get("EndTime", "")).replace(tzinfo=UTC)
        shift = datetime.fromtimestamp(_number(record, "JobTDate"), UTC) - ended
        return began + shift if abs(shift.total_seconds()) < 86400 else began
    return None


def quoted(value: str) -> str:
    """Return a value as a console command takes it; raises Misconfigured for one that could be a command itself."""
    if not SAFE.fullmatch(value):
        raise Misconfigured(
            f"{value!r} cannot be told to Bacula.", advice="Use letters, digits and . : @ + / - _ only."
        )
    return f'"{value}"'


@dataclass(slots=True)
class Console:
    """One director, reached by a bconsole.conf."""

    runner: Runner
    config: Path

    def ask(self, *commands: str) -> str:
        """Return the director's answers to commands; raises Found where it cannot be asked."""
        with tempfile.TemporaryFile() as script:
            script.write("".join(f"{command}\n" for command in (*commands, "quit")).encode())
            script.seek(0)
            argv = ["bconsole", "-n", "-c", str(self.config)]
            done = self.runner.run(argv, stdin=script, deadline=ASKING, noted=False)
        text = done.stdout.decode("utf-8", "replace")
        if "1000 OK" not in text:
            raise Found(_unreached(done.stderr, text, self.config))
        return text.partition("1000 OK")[2]

    def version(self) -> str:
        match = re.search(r"Version: ([\d.]+[^\n]*)", self.ask("version"))
        return f"Bacula {match[1].strip()}" if match else "Bacula"

    def names(self, kind: str) -> list[str]:
        """Return the names that the director knows: clients, jobs."""
        return [line.strip() for line in self.ask(f".{kind}").splitlines()]

    def known(self, kind: str, name: str) -> str:
        """Return the name as a command takes it, or raise Found: the director would take another one instead."""
        if name not in self.names(kind):
            what = f"The director knows no {kind.removesuffix('s')} {name}."
            advice = "Correct the name in the case, or the director's configuration."
            raise Found(Finding("restore", what, advice=advice, weight=Weight.ERROR))
        return quoted(name)

    def backups(self, client: str) -> list[Job]:
        """Return the client's backup jobs, oldest first."""
        jobs = self._jobs(f"llist jobs client={quoted(client)} jobtype=B order=desc limit=200")
        return sorted((job for job in jobs if job.client == client and job.type == "B"), key=lambda job: job.id)

    def job(self, number: int) -> Job | None:
        return next((job for job in self._jobs(f"llist jobid={number}") if job.id == number), None)

    def _jobs(self, command: str) -> list[Job]:
        jobs, record = [], dict[str, str]()
        for line in (*self.ask(command).splitlines(), ""):
            name, colon, value = line.partition(":")
            if colon and re.fullmatch(r" *\w+", name):
                record[name.strip()] = value.strip()
            elif not line.strip():
                if "JobId" in record and "JobStatus" in record:
                    jobs.append(_job(record))
                record = {}
        return jobs

    def chain(self, number: int) -> str:
        """Return the jobs whose files together are the state at one backup: a full one and what followed it."""
        for line in self.ask(f".bvfs_get_jobids jobid={number}").splitlines():
            if re.fullmatch(r"[\d,]+", line.strip()):
                return line.strip()
        return str(number)

    def log(self, number: int) -> list[str]:
        """Return what the daemons said about a job, without the names of the files that went well."""
        quiet = re.compile(rb"JobId \d+: [-dlbcps][-rwxsStT]{9} |^\\? *\|?$")
        lines: list[str] = []
        with tempfile.TemporaryFile() as script:
            script.write(f"list joblog jobid={number}\nquit\n".encode())
            script.seek(0)
            argv = ["bconsole", "-n", "-c", str(self.config)]
            with self.runner.reading(argv, stdin=script, deadline=ASKING * 5, noted=False) as reading:
                for line in reading.lines():
                    if not quiet.search(line) and len(lines) < 100_000:
                        lines.append(line.decode("utf-8", "replace").strip(" |\\\n"))
        return [line for line in lines if line]

    @contextlib.contextmanager
    def started(self, command: str, where: Path | None = None) -> Iterator[tuple[int, str]]:
        """Give a command that queues a job; yield its number and all that was said. Raises Found if none was queued.

        A process of its own gives the command and holds one end of a pipe. If this block is left by an exception, or
        this process is killed at whatever moment, it cancels the job, waits until nobody writes any more, and removes
        `where`, which a file daemon may have made anew after a sweep.
        """
        self.runner.commands.append((f"bconsole: {command}", 0))
        guard = subprocess.Popen(
            ["sh", "-c", GUARD, "sh", str(self.config), str(where or ""), command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
        assert guard.stdin is not None  # noqa: S101  asked for above
        assert guard.stdout is not None  # noqa: S101
        silence = threading.Timer(ASKING, kill, (guard, signal.SIGKILL))
        silence.start()
        try:
            said = guard.stdout.read().decode("utf-8", "replace")
            silence.cancel()
            yield _queued(said, self.config), said.partition("1000 OK")[2]
            guard.stdin.write(b"done\n")
        finally:
            silence.cancel()
            with contextlib.suppress(BrokenPipeError):
                guard.stdin.close()
            guard.stdout.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                guard.wait(ASKING)
            end(guard)

    def await_end(self, number: int, look: Callable[[], None] | None = None) -> Job:
        """Wait until a job has ended, and return it; raises Found for one that waits for a volume.

        look: called between two looks; what it raises reaches the caller.
        """
        pause, mount_since = POLL[0], None
        ends = time.monotonic() + self.runner.deadline
        while True:
            job = self.job(number)
            if job is not None and job.status in ENDED:
                return job
            state = self._state(number)
            mount_since = (mount_since or time.monotonic()) if MOUNT.search(state) else None
            if mount_since is not None and time.monotonic() - mount_since > PATIENCE:
                raise self._waits_for_a_volume(number, state)
            if time.monotonic() > ends:
                what = f"Bacula's job {number} did not end within {self.runner.deadline:.0f} s: {state}."
                raise Found(Finding("restore", what, advice="Look what it waits for.", weight=Weight.ERROR))
            if look is not None:
                look()
            time.sleep(pause)
            pause = min(pause * 1.5, POLL[1])

    def _state(self, number: int) -> str:
        """Return what the director says a running job does, or nothing."""
        for line in self.ask(".status dir running").splitlines():
            if line.split()[:1] == [str(number)]:
                return line.strip()
        return ""

    def _waits_for_a_volume(self, number: int, state: str) -> Found:
        log = self.log(number)
        lost = next((line for line in log if "No such file" in line), None)
        if lost is None:
            what = f"Bacula's job {number} waits for a volume that nobody mounts: {state}."
            return Found(Finding("restore", what, advice="Bring the volume to the drive.", weight=Weight.ERROR))
        volume = re.search(r'Volume "([^"]+)"', lost)
        name = volume[1] if volume else "of the backup"
        what, advice = f"The volume {name} is not there.", "Look at the disk that holds Bacula's volumes."
        return Found(Finding("repository", what, lost, advice), Finding("missing", what, advice=advice))


def _queued(said: str, config: Path) -> int:
    """Return the number of the job that a director says it queued; raises Found if it queued none."""
    if "1000 OK" not in said:
        raise Found(_unreached("", said, config))
    match = QUEUED.search(said)
    if match is None:
        lines = [line.strip() for line in said.splitlines() if line.strip() and line.strip() != "quit"]
        what = f"The director queued no job: {lines[-1] if lines else 'no answer'}"
        raise Found(Finding("restore", what[:300], advice="Give that command by hand.", weight=Weight.ERROR))
    return int(match[1])


def _unreached(stderr: str, text: str, config: Path) -> Finding:
    said = next((line for line in reversed(f"{text}\n{stderr}".splitlines()) if line.strip()), "no answer").strip()
    if not config.is_file() or not os.access(config, os.R_OK):
        what = f"{config} is not there or may not be read, so Bacula cannot be asked."
        return Finding("repository", what, advice="Name the bconsole.conf of this machine.", weight=Weight.ERROR)
    if re.search("authorization|authentication|password", f"{text}{stderr}", re.IGNORECASE):
        what = "The director does not accept this console's name and password."
        return Finding("key", what, said, "Compare both configurations.", Weight.ERROR)
    what = f"The director cannot be reached: {said[:300]}"
    return Finding("repository", what, advice="Is the director running? Check address and port.", weight=Weight.ERROR)
