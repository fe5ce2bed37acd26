"""Acting by sudo over a real sshd, as real accounts: with a password, without one, with a wrong one."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import accounts
import playing
import pytest
import sshd

from msp.errors import Misconfigured
from msp.remote import catalogue
from msp.remote.local import LocalTransport
from msp.remote.ssh import SshTransport
from msp.remote.sudo import Become, Dialogue
from msp.remote.target import Credential, Target
from msp.remote.transport import Becomes
from msp.secret import Secret

needs_accounts = pytest.mark.skipif(bool(accounts.missing()), reason=accounts.missing())
needs_sshd = pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing())
SHORT = timedelta(seconds=20)


@dataclass(frozen=True)
class Place:
    target: Target
    password: Secret


def place_of(server: sshd.Sshd, account: accounts.Account) -> Place:
    password = Secret(account.password)
    credential = Credential(account.name, key_file=server.key_file, become_password=password)
    return Place(Target("real", "127.0.0.1", server.port, credential, (server.host_key,)), password)


@pytest.fixture(scope="module")
def server() -> Iterator[sshd.Sshd]:
    with accounts.open_folder() as folder, sshd.running(folder) as server:
        folder.chmod(0o755)
        yield server


@pytest.fixture(scope="module")
def asked(server: sshd.Sshd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with accounts.account(server.folder, sudo="(ALL) ALL") as account:
        yield place_of(server, account)


@pytest.fixture(scope="module")
def trusted(server: sshd.Sshd) -> Iterator[Place]:
    with accounts.account(server.folder, sudo="(ALL) NOPASSWD: ALL") as account:
        yield place_of(server, account)


@pytest.fixture(scope="module")
def plain(server: sshd.Sshd) -> Iterator[Place]:
    with accounts.account(server.folder) as account:
        yield place_of(server, account)


def fixture_of(request: pytest.FixtureRequest, name: str) -> Place:
    place: Place = request.getfixturevalue(name)
    return place


@needs_accounts
@needs_sshd
@pytest.mark.server
class TestSudo:
    @pytest.mark.parametrize("who", ["asked", "trusted"])
    async def test_command_acts_as_root_and_gets_its_own_input(self, request: pytest.FixtureRequest, who: str) -> None:
        place, transport = fixture_of(request, who), SshTransport()
        async with transport.open(place.target) as shell:
            assert isinstance(shell, Becomes)
            output = await shell.run_as(
                Become("root", place.password), "id -u; cat; echo err >&2; exit 3", timeout=SHORT, stdin=b"a\0b\n"
            )
        assert (output.status, output.stdout, output.stderr) == (3, b"0\na\0b\n", b"err\n")
        await transport.close()

    async def test_another_account_and_an_interpreter_of_its_own(self, asked: Place) -> None:
        transport = SshTransport()
        async with transport.open(asked.target) as shell:
            output = await shell.run_as(
                Become("nobody", asked.password), "#!/bin/bash\n[[ x == x ]] && id -un && kill -TERM $$", timeout=SHORT
            )
        assert output.stdout == b"nobody\n"
        await transport.close()

    async def test_wrong_password_is_told_once_and_nothing_runs(self, asked: Place, tmp_path: Path) -> None:
        transport = SshTransport()
        async with transport.open(asked.target) as shell:
            output = await shell.run_as(
                Become("root", Secret("wrong")), f"touch {tmp_path}/effect", timeout=SHORT, stdin=b"secret input\n" * 3
            )
            assert (await shell.run("echo on", timeout=SHORT)).stdout == b"on\n"
        assert output.outcome.kind == "auth_failed"
        assert "did not take the password" in output.outcome.detail
        assert not (tmp_path / "effect").exists()
        await transport.close()

    async def test_missing_password_and_missing_rule_are_told(self, asked: Place, plain: Place) -> None:
        transport = SshTransport()
        async with transport.open(asked.target) as shell:
            without = await shell.run_as(Become("root"), "id", timeout=SHORT)
        async with transport.open(plain.target) as shell:
            forbidden = await shell.run_as(Become("root", plain.password), "id", timeout=SHORT)
        assert (without.outcome.kind, forbidden.outcome.kind) == ("auth_failed", "auth_failed")
        assert "none is stored" in without.outcome.detail
        assert "did not let us" in forbidden.outcome.detail
        await transport.close()

    async def test_password_stands_on_no_command_line_and_in_no_environment(self, asked: Place) -> None:
        transport = SshTransport()
        script = "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; tr '\\0' ' ' < $p/environ; done 2>/dev/null"
        async with transport.open(asked.target) as shell:
            output = await shell.run_as(Become("root", asked.password), script, timeout=SHORT)
        assert output.out.size > 1000
        assert asked.password.value.encode() not in output.stdout
        assert b"[msp-ask-" in output.stdout  # sudo itself was among them
        await transport.close()

    async def test_playbook_acts_by_sudo_with_secrets_and_files(
        self, asked: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TOKEN", 'tr\'icky "$x"')
        os.chmod(tmp_path, 0o700)  # noqa: PTH101  root's alone
        document = f"""
