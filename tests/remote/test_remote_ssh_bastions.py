"""Ways through bastions, with real sshds one behind the other, and how lists of hosts name them."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sshd
from standing import no_secret

from msp.clock import utc_now
from msp.errors import Misconfigured
from msp.remote.inventory import read_hosts, read_inventory
from msp.remote.ssh import SshTransport
from msp.remote.target import Credential, Target
from msp.remote.transport import CannotOpen, NotAdmitted

SHORT = timedelta(seconds=10)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Target]]:
    folder = tmp_path_factory.mktemp("chain")
    with (
        sshd.running(folder / "edge") as edge,
        sshd.running(folder / "inner") as inner,
        sshd.running(folder / "closed", options="AllowTcpForwarding no") as closed,
        sshd.running(folder / "host") as host,
    ):
        yield {
            name: Target(
                name, "127.0.0.1", server.port, Credential(server.user, key_file=server.key_file), (server.host_key,)
            )
            for name, server in {"edge": edge, "inner": inner, "closed": closed, "host": host}.items()
        }


async def said(transport: SshTransport, target: Target) -> bytes:
    async with transport.open(target, timeout=SHORT) as shell:
        return (await shell.run("echo there", timeout=SHORT)).stdout


@pytest.mark.parametrize("hops", [["edge"], ["edge", "inner"]])
@pytest.mark.server
@pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing())
async def test_host_is_reached_through_bastions(servers: dict[str, Target], hops: list[str]) -> None:
    transport = SshTransport()
    target = replace(servers["host"], via=tuple(servers[hop] for hop in hops))
    assert await said(transport, target) == b"there\n"
    await transport.close()


@pytest.mark.server
@pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing())
class TestBehindBastion:
    async def test_many_hosts_share_one_connection_to_their_bastion(self, servers: dict[str, Target]) -> None:
        transport = SshTransport(per_door=2)
        target = replace(servers["host"], via=(servers["edge"],))
        assert await asyncio.gather(*(said(transport, target) for _ in range(6))) == [b"there\n"] * 6
        assert len(transport.bastions) == 1
        await transport.close()

    async def test_bastion_that_died_is_entered_anew(self, servers: dict[str, Target]) -> None:
        transport = SshTransport(most_idle=0)
        target = replace(servers["host"], via=(servers["edge"],))
        await said(transport, target)
        (bastion,) = transport.bastions
        bastion.connection.abort()
        assert await said(transport, target) == b"there\n"
        await transport.close()

    async def test_bastion_whose_certificate_ends_soon_is_entered_anew_and_limits_what_is_behind_it(
        self, servers: dict[str, Target]
    ) -> None:
        edge, made = servers["edge"], []

        class Source:
            async def credential(self, user: str, *, forwards: bool) -> Credential:
                made.append(forwards)
                return replace(edge.credential, valid_until=utc_now() + timedelta(seconds=30))

        transport = SshTransport(most_idle=0)
        short = replace(edge, credential=Credential(edge.credential.user, source=Source()))
        target = replace(servers["host"], via=(short,))
        for _ in range(2):
            async with transport.open(target) as shell:
                assert shell.lasts(timedelta(seconds=20))
                assert not shell.lasts(timedelta(seconds=40))
        assert set(made) == {True}
        assert len(transport.bastions) == 2
        await transport.close()

    @pytest.mark.parametrize("fault", ["pin", "credential", "host pin"])
    async def test_every_hop_proves_itself(self, servers: dict[str, Target], fault: str) -> None:
        edge, host = servers["edge"], servers["host"]
        if fault == "pin":
            edge = replace(edge, host_keys=servers["inner"].host_keys)
        elif fault == "credential":
            edge = replace(edge, credential=servers["inner"].credential)
        else:
            host = replace(host, host_keys=servers["inner"].host_keys)
        transport = SshTransport()
        with pytest.raises(NotAdmitted) as caught:
            await said(transport, replace(host, via=(edge,)))
        assert caught.value.outcome.kind == ("auth_failed" if fault == "credential" else "host_key_changed")
        assert ("On the way to host" in caught.value.what) == (fault != "host pin")
        await transport.close()

    async def test_warm_connection_is_not_used_when_the_pin_of_its_bastion_changed(
        self, servers: dict[str, Target]
    ) -> None:
        transport = SshTransport()
        await said(transport, replace(servers["host"], via=(servers["edge"],)))
        changed = replace(servers["edge"], host_keys=servers["inner"].host_keys)
        with pytest.raises(NotAdmitted):
            await said(transport, replace(servers["host"], via=(changed,)))
        await transport.close()

    @pytest.mark.parametrize(
        ("address", "port", "outcome"),
        [("127.0.0.1", 1, "unreachable(refused)"), ("no-such-host.invalid", 22, "unreachable(dns)")],
    )
    async def test_what_the_bastion_cannot_reach_is_told(
        self, servers: dict[str, Target], address: str, port: int, outcome: str
    ) -> None:
        transport = SshTransport()
        target = replace(servers["host"], address=address, port=port, via=(servers["edge"],))
        with pytest.raises(CannotOpen) as caught:
            await said(transport, target)
        assert str(caught.value.outcome) == outcome
        assert "bastion edge" in caught.value.what
        await transport.close()

    async def test_bastion_that_forwards_nothing_is_told(self, servers: dict[str, Target]) -> None:
        transport = SshTransport()
        with pytest.raises(CannotOpen, match="does not forward"):
            await said(transport, replace(servers["host"], via=(servers["closed"],)))
        await transport.close()


def test_list_of_hosts_names_bastions_that_are_not_run_on(tmp_path: Path) -> None:
    (tmp_path / "list").write_text(
        "edge 192.0.2.1 22 jump run=no\ninner 10.0.0.1 22 jump via=edge run=no\nweb 10.0.0.5 22 msp via=inner\n"
    )
    (web,) = read_hosts(tmp_path / "list", secret=no_secret)
    assert [(hop.name, hop.address, hop.credential.user) for hop in web.via] == [
        ("edge", "192.0.2.1", "jump"),
        ("inner", "10.0.0.1", "jump"),
    ]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [("a 10.0.0.1 via=b\nb 10.0.0.2 via=a", "never arrives"), ("a 10.0.0.1 via=user@", "no bastion"),
     ("a 10.0.0.1 run=maybe", "run=maybe")],
)  # fmt: skip
def test_ways_that_lead_nowhere_are_told(tmp_path: Path, line: str, complaint: str) -> None:
    (tmp_path / "list").write_text(line + "\n")
    with pytest.raises(Misconfigured, match=complaint):
        read_hosts(tmp_path / "list", secret=no_secret)


def test_openssh_proxyjump_is_a_bastion(tmp_path: Path) -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5mOBLbpYqKzJqUgVNzxrAZOkeoC3rvGhRVJ8WvXkhD"
    (tmp_path / "known").write_text(f"192.0.2.1 {key}\n")
    (tmp_path / "config").write_text(
        "Host edge\n  HostName 192.0.2.1\n  User jump\nHost web\n  HostName 10.0.0.5\n  User msp\n  ProxyJump edge\n"
        "Host db\n  HostName 10.0.0.6\n  ProxyJump other@198.51.100.7:2200,edge\n"
    )
    hosts = {
        one.name: one for one in read_inventory(tmp_path / "config", secret=no_secret, known_hosts=tmp_path / "known")
    }
    assert [(hop.name, hop.credential.user, bool(hop.host_keys)) for hop in hosts["web"].via] == [
        ("edge", "jump", True)
    ]
    assert [(hop.address, hop.port, hop.credential.user) for hop in hosts["db"].via] == [
        ("198.51.100.7", 2200, "other"),
        ("192.0.2.1", 22, "jump"),
    ]


@pytest.mark.parametrize(
    "arguments", ["-o ProxyJump=jump@192.0.2.1:2222", '-o "ProxyJump jump@192.0.2.1:2222" -C', "-J jump@192.0.2.1:2222"]
)
def test_ansible_arguments_for_ssh_name_a_bastion(tmp_path: Path, arguments: str) -> None:
    (tmp_path / "hosts.ini").write_text(
        f"[web]\nweb1 ansible_host=10.0.0.5\n[web:vars]\nansible_ssh_common_args='{arguments}'\n"
    )
    (web,) = read_inventory(tmp_path / "hosts.ini", secret=no_secret)
    assert [(hop.address, hop.port, hop.credential.user) for hop in web.via] == [("192.0.2.1", 2222, "jump")]
