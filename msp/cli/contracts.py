"""`msp client` and `msp contract`: whom we serve, what was signed, and what it says of an action."""

from datetime import datetime
from typing import Any

import click

from msp import console
from msp.cli import contracts_cover


@click.group(epilog="Example: msp client list")
def client() -> None:
    """Clients, their sites and contacts."""


@client.command("list", epilog="Example: msp client list --json")
@click.option("--json", "as_json", is_flag=True, help="One JSON line a client.")
def list_clients(as_json: bool) -> None:
    """List clients."""
    from sqlalchemy import select

    from msp import db
    from msp.contracts.models import Client

    console.use_database()
    columns = ("key", "name", "time_zone", "locale")
    with db.read() as session:
        rows = [tuple(row) for row in session.execute(select(*(getattr(Client, name) for name in columns)))]
    _print_rows(columns, sorted(rows), as_json)


@client.command("add", epilog='Example: msp client add alfa --name "Alfa GmbH" --zone Europe/Berlin')
@click.argument("key")
@click.option("--name", required=True, help="Name as printed on documents.")
@click.option("--zone", default="UTC", show_default=True, help="IANA time zone in which its contracts count days.")
@click.option("--locale", default="en", show_default=True, help="Language of what it reads: en or ru.")
def add_client(key: str, name: str, zone: str, locale: str) -> None:
    """Add a client under the short name KEY."""
    from msp import db, evidence
    from msp.contracts import agreements

    console.use_database()
    with db.begin() as session:
        added = agreements.add_client(session, key=key, name=name, time_zone=zone, locale=locale)
        evidence.record(
            session, "client.added", actor="cli", subject=("client", added.id), client_id=added.id, data={"key": key}
        )
    click.echo(
        f"Added {key}. Next: add its contract in the web pages, or its assets with msp asset add --client {key}."
    )


@client.command("show", epilog="Example: msp client show alfa")
@click.argument("key")
@click.option("--json", "as_json", is_flag=True, help="As one JSON line.")
def show_client(key: str, as_json: bool) -> None:
    """Show the client KEY with its sites, contacts and contracts."""
    from sqlalchemy import select

    from msp import db
    from msp.contracts import agreements
    from msp.contracts.models import Contact, Contract, Site

    console.use_database()
    with db.read() as session:
        found = agreements.client_by_key(session, key)
        sites = session.scalars(select(Site).where(Site.client_id == found.id).order_by(Site.name)).all()
        contacts = session.scalars(select(Contact).where(Contact.client_id == found.id).order_by(Contact.name)).all()
        contracts = session.scalars(select(Contract).where(Contract.client_id == found.id)).all()
        shown: dict[str, Any] = {
            "key": found.key,
            "name": found.name,
            "time_zone": found.time_zone,
            "locale": found.locale,
            "sites": [{"name": site.name, "address": site.address} for site in sites],
            "contacts": [{"name": one.name, "email": one.email, "approves": one.approves} for one in contacts],
            "contracts": [one.reference for one in contracts],
        }
    if as_json:
        console.print_json(shown)
        return
    click.echo(f"{shown['name']} ({shown['key']}), {shown['time_zone']}, {shown['locale']}")
    for site in shown["sites"]:
        click.echo(f"  site      {site['name']}  {site['address']}")
    for one in shown["contacts"]:
        click.echo(f"  contact   {one['name']}  {one['email'] or ''}{'  approves' if one['approves'] else ''}")
    for reference in shown["contracts"]:
        click.echo(f"  contract  {reference}")


@click.group(epilog="Example: msp contract check terms.json")
def contract() -> None:
    """Contracts: show, decide an action, check terms, cover, what ends, holidays."""


for command in (contracts_cover.covered, contracts_cover.ending, contracts_cover.holidays):
    contract.add_command(command)


