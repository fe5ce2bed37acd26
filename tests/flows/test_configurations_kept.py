"""A run on a router leaves a version of its configuration with the asset, and evidence of it; secrets stay out."""

import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner
from replay import Replay
from sqlalchemy import select
from world import World

from msp import evidence
from msp.assets import inventory
from msp.assets.models import ConfigurationItem
from msp.console import main
from msp.remote.models import DeviceConfiguration
from msp.remote.network import versions
from msp.vault import Vault

PLANTED = ("planted", "hx5rVt7rPNoS4wqbXKX7m0", "0822455D0A16", "enable-Passw0rd", "login-Passw0rd")


@pytest.fixture
def switch(world: World) -> Iterator[Replay]:
    """Host `one` of the client becomes a recorded switch."""
    with Replay("cisco_ios") as device:
        vault = Vault.from_file(world.settings.key_path)
        with world.database.begin() as session:
            item = session.get_one(ConfigurationItem, world.asset("one"))
            item.transport, item.platform, item.port = "network", "cisco_ios", device.port
            item.username, item.secret_name = device.recording["user"], "switch"
            inventory.pin(session, item, device.host_key, by="test")
            for name, value in (("switch", device.recording["password"]), ("enable", "enable-Passw0rd")):
                vault.put(session, name, value, by="test", client_id=world.alfa)
        yield device


def backup(world: World) -> int:
    run = world.request("ios-config-backup", parameters={"enable": "vault:enable"})
    assert world.drive(run.id).state == "succeeded", world.ends(run.id)
    return run.id


def kept(world: World) -> list[DeviceConfiguration]:
    with world.database.read() as session:
        return versions.of(session, world.asset("one"))


def test_version_is_kept_once_and_a_change_makes_another(world: World, switch: Replay) -> None:
    first = backup(world)
    backup(world)
    (only,) = kept(world)
    assert (only.version, only.run_id) == (1, first)
    assert only.seen_at > only.taken_at
    switch.state = "after"
    third = backup(world)
    new, old = kept(world)
    assert (new.version, new.run_id, old.version) == (2, third, 1)
    told = versions.difference(old, new)
    assert "- description Reception\n+ description Printer, 2nd floor\n" in told
    assert (told.count("\n-"), told.count("\n+ ")) == (1, 1)  # and none that change by themselves
    for secret in PLANTED:
        assert secret not in new.text + old.text, secret


def test_evidence_names_the_configuration_by_its_digest(world: World, switch: Replay) -> None:
    backup(world)
    (version,) = kept(world)
    with world.database.read() as session:
        found = session.scalars(select(evidence.Evidence).where(evidence.Evidence.kind == "run.steps")).all()
        digests = [
            step["configuration"]["sha256"]
            for one in found
            for step in one.data["steps"]
            if "configuration" in step
        ]  # fmt: skip
    assert digests == [version.sha256]


def test_command_line_lists_shows_and_compares(world: World, switch: Replay) -> None:
    def said(*words: str, status: int = 0) -> str:
        done = CliRunner().invoke(main, ["--config", str(world.config), "network", *words])
        assert done.exit_code == status, done.output
        return done.output

    of = ("--client", "alfa", "one")
    assert "msp network list" in said("diff", *of, status=1)
    backup(world)
    switch.state = "after"
    backup(world)
    rows = [json.loads(line) for line in said("list", "--client", "alfa", "--json").splitlines()]
    assert [(row["device"], row["version"]) for row in rows] == [("one", 2), ("one", 1)]
    assert " description Printer, 2nd floor\n" in said("show", *of)
    assert " description Reception\n" in said("show", *of, "--version", "1")
    assert "+ description Printer, 2nd floor\n" in said("diff", *of)
    assert "+ description Reception\n" in said("diff", *of, "2", "1")
    assert "the same" in said("diff", *of, "2", "2")
