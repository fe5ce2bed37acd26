"""msp vault rotate, rotations, check: a secret replaced on the hosts that it opens."""

import click

from msp import console


@click.command(epilog="Example: msp vault rotate --client alfa ssh-key --as anna@provider.example")
@click.argument("name")
@click.option("--client", "client_key", required=True, help="Key of the client.")
@click.option("--as", "email", required=True, help="Log-in name of the person who does it.")
@click.option("--ticket", type=int, help="Ticket that it belongs to (default: one is opened).")
def rotate(name: str, client_key: str, email: str, ticket: int | None) -> None:
    """Give NAME a new value on every asset that it opens; a worker does it, a fresh log-in proves it."""
    from msp import db
    from msp.contracts import agreements
    from msp.flows import rotating
    from msp.people import users
    from msp.remote.rotations import SecretRotation

    settings = console.use_database()
    with db.read() as session:
        client_id = agreements.client_by_key(session, client_key).id
        actor = users.actor_of(session, users.by_email(session, email))
    number = rotating.rotate(settings, client_id=client_id, secret=name, actor=actor, ticket_id=ticket)
    with db.read() as session:
        rotation = session.get_one(SecretRotation, number)
    click.echo(f"Rotation {number}: {rotation.state}, run {rotation.run_id}, ticket {rotation.ticket_id}.")
    if rotation.found:
        click.echo(rotation.found)
    if rotation.ended_at is not None:
        raise SystemExit(4)


@click.command(epilog="Example: msp vault rotations --json")
@click.option("--client", "client_key", help="Key of the client (default: all).")
@click.option("--json", "as_json", is_flag=True, help="One JSON line per row.")
def rotations(client_key: str | None, as_json: bool) -> None:
    """List rotations, the newest first."""
    from sqlalchemy import select

    from msp import db
    from msp.contracts.models import Client
    from msp.remote.rotations import SecretRotation

    console.use_database()
    query = select(SecretRotation, Client.key).join(Client, Client.id == SecretRotation.client_id)
    if client_key:
        query = query.where(Client.key == client_key)
    columns = ("rotation", "client", "secret", "state", "asked by", "asked at", "ended at", "found")
    with db.read() as session:
        rows = [
            (one.id, key, one.secret, one.state, one.asked_by, one.asked_at.isoformat(),
             one.ended_at.isoformat() if one.ended_at else None, one.found)
            for one, key in session.execute(query.order_by(SecretRotation.id.desc()).limit(200))
        ]  # fmt: skip
    if as_json:
        for row in rows:
            console.print_json(dict(zip(columns, row, strict=True)))
    else:
        console.print_table(columns, rows)


@click.command(epilog="Example: msp vault check 4 --as anna@provider.example")
@click.argument("rotation", type=int)
@click.option("--as", "email", required=True, help="Log-in name of the person who does it.")
def check(rotation: int, email: str) -> None:
    """Let ROTATION, which is stuck, be looked at again."""
    from msp import db
    from msp.flows import rotating
    from msp.people import users

    console.use_database()
    with db.begin() as session:
        rotating.again(session, rotation, actor=users.actor_of(session, users.by_email(session, email)))
    click.echo("A worker looks again.")
