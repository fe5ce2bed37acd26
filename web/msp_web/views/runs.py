"""Runs: choose a playbook, see what the contract says of each host, ask, watch hosts x steps, settle doubts."""

from collections.abc import Callable, Sequence
from typing import Any

from flask import Blueprint, Response, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from msp.assets.models import ConfigurationItem
from msp.clock import utc_now
from msp.contracts.models import Client
from msp.desk.models import Ticket
from msp.errors import Conflict, Misconfigured, MspError, NotFound, Refused
from msp.flows import approving, driving, repeating, visits
from msp.flows import runs as flows
from msp.people.access import may
from msp.remote.models import Run, RunHost, StepResult
from msp_web import language, playbooks
from msp_web.access import actor, requires, scoped, visible
from msp_web.run_page import chosen_cell, grid, head, log_of, log_words, own
from msp_web.ticket_page import newest
from msp_web.unit import read_only, unit_of_work
from msp_web.views.assets import clients_of
from msp_web.views.desk import number_of

bp = Blueprint("runs", __name__, url_prefix="/runs")

PAGE = 50
STATES = (
    "in_doubt",
    "awaiting_approval",
    "running",
    "queued",
    "failed",
    "succeeded",
    "refused",
    "cancelled",
    "expired",
)


@bp.get("/")
@requires("run.see")
def index() -> str:
    """List runs, the newest first; those in doubt have a counter of their own."""
    with read_only() as session:
        query = visible(select(Run, Client.name), Run).outerjoin(Client, Client.id == Run.client_id)
        if (state := request.args.get("state", "")) in STATES:
            query = query.where(Run.state == state)
        if client := number_of(request.args.get("client")):
            query = query.where(Run.client_id == client)
        if words := request.args.get("q", "").strip():
            query = query.where(Run.playbook.icontains(words, autoescape=True))
        if after := number_of(request.args.get("after")):
            query = query.where(Run.id < after)
        rows = session.execute(query.order_by(Run.id.desc()).limit(PAGE + 1)).all()
        ids = [row[0].id for row in rows]
        counted = select(Run.state, func.count()).group_by(Run.state)
        ends = select(RunHost.run_id, RunHost.outcome, func.count()).where(RunHost.run_id.in_(ids))
        hosts: dict[int, dict[str, int]] = {}
        for run_id, outcome, count in session.execute(ends.group_by(RunHost.run_id, RunHost.outcome)):
            hosts.setdefault(run_id, {})[outcome or "waiting"] = count
        return render_template(
            "runs/index.html",
            rows=rows[:PAGE],
            after=rows[PAGE - 1][0].id if len(rows) > PAGE else None,
            hosts=hosts,
            figures={row[0]: row[1] for row in session.execute(visible(counted, Run))},
            clients=clients_of(session),
            states=STATES,
        )


def context_of(session: Session) -> dict[str, Any]:
    """Return the ticket and the hosts for which a playbook is chosen; both stand in the address."""
    ticket = scoped(session, Ticket, number) if (number := number_of(request.values.get("ticket"))) else None
    chosen = [number for text in request.values.getlist("asset")[:500] if (number := number_of(text))]
    if not chosen and ticket and ticket.asset_id:
        chosen = [ticket.asset_id]
    items = [scoped(session, ConfigurationItem, number) for number in dict.fromkeys(chosen)]
    client_id = ticket.client_id if ticket else items[0].client_id if items else None
    others = visible(select(ConfigurationItem), ConfigurationItem).where(ConfigurationItem.status == "live")
    if client_id:
        others = others.where(ConfigurationItem.client_id == client_id)
    return {
        "ticket": ticket,
        "items": items,
        "client": scoped(session, Client, client_id) if client_id else None,
        "others": list(
            session.scalars(others.order_by(ConfigurationItem.client_id, ConfigurationItem.name).limit(500))
        ),
    }


@bp.get("/new")
@requires("run.request")
def choose() -> str:
    """Offer the playbooks: a search, and those that work on the items chosen."""
    with read_only() as session:
        context = context_of(session)
        everything = bool(request.args.get("all"))
        found = playbooks.offered(context["items"], request.args.get("q", ""), everything=everything)
        ticket = context["ticket"]
        symptom = ticket.symptom if ticket else None
        helps = [one.name for one in found if one.playbook and symptom and symptom in one.playbook.symptoms]
        first = playbooks.for_symptom(symptom)
        found.sort(key=lambda one: (one.name != first, one.name not in helps, one.playbook is None, one.name))
        return render_template("runs/choose.html", **context, found=found, helps=helps, everything=everything)


@bp.get("/new/<name>")
@requires("run.request")
def prepare(name: str) -> str:
    """Show the form of a playbook, and for each host what the contract says of it now."""
    return form_of(name)


