"""msp ca: our own SSH certificate authority."""

from pathlib import Path
from typing import Any

import click

from msp import console


@click.group(epilog="Example: msp ca create --client alfa --source-address 192.0.2.0/24")
def ca() -> None:
    """SSH certificates of our own: make the authority, show it, take certificates back."""


client_option = click.option("--client", "client_key", help="Key of the client (default: the provider's own).")


def _client_id(session: Any, client_key: str | None) -> int:
    from msp.contracts import agreements

    return agreements.client_by_key(session, client_key).id if client_key else 0


@ca.command(epilog="Example: msp ca create --source-address 192.0.2.0/24")
@client_option
@click.option("--source-address", "sources", multiple=True, metavar="NETWORK", help="Certificates work from here only.")
@click.option("--replace", is_flag=True, help="Take over from the authority that signs now.")
def create(client_key: str | None, sources: tuple[str, ...], replace: bool) -> None:
    """Make an authority and print the public key that hosts must trust; the private key goes into the vault."""
    from msp import db
    from msp.remote import ca as module
    from msp.vault import Vault

    settings = console.use_database()
    vault = Vault.from_file(settings.key_path)
    with db.begin() as session:
        client_id = _client_id(session, client_key)
        row = module.create(session, vault, client_id=client_id, by="cli", source_addresses=sources, replace=replace)
        click.echo(row.public_key)
    click.echo("Write this line to a file on the hosts and name it in sshd_config: TrustedUserCAKeys.", err=True)


@ca.command(epilog="Example: msp ca show --client alfa --json")
@client_option
@click.option("--certificates", "count", type=click.IntRange(0, 10000), default=20, show_default=True,
              help="How many certificates to list, the newest first.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON line per authority and certificate.")
def show(client_key: str | None, count: int, as_json: bool) -> None:
    """Show authorities with their public keys, and the certificates that they signed."""
    from msp import db
    from msp.clock import utc_now
    from msp.remote import ca as module

    console.use_database()
    with db.read() as session:
        client_id = _client_id(session, client_key) if client_key else None
        authorities = [
            {"authority": row.id, "client": row.client_id, "public_key": row.public_key,
             "state": row.state,
             "source_addresses": row.source_addresses, "created_at": row.created_at}
            for row in module.authorities(session, client_id)
        ]  # fmt: skip
        certificates = [
            {"serial": row.id, "authority": row.authority_id, "key_id": row.key_id, "principals": row.principals,
             "run": row.run_id, "console": row.console_id, "valid_after": row.valid_after,
             "valid_before": row.valid_before, "state": row.state(utc_now())}
            for row in module.certificates(session, client_id=client_id)[:count]
        ]  # fmt: skip
    for rows, title in ((authorities, "Authorities"), (certificates, "Certificates")):
        if as_json:
            for one in rows:
                console.print_json(one)
        elif rows:
            console.print_table(list(rows[0]), [one.values() for one in rows], title=title)


@ca.command(epilog="Example: msp ca revoke --run 12 --reason 'stopped by the client'")
@click.option("--serial", type=int, help="One certificate.")
@click.option("--run", "run_id", type=int, help="Every certificate of a run.")
@click.option("--authority", "authority_id", type=int, help="An authority, with everything that it ever signed.")
@click.option("--reason", default="", help="Goes into the evidence.")
def revoke(serial: int | None, run_id: int | None, authority_id: int | None, reason: str) -> None:
    """Take certificates back before their time. Hosts know it when they have the new list: msp ca krl."""
    from msp import db
    from msp.errors import Misconfigured, NotFound
    from msp.remote import ca as module

    if sum(given is not None for given in (serial, run_id, authority_id)) != 1:
        raise Misconfigured("What is to be revoked?", advice="Give one of --serial, --run and --authority.")
    console.use_database()
    with db.begin() as session:
        if authority_id is not None:
            authority = session.get(module.SshAuthority, authority_id)
            if authority is None:
                raise NotFound(f"There is no authority {authority_id}.", advice="msp ca show lists them.")
            module.revoke_authority(session, authority, by="cli", reason=reason)
            click.echo(f"Revoked authority {authority_id}; the next run needs another.")
            return
        rows = module.certificates(session, serial=serial, run_id=run_id)
        if not rows:
            raise NotFound("There is no such certificate.", advice="msp ca show lists them.")
        click.echo(f"Revoked {module.revoke(session, rows, by='cli', reason=reason)} certificates.")


@ca.command(epilog="Example: msp ca krl --output /srv/msp/revoked-keys")
@click.option("--client", "client_key", help="Only what concerns this client's hosts (default: all).")
@click.option("--output", type=click.Path(dir_okay=False), required=True, help="File for sshd's RevokedKeys.")
def krl(client_key: str | None, output: str) -> None:
    """Write the list of what was taken back, in OpenSSH's format; the file is replaced whole."""
    import os

    from msp import db
    from msp.remote import ca as module

    console.use_database()
    with db.read() as session:
        client_id = _client_id(session, client_key) if client_key else None
        content = module.revocation_list(session, client_id=client_id)
    path = Path(output)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_bytes(content)
    fresh.replace(path)
    click.echo(f"Wrote {path} ({len(content)} bytes).")
