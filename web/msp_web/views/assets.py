"""Configuration items: listed, shown with what they pull down, their host keys pinned."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

from flask import Blueprint, Response, flash, redirect, render_template, request, url_for
from flask_babel import gettext
from sqlalchemy import Select, or_, select, tuple_
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as Answer

from msp.assets import host_keys, inventory
from msp.assets.impact import KINDS, Hit
from msp.assets.models import ConfigurationItem, HostKey, HostKeyChange, Relationship
from msp.clock import utc_now
from msp.contracts.models import Client, Site
from msp.desk.models import Ticket
from msp.errors import Misconfigured, Refused
from msp.evidence import Evidence
from msp.flows import covering, keyring
from msp.remote.consoles.models import ConsoleSession
from msp.remote.models import Run, RunHost
from msp.vault import VaultSecret
from msp_web import way_in, words
from msp_web import words_of_credentials as words_of_credentials
from msp_web.access import actor, can, requires, scoped, visible
from msp_web.unit import read_only, unit_of_work

bp = Blueprint("assets", __name__, url_prefix="/assets")

PAGE = 50
LAST = 8  # runs and consoles that an item's page shows


@dataclass
class Branch:
    """An item that is hit, and what is hit through it."""

    hit: Hit
    item: ConfigurationItem
    through: str  # name of the item by which it is reached
    below: list["Branch"] = field(default_factory=list)


def filtered() -> Select[ConfigurationItem]:
    """Return the list that the address asks for; filters live in the address."""
    query = visible(select(ConfigurationItem), ConfigurationItem)
    for name, column in (
        ("kind", ConfigurationItem.kind),
        ("status", ConfigurationItem.status),
        ("platform", ConfigurationItem.platform),
    ):
        if wanted := request.args.get(name, ""):
            query = query.where(column == wanted)
    client = request.args.get("client", "")
    if client.isdecimal() and len(client) < 16:
        query = query.where(ConfigurationItem.client_id == int(client))
    if text := request.args.get("q", "").strip():
        query = query.where(
            or_(
                ConfigurationItem.name.icontains(text, autoescape=True),
                ConfigurationItem.address.icontains(text, autoescape=True),
            )
        )
    return query.order_by(ConfigurationItem.criticality, ConfigurationItem.id)


def clients_of(session: Session) -> dict[int, Client]:
    """Return the clients that the asking person may know of, by id."""
    return {client.id: client for client in session.scalars(visible(select(Client), Client).order_by(Client.name))}


@bp.get("/")
@requires("asset.see")
def index() -> str:
    """List items, the most critical first."""
    query = filtered()
    level, _, ident = request.args.get("after", "").partition(".")
    if level.isdecimal() and ident.isdecimal() and len(ident) < 16:
        here = tuple_(ConfigurationItem.criticality, ConfigurationItem.id)
        query = query.where(here > tuple_(int(level[:3]), int(ident)))
    with read_only() as session:
        rows = list(session.scalars(query.limit(PAGE + 1)))
        last = rows[PAGE - 1] if len(rows) > PAGE else None
        return render_template(
            "assets/index.html",
            rows=rows[:PAGE],
            after=f"{last.criticality}.{last.id}" if last else None,
            clients=clients_of(session),
            kinds=words.BADGES["asset_kind"],
            statuses=words.BADGES["asset_status"],
        )


@bp.get("/list.csv")
@requires("asset.see")
def as_csv() -> Response:
    """Give away the list that is on the page, whole."""
    columns = ("name", "kind", "platform", "transport", "address", "criticality", "status")
    with read_only() as session:
        clients = clients_of(session)
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(("client", *columns))
        for item in session.scalars(filtered()):
            cells = (clients[item.client_id].name, *(getattr(item, column) for column in columns))
            writer.writerow([plain_cell(cell) for cell in cells])
    answer = Response("\ufeff" + text.getvalue(), mimetype="text/csv")
    answer.headers["Content-Disposition"] = 'attachment; filename="configuration-items.csv"'
    return answer


def plain_cell(value: object) -> str:
    """Return a cell that no spreadsheet takes for a formula."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


