"""`msp billing`: the rules that turn work into money, for cases in a file."""

import sys
from pathlib import Path
from typing import Any, NoReturn

import click


@click.group(epilog="Example: msp billing eval cases.json -o results.json")
def billing() -> None:
    """Billing rules."""


@billing.command("eval", epilog="Example: msp billing eval cases.json -o results.json")
@click.argument("cases", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Write here instead of standard output.")
def evaluate(cases: str, output: str | None) -> None:
    """Evaluate the billing cases in CASES (a JSON file, or - for standard input).

    CASES holds {"cases": [{"id", "group", "input"}]}; the answer is {"results": [{"id", ...}]} in the same order.
    A case that cannot be evaluated gives {"id", "error"} and does not stop the rest.
    """
    import json

    from msp.contracts.billing_cases import evaluate as evaluate_cases

    results = json.dumps(evaluate_cases(load_json(cases), _debit_at_once), ensure_ascii=False, indent=1) + "\n"
    if output:
        Path(output).write_text(results, encoding="utf-8")
    else:
        click.echo(results, nl=False)


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

    raw = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    try:
        return json.loads(raw.decode("utf-8-sig"), parse_float=Decimal if exact else float, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise Misconfigured(f"{name} is not JSON: {error}.", advice="Check the file with a JSON editor.") from error