def form_of(name: str, error: MspError | None = None) -> str:
    book = playbooks.sound(name)
    with read_only() as session:
        context = context_of(session)
        asset_ids = [item.id for item in context["items"]]
        dry = request.values.get("dry_run") == "1"
        hosts: Sequence[flows.HostPreview] = ()
        if asset_ids:
            hosts = flows.preview(session, playbook=name, asset_ids=asset_ids, actor=actor(), own=own(), dry_run=dry)
        return render_template("runs/prepare.html", **context, book=book, hosts=hosts, error=error, typed=request.form)


def typed_parameters(book: playbooks.Shelved) -> dict[str, str]:
    """Return the parameters of a playbook as typed into its form; an unticked box says false."""
    form, known = request.form, book.playbook.parameters if book.playbook else {}
    given = {key: form[f"p-{key}"] for key in known if form.get(f"p-{key}", "") != ""}
    return given | {key: "false" for key, one in known.items() if one.type == "bool" and f"p-{key}" not in form}


@bp.post("/new/<name>")
@requires("run.request")
def request_run(name: str) -> ResponseReturnValue:
    """Ask for a run. The worker does it; a page never waits for a machine."""
    book, form = playbooks.on_shelf(name), request.form
    assets = [number for text in form.getlist("asset")[:5000] if (number := number_of(text))]
    try:
        with unit_of_work() as session:
            if ticket_id := number_of(form.get("ticket")):
                scoped(session, Ticket, ticket_id)
            run = flows.request_run(
                session,
                playbook=name,
                asset_ids=assets,
                actor=actor(),
                parameters=typed_parameters(book),
                ticket_id=ticket_id,
                dry_run=form.get("dry_run") == "1",
                own=own(),
                break_glass_approver=form.get("glass_approver", "").strip(),
                break_glass_reason=form.get("glass_reason", "").strip(),
            )
    except (Misconfigured, Conflict, Refused) as error:
        return form_of(name, error), error.status
    return redirect(url_for("runs.show", run_id=run.id), code=303)


@bp.get("/<int:run_id>")
@requires("run.see")
def show(run_id: int) -> str:
    """Show one run: what was decided, hosts x steps, the chosen cell, the log."""
    return page(run_id)


def page(run_id: int, error: MspError | None = None) -> str:
    with read_only() as session:
        run = scoped(session, Run, run_id)
        return render_template(
            "runs/show.html",
            **{**chosen_cell(session, run), **head(session, run)},
            **grid(session, run),
            error=error,
            typed=request.form,
            log=log_of(session, run.id),
            words=log_words(),
            zone=str(language.zone()),
            clock_time=lambda at: f"{at.astimezone(language.zone()):%H:%M:%S}",
            listens_from=newest(session),
        )


@bp.get("/<int:run_id>/head")
@requires("run.see")
def head_part(run_id: int) -> str:
    """Return the head alone, for a page that is open."""
    with read_only() as session:
        return render_template("runs/head.html", typed=request.form, **head(session, scoped(session, Run, run_id)))


@bp.get("/<int:run_id>/matrix")
@requires("run.see")
def matrix_part(run_id: int) -> str:
    """Return the matrix alone, for a page that is open."""
    with read_only() as session:
        run = scoped(session, Run, run_id)
        return render_template("runs/matrix.html", run=run, **grid(session, run))


@bp.get("/<int:run_id>/hosts/<int:host_id>")
@requires("run.see")
def cell(run_id: int, host_id: int) -> str:
    """Return what happened in one cell: a part for an open page, a page of its own without script."""
    with read_only() as session:
        run = scoped(session, Run, run_id)
        parts = chosen_cell(session, run, host_id)
        alone = not request.headers.get("HX-Request")
        return render_template("runs/cell_page.html" if alone else "runs/cell.html", **parts)


@bp.get("/<int:run_id>/output/<int:step_id>")
@requires("run.see")
def output(run_id: int, step_id: int) -> Response:
    """Give away what was kept of one stream, byte by byte."""
    stream = "stderr" if request.args.get("stream") == "stderr" else "stdout"
    with read_only() as session:
        result = scoped(session, StepResult, step_id)
        if result.run_id != run_id:
            raise NotFound("This run has no such step.", advice="Choose one of its cells.")
        data = getattr(result, f"{stream}_head") + getattr(result, f"{stream}_tail")
        name = f"run-{run_id}-host-{result.run_host_id}-step-{result.step}-{result.phase}-{stream}.txt"
    answer = Response(data, mimetype="application/octet-stream")
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer


def acted(run_id: int, act: Callable[[Session], object], words: str, right: str = "run.request") -> ResponseReturnValue:
    """Do one thing to a run in one transaction; an error shows the page again."""
    try:
        with unit_of_work() as session:
            run = scoped(session, Run, run_id)
            if right and not may(actor(), right, run.client_id):
                raise Refused("Your role does not allow this.", advice="Ask your administrator for the right role.")
            act(session)
    except MspError as error:
        if isinstance(error, NotFound):
            raise
        return page(run_id, error), error.status if error.status < 500 else 409
    flash(words, "success")
    return redirect(url_for("runs.show", run_id=run_id), code=303)