@contract.command("list", epilog="Example: msp contract list --client alfa")
@click.option("--client", "client_key", help="Key of the client (default: all).")
@click.option("--json", "as_json", is_flag=True, help="One JSON line a contract.")
def list_contracts(client_key: str | None, as_json: bool) -> None:
    """List contracts."""
    from sqlalchemy import select

    from msp import db
    from msp.contracts import agreements
    from msp.contracts.models import Client, Contract

    console.use_database()
    with db.read() as session:
        query = select(Contract, Client.key).join(Client, Client.id == Contract.client_id).order_by(Contract.reference)
        if client_key:
            query = query.where(Client.id == agreements.client_by_key(session, client_key).id)
        rows = [
            (one.reference, key, one.kind, one.currency, one.starts_on, one.ends_on, one.draft, one.title)
            for one, key in session.execute(query)
        ]
    columns = ("reference", "client", "kind", "currency", "starts_on", "ends_on", "draft", "title")
    _print_rows(columns, rows, as_json)


@contract.command("show", epilog="Example: msp contract show A-17")
@click.argument("reference")
@click.option("--json", "as_json", is_flag=True, help="As one JSON line, with the terms of every version.")
def show_contract(reference: str, as_json: bool) -> None:
    """Show the contract REFERENCE: its versions, and the clauses and lines now in force."""
    from msp import db
    from msp.clock import utc_now
    from msp.contracts import agreements

    console.use_database()
    with db.read() as session:
        found = agreements.contract_by_reference(session, reference)
        versions = agreements.versions(session, found.id)
        now = agreements.version_at(session, found.id, utc_now())
        if as_json:
            console.print_json(
                {
                    "reference": found.reference,
                    "draft": found.draft,
                    "kind": found.kind,
                    "currency": found.currency,
                    "starts_on": found.starts_on.isoformat(),
                    "ends_on": found.ends_on.isoformat() if found.ends_on else None,
                    "versions": [
                        {
                            "number": one.number,
                            "effective_at": one.effective_at.isoformat(),
                            "digest": one.digest,
                            "terms": one.terms,
                        }
                        for one in versions
                    ],
                }
            )
            return
        click.echo(f"{found.reference} {found.title}: {found.kind}, {found.currency}")
        begins = "a draft, to be in force" if found.draft else "in force"
        click.echo(f"  {begins} from {found.starts_on} to {found.ends_on or 'further notice'}, both included")
        for one in versions:
            mark = "  <- now" if now is not None and not found.draft and one.id == now.id else ""
            click.echo(f"  version {one.number} from {one.effective_at:%Y-%m-%d %H:%M} UTC  {one.digest[:12]}{mark}")
        if now is None:
            return
        terms = agreements.terms_of(now)
        for line in terms.lines:
            click.echo(f"  line {line.id}: {line.name} ({line.kind})")
        for clause in terms.clauses:
            click.echo(f"  clause {clause.id}: {clause.effect}: {clause.text}")


@contract.command("sign", epilog="Example: msp contract sign Q-1 --from 2027-01-01 --replace")
@click.argument("reference")
@click.option("--from", "begins", help="First day in force (default: that of the draft).")
@click.option("--replace", is_flag=True, help="End what is in force then the day before.")
def sign_contract(reference: str, begins: str | None, replace: bool) -> None:
    """Put the draft REFERENCE in force: it is signed."""
    from msp import db
    from msp.contracts import agreements
    from msp.contracts.fields import parse_day
    from msp.flows import signing

    console.use_database()
    with db.begin() as session:
        found = agreements.contract_by_reference(session, reference)
        day = parse_day(begins, "--from") if begins else None
        signing.sign(session, found, by="cli", begins=day, replace=replace)
        first = found.starts_on
    click.echo(f"Contract {reference} is signed and in force from {first} on.")


@contract.command("check", epilog="Example: msp contract check terms.json")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--json", "as_json", is_flag=True, help="As one JSON line.")
def check_terms(file: str, as_json: bool) -> None:
    """Check the terms document in FILE (- for standard input); exit status 1 if it cannot be signed."""
    from msp.cli.billing import load_json
    from msp.contracts import terms

    document = load_json(file, exact=False)
    found = terms.problems(document)
    digest = None if found else terms.digest(document)
    if as_json:
        console.print_json({"ok": not found, "digest": digest, "problems": found})
    elif found:
        for problem in found:
            click.echo(problem)
    else:
        parsed = terms.parse(document)
        click.echo(f"The terms hold: {len(parsed.lines)} lines, {len(parsed.clauses)} clauses. Digest {digest}.")
    if found:
        click.get_current_context().exit(1)


