"""A run on many items of the list: choose them by filter, choose a playbook, read each row's answer, then ask.

Nothing is queued before every row has said what its contract says. Each client gets a run of its own, with its own
ticket and approval: one client's refusal never holds up another's work.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select
from sqlalchemy.orm import Session

from msp.assets.models import ConfigurationItem
from msp.clock import utc_now
from msp.contracts.models import Client
from msp.errors import Conflict, Misconfigured, MspError, NotFound, Refused
from msp.flows import runs as flows
from msp.people.access import may
from msp.remote.models import Run, RunHost
from msp_web import playbooks, words
from msp_web.access import actor, requires, visible
from msp_web.run_page import own
from msp_web.unit import read_only, unit_of_work
from msp_web.views.assets import clients_of, filtered
from msp_web.views.desk import number_of
from msp_web.views.runs import typed_parameters

bp = Blueprint("run_bulk", __name__, url_prefix="/runs/bulk")

MOST = 2000  # items of one request


@dataclass(frozen=True, slots=True)
class Part:
    """What becomes one run: the items of one client, with what its contract says of each."""

    client: Client
    rows: Sequence[flows.HostPreview]

    def count(self, effect: str) -> int:
        """Return how many of its items have that answer."""
        return sum(row.effect == effect for row in self.rows)


def chosen(session: Session) -> list[ConfigurationItem]:
    """Return the items that are ticked, or all of the filter; by client, then as listed.

    Raises NotFound if one of them is not the asking person's, Misconfigured if there are none or too many.
    """
    if request.values.get("every") == "1":
        query = filtered().where(ConfigurationItem.status == "live").limit(MOST + 1)
        found = [item for item in session.scalars(query) if may(actor(), "run.request", item.client_id)]
    else:
        given = [*request.values.getlist("asset"), *request.values.get("assets", "").split(",")]
        ticked = dict.fromkeys(number_of(text) for text in given[: MOST + 2] if text)
        known = visible(select(ConfigurationItem).where(ConfigurationItem.id.in_(ticked)), ConfigurationItem)
        by_id = {item.id: item for item in session.scalars(known)}
        if missing := [number for number in ticked if number not in by_id]:
            raise NotFound(f"There is no item {missing[0]}.", advice="Choose from the list again.")
        found = list(by_id.values())
    if not found:
        raise Misconfigured("No item is chosen.", advice="Tick some in the list, or take all that the filter shows.")
    if len(found) > MOST:
        raise Misconfigured(f"More than {MOST} items are chosen.", advice="Narrow the filter and ask in portions.")
    return sorted(found, key=lambda item: (item.client_id, item.name))


def parts_of(session: Session, items: Sequence[ConfigurationItem], name: str, *, dry_run: bool) -> list[Part]:
    """Return what each client's contract says of a playbook on its items, as of now."""
    clients, now, parts = clients_of(session), utc_now(), []
    for client_id, group in groupby(items, key=lambda item: item.client_id):
        ids = [item.id for item in group]
        rows = flows.preview(session, playbook=name, asset_ids=ids, actor=actor(), own=own(), dry_run=dry_run, now=now)
        parts.append(Part(clients[client_id], rows))
    return parts


@bp.get("/")
@requires("run.request")
def choose() -> str:
    """Offer the items of a filter to tick, then the playbooks that work on all of those ticked."""
    with read_only() as session:
        live = filtered().where(ConfigurationItem.status == "live")
        listed = [item for item in session.scalars(live.limit(MOST)) if may(actor(), "run.request", item.client_id)]
        asked = request.args.get("every") == "1" or bool(request.args.getlist("asset"))
        items = chosen(session) if asked else []
        everything = bool(request.args.get("all"))
        found = playbooks.offered(items, request.args.get("book", ""), everything=everything) if items else []
        return render_template(
            "runs/bulk.html",
            listed=listed,
            items=items,
            ticked={item.id for item in items},
            found=[one for one in found if one.playbook],
            everything=everything,
            clients=clients_of(session),
            kinds=words.BADGES["asset_kind"],
        )


@bp.route("/<name>", methods=["GET", "POST"])
@requires("run.request")
def prepare(name: str) -> ResponseReturnValue:
    """Show the form of a playbook and each row's answer. Posting it again asks anew and queues nothing."""
    return form_of(name)


def form_of(name: str, error: MspError | None = None) -> str:
    book = playbooks.sound(name)
    dry = request.values.get("dry_run", "1") == "1"
    with read_only() as session:
        items = chosen(session)
        return render_template(
            "runs/bulk_form.html",
            book=book,
            items=items,
            others=items,
            parts=parts_of(session, items, name, dry_run=dry),
            dry=dry,
            error=error,
            typed=request.form,
        )


@bp.post("/<name>/ask")
@requires("run.request")
def ask(name: str) -> ResponseReturnValue:
    """Ask for one run per client, all of them or none."""
    book = playbooks.on_shelf(name)
    dry, made = request.form.get("dry_run", "1") == "1", []
    try:
        with unit_of_work() as session:
            items = chosen(session)
            for part in parts_of(session, items, name, dry_run=dry):
                ids = [row.asset_id for row in part.rows if row.applies or request.form.get("unfit") == "1"]
                if ids:
                    run = flows.request_run(
                        session,
                        playbook=name,
                        asset_ids=ids,
                        actor=actor(),
                        parameters=typed_parameters(book),
                        dry_run=dry,
                        own=own(),
                    )
                    made.append(run.id)
            if not made:
                raise Misconfigured(
                    "The playbook is meant for none of these items.", advice="Choose others, or include those too."
                )
    except (Misconfigured, Conflict, Refused) as error:
        return form_of(name, error), error.status
    return redirect(url_for("run_bulk.asked", run=made), code=303)


@bp.get("/asked")
@requires("run.request")
def asked() -> str:
    """Show runs that were asked for together, with the way on from dry runs to the real ones."""
    ids = [number for text in request.args.getlist("run")[:MOST] if (number := number_of(text))]
    with read_only() as session:
        query = visible(select(Run, Client.name).where(Run.id.in_(ids)), Run)
        rows = session.execute(query.join(Client, Client.id == Run.client_id).order_by(Run.id)).all()
        if not rows:
            raise NotFound("There are no such runs.", advice="Look them up in the list of runs.")
        first: Run = rows[0][0]
        hosts = visible(select(RunHost).where(RunHost.run_id.in_([row[0].id for row in rows])), RunHost)
        found = list(session.scalars(hosts.order_by(RunHost.run_id, RunHost.position)))
        name = next((one.name for one in playbooks.shelf() if one.playbook and one.playbook.name == first.playbook), "")
        return render_template(
            "runs/bulk_asked.html",
            rows=[(run, client, [host for host in found if host.run_id == run.id]) for run, client in rows],
            assets=[host.asset_id for host in found if host.asset_id],
            dry=all(row[0].dry_run for row in rows),
            name=name,
            parameters=first.parameters,
        )
