"""Runs other people's programs: low priority, own deadline, own process group, no secret on the command line.

A child dies with its parent (setpriv --pdeathsig), so kill -9 of a test leaves no restore running behind it.
"""

import os
import pwd
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from msp.errors import Misconfigured, StepFailed

HEAD = 64 << 10  # bytes of each stream kept for people
#: What programs say whose disk is full; that is never the fault of what they read.
FULL = re.compile(
    rb"no space left on device|disk quota exceeded|errcode: 28\b|errno 28\b|the table '.*' is full", re.IGNORECASE
)
#: Whoever started it may have died before the child asked to die with it: then it has another parent by now.
_NOT_ALONE = '[ "$PPID" = "$0" ] && exec "$@"'
FOREIGN = re.compile(r"^(RESTIC_|BORG_|PG|MYSQL_|MARIADB_)")  # settings of engines that our caller happens to have


class DeadlinePassed(StepFailed):
    """A program ran longer than it may; its process group is gone."""

    code = "deadline"


@dataclass(frozen=True, slots=True)
class Done:
    """How a program ended. `stopped`: we ended it ourselves, because a line of stderr said enough."""

    argv: tuple[str, ...]
    status: int
    stdout: bytes
    stderr: str
    seconds: float
    stopped: bool = False

    @property
    def says(self) -> str:
        """The last line of its complaint, for a sentence."""
        lines = [line.strip() for line in self.stderr.splitlines() if line.strip()]
        return lines[-1][:300] if lines else f"exit status {self.status}"


@dataclass(slots=True)
class Runner:
    """Starts programs for one restore test and remembers what it ran, as evidence."""

    deadline: float = 6 * 3600  # seconds for one program
    niceness: int = 5
    io: str = "best-effort"  # or idle: reads only when nobody else does
    environment: Mapping[str, str] = field(default_factory=dict)
    commands: list[tuple[str, int]] = field(default_factory=list)
    no_room: int = 0  # how many programs found their disk full

    def argv(self, argv: Sequence[str], account: pwd.struct_passwd | None, last_signal: str) -> list[str]:
        """Return the full argument vector: dies with us, yields to others, runs as `account`."""
        if shutil.which(argv[0]) is None:
            raise Misconfigured(f"The program {argv[0]} is not installed here.", advice=f"Install {argv[0]}.")
        prefix = ["setpriv", "--pdeathsig", last_signal]
        if account is not None:
            groups = ["--reuid", str(account.pw_uid), "--regid", str(account.pw_gid), "--clear-groups"]
            prefix += [*groups, "--no-new-privs"]
        if shutil.which("setpriv") is None:  # util-linux; without it only kill -9 would leave a child behind
            prefix = [] if account is None else ["runuser", "-u", account.pw_name, "--"]
        if prefix[:1] == ["setpriv"]:
            prefix += ["sh", "-c", _NOT_ALONE, str(os.getpid())]
        prefix += ["nice", "-n", str(self.niceness)] if self.niceness else []
        if shutil.which("ionice"):
            prefix += ["ionice", "-t", *(["-c", "3"] if self.io == "idle" else ["-c", "2", "-n", "7"])]
        return [*prefix, *argv]

    def start(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        account: pwd.struct_passwd | None = None,
        last_signal: str = "KILL",
        **more: Any,
    ) -> "subprocess.Popen[bytes]":
        """Start a program in a session of its own; the caller ends it with `end`."""
        inherited = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
        values = {**inherited, "LC_ALL": "C.UTF-8", "TZ": "UTC", **self.environment, **(env or {})}
        more.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.Popen(
            self.argv(argv, account, last_signal), env=values, start_new_session=True, close_fds=True, **more
        )

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: IO[bytes] | int | None = None,
        account: pwd.struct_passwd | None = None,
        deadline: float | None = None,
        stop_at: str | None = None,
        watch: Callable[[], None] | None = None,
        noted: bool = True,
    ) -> Done:
        """Run a program to its end and return how it ended; a nonzero status is an answer.

        stop_at: regular expression; the first line of stderr that holds it ends the program.
        noted: False leaves it out of the evidence, where it is housekeeping.
        watch: called twice a second; what it raises ends the program and reaches the caller.
        Raises DeadlinePassed, or Misconfigured if the program is not installed.
        """
        with self.reading(
            argv,
            env=env,
            cwd=cwd,
            stdin=stdin,
            account=account,
            deadline=deadline,
            stop_at=stop_at,
            watch=watch,
            noted=noted,
        ) as reading:
            head = bytearray()
            for chunk in reading.chunks():
                if len(head) < HEAD * 256:  # JSON answers are larger than complaints
                    head += chunk
        return reading.done(bytes(head))

    @contextmanager
    def reading(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: IO[bytes] | int | None = None,
        account: pwd.struct_passwd | None = None,
        deadline: float | None = None,
        stop_at: str | None = None,
        watch: Callable[[], None] | None = None,
        noted: bool = True,
    ) -> "Iterator[Reading]":
        """Like `run`, but the caller reads stdout while the program writes it; ended when the block ends."""
        more: dict[str, Any] = {} if stdin is None else {"stdin": stdin}
        process = self.start(
            argv, env=env, account=account, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more
        )
        reading = Reading(tuple(argv), process, deadline or self.deadline, stop_at, watch)
        try:
            yield reading
            reading.finish()
        finally:
            end(process)
            reading.join()
            self.no_room += reading.no_room
            if noted:
                self.commands.append((" ".join(argv), process.returncode))


