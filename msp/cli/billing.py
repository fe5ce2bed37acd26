"""`msp billing`: the rules that turn work into money, for cases in a file, and acts of a month."""

import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from msp.console import LazyGroup


@click.group(
    cls=LazyGroup,
    commands_at={
        "eval": ("msp.cli.billing:evaluate", "Evaluate billing cases of a file."),
        "act": ("msp.cli.billing_acts:act", "Acts of a month: list, close, show, export, send."),
    },
    epilog="Example: msp billing eval cases.json -o results.json",
)
def billing() -> None:
    """Billing rules and acts."""


@click.command("eval", epilog="Example: msp billing eval cases.json -o results.json")
@click.argument("cases", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Write here instead of standard output.")
def evaluate(cases: str, output: str | None) -> None:
    """Evaluate the billing cases in CASES (a JSON file, or - for standard input).

    CASES holds {"cases": [{"id", "group", "input"}]}; the answer is {"results": [{"id", ...}]} in the same order.
    A case that cannot be evaluated gives {"id", "error"} and does not stop the rest.
    """
    import json

    from msp.contracts.billing_cases import evaluate as evaluate_cases
    from msp.errors import Misconfigured

    results = json.dumps(evaluate_cases(load_json(cases), _debit_at_once), ensure_ascii=False, indent=1) + "\n"
    raw = results.encode("utf-8", "backslashreplace")  # half a surrogate pair goes out as the escape it came in as
    if not output:
        click.echo(raw, nl=False)
        return
    try:
        Path(output).write_bytes(raw)
    except OSError as error:
        raise Misconfigured(f"{output} cannot be written: {error.strerror}.", advice="Name another file.") from error


def _debit_at_once(balance_minutes: int, entries_minutes: Any) -> tuple[int, int]:
    from msp.contracts.block_trial import debit_at_once  # brings the database in: only for concurrent cases

    return debit_at_once(balance_minutes, entries_minutes)


def load_json(name: str, *, exact: bool = True) -> Any:
    """Return the JSON value of a file (- is standard input); exact: fractions are Decimal, not float."""
    import json
    from decimal import Decimal

    from msp.errors import Misconfigured

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not a number of JSON")

    try:
        raw = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return json.loads(raw.decode("utf-8-sig"), parse_float=Decimal if exact else float, parse_constant=refuse)
    except OSError as error:
        raise Misconfigured(f"{name} cannot be read: {error.strerror}.", advice="Name another file.") from error
    except (ValueError, RecursionError) as error:
        raise Misconfigured(f"{name} is not JSON: {error}.", advice="Check the file with a JSON editor.") from error
