"""`msp billing act`: acts of a month, from closing to the file that goes to the client."""

from pathlib import Path
from typing import Any

import click

from msp import console


@click.group(epilog="Example: msp billing act close A-17 2026-03")
def act() -> None:
    """Acceptance acts: one for each contract and month."""


@act.command("list", epilog="Example: msp billing act list --contract A-17 --json")
@click.option("--contract", "reference", help="Number of the contract (default: all).")
@click.option("--period", help="Month, such as 2026-03.")
@click.option("--json", "as_json", is_flag=True, help="One JSON line per act.")
def list_acts(reference: str | None, period: str | None, as_json: bool) -> None:
    """List acts, the newest month first."""
    from sqlalchemy import select

    from msp import db
    from msp.contracts.agreements import contract_by_reference
    from msp.contracts.models import Act, Contract

    console.use_database()
    with db.read() as session:
        query = select(Act, Contract.reference).join(Contract, Contract.id == Act.contract_id)
        if reference:
            query = query.where(Act.contract_id == contract_by_reference(session, reference).id)
        if period:
            query = query.where(Act.period == period)
        rows = session.execute(query.order_by(Act.period.desc(), Act.id)).all()
        if as_json:
            for found, number in rows:
                console.print_json(_plain(found, number))
            return
        cells = [(a.id, number, a.period, a.state, a.net, a.vat, a.gross, a.currency) for a, number in rows]
        console.print_table(("#", "contract", "month", "state", "net", "VAT", "to pay", "currency"), cells)


@act.command(epilog="Example: msp billing act close A-17 2026-03")
@click.argument("contract")
@click.argument("period")
@click.option("--json", "as_json", is_flag=True, help="One JSON line.")
def close(contract: str, period: str, as_json: bool) -> None:
    """Make the act of CONTRACT for the month PERIOD, such as 2026-03.

    Fees, confirmed entries, tickets and hours left are frozen in it. Closing a closed month again makes nothing.
    """
    from msp import db
    from msp.contracts.agreements import contract_by_reference
    from msp.flows import billing

    settings = console.use_database()
    provider = billing.Provider(settings.provider, settings.provider_details)
    with db.begin() as session:
        found = contract_by_reference(session, contract)
        made = billing.close_month(session, found, period, by="cli", provider=provider)
        if as_json:
            console.print_json(_plain(made, contract) if made else None)
        elif made is None:
            click.echo(f"Nothing to do: {period} of {contract} is closed already, or there is nothing to bill.")
        else:
            click.echo(f"Act {made.id}: {made.gross} {made.currency} for {period}, {len(made.lines)} lines.")


@act.command(epilog="Example: msp billing act show 3")
@click.argument("act_id", type=int)
@click.option("--json", "as_json", is_flag=True, help="The whole act as one JSON line.")
def show(act_id: int, as_json: bool) -> None:
    """Show act ACT_ID: every line with its reason and its evidence, then the totals."""
    from msp import db
    from msp.contracts.outputs import written

    console.use_database()
    with db.read() as session:
        stored, document = _document(session, act_id)
        if as_json:
            click.echo(written(document, "json"), nl=False)
            return
        click.echo(f"{document.number}, {document.client}, {stored.state}")
        cells = [
            (row.number, row.on, row.reason, row.ticket, row.evidence, document.rate(row.vat_rate), row.amount)
            for row in document.rows
        ]
        console.print_table(("#", "date", "what and why", "ticket", "evidence", "VAT", "amount"), cells)
        vat = "no VAT" if document.vat is None else f"VAT {document.vat}"
        click.echo(f"net {document.net}, {vat}, to pay {document.gross} {document.currency}")


@act.command(epilog="Example: msp billing act export 3 --format pdf -o act.pdf")
@click.argument("act_id", type=int)
@click.option("--format", "form", default="pdf", show_default=True, type=click.Choice(["pdf", "xlsx", "csv", "json"]))
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Write here instead of standard output.")
def export(act_id: int, form: str, output: str | None) -> None:
    """Write act ACT_ID as a file. The same act gives the same bytes every time."""
    from msp import db
    from msp.contracts.outputs import written
    from msp.errors import Misconfigured

    console.use_database()
    with db.read() as session:
        _, document = _document(session, act_id)
    raw = written(document, form)
    if not output:
        click.echo(raw, nl=False)
        return
    try:
        Path(output).write_bytes(raw)
    except OSError as error:
        raise Misconfigured(f"{output} cannot be written: {error.strerror}.", advice="Name another file.") from error
    click.echo(f"Wrote {output}, {len(raw)} bytes.")


@act.command(epilog="Example: msp billing act send 3")
@click.argument("act_id", type=int)
def send(act_id: int) -> None:
    """Show act ACT_ID to the client and ask for acceptance."""
    from msp import db
    from msp.contracts import act_states
    from msp.contracts.outputs.act_json import digest

    console.use_database()
    with db.begin() as session:
        stored, document = _document(session, act_id)
        act_states.send(session, stored, by="cli", digest=digest(document))
    click.echo(f"Act {act_id} is sent.")


def _document(session: Any, act_id: int) -> tuple[Any, Any]:
    from msp.contracts.models import Act
    from msp.errors import NotFound
    from msp.flows import billing

    stored = session.get(Act, act_id)
    if stored is None:
        raise NotFound(f"There is no act {act_id}.", advice="List them with msp billing act list.")
    return stored, billing.document_of(session, stored)


def _plain(stored: Any, reference: str) -> dict[str, Any]:
    money = {name: None if (value := getattr(stored, name)) is None else str(value) for name in ("net", "vat", "gross")}
    head = {name: getattr(stored, name) for name in ("id", "period", "state", "currency")}
    return {**head, "contract": reference, **money, "lines": len(stored.lines)}
