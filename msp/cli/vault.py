"""msp vault: secrets of clients and of the provider."""

import sys
from typing import TYPE_CHECKING

import click

from msp import console
from msp.cli import vault_grants, vault_rotations

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from msp.vault import VaultSecret


@click.group(epilog="Example: msp vault put --client alfa ssh-key < id_ed25519")
def vault() -> None:
    """Store, use and rotate secrets; never shows them by accident."""


client_option = click.option("--client", "client_key", help="Key of the client (default: the provider's own).")
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON line per row.")


def client_id_of(session: "Session", client_key: str | None) -> int:
    """Return the id of a client by its key; 0 is the provider."""
    from msp.contracts import agreements

    return agreements.client_by_key(session, client_key).id if client_key else 0


@vault.command(epilog="Example: msp vault put --client alfa root-password")
@click.argument("name")
@client_option
@click.option("--kind", type=click.Choice(["password", "ssh_key", "other"]), help="Default: told by its look.")
@click.option("--generate", is_flag=True, help="Make a new password; nobody sees it.")
def put(name: str, client_key: str | None, kind: str | None, generate: bool) -> None:
    """Store the secret NAME, typed twice, or read from standard input when it is not a terminal."""
    from msp import db
    from msp.flows import credentials
    from msp.secret import Secret
    from msp.vault import Vault

    settings = console.use_database()
    opened = Vault.from_file(settings.key_path)
    if generate:
        value = credentials.generate()
    elif sys.stdin.isatty():
        value = Secret(click.prompt("Secret", hide_input=True, confirmation_prompt=True))
    else:
        value = Secret(sys.stdin.read())
    with db.begin() as session:
        client_id = client_id_of(session, client_key)
        credentials.store(session, opened, name=name, value=value, client_id=client_id, by="cli", kind=kind or "")
    click.echo(f"Stored {name}.")


@vault.command("list", epilog="Example: msp vault list --age --json")
@click.option("--client", "client_key", help="Key of the client (default: all, and the provider's own).")
@click.option("--age", is_flag=True, help="The worst first, with limits, use and who may.")
@click.option(
    "--state",
    type=click.Choice(["overdue", "exposed", "due_soon", "unknown", "fresh"]),
    help="Only these; exposed: somebody has seen it.",
)
@json_option
def list_secrets(client_key: str | None, age: bool, state: str | None, as_json: bool) -> None:
    """List names and ages; values stay sealed."""
    from msp import db
    from msp.clock import utc_now
    from msp.flows import credentials

    policy = credentials.policy_of(console.use_database())
    with db.read() as session:
        wanted = {client_id_of(session, client_key)} if client_key else None
        found = [
            row.as_dict() for row in credentials.desk(session, policy, utc_now(), client_ids=wanted, state=state or "")
        ]
    if not age:
        found.sort(key=lambda row: (row["client"] != "provider", row["client"], row["name"]))
    if as_json:
        for row in found:
            plain = {"client": row["client"], "name": row["name"], "age in days": row["age_days"]}
            console.print_json(row if age else plain | {"changed by": row["changed_by"]})
    elif age:
        console.print_table(
            ("client", "name", "kind", "state", "age in days", "limit", "last used", "rotated", "assets", "may use"),
            [
                (r["client"], r["name"], r["kind"], r["state"], r["age_days"], r["limit_days"], r["used_at"],
                 r["rotated_at"], ", ".join(r["assets"]), ", ".join(r["may_use"]))
                for r in found
            ],
        )  # fmt: skip
    else:
        columns = ("client", "name", "age in days", "changed by")
        console.print_table(columns, [(r["client"], r["name"], r["age_days"], r["changed_by"]) for r in found])


@vault.command(epilog="Example: msp vault delete --client alfa old-password")
@click.argument("name")
@client_option
def delete(name: str, client_key: str | None) -> None:
    """Forget the secret NAME; one that opens an asset stays."""
    from msp import db
    from msp.flows import credentials
    from msp.vault import Vault

    settings = console.use_database()
    with db.begin() as session:
        row = _row(session, name, client_key)
        credentials.delete(session, Vault.from_file(settings.key_path), row, by="cli")
    click.echo(f"Forgot {name}.")


@vault.command(epilog="Example: msp vault reveal --client alfa root --as max@provider.example --reason console")
@click.argument("name")
@client_option
@click.option("--as", "email", required=True, help="Log-in name of who sees it; needs the right credential.reveal.")
@click.option("--reason", required=True, help="Why it must be seen; stays as evidence.")
@click.option("--ticket", type=int, help="Ticket that it is needed for, where an asset is opened by it.")
def reveal(name: str, client_key: str | None, email: str, reason: str, ticket: int | None) -> None:
    """Print the secret NAME once. It is marked as to be rotated from then on."""
    from msp import db
    from msp.flows import credentials
    from msp.people import users
    from msp.vault import Vault

    settings = console.use_database()
    opened = Vault.from_file(settings.key_path)
    with db.begin() as session:
        row = _row(session, name, client_key)
        actor = users.actor_of(session, users.by_email(session, email))
        value = opened.get(session, row.name, client_id=row.client_id)
        credentials.let_see(session, row, actor=actor, reason=reason, ticket_id=ticket)
    click.echo(value.value, nl=sys.stdout.isatty())
    click.echo(f"{name} was seen; rotate it: msp vault rotate {name}", err=True)


def _row(session: "Session", name: str, client_key: str | None) -> "VaultSecret":
    from msp.vault import row_of

    return row_of(session, name, client_id_of(session, client_key), lock=True)


@vault.command(epilog="Example: msp vault rekey")
@click.option("--data-keys", is_flag=True, help="Seal every secret anew too: for a key that has leaked.")
def rekey(data_keys: bool) -> None:
    """Make a new master key. Cut short it can be begun again; the old key file is kept beside the new one."""
    from msp.flows import rekeying

    done = rekeying.rekey(console.use_database(), by="cli", data_keys=data_keys)
    click.echo(f"{done.data_keys} data keys wrapped anew, {done.secrets} secrets sealed anew.")
    click.echo(f"The old key is {done.kept}; destroy it when the new one is in the safe.")


for command in (
    *(vault_grants.ask, vault_grants.give, vault_grants.decline, vault_grants.withdraw, vault_grants.grants),
    *(vault_rotations.rotate, vault_rotations.rotations, vault_rotations.check),
):
    vault.add_command(command)
