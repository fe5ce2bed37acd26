"""The way in to an item: its address and log-in, the bastions before it, leave for old algorithms, and a test of it."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from typing import Any

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from sqlalchemy import select
from sqlalchemy.orm import Session

from msp.assets import reach
from msp.assets.models import ConfigurationItem
from msp.clock import utc_now
from msp.contracts.models import Client
from msp.desk.models import Ticket
from msp.errors import Misconfigured
from msp.flows import runs
from msp.remote.models import Run, RunHost
from msp.vault import OWN, VaultSecret
from msp_web import dates
from msp_web.access import actor, requires, scoped, visible
from msp_web.unit import read_only, unit_of_work
from msp_web.views.assets import clients_of, of_client
from msp_web.views.credentials import settings
from msp_web.views.desk import number_of
from msp_web.way_in import hops_of, leave_of

bp = Blueprint("ways", __name__, url_prefix="/assets")

#: What reads a host without changing anything, and so proves that the way to it holds: platform -> playbook.
TESTS = {"windows": "windows-inventory-facts"}
USUAL_TEST = "inventory-facts"
TESTED = ("ssh", "winrm")  # transports that run such a playbook


@dataclass
class Door:
    """An item with what is reached through it."""

    item: ConfigurationItem
    below: list["Door"] = field(default_factory=list)


@bp.get("/bastions")
@requires("asset.see")
def index() -> str:
    """Show every bastion of a client, or of all clients, with what is reached through it."""
    chosen = number_of(request.args.get("client"))
    query = visible(select(ConfigurationItem), ConfigurationItem).order_by(ConfigurationItem.name)
    with read_only() as session:
        clients = clients_of(session)
        if chosen is not None:
            query = query.where(ConfigurationItem.client_id == chosen)
        doors = doors_of(list(session.scalars(query)))
        return render_template("assets/bastions.html", doors=doors, clients=clients)


def doors_of(items: list[ConfigurationItem]) -> dict[int, list[Door]]:
    """Return the outermost bastions by client, each with what stands behind it."""
    behind: dict[int, list[ConfigurationItem]] = defaultdict(list)
    for item in items:
        if item.bastion_id is not None:
            behind[item.bastion_id].append(item)

    def door(item: ConfigurationItem, depth: int) -> Door:
        return Door(item, [door(one, depth + 1) for one in behind[item.id]] if depth < reach.MOST_HOPS else [])

    found: dict[int, list[Door]] = defaultdict(list)
    for item in items:
        if item.bastion_id is None and item.id in behind:
            found[item.client_id].append(door(item, 0))
    return found


@bp.get("/<int:asset_id>/way")
@requires("asset.see")
def show(asset_id: int) -> str:
    """Show the way in to an item, hop by hop, and what is reached through it."""
    with read_only() as session:
        item = scoped(session, ConfigurationItem, asset_id)
        mine = list(session.scalars(of_client(item.client_id)))
        names = visible(select(VaultSecret.name), VaultSecret).where(VaultSecret.client_id == item.client_id)
        return render_template(
            "assets/way.html",
            item=item,
            client=scoped(session, Client, item.client_id),
            hops=hops_of(session, item),
            behind=[one for one in mine if one.bastion_id == item.id],
            bastions=[one for one in mine if one.transport == "ssh" and one.id != item.id],
            secrets=[name for name in session.scalars(names.order_by(VaultSecret.name)) if not OWN.fullmatch(name)],
            leave=leave_of(session, item, utc_now()),
            algorithms=list(reach.OLD_ALGORITHMS),
            tested=item.transport in TESTED,
            last=last_test(session, item.id),
        )


def last_test(session: Session, asset_id: int) -> tuple[RunHost, Run] | None:
    """Return how the last test of the way to an item went, or goes."""
    query = (
        select(RunHost, Run)
        .join(Run, Run.id == RunHost.run_id)
        .where(RunHost.asset_id == asset_id, Run.playbook.in_((USUAL_TEST, *TESTS.values())), ~Run.dry_run)
    )
    found = session.execute(visible(query.order_by(Run.id.desc()).limit(1), Run)).first()
    return (found[0], found[1]) if found else None


@bp.post("/<int:asset_id>/way")
@requires("asset.edit")
def change(asset_id: int) -> ResponseReturnValue:
    """Change how an item is reached."""
    with unit_of_work() as session:
        item = scoped(session, ConfigurationItem, asset_id)
        wanted = wanted_of(session, item)
        changes = {name: value for name, value in wanted.items() if getattr(item, name) != value}
        if changes:
            reach.change(session, item, by=actor().name, **changes)
    flash(gettext("Recorded."), "success")
    return redirect(url_for("ways.show", asset_id=asset_id), 303)


def wanted_of(session: Session, item: ConfigurationItem) -> dict[str, Any]:
    """Return what the form asks for. Raises Misconfigured, NotFound for a bastion that is none of this client's."""
    form = request.form
    port, bastion = form.get("port", "").strip(), number_of(form.get("bastion"))
    if port and not (port.isdecimal() and len(port) <= 5 and 0 < int(port) < 65536):
        raise Misconfigured("The port is not a number.", advice="A port is 1 to 65535.")
    if bastion is None and form.get("bastion", "").strip():
        raise Misconfigured("The bastion is none of the list.", advice="Choose it from the list.")
    texts = ("address", "username", "secret_name", "become_secret_name")
    return {
        **{name: form.get(name, "").strip() or None for name in texts},
        "port": int(port) if port else None,
        "credential_kind": form.get("credential_kind", "secret"),
        "bastion_id": scoped(session, ConfigurationItem, bastion).id if bastion else None,
    }


@bp.post("/<int:asset_id>/way/test")
@requires("run.request")
def test(asset_id: int) -> ResponseReturnValue:
    """Ask for a run that only reads the host. The worker does it; its page tells at which hop the way ends."""
    with unit_of_work() as session:
        item = scoped(session, ConfigurationItem, asset_id)
        if item.transport not in TESTED:
            raise Misconfigured(
                f"{item.name} is reached by {item.transport}, where nothing reads it without a playbook of its kind.",
                advice="Run one of its playbooks.",
            )
        if ticket_id := number_of(request.form.get("ticket")):
            scoped(session, Ticket, ticket_id)
        run = runs.request_run(
            session,
            playbook=TESTS.get(item.platform, USUAL_TEST),
            asset_ids=[item.id],
            actor=actor(),
            ticket_id=ticket_id,
            own=settings().playbooks,
        )
    flash(gettext("The way is tested by reading the host. Where it ends, the run says so."), "info")
    return redirect(url_for("runs.show", run_id=run.id), 303)


@bp.post("/<int:asset_id>/old-algorithms")
@requires("asset.edit")
def old_algorithms(asset_id: int) -> ResponseReturnValue:
    """Give leave for old algorithms until a day, or take it away."""
    form, names = request.form, []
    with unit_of_work() as session:
        item = scoped(session, ConfigurationItem, asset_id)
        if not form.get("withdraw"):
            names = form.getlist("algorithm")
            if not names:
                raise Misconfigured("No algorithm is chosen.", advice="Choose what it needs, or take the leave away.")
        until = day_of(form.get("until", ""))
        reach.allow_old(session, item, names, until, by=actor().name, reason=form.get("reason", "").strip())
    flash(gettext("Recorded."), "success")
    return redirect(url_for("ways.show", asset_id=asset_id, _anchor="old"), 303)


def day_of(text: str) -> datetime | None:
    """Return the first instant of a day in UTC, None for no day. Raises Misconfigured."""
    if not text:
        return None
    return datetime.combine(dates.day(text), time(), UTC)
