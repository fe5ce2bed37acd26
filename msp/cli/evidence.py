"""msp evidence: verify the chain here, export it, verify an exported file anywhere."""

from pathlib import Path

import click

from msp import console


@click.group(epilog="Example: msp evidence verify")
def evidence() -> None:
    """Verify and export the evidence chain."""


@evidence.command(epilog="Example: msp evidence verify evidence-alfa.jsonl")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON line with the result.")
@click.pass_context
def verify(ctx: click.Context, file: Path | None, as_json: bool) -> None:
    """Verify every chain in the database, or an exported FILE without any database. Exit 1 if one is broken."""
    from msp import db
    from msp import evidence as chain

    if file:
        count, breaks = chain.verify_file(file)
    else:
        console.use_database()
        with db.read() as session:
            count, breaks = chain.verify(session)
    if as_json:
        console.print_json(
            {"records": count, "whole": not breaks, "breaks": [[b.chain, b.seq, b.what] for b in breaks]}
        )
    else:
        for broken in breaks:
            click.echo(f"chain {broken.chain}, record {broken.seq}: {broken.what}", err=True)
        click.echo(f"{count} records, {'the chain is whole' if not breaks else f'{len(breaks)} breaks'}.")
    ctx.exit(1 if breaks else 0)


@evidence.command(epilog="Example: msp evidence export --client alfa -o evidence-alfa.jsonl")
@click.option("--client", "client_key", required=True, help="Key of the client.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="File to write.")
def export(client_key: str, output: Path) -> None:
    """Write one client's chain as JSON lines; the last line is the head that it must end at."""
    from msp import db
    from msp import evidence as chain
    from msp.contracts import agreements

    console.use_database()
    with db.read() as session:
        client = agreements.client_by_key(session, client_key)
        count = chain.export(session, client.id, output)
    click.echo(f"{count} records written to {output}.")