class Reading:
    """A program at work: its stdout in chunks, its stderr kept, its deadline watched."""

    def __init__(
        self,
        argv: tuple[str, ...],
        process: "subprocess.Popen[bytes]",
        deadline: float,
        stop_at: str | None,
        watch: Callable[[], None] | None,
    ) -> None:
        self.argv, self.process = argv, process
        self._began, self._deadline = time.monotonic(), deadline
        self._stop_at = re.compile(stop_at) if stop_at else None
        self._watch, self._stderr, self.stopped, self.no_room = watch, bytearray(), False, False
        self._trouble: Exception | None = None
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._listen), threading.Thread(target=self._guard)]
        for thread in self._threads:
            thread.start()

    def _listen(self) -> None:
        assert self.process.stderr is not None  # noqa: S101  asked for above
        for line in self.process.stderr:
            if len(self._stderr) < HEAD:
                self._stderr += line
            self.no_room = self.no_room or FULL.search(line) is not None
            if self._stop_at and not self.stopped and self._stop_at.search(line.decode("utf-8", "replace")):
                self.stopped = True
                kill(self.process)

    def _guard(self) -> None:
        ends = self._began + self._deadline
        while not self._over.wait(min(0.5 if self._watch else 3600, max(0.01, ends - time.monotonic()))):
            if time.monotonic() >= ends:
                self._trouble = DeadlinePassed(
                    f"{self.argv[0]} did not end within {self._deadline:.0f} s.",
                    advice="Give the test more time, or look why it hangs.",
                )
            elif self._watch:
                try:
                    self._watch()
                except (StepFailed, OSError) as trouble:
                    self._trouble = trouble
            if self._trouble:
                kill(self.process)
                return

    def chunks(self, size: int = 1 << 16) -> Iterator[bytes]:
        """Yield stdout as it comes."""
        assert self.process.stdout is not None  # noqa: S101  asked for above
        while chunk := self.process.stdout.read1(size):  # type: ignore[attr-defined]
            yield chunk

    def lines(self) -> Iterator[bytes]:
        """Yield stdout line by line."""
        assert self.process.stdout is not None  # noqa: S101  asked for above
        yield from self.process.stdout

    def finish(self) -> None:
        """Wait for the program's own end; raises what the guard found."""
        self.process.wait()
        self.join()
        if self._trouble:
            raise self._trouble

    def join(self) -> None:
        """Let go of pipes and threads."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe:
                pipe.close()

    def done(self, stdout: bytes = b"") -> Done:
        """Return how it ended."""
        seconds = time.monotonic() - self._began
        text = self._stderr.decode("utf-8", "replace")
        return Done(self.argv, self.process.returncode, stdout, text, seconds, self.stopped)


def kill(process: "subprocess.Popen[bytes]", number: int = signal.SIGKILL) -> None:
    """Signal the whole process group; a group that is gone is fine."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def end(process: "subprocess.Popen[bytes]") -> None:
    """Kill the group, if it is still there, and reap the program."""
    if process.returncode is None:
        if process.poll() is None:
            kill(process)
        process.wait()
