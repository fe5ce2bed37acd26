"""The `msp` command: one group that imports a command only when it is called, and explains every error.

Exit statuses: 0 done; 1 done, and the answer is no (a failed host, a broken chain); 2 the request cannot mean
what it says; 3 something is in doubt and a person must decide; 4 refused by contract or role.
"""

import importlib
import sys
from collections.abc import Iterable
from typing import Any

import click

from msp.errors import MspError

#: name -> (where the command is, one line of help). The order is that of `msp --help`.
COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("msp.cli.install:init", "Create the database, the key file and the first administrator."),
    "upgrade": ("msp.cli.install:upgrade", "Bring the database to this version; copies it first."),
    "doctor": ("msp.cli.install:doctor", "Check the whole installation and say what to mend."),
    "settings": ("msp.cli.settings:settings", "Explain and check the settings."),
    "serve": ("msp.cli.serve:serve", "Serve the web pages (--with-worker: and do the work)."),
    "worker": ("msp.cli.serve:worker", "Drive runs, restore tests and clocks."),
    "console": ("msp.cli.console:serve_consoles", "Serve terminals and screens in a process of their own."),
    "demo": ("msp.cli.demo:demo", "Play the closed loop with real hosts on this machine."),
    "user": ("msp.cli.people:user", "Add people, give roles, reset log-ins."),
    "client": ("msp.cli.contracts:client", "Clients, their sites and contacts."),
    "contract": ("msp.cli.contracts:contract", "Contracts: show, decide an action, check terms."),
    "sla": ("msp.cli.sla:sla", "Service level clocks: evaluate cases, explain a ticket."),
    "billing": ("msp.cli.billing:billing", "Billing rules: evaluate cases."),
    "ticket": ("msp.cli.desk:ticket", "Tickets by time left; open, reply, move."),
    "asset": ("msp.cli.assets:asset", "Configuration items, host keys and impact."),
    "playbook": ("msp.cli.playbook:playbook", "Check, show and start playbooks."),
    "run": ("msp.cli.run:run", "Run a playbook on hosts."),
    "vault": ("msp.cli.vault:vault", "Store, use and rotate secrets; never shows them by accident."),
    "ca": ("msp.cli.ca:ca", "SSH certificates of our own: make, show, take back."),
    "backup": ("msp.cli.backup:backup", "Restore tests: verify, manifest, plans."),
    "dispatch": ("msp.cli.dispatch:dispatch", "Visits: solve, check, slots, explain."),
    "network": ("msp.cli.network:network", "Configurations of routers and switches: versions and differences."),
    "evidence": ("msp.cli.evidence:evidence", "Verify and export the evidence chain."),
}


class LazyGroup(click.Group):
    """Knows every command by name and help line; imports one when it is used."""

    def __init__(self, *args: Any, commands_at: dict[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._at = commands_at
        self.typed: tuple[str, ...] = ()  # what was typed to start this process; empty if a program calls the group

    def main(self, args: Any = None, *more: Any, **named: Any) -> Any:
        """Run the group; remember the words if they are those of this process."""
        self.typed = tuple(sys.argv[1:]) if args is None else ()
        return super().main(args, *more, **named)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._at)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self._at:
            return None
        module, _, attribute = self._at[name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, help_line) in self._at.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MspError as error:
            complain(error)
            ctx.exit(error.exit_status)
        except BrokenPipeError:
            sys.stderr.close()
            ctx.exit(0)


def complain(error: MspError) -> None:
    """Print an error as two lines: what happened, and what to do."""
    click.echo(f"msp: {error.what}", err=True)
    if error.advice:
        click.echo(f"     {error.advice}", err=True)


@click.group(
    cls=LazyGroup,
    commands_at=COMMANDS,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": None},
)
@click.option("--config", type=click.Path(), help="Settings file (default: MSP_CONFIG, then ./msp.toml).")
@click.version_option(package_name="msp-toolkit", prog_name="msp")
@click.pass_context
def main(ctx: click.Context, config: str | None) -> None:
    """msp-toolkit: the contract runs the work.

    Without a command, `msp` says what needs attention now.
    """
    ctx.obj = {"config": config}
    if ctx.invoked_subcommand is None:
        attention = importlib.import_module("msp.cli.attention")
        attention.show()


def settings() -> Any:
    """Return the settings of this command (from --config, msp.toml and MSP_*)."""
    from pathlib import Path

    from msp import settings as module

    ctx = click.get_current_context(silent=True)
    config = (ctx.find_root().obj or {}).get("config") if ctx else None
    return module.load(Path(config) if config else None)


def use_database() -> Any:
    """Put the configured database in use and return the settings; the schema must be of this version."""
    from msp import db
    from msp.migrations import require_current

    loaded = settings()
    require_current(db.use(loaded.database_url))
    return loaded


def print_json(value: Any) -> None:
    """Print one JSON line, so that output can be read by programs line by line."""
    import json

    click.echo(json.dumps(value, ensure_ascii=False, default=str))


def print_table(columns: Iterable[str], rows: Iterable[Iterable[Any]], *, title: str = "") -> None:
    """Print a table: with rules on a terminal, as tab-separated lines when piped."""
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        click.echo("\t".join(columns))
        for row in cells:
            click.echo("\t".join(cell.replace("\t", " ").replace("\n", " ") for cell in row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, header_style="bold")
    for column in columns:
        table.add_column(column)
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)
