"""msp contract covered, ending and holidays: what stands behind an asset, what ends, which days are closed."""

from datetime import timedelta
from pathlib import Path

import click

from msp import console


@click.command("covered", epilog="Example: msp contract covered --asset srv-fs1 --client alfa")
@click.option("--asset", "asset_name", required=True, help="Name of the configuration item.")
@click.option("--client", "client_key", help="Key of the client, where two clients have an item of this name.")
@click.option("--at", "instant", help="Instant with its zone (default: now).")
@click.option("--json", "as_json", is_flag=True, help="As one JSON line.")
def covered(asset_name: str, client_key: str | None, instant: str | None, as_json: bool) -> None:
    """Say whether an asset is covered, by which line, and what may be done on it; exit status 1 if it is not."""
    from sqlalchemy import select

    from msp import db
    from msp.assets.models import ConfigurationItem
    from msp.clock import utc_now
    from msp.contracts import agreements
    from msp.contracts.fields import parse_instant
    from msp.errors import Misconfigured, NotFound
    from msp.flows import covering

    console.use_database()
    at = parse_instant(instant, "--at") if instant else utc_now()
    with db.read() as session:
        query = select(ConfigurationItem).where(ConfigurationItem.name == asset_name)
        if client_key:
            query = query.where(ConfigurationItem.client_id == agreements.client_by_key(session, client_key).id)
        items = list(session.scalars(query))
        if not items:
            raise NotFound(f"There is no asset {asset_name!r}.", advice="List them with msp asset list.")
        if len(items) > 1:
            raise Misconfigured(f"{len(items)} clients have an asset {asset_name!r}.", advice="Name one with --client.")
        found = covering.of(session, items[0], at, actor="cli")
        if as_json:
            console.print_json(found.as_dict())
        else:
            for line in _words(found.as_dict()):
                click.echo(line)
    if not found.covered:
        click.get_current_context().exit(1)


def _words(found: dict[str, object]) -> list[str]:
    line, actions = found["line"], found["actions"]
    if found["contract"] is None:
        return [f"{found['asset']} is not covered: its client has no contract in force."]
    head = f"contract {found['contract']}, version {found['version']}"
    if not found["covered"] or not isinstance(line, dict):
        return [f"{found['asset']} is not covered: no line of {head} takes it."]
    lines = [f"{found['asset']} is covered by line {line['id']} ({line['name']}) of {head}."]
    if isinstance(actions, dict):
        for name, said in actions.items():
            clause = f" by clause {said['clause']}" if said["clause"] else ""
            lines.append(f"  {name}: {said['effect']}{clause}: {said['text']}")
    return lines


@click.command("ending", epilog="Example: msp contract ending --days 90")
@click.option("--days", default=60, show_default=True, type=click.IntRange(1, 3650), help="How far ahead to look.")
@click.option("--json", "as_json", is_flag=True, help="One JSON line for each.")
def ending(days: int, as_json: bool) -> None:
    """List contracts that end and blocks that expire, and what loses cover."""
    from msp import db
    from msp.clock import utc_now
    from msp.flows import renewals

    console.use_database()
    with db.read() as session:
        for one in renewals.ending(session, utc_now(), within=timedelta(days=days)):
            if not as_json:
                click.echo("\n  ".join(one.sentences()))
                continue
            console.print_json(
                {
                    "kind": one.kind,
                    "contract": one.contract.reference,
                    "client": one.client.key,
                    "ends_on": one.ends_on.isoformat(),
                    "days": one.days,
                    "minutes": one.minutes,
                    "assets": one.assets,
                    "open_tickets": one.open_tickets,
                    "plans": one.plans,
                }
            )


@click.command(
    "holidays", epilog="Example: msp contract holidays --country DE --subdivision BE --year 2027 --into terms.json"
)
@click.option("--country", required=True, help="Country as ISO 3166-1 says it, such as DE or RU.")
@click.option("--subdivision", help="Part of the country with holidays of its own, such as BE for Berlin.")
@click.option("--year", required=True, type=int, help="The year.")
@click.option(
    "--into", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Terms to add them to, a JSON file."
)
@click.option("--calendar", help="Name of the calendar in the terms (default: the only one).")
@click.option("--json", "as_json", is_flag=True, help='As {"holidays": [...], "rows": [...]}, to review and paste.')
def holidays(
    country: str, subdivision: str | None, year: int, into: Path | None, calendar: str | None, as_json: bool
) -> None:
    """List the public holidays of a year to review, or add them to a terms document that you then sign.

    Nothing is ever taken over by itself: a contract counts the days that stand in its terms. Moved working days are
    not in the list; write them as overrides.
    """
    import json

    from msp.cli.billing import load_json
    from msp.contracts import public_holidays
    from msp.errors import Misconfigured

    rows = public_holidays.of_year(country, subdivision, year)
    if into is None:
        if as_json:
            days = [row.day.isoformat() for row in rows]
            console.print_json({"holidays": days, "rows": [row.as_dict() for row in rows]})
        else:
            shown = [row.as_dict() for row in rows]
            console.print_table(("day", "weekday", "name"), [tuple(row.values()) for row in shown])
        return
    document = load_json(str(into), exact=False)
    if not isinstance(document, dict):
        raise Misconfigured(f"{into} holds no terms.", advice="Name a terms document; see msp contract check.")
    changed, new = public_holidays.merged(document, calendar, rows)
    into.write_text(json.dumps(changed, ensure_ascii=False, indent=2) + "\n", "utf-8")
    click.echo(f"{new} of {len(rows)} days added to {into}. Review them, then msp contract check {into}.")
