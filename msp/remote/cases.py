"""Cases by which a playbook is tried: `NAME.test.yml` beside it says hosts, parameters and what must come of it.

A case runs on this machine in a folder of its own, or on a fake host that answers as the case says. Nothing else is
touched by the case itself; what the playbook does on this machine it really does.
"""

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from msp.errors import Misconfigured, MspError
from msp.remote import catalogue, plan
from msp.remote.fake import Answer, FakeHost, FakeTransport
from msp.remote.ledger import MemoryLedger
from msp.remote.local import LocalTransport
from msp.remote.playbook import explained
from msp.remote.playbook_part import Part
from msp.remote.runner import Runner
from msp.remote.target import Target
from msp.remote.yaml_source import Faulty, read
from msp.secret import Secret

FOLDER = "{{ folder }}"
PATIENCE = 60  # seconds for the scripts around a case


class Says(Part):
    """How a fake host answers what holds `when`."""

    when: str = Field(default="", description="A part of what is sent; empty answers everything.")
    status: int = Field(default=0, ge=0, le=255)
    stdout: str = ""
    stderr: str = ""


class Expected(Part):
    """What must come of a case."""

    outcome: str = Field(default="ok", description="Of the host, as in the reference: ok, failed(1), refused.")
    phases: tuple[str, ...] | None = Field(default=None, description="All that was done: `1 probe ok`, in order.")
    output: dict[str, str] = Field(default_factory=dict, description="`1 do`: a text that its output must hold.")
    detail: str = Field(default="", description="A text that the host's end must hold.")
    sent: tuple[str, ...] = Field(default=(), description="Texts that must have been sent to a fake host.")


class Case(Part):
    """One trial of a playbook."""

    name: str = Field(min_length=1)
    on: Literal["local", "fake"] = "local"
    platform: str = Field(default="", description="Default: the first that the playbook is for.")
    parameters: dict[str, Any] = Field(default_factory=dict, description="{{ folder }} is the folder of the case.")
    secrets: dict[str, str] = Field(default_factory=dict, description="Values of the parameters that are secrets.")
    files: dict[str, str] = Field(default_factory=dict, description="Written into the folder before.")
    prepare: str = Field(default="", description="A shell script run in the folder before.")
    answers: tuple[Says, ...] = ()
    fault: Literal["", "refuse", "silent", "reject", "change_key", "hang", "drop"] = ""
    dry_run: bool = False
    continues: bool = Field(default=False, description="In the folder of the case before, as that left it.")
    needs: tuple[str, ...] = Field(default=(), description="Programs, or `root`, without which the case is left out.")
    expect: Expected = Expected()
    afterwards: str = Field(default="", description="A shell script that must succeed in the folder afterwards.")


