"""A small provider for tests of the closed loop: two clients, their contracts, assets, people, and hosts that run.

Everything is stored through the rooms' own functions, once for each kind of database; a test works on a copy.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from sqlalchemy import select, update

from msp import db
from msp.assets import inventory
from msp.assets.models import ConfigurationItem
from msp.clock import utc_now
from msp.contracts import agreements
from msp.contracts.models import ContractVersion, Site
from msp.demo.hosts import DemoHost, DemoHosts
from msp.desk import tickets
from msp.desk.models import Ticket, TicketEvent
from msp.flows import driving, install, runs
from msp.people.access import Actor
from msp.remote.models import Run, RunHost, StepResult
from msp.settings import Settings
from msp.vault import Vault, create_key_file

ROOT = Path(__file__).resolve().parents[2]
ANNA = Actor("anna@provider.example", frozenset({"technician"}))
MAX = Actor("max@provider.example", frozenset({"account manager"}))
ALWAYS = {day: [["00:00", "24:00"]] for day in ("mon", "tue", "wed", "thu", "fri", "sat", "sun")}
TARGETS = {f"P{n}": {"first_response": 30, "next_reply": 60, "resolution": 240 * n} for n in (1, 2, 3)}


def terms(**changes: Any) -> dict[str, Any]:
    """Round the clock; changes allowed, work on servers asks the client, on databases it is refused."""
    return {
        "currency": "EUR",
        "zone": "UTC",
        "calendars": {"always": {"tz": "UTC", "week": ALWAYS}},
        "lines": [
            {"id": "1", "kind": "t_and_m", "name": "Servers", "rate": "60.00", "increment": 1, "calendar": "always",
             "targets": TARGETS, "latest_dispatch": {"calendar": "always", "travel_min": 30, "repair_min": 60}}
        ],
        "clauses": [
            {"id": "1.1", "text": "Readings at any time.", "effect": "allow", "action_classes": ["read"]},
            {"id": "1.2", "text": "Changes at any time.", "effect": "allow", "action_classes": ["change"]},
            {"id": "1.3", "text": "Databases are left alone.", "effect": "refuse", "action_classes": ["disruptive"],
             "asset_classes": ["database"]},
            {"id": "1.4", "text": "Restarts after the client agrees.", "effect": "ask",
             "action_classes": ["disruptive"], "expires_s": 3600},
            {"id": "1.5", "text": "Rights after our own word.", "effect": "ask", "action_classes": ["access"],
             "approver": "provider"},
        ],
        "restore": {"proof_every_s": 604800, "rpo_s": 86400, "rto_s": 14400},
    } | changes  # fmt: skip


@dataclass(frozen=True)
class Planted:
    """What every copy holds, by number."""

    clients: dict[str, int]
    assets: dict[str, int]


#: Gives the URL of a copy in a folder, and what stands in it.
Copies = Callable[[Path], tuple[str, Planted]]

#: asset -> (client, kind)
ASSETS = {
    "one": ("alfa", "server"),
    "two": ("alfa", "server"),
    "data": ("alfa", "database"),
    "far": ("beta", "server"),
}


def plant(settings: Settings) -> Planted:
    """Store the provider in an empty database."""
    install.prepare(settings)
    now = utc_now()
    clients: dict[str, int] = {}
    assets: dict[str, int] = {}
    with db.begin() as session:
        for key in ("alfa", "beta"):
            client = agreements.add_client(session, key=key, name=key.capitalize())
            clients[key] = client.id
            site = Site(client_id=client.id, name=f"{key} yard", address="Yard 1", latitude=52.5, longitude=13.4)
            session.add(site)
            session.flush()
            contract = agreements.add_contract(
                session, client, reference=f"C-{key}", kind="t_and_m", currency="EUR",
                starts_on=(now - timedelta(days=30)).date(), ends_on=(now + timedelta(days=300)).date(),
            )  # fmt: skip
            agreements.add_version(session, contract, terms(), now - timedelta(days=30), "test")
            for name, (owner, kind) in ASSETS.items():
                if owner == key:
                    item = inventory.add(
                        session, client_id=client.id, name=name, kind=kind, by="test", site_id=site.id,
                        address="127.0.0.1", username="demo", secret_name="ssh-key",
                    )  # fmt: skip
                    assets[name] = item.id
    db.current().dispose()
    return Planted(clients, assets)


@dataclass
class World:
    """One installation of a test, with its hosts."""

    settings: Settings
    config: Path
    planted: Planted
    hosts: DemoHosts
    workers: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.config.parent

    @property
    def database(self) -> db.Database:
        return db.use(self.settings.database_url)

    @property
    def alfa(self) -> int:
        return self.planted.clients["alfa"]

    @property
    def olga(self) -> Actor:
        """Alfa's person who approves."""
        return Actor("olga@alfa.example", frozenset({"client user", "client approver"}), client_id=self.alfa)

    def asset(self, name: str) -> int:
        return self.planted.assets[name]

    def host(self, name: str = "one") -> DemoHost:
        return self.hosts[name]

    def connect(self) -> None:
        """Write where the hosts listen into the assets, and their key into the vault."""
        if not self.settings.key_path.exists():
            create_key_file(self.settings.key_path)
        vault = Vault.from_file(self.settings.key_path)
        with self.database.begin() as session:
            for host in self.hosts.hosts:
                item = session.scalars(select(ConfigurationItem).where(ConfigurationItem.name == host.name)).one()
                item.port = host.port
                inventory.pin(session, item, host.host_key, by="test")
            for client_id in self.planted.clients.values():
                vault.put(session, "ssh-key", self.hosts.key_file.read_text(), by="test", client_id=client_id)

    def playbook(self, text: str, name: str = "own") -> str:
        """Write a playbook of our own and return its name."""
        folder = Path(self.settings.playbooks)
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.yml").write_text(text)
        return name

    def ticket(self, **given: Any) -> int:
        """Open a ticket of alfa and return its number."""
        opening = tickets.Opening(
            **{"client_id": self.alfa, "subject": "Something is wrong", "channel": "email", **given}
        )
        with self.database.begin() as session:
            return tickets.open_ticket(session, opening, by="mail").id

    def request(self, playbook: str, *assets: str, actor: Actor = ANNA, **given: Any) -> Run:
        """Ask for a run on assets by name (default: one)."""
        with self.database.begin() as session:
            return runs.request_run(
                session,
                playbook=playbook,
                asset_ids=[self.asset(name) for name in assets or ("one",)],
                actor=actor,
                own=self.settings.playbooks,
                **given,
            )

    def drive(self, run_id: int) -> Run:
        """Drive a run in this process, as a worker would, and return how it ended."""
        driving.drive(self.settings, run_id, 0)
        return self.run(run_id)

    def run(self, run_id: int) -> Run:
        with self.database.read() as session:
            return session.get_one(Run, run_id)

    def run_host(self, run_id: int, position: int = 0) -> RunHost:
        with self.database.read() as session:
            found = select(RunHost).where(RunHost.run_id == run_id, RunHost.position == position)
            return session.scalars(found).one()

    def ends(self, run_id: int) -> dict[str, str | None]:
        """Return the outcome of each host of a run."""
        with self.database.read() as session:
            rows = session.execute(
                select(RunHost.name, RunHost.outcome).where(RunHost.run_id == run_id).order_by(RunHost.position)
            )
            return {row[0]: row[1] for row in rows}

    def phases(self, run_id: int) -> list[str]:
        """Return what was done, in order: `1 probe ok`."""
        with self.database.read() as session:
            query = select(StepResult).where(StepResult.run_id == run_id)
            done = session.scalars(query.order_by(StepResult.run_host_id, StepResult.step, StepResult.id))
            return [f"{row.step} {row.phase} {row.outcome}" for row in done]

    def of_run(self, kind: type[Any], run_id: int) -> list[Any]:
        """Return the stored things of a kind that belong to a run."""
        with self.database.read() as session:
            return list(session.scalars(select(kind).where(kind.run_id == run_id)))

    def log(self, ticket_id: int) -> list[TicketEvent]:
        with self.database.read() as session:
            return tickets.log_of(session, ticket_id)

    def stored_ticket(self, ticket_id: int | None) -> Ticket:
        with self.database.read() as session:
            return session.get_one(Ticket, ticket_id)

    def change_terms(self, **changes: Any) -> None:
        """Let alfa's contract say something else at once, as a window does that closes."""
        with self.database.begin() as session:
            contract = agreements.contract_by_reference(session, "C-alfa")
            of_alfa = ContractVersion.contract_id == contract.id  # past the guard: a version never changes
            session.execute(update(ContractVersion).where(of_alfa).values(terms=terms(**changes)))

    def point(self, asset: str, port: int) -> None:
        """Let an asset be reached at another port of this machine."""
        with self.database.begin() as session:
            session.get_one(ConfigurationItem, self.asset(asset)).port = port

    def start_worker(self, *, crash_at: str = "") -> "subprocess.Popen[bytes]":
        """Start a worker process; it kills itself at `crash_at` (name[:n])."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MSP_")}
        if crash_at:
            environment["MSP_TEST_CRASH_AT"] = crash_at
        command = [sys.executable, "-m", "msp", "--config", str(self.config), "worker"]
        with (self.folder / "worker.log").open("ab") as log:
            worker = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=ROOT)
        self.workers.append(worker)
        return worker

    def killed(self, worker: "subprocess.Popen[bytes]") -> None:
        """Wait until a worker has killed itself; fails if it ended otherwise or never came to its point."""
        assert worker.wait(60) == -signal.SIGKILL, self.worker_log()

    def worker_log(self) -> str:
        return (self.folder / "worker.log").read_text()

    def wait(self, done: Callable[[], Any], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, f"it did not happen in time\n{self.worker_log()[-3000:]}"
            time.sleep(0.05)

    def close(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait()
        self.database.dispose()


def settings_of(folder: Path, database: str) -> tuple[Settings, Path]:
    """Return settings in a file of their own."""
    config = folder / "msp.toml"
    values = {"data": str(folder), "database": database, "playbooks": str(folder / "playbooks"), "lease_seconds": 6,
              "standby": False}  # fmt: skip
    config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()))
    return Settings(**{**values, "data": folder}), config  # type: ignore[arg-type]


class Doorbell:
    """A port on loopback that counts who rings, says nothing and hangs up."""

    def __init__(self) -> None:
        self.rung = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._answer, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)

    def _answer(self) -> None:
        while True:
            try:
                caller, _ = self._socket.accept()
            except OSError:
                return
            self.rung += 1
            caller.close()


def ago(**span: float) -> datetime:
    return datetime.now(UTC) - timedelta(**span)
