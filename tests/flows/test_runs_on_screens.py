"""A run on a screen, driven by a worker: its pictures are kept, proven, and looked for beside the playbook."""

import hashlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
import vnc
from PIL import Image
from sqlalchemy import select
from world import World

from msp import evidence
from msp.assets.models import ConfigurationItem
from msp.remote.models import RunHost, RunPicture, StepResult
from msp.vault import Vault

pytestmark = [
    pytest.mark.server,
    pytest.mark.slow,
    pytest.mark.skipif(bool(vnc.missing(vnc.READER)), reason=vnc.missing(vnc.READER)),
]
TYPES = """\
name: own
version: "1"
action_class: change
transport: vnc
parameters: {pin: secret}
steps:
  - name: prompt
    screen: [{expect_text: {text: "Enter the number"}}]
  - name: enter
    screen:
      - type: "{{ pin }}"
      - press: Return
      - expect_text: Thank you
"""
CLICKS = """\
name: own
version: "1"
action_class: change
transport: vnc
steps:
  - name: confirm
    screen:
      - click:
          image: button.png
          within: 5s
      - expect_image: {image: button.png, absent: true}
"""
PIN = "8264-Ostrava"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[vnc.Screen]:
    with vnc.tigervnc(tmp_path_factory.mktemp("vnc")) as running:
        yield running


@pytest.fixture
def screen(world: World, server: vnc.Screen) -> Iterator[vnc.Screen]:
    """The asset `two` is a screen."""
    vault = Vault.from_file(world.settings.key_path)
    with world.database.begin() as session:
        vault.put(session, "vnc-password", vnc.PASSWORD, by="test", client_id=world.alfa)
        vault.put(session, "pin", PIN, by="test", client_id=world.alfa)
        item = session.get_one(ConfigurationItem, world.asset("two"))
        item.transport, item.port, item.secret_name = "vnc", server.port, "vnc-password"
    yield server
    server.clear()


def pictures(world: World, run_id: int) -> list[RunPicture]:
    with world.database.read() as session:
        query = select(RunPicture).where(RunPicture.run_id == run_id)
        return list(session.scalars(query.order_by(RunPicture.step, RunPicture.phase, RunPicture.position)))


def test_pictures_are_kept_with_their_digests_in_the_evidence_and_no_secret_in_anything(
    world: World, screen: vnc.Screen
) -> None:
    screen.terminal("printf 'Enter the number: '; read n; echo Thank you; sleep 60")
    run = world.request(world.playbook(TYPES), "two", parameters={"pin": "vault:pin"})
    assert world.drive(run.id).state == "succeeded"
    kept = pictures(world, run.id)
    assert [(one.step, one.name) for one in kept] == [(1, "seen"), (2, "before"), (2, "after")]
    assert all(Image.open(BytesIO(one.png)).size == (800, 600) for one in kept)
    with world.database.read() as session:
        told = [
            shot
            for record in session.scalars(select(evidence.Evidence).where(evidence.Evidence.kind == "run.steps"))
            for step in record.data["steps"]
            for shot in step.get("pictures", ())
        ]
        rendered = list(session.scalars(select(StepResult.rendered).where(StepResult.run_id == run.id)))
    assert [one["sha256"] for one in told] == [hashlib.sha256(one.png).hexdigest() for one in kept]
    assert [one.sha256 for one in kept] == [one["sha256"] for one in told]
    assert "type ***" in rendered[1]
    assert PIN not in "".join(rendered)
    from msp.remote.screen import ocr

    after = Image.open(BytesIO(kept[2].png))
    assert not any(ocr.find(PIN, words) for words in ocr.readings(after, "eng"))


def test_image_is_taken_from_beside_the_playbook_as_long_as_that_is_the_same(world: World, screen: vnc.Screen) -> None:
    name, folder = world.playbook(CLICKS), Path(world.settings.playbooks)
    Image.new("RGB", (40, 20), "red").save(folder / "button.png")  # until the right one is known
    box = screen.message("Carry on?", "-buttons", "Yes", "-geometry", "+0+0")
    vnc.settle(1)
    run = world.request("screen-capture", "two")
    assert world.drive(run.id).state == "succeeded"
    shot = Image.open(BytesIO(pictures(world, run.id)[0].png))
    shot.crop((4, 36, 46, 62)).save(folder / "button.png")
    run = world.request(name, "two")
    world.playbook(CLICKS + "# changed after it was asked for\n")
    assert world.drive(run.id).state == "refused"
    with world.database.read() as session:
        detail = session.scalars(select(RunHost.detail).where(RunHost.run_id == run.id)).one()
    assert detail == "The run is not what the contract was asked for."
    assert box.poll() is None
    run = world.request(world.playbook(CLICKS), "two")
    assert world.drive(run.id).state == "succeeded"
    assert box.wait(10) == 101
    assert [one.name for one in pictures(world, run.id)] == ["before", "after"]
