"""Network CLI as a way in: routers and switches, each spoken with by a process of its own (worker.py).

The process belongs to the deadline: when time is up it is killed, and what the device did until then is unknown.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, replace
from datetime import timedelta
from importlib.util import find_spec
from typing import Any

from msp.clock import utc_now
from msp.remote.network import device_lock
from msp.remote.network.platforms import platform
from msp.remote.network.process import Gone, Process
from msp.remote.network.work import NetworkWork
from msp.remote.outcome import Outcome
from msp.remote.output import NOTHING, Collector, shown
from msp.remote.reach import reach
from msp.remote.ssh import SshTransport
from msp.remote.target import Target
from msp.remote.transport import CannotOpen, Configuration, NotAdmitted, Output, Work

CONNECT_TIMEOUT = timedelta(seconds=20)
PROCESSES = 32  # devices spoken with at once; each process takes about 50 MB


class NetworkTransport:
    """A way to devices' command lines. Remembers, for undoing, how each device was before each step of this run."""

    def __init__(self, *, processes: int = PROCESSES) -> None:
        self._places = asyncio.Semaphore(processes)
        self._ssh = SshTransport()
        self.before: dict[tuple[str, str], list[str]] = {}  # (target, step): its configuration then

    async def close(self) -> None:
        """Forget configurations and let go of connections on the way."""
        self.before.clear()
        await self._ssh.close()

    @asynccontextmanager
    async def open(self, target: Target, *, timeout: timedelta = CONNECT_TIMEOUT) -> AsyncIterator["NetworkDevice"]:
        """Log in; see Transport. Waiting for a free process does not count against `timeout`."""
        async with self._places:
            device = NetworkDevice(self, target)
            try:
                await device.log_in(timeout)
                yield device
            finally:
                await device.close()

    async def socket_to(self, target: Target, stack: AsyncExitStack, deadline: float) -> Any:
        """Return a connected socket, or the fields of the Outcome that says why there is none."""
        try:
            return await reach(target, self._ssh, stack, deadline, service="SSH", bare=True)
        except (CannotOpen, NotAdmitted) as error:
            said = error.outcome
            return {"kind": said.kind, "reason": said.reason, "detail": said.detail}


