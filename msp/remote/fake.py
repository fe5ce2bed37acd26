"""Hosts that are not there: they answer by a table, keep what they were asked, and can misbehave on demand.

For dry demonstrations and for testing playbooks against faults that a real host shows rarely.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from msp.remote.outcome import Outcome, of_exit
from msp.remote.output import Captured, Collector
from msp.remote.target import Target
from msp.remote.transport import CannotOpen, NotAdmitted, Output, Work

FAULTS = ("refuse", "silent", "reject", "change_key", "hang", "drop")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command prints and how it ends."""

    status: int = 0
    stdout: bytes = b""
    stderr: bytes = b""
    signal: str = ""


def captured(data: bytes) -> Captured:
    """Return a stream as if it had come over the wire."""
    collector = Collector()
    collector.feed(data)
    return collector.captured()


@dataclass(slots=True)
class FakeHost:
    """One host. `answers` maps a part of a script to its answer; the first that is found counts.

    fault: one of FAULTS, or empty. `asked` keeps (script, stdin) of every command, in order.
    """

    answers: Mapping[str, Answer] = field(default_factory=dict)
    fault: str = ""
    default: Answer = Answer()
    decide: Callable[[str, bytes], Answer | None] | None = None
    asked: list[tuple[str, bytes]] = field(default_factory=list)

    async def run(
        self, script: str, *, timeout: timedelta, stdin: bytes = b"", idle: timedelta | None = None
    ) -> Output:
        """Answer `script`; see Shell.run."""
        self.asked.append((script, stdin))
        answer = self.decide(script, stdin) if self.decide else None
        if answer is None:
            answer = next((known for part, known in self.answers.items() if part in script), self.default)
        out, err = captured(answer.stdout), captured(answer.stderr)
        if self.fault == "drop":
            detail = "The connection went after the command was sent; what it did is unknown."
            return Output(Outcome("lost", detail=detail), out, err)
        if self.fault == "hang":
            await asyncio.sleep(min(timeout, idle or timeout).total_seconds())
            detail = "The command did not end in time; it was told to stop, and may live on."
            return Output(Outcome("timeout", detail=detail), out, err)
        return Output(of_exit(None if answer.signal else answer.status, answer.signal), out, err)

    async def perform(self, work: Work, *, timeout: timedelta) -> Output:
        """Answer an act that is no script, by what may be shown of it; see Performer."""
        return await self.run(work.text, timeout=timeout)


class FakeTransport:
    """A way into fake hosts by name; a host not named answers every command with status 0."""

    def __init__(self, hosts: Mapping[str, FakeHost] | None = None) -> None:
        self.hosts = dict(hosts or {})

    async def close(self) -> None:
        """Nothing is kept open."""

    @asynccontextmanager
    async def open(self, target: Target, *, timeout: timedelta = timedelta(seconds=20)) -> AsyncIterator[FakeHost]:
        """Open a host as its fault allows; see Transport."""
        host = self.hosts.setdefault(target.name, FakeHost())
        match host.fault:
            case "refuse":
                detail = f"{target.where} refused the connection."
                raise CannotOpen(Outcome("unreachable", reason="refused", detail=detail))
            case "silent":
                await asyncio.sleep(timeout.total_seconds())
                detail = f"{target.where} took the connection and then said nothing."
                raise CannotOpen(Outcome("unreachable", reason="banner", detail=detail))
            case "reject":
                raise NotAdmitted(Outcome("auth_failed", detail=f"{target.where} did not admit us."))
            case "change_key":
                detail = f"The host key of {target.where} is not the pinned one."
                raise NotAdmitted(Outcome("host_key_changed", detail=detail))
        yield host
