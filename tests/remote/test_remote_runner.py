"""The runner: one outcome for every host, undo in reverse, slots per host, and no effect twice after a crash."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playing import Played, planned, play

from msp.errors import Misconfigured
from msp.remote.fake import Answer, FakeHost, FakeTransport
from msp.remote.ledger import Key, MemoryLedger
from msp.remote.outcome import Outcome
from msp.remote.runner import Runner
from msp.remote.target import Target
from msp.remote.transport import CannotOpen

HEAD = "name: t\nversion: 1\nsummary: s\naction_class: change\nlimits: {connect: 2s, step: 5s}\n"
THREE = (
    HEAD
    + """
steps:
  - {name: a, do: "echo a >> log", check: grep -q a log, undo: echo -a >> log}
  - {name: b, do: "echo b >> log", check: grep -q b log, undo: echo -b >> log}
  - {name: c, do: "echo c >> log; exit 4", check: "true", undo: echo -c >> log}
"""
)


def fakes(*names: str) -> list[Target]:
    return [Target(name, transport="fake") for name in names]


async def test_failing_run_undoes_in_reverse_with_its_own_evidence(tmp_path: Path) -> None:
    played = await play(THREE, folder=tmp_path)
    assert (tmp_path / "log").read_text().split() == ["a", "b", "c", "-c", "-b", "-a"]
    assert str(played.outcome) == "failed(4)"
    assert played.phases()[-3:] == ["3 undo ok", "2 undo ok", "1 undo ok"]
    assert "Step 1 (a) undone" in played.outcome.detail


@pytest.mark.parametrize(
    ("policy", "log", "outcome"),
    [
        ("stop", "a b", "failed(1)"),
        ("continue", "a b c", "failed(1)"),
        ("undo", "a b -a", "failed(1)"),
        ("visit", "a b -a", "failed(1)"),
    ],
)
async def test_on_failure_decides_what_follows(tmp_path: Path, policy: str, log: str, outcome: str) -> None:
    document = f"""{HEAD}
steps:
  - {{do: "echo a >> log", check: "true", undo: echo -a >> log}}
  - {{do: "echo b >> log; false", check: "true", on_failure: {policy}}}
  - {{do: "echo c >> log", check: "true"}}
"""
    played = await play(document, folder=tmp_path)
    assert (tmp_path / "log").read_text().split() == log.split()
    assert str(played.outcome) == outcome
    assert played.report.ends[0].visit == (policy == "visit")


async def test_done_is_impossible_without_the_check(tmp_path: Path) -> None:
    played = await play(HEAD + "steps: [{do: 'true', check: 'test -e nothing'}]", folder=tmp_path)
    assert str(played.outcome) == "failed(1)"
    assert "its check does not hold" in played.outcome.detail


async def test_probe_that_cannot_tell_is_a_failure_and_not_a_no(tmp_path: Path) -> None:
    played = await play(HEAD + "steps: [{probe: 'exit 127', do: 'touch x', check: 'true'}]", folder=tmp_path)
    assert str(played.outcome) == "failed(127)"
    assert not (tmp_path / "x").exists()


async def test_register_when_loop_notify_and_assert_work_together(tmp_path: Path) -> None:
    document = f"""{HEAD}
parameters: {{names: {{type: string, default: "x, y z"}}}}
steps:
  - {{do: "printf '%s\\n' 'a b' '$(c)'", register: seen, changes: false}}
  - {{loop: names, do: "echo {{{{ item }}}} {{{{ seen.lines }}}} >> log", check: test -s log, notify: tell}}
  - {{when: seen.status == 1, do: touch never, check: "true"}}
  - {{assert: [seen.lines | length == 2, seen.ok]}}
handlers:
  - {{name: tell, do: "echo told >> log", check: "true"}}
  - {{name: idle, do: "echo idle >> log", check: "true"}}
"""
    played = await play(document, folder=tmp_path)
    assert played.outcome.ok, played.phases()
    assert (tmp_path / "log").read_text() == "x a b $(c)\ny a b $(c)\nz a b $(c)\ntold\n"
    assert [record.name for record in played.ledger.records if record.key.step in (2, 3)] == [
        "shell 2 [x]", "shell 2 [x]", "shell 2 [y]", "shell 2 [y]"]  # fmt: skip


async def test_file_step_writes_whole_with_mode_and_comes_back_on_failure(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    document = f"""{HEAD}
parameters: {{who: string}}
steps:
  - {{file: {{path: "{tmp_path}/new file", content: "hello {{{{ who }}}}\\n", mode: "0640"}}}}
  - {{file: {{path: "{tmp_path}/old", content: changed, backup: true}}}}
  - {{file: {{path: "{tmp_path}/dir/sub", state: folder}}}}
  - {{do: "false", check: "true"}}