name: sudo
action_class: change
become: true
parameters: {{token: {{type: secret}}}}
steps:
  - file: {{path: {tmp_path}/kept, content: "{{{{ token }}}}", mode: "600"}}
  - do: "id -un; printf %s {{{{ token }}}} > {tmp_path}/said"
    register: who
    check: test -s {tmp_path}/said
  - do: "id -u"
    become: false
    changes: false
    register: own
  - assert: ["who.stdout == 'root'", "own.stdout != '0'"]
"""
        played = await playing.play(document, [asked.target], {"token": "env:TOKEN"})
        assert played.outcome.ok, played.outcome
        assert (tmp_path / "kept").read_text() == 'tr\'icky "$x"'
        assert (tmp_path / "said").read_text() == 'tr\'icky "$x"'
        assert (tmp_path / "kept").owner() == "root"

    async def test_playbook_ends_truthfully_when_sudo_refuses(self, asked: Place, tmp_path: Path) -> None:
        wrong = replace(asked.target, credential=replace(asked.target.credential, become_password=Secret("wrong pass")))
        document = (
            f"name: s\naction_class: change\nbecome: true\nsteps:\n"
            f"  - {{do: touch {tmp_path}/x, check: test -e {tmp_path}/x, undo: rm {tmp_path}/y}}\n"
        )
        played = await playing.play(document, [wrong])
        assert played.outcome.kind == "auth_failed"
        assert [phase for phase in played.phases() if "undo" in phase] == []  # nothing was done, so nothing is undone
        assert "wrong pass" not in repr(played.ledger.records)

    async def test_this_machine_acts_by_sudo_too(self) -> None:
        async with LocalTransport().open(Target("here", transport="local")) as shell:
            output = await shell.run_as(Become("nobody"), "id -un; cat", timeout=SHORT, stdin=b"in")
        assert output.stdout == b"nobody\nin"


def test_dialogue_survives_every_cut_of_the_stream() -> None:
    def fresh() -> Dialogue:
        return Dialogue(Become("root", Secret("pw")), b"input", mark="m")

    question, begin = b"lecture\n[msp-ask-m]", b"\n[msp-begin-m]own error"
    for cut in range(len(question)):
        for later in range(len(begin)):
            talk, sent, own = fresh(), b"", b""
            for part in (question[:cut], question[cut:], begin[:later], begin[later:]):
                passed, answer, _ = talk.hear(part)
                sent, own = sent + answer, own + passed
            assert (sent, own, talk.began) == (b"pw\ninput", b"own error", True)


def test_account_without_a_question_never_gets_the_password() -> None:
    talk = Dialogue(Become("root", Secret("pw")), b"input", mark="m")
    assert talk.hear(b"[msp-begin-m]") == (b"", b"input", True)


def test_become_where_nothing_acts_by_sudo_is_a_fault_of_the_playbook() -> None:
    document = "name: s\naction_class: read\nsteps:\n  - {assert: 'true', become: true}\n"
    with pytest.raises(Misconfigured, match="does not act by sudo"):
        catalogue.parse(document)
    with pytest.raises(Misconfigured):
        catalogue.parse("name: s\naction_class: read\nbecome: 'root; rm'\nsteps: [echo]\n")


def test_sudo_reads_the_line_that_we_write() -> None:
    """sudo's own parser takes our options: an unknown one would show here before it shows on a host."""
    if not accounts.missing():
        done = subprocess.run([*Dialogue(Become("root")).line(["true"])], capture_output=True, check=False)
        assert done.returncode == 0