class NetworkDevice:
    """An open device; a Performer. Logs in again by itself after an act was cut off."""

    def __init__(self, transport: NetworkTransport, target: Target) -> None:
        self._transport, self._target = transport, target
        self._platform = platform(target.platform)
        self._stack = AsyncExitStack()  # what holds sockets open on the way
        self._process: Process | None = None
        self._connect_timeout = CONNECT_TIMEOUT

    async def close(self) -> None:
        """Hang up."""
        if self._process is not None:
            await self._process.kill()
            self._process = None
        await self._stack.aclose()

    async def log_in(self, timeout: timedelta) -> None:
        """Start a process and let it log in. Raises CannotOpen or NotAdmitted."""
        if self._platform is None:
            detail = (
                f"{self._target.name} is of platform {self._target.platform}, whose command line is not known here."
            )
            raise NotAdmitted(Outcome("failed", detail=detail), advice="docs/how-to/network.md lists the platforms.")
        if find_spec("netmiko") is None:
            detail = "The part that speaks with network devices is not installed: it needs netmiko."
            raise NotAdmitted(Outcome("failed", detail=detail), advice="Install msp-toolkit[network].")
        self._connect_timeout = timeout
        where, deadline = self._target.where, asyncio.get_running_loop().time() + timeout.total_seconds()
        try:
            async with asyncio.timeout_at(deadline):
                self._process = await Process.start()
                await self._process.order(self._wanted(timeout.total_seconds()))
                said = await self._next(deadline)
        except TimeoutError as error:
            await self.close()
            detail = f"{where} took the connection and then showed no prompt in time."
            raise CannotOpen(Outcome("unreachable", reason="banner", detail=detail)) from error
        except Gone as error:
            await self.close()
            detail = f"The process that spoke with {where} ended by itself before it was logged in."
            raise CannotOpen(Outcome("unreachable", reason="banner", detail=detail)) from error
        except BaseException:
            await self.close()
            raise
        if said["kind"] != "open":
            await self.close()
            outcome = Outcome(said["kind"], reason=said["reason"], detail=said["detail"])
            wrong = CannotOpen if outcome.kind == "unreachable" else NotAdmitted
            raise wrong(outcome, advice=said.get("advice", ""))

    def _wanted(self, seconds: float) -> dict[str, Any]:
        target, credential = self._target, self._target.credential
        text = credential.private_key.value if credential.private_key else ""
        certificate = credential.certificate
        if not text and credential.key_file:
            try:
                text = credential.key_file.read_text()
                beside = credential.key_file.with_name(f"{credential.key_file.name}-cert.pub")
                certificate = beside.read_text() if beside.exists() else ""
            except (OSError, UnicodeDecodeError) as error:
                detail = f"The key file {credential.key_file} for {target.name} cannot be read."
                raise NotAdmitted(Outcome("auth_failed", detail=detail)) from error
        assert self._platform is not None  # noqa: S101  log_in has looked
        return {
            "name": target.name,
            "where": target.where,
            "address": target.address,
            "port": target.port,
            "platform": self._platform.name,
            "user": credential.user or "root",
            "password": credential.password.value if credential.password else "",
            "private_key": text,
            "certificate": certificate,
            "host_keys": list(target.host_keys),
            "seconds": seconds,
        }

    async def _next(self, deadline: float) -> dict[str, Any]:
        """Return the next thing the process says, giving it the sockets that it asks for meanwhile."""
        assert self._process is not None  # noqa: S101  called with one only
        while "want" in (said := await self._process.heard()):
            until = min(deadline, asyncio.get_running_loop().time() + float(said["seconds"]))
            self._process.hand_over(await self._transport.socket_to(self._target, self._stack, until))
        return said

    async def perform(self, work: Work, *, timeout: timedelta) -> Output:
        """Do `work`; see Performer."""
        if not isinstance(work, NetworkWork):
            detail = f"{self._target.name} is reached by network; it has no screen."
            return Output(Outcome("failed", detail=detail))
        deadline = asyncio.get_running_loop().time() + timeout.total_seconds()
        if not work.changes:
            return await self._performed(work, deadline)
        try:
            async with device_lock.held(self._target.address, self._target.port, deadline) as ours:
                if ours:
                    return await self._performed(work, deadline)
        except OSError as error:
            return Output(Outcome("failed", detail=f"Nothing was sent: the device cannot be held for us: {error}."))
        return Output(Outcome("failed", detail="Nothing was sent: another run was changing the device all the time."))

    async def _performed(self, work: NetworkWork, deadline: float) -> Output:
        loop = asyncio.get_running_loop()
        if self._process is None or not self._process.running:
            left = timedelta(seconds=max(deadline - loop.time(), 0.01))
            await self.close()
            try:
                await self.log_in(min(left, self._connect_timeout))
            except (CannotOpen, NotAdmitted) as error:
                return Output(error.outcome)
        out, err, told = Collector("stdout"), Collector("stderr"), _Told()
        try:
            async with asyncio.timeout_at(deadline):
                outcome = await self._followed(work, out, err, told, deadline)
        except TimeoutError:
            await self.close()
            detail = f"{self._target.name} did not finish in time; what was sent may still take effect. {told.armed}"
            outcome = Outcome("timeout", detail=detail.strip())
        except Gone:
            await self.close()
            detail = f"The process that spoke with {self._target.name} ended while it was at work. {told.armed}"
            outcome = Outcome("lost", detail=detail.strip())
        except BaseException:
            await self.close()
            raise
        if outcome.kind == "lost":
            outcome = replace(outcome, detail=f"{outcome.detail} {told.armed}".strip())
            await self.close()
        return Output(outcome, _end(out), _end(err), configuration=told.configuration)

    async def _followed(
        self, work: NetworkWork, out: Collector, err: Collector, told: "_Told", deadline: float
    ) -> Outcome:
        """Give the order and take in what is said until it is done."""
        assert self._process is not None  # noqa: S101  opened above
        place = (self._target.name, work.step)
        await self._process.order(_order(work, self._transport.before.get(place)))
        while True:
            said = await self._next(deadline)
            for name, into in (("out", out), ("err", err)):
                if name in said:
                    into.feed(said[name].encode("utf-8", "surrogateescape"))
            if "before" in said:
                self._transport.before.setdefault(place, said["before"])
            if "armed" in said:
                told.armed = said["armed"]
            if "configuration" in said:
                told.configuration = Configuration(_text(said["configuration"]), utc_now())
            if "done" in said:
                done = said["done"]
                if work.revert and done["kind"] == "ok":
                    self._transport.before.pop(place, None)
                return Outcome(done["kind"], status=done.get("status"), detail=_text(done["detail"]))


class _Told:
    """What the process said by the way."""

    def __init__(self) -> None:
        self.armed = ""  # what the device does by itself
        self.configuration: Configuration | None = None


def _text(said: str) -> str:
    """Return what a device said as text that may be stored and shown: it need not be UTF-8, nor harmless."""
    return shown(said.encode("utf-8", "surrogateescape"))


def _end(collector: Collector) -> Any:
    return collector.captured() if collector.size else NOTHING


def _order(work: NetworkWork, before: list[str] | None) -> dict[str, Any]:
    return {
        "show": list(work.show),
        "config": [asdict(line) for line in work.config],
        "looks": [{**asdict(look), "text": str(look)} for look in work.looks],
        "within": work.within.total_seconds(),
        "deadman": work.deadman.total_seconds() if work.deadman else 0.0,
        "save": work.save,
        "backup": work.backup,
        "revert": work.revert,
        "changes": work.changes,
        "enable": work.enable.value if work.enable else "",
        "before": before if work.revert else None,
    }
