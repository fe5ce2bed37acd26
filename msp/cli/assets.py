"""msp asset: configuration items, pinned host keys, impact."""

from typing import Any

import click

from msp import console
from msp.cli import assets_reach


@click.group(epilog="Example: msp asset impact --client alfa srv-fs1")
def asset() -> None:
    """Configuration items, host keys and impact."""


client_option = click.option("--client", "client_key", required=True, help="Key of the client.")
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON line per row.")


@asset.command("list", epilog="Example: msp asset list --client alfa")
@click.option("--client", "client_key", help="Key of the client (default: all).")
@json_option
def list_assets(client_key: str | None, as_json: bool) -> None:
    """List configuration items."""
    from sqlalchemy import select

    from msp import db
    from msp.assets.models import ConfigurationItem
    from msp.contracts import agreements
    from msp.contracts.models import Client

    console.use_database()
    with db.read() as session:
        query = select(ConfigurationItem, Client.key).join(Client, Client.id == ConfigurationItem.client_id)
        if client_key:
            query = query.where(ConfigurationItem.client_id == agreements.client_by_key(session, client_key).id)
        rows = [
            (key, item.name, item.kind, item.platform, item.transport, item.address, item.status)
            for item, key in session.execute(query.order_by(Client.key, ConfigurationItem.name))
        ]
    columns = ("client", "name", "kind", "platform", "transport", "address", "status")
    if as_json:
        for row in rows:
            console.print_json(dict(zip(columns, row, strict=True)))
    else:
        console.print_table(columns, rows)


@asset.command(epilog="Example: msp asset add --client alfa srv-fs1 --kind server --address 10.0.0.5 --user msp")
@click.argument("name")
@client_option
@click.option("--kind", default="server", help="Asset class, as the contract's clauses name it.")
@click.option("--platform", help="linux, windows, network (default: linux, or windows over winrm).")
@click.option("--transport", default="ssh", show_default=True, help="How it is reached: ssh, winrm, vnc, network.")
@click.option("--address", help="Name or address.")
@click.option("--port", type=click.IntRange(1, 65535), help="TCP port (default: the usual one of the transport).")
@click.option("--user", "username", help="Account to log in with.")
@click.option("--secret", "secret_name", help="Name of its key or password in the vault.")
@assets_reach.fact_option
def add(name: str, client_key: str, facts: tuple[str, ...], **fields: Any) -> None:
    """Record a configuration item NAME."""
    from msp import db
    from msp.assets import inventory
    from msp.contracts import agreements

    fields["platform"] = fields["platform"] or ("windows" if fields["transport"] == "winrm" else "linux")
    fields["facts"] = assets_reach.facts_of(facts)
    console.use_database()
    with db.begin() as session:
        client = agreements.client_by_key(session, client_key)
        item = inventory.add(session, client_id=client.id, name=name, by="cli", **fields)
        click.echo(
            f"Added {item.name} to {client.key}. Pin its host key next: msp asset pin --client {client.key} {name}"
        )


@asset.command(epilog="Example: msp asset impact --client alfa disk-01")
@click.argument("name")
@client_option
@json_option
def impact(name: str, client_key: str, as_json: bool) -> None:
    """Say what else is hit when NAME fails, nearest first."""
    from msp import db
    from msp.assets import inventory
    from msp.assets.models import ConfigurationItem
    from msp.contracts import agreements

    console.use_database()
    with db.read() as session:
        client = agreements.client_by_key(session, client_key)
        rows = []
        for hit in inventory.impact(session, inventory.by_name(session, client.id, name)):
            item = session.get_one(ConfigurationItem, hit.item)
            path = " <- ".join(
                [name, *(f"{e.kind} {session.get_one(ConfigurationItem, e.source).name}" for e in hit.path)]
            )
            rows.append((item.name, item.kind, hit.strength, path))
    columns = ("item", "kind", "hit", "path")
    if as_json:
        for row in rows:
            console.print_json(dict(zip(columns, row, strict=True)))
    else:
        console.print_table(columns, rows)


for command in (assets_reach.pin, assets_reach.reach, assets_reach.old_algorithms):
    asset.add_command(command)
