"""msp asset pin, reach and old-algorithms: whom we expect there, the way to it, leave for what its software needs."""

from typing import Any

import click

from msp import console

fact_option = click.option(
    "--fact", "facts", multiple=True, metavar="NAME=VALUE", help="What a transport needs to know; may be repeated."
)


def facts_of(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Return facts given as NAME=VALUE: numbers, true and false as such, all else as text; raises Misconfigured."""
    from msp.errors import Misconfigured

    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name.isidentifier() or not equals:
            raise Misconfigured(f"{pair!r} is no fact.", advice="Write NAME=VALUE, such as winrm_auth=kerberos.")
        plain = {"true": True, "false": False}.get(value, value)
        found[name] = int(value) if value.isdecimal() else plain
    return found


@click.command("pin", epilog="Example: msp asset pin --client alfa srv-fs1 'ssh-ed25519 AAAA...'")
@click.argument("name")
@click.argument("public_key")
@click.option("--client", "client_key", required=True, help="Key of the client.")
@click.option(
    "--reason", default="", help="How another key than the pinned one was confirmed; a second person reads it."
)
@click.option("--approval", "change_id", type=int, metavar="CHANGE", help="Be the second person for this change.")
@click.option("--break-glass", default="", metavar="REASON", help="Pin another key at once, alone; kept as evidence.")
def pin(name: str, public_key: str, client_key: str, reason: str, change_id: int | None, break_glass: str) -> None:
    """Pin the SSH host key of NAME, or its certificate (sha256:FINGERPRINT); a run refuses every other one.

    Another key in place of the pinned one needs a --reason, and counts when a second person approves it.
    """
    from msp import db
    from msp.assets import host_keys, inventory
    from msp.assets.models import HostKeyChange
    from msp.contracts import agreements
    from msp.errors import Misconfigured

    if (change_id is not None and (reason or break_glass)) or (reason and break_glass):
        raise Misconfigured(
            "Asking, approving and breaking the glass exclude each other.",
            advice="Give one of --reason, --approval and --break-glass.",
        )
    console.use_database()
    with db.begin() as session:
        client = agreements.client_by_key(session, client_key)
        item = inventory.by_name(session, client.id, name)
        found = host_keys.pin(
            session, item, public_key, by="cli", reason=reason, change_id=change_id, break_glass=break_glass
        )
        mark = inventory.fingerprint(found.public_key)
        if isinstance(found, HostKeyChange):
            click.echo(f"Asked for {mark} as change {found.id}; the old pin counts until a second person approves it.")
        else:
            click.echo(f"Pinned {mark}.")


@click.command("reach", epilog="Example: msp asset reach --client alfa db-1 --via edge --credential ca --user msp")
@click.argument("name")
@click.option("--client", "client_key", required=True, help="Key of the client.")
@click.option("--address", help="Name or address.")
@click.option("--port", type=click.IntRange(1, 65535), help="TCP port.")
@click.option("--user", "username", help="Account to log in with.")
@click.option("--secret", "secret_name", help="Name of its key or password in the vault.")
@click.option("--credential", "credential_kind", type=click.Choice(["secret", "ca"]),
              help="What to log in with: the secret, or a certificate of our own for each run.")  # fmt: skip
@click.option("--become-secret", "become_secret_name", help="Name of the password that sudo asks for.")
@fact_option
@click.option("--via", "bastion", help="Name of the bastion before it.")
@click.option("--direct", is_flag=True, help="No bastion.")
def reach(
    name: str, client_key: str, bastion: str | None, direct: bool, facts: tuple[str, ...], **given: object
) -> None:
    """Change how NAME is reached; what is not given stays as it is."""
    from msp import db
    from msp.assets import inventory
    from msp.assets import reach as module
    from msp.contracts import agreements
    from msp.errors import Misconfigured

    if bastion and direct:
        raise Misconfigured("A bastion and none exclude each other.", advice="Give --via or --direct.")
    console.use_database()
    with db.begin() as session:
        client = agreements.client_by_key(session, client_key)
        item = inventory.by_name(session, client.id, name)
        changes = {field: value for field, value in given.items() if value is not None}
        if bastion or direct:
            changes["bastion_id"] = inventory.by_name(session, client.id, bastion).id if bastion else None
        if facts:
            changes["facts"] = {**item.facts, **facts_of(facts)}
        if not changes:
            raise Misconfigured("Nothing is to be changed.", advice="See msp asset reach --help.")
        module.change(session, item, by="cli", **changes)
        way = " - ".join(one.name for one in (*module.bastions(session, item), item))
        click.echo(f"{name} is reached by {item.transport}: {way}.")


@click.command(
    "old-algorithms",
    epilog="Example: msp asset old-algorithms --client alfa sw-1 --allow ssh-rsa --until 2027-06-30 --reason renewal",
)
@click.argument("name")
@click.option("--client", "client_key", required=True, help="Key of the client.")
@click.option("--allow", "algorithms", multiple=True, metavar="ALGORITHM", help="To be spoken again; may be repeated.")
@click.option("--until", type=click.DateTime(["%Y-%m-%d"]), help="Day on which the leave ends (its midnight, UTC).")
@click.option("--reason", default="", help="Goes into the evidence.")
@click.option("--withdraw", is_flag=True, help="Take the leave away.")
def old_algorithms(
    name: str, client_key: str, algorithms: tuple[str, ...], until: object, reason: str, withdraw: bool
) -> None:
    """Let NAME be spoken with in old SSH algorithms for a while; without leave they are never used."""
    from datetime import UTC, datetime

    from msp import db
    from msp.assets import inventory, reach
    from msp.contracts import agreements
    from msp.errors import Misconfigured

    if bool(algorithms) == withdraw:
        raise Misconfigured("Leave is given or taken.", advice="Give --allow with --until and --reason, or --withdraw.")
    console.use_database()
    with db.begin() as session:
        client = agreements.client_by_key(session, client_key)
        item = inventory.by_name(session, client.id, name)
        end = until.replace(tzinfo=UTC) if isinstance(until, datetime) else None
        reach.allow_old(session, item, algorithms, end, by="cli", reason=reason)
        click.echo(f"{name}: {', '.join(algorithms)} until {end:%Y-%m-%d}." if end else f"{name}: none.")
