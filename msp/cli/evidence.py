"""msp evidence: verify the chain here, export it, verify an exported file anywhere."""

from pathlib import Path

import click

from msp import console


@click.group(epilog="Example: msp evidence verify")
def evidence() -> None:
    """Verify and export the evidence chain."""


@evidence.command(epilog="Example: msp evidence verify evidence-alfa.jsonl")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--key", default="", help="Fingerprint of the key that a proof pack must be signed by.")
@click.option("--json", "as_json", is_flag=True, help="One JSON line with the result.")
@click.pass_context
def verify(ctx: click.Context, file: Path | None, key: str, as_json: bool) -> None:
    """Verify every chain in the database; or a FILE, exported chain or proof pack, without any database.

    Exit 1 if something was changed; each place is named.
    """
    from msp import db
    from msp import evidence as chain

    if file and _is_pack(file):
        ctx.exit(_verify_pack(file, key, as_json))
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


def _is_pack(file: Path) -> bool:
    """Whether a file is meant to be a proof pack: by its name or by how it begins."""
    from msp.errors import NotFound

    try:
        with file.open("rb") as opened:
            return file.suffix == ".zip" or opened.read(2) == b"PK"
    except OSError as error:
        raise NotFound(f"{file} cannot be read: {error.strerror}.", advice="Name the file you were given.") from error


def _verify_pack(file: Path, key: str, as_json: bool) -> int:
    from msp import proof_pack

    found = proof_pack.verify(file.read_bytes(), expected_key=key)
    if as_json:
        plain = {"whole": found.whole, "faults": list(found.faults), "files": found.files, "records": found.records}
        console.print_json(plain | {"key": found.key, "about": dict(found.about or {})})
    else:
        for fault in found.faults:
            click.echo(fault, err=True)
        if found.whole:
            click.echo(f"{found.files} files and {found.records} records of evidence are whole.")
            click.echo(f"Signed by {found.key}." + ("" if key else " Compare it with what the provider told you."))
    return 0 if found.whole else 1


@evidence.command(epilog="Example: msp evidence key")
def key() -> None:
    """Print the fingerprint of the key that signs proof packs; tell it to clients once, by another way."""
    from msp import db
    from msp.flows import proof_packs
    from msp.vault import Vault

    console.use_database()
    with db.begin() as session:  # the first call makes the key
        click.echo(proof_packs.fingerprint(session, Vault.from_file(console.settings().key_path)))


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
