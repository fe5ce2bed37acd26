"""A console of a host that is entered with certificates of our own: sshd gives it a terminal, and logs its name."""

import asyncio
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import certified
import pytest
import sshd
from world import World

from msp.assets import inventory, reach
from msp.assets.models import ConfigurationItem
from msp.clock import utc_now
from msp.flows import console_opening
from msp.people import users
from msp.remote import ca
from msp.remote.consoles import serving
from msp.remote.consoles.models import ConsoleSession

pytestmark = [pytest.mark.server, pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing())]


class Page:
    """A browser that types one line and shows what comes."""

    def __init__(self, line: bytes) -> None:
        self._said: list[Mapping[str, Any] | bytes] = [{"resize": [100, 30]}, line]
        self.shown = b""

    async def send(self, data: bytes) -> None:
        self.shown += data

    async def say(self, message: Mapping[str, Any]) -> None:
        pass

    async def receive(self) -> bytes | Mapping[str, Any] | None:
        if self._said:
            return self._said.pop(0)
        await asyncio.sleep(60)
        return None


@pytest.fixture
def server(world: World, tmp_path: Path) -> Iterator[sshd.Sshd]:
    with certified.host(world, tmp_path / "sshd", "AuthorizedKeysFile none", "ForceCommand /bin/sh") as running:
        yield running


async def test_console_enters_by_a_certificate_that_names_it(world: World, server: sshd.Sshd, tmp_path: Path) -> None:
    now, ticket = utc_now(), world.ticket()
    with world.database.begin() as session:
        item = session.get_one(ConfigurationItem, world.asset("one"))
        reach.change(
            session, item, by="test", port=server.port, username=server.user, credential_kind="ca", secret_name=None
        )
        inventory.pin(session, item, server.host_key, by="test")
        person = users.add(session, email="eva@provider.example", name="Eva", password="correct horse battery",
                           roles=["technician"], by="test")  # fmt: skip
        session.flush()
        console = ConsoleSession(
            client_id=item.client_id, ticket_id=ticket, asset_id=item.id, user_id=person.id, actor=person.email,
            kind="terminal", mode="full", state="open", requested_at=now, opened_at=now, expires_at=now,
            ends_by=now + timedelta(minutes=10),
        )  # fmt: skip
        session.add(console)
        session.flush()
        number = console.id
    opening = await asyncio.to_thread(console_opening.load, world.settings, number)
    page = Page(b"stty -echo; echo size=$(stty size) by=$SSH_CONNECTION; exit 5\n")
    tapes, most = tmp_path / "tapes", 10**7
    served = serving.Console(number, "terminal", "full", "one", now, opening.target, opening.secrets, tapes, most)
    end = await asyncio.wait_for(serving.serve(served, page, lambda: None), 20)
    assert end.detail == "The shell ended with status 5.", page.shown
    assert b"size=30 100" in page.shown
    assert f"ID console-{number} eva@provider.example" in (server.folder / "log").read_text()
    with world.database.read() as session:
        (made,) = ca.certificates(session)
        assert (made.console_id, made.run_id, made.client_id) == (number, None, world.planted.clients["alfa"])
        assert made.valid_before - now > timedelta(minutes=9), "as long as the console may last"