@contract.command(
    epilog="Example: msp contract decide --contract A-17 --action change --asset srv-fs1 --at 2026-03-28T22:00:00+03:00"
)
@click.option("--contract", "reference", required=True, help="Reference of the contract.")
@click.option("--action", required=True, help="Class of the action: read, change, disruptive or access.")
@click.option("--asset", "asset_name", required=True, help="Name of the configuration item.")
@click.option("--at", "instant", help="Instant with its zone (default: now).")
@click.option("--json", "as_json", is_flag=True, help="As one JSON line.")
def decide(reference: str, action: str, asset_name: str, instant: str | None, as_json: bool) -> None:
    """Say what a contract says of an action on an asset; exit status 4 if it is refused."""
    from zoneinfo import ZoneInfo

    from msp import db
    from msp.clock import utc_now
    from msp.contracts import agreements
    from msp.contracts.fields import parse_instant
    from msp.contracts.models import Client
    from msp.errors import NotFound, Refused

    console.use_database()
    at = parse_instant(instant, "--at") if instant else utc_now()
    with db.read() as session:
        found = agreements.contract_by_reference(session, reference)
        owner = session.get_one(Client, found.client_id)
        asset = _asset(session, owner.id, asset_name)
        if asset is None:
            raise NotFound(
                f"Client {owner.key} has no asset {asset_name!r}.",
                advice=f"List them with msp asset list --client {owner.key}.",
            )
        version = None if found.draft else agreements.version_at(session, found.id, at)
        if version is None:
            raise Refused(
                f"No version of contract {reference} is in force at {at:%Y-%m-%d %H:%M} UTC.",
                advice="See its versions with msp contract show.",
            )
        decision = agreements.terms_of(version).decide(
            action_class=action,
            asset=asset,
            at=at,
            zone=ZoneInfo(owner.time_zone),
            actor="cli",
            in_force=agreements.in_force(found, owner),
        )
    if as_json:
        console.print_json(_decision(decision, version.number))
    else:
        click.echo(
            f"{decision.effect}: {f'clause {decision.clause_id}: ' if decision.clause_id else ''}{decision.text}"
        )
        if decision.way_out:
            click.echo(f"  {decision.way_out}")
    if decision.effect == "refuse":
        click.get_current_context().exit(Refused.exit_status)


def _asset(session: Any, client_id: int, name: str) -> Any:
    """Return the asset as contract rules see it, or None."""
    from sqlalchemy import select

    from msp.assets.models import ConfigurationItem
    from msp.contracts.agreements import site_name
    from msp.contracts.covers import Asset

    query = select(ConfigurationItem).where(ConfigurationItem.client_id == client_id, ConfigurationItem.name == name)
    item = session.scalar(query)
    return None if item is None else Asset(item.name, item.kind, site_name(session, item.site_id))


def _decision(decision: Any, version: int) -> dict[str, Any]:
    def instant(value: datetime | None) -> str | None:
        return None if value is None else value.isoformat().replace("+00:00", "Z")

    return {
        "effect": decision.effect,
        "rule": decision.rule,
        "clause_id": decision.clause_id,
        "text": decision.text,
        "text_ru": decision.text_ru,
        "way_out": decision.way_out,
        "approver": decision.approver,
        "price": None if decision.price is None else str(decision.price),
        "consent": decision.consent,
        "expires_s": decision.expires_s,
        "next_at": instant(decision.next_at),
        "ends_at": instant(decision.ends_at),
        "version": version,
    }


def _print_rows(columns: tuple[str, ...], rows: Any, as_json: bool) -> None:
    if not as_json:
        console.print_table(columns, rows)
        return
    for row in rows:
        console.print_json(dict(zip(columns, row, strict=True)))