@bp.post("/<int:run_id>/cancel")
@requires("run.request")
def cancel(run_id: int) -> ResponseReturnValue:
    """Stop a run: hosts not begun are not started; what is at work is told to stop."""
    words = gettext("Cancelled. Hosts not yet begun stay untouched; what was at work is told to stop.")
    return acted(run_id, lambda session: driving.cancel(session, run_id, by=actor().name), words)


@bp.post("/<int:run_id>/again")
@requires("run.request")
def again(run_id: int) -> ResponseReturnValue:
    """Ask for the same run on the hosts where it did not end well."""
    try:
        with unit_of_work() as session:
            scoped(session, Run, run_id)
            run = repeating.rerun_failed(session, run_id, actor=actor(), own=own())
    except (Misconfigured, Conflict, Refused) as error:
        return page(run_id, error), error.status
    flash(gettext("This is the new run, on the hosts that failed."), "success")
    return redirect(url_for("runs.show", run_id=run.id), code=303)


@bp.post("/<int:run_id>/approve")
@requires("run.see")
def approve(run_id: int) -> ResponseReturnValue:
    """Say yes, if the contract leaves it to us."""
    words = gettext("Approved; the run is queued.")
    return acted(run_id, lambda session: approving.approve(session, run_id, actor=actor(), own=own()), words, right="")


@bp.post("/<int:run_id>/decline")
@requires("run.see")
def decline(run_id: int) -> ResponseReturnValue:
    """Say no, if the contract leaves it to us."""
    reason = request.form.get("reason", "")
    act: Callable[[Session], object] = lambda session: approving.decline(  # noqa: E731
        session, run_id, actor=actor(), reason=reason
    )
    return acted(run_id, act, gettext("Declined; nothing is done."), right="")


@bp.post("/<int:run_id>/hosts/<int:host_id>/resolve")
@requires("run.request")
def resolve(run_id: int, host_id: int) -> ResponseReturnValue:
    """Settle what is in doubt on one host by a person's word: it ran, or it did not."""
    form = request.form
    step, phase, said = number_of(form.get("step")), form.get("phase", "do"), form.get("said", "")

    def act(session: Session) -> None:
        host = scoped(session, RunHost, host_id)
        if host.run_id != run_id:
            raise NotFound("This run has no such host.", advice="Choose one of the rows.")
        if said not in ("ran", "not_ran") or step is None:
            raise Misconfigured("Say whether it ran.", advice="Look at the host, then choose one of the two.")
        flows.resolve(
            session, run_id, host_id, step, phase, ran=said == "ran", actor=actor(), note=form.get("note", "")
        )

    return acted(run_id, act, gettext("Recorded in the evidence; the host goes on from there."))


@bp.post("/<int:run_id>/hosts/<int:host_id>/look")
@requires("run.request")
def look(run_id: int, host_id: int) -> ResponseReturnValue:
    """Ask for a dry run on one host: its probes look without changing anything, and tell what is in doubt."""
    try:
        with unit_of_work() as session:
            run, host = scoped(session, Run, run_id), scoped(session, RunHost, host_id)
            name = next(
                (one.name for one in playbooks.shelf() if one.playbook and one.playbook.name == run.playbook), ""
            )
            if host.run_id != run.id or host.asset_id is None or not name:
                raise Misconfigured("This host cannot be looked at from here.", advice="Open a console, or go there.")
            found = flows.request_run(
                session,
                playbook=name,
                asset_ids=[host.asset_id],
                actor=actor(),
                parameters=run.parameters,
                ticket_id=run.ticket_id,
                dry_run=True,
                own=own(),
            )
    except (Misconfigured, Conflict, Refused) as error:
        return page(run_id, error), error.status
    flash(gettext("This dry run only looks: what its probe finds tells whether the step ran."), "info")
    return redirect(url_for("runs.show", run_id=found.id), code=303)


@bp.post("/<int:run_id>/visit")
@requires("run.request")
def visit(run_id: int) -> ResponseReturnValue:
    """Propose a visit with what this run has tried."""
    reason = request.form.get("reason", "").strip()
    made: list[int] = []

    def act(session: Session) -> None:
        if not reason:
            raise Misconfigured("A visit needs a reason.", advice="Say in a sentence what could not be done remotely.")
        run = scoped(session, Run, run_id)
        order = visits.propose_for_run(session, run, reason=reason, now=utc_now(), by=actor().name)
        if order is None:
            raise Misconfigured("This run belongs to no ticket.", advice="Open a ticket and dispatch from there.")
        made.append(order.id)

    answer = acted(run_id, act, gettext("A visit is proposed."))
    return redirect(url_for("dispatch.show", work_order_id=made[0]), code=303) if made else answer
