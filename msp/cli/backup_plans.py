"""msp backup plan: stored restore tests, whether each is proven, and how they are changed."""

from pathlib import Path
from typing import Any

import click

from msp import console


@click.group("plan", epilog="Example: msp backup plan list")
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
    from msp.backup import ladder, places, plans
    from msp.backup.plan_parts import PlanParts
    from msp.clock import utc_now
    from msp.contracts import agreements
    from msp.errors import NotFound
    from msp.flows import restores

    now = utc_now()
    loaded = cases.load(case, now=now)
    document = json.loads(case.read_bytes())
    places.named(document)
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
            session,
            PlanParts(
                name=name or loaded.name,
                case=document,
                cron=cron,
                time_zone=zone,
                proof_every=timedelta(days=proof_every),
                asset_id=item.id if item else None,
                secret_name=secret_name,
                ladder=chosen,
                limits=limits,
                every=timedelta(hours=job_every) if job_every else None,
            ),
            client_id=client.id,
            by="cli",
        )
        restores.put_on_schedule(session, made, now)
        number = made.id
    click.echo(number)


@plan.command("show", epilog="Example: msp backup plan show 7 --json")
@click.argument("number", type=int)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def show_plan(number: int, as_json: bool) -> None:
    """Show a plan: its case, ladder, limits and state, and a year of restore times and ages of data."""
    from msp import db
    from msp.backup import plans
    from msp.clock import utc_now
    from msp.flows import backup_trends

    console.use_database()
    with db.read() as session:
        found, now = plans.by_id(session, number), utc_now()
        state = plans.proof(session, found, now)
        row: dict[str, Any] = {
            "id": found.id, "name": found.name, "engine": found.engine, "enabled": found.enabled, "proof": state.state,
            "words": state.words, "proof_every_s": int(found.proof_every.total_seconds()), "cron": found.cron,
            "time_zone": found.time_zone, "ladder": found.ladder, "limits": found.limits, "case": found.case,
            "job_every_s": int(found.every.total_seconds()) if found.every else None,
            "token": found.trigger_digest is not None,
        }  # fmt: skip
        for one in backup_trends.of_plan(session, found, now):
            row[one.measure] = one.plain()
    if as_json:
        console.print_json(row)
        return
    for measure in ("rto", "rpo"):
        row[measure] = _told(row[measure])
    console.print_table(("field", "value"), [[key, str(value)] for key, value in row.items()])


def _told(figures: dict[str, Any]) -> str:
    """Return a trend in one line."""
    if figures["last_s"] is None:
        return "nothing measured yet"
    promised = f", promised {figures['promised_s']:g} s" if figures["promised_s"] is not None else ""
    kept = f", {figures['kept']} of {figures['judged']} kept it" if figures["judged"] else ""
    return (
        f"last {figures['last_s']:g} s, worst {figures['worst_s']:g} s of {figures['measured']} tests{promised}{kept}"
    )


def _switch(number: int, enabled: bool) -> None:
    from msp import db
    from msp.backup import plans
    from msp.clock import utc_now
    from msp.flows import backup_plans

    console.use_database()
    with db.begin() as session:
        backup_plans.switch(session, plans.by_id(session, number), enabled, utc_now(), by="cli")


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