@bp.get("/<int:asset_id>")
@requires("asset.see")
def show(asset_id: int) -> str:
    """Show one item: facts, what it needs, what it pulls down, open tickets, host keys."""
    with read_only() as session:
        item = scoped(session, ConfigurationItem, asset_id)
        items = {one.id: one for one in session.scalars(of_client(item.client_id))}
        needs = session.execute(
            visible(select(Relationship, ConfigurationItem), ConfigurationItem)
            .join(ConfigurationItem, ConfigurationItem.id == Relationship.target_id)
            .where(Relationship.source_id == item.id)
        ).all()
        hits = inventory.impact(session, item)
        keys = session.scalars(select(HostKey).where(HostKey.asset_id == item.id).order_by(HostKey.id.desc()))
        tickets = select(Ticket).where(Ticket.asset_id == item.id, Ticket.is_open).order_by(Ticket.next_due_at)
        return render_template(
            "assets/show.html",
            item=item,
            client=scoped(session, Client, item.client_id),
            site=session.get(Site, item.site_id) if item.site_id else None,
            needs=needs,
            branches=tree_of(hits, items),
            hits=hits,
            keys=[(key, inventory.fingerprint(key.public_key)) for key in keys],
            changes=[(one, inventory.fingerprint(one.public_key)) for one in host_keys.history(session, item.id)],
            shown=shown_instead(session, item.id),
            runs=runs_on(session, item.id),
            sessions=sessions_on(session, item.id),
            credential=credential_of(session, item),
            hops=way_in.hops_of(session, item),
            leave=way_in.leave_of(session, item, utc_now()),
            tickets=list(session.scalars(visible(tickets, Ticket))),
            others=[one for one in items.values() if one.id != item.id],
            relationships=list(KINDS),
            cover=covering.of(session, item, utc_now(), actor=actor().name),
        )


def runs_on(session: Session, asset_id: int) -> list[tuple[RunHost, Run]]:
    """Return how the last runs ended on an item, the newest first."""
    query = select(RunHost, Run).join(Run, Run.id == RunHost.run_id).where(RunHost.asset_id == asset_id)
    return [(row[0], row[1]) for row in session.execute(visible(query.order_by(Run.id.desc()).limit(LAST), Run))]


def sessions_on(session: Session, asset_id: int) -> list[ConsoleSession]:
    """Return the last consoles of an item, the newest first."""
    query = select(ConsoleSession).where(ConsoleSession.asset_id == asset_id).order_by(ConsoleSession.id.desc())
    return list(session.scalars(visible(query.limit(LAST), ConsoleSession)))


def shown_instead(session: Session, asset_id: int) -> Evidence | None:
    """Return the refusal of another key that the host showed, if it is newer than the pins."""
    kinds = ("host_key.refused", "host_key.pinned")
    query = select(Evidence).where(
        Evidence.subject_kind == "asset", Evidence.subject_id == str(asset_id), Evidence.kind.in_(kinds)
    )
    newest = session.scalar(visible(query.order_by(Evidence.id.desc()).limit(1), Evidence))
    return newest if newest is not None and newest.kind == "host_key.refused" else None


def credential_of(session: Session, item: ConfigurationItem) -> VaultSecret | None:
    """Return what the credential desk knows of the secret that opens an item."""
    if not item.secret_name or item.credential_kind == "ca":
        return None
    try:
        return keyring.known(session, item.client_id, item.secret_name)
    except Misconfigured:  # its name names no secret; the page shows the name itself
        return None


def of_client(client_id: int) -> Select[ConfigurationItem]:
    query = select(ConfigurationItem).where(ConfigurationItem.client_id == client_id).order_by(ConfigurationItem.name)
    return visible(query, ConfigurationItem)


def tree_of(hits: Sequence[Hit], items: dict[int, ConfigurationItem]) -> list[Branch]:
    """Return hits as a tree along the paths by which they are reached."""
    branches = {hit.item: Branch(hit, items[hit.item], items[hit.path[-1].target].name) for hit in hits}
    top: list[Branch] = []
    for hit in hits:
        through = hit.path[-1].target
        (branches[through].below if through in branches else top).append(branches[hit.item])
    return top


