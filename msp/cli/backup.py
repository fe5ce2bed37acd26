"""msp backup: prove a backup by restoring it, make manifests, list plans, sweep left-overs."""

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from msp import console
from msp.cli.backup_plans import plan


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


backup.add_command(plan)


@plan.command("propose", epilog="Example: msp backup plan propose srv01.json --json")
@click.argument("case", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="The case with what is proposed, ready for plan add.")
def propose_plan(case: Path, as_json: bool) -> None:
    """Restore what CASE names once, look around, and propose what to assert: counts, databases, rows."""
    import json

    from msp.backup import case as cases
    from msp.backup import proposals
    from msp.clock import utc_now

    loaded = cases.load(case, now=utc_now())
    with _tidy():
        found = proposals.propose(loaded, base=_scratch())
    if as_json:
        document = json.loads(case.read_bytes())
        console.print_json(document | {"expect": {**found.expect, **document.get("expect", {})}})
        return
    for words in found.words:
        click.echo(words)


@backup.command(epilog="Example: msp backup trigger 7 --backup 4f1c22")
@click.argument("number", type=int)
@click.option("--backup", default="", help="The job's name for what it wrote; the same name again is once.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def trigger(number: int, backup: str, as_json: bool) -> None:
    """Say that the job of plan NUMBER has written: its after-backup rungs are queued. Twice in a minute is once."""
    from msp import db
    from msp.backup import plans
    from msp.clock import utc_now
    from msp.flows import restores

    console.use_database()
    with db.begin() as session:
        done = restores.after_backup(session, plans.by_id(session, number), utc_now(), backup=backup.strip())
    if as_json:
        console.print_json(
            {"plan_id": number, "job": done.job if done else None, "rungs": list(done.rungs) if done else [],
             "new": bool(done and done.new)}
        )  # fmt: skip
        return
    click.echo(done.job if done else "This plan climbs no rung after a backup.")


@backup.command(epilog="Example: msp backup drill restic pg_dump")
@click.argument("engines", nargs=-1, metavar="[ENGINE]...")
@click.option("--engine", "more", multiple=True, help="One more engine.")
@click.option("--json", "as_json", is_flag=True, help="One JSON line a fault.")
@click.pass_context
def drill(ctx: click.Context, engines: tuple[str, ...], more: tuple[str, ...], as_json: bool) -> None:
    """Plant faults into backups made by each ENGINE (none named: by all) and see whether the tester finds them.

    Exit 1 if a fault got by or a good backup was blamed, 4 if an engine that was named could not be drilled because
    its program is not installed here. Where there is an installation the drill is recorded there, as evidence.
    """
    from msp import db
    from msp.backup import drill as drills
    from msp.backup.scratch import default_base
    from msp.clock import utc_now
    from msp.flows import drills as recorded

    named = (*engines, *more)
    for engine in named:
        drills.bench(engine)
    kept = console.settings().key_path.exists()
    outcomes: list[drills.Outcome] = []
    with _tidy():
        for engine in named or drills.names():
            made = drills.drill(engine, _scratch() or default_base(), utc_now())
            outcomes += made
            if kept:
                console.use_database()
                with db.begin() as session:
                    recorded.record(session, made, utc_now(), by="cli")
    if as_json:
        for one in outcomes:
            console.print_json(
                {"engine": one.engine, "fault": one.fault, "caught": one.caught, "verdict": one.verdict,
                 "reasons": list(one.reasons), "words": one.words, "seconds": round(one.seconds, 3)}
            )  # fmt: skip
    else:
        said = {True: "yes", False: "NO"}
        console.print_table(
            ("engine", "fault", "caught", "verdict", "words"),
            [[one.engine, one.fault, "-" if one.skipped else said[one.caught], one.verdict, one.words]
             for one in outcomes],
        )  # fmt: skip
    if any(not one.caught for one in outcomes if not one.skipped):
        ctx.exit(1)
    ctx.exit(4 if any(one.skipped for one in outcomes) and (named or all(one.skipped for one in outcomes)) else 0)


@backup.command(epilog="Example: msp backup gaps --json")
@click.option("--json", "as_json", is_flag=True, help="One JSON line a gap.")
def gaps(as_json: bool) -> None:
    """List the machines under contract that have no backup plan, or none that is proven."""
    from msp import db
    from msp.clock import utc_now
    from msp.contracts.models import Client
    from msp.flows import backup_gaps

    console.use_database()
    with db.read() as session:
        rows = [
            {"client": session.get_one(Client, gap.item.client_id).key, "machine": gap.item.name, "lacks": gap.why,
             "plan": gap.plan.id if gap.plan else None}
            for gap in backup_gaps.gaps(session, utc_now())
        ]  # fmt: skip
    if as_json:
        for row in rows:
            console.print_json(row)
        return
    console.print_table(
        ("client", "machine", "lacks", "plan"), [[str(value) for value in row.values()] for row in rows]
    )