@plan.command("change", epilog="Example: msp backup plan change 7 --case better.json --proof-every 7")
@click.argument("number", type=int)
@click.option("--case", type=click.Path(path_type=Path), help="The case that is tested from now on.")
@click.option("--name", help="Another name.")
@click.option("--cron", help="When everything is tested, without a ladder.")
@click.option("--zone", help="Time zone of every time of the plan.")
@click.option("--proof-every", type=click.FloatRange(min=0, min_open=True), help="Days a proof may age.")
@click.option("--step", "steps", multiple=True, help='A whole ladder anew: "4,5=30 3 * * 6", "1,2=after backup".')
@click.option("--secret-name", help="Name of the password in the vault; an empty one takes it away.")
@click.option("--window", help="Hours in which scheduled tests begin; an empty one takes them away.")
@click.option("--job-every", type=click.FloatRange(min=0), help="Hours between backups; 0: nobody watches the job.")
def change_plan(
    number: int,
    case: Path | None,
    name: str | None,
    cron: str | None,
    zone: str | None,
    proof_every: float | None,
    steps: tuple[str, ...],
    secret_name: str | None,
    window: str | None,
    job_every: float | None,
) -> None:
    """Give a plan other parts; what is not said stays. What changed is evidence."""
    import json
    from datetime import timedelta

    from msp import db
    from msp.backup import case as cases
    from msp.backup import ladder, places, plan_changes, plans
    from msp.backup.plan_parts import PlanParts
    from msp.clock import utc_now
    from msp.flows import restores

    document = None
    if case is not None:
        cases.load(case, now=utc_now())
        document = json.loads(case.read_bytes())
        places.named(document)
    chosen = tuple(ladder.typed(step) for step in steps)
    console.use_database()
    with db.begin() as session:
        found = plans.by_id(session, number)
        limits = {**found.limits, "window": window} if window is not None else dict(found.limits)
        every = found.every if job_every is None else timedelta(hours=job_every) or None
        changed = plan_changes.change(
            session,
            found,
            PlanParts(
                name=name or found.name,
                case=document or found.case,
                cron=cron or found.cron,
                time_zone=zone or found.time_zone,
                asset_id=found.asset_id,
                proof_every=timedelta(days=proof_every) if proof_every else found.proof_every,
                secret_name=found.secret_name if secret_name is None else secret_name or None,
                ladder=chosen or ladder.read(found.ladder),
                limits={key: one for key, one in limits.items() if one != ""},
                every=every,
            ),
            by="cli",
        )
        restores.put_on_schedule(session, found, utc_now())
    click.echo(f"Changed: {', '.join(changed)}." if changed else "Nothing differs.")


@plan.command("remove", epilog="Example: msp backup plan remove 7")
@click.argument("number", type=int)
def remove_plan(number: int) -> None:
    """Take a plan off every list and schedule; its tests and evidence stay, and put-back undoes it."""
    from msp import db
    from msp.backup import plans
    from msp.clock import utc_now
    from msp.flows import backup_plans

    console.use_database()
    with db.begin() as session:
        backup_plans.remove(session, plans.by_id(session, number), utc_now(), by="cli")
    click.echo(f"Removed. msp backup plan put-back {number} undoes it.")


@plan.command("put-back", epilog="Example: msp backup plan put-back 7")
@click.argument("number", type=int)
def put_plan_back(number: int) -> None:
    """Bring a removed plan back as it was."""
    from msp import db
    from msp.backup.models import BackupPlan
    from msp.clock import utc_now
    from msp.errors import NotFound
    from msp.flows import backup_plans

    console.use_database()
    with db.begin() as session:
        found = session.get(BackupPlan, number)
        if found is None:
            raise NotFound(f"There was never a backup plan {number}.", advice="See msp backup plan list.")
        backup_plans.put_back(session, found, utc_now(), by="cli")
    click.echo("It is back." if found.enabled else "It is back, and paused as it was.")


@plan.command("token", epilog="Example: msp backup plan token 7")
@click.argument("number", type=int)
@click.option("--withdraw", is_flag=True, help="Let the token be worth nothing.")
def plan_token(number: int, withdraw: bool) -> None:
    """Print a new token with which the backup job says over HTTP that it has written; the one before ends.

    The job sends POST /api/v1/backups/NUMBER/written with the header Authorization: Bearer TOKEN.
    """
    from msp import db
    from msp.backup import plan_changes, plans

    console.use_database()
    with db.begin() as session:
        found = plans.by_id(session, number)
        if withdraw:
            plan_changes.withdraw_token(session, found, by="cli")
            token = "The token is worth nothing any more."  # noqa: S105  a sentence
        else:
            token = plan_changes.give_token(session, found, by="cli")
    click.echo(token)
