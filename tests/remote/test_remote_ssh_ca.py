"""Our own certificate authority against a real sshd: who is let in, for what, how long, and who no more."""

import asyncio
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import asyncssh
import playing
import pytest
import sshd
from sqlalchemy import select

from msp import evidence
from msp.clock import utc_now
from msp.db import Database
from msp.errors import Conflict, Misconfigured, NotFound
from msp.remote import ca
from msp.remote.run_certificates import RunCertificates
from msp.remote.ssh import SshTransport
from msp.remote.target import Credential, Target
from msp.remote.transport import NotAdmitted
from msp.remote.words import command_line
from msp.vault import Vault

VAULT = Vault(bytes(32))
SHORT = timedelta(seconds=10)
needs_sshd = pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing())


@pytest.fixture
def authority(database: Database) -> ca.SshAuthority:
    with database.begin() as session:
        row = ca.create(session, VAULT, by="test", source_addresses=["127.0.0.0/8"])
        session.expunge(row)
    return row


@pytest.fixture
def server(authority: ca.SshAuthority, tmp_path: Path) -> Iterator[sshd.Sshd]:
    folder = tmp_path / "sshd"
    folder.mkdir()
    (folder / "ca.pub").write_text(authority.public_key + "\n")
    (folder / "krl").write_bytes(b"")
    options = f"TrustedUserCAKeys {folder}/ca.pub\nRevokedKeys {folder}/krl\nAuthorizedKeysFile none\nLogLevel INFO"
    with sshd.running(folder, options=options) as server:
        yield server


def target_of(server: sshd.Sshd, source: RunCertificates, user: str = "") -> Target:
    credential = Credential(user or server.user, source=source)
    return Target("real", "127.0.0.1", server.port, credential, (server.host_key,))


def issued(database: Database, purpose: ca.Purpose) -> ca.Issued:
    with database.begin() as session:
        return ca.issue(session, VAULT, ca.authority_of(session, 0), purpose)


async def said(target: Target, script: str = "echo in") -> bytes:
    transport = SshTransport()
    async with transport.open(target) as shell:
        output = await shell.run(script, timeout=SHORT)
    await transport.close()
    return output.stdout


async def refused(target: Target) -> str:
    with pytest.raises(NotAdmitted) as caught:
        await said(target)
    return caught.value.outcome.kind


@needs_sshd
@pytest.mark.server
class TestAgainstSshd:
    async def test_run_is_let_in_and_sshd_s_own_log_names_it(self, database: Database, server: sshd.Sshd) -> None:
        source = RunCertificates(VAULT, 0, "anna", 12)
        assert await said(target_of(server, source)) == b"in\n"
        assert "ID run-12 anna (serial 1) CA ED25519" in (server.folder / "log").read_text()

    async def test_certificate_is_for_its_account_only(self, database: Database, server: sshd.Sshd) -> None:
        made = issued(database, ca.Purpose(("somebody-else",), "anna"))
        credential = Credential(server.user, private_key=made.private_key, certificate=made.certificate)
        target = Target("real", "127.0.0.1", server.port, credential, (server.host_key,))
        assert await refused(target) == "auth_failed"

    async def test_one_action_run_can_do_nothing_else(self, database: Database, server: sshd.Sshd) -> None:
        source = RunCertificates(VAULT, 0, "anna", 12, force_command=command_line("echo only this"))
        assert await said(target_of(server, source), "echo something else") == b"only this\n"

    async def test_certificate_works_from_our_networks_only(self, database: Database, server: sshd.Sshd) -> None:
        with database.begin() as session:
            ca.authority_of(session, 0).source_addresses = "192.0.2.0/24"
        assert await refused(target_of(server, RunCertificates(VAULT, 0, "anna", 12))) == "auth_failed"

    @pytest.mark.parametrize("what", ["certificate", "authority"])
    async def test_what_is_taken_back_lets_nobody_in(
        self, database: Database, server: sshd.Sshd, what: str, tmp_path: Path
    ) -> None:
        source = RunCertificates(VAULT, 0, "anna", 12)
        assert await said(target_of(server, source)) == b"in\n"
        with database.begin() as session:
            if what == "certificate":
                assert ca.revoke(session, ca.certificates(session, run_id=12), by="test", reason="lost laptop") == 1
                assert ca.revoke(session, ca.certificates(session, run_id=12), by="test") == 0
            else:
                ca.revoke_authority(session, ca.authority_of(session, 0), by="test")
            (server.folder / "krl").write_bytes(ca.revocation_list(session))
        assert await refused(target_of(server, source)) == "auth_failed"
        fresh = RunCertificates(VAULT, 0, "anna", 13)
        if what == "certificate":  # the next one is as good as ever
            assert await said(target_of(server, fresh)) == b"in\n"
        else:
            assert await refused(target_of(server, fresh)) == "auth_failed"

    @pytest.mark.slow
    async def test_session_ends_with_its_certificate_and_says_so(self, database: Database, server: sshd.Sshd) -> None:
        made = issued(database, ca.Purpose((server.user,), "anna", lifetime=timedelta(seconds=7)))
        credential = Credential(
            server.user, private_key=made.private_key, certificate=made.certificate, valid_until=made.valid_until
        )
        transport = SshTransport()
        target = Target("real", "127.0.0.1", server.port, credential, (server.host_key,))
        async with transport.open(target) as shell:
            output = await shell.run("echo begun; sleep 20", timeout=timedelta(seconds=30))
        assert (output.outcome.kind, output.stdout) == ("lost", b"begun\n")
        assert "certificate's time was over" in output.outcome.detail
        assert len(transport.pool) == 0
        await transport.close()

    @pytest.mark.slow
    async def test_run_longer_than_a_certificate_takes_a_fresh_one_between_steps(
        self, database: Database, server: sshd.Sshd, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ca, "LIFETIME", timedelta(seconds=4))
        monkeypatch.setattr("msp.remote.run_certificates.MARGIN", timedelta(seconds=1))
        source = RunCertificates(VAULT, 0, "anna", 12, longest_step=timedelta(seconds=15))
        document = (
            "name: long\naction_class: read\nlimits: {step: 15s}\nsteps:\n"
            "  - do: echo $PPID\n    register: one\n  - sleep 1.5\n"
            "  - do: echo $PPID\n    register: two\n  - assert: one.stdout != two.stdout\n"
        )
        played = await playing.play(document, [target_of(server, source)])
        assert played.outcome.ok, played.outcome
        with database.read() as session:
            assert len(ca.certificates(session, run_id=12)) >= 2


@pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing())
def test_openssh_reads_the_certificate_and_the_revocation_list(
    database: Database, authority: ca.SshAuthority, tmp_path: Path
) -> None:
    made = [issued(database, ca.Purpose(("root", "msp"), "anna", 7, force_command="exec id")) for _ in range(3)]
    for number, one in enumerate(made):
        (tmp_path / f"{number}-cert.pub").write_text(one.certificate)
    shown = subprocess.run(
        ["ssh-keygen", "-L", "-f", "0-cert.pub"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    for words in ('Key ID: "run-7 anna"', "Serial: 1", "force-command exec id", "source-address 127.0.0.0/8"):
        assert words in shown.stdout
    assert "permit-" not in shown.stdout
    with database.begin() as session:
        ca.revoke(session, ca.certificates(session, serial=2), by="test")
        (tmp_path / "krl").write_bytes(ca.revocation_list(session))
    answers = []
    for number in range(3):
        asked = subprocess.run(
            ["ssh-keygen", "-Q", "-f", "krl", f"{number}-cert.pub"], cwd=tmp_path, capture_output=True, check=False
        )
        answers.append(asked.returncode)
    assert answers == [0, 1, 0]
    listed = subprocess.run(
        ["ssh-keygen", "-Q", "-l", "-f", "krl"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "serial: 2" in listed.stdout


def test_certificate_is_short_and_begins_a_little_earlier(database: Database, authority: ca.SshAuthority) -> None:
    now = utc_now()
    with database.begin() as session:
        made = ca.issue(session, VAULT, ca.authority_of(session, 5), ca.Purpose(("root",), "anna"), now=now)
    certificate = asyncssh.import_certificate(made.certificate)
    data = certificate.public_data  # that it parses is what matters; the times are those that are stored
    assert data
    with database.read() as session:
        (row,) = ca.certificates(session)
        assert now - row.valid_after >= timedelta(seconds=30)
        assert timedelta(minutes=4, seconds=58) <= row.valid_before - now <= timedelta(minutes=5)
        assert "private" not in repr(made).lower() or "***" in repr(made)


def test_client_s_own_authority_comes_first_and_each_is_made_once(
    database: Database, authority: ca.SshAuthority
) -> None:
    with database.begin() as session:
        own = ca.create(session, VAULT, client_id=5, by="test")
        assert ca.authority_of(session, 5).id == own.id
        assert ca.authority_of(session, 6).id == authority.id
        with pytest.raises(Conflict):
            ca.create(session, VAULT, client_id=5, by="test")
        fresh = ca.create(session, VAULT, client_id=5, by="test", replace=True)
        assert ca.authority_of(session, 5).id == fresh.id
        kinds = [record.kind for record in session.scalars(select(evidence.Evidence)) if record.kind.startswith("ca.")]
    assert kinds.count("ca.created") == 3


def test_without_an_authority_the_host_is_not_admitted_and_the_reason_is_told(database: Database) -> None:
    target = Target("x", "127.0.0.1", 1, Credential("root", source=RunCertificates(VAULT, 0, "anna", 1)), ("k",))

    async def enter() -> None:
        async with SshTransport().open(target):
            pass

    with pytest.raises(NotAdmitted, match="no SSH certificate authority"):
        asyncio.run(enter())
    with database.begin() as session, pytest.raises(NotFound):
        ca.authority_of(session, 0)


@pytest.mark.parametrize("network", ["10.0.0.1/8", "everywhere"])
def test_source_address_must_be_a_network(database: Database, network: str) -> None:
    with database.begin() as session, pytest.raises(Misconfigured, match="no network"):
        ca.create(session, VAULT, by="test", source_addresses=[network])
