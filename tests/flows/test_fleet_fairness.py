"""Three workers share the queue of runs: one client's flood neither exceeds its share nor holds up another client."""

import pytest
from sqlalchemy import func, select
from test_fleet_kills import FleetWorld
from world import ANNA, Copies, settings_of

from msp.assets import inventory
from msp.assets.models import ConfigurationItem
from msp.demo.hosts import DemoHosts
from msp.flows import runs
from msp.remote.models import Run

pytestmark = [pytest.mark.slow, pytest.mark.server]

SHARE, FLOOD = 2, 8
PLAYBOOK = """\
name: marked
version: "1"
action_class: change
parameters: {mark: string}
steps:
  - do: echo "$(date +%s.%N) begin {{ mark }}" >> times; sleep 0.7; echo "$(date +%s.%N) end {{ mark }}" >> times
    check: test -e times
"""


def ask(world: FleetWorld, asset: str, mark: str) -> int:
    with world.database.begin() as session:
        own = world.settings.playbooks
        wanted = {"playbook": "marked", "asset_ids": [world.asset(asset)], "parameters": {"mark": mark}}
        return runs.request_run(session, actor=ANNA, own=own, **wanted).id  # type: ignore[arg-type]


def test_flood_of_one_client_keeps_to_its_share_over_all_workers_and_another_client_need_not_wait(
    postgres_copies: Copies, tmp_path_factory: pytest.TempPathFactory, hosts: DemoHosts
) -> None:
    folder = tmp_path_factory.mktemp("fair")
    url, planted = postgres_copies(folder)
    settings, config = settings_of(folder, url)
    config.write_text(config.read_text() + f"client_concurrency = {SHARE}\n")
    world = FleetWorld(settings, config, planted, hosts)
    for host in hosts.hosts:
        (host.root / "times").unlink(missing_ok=True)
    world.connect()
    with world.database.begin() as session:  # beta's server stands at the second host
        item = session.scalars(select(ConfigurationItem).where(ConfigurationItem.name == "far")).one()
        item.port = hosts["two"].port
        inventory.pin(session, item, hosts["two"].host_key, by="test")
    world.playbook(PLAYBOOK, "marked")
    try:
        for slot in ("worker-01", "worker-02", "worker-03"):
            world.worker(slot)
        flood = [ask(world, "one", f"alfa-{number}") for number in range(FLOOD)]
        late = ask(world, "far", "beta")
        world.wait(lambda: world.ended(late), 60)
        with world.database.read() as session:
            done = session.scalar(select(func.count()).where(Run.id.in_(flood), Run.finished_at.is_not(None)))
        assert done is not None
        assert done < FLOOD - SHARE, "the other client waited for the flood"
        world.wait(lambda: all(world.ended(run_id) for run_id in flood), 90)
        assert {world.run(run_id).state for run_id in (*flood, late)} == {"succeeded"}
    finally:
        world.close()
    at_once = most = 0
    for line in sorted((hosts["one"].root / "times").read_text().splitlines()):
        at_once += 1 if " begin " in line else -1
        most = max(most, at_once)
    assert most == SHARE
