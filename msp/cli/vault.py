"""msp vault: secrets of clients and of the provider."""

import sys

import click

from msp import console


@click.group(epilog="Example: msp vault put --client alfa ssh-key < id_ed25519")
def vault() -> None:
    """Store and rotate secrets; never shows them by accident."""


@vault.command(epilog="Example: msp vault put --client alfa root-password")
@click.argument("name")
@click.option("--client", "client_key", help="Key of the client (default: the provider's own).")
def put(name: str, client_key: str | None) -> None:
    """Store the secret NAME, typed twice, or read from standard input when it is not a terminal."""
    from msp import db, evidence
    from msp.contracts import agreements
    from msp.errors import Misconfigured
    from msp.vault import Vault

    settings = console.use_database()
    opened = Vault.from_file(settings.key_path)
    terminal = sys.stdin.isatty()
    value = click.prompt("Secret", hide_input=True, confirmation_prompt=True) if terminal else sys.stdin.read()
    if not value:
        raise Misconfigured("The secret is empty.", advice="Type it, or send it to standard input.")
    with db.begin() as session:
        client_id = agreements.client_by_key(session, client_key).id if client_key else 0
        opened.put(session, name, value, by="cli", client_id=client_id)
        evidence.record(session, "secret.stored", actor="cli", subject=("secret", name), client_id=client_id or None)
    click.echo(f"Stored {name}.")


@vault.command("list", epilog="Example: msp vault list --json")
@click.option("--json", "as_json", is_flag=True, help="One JSON line per secret.")
def list_secrets(as_json: bool) -> None:
    """List names and ages; values stay sealed."""
    from sqlalchemy import select

    from msp import db
    from msp import vault as module
    from msp.clock import utc_now
    from msp.contracts.models import Client

    console.use_database()
    with db.read() as session:
        clients = {client.id: client.key for client in session.scalars(select(Client))}
        rows = [
            (clients.get(row.client_id, "provider"), row.name, (utc_now() - row.changed_at).days, row.changed_by)
            for row in module.names(session)
        ]
    columns = ("client", "name", "age in days", "changed by")
    if as_json:
        for row in rows:
            console.print_json(dict(zip(columns, row, strict=True)))
    else:
        console.print_table(columns, rows)


@vault.command(epilog="Example: msp vault rotate")
def rotate() -> None:
    """Make a new master key: every data key is wrapped anew; the old key file is kept beside it."""
    import os
    from secrets import token_hex

    from msp import db, evidence
    from msp.clock import utc_now
    from msp.vault import Vault

    settings = console.use_database()
    path = settings.key_path
    opened, text = Vault.from_file(path), token_hex(32)
    fresh = path.with_name(path.name + ".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text + "\n")
    kept = path.with_name(f"{path.name}.{utc_now():%Y%m%dT%H%M%SZ}")
    with db.begin() as session:
        count = opened.rewrap(session, bytes.fromhex(text))
        evidence.record(session, "vault.rotated", actor="cli", subject=("vault", "master"), data={"data_keys": count})
        os.link(path, kept)  # both keys lie there until the commit is certain
    fresh.replace(path)
    click.echo(f"{count} data keys wrapped anew. The old key is {kept}; destroy it when the new one is in the safe.")