@bp.get("/new")
@requires("asset.edit")
def new() -> str:
    """Offer the form of a new item."""
    with read_only() as session:
        return render_template("assets/new.html", clients=clients_of(session), kinds=words.BADGES["asset_kind"])


@bp.post("/new")
@requires("asset.edit")
def add() -> Answer:
    """Record a new item."""
    form = request.form
    client_id, port = form.get("client_id", ""), form.get("port", "")
    if not form.get("name", "").strip() or form.get("kind", "") not in words.BADGES["asset_kind"]:
        raise Misconfigured("Name or kind is missing.", advice="Fill in both.")
    if not client_id.isdecimal() or (port and not (port.isdecimal() and 0 < int(port[:6]) < 65536)):
        raise Misconfigured("Client or port is not a number.", advice="Choose a client; a port is 1 to 65535.")
    with unit_of_work() as session:
        client = scoped(session, Client, int(client_id[:15]))
        item = inventory.add(
            session,
            client_id=client.id,
            name=form["name"].strip(),
            kind=form["kind"],
            by=actor().name,
            platform=form.get("platform", "linux"),
            transport=form.get("transport", "ssh"),
            address=form.get("address", "").strip() or None,
            port=int(port) if port else None,
            username=form.get("username", "").strip() or None,
            criticality=int(form["criticality"]) if form.get("criticality", "") in ("1", "2", "3", "4") else 3,
            facts={},
        )
    flash(gettext("Recorded."), "success")
    return redirect(url_for("assets.show", asset_id=item.id))


@bp.post("/<int:asset_id>/host-key")
@requires("host_key.propose")
def pin(asset_id: int) -> Answer:
    """Pin a first host key; in place of pinned ones it is only asked for, and a second person decides."""
    form = request.form
    with unit_of_work() as session:
        item = scoped(session, ConfigurationItem, asset_id)
        if not inventory.pinned(session, item.id) and not can("asset.edit", item.client_id):
            raise Refused("Your role does not pin a first key.", advice="Ask an administrator.")
        found = host_keys.pin(session, item, form.get("public_key", ""), reason=form.get("reason", ""), by=actor().name)
        told = gettext("The host key is pinned.")
        if isinstance(found, HostKeyChange):
            told = gettext("Asked for. The old pin stays in force until a second person approves.")
    flash(told, "success")
    return redirect(url_for("assets.show", asset_id=asset_id, _anchor="host-keys"))


@bp.post("/<int:asset_id>/host-key/<int:change_id>/approve")
@requires("host_key.approve")
def approve_key(asset_id: int, change_id: int) -> Answer:
    """Be the second person: put another host key in force."""
    with unit_of_work() as session:
        item = scoped(session, ConfigurationItem, asset_id)
        host_keys.approve(session, item, change_id, by=actor().name)
    flash(gettext("The host key is pinned."), "success")
    return redirect(url_for("assets.show", asset_id=asset_id, _anchor="host-keys"))


@bp.post("/<int:asset_id>/host-key/<int:change_id>/decline")
@requires("host_key.propose")
def decline_key(asset_id: int, change_id: int) -> Answer:
    """Keep the old pin; who asked may take it back."""
    with unit_of_work() as session:
        item = scoped(session, ConfigurationItem, asset_id)
        change = scoped(session, HostKeyChange, change_id)
        if change.asked_by != actor().name and not can("host_key.approve", item.client_id):
            raise Refused("Your role does not answer this.", advice="Ask somebody who approves host keys.")
        host_keys.decline(session, item, change_id, by=actor().name, note=request.form.get("note", ""))
    flash(gettext("Declined."), "success")
    return redirect(url_for("assets.show", asset_id=asset_id, _anchor="host-keys"))


@bp.post("/<int:asset_id>/relationship")
@requires("asset.edit")
def relate(asset_id: int) -> Answer:
    """Record that an item needs another one."""
    target = request.form.get("target_id", "")
    with unit_of_work() as session:
        item = scoped(session, ConfigurationItem, asset_id)
        other = scoped(session, ConfigurationItem, int(target[:15]) if target.isdecimal() else 0)
        inventory.relate(session, item, request.form.get("kind", ""), other)
    flash(gettext("Recorded."), "success")
    return redirect(url_for("assets.show", asset_id=asset_id))
