"""`msp` alone: what needs attention now, in a few lines."""

import click

from msp import console


def show() -> None:
    """Print what is at risk, or how to begin."""
    from msp import db
    from msp.errors import MspError
    from msp.flows import attention, credentials

    try:
        settings = console.use_database()
    except MspError as error:
        click.echo(f"{error.what} {error.advice}")
        click.echo("`msp --help` lists every command.")
        return
    with db.read() as session:
        lines = attention.lines(session, credentials.policy_of(settings))
    for line in lines:
        click.echo(line)
    if not lines:
        click.echo("Nothing needs attention.")
