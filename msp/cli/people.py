"""msp user: people who log in."""

from typing import Any

import click

from msp import console


@click.group(epilog="Example: msp user add anna@provider.example --role technician")
def user() -> None:
    """Add people, give roles, reset log-ins."""


@user.command("list", epilog="Example: msp user list --json")
@click.option("--json", "as_json", is_flag=True, help="One JSON line per user.")
def list_users(as_json: bool) -> None:
    """List everybody who can log in."""
    from sqlalchemy import select

    from msp import db
    from msp.contracts.models import Client
    from msp.people.models import User

    console.use_database()
    with db.read() as session:
        clients = {client.id: client.key for client in session.scalars(select(Client))}
        rows: list[dict[str, Any]] = [
            {
                "email": person.email,
                "name": person.name,
                "roles": sorted(role.name for role in person.roles),
                "client": clients.get(person.client_id or 0),
                "active": person.active,
                "second_factor": bool(person.tf_primary_method),
            }
            for person in session.scalars(select(User).order_by(User.email))
        ]
    if as_json:
        for row in rows:
            console.print_json(row)
    else:
        console.print_table(
            ("email", "name", "roles", "client", "active", "second factor"),
            [
                (r["email"], r["name"], ", ".join(r["roles"]), r["client"], r["active"], r["second_factor"])
                for r in rows
            ],
        )


@user.command(epilog="Example: msp user add boss@alfa.example --role 'client approver' --client alfa")
@click.argument("email")
@click.option("--name", default="", help="Full name (default: the part before the @).")
@click.option("--role", "roles", multiple=True, required=True, help="May be given more than once.")
@click.option("--client", "client_key", help="Key of the client, for a client's person.")
@click.option("--language", default="en", type=click.Choice(["en", "ru"]), help="Language of the pages.")
@click.option("--time-zone", default="UTC", help="IANA zone of the times on the pages.")
@click.password_option(envvar="MSP_TEST_PASSWORD")
def add(
    email: str, name: str, roles: tuple[str, ...], client_key: str | None, language: str, time_zone: str, password: str
) -> None:
    """Add a person who logs in with EMAIL."""
    from msp import db
    from msp.contracts import agreements
    from msp.people import users

    console.use_database()
    with db.begin() as session:
        client_id = agreements.client_by_key(session, client_key).id if client_key else None
        added = users.add(
            session,
            email=email,
            name=name or email.partition("@")[0],
            password=password,
            roles=roles,
            by="cli",
            client_id=client_id,
            language=language,
            time_zone=time_zone,
        )
        click.echo(f"Added {added.email} ({', '.join(roles)}).")


@user.command(epilog="Example: msp user password anna@provider.example")
@click.argument("email")
@click.password_option(envvar="MSP_TEST_PASSWORD")
def password(email: str, password: str) -> None:
    """Set a new password for EMAIL; every open session of theirs ends."""
    from msp import db
    from msp.people import users

    console.use_database()
    with db.begin() as session:
        users.set_password(session, users.by_email(session, email), password, by="cli")
    click.echo("The password was changed.")


@user.command(epilog="Example: msp user disable anna@provider.example")
@click.argument("email")
@click.option("--enable", is_flag=True, help="Let the person in again.")
def disable(email: str, enable: bool) -> None:
    """Keep EMAIL from logging in; what they did stays."""
    from msp import db
    from msp.people import users

    console.use_database()
    with db.begin() as session:
        users.set_active(session, users.by_email(session, email), enable, by="cli")
    click.echo(f"{email} may {'log in again' if enable else 'no longer log in'}.")
