"""msp vault ask, give, decline, withdraw, grants: the use of credentials, just in time."""

from typing import TYPE_CHECKING

import click

from msp import console

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from msp.people.access import Actor

as_option = click.option("--as", "email", required=True, help="Log-in name of the person who does it.")


def _actor(session: "Session", email: str) -> "Actor":
    from msp.people import users

    return users.actor_of(session, users.by_email(session, email))


@click.command(epilog="Example: msp vault ask srv-1 --client alfa --ticket 12 --as anna@provider.example --reason full")
@click.argument("asset")
@click.option("--client", "client_key", required=True, help="Key of the client.")
@click.option("--ticket", type=int, required=True, help="Ticket that it is needed for.")
@click.option("--reason", required=True, help="What it is needed for.")
@click.option("--minutes", type=click.IntRange(1, 720), default=60, show_default=True, help="For how long.")
@as_option
def ask(asset: str, client_key: str, ticket: int, reason: str, minutes: int, email: str) -> None:
    """Ask for the use of ASSET's credential; the contract gives it, asks somebody, or refuses."""
    from datetime import timedelta

    from msp import db
    from msp.assets import inventory
    from msp.contracts import agreements
    from msp.flows import credential_grants

    console.use_database()
    with db.begin() as session:
        item = inventory.by_name(session, agreements.client_by_key(session, client_key).id, asset)
        grant = credential_grants.ask(
            session,
            asset_id=item.id,
            ticket_id=ticket,
            actor=_actor(session, email),
            reason=reason,
            lasts=timedelta(minutes=minutes),
        )
        said = grant.decision
    words = {
        "given": f"Grant {grant.id}: {grant.secret} may be used until {grant.ends_at:%Y-%m-%d %H:%M} UTC."
        if grant.ends_at
        else "",
        "waiting": f"Grant {grant.id} waits for {said.get('approver')}.",
        "refused": f"Refused: {said.get('text')} {said.get('way_out')}",
    }
    click.echo(words[grant.state])
    if grant.state == "refused":
        raise SystemExit(4)


@click.command(epilog="Example: msp vault give 7 --as boss@alfa.example")
@click.argument("grant", type=int)
@as_option
def give(grant: int, email: str) -> None:
    """Let the use of GRANT begin; by the person whom the clause names."""
    from msp import db
    from msp.flows import credential_grants

    console.use_database()
    with db.begin() as session:
        given = credential_grants.give(session, grant, actor=_actor(session, email))
        click.echo(f"{given.actor} may use {given.secret} until {given.ends_at:%Y-%m-%d %H:%M} UTC.")


@click.command(epilog="Example: msp vault decline 7 --as boss@alfa.example --reason 'not today'")
@click.argument("grant", type=int)
@click.option("--reason", default="", help="What the asker reads.")
@as_option
def decline(grant: int, reason: str, email: str) -> None:
    """Say no to GRANT."""
    from msp import db
    from msp.flows import credential_grants

    console.use_database()
    with db.begin() as session:
        credential_grants.decline(session, grant, actor=_actor(session, email), reason=reason)
    click.echo("Declined.")


@click.command(epilog="Example: msp vault withdraw 7 --as boss@provider.example --reason 'left the company'")
@click.argument("grant", type=int)
@click.option("--reason", default="", help="Stays as evidence.")
@as_option
def withdraw(grant: int, reason: str, email: str) -> None:
    """Take GRANT back: consoles under it end within two seconds, runs before their next step."""
    from msp import db
    from msp.flows import credential_grants

    console.use_database()
    with db.begin() as session:
        credential_grants.withdraw(session, grant, actor=_actor(session, email), reason=reason)
    click.echo("Withdrawn.")


@click.command(epilog="Example: msp vault grants --waiting --json")
@click.option("--client", "client_key", help="Key of the client (default: all).")
@click.option("--waiting", is_flag=True, help="Only those that wait for an answer.")
@click.option("--json", "as_json", is_flag=True, help="One JSON line per row.")
def grants(client_key: str | None, waiting: bool, as_json: bool) -> None:
    """List who may use what, on which ticket, and what waits for an answer."""
    from sqlalchemy import select

    from msp import db
    from msp.contracts.models import Client
    from msp.people.credential_grants import GIVEN, WAITING, CredentialGrant

    console.use_database()
    query = select(CredentialGrant, Client.key).join(Client, Client.id == CredentialGrant.client_id)
    query = query.where(CredentialGrant.state.in_((WAITING,) if waiting else (WAITING, GIVEN)))
    columns = ("grant", "client", "secret", "who", "ticket", "state", "clause", "ends at", "uses")
    with db.read() as session:
        if client_key:
            query = query.where(Client.key == client_key)
        rows = [
            (one.id, key, one.secret, one.actor, one.ticket_id, one.state, one.clause_id,
             one.ends_at.isoformat() if one.ends_at else None, one.uses)
            for one, key in session.execute(query.order_by(CredentialGrant.id))
        ]  # fmt: skip
    if as_json:
        for row in rows:
            console.print_json(dict(zip(columns, row, strict=True)))
    else:
        console.print_table(columns, rows)
