"""An installation whose contract covers a fleet: client, contract, a ticket, and every host an asset with its key."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from msp import db
from msp.assets import inventory
from msp.clock import utc_now
from msp.contracts import agreements
from msp.contracts.models import Site
from msp.desk import tickets
from msp.flows import install
from msp.settings import load
from msp.vault import Vault, create_key_file

WEEK = {day: [["00:00", "24:00"]] for day in ("mon", "tue", "wed", "thu", "fri", "sat", "sun")}
TERMS: dict[str, Any] = {
    "currency": "EUR",
    "zone": "UTC",
    "calendars": {"always": {"tz": "UTC", "week": WEEK}},
    "lines": [{"id": "1", "kind": "t_and_m", "name": "Servers", "rate": "60.00", "increment": 1, "calendar": "always",
               "targets": {f"P{n}": {"first_response": 30, "resolution": 240 * n} for n in (1, 2, 3)}}],
    "clauses": [
        {"id": "1.1", "text": "Readings at any time.", "effect": "allow", "action_classes": ["read"]},
        {"id": "1.2", "text": "Changes at any time.", "effect": "allow", "action_classes": ["change"]},
    ],
}  # fmt: skip


def plant(folder: Path, fleet: Any, *, database: str = "", lease_seconds: int = 60) -> tuple[Path, int]:
    """Make it in `folder` and return its settings file and the number of its ticket."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "msp.toml"
    lines = [f'data = "{folder}"', f'playbooks = "{folder}"', f"lease_seconds = {lease_seconds}"]
    config.write_text("\n".join([*lines, *([f'database = "{database}"'] if database else [])]) + "\n")
    settings = load(config, {})
    install.prepare(settings)
    create_key_file(settings.key_path)
    vault = Vault.from_file(settings.key_path)
    now = utc_now()
    with db.begin() as session:
        client = agreements.add_client(session, key="alfa", name="Alfa")
        site = Site(client_id=client.id, name="Yard", address="Yard 1", latitude=52.5, longitude=13.4)
        session.add(site)
        session.flush()
        contract = agreements.add_contract(
            session, client, reference="C-1", kind="t_and_m", currency="EUR",
            starts_on=(now - timedelta(days=30)).date(), ends_on=(now + timedelta(days=300)).date(),
        )  # fmt: skip
        agreements.add_version(session, contract, TERMS, now - timedelta(days=30), "bench")
        vault.put(session, "ssh-key", fleet.key_file.read_text(), by="bench", client_id=client.id)
        for host in fleet.hosts:
            item = inventory.add(
                session, client_id=client.id, name=host.name, kind="server", by="bench", site_id=site.id,
                address=host.address, username=fleet.user, secret_name="ssh-key",
            )  # fmt: skip
            item.port = host.port
            inventory.pin(session, item, host.host_key, by="bench")
        opening = tickets.Opening(client_id=client.id, subject="Every host", channel="email")
        ticket = tickets.open_ticket(session, opening, by="bench").id
    db.current().dispose()
    return config, ticket
