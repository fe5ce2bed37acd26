"""Workers killed while they drive a fleet: no effect twice, none lost without a word, every doubt listed, the run ends.

Every act appends a line to a file of its host and step on the side of the real SSH servers; those files are the truth.
MSP_TEST_MANY=1: 200 hosts and 20 kills on each database, spread over the whole run, and leases as installed.
"""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sshd
import sshd_fleet
from sqlalchemy import func, select
from world import ANNA, ROOT, Copies, World, settings_of

from msp import evidence
from msp.assets import inventory
from msp.assets.models import ConfigurationItem
from msp.demo.hosts import DemoHosts
from msp.engine import claims
from msp.engine.models import EffectClaim, WorkerLease
from msp.flows import runs
from msp.remote.models import RunHost
from msp.vault import Vault, create_key_file

MANY = os.environ.get("MSP_TEST_MANY") == "1"
HOSTS = 200 if MANY else 32
KILLS = 20 if MANY else 1
STEPS = {1: "probed", 2: "plain", 3: "repeatable", 4: "plain", 5: "plain"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("kills"),
    pytest.mark.timeout(3000 if MANY else 300),
    pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing() or "here"),
]


def playbook(folder: Path) -> str:
    """Return five steps that each leave a line in FOLDER/ADDRESS.STEP."""
    lines = ["name: fleet", 'version: "1"', "action_class: change", "limits: {connect: 60s, step: 120s}", "steps:"]
    for number, kind in STEPS.items():
        file = f"set -- $SSH_CONNECTION; f={folder}/$3.{number}"
        lines += [f"  - name: step {number}", f"    do: '{file}; echo x >> $f'", f"    check: '{file}; test -s $f'"]
        if kind == "probed":
            lines.append(f"    probe: '{file}; ! test -s $f'")
        if kind == "repeatable":
            lines.append("    idempotent: true")
    return "\n".join(lines) + "\n"


