"""What a playbook step may ask of a machine. Implement `Transport` to add a way in."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable

from msp.errors import Refused, Unreachable
from msp.remote.outcome import Outcome
from msp.remote.output import NOTHING, Captured
from msp.remote.payload import Payload, Tree
from msp.remote.sudo import Become
from msp.remote.target import Target


@dataclass(frozen=True, slots=True)
class Picture:
    """What a screen showed: evidence of a screen step. `png` is at most a few hundred kilobytes."""

    name: str
    png: bytes
    taken_at: datetime


@dataclass(frozen=True, slots=True)
class Configuration:
    """A device's whole running configuration without its secrets, to be kept as a version of the device."""

    text: str
    taken_at: datetime


@dataclass(frozen=True, slots=True)
class Output:
    """How a command ended and what it printed until then; partial output before a fault is kept."""

    outcome: Outcome
    out: Captured = NOTHING
    err: Captured = NOTHING
    pictures: tuple[Picture, ...] = ()
    configuration: Configuration | None = None

    @property
    def status(self) -> int | None:
        """Exit status (RFC 4254, 6.10); None when a signal, a deadline or a lost connection ended it."""
        return self.outcome.status

    @property
    def stdout(self) -> bytes:
        return self.out.data

    @property
    def stderr(self) -> bytes:
        return self.err.data


class CannotOpen(Unreachable):
    """Nothing was sent. `outcome` says why: unreachable(dns, refused, connect, banner) or lost."""

    def __init__(self, outcome: Outcome, *, advice: str = "") -> None:
        super().__init__(outcome.detail or str(outcome), advice=advice)
        self.outcome = outcome


class NotAdmitted(Refused):
    """Nothing was sent and trying again will not help: auth_failed, host_key_changed or host_key_unknown."""

    def __init__(self, outcome: Outcome, *, advice: str = "") -> None:
        super().__init__(outcome.detail or str(outcome), advice=advice)
        self.outcome = outcome


@runtime_checkable
class Shell(Protocol):
    """An open way to run scripts. POSIX sh is assumed unless a script names its interpreter in a #! line."""

    async def run(
        self, script: str, *, timeout: timedelta, stdin: bytes = b"", idle: timedelta | None = None
    ) -> Output:
        """Run `script` and return how it ended; never raises for what the far side does.

        A nonzero status is an answer. Past `timeout`, or after `idle` without output, the command is signalled and
        the outcome is `timeout`: it may live on. Cancelling the awaiting task signals the command too.
        """


@runtime_checkable
class Takes(Protocol):
    """A shell whose scripts can read more than fits into memory."""

    async def run_fed(
        self,
        payload: Payload,
        script: str,
        *,
        timeout: timedelta,
        stdin: bytes = b"",
        idle: timedelta | None = None,
        become: Become | None = None,
    ) -> Output:
        """Run `script`, as `become.user` if given; it reads `stdin` and then the payload."""


@runtime_checkable
class Puts(Protocol):
    """A shell beside which files can be written without any program of the host: SFTP."""

    async def put(self, tree: Tree, folder: str, *, timeout: timedelta) -> Outcome:
        """Write what is below a tree into `folder`, which is there and empty: contents, modes, times, sizes compared.

        It acts as the account that logs in. Nothing is in doubt after it: what did not come whole lies in `folder`.
        """


@runtime_checkable
class Becomes(Protocol):
    """A shell that can also run scripts as another account of its host, by sudo."""

    async def run_as(
        self, become: Become, script: str, *, timeout: timedelta, stdin: bytes = b"", idle: timedelta | None = None
    ) -> Output:
        """Run `script` as `become.user`; as Shell.run, and auth_failed when sudo did not let us."""


@runtime_checkable
class Fading(Protocol):
    """What is open for a limited time, because the certificate that opened it is."""

    def lasts(self, time: timedelta) -> bool:
        """Whether it may be used for that long."""

    def retire(self) -> None:
        """Let it end once it is given back: the next one is opened anew."""


class Work(Protocol):
    """An act that is no script: lines for a router, or acts on a screen. `text` may be stored and shown."""

    @property
    def text(self) -> str: ...


@runtime_checkable
class Performer(Protocol):
    """What opens instead of a shell where there is none: a router's command line, or a screen."""

    async def perform(self, work: Work, *, timeout: timedelta) -> Output:
        """Do `work` and return how it ended; as honest as Shell.run about what is unknown."""


class Transport(Protocol):
    """A way in. One object serves a whole run; connections are per host."""

    def open(self, target: Target, *, timeout: timedelta = ...) -> AbstractAsyncContextManager[Shell | Performer]:
        """Connect within `timeout`, or raise CannotOpen (may be retried) or NotAdmitted (must not be)."""

    async def close(self) -> None:
        """Let go of everything still open."""


_SPEAKS: dict[tuple[type, type], bool] = {}


def speaks(thing: object, protocol: type) -> bool:
    """Whether a thing has what a protocol asks for; looked at once for its class, which costs more than a packet."""
    key = (type(thing), protocol)
    if key not in _SPEAKS:
        _SPEAKS[key] = isinstance(thing, protocol)
    return _SPEAKS[key]
