"""msp network: what is kept of routers and switches."""

from typing import TYPE_CHECKING

import click

from msp import console

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from msp.assets.models import ConfigurationItem


@click.group(epilog="Example: msp network diff --client alfa rtr-1")
def network() -> None:
    """Configurations of routers and switches: versions and differences."""


client_option = click.option("--client", "client_key", required=True, help="Key of the client.")
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON line per row.")


def _device(session: "Session", client_key: str, name: str) -> "ConfigurationItem":
    from sqlalchemy import select

    from msp.assets.models import ConfigurationItem
    from msp.contracts import agreements
    from msp.errors import NotFound

    client = agreements.client_by_key(session, client_key)
    query = select(ConfigurationItem).where(ConfigurationItem.client_id == client.id, ConfigurationItem.name == name)
    found = session.scalar(query)
    if found is None:
        raise NotFound(
            f"Client {client_key} has no item {name!r}.", advice="msp asset list shows those that there are."
        )
    return found


@network.command("list", epilog="Example: msp network list --client alfa")
@click.option("--client", "client_key", help="Key of the client (default: all).")
@json_option
def list_all(client_key: str | None, as_json: bool) -> None:
    """List the versions that are kept, the latest of each device first."""
    from sqlalchemy import select

    from msp import db
    from msp.assets.models import ConfigurationItem
    from msp.contracts import agreements
    from msp.contracts.models import Client
    from msp.remote.models import DeviceConfiguration

    console.use_database()
    with db.read() as session:
        query = (
            select(Client.key, ConfigurationItem.name, DeviceConfiguration)
            .join(ConfigurationItem, ConfigurationItem.id == DeviceConfiguration.asset_id)
            .join(Client, Client.id == ConfigurationItem.client_id)
        )
        if client_key:
            query = query.where(Client.id == agreements.client_by_key(session, client_key).id)
        query = query.order_by(Client.key, ConfigurationItem.name, DeviceConfiguration.version.desc())
        rows = [
            {"client": key, "device": name, "version": kept.version, "taken_at": kept.taken_at.isoformat(),
             "seen_at": kept.seen_at.isoformat(), "run": kept.run_id, "sha256": kept.sha256}
            for key, name, kept in session.execute(query)
        ]  # fmt: skip
    if as_json:
        for row in rows:
            console.print_json(row)
        return
    columns = ("client", "device", "version", "taken_at", "seen_at", "run")
    console.print_table(columns, ([row[name] for name in columns] for row in rows))


@network.command(epilog="Example: msp network show --client alfa rtr-1 --version 3 > rtr-1.cfg")
@click.argument("device")
@client_option
@click.option("--version", type=click.IntRange(1), help="Which one (default: the latest).")
def show(device: str, client_key: str, version: int | None) -> None:
    """Print a kept configuration of DEVICE. Its secrets were removed before it was stored."""
    from msp import db
    from msp.errors import NotFound
    from msp.remote.network import versions

    console.use_database()
    with db.read() as session:
        item = _device(session, client_key, device)
        found = versions.get(session, item.id, version) if version else versions.last(session, item.id)
        if found is None:
            raise NotFound(f"No configuration of {device} is kept.", advice="Run a config-backup playbook on it.")
        click.echo(found.text, nl=False)


@network.command(epilog="Example: msp network diff --client alfa rtr-1 2 5")
@click.argument("device")
@click.argument("older", type=click.IntRange(1), required=False)
@click.argument("newer", type=click.IntRange(1), required=False)
@client_option
def diff(device: str, client_key: str, older: int | None, newer: int | None) -> None:
    """Compare two versions of DEVICE; without numbers the latest two, with one it and the latest."""
    from msp import db
    from msp.errors import NotFound
    from msp.remote.network import versions

    console.use_database()
    with db.read() as session:
        item = _device(session, client_key, device)
        latest = versions.last(session, item.id)
        if latest is None or (older is None and latest.version == 1):
            raise NotFound(f"There are not two versions of {device}.", advice="msp network list shows what is kept.")
        old = versions.get(session, item.id, older or latest.version - 1)
        new = versions.get(session, item.id, newer) if newer else latest
        click.echo(versions.difference(old, new) or "They are the same.\n", nl=False)


@network.command(epilog="Example: msp network platforms")
@json_option
def platforms(as_json: bool) -> None:
    """List the platforms that are spoken, and what takes a risky change back on each."""
    from msp.remote.network.platforms import PLATFORMS

    rows = [
        {
            "platform": one.name,
            "driver": one.driver,
            "undo": {"no": "no LINE", "set": "delete/set", "": "by hand"}[one.inverse],
            "deadman": f"the device {one.deadman.does}" if one.deadman else "our side only, while it is reached",
        }
        for one in PLATFORMS.values()
    ]
    if as_json:
        for row in rows:
            console.print_json(row)
        return
    console.print_table(tuple(rows[0]), (list(row.values()) for row in rows))
