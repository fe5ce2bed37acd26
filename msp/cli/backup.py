"""msp backup: prove a backup by restoring it, make manifests, list plans, sweep left-overs."""

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from msp import console


@click.group(epilog="Example: msp backup verify srv01-daily.json")
def backup() -> None:
    """Restore tests: verify, manifest, plans."""


@contextlib.contextmanager
def _tidy() -> Iterator[None]:
    """Turn a request to end into an exit that cleans up."""

    def leave(number: int, _frame: Any) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _scratch() -> Path | None:
    """Return the installation's scratch folder, or None where there is no installation."""
    settings = console.settings()
    return Path(settings.scratch_path) if settings.scratch or settings.key_path.exists() else None


@backup.command(epilog="Example: msp backup verify srv01-daily.json --json")
@click.argument("case", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the verdict object alone.")
@click.option("--scratch", type=click.Path(path_type=Path), help="Folder for the restored data while they are tested.")
@click.pass_context
def verify(ctx: click.Context, case: Path, as_json: bool, scratch: Path | None) -> None:
    """Restore the backup that CASE describes and say whether it would bring the business back.

    The last line is the verdict as JSON. Exit 0 pass, 1 fail, 2 the case cannot mean what it says, 3 warn, 4 error.
    """
    from msp.backup import case as cases
    from msp.backup.verdict import EXIT_STATUS
    from msp.backup.verify import verify as run
    from msp.clock import utc_now

    loaded = cases.load(case, now=utc_now())
    with _tidy():
        result = run(loaded, base=scratch or _scratch())
    if not as_json:
        for rung in result.rungs:
            click.echo(f"rung {rung.number} {rung.plain()['name']}: {rung.verdict} ({rung.seconds:.1f} s)")
            for finding in rung.findings:
                click.echo(f"  {finding.reason}: {finding.what}")
                for line in (finding.where, finding.advice):
                    if line:
                        click.echo(f"    {line}")
        click.echo(f"{result.case}: {result.verdict}")
    sys.stdout.flush()
    console.print_json(result.plain())
    ctx.exit(EXIT_STATUS[result.verdict])


@backup.command(epilog="Example: msp backup manifest /srv/data -o srv01.json")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write instead of stdout.")
@click.pass_context
def manifest(ctx: click.Context, folder: Path, output: Path | None) -> None:
    """Write what FOLDER holds, with checksums; run it where the data are. Exit 1 if something could not be read."""
    from msp.backup import manifest as manifests
    from msp.errors import Misconfigured

    if not folder.is_dir():
        raise Misconfigured(f"{folder} is not a folder.", advice="Name the folder that is backed up.")
    unread = []

    def note(path: bytes, error: OSError) -> None:
        unread.append(path)
        click.echo(f"msp: {manifests.shown(path)} cannot be read: {error.strerror}.", err=True)

    entries = manifests.walk(folder, on_error=note)
    if output:
        try:
            with output.open("w", encoding="utf-8") as file:
                manifests.write(entries, file)
        except OSError as error:
            raise Misconfigured(f"{output} cannot be written: {error.strerror}.", advice="Name another.") from error
    else:
        manifests.write(entries, sys.stdout)
        sys.stdout.flush()
    ctx.exit(1 if unread else 0)


@backup.command(epilog="Example: msp backup sweep")
@click.option("--scratch", type=click.Path(path_type=Path), help="Folder to sweep.")
def sweep(scratch: Path | None) -> None:
    """Remove what restore tests left behind that were killed; running ones are left alone."""
    from msp.backup import scratch as space

    swept = []
    for base in [scratch] if scratch else [_scratch(), space.default_base()]:
        if base is not None:
            swept += space.sweep(base)
    for name in swept:
        click.echo(name)
    click.echo(f"{len(swept)} left-overs removed.", err=True)


@backup.command(epilog="Example: msp backup pack --client alfa --month 2026-10 -o alfa-2026-10.zip")
@click.option("--client", "client_key", required=True, help="Key of the client.")
@click.option("--month", required=True, help="The month, like 2026-10.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="File to write.")
def pack(client_key: str, month: str, output: Path) -> None:
    """Write a client's month as a signed proof pack, which it verifies with msp evidence verify."""
    from msp import db
    from msp.clock import utc_now
    from msp.contracts import agreements
    from msp.errors import Misconfigured
    from msp.flows import proof_packs
    from msp.vault import Vault

    console.use_database()
    settings = console.settings()
    with db.begin() as session:  # the first pack makes the key that signs it
        client = agreements.client_by_key(session, client_key)
        vault = Vault.from_file(settings.key_path)
        data = proof_packs.of_month(session, vault, client, month, utc_now(), provider=settings.provider)
    try:
        output.write_bytes(data)
    except OSError as error:
        raise Misconfigured(f"{output} cannot be written: {error.strerror}.", advice="Name another.") from error
    click.echo(f"{len(data)} bytes written to {output}.")


@backup.group(epilog="Example: msp backup plan list")
def plan() -> None:
    """Backup plans and whether each is proven."""


@plan.command("list", epilog="Example: msp backup plan list --client alfa --json")
@click.option("--client", "client_key", help="Key of one client.")
@click.option("--json", "as_json", is_flag=True, help="One JSON line a plan.")
def list_plans(client_key: str | None, as_json: bool) -> None:
    """List backup plans: what is proven, since when, and what is overdue."""
    from msp import db
    from msp.backup import plans
    from msp.clock import utc_now

    console.use_database()
    with db.read() as session:
        rows = plans.overview(session, utc_now(), client_key=client_key)
    if as_json:
        for row in rows:
            console.print_json(row)
        return
    columns = ("id", "client", "name", "engine", "proof", "words", "last_verdict")
    console.print_table(columns, [[row[column] for column in columns] for row in rows])
