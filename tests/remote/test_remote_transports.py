"""Every transport with a shell passes one suite: local, fake, SSH to our demo hosts, SSH to OpenSSH."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import sshd
from conformance import Place, TransportConformance, elsewhere
from ssh_faults import FaultFleet
from standing import no_secret

from msp.demo.hosts import DemoHosts
from msp.remote.fake import Answer, FakeHost, FakeTransport
from msp.remote.inventory import read_hosts
from msp.remote.local import LocalTransport
from msp.remote.ssh import SshTransport
from msp.remote.target import Credential, Target


class TestLocal(TransportConformance):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        return Place(LocalTransport(tmp_path), Target("here", transport="local"))


def by_a_real_shell(script: str, stdin: bytes) -> Answer:
    """Let a fake host answer with what /bin/sh says, so that it can take the same suite."""
    first, _, _ = script.partition("\n")
    shell = first[2:] if first.startswith("#!") else "/bin/sh"
    quick = script.replace("sleep 30", "true").replace("sleep 8 &", "")
    done = subprocess.run([shell, "-c", quick], input=stdin, capture_output=True, check=False, timeout=60)
    signal = "TERM" if done.returncode == -15 else ""
    return Answer(max(done.returncode, 0), done.stdout, done.stderr, signal)


class TestFake(TransportConformance):
    @pytest.fixture
    def place(self, request: pytest.FixtureRequest) -> Place:
        name = request.node.name
        hang = "hanging" in name or "silence" in name or "cancelling" in name
        faults = {"refuse": "refuse", "mute": "silent", "other": "change_key", "strict": "reject", "shaky": "drop"}
        hosts = {host: FakeHost(fault=fault, default=Answer(stdout=b"fx-1\npartial")) for host, fault in faults.items()}
        hosts["good"] = FakeHost(decide=by_a_real_shell, fault="hang" if hang else "")
        fakes = {host: Target(host, transport="fake") for host in hosts}
        if "cancelling" in name:
            pytest.skip("a fake host has nothing to signal")
        return Place(
            FakeTransport(hosts),
            fakes["good"],
            impostor=fakes["other"],
            stranger=fakes["strict"],
            refusing=fakes["refuse"],
            silent=fakes["mute"],
            dropping=fakes["shaky"],
        )


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Target]]:
    folder = tmp_path_factory.mktemp("faults")
    with FaultFleet(folder, ["refuse", "silent", "drop", "changed_key", "reject"]) as fleet:
        targets = read_hosts(fleet.write_list(folder / "hosts"), secret=no_secret)
        yield {fleet.kind_of[target.name]: target for target in targets}


def ssh_place(target: Target, faults: dict[str, Target]) -> Place:
    return Place(
        SshTransport(),
        target,
        impostor=elsewhere(target, host_keys=faults["drop"].host_keys),
        unknown=elsewhere(target, host_keys=()),
        stranger=elsewhere(target, credential=faults["drop"].credential),
        refusing=faults["refuse"],
        silent=faults["silent"],
        nameless=elsewhere(target, address="no-such-host.invalid"),
        dropping=faults["drop"],
    )


@pytest.fixture(scope="module")
def demo_target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("demo")
    with DemoHosts(folder, ["one"]) as hosts:
        yield read_hosts(hosts.write_list(folder / "hosts"), secret=no_secret)[0]


@pytest.fixture(scope="module")
def openssh_target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with sshd.running(tmp_path_factory.mktemp("sshd")) as server:
        credential = Credential(server.user, key_file=server.key_file)
        yield Target("real", "127.0.0.1", server.port, credential, (server.host_key,))


class TestSshToDemoHosts(TransportConformance):
    @pytest.fixture
    def place(self, demo_target: Target, faults: dict[str, Target]) -> Place:
        return ssh_place(demo_target, faults)


@pytest.mark.server
@pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing())
class TestSshToOpenSsh(TransportConformance):
    @pytest.fixture
    def place(self, openssh_target: Target, faults: dict[str, Target]) -> Place:
        return ssh_place(openssh_target, faults)
