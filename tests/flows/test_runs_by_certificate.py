"""Driving runs on items that are entered with certificates of our own, through a bastion, over warm connections."""

from collections.abc import Iterator
from pathlib import Path

import certified
import pytest
import sshd
from sqlalchemy import select
from world import World

from msp.assets import inventory, reach
from msp.assets.models import ConfigurationItem
from msp.evidence import Evidence
from msp.flows import driving
from msp.remote import ca
from msp.remote.models import StepResult
from msp.vault import Vault

pytestmark = [pytest.mark.server, pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing())]
LOOK = """\
name: look
version: "1"
action_class: read
steps:
  - echo $PPID
"""


@pytest.fixture
def server(world: World, tmp_path: Path) -> Iterator[sshd.Sshd]:
    with certified.host(world, tmp_path / "sshd") as running:
        yield running


def enter(world: World, server: sshd.Sshd, name: str, **changes: object) -> None:
    with world.database.begin() as session:
        item = session.get_one(ConfigurationItem, world.asset(name))
        changes = {"port": server.port, "username": server.user, "credential_kind": "ca", "secret_name": None} | changes
        reach.change(session, item, by="test", **changes)
        inventory.pin(session, item, server.host_key, by="test")


def said(world: World, run_id: int) -> str:
    with world.database.read() as session:
        (result,) = session.scalars(select(StepResult).where(StepResult.run_id == run_id, StepResult.phase == "do"))
        return result.stdout_head.decode()


def test_run_is_certified_for_its_one_command_and_named_in_the_host_s_log(world: World, server: sshd.Sshd) -> None:
    enter(world, server, "one")
    run = world.request(world.playbook(LOOK))
    assert world.drive(run.id).state == "succeeded", world.ends(run.id)
    assert f"ID run-{run.id} {run.actor}" in (server.folder / "log").read_text()
    with world.database.read() as session:
        (told,) = [row for row in session.scalars(select(Evidence)) if row.kind == "ca.issued"]
        assert told.data["force_command"] is True
        assert told.actor == run.actor


def test_way_leads_through_a_bastion_that_is_entered_by_certificate_too(world: World, server: sshd.Sshd) -> None:
    enter(world, server, "two")
    enter(world, server, "one", bastion_id=world.asset("two"))
    run = world.request(world.playbook(LOOK))
    assert world.drive(run.id).state == "succeeded", world.ends(run.id)
    with world.database.read() as session:
        assert (
            len(ca.certificates(session, run_id=run.id)) == 2
        )  # one lets connections through, the other runs a command


def test_next_run_finds_the_connection_warm_until_the_pin_changes(
    world: World, server: sshd.Sshd, tmp_path: Path
) -> None:
    with world.database.begin() as session:
        Vault.from_file(world.settings.key_path).put(
            session, "plain-key", server.key_file.read_text(), by="test", client_id=world.planted.clients["alfa"]
        )
    enter(world, server, "one", credential_kind="secret", secret_name="plain-key")
    runs = [world.request(world.playbook(LOOK)) for _ in range(2)]
    assert [world.drive(run.id).state for run in runs] == ["succeeded"] * 2
    assert said(world, runs[0].id) == said(world, runs[1].id)
    with world.database.begin() as session:
        item = session.get_one(ConfigurationItem, world.asset("one"))
        inventory.pin(session, item, sshd.key(tmp_path / "other"), by="test")
    third = world.request(world.playbook(LOOK))
    world.drive(third.id)
    assert world.ends(third.id) == {"one": "host_key_changed"}
    driving.WIRES.close()