"""
    played = await play(document, parameters={"who": "$(id) 'q'\n"}, folder=tmp_path)
    assert (tmp_path / "new file").read_text() == "hello $(id) 'q'\n\n"
    assert (tmp_path / "new file").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "old").read_text() == "old"  # put back
    assert played.phases()[:3] == ["1 probe ok", "1 do ok", "1 check ok"]
    again = await play(document, parameters={"who": "$(id) 'q'\n"}, folder=tmp_path)
    assert again.phases()[0] == "1 probe skipped"


async def test_retry_is_for_idempotent_steps_and_stops_at_success(tmp_path: Path) -> None:
    document = f"""{HEAD}
steps:
  - {{do: "echo x >> log; test $(wc -l < log) -ge 3", check: "true", idempotent: true,
      retry: {{attempts: 5, delay: 10ms}}}}
"""
    played = await play(document, folder=tmp_path)
    assert played.phases() == ["1 do failed(1)", "1 do failed(1)", "1 do ok", "1 check ok"]


async def test_dry_run_probes_and_changes_nothing(tmp_path: Path) -> None:
    document = f"""{HEAD}
steps:
  - {{probe: test ! -e x, do: touch x, check: test -e x}}
  - {{probe: test -e x, do: rm x, check: "true"}}
  - {{do: touch y, check: test -e y}}
