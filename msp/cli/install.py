"""msp init, upgrade, doctor: an installation from nothing, to a new version, and its health."""

import click

from msp import console


@click.command(epilog="Example: msp init --admin anna@provider.example")
@click.option("--admin", metavar="EMAIL", help="Log-in of the first administrator.")
@click.option("--password", envvar="MSP_TEST_PASSWORD", hidden=True)
def init(admin: str | None, password: str | None) -> None:
    """Create the database, the key file (mode 0600) and, if asked, the first administrator."""
    from msp import db, evidence, vault
    from msp.errors import Conflict
    from msp.flows import install
    from msp.people import users

    settings = console.settings()
    if admin and password is None:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    if admin:
        users.hash_password(password or "")  # refuse before anything is written
    created = install.prepare(settings)
    click.echo(f"Database {db.without_password(settings.database_url)}: {'ready' if created else 'already there'}.")
    try:
        vault.create_key_file(settings.key_path)
        click.echo(f"Key file {settings.key_path}: created. Keep a copy in a safe; without it no secret opens.")
    except Conflict:
        click.echo(f"Key file {settings.key_path}: already there.")
    with db.begin() as session:
        users.ensure_roles(session)
        if admin:
            name = admin.partition("@")[0]
            users.add(session, email=admin, name=name, password=password or "", roles=["admin"], by="cli")
        if created:
            evidence.record(session, "installation.created", actor="cli", subject=("installation", "1"))
    click.echo("Next: msp serve --with-worker")


@click.command(epilog="Example: msp upgrade")
def upgrade() -> None:
    """Bring the database to this version. An SQLite file is copied first, and put back if a step fails."""
    from msp.flows import install

    settings = console.settings()
    done = install.upgrade(settings)
    if done.before == done.after:
        click.echo("The database is of this version already.")
        return
    if done.copy:
        click.echo(f"Copy from before: {done.copy}")
    click.echo(f"Upgraded from {done.before or 'nothing'} to {done.after}.")


@click.command(epilog="Example: msp doctor --json")
@click.option("--json", "as_json", is_flag=True, help="One JSON line per finding.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check database, key file, workers, queues, disk, clock and evidence; exit 1 if something is wrong."""
    from msp.flows import health

    findings = health.examine(console.settings())
    if as_json:
        for finding in findings:
            console.print_json(finding.as_dict())
    else:
        console.print_table(
            ("", "what", "found", "what to do"), [(f.mark, f.what, f.found, f.advice) for f in findings]
        )
    ctx.exit(0 if all(f.level != "bad" for f in findings) else 1)
