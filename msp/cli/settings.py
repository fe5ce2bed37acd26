"""msp settings: every setting explained, and a check of what is in force."""

import click

from msp import console


@click.group(invoke_without_command=True, epilog="Example: msp settings check")
@click.option("--json", "as_json", is_flag=True, help="One JSON line per setting.")
@click.pass_context
def settings(ctx: click.Context, as_json: bool) -> None:
    """Explain every setting with the value in force."""
    if ctx.invoked_subcommand:
        return
    from dataclasses import fields

    from msp.db import without_password
    from msp.settings import Settings

    loaded = console.settings()
    rows = [
        (item.name, without_password(str(getattr(loaded, item.name))), str(item.default), item.metadata["explains"])
        for item in fields(Settings)
    ]
    if as_json:
        for name, value, default, explains in rows:
            console.print_json({"name": name, "value": value, "default": default, "explains": explains})
    else:
        console.print_table(("setting", "value", "default", "meaning"), rows)


@settings.command(epilog="Example: msp --config /etc/msp.toml settings check")
def check() -> None:
    """Check the settings file and MSP_*: unknown keys, wrong types, key file, database."""
    from msp import db, migrations
    from msp.vault import Vault

    loaded = console.settings()
    migrations.require_current(db.use(loaded.database_url))
    Vault.from_file(loaded.key_path)
    click.echo("Settings are in order.")
