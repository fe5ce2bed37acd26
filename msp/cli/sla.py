"""msp sla: evaluate batches of clock questions, explain a ticket's due times."""

from pathlib import Path
from typing import Any

import click

from msp.errors import Misconfigured, NotFound


@click.group(epilog="Example: msp sla eval cases.json -o results.json")
def sla() -> None:
    """Service level clocks: evaluate cases, explain a ticket."""


@sla.command("eval", epilog="Example: msp sla eval cases.json -o results.json")
@click.argument("cases", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write here, not to the screen.")
def evaluate_cases(cases: str, output: Path | None) -> None:
    """Answer every question in CASES, a JSON file (-: standard input), in the same order.

    A case that cannot be answered has an "error" in place of its result and stops no other. The database is not used.
    """
    import json

    from msp.contracts.evaluate import evaluate

    results = evaluate(_read(cases))
    lines = ",\n".join(json.dumps(result, ensure_ascii=False) for result in results["results"])
    document = f'{{"results": [\n{lines}\n]}}\n'.encode("utf-8", "backslashreplace")  # \ud800 is good JSON
    if output is None:
        click.echo(document, nl=False)
        return
    try:
        output.write_bytes(document)
    except OSError as error:
        raise Misconfigured(f"{output} cannot be written: {error.strerror}.") from None
    failed = sum("error" in result for result in results["results"])
    click.echo(f"{len(results['results'])} cases answered, {failed} with an error, in {output}.", err=True)


@sla.command(epilog="Example: msp sla explain 1042")
@click.argument("ticket")
@click.option("--cases", type=click.Path(dir_okay=False, allow_dash=True), help="Take TICKET from this batch instead.")
def explain(ticket: str, cases: str | None) -> None:
    """Say why each clock of TICKET is due when it is: clause, target, spans counted, pauses, changes."""
    if cases is None:
        _explain_stored(ticket)
        return
    from msp.contracts import explain as reckoning
    from msp.contracts.evaluate import Calendars, clocks_of_case
    from msp.contracts.fields import Fields

    batch = Fields(_read(cases), "")
    calendars = Calendars(batch.get("calendars", {}))
    for case in batch.items("cases"):
        if isinstance(case, dict) and str(case.get("id")) == ticket:
            clocks = clocks_of_case(case, calendars)
            click.echo(reckoning.text(clocks, calendars[case["calendar"]]))
            return
    raise NotFound(f"There is no case {ticket!r} in {cases}.")


def _explain_stored(number: str) -> None:
    from msp import console, db
    from msp.clock import utc_now
    from msp.desk import clock, tickets

    if not number.lstrip("#").isdecimal():
        raise Misconfigured(f"{number!r} is not the number of a ticket.", advice="For a case of a batch give --cases.")
    console.use_database()
    with db.read() as session:
        view = clock.view(session, tickets.get(session, int(number.lstrip("#"))), utc_now())
    click.echo(view.text if view else "The contract of this ticket promises no times.")


def _read(name: str) -> Any:
    import json

    try:
        with click.open_file(name, "rb") as file:
            return json.loads(file.read())
    except OSError as error:
        raise Misconfigured(f"{name} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise Misconfigured(f"{name} is not JSON: {error}.", advice="Check it with python -m json.tool.") from None
