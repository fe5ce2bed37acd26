"""WinRM passes the suite of every transport, by each way to log in, against a service that runs real processes.

The peer's cmd.exe is /bin/sh (see winrm_peer): real Windows has never been tested.
"""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import winrm_peer
import winrm_realm
from conformance import Place, TransportConformance, elsewhere
from winrm_places import ByCmdTransport, Places

from msp.remote.target import Credential, Target
from msp.secret import Secret


def place_of(peers: Places, target: Target, dropping: Target) -> Place:
    wrong = replace(target.credential, password=Secret("wrong"))
    return Place(
        ByCmdTransport(),
        target,
        impostor=elsewhere(target, host_keys=(peers.other.pin,)) if target.host_keys else None,
        unknown=elsewhere(target, host_keys=()) if target.host_keys else None,
        stranger=elsewhere(target, credential=wrong),
        refusing=elsewhere(target, port=peers.port_of(listening=False)),
        silent=elsewhere(target, port=peers.port_of(listening=True)),
        nameless=elsewhere(target, address="no-such-host.invalid"),
        dropping=dropping,
        ended_by="0xC000013A",
    )


@pytest.mark.slow  # the ways to log in are told apart by the quick tests of faults
class TestNtlmWithSealedMessages(TransportConformance):
    @pytest.fixture
    def place(self, peers: Places) -> Place:
        return place_of(peers, peers.target(), peers.target(fault="drop"))


@pytest.mark.slow
class TestBasicOverTls(TransportConformance):
    @pytest.fixture
    def place(self, peers: Places) -> Place:
        return place_of(peers, peers.target("basic", tls=True), peers.target("basic", "drop", tls=True))


@pytest.fixture(scope="module")
def realm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[winrm_realm.Realm]:
    folder = tmp_path_factory.mktemp("realm")
    running = winrm_realm.running(folder, winrm_peer.USER, winrm_peer.PASSWORD)
    with pytest.MonkeyPatch.context() as patch, running as found:
        for name, value in found.environment.items():
            patch.setenv(name, value)
        yield found


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.skipif(bool(winrm_realm.missing()), reason=winrm_realm.missing())
class TestKerberosWithSealedMessages(TransportConformance):
    @pytest.fixture
    def place(self, peers: Places, realm: winrm_realm.Realm) -> Place:
        credential = Credential(realm.user, password=Secret(winrm_peer.PASSWORD))
        target = elsewhere(peers.target("kerberos"), credential=credential)
        dropping = elsewhere(peers.target("kerberos", "drop"), credential=credential)
        return place_of(peers, target, dropping)
