"""Play a playbook in a test: from its text to the report, on any transport, with a ledger that the test can read."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from msp.remote import catalogue, plan
from msp.remote.fake import FakeHost, FakeTransport
from msp.remote.ledger import Ledger, MemoryLedger, StepRecord
from msp.remote.local import LocalTransport
from msp.remote.network.transport import NetworkTransport
from msp.remote.outcome import Outcome
from msp.remote.runner import Report, Runner
from msp.remote.screen.vnc import VncTransport
from msp.remote.ssh import SshTransport
from msp.remote.target import Target
from msp.remote.winrm.transport import WinRmTransport
from msp.vault import Secret


def secret(reference: str) -> Secret:
    """Secrets of tests come from the environment: env:NAME."""
    return Secret(os.environ[reference.removeprefix("env:")])


@dataclass
class Played:
    """What came of it."""

    report: Report
    ledger: Any

    @property
    def outcome(self) -> Outcome:
        """How the one host ended."""
        assert len(self.report.ends) == 1
        return self.report.ends[0].outcome

    def phases(self, host: int = 0) -> list[str]:
        """What was done on a host, in order: `1 probe ok`."""
        return [
            f"{record.key.step} {record.key.phase} {record.outcome}"
            for record in self.ledger.records
            if record.key.host == host
        ]

    def of(self, step: int, phase: str, host: int = 0) -> StepRecord:
        return next(r for r in self.ledger.records if (r.key.host, r.key.step, r.key.phase) == (host, step, phase))


def planned(document: str | Path, parameters: Mapping[str, Any] | None = None, **options: Any) -> plan.Plan:
    """Return the plan of a playbook given as text or as a file."""
    found = catalogue.parse(document) if isinstance(document, str) else catalogue.find(str(document))
    beside = document.parent if isinstance(document, Path) else None
    return plan.build(found, parameters or {}, secret=secret, include=catalogue.includer("", beside), **options)


async def play(
    document: str | Path,
    targets: Sequence[Target] = (Target("here", transport="local"),),
    parameters: Mapping[str, Any] | None = None,
    *,
    ledger: Ledger | None = None,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    fakes: Mapping[str, FakeHost] | None = None,
    step_timeout: timedelta | None = None,
    **options: Any,
) -> Played:
    """Run a playbook and return what came of it."""
    used = ledger if ledger is not None else MemoryLedger()
    transports = {
        "local": LocalTransport(folder, environment),
        "fake": FakeTransport(fakes),
        "ssh": SshTransport(),
        "network": NetworkTransport(),
        "vnc": VncTransport(),
        "winrm": WinRmTransport(),
    }
    runner = Runner(
        planned(document, parameters, step_timeout=step_timeout), targets, used, transports.__getitem__, **options
    )
    return Played(await runner.run(), used)
