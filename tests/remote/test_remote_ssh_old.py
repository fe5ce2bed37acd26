"""Old algorithms: refused unless the item has leave, spoken with leave, and refused again when the leave is over."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sshd
from sqlalchemy import select

from msp.assets import inventory, reach
from msp.clock import utc_now
from msp.contracts import agreements
from msp.db import Database
from msp.errors import Misconfigured
from msp.evidence import Evidence
from msp.flows.reaching import target_of
from msp.remote.ssh import SshTransport
from msp.remote.target import Credential, Target
from msp.remote.transport import CannotOpen, NotAdmitted
from msp.vault import Vault

OLD = ("ssh-rsa", "diffie-hellman-group1-sha1", "aes128-cbc", "hmac-sha1")
DEVICE = "HostKeyAlgorithms ssh-rsa\nKexAlgorithms diffie-hellman-group1-sha1\nCiphers aes128-cbc\nMACs hmac-sha1"
pytestmark = pytest.mark.filterwarnings("ignore:Diffie-Hellman over finite fields")  # that it is old is the point
SHORT = timedelta(seconds=10)


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    if sshd.missing():
        pytest.skip(sshd.missing())
    with sshd.running(tmp_path_factory.mktemp("old"), options=DEVICE, host_key_type="rsa") as server:
        credential = Credential(server.user, key_file=server.key_file)
        yield Target("switch", "127.0.0.1", server.port, credential, (server.host_key,))


async def said(transport: SshTransport, target: Target) -> bytes:
    async with transport.open(target) as shell:
        return (await shell.run("echo in", timeout=SHORT)).stdout


@pytest.mark.server
async def test_old_device_is_not_spoken_with_by_default(device: Target) -> None:
    with pytest.raises(CannotOpen, match="no way to talk safely"):
        await said(SshTransport(), device)


@pytest.mark.server
async def test_leave_lets_it_in_until_it_is_over_also_over_a_warm_connection(device: Target) -> None:
    transport = SshTransport()
    allowed = replace(device, old_algorithms=OLD, old_algorithms_until=utc_now() + timedelta(hours=1))
    assert await said(transport, allowed) == b"in\n"
    over = replace(allowed, old_algorithms_until=utc_now() - timedelta(seconds=1))
    with pytest.raises(NotAdmitted, match="leave for them ended on") as caught:
        await said(transport, over)
    assert caught.value.outcome.kind == "refused"
    await transport.close()


def test_leave_is_recorded_with_its_reason_and_end_and_reaches_the_run(database: Database, tmp_path: Path) -> None:
    until = utc_now() + timedelta(days=30)
    with database.begin() as session:
        client = agreements.add_client(session, key="alfa", name="Alfa")
        item = inventory.add(session, client_id=client.id, name="sw", kind="network", by="t", address="192.0.2.9")
        reach.allow_old(session, item, ["ssh-rsa"], until, by="anna", reason="replaced in May")
        target = target_of(session, Vault(bytes(32)), item)
        assert (target.old_algorithms, target.old_algorithms_until) == (("ssh-rsa",), until)
        reach.allow_old(session, item, [], None, by="anna", reason="")
        assert target_of(session, Vault(bytes(32)), item).old_algorithms == ()
        told = [row for row in session.scalars(select(Evidence)) if row.kind.startswith("asset.old")]
    assert [row.kind for row in told] == ["asset.old_algorithms_allowed", "asset.old_algorithms_withdrawn"]
    assert told[0].data["reason"] == "replaced in May"


@pytest.mark.parametrize(
    ("algorithms", "days", "reason", "complaint"),
    [(["none"], 5, "x", "no old algorithm"), (["ssh-rsa"], -1, "x", "an end to come"),
     (["ssh-rsa"], 5, " ", "a reason")],
)  # fmt: skip
def test_leave_without_end_or_reason_is_not_given(
    database: Database, algorithms: list[str], days: int, reason: str, complaint: str
) -> None:
    with database.begin() as session:
        client = agreements.add_client(session, key="alfa", name="Alfa")
        item = inventory.add(session, client_id=client.id, name="sw", kind="network", by="t")
        with pytest.raises(Misconfigured, match=complaint):
            reach.allow_old(session, item, algorithms, utc_now() + timedelta(days=days), by="anna", reason=reason)


def test_bastions_of_an_item_lead_to_it_and_never_in_circles(database: Database) -> None:
    with database.begin() as session:
        client = agreements.add_client(session, key="alfa", name="Alfa")
        other = agreements.add_client(session, key="beta", name="Beta")
        edge, inner, web = (
            inventory.add(session, client_id=client.id, name=name, kind="server", by="t", address=name)
            for name in ("edge", "inner", "web")
        )
        foreign = inventory.add(session, client_id=other.id, name="foreign", kind="server", by="t")
        reach.change(session, inner, by="t", bastion_id=edge.id)
        reach.change(session, web, by="t", bastion_id=inner.id)
        assert [hop.name for hop in target_of(session, Vault(bytes(32)), web).way] == ["edge", "inner", "web"]
        with pytest.raises(Misconfigured, match="never arrives"):
            reach.change(session, edge, by="t", bastion_id=web.id)
        edge.bastion_id = None
        with pytest.raises(Misconfigured, match="another client"):
            reach.change(session, web, by="t", bastion_id=foreign.id)