"""
    played = await play(document, folder=tmp_path, dry_run=True)
    assert played.phases() == ["1 probe ok", "1 do skipped", "2 probe skipped", "3 do skipped"]
    assert played.of(1, "do").rendered == "touch x"
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240


async def test_approval_that_nobody_can_give_refuses(tmp_path: Path) -> None:
    document = HEAD + "steps: [{approve: the client}, {do: touch x, check: 'true'}]"
    played = await play(document, folder=tmp_path)
    assert played.outcome.kind == "refused"
    assert played.report.state == "refused"
    assert not (tmp_path / "x").exists()


async def test_every_host_has_one_end_and_a_hung_one_holds_only_its_slot() -> None:
    kinds = ["", "hang", "refuse", "drop", "reject", "change_key", "silent", "", "", ""]
    hosts = {f"h{n}": FakeHost(fault=kind) for n, kind in enumerate(kinds)}
    document = HEAD.replace("step: 5s", "step: 1s").replace("connect: 2s", "connect: 1s")
    began = time.monotonic()
    played = await play(document + "steps: [{do: 'true', check: 'true'}]", fakes(*hosts), fakes=hosts, parallel=3)
    assert time.monotonic() - began < 1 + 1 + 2
    assert [end.position for end in played.report.ends] == list(range(10))
    assert [end.outcome.kind for end in played.report.ends[:7]] == [
        "ok", "timeout", "unreachable", "lost", "auth_failed", "host_key_changed", "unreachable"]  # fmt: skip
    assert played.report.counts()["ok"] == 4
    assert sum(played.report.counts().values()) == 10
    assert played.report.state == "in_doubt"


async def test_nothing_is_undone_when_the_outcome_is_in_doubt() -> None:
    host = FakeHost(decide=lambda script, stdin: None)
    document = HEAD + "steps: [{do: one, check: 'true', undo: back}, {do: two, check: 'true', undo: back}]"

    class Shaky(FakeHost):
        async def run(self, script: str, **options: object):  # type: ignore[no-untyped-def, override]
            self.fault = "drop" if script == "two" else ""
            return await super().run(script, **options)  # type: ignore[arg-type]

    host = Shaky()
    played = await play(document, fakes("a"), fakes={"a": host})
    assert played.outcome.kind == "lost"
    assert "back" not in [script for script, _ in host.asked]


async def test_max_fail_and_serial_stop_further_hosts_only() -> None:
    hosts = {f"h{n}": FakeHost(default=Answer(status=1 if n < 3 else 0)) for n in range(10)}
    document = HEAD + "steps: [{do: 'x', check: 'true'}]\n"
    played = await play(document + "max_fail: 1\nparallel: 1", fakes(*hosts), fakes=hosts)
    assert played.report.counts() == {"failed": 2, "not_started": 8}
    played = await play(document + "serial: 1", fakes(*hosts), fakes=hosts)
    assert played.report.counts() == {"failed": 1, "not_started": 9}


async def test_cancel_signals_what_runs_and_starts_nothing_more(tmp_path: Path) -> None:
    document = HEAD + "parallel: 1\nsteps: [{do: 'touch a; sleep 30', check: 'true'}]"
    targets = [Target("one", transport="local"), Target("two", transport="local")]
    from msp.remote.local import LocalTransport

    ledger = MemoryLedger()
    runner = Runner(planned(document), targets, ledger, lambda name: LocalTransport(tmp_path))
    task = asyncio.create_task(runner.run())
    while not (tmp_path / "a").exists():  # noqa: ASYNC110  another process makes it
        await asyncio.sleep(0.02)
    runner.cancel("Cancelled by anna.")
    report = await task
    assert [end.outcome.kind for end in report.ends] == ["cancelled", "not_started"]
    assert report.ends[0].outcome.in_doubt
    assert [str(record.outcome) for record in ledger.records] == ["cancelled"]


async def test_time_of_the_run_ends_it() -> None:
    hosts = {"a": FakeHost(fault="hang"), "b": FakeHost()}
    document = HEAD.replace("step: 5s", "step: 60s, run: 500ms") + "parallel: 1\nsteps: [{do: x, check: y}]"
    began = time.monotonic()
    played = await play(document, fakes("a", "b"), fakes=hosts)
    assert time.monotonic() - began < 3
    assert [end.outcome.kind for end in played.report.ends] == ["timeout", "not_started"]


async def test_window_that_shuts_refuses_before_the_next_step() -> None:
    host = FakeHost()
    answers = iter([None, None, "the service window of clause 4.2 has ended"])
    document = HEAD + "steps: [{do: one, check: ok}, {do: two, check: ok}]"
    played = await play(document, fakes("a"), fakes={"a": host}, window=lambda target: next(answers))
    assert played.outcome.kind == "refused"
    assert "clause 4.2" in played.outcome.detail
    assert "two" not in [script for script, _ in host.asked]


class Killed(BaseException):
    """The worker dies here."""


class DyingHost(FakeHost):
    """A host with a counter; our side dies right after the act was sent, before any result is written."""

    async def run(self, script: str, **options: object):  # type: ignore[no-untyped-def, override]
        output = await super().run(script, **options)  # type: ignore[arg-type]
        if script.endswith("act") and not self.fault:
            self.fault = "x"  # only once
            raise Killed
        return output


async def crash_and_resume(document: str, ran: bool, *, resumes: int = 1) -> tuple[Played, list[str]]:
    """Die in the middle of `act`, then take the same run up again. `ran`: what the probe finds afterwards."""
    done: list[str] = []

    def decide(script: str, stdin: bytes) -> Answer | None:
        if script.endswith("act"):
            done.append("act")
        if script == "needed":
            return Answer(status=1 if done and ran else 0)
        return None

    host, ledger, plan = DyingHost(decide=decide), MemoryLedger(), planned(document)
    transport = FakeTransport({"a": host})
    with pytest.raises(Killed):
        await Runner(plan, fakes("a"), ledger, lambda name: transport).run()
    for _ in range(resumes):
        report = await Runner(plan, fakes("a"), ledger, lambda name: transport).run()
    return Played(report, ledger), done


async def test_after_a_crash_a_step_without_probe_stays_unknown_and_is_never_run_again() -> None:
    played, done = await crash_and_resume(HEAD + "steps: [{do: act, check: ok}]", ran=True, resumes=3)
    assert played.outcome.kind == "lost"
    assert played.report.state == "in_doubt"
    assert done == ["act"]


async def test_after_a_crash_the_probe_that_finds_it_done_settles_it() -> None:
    document = HEAD + "steps: [{probe: needed, do: act, check: ok, undo: back}]"
    played, done = await crash_and_resume(document, ran=True)
    assert played.outcome.ok
    assert done == ["act"]
    assert Key(0, 1, "do") in played.ledger.finished


async def test_after_a_crash_the_probe_that_finds_it_needed_lets_it_run() -> None:
    played, done = await crash_and_resume(HEAD + "steps: [{probe: needed, do: act, check: ok}]", ran=False)
    assert played.outcome.ok
    assert done == ["act", "act"]


async def test_after_a_crash_an_idempotent_step_runs_again() -> None:
    played, done = await crash_and_resume(HEAD + "steps: [{do: act, check: ok, idempotent: true}]", ran=False)
    assert played.outcome.ok
    assert done == ["act", "act"]


async def test_finished_steps_are_not_done_again_and_registered_values_survive() -> None:
    document = (
        HEAD
        + """