class Cases(Part):
    """The file."""

    cases: tuple[Case, ...] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of one case. `faults` are sentences; `left_out` says why it was not tried."""

    playbook: str
    case: str
    faults: tuple[str, ...] = ()
    left_out: str = ""

    @property
    def ok(self) -> bool:
        return not self.faults and not self.left_out


def beside(playbook: Path) -> Path:
    """Return where the cases of a playbook are kept."""
    return playbook.with_name(playbook.stem + catalogue.CASES)


def load(text: bytes | str) -> Cases:
    """Return the cases in `text`; raises Faulty with every fault."""
    source = read(text)
    if not isinstance(source.value, dict):
        raise Faulty([source.fault((), "A file of cases is the key `cases` with a list.")])
    try:
        return Cases.model_validate(source.value)
    except ValidationError as error:
        raise Faulty(list(explained(error, source))) from error


def try_all(playbook: Path, own: str = "") -> list[Tried]:
    """Try every case of a playbook in order. Raises Misconfigured if there are none or they have faults."""
    path = beside(playbook)
    try:
        cases = load(path.read_bytes()).cases
    except FileNotFoundError as error:
        raise Misconfigured(f"{playbook.name} has no cases.", advice=f"Write them into {path}.") from error
    except OSError as error:
        raise Misconfigured(f"{path} cannot be read: {error.strerror}.", advice="Check the file's rights.") from error
    except Faulty as error:
        lines = "\n".join(f"{path}:{fault}" for fault in error.faults)
        raise Misconfigured(
            f"The cases have faults:\n{lines}", advice="Correct them; see docs/how-to/playbook.md."
        ) from error
    found = catalogue.find(str(playbook), own)
    tried: list[Tried] = []
    folder: Path | None = None
    try:
        for case in cases:
            if folder is None or not case.continues:
                _forget(folder)
                folder = Path(tempfile.mkdtemp(prefix="msp-case-"))
            tried.append(_Trial(found, case, folder, own).result())
    finally:
        _forget(folder)
    return tried


def _forget(folder: Path | None) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


class _Trial:
    """One case of one playbook in one folder."""

    def __init__(self, found: plan.Found, case: Case, folder: Path, own: str) -> None:
        self._found, self._case, self._folder, self._own = found, case, folder, own
        path = f"{folder / 'bin'}:{os.environ.get('PATH', '/usr/bin:/bin')}"
        self._environment = {"PATH": path, "HOME": str(folder), "FOLDER": str(folder), "LC_ALL": "C.UTF-8"}

    def result(self) -> Tried:
        book, case = self._found.playbook.name, self._case
        missing = [one for one in case.needs if not (os.geteuid() == 0 if one == "root" else shutil.which(one))]
        if missing:
            return Tried(book, case.name, left_out=f"needs {', '.join(missing)}")
        try:
            return Tried(book, case.name, tuple(self._faults()))
        except MspError as error:
            return Tried(book, case.name, (f"{error.what} {error.advice}".strip(),))

    def _faults(self) -> list[str]:
        case = self._case
        for name, content in case.files.items():
            path = (self._folder / name).resolve()
            if not path.is_relative_to(self._folder.resolve()):
                raise Misconfigured(f"The file {name} lies outside the folder of the case.")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
            path.chmod(0o755 if content.startswith("#!") else 0o644)
        if case.prepare and (wrong := self._script(case.prepare)):
            return [f"Before it: {wrong}"]
        ledger, host = MemoryLedger(), self._host()
        runner = self._runner(ledger, host)
        end = asyncio.run(runner.run()).ends[0].outcome
        faults = []
        expect = case.expect
        if str(end) != expect.outcome:
            faults.append(f"It ended as {end}, not {expect.outcome}: {end.detail or 'nothing more is known'}")
        if expect.detail not in end.detail:
            faults.append(f"Its end says {end.detail!r}, which does not hold {expect.detail!r}.")
        phases = [f"{one.key.step} {one.key.phase} {one.outcome}" for one in ledger.records]
        if expect.phases is not None and list(expect.phases) != phases:
            faults.append(f"It did {', '.join(phases) or 'nothing'}; expected was {', '.join(expect.phases)}.")
        for where, text in expect.output.items():
            step, _, phase = where.partition(" ")
            said = self._output(ledger, step, phase or "do")
            if text.replace(FOLDER, str(self._folder)) not in said:
                faults.append(f"The output of {where} does not hold {text!r}: {said[-300:]!r}")
        sent = "\n".join(script for script, _ in host.asked)
        faults += [f"{text!r} was never sent." for text in expect.sent if text not in sent]
        if case.afterwards and (wrong := self._script(case.afterwards)):
            faults.append(f"Afterwards: {wrong}")
        return faults

    def _output(self, ledger: MemoryLedger, step: str, phase: str) -> str:
        found = [one for one in ledger.records if (str(one.key.step), one.key.phase) == (step, phase)]
        return b"".join(one.out.data + one.err.data for one in found[-1:]).decode("utf-8", "backslashreplace")

    def _host(self) -> FakeHost:
        answers = {one.when: Answer(one.status, one.stdout.encode(), one.stderr.encode()) for one in self._case.answers}
        default = answers.pop("", Answer())
        return FakeHost(answers=answers, fault=self._case.fault, default=default)

    def _runner(self, ledger: MemoryLedger, host: FakeHost) -> Runner:
        case, book = self._case, self._found.playbook
        given = {name: self._placed(value) for name, value in case.parameters.items()}
        given |= {name: f"vault:{name}" for name in case.secrets}
        include = catalogue.includer(self._own, self._found.folder)
        ready = plan.build(self._found, given, secret=self._secret, include=include)
        platform = case.platform or next(iter(book.applies_to.platform), "linux")
        kind = next(iter(book.applies_to.ci_type), "server")
        target = Target("here", transport=case.on, platform=platform, kind=kind)
        ways: Mapping[str, Any] = {
            "local": LocalTransport(self._folder, self._environment),
            "fake": FakeTransport({"here": host}),
        }
        return Runner(ready, [target], ledger, ways.__getitem__, dry_run=case.dry_run)

    def _secret(self, reference: str) -> Secret:
        name = reference.partition(":")[2]
        if name not in self._case.secrets:
            raise Misconfigured(f"The case gives no secret {name!r}.", advice="Write it under `secrets`.")
        return Secret(self._case.secrets[name])

    def _placed(self, value: Any) -> Any:
        return value.replace(FOLDER, str(self._folder)) if isinstance(value, str) else value

    def _script(self, script: str) -> str:
        """Run a script of the case; return what went wrong."""
        try:
            done = subprocess.run(
                ["/bin/sh", "-e", "-c", script],
                cwd=self._folder,
                env=self._environment,
                capture_output=True,
                timeout=PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"its script did not end within {timedelta(seconds=PATIENCE)}."
        said = (done.stderr or done.stdout).decode("utf-8", "backslashreplace").strip()
        return "" if done.returncode == 0 else f"its script ended with status {done.returncode}: {said[-300:]}"
