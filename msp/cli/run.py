"""`msp run`: a playbook on hosts, now, in this process."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from msp.cli.run_recorded import Recorded
    from msp.remote.ledger import Ledger
    from msp.remote.plan import Plan
    from msp.remote.run_certificates import RunCertificates
    from msp.remote.runner import Report
    from msp.remote.target import Target
    from msp.secret import Secret
    from msp.settings import Settings

EPILOG = """\b
Exit status: 0 all hosts ok, 1 some failed, 2 the request cannot mean what it says, 3 what happened on some host
is unknown, 4 refused by contract.

\b
Example:
  msp run free-disk-space --hosts hosts.txt --param path=/var/tmp --param limit_kb=500000
  where hosts.txt holds lines such as
  srv-1 10.0.0.5 22 root key=/root/.ssh/id_ed25519 hostkey="ssh-ed25519 AAAA..."
"""


@click.command(epilog=EPILOG)
@click.argument("playbook")
@click.option("--hosts", "hosts", type=click.Path(), help="List of hosts, a line each; see the example.")
@click.option("--inventory", type=click.Path(), help="Ansible inventory (INI, YAML) or OpenSSH config instead.")
@click.option("--known-hosts", type=click.Path(), help="known_hosts file that pins the hosts of --inventory.")
@click.option("--limit", multiple=True, metavar="HOST", help="Only this host of the list; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="One JSON line for every host and step as it happens.")
@click.option("--rendered", is_flag=True, help="With --json: the scripts as sent, without secrets.")
@click.option("--output", is_flag=True, help="Show what the steps print also when they succeed.")
@click.option("--parallel", type=click.IntRange(1, 5000), help="Hosts at once.")
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter; may be repeated.")
@click.option("--timeout", type=click.FloatRange(0.1), help="Seconds for a step, unless the playbook says.")
@click.option("--connect-timeout", type=click.FloatRange(0.1), help="Seconds for connecting and logging in.")
@click.option("--ticket", type=int, help="Ticket whose contract must allow it.")
@click.option("--break-glass", metavar="REASON", help="Do it without a ticket; the reason goes into the evidence.")
@click.option(
    "--spool", type=click.Path(), metavar="FOLDER", help="Keep output longer than 128 KB whole, in files there."
)
@click.option("--spool-mb", type=click.IntRange(1), default=1024, show_default=True, help="What --spool may fill.")
@click.option("--pictures", type=click.Path(), metavar="FOLDER", help="Keep pictures of screens as files there.")
@click.option("--dry-run", is_flag=True, help="Probe and show what would be done; change nothing.")
def run(
    playbook: str,
    hosts: str | None,
    inventory: str | None,
    known_hosts: str | None,
    limit: tuple[str, ...],
    as_json: bool,
    rendered: bool,
    output: bool,
    parallel: int | None,
    params: tuple[str, ...],
    timeout: float | None,
    connect_timeout: float | None,
    ticket: int | None,
    break_glass: str | None,
    spool: str | None,
    spool_mb: int,
    pictures: str | None,
    dry_run: bool,
) -> None:
    """Run PLAYBOOK (a file, or the name of one shipped) on hosts and wait for every one of them."""
    from msp import console
    from msp.standby import client

    if (status := client.hand_over(console.settings().data, console.main.typed)) is not None:
        click.get_current_context().exit(status)

    import gc
    import time
    from secrets import token_hex

    gc.disable()  # until the modules are read: what they make stays
    from msp.remote import quick_asyncssh

    quick_asyncssh.load()  # before anything else reads it whole

    from msp.cli import run_output
    from msp.errors import Conflict, Misconfigured, NotFound
    from msp.redact import Redactor
    from msp.remote.ledger import MemoryLedger
    from msp.remote.outcome import EXIT_STATUS
    from msp.remote.spool import MEGABYTE, Spool

    try:
        plan, targets, recorded = _prepared(
            playbook, hosts, inventory, known_hosts, limit, params, timeout, connect_timeout, ticket, break_glass,
            dry_run=dry_run, parallel=parallel,
        )  # fmt: skip
    except (NotFound, Conflict) as error:  # exit status 1 is kept for hosts that failed
        raise Misconfigured(error.what, advice=error.advice) from error
    refused = recorded.refused if recorded else {}
    listener = (
        run_output.json_lines(rendered=rendered)
        if as_json
        else run_output.people(len(targets), dry_run=dry_run, output=output)
    )
    if pictures is not None:
        from msp.cli import run_pictures

        listener = run_pictures.keeping(run_pictures.folder_for(pictures), listener)
    redactor, kept = Redactor(), None
    if spool is not None:
        kept = Spool(Path(spool), spool_mb * MEGABYTE, redactor)
        kept.open()
    began = time.monotonic()
    report = drive(
        plan,
        targets,
        recorded.ledger if recorded else MemoryLedger(keep=False, mark=token_hex(6)),
        parallel=parallel,
        dry_run=dry_run,
        listener=listener,
        window=lambda target: refused.get(target.name),
        run={"id": recorded.run_id} if recorded else None,
        redactor=redactor,
        spool=kept,
    )
    if recorded:
        recorded.finish(report)
    click.echo(run_output.summary(report, len(targets), time.monotonic() - began), err=as_json)
    click.get_current_context().exit(EXIT_STATUS.get(report.state, 1))


def _prepared(
    playbook: str,
    hosts: str | None,
    inventory: str | None,
    known_hosts: str | None,
    limit: tuple[str, ...],
    params: tuple[str, ...],
    timeout: float | None,
    connect_timeout: float | None,
    ticket: int | None,
    break_glass: str | None,
    *,
    dry_run: bool,
    parallel: int | None,
) -> tuple["Plan", "list[Target]", "Recorded | None"]:
    """Return what is to be done where, decided and stored if there is an installation. Nothing is contacted."""
    from msp import console
    from msp.errors import Misconfigured
    from msp.remote import catalogue, parameters
    from msp.remote import inventory as lists
    from msp.remote import plan as plans

    if (hosts is None) == (inventory is None):
        raise Misconfigured("No list of hosts is given.", advice="Give either --hosts FILE or --inventory FILE.")
    if ticket is not None and break_glass is not None:
        raise Misconfigured("A ticket and a broken glass exclude each other.", advice="Give --ticket or --break-glass.")
    if break_glass is not None and not break_glass.strip():
        raise Misconfigured("Breaking the glass needs a reason.", advice='Say why: --break-glass "server down".')
    settings = console.settings()
    secret = Secrets(settings)
    found = catalogue.find(playbook, settings.playbooks)
    plan = plans.build(
        _limited(found, connect_timeout),
        parameters.split(params),
        secret=secret,
        include=catalogue.includer(settings.playbooks, found.folder),
        step_timeout=_seconds(timeout),
    )
    certificates = _certificates(settings, hosts)
    if hosts is not None:
        targets = lists.read_hosts(Path(hosts), secret=secret, certificates=certificates)
    else:
        pins = Path(known_hosts) if known_hosts else None
        targets = lists.read_inventory(Path(str(inventory)), secret=secret, known_hosts=pins)
    if limit:
        unknown = set(limit) - {target.name for target in targets}
        if unknown:
            raise Misconfigured(f"The list has no host {', '.join(sorted(unknown))}.", advice="Check --limit.")
        targets = [target for target in targets if target.name in limit]
    if settings.database or (settings.data / "msp.db").exists():
        from msp.cli.run_recorded import record
        from msp.remote import whole

        plan = whole.bound(plan, strict=False)  # what is recorded, and decided, covers the files that are copied
        asked = {"ticket_id": ticket, "break_glass": break_glass, "dry_run": dry_run, "parallel": parallel}
        recorded = record(plan, targets, **asked)  # type: ignore[arg-type]
        if certificates is not None:
            longest = max((step.timeout for step in plan.steps), default=None)
            certificates.serve(recorded.run_id, recorded.client_id, longest)
        return plan, targets, recorded
    if ticket is not None:
        raise Misconfigured("There is no installation here, so there is no ticket.", advice="Run msp init.")
    click.echo("No installation here: nothing of this run is recorded.", err=True)
    return plan, targets, None


def _certificates(settings: "Settings", hosts: str | None) -> "RunCertificates | None":
    """Return the source of certificates for a list that asks for one, if there is an installation to make them."""
    installed = settings.database or (settings.data / "msp.db").exists()
    if hosts is None or not installed or not Path(hosts).is_file():
        return None
    if b"credential=ca" not in Path(hosts).read_bytes():
        return None
    from msp.cli.run_recorded import actor
    from msp.remote.run_certificates import RunCertificates
    from msp.vault import Vault

    return RunCertificates(Vault.from_file(settings.key_path), 0, actor())


def _seconds(number: float | None) -> Any:
    from datetime import timedelta

    return None if number is None else timedelta(seconds=number)


def _limited(found: Any, connect_timeout: float | None) -> Any:
    """Return the playbook with another connect timeout, if one is given."""
    if connect_timeout is None:
        return found
    from dataclasses import replace

    limits = found.playbook.limits.model_copy(update={"connect": _seconds(connect_timeout)})
    return replace(found, playbook=found.playbook.model_copy(update={"limits": limits}))


class Secrets:
    """Opens references to secrets: vault:, bao:, env:, file:. Opens the database for the first kind only."""

    def __init__(self, settings: "Settings", client_id: int = 0) -> None:
        self._settings, self._client_id = settings, client_id

    def __call__(self, reference: str) -> "Secret":
        """Return the secret; raises Misconfigured or NotFound."""
        import os

        from msp import log
        from msp.errors import Misconfigured
        from msp.secret import Secret

        kind, _, name = reference.partition(":")
        if kind == "vault":
            from msp import console, db
            from msp.vault import Vault

            console.use_database()
            with db.begin() as session:
                return Vault.from_file(self._settings.key_path).get(session, name, client_id=self._client_id)
        if kind == "bao":
            from msp.secret_store import openbao
            from msp.secret_store.reference import parse

            return openbao.connected(openbao.Account.of(self._settings)).get(parse(reference)).value
        if kind == "env":
            if name not in os.environ:
                raise Misconfigured(f"The environment has no variable {name}.", advice="Set it, or use vault:NAME.")
            value = os.environ[name]
        elif kind == "file":
            try:
                value = Path(name).expanduser().read_text("utf-8").rstrip("\n")
            except (OSError, UnicodeDecodeError) as error:
                raise Misconfigured(f"The secret file {name} cannot be read: {error}.") from error
        else:
            raise Misconfigured(
                "A secret is given by reference.", advice="Write vault:NAME, env:VARIABLE or file:PATH."
            )
        log.redactor.learn([value])
        return Secret(value)


def drive(plan: "Plan", targets: "list[Target]", ledger: "Ledger", **options: Any) -> "Report":
    """Run a plan to its end in this process; Ctrl-C cancels it, and a second one gives up."""
    import asyncio
    import importlib
    import signal

    from msp import memory, open_files
    from msp.remote.runner import Runner

    # before the first host, so that no deadline runs while modules are read
    ways = {name: _transport(name) for name in {target.transport for target in targets}}

    async def whole() -> "Report":
        opened: dict[str, Any] = {}

        def transport(name: str) -> Any:
            if name not in opened:
                opened[name] = ways[name]()
            return opened[name]

        runner: Runner = Runner(plan, targets, ledger, transport, **options)
        loop = asyncio.get_running_loop()

        def interrupted() -> None:
            click.echo("Cancelling; once more gives up at once.", err=True)
            loop.remove_signal_handler(signal.SIGINT)
            runner.cancel("Cancelled from the keyboard.")

        loop.add_signal_handler(signal.SIGINT, interrupted)
        try:
            return await runner.run()
        finally:
            for one in opened.values():
                await one.close()

    memory.settle()
    open_files.allow_many()
    try:
        loops = importlib.import_module("uvloop")  # a faster event loop, if somebody installed it
    except ImportError:
        return asyncio.run(whole())
    report: Report = loops.run(whole())
    return report


def _transport(name: str) -> Any:
    """Return the class of a transport; ours without reading the metadata of every installed package."""
    if name == "ssh":
        from msp.remote.ssh import SshTransport

        return SshTransport
    if name == "local":
        from msp.remote.local import LocalTransport

        return LocalTransport
    from msp import plugins

    return plugins.load("msp.transports", name)