steps:
  - {do: first, check: ok, register: seen}
  - {probe: needed, do: act, check: ok}
  - {do: "last {{ seen.stdout }}", check: ok}
"""
    )
    asked: list[str] = []

    def decide(script: str, stdin: bytes) -> Answer | None:
        asked.append(script)
        return Answer(stdout=b"from before\n") if script == "first" else None

    host, ledger, plan = DyingHost(decide=decide), MemoryLedger(), planned(document)
    transport = FakeTransport({"a": host})
    with pytest.raises(Killed):
        await Runner(plan, fakes("a"), ledger, lambda name: transport).run()
    asked.clear()
    report = await Runner(plan, fakes("a"), ledger, lambda name: transport).run()
    assert report.state == "succeeded"
    assert "first" not in asked
    assert any("from before" in script for script in asked)


async def test_stopping_worker_leaves_hosts_between_steps_and_another_takes_them_up() -> None:
    document = HEAD + "steps: [{do: one, check: ok}, {do: two, check: ok}]"
    host, ledger, plan = FakeHost(), MemoryLedger(), planned(document)
    transport = FakeTransport({"a": host})
    stopping = lambda: any(script == "one" for script, _ in host.asked)  # noqa: E731
    report = await Runner(plan, fakes("a"), ledger, lambda name: transport, should_stop=stopping).run()
    assert (report.ends, report.interrupted, report.state) == ((), (0,), "running")
    report = await Runner(plan, fakes("a"), ledger, lambda name: transport).run()
    assert report.state == "succeeded"
    assert [script for script, _ in host.asked].count("one") == 1


SECRET = "S3cr3t/ünder's $(x) key+=="


async def test_planted_secret_appears_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED", SECRET)
    document = f"""{HEAD}
parameters: {{token: secret, plain: {{type: string, default: p}}}}
steps:
  - {{do: 'printf %s {{{{ token }}}} > kept; printf %s {{{{ token }}}} | base64 -w0; echo; echo {{{{ token }}}} >&2',
      check: test -s kept, register: seen}}
  - {{do: "echo {{{{ seen.stdout }}}} {{{{ seen.stderr }}}}", check: "true"}}
  - {{file: {{path: "{tmp_path}/file", content: "{{{{ token }}}}"}}}}
  - {{do: "echo {{{{ token }}}}; false", check: "true"}}