@dataclass
class FleetWorld(World):
    """An installation whose client has a fleet of hosts."""

    fleet: sshd_fleet.Fleet | None = None
    assets: tuple[int, ...] = ()

    @property
    def effects(self) -> Path:
        return self.folder / "effects"

    def enrol(self, fleet: sshd_fleet.Fleet) -> None:
        """Record every host of the fleet as an asset of alfa, with its key."""
        self.fleet = fleet
        self.effects.mkdir()
        create_key_file(self.settings.key_path)
        vault, ids = Vault.from_file(self.settings.key_path), []
        with self.database.begin() as session:
            vault.put(session, "fleet-key", fleet.key_file.read_text(), by="test", client_id=self.alfa)
            for host in fleet.hosts:
                item = inventory.add(
                    session, client_id=self.alfa, name=host.name, kind="server", by="test", address=host.address,
                    username=fleet.user, secret_name="fleet-key",
                )  # fmt: skip
                item.port = host.port
                inventory.pin(session, item, host.host_key, by="test")
                ids.append(item.id)
        self.assets = tuple(ids)

    def ask(self) -> int:
        """Ask for the run on every host and return its number."""
        name = self.playbook(playbook(self.effects))
        with self.database.begin() as session:
            own = self.settings.playbooks
            return runs.request_run(session, playbook=name, asset_ids=self.assets, actor=ANNA, own=own).id

    def worker(self, slot: str) -> "subprocess.Popen[bytes]":
        """Start a worker of that slot."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MSP_")}
        command = [sys.executable, "-m", "msp", "--config", str(self.config), "worker"]
        with (self.folder / "worker.log").open("ab") as log:
            worker = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=ROOT, env=environment | {"MSP_WORKER_NAME": slot}
            )
        self.workers.append(worker)
        return worker

    def happened(self) -> Counter[tuple[str, int]]:
        """Return how often each effect happened, by address of the host and number of the step."""
        found: Counter[tuple[str, int]] = Counter()
        for file in self.effects.iterdir():
            address, _, step = file.name.rpartition(".")
            found[address, int(step)] = len(file.read_text().split())
        return found

    def ended(self, run_id: int) -> bool:
        return self.run(run_id).finished_at is not None


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sshd_fleet.Fleet]:
    with sshd_fleet.running(tmp_path_factory.mktemp("fleet"), HOSTS) as running:
        yield running


def installed(folder: Path, copies: Copies, fleet: sshd_fleet.Fleet, hosts: DemoHosts, lease: int = 6) -> FleetWorld:
    folder.mkdir()
    url, planted = copies(folder)
    settings, config = settings_of(folder, url)
    config.write_text(config.read_text().replace("lease_seconds = 6", f"lease_seconds = {lease}"))
    world = FleetWorld(settings, config, planted, hosts)
    world.enrol(fleet)
    return world


def hold(world: FleetWorld, run_id: int) -> int:
    """Check what must hold of a run that has ended after a kill; return how many effects are in doubt."""
    happened = world.happened()
    assert {step for (_, step), times in happened.items() if times > 1} <= {3}, "an effect happened twice"
    assert max(happened.values()) <= 2
    with world.database.read() as session:
        doubts = claims.in_doubt(session, run_id=run_id)
        items = select(RunHost, ConfigurationItem).join(ConfigurationItem, ConfigurationItem.id == RunHost.asset_id)
        rows = [(host, item) for host, item in session.execute(items.where(RunHost.run_id == run_id))]
        open_claims = session.scalar(
            select(func.count()).where(EffectClaim.run_id == run_id, EffectClaim.state == "claimed")
        )
    assert open_claims == 0
    assert len(rows) == HOSTS
    doubtful = {doubt.host_id: doubt.step for doubt in doubts}
    for host, item in rows:
        done = [step for step in STEPS if happened[item.address, step]]
        if host.id in doubtful:  # everything before the doubt happened, nothing after it
            assert host.outcome == "lost"
            assert done in (list(range(1, doubtful[host.id])), list(range(1, doubtful[host.id] + 1)))
        else:
            assert (host.outcome, done) == ("ok", list(STEPS)), "an effect was lost without a word"
    assert world.run(run_id).state == ("in_doubt" if doubts else "succeeded")
    return len(doubts)


def settle(world: FleetWorld, run_id: int) -> None:
    """Let Anna look at the hosts and say of every doubt what happened; the run then goes on."""
    happened = world.happened()
    with world.database.begin() as session:
        query = select(RunHost.id, ConfigurationItem.address).where(RunHost.run_id == run_id)
        joined = query.join(ConfigurationItem, ConfigurationItem.id == RunHost.asset_id)
        address = {row[0]: row[1] or "" for row in session.execute(joined)}
        for doubt in claims.in_doubt(session, run_id=run_id):
            ran = happened[address[doubt.host_id], doubt.step] > 0
            runs.resolve(session, run_id, doubt.host_id, doubt.step, doubt.phase, ran, actor=ANNA)


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.server)])
def test_worker_killed_amid_a_fleet_doubles_and_loses_nothing(
    request: pytest.FixtureRequest, tmp_path: Path, fleet: sshd_fleet.Fleet, hosts: DemoHosts, kind: str
) -> None:
    copies: Copies = request.getfixturevalue(f"{kind}_copies")
    doubts = []
    for kill in range(KILLS):
        world = installed(tmp_path / f"kill-{kill}", copies, fleet, hosts)
        try:
            run_id = world.ask()
            first = world.worker("worker-01")
            wanted = HOSTS * len(STEPS) * (kill + 0.75) / KILLS
            world.wait(lambda world=world, wanted=wanted: sum(world.happened().values()) >= wanted, 240)  # type: ignore[misc]
            first.kill()
            assert first.wait() == -signal.SIGKILL
            assert not world.ended(run_id)
            world.worker("worker-01")
            world.wait(lambda world=world, run_id=run_id: world.ended(run_id), 240)  # type: ignore[misc]
            doubts.append(hold(world, run_id))
            if doubts[-1]:
                settle(world, run_id)
                world.wait(lambda world=world, run_id=run_id: world.ended(run_id), 240)  # type: ignore[misc]
            assert hold(world, run_id) == 0
            with world.database.read() as session:
                assert evidence.verify(session)[1] == []
        finally:
            world.close()
    print(f"{kind}: {KILLS} kills of {HOSTS} hosts x {len(STEPS)} steps, in doubt after each: {doubts}")


def test_another_of_three_workers_takes_over_in_time(
    postgres_copies: Copies, tmp_path: Path, fleet: sshd_fleet.Fleet, hosts: DemoHosts
) -> None:
    """Within 90 s as installed (lease of 60 s); within a lease and a half here, unless MSP_TEST_MANY=1."""
    lease = 60 if MANY else 6
    world = installed(tmp_path / "three", postgres_copies, fleet, hosts, lease)
    try:
        workers = {f"worker-{number:02d}": world.worker(f"worker-{number:02d}") for number in (1, 2, 3)}
        world.wait(lambda: leases(world) == set(workers))
        run_id = world.ask()
        world.wait(lambda: sum(world.happened().values()) >= HOSTS)
        with world.database.read() as session:
            slot = session.scalars(select(EffectClaim.worker).where(EffectClaim.run_id == run_id).distinct()).one()
        before = sum(world.happened().values())
        workers[slot].kill()
        killed = time.monotonic()
        world.wait(lambda: others(world, run_id, slot), 120)
        took = time.monotonic() - killed
        world.wait(lambda: world.ended(run_id), 240)
        doubts = hold(world, run_id)
        print(f"killed after {before} effects, another worker went on after {took:.1f} s, {doubts} in doubt")
        assert took < lease * 1.5
    finally:
        world.close()


def leases(world: World) -> set[str]:
    with world.database.read() as session:
        return set(session.scalars(select(WorkerLease.name)))


def others(world: World, run_id: int, slot: str) -> bool:
    """Whether another worker has claimed effects of the run."""
    with world.database.read() as session:
        query = select(EffectClaim.id).where(EffectClaim.run_id == run_id, EffectClaim.worker != slot)
        return session.scalar(query.limit(1)) is not None
