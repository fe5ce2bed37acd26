"""msp ticket: the queue by time left, and the daily acts on a ticket."""

import click

from msp import console


@click.group(epilog="Example: msp ticket list --client alfa")
def ticket() -> None:
    """Tickets by time left; open, reply, move."""


@ticket.command("list", epilog="Example: msp ticket list --json")
@click.option("--client", "client_key", help="Key of the client (default: all).")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000))
@click.option("--json", "as_json", is_flag=True, help="One JSON line per ticket.")
def list_tickets(client_key: str | None, limit: int, as_json: bool) -> None:
    """List open tickets, the one with the least time left first."""
    from msp import db
    from msp.clock import utc_now
    from msp.contracts import agreements
    from msp.desk import queue

    console.use_database()
    with db.read() as session:
        client_id = agreements.client_by_key(session, client_key).id if client_key else None
        rows = queue.rows(session, queue.Filter(client_ids=[client_id] if client_id else None), limit=limit)
        now = utc_now()
        if as_json:
            for row in rows:
                console.print_json(row.as_dict(now))
        else:
            console.print_table(
                ("#", "priority", "subject", "client", "line", "state", "time left", "due (UTC)"),
                [
                    (r.id, r.priority, r.subject, r.client, r.line, r.state, r.time_left_words(now), r.due_words())
                    for r in rows
                ],
            )


@ticket.command("open", epilog="Example: msp ticket open --client alfa 'Disk full' --asset srv-fs1 --symptom disk_full")
@click.argument("subject")
@click.option("--client", "client_key", required=True, help="Key of the client.")
@click.option("--priority", default="P3", show_default=True)
@click.option("--kind", default="incident", type=click.Choice(["incident", "request", "problem", "change"]))
@click.option("--asset", "asset_name", help="Name of the configuration item.")
@click.option("--symptom", help="Word that suggests a playbook, such as disk_full.")
@click.option("--text", default="", help="What was said.")
def open_ticket(
    subject: str, client_key: str, priority: str, kind: str, asset_name: str | None, symptom: str | None, text: str
) -> None:
    """Open a ticket taken by phone: first response is met at once."""
    from msp import db
    from msp.assets import inventory
    from msp.contracts import agreements
    from msp.desk import tickets

    console.use_database()
    with db.begin() as session:
        client = agreements.client_by_key(session, client_key)
        asset = inventory.by_name(session, client.id, asset_name) if asset_name else None
        opening = tickets.Opening(
            client_id=client.id,
            subject=subject,
            priority=priority,
            kind=kind,
            channel="phone_by_agent",
            text=text,
            asset_id=asset.id if asset else None,
            symptom=symptom,
        )
        opened = tickets.open_ticket(session, opening, by="cli")
        due = opened.resolution_due_at
        click.echo(f"Ticket {opened.id}, due {due:%Y-%m-%d %H:%M} UTC." if due else f"Ticket {opened.id}, no clock.")


@ticket.command(epilog="Example: msp ticket reply 12 'The disk is free again.'")
@click.argument("ticket_id", type=int)
@click.argument("text")
@click.option("--internal", is_flag=True, help="A note that the client does not see.")
def reply(ticket_id: int, text: str, internal: bool) -> None:
    """Answer the client on ticket TICKET_ID."""
    from msp import db
    from msp.desk import tickets

    console.use_database()
    with db.begin() as session:
        (tickets.note if internal else tickets.reply)(session, ticket_id, text, by="cli")
    click.echo("Noted." if internal else "Replied.")


@ticket.command(epilog="Example: msp ticket move 12 resolved")
@click.argument("ticket_id", type=int)
@click.argument("state")
@click.option("--text", default="", help="Why.")
def move(ticket_id: int, state: str, text: str) -> None:
    """Change the state of ticket TICKET_ID: open, waiting_client, scheduled, resolved, closed, cancelled."""
    from msp import db
    from msp.desk import tickets

    console.use_database()
    with db.begin() as session:
        tickets.move(session, ticket_id, state, by="cli", text=text)
    click.echo(f"Ticket {ticket_id} is {state}.")