"""
    played = await play(document, parameters={"token": "env:PLANTED"}, folder=tmp_path)
    assert (tmp_path / "kept").read_text() == SECRET
    assert (tmp_path / "file").read_text() == SECRET
    stored = repr(played.ledger.records) + repr(played.report) + repr(planned(document, {"token": "env:PLANTED"}))
    raw = SECRET.encode()
    for form in (SECRET, quote(SECRET, safe=""), base64.b64encode(raw).decode(), raw.hex(), repr(raw)[2:-1]):
        assert form not in stored
    assert "***" in stored


async def test_secret_given_by_value_is_refused() -> None:
    document = HEAD + "parameters: {token: secret}\nsteps: [{do: 'echo {{ token }}', check: 'true'}]"
    with pytest.raises(Misconfigured, match="by reference"):
        planned(document, {"token": "hunter2"})


async def test_include_hands_parameters_on_and_keeps_one_list_of_steps(tmp_path: Path) -> None:
    inner = HEAD.replace("name: t", "name: inner") + (
        "parameters: {what: string}\nsteps: [{do: 'echo {{ what }} >> log', check: test -s log}]"
    )
    (tmp_path / "inner.yml").write_text(inner)
    (tmp_path / "outer.yml").write_text(
        HEAD + "parameters: {x: {type: string, default: a b}}\n"
        "steps: [{include: {playbook: inner, parameters: {what: '{{ x }}!'}}}, {include: {playbook: inner,"
        " parameters: {what: z}}, when: x == 'no'}]"
    )
    played = await play(tmp_path / "outer.yml", folder=tmp_path)
    assert played.outcome.ok, played.phases()
    assert (tmp_path / "log").read_text() == "a b!\n"
    assert played.phases()[-1] == "2 probe skipped"


async def test_kinds_that_need_another_way_in_say_so() -> None:
    played = await play(HEAD + "steps: [{powershell: Get-Date, changes: false}]", fakes("a"))
    assert "are for Windows, and a is a linux host" in played.outcome.detail


async def test_step_timeout_covers_probe_act_and_check(tmp_path: Path) -> None:
    document = HEAD.replace("step: 5s", "step: 1s") + "steps: [{probe: sleep 0.6, do: sleep 0.6, check: sleep 0.6}]"
    began = time.monotonic()
    played = await play(document, folder=tmp_path)
    assert played.outcome.kind == "timeout"
    assert time.monotonic() - began < 2.5
    assert played.of(1, "do").finished_at - played.of(1, "probe").started_at < timedelta(seconds=1.6)


class Leaving(FakeHost):
    """A host to which every step connects anew."""

    def lasts(self, time: timedelta) -> bool:
        return False

    def retire(self) -> None:
        """Nothing to end."""


class Patchy(FakeTransport):
    """A way in that fails to open on some of the times it is asked to."""

    def __init__(self, hosts: dict[str, FakeHost], shut: set[int]) -> None:
        super().__init__(hosts)
        self.shut, self.times = shut, 0

    @asynccontextmanager
    async def open(self, target: Target, **options: Any) -> AsyncIterator[FakeHost]:
        self.times += 1
        if self.times in self.shut:
            raise CannotOpen(Outcome("unreachable", reason="connect", detail="It went away."))
        async with super().open(target, **options) as opened:
            yield opened


UNDOES = f"""{HEAD}
steps:
  - {{do: do-one, check: check-one, undo: undo-one}}
  - {{do: do-two, check: check-two}}
"""


async def test_host_whose_steps_were_undone_never_goes_forward_again() -> None:
    host, ledger, plan = Leaving(), MemoryLedger(), planned(UNDOES)
    transport = Patchy({"a": host}, {3})  # when the run begins, for the first step, for the second, for the undoing
    first = await Runner(plan, fakes("a"), ledger, lambda name: transport).run()
    assert first.ends[0].outcome.kind == "unreachable"
    assert [script for script, _ in host.asked] == ["do-one", "check-one", "undo-one"]
    again = await Runner(plan, fakes("a"), ledger, lambda name: transport).run()
    assert again.ends[0].outcome.kind == "unreachable"
    assert "It went away" in again.ends[0].outcome.detail
    assert [script for script, _ in host.asked] == ["do-one", "check-one", "undo-one"]


async def test_undoing_that_was_cut_short_goes_on_and_looks_at_no_check_again() -> None:
    document = UNDOES.replace("check-two}", "check-two, undo: undo-two}").replace("undo-one", "undo-one act")
    host, ledger, plan = DyingHost(answers={"check-two": Answer(status=1)}), MemoryLedger(), planned(document)
    transport = FakeTransport({"a": host})
    with pytest.raises(Killed):
        await Runner(plan, fakes("a"), ledger, lambda name: transport).run()
    host.answers = {}
    host.asked.clear()
    report = await Runner(plan, fakes("a"), ledger, lambda name: transport).run()
    assert "its check does not hold" in report.ends[0].outcome.detail
    assert [script for script, _ in host.asked] == []  # the last undo is in doubt, the other was done
    assert "could not be undone (lost)" in report.ends[0].outcome.detail


async def test_host_that_was_undone_for_a_reason_nobody_wrote_down_is_in_doubt() -> None:
    host, ledger, plan = Leaving(), MemoryLedger(), planned(UNDOES)
    transport = Patchy({"a": host}, {3})
    await Runner(plan, fakes("a"), ledger, lambda name: transport).run()
    ledger.records = [record for record in ledger.records if record.key.phase != "connect"]
    report = await Runner(plan, fakes("a"), ledger, lambda name: transport).run()
    assert report.ends[0].outcome.kind == "lost"
    assert len(host.asked) == 3
