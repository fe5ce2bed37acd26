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


@plan.command(
    "add",
    epilog='Example: msp backup plan add case.json --client alfa --asset srv01 --proof-every 7 --step "3=20 5 * * *"',
)
@click.argument("case", type=click.Path(path_type=Path))
@click.option("--client", "client_key", required=True, help="Key of the client.")
@click.option("--asset", help="Name of the configuration item that it backs up.")
@click.option("--name", help="Name of the plan; without it that of the case.")
@click.option("--cron", default="30 3 * * *", show_default=True, help="When everything is tested, without a ladder.")
@click.option("--zone", default="UTC", show_default=True, help="Time zone of every time of the plan.")
@click.option("--proof-every", type=click.FloatRange(min=0, min_open=True), required=True, help="Days a proof may age.")
@click.option("--step", "steps", multiple=True, help='Rungs and their time: "4,5=30 3 * * 6", "1,2=after backup".')
@click.option("--usual", is_flag=True, help="The usual ladder: 1-2 after each backup, 3 daily, 4-5 weekly, 6 monthly.")
@click.option("--secret-name", help="Name of the password in the vault.")
@click.option("--window", help="Hours in which scheduled tests begin, like 22:00-06:00.")
@click.option("--nice", type=click.IntRange(0, 19), default=5, show_default=True, help="Yields to other programs.")
@click.option("--io-idle", is_flag=True, help="Read only when nobody else does.")
@click.option("--jitter", type=click.IntRange(0, 86400), default=0, help="Seconds by which tests are spread.")
@click.option(
    "--job-every", type=click.FloatRange(min=0, min_open=True), help="Hours between backups; watches the job."
)
def add_plan(
    case: Path,
    client_key: str,
    asset: str | None,
    name: str | None,
    cron: str,
    zone: str,
    proof_every: float,
    steps: tuple[str, ...],
    usual: bool,
    secret_name: str | None,
    window: str | None,
    nice: int,
    io_idle: bool,
    jitter: int,
    job_every: float | None,
) -> None:
    """Store the restore test that CASE describes as a plan of a client, and put it on its schedule."""
    import json
    from datetime import timedelta

    from sqlalchemy import select

    from msp import db
    from msp.assets.models import ConfigurationItem
    from msp.backup import case as cases
    from msp.backup import ladder, plans
    from msp.clock import utc_now
    from msp.contracts import agreements
    from msp.errors import NotFound
    from msp.flows import restores

    now = utc_now()
    loaded = cases.load(case, now=now)
    document = json.loads(case.read_bytes())
    chosen = tuple(ladder.typed(step) for step in steps)
    limits: dict[str, Any] = {"nice": nice, "io": "idle" if io_idle else "best-effort", "jitter_s": jitter}
    limits |= {"window": window} if window else {}
    console.use_database()
    with db.begin() as session:
        client = agreements.client_by_key(session, client_key)
        item = None
        if asset:
            query = select(ConfigurationItem).where(ConfigurationItem.client_id == client.id)
            item = session.scalar(query.where(ConfigurationItem.name == asset))
            if item is None:
                raise NotFound(f"{client_key} has no configuration item {asset!r}.", advice="See msp asset list.")
        if usual and not chosen:
            critical = item is not None and item.criticality == 1
            chosen = ladder.defaults(
                critical=critical, boots=loaded.expect.boot is not None, proof_every=timedelta(days=proof_every)
            )
        made = plans.create(
            session, client_id=client.id, name=name or loaded.name, case=document, cron=cron, time_zone=zone,
            proof_every=timedelta(days=proof_every), by="cli", asset_id=item.id if item else None,
            secret_name=secret_name, ladder=chosen, limits=limits,
            every=timedelta(hours=job_every) if job_every else None,
        )  # fmt: skip
        restores.put_on_schedule(session, made, now)
        number = made.id
    click.echo(number)


@plan.command("show", epilog="Example: msp backup plan show 7 --json")
@click.argument("number", type=int)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def show_plan(number: int, as_json: bool) -> None:
    """Show a plan: its case, ladder, limits and state."""
    from msp import db
    from msp.backup import plans
    from msp.clock import utc_now

    console.use_database()
    with db.read() as session:
        found = plans.by_id(session, number)
        state = plans.proof(session, found, utc_now())
        row: dict[str, Any] = {
            "id": found.id, "name": found.name, "engine": found.engine, "enabled": found.enabled, "proof": state.state,
            "words": state.words, "proof_every_s": int(found.proof_every.total_seconds()), "cron": found.cron,
            "time_zone": found.time_zone, "ladder": found.ladder, "limits": found.limits, "case": found.case,
            "job_every_s": int(found.every.total_seconds()) if found.every else None,
        }  # fmt: skip
    if as_json:
        console.print_json(row)
    else:
        console.print_table(("field", "value"), [[key, str(value)] for key, value in row.items()])


def _switch(number: int, enabled: bool) -> None:
    from msp import db
    from msp.backup import plans
    from msp.clock import utc_now
    from msp.flows import restores

    console.use_database()
    with db.begin() as session:
        found = plans.by_id(session, number)
        plans.switch(session, found, enabled, by="cli")
        restores.put_on_schedule(session, found, utc_now())


@plan.command("enable", epilog="Example: msp backup plan enable 7")
@click.argument("number", type=int)
def enable_plan(number: int) -> None:
    """Switch a plan on again."""
    _switch(number, True)


@plan.command("disable", epilog="Example: msp backup plan disable 7")
@click.argument("number", type=int)
def disable_plan(number: int) -> None:
    """Switch a plan off: it is not tested and no longer counts."""
    _switch(number, False)


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
        for engine in named or drills.ENGINES:
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
