"""The API for programs: the same things through the same gate as the pages, as JSON; errors as RFC 9457 documents."""

from datetime import timedelta
from typing import Any, TypeVar

from flask import Blueprint, Response, current_app, jsonify, request, url_for
from flask_wtf.csrf import generate_csrf
from pydantic import BaseModel, ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session
from werkzeug.exceptions import Unauthorized, UnsupportedMediaType

from msp.assets.models import ConfigurationItem
from msp.backup import plan_changes, plans
from msp.backup.models import BackupPlan, RestoreTest
from msp.clock import utc_now
from msp.contracts.models import Client, Site
from msp.desk import clock, queue, tickets
from msp.desk.models import Ticket
from msp.errors import Misconfigured, NotFound, Refused
from msp.flows import restores
from msp.people.access import RIGHTS, may
from msp.remote.models import Approval, Run, RunHost
from msp_web import api_models as models
from msp_web import keyset, openapi, portal_words
from msp_web.access import actor, bearer, by_token, public, scoped, signed_in, storable, visible
from msp_web.openapi import operation
from msp_web.unit import read_only, unit_of_work
from msp_web.views.portal_tickets import URGENCIES, WISHES

bp = Blueprint("api", __name__, url_prefix="/api/v1")

M = TypeVar("M", bound=BaseModel)


def said(answer: BaseModel, status: int = 200) -> Response:
    """Return a model as the body of an answer."""
    return Response(answer.model_dump_json(), status, mimetype="application/json")


def read(model: type[M], values: Any) -> M:
    """Return what was sent as a model. Raises Misconfigured with every fault, one sentence each."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, fault['loc'])) or 'the body'}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False)
        ]
        advice = f"See {url_for('api.described')}."
        raise Misconfigured("; ".join(faults)[:2000] + ".", advice=advice) from error


def body(model: type[M]) -> M:
    """Return the JSON body as a model. Raises UnsupportedMediaType for another kind, Misconfigured for no JSON."""
    if not request.is_json:
        raise UnsupportedMediaType
    return read(model, request.get_json(silent=True))


def demand(staff: str, client: str = "portal.see", client_id: int | None = None) -> None:
    """Raise Refused unless the asking person holds the right of their side."""
    if not may(actor(), staff if actor().is_staff else client, client_id):
        raise Refused("Your role does not allow this.", advice="Ask your administrator for the right role.")


def clients() -> list[int] | None:
    """Return the clients that the asking person may know of, None for all."""
    asking = actor()
    if asking.client_id is not None:
        return [asking.client_id]
    return None if asking.granted is None else sorted(asking.granted)


@bp.get("/openapi.json")
@public
@operation(answer=None, tag="about")
def described() -> Response:
    """This document."""
    return jsonify(openapi.document(current_app))


@bp.get("/me")
@signed_in
@operation(answer=models.Me, tag="about")
def me() -> Response:
    """Who asks, with which rights, and the token for writing."""
    asking = actor()
    with read_only() as session:
        client = scoped(session, Client, asking.client_id).name if asking.client_id is not None else None
    held = {right for role in asking.roles for right in RIGHTS.get(role, ())}
    return said(
        models.Me(
            log_in=asking.name,
            roles=sorted(asking.roles),
            rights=sorted(held),
            client_id=asking.client_id,
            client=client,
            language=asking.language,
            time_zone=asking.time_zone,
            csrf_token=generate_csrf(),
        )
    )


# --- tickets


def row_of(row: queue.Row) -> dict[str, Any]:
    left = row.time_left(utc_now())
    values = {name: getattr(row, name) for name in models.TicketRow.model_fields if name != "seconds_left"}
    return {**values, "seconds_left": int(left.total_seconds()) if left is not None else None}


@bp.get("/tickets")
@signed_in
@operation(answer=models.Page[models.TicketRow], query=models.TicketQuery, tag="tickets")
def ticket_list() -> Response:
    """Tickets by time left, those without a running clock last."""
    demand("ticket.see")
    asked = read(models.TicketQuery, request.args.to_dict())
    place = keyset.read(asked.after)
    if asked.after and place is None:
        raise Misconfigured("`after` is no place in this list.", advice="Give `next` of the answer before.")
    wanted = queue.Filter(client_ids=clients(), is_open=asked.open, words=asked.words)
    with read_only() as session:
        rows = queue.rows(session, wanted, limit=asked.limit + 1, after=place)
    last = rows[asked.limit - 1] if len(rows) > asked.limit else None
    items = [models.TicketRow(**row_of(row)) for row in rows[: asked.limit]]
    return said(
        models.Page[models.TicketRow](items=items, next=keyset.write(last.next_due_at, last.id) if last else None)
    )


@bp.get("/tickets/<int:ticket_id>")
@signed_in
@operation(answer=models.TicketWhole, tag="tickets")
def ticket(ticket_id: int) -> Response:
    """One ticket with its clocks, its log and its runs."""
    demand("ticket.see")
    with read_only() as session:
        return said(whole(session, scoped(session, Ticket, ticket_id)))


def whole(session: Session, ticket: Ticket) -> models.TicketWhole:
    """Return a ticket with everything that the asking person may read of it."""
    query = select(Client.name).where(Client.id == ticket.client_id)
    log = [one for one in tickets.log_of(session, ticket.id) if actor().is_staff or one.public]
    names = portal_words.people(session, (one.actor for one in log))
    view = clock.view(session, ticket, utc_now()) if ticket.log_version else None
    runs = session.scalars(visible(select(Run.id), Run).where(Run.ticket_id == ticket.id).order_by(Run.id))
    item = session.get(ConfigurationItem, ticket.asset_id) if ticket.asset_id else None
    left = ticket.next_due_at - utc_now() if ticket.next_due_at else None
    values: dict[str, Any] = {name: getattr(ticket, name, None) for name in models.TicketRow.model_fields}
    values["client"] = session.scalar(query)
    values["site"] = session.scalar(select(Site.name).where(Site.id == ticket.site_id))
    values["asset"] = item.name if item else None
    values["seconds_left"] = None if left is None else int(left.total_seconds())
    return models.TicketWhole(
        **values,
        clocks=[
            models.Clock(
                name=one.name,
                clause=view.clause,
                due_at=one.due_at,
                met_at=one.met_at,
                breached=one.breached,
                paused=one.paused,
                target_s=_seconds(one.target),
                used_s=_seconds(one.used) or 0,
                remaining_s=_seconds(one.remaining),
            )
            for one in view.clocks
        ]
        if view
        else [],
        log=[
            models.Entry(
                at=one.at,
                kind=one.kind,
                who=one.actor if actor().is_staff else portal_words.who(one.actor, names),
                public=one.public,
                text=one.text,
            )
            for one in log
        ],
        runs=list(runs),
    )


def _seconds(span: timedelta | None) -> int | None:
    return None if span is None else int(span.total_seconds())


@bp.post("/tickets")
@signed_in
@operation(answer=models.TicketWhole, status=201, body=models.NewTicket, tag="tickets")
def open_ticket() -> Response:
    """Open a ticket on the clock of the client's contract.

    A client's person may ask for the priorities P2 and P3 and the kinds incident and request.
    """
    demand("ticket.work", "portal.open_ticket")
    asked = body(models.NewTicket)
    client_id = asked.client_id or actor().client_id
    if client_id is None:
        raise Misconfigured("client_id is missing.", advice="Say for which client the ticket is.")
    if not actor().is_staff and (asked.priority not in URGENCIES or asked.kind not in WISHES):
        offered = f"{', '.join(URGENCIES)}; {', '.join(WISHES)}"
        raise Misconfigured("That priority or kind is not yours to ask for.", advice=f"Choose of {offered}.")
    with unit_of_work() as session:
        scoped(session, Client, client_id)
        if asked.asset_id and scoped(session, ConfigurationItem, asked.asset_id).client_id != client_id:
            raise NotFound("This client has no such asset.", advice="Choose one from the list of its assets.")
        opening = tickets.Opening(
            client_id=client_id,
            subject=" ".join(asked.subject.split()),
            text=asked.text,
            priority=asked.priority,
            kind=asked.kind,
            channel="portal",
            asset_id=asked.asset_id,
        )
        opened = tickets.open_ticket(session, opening, by=actor().name)
        answer = said(whole(session, opened), 201)
    answer.headers["Location"] = url_for("api.ticket", ticket_id=opened.id)
    return answer


# --- runs


def _number(after: str) -> int | None:
    if not after:
        return None
    if not (after.isdecimal() and after.isascii() and len(after) < 19):
        raise Misconfigured("`after` is no place in this list.", advice="Give `next` of the answer before.")
    return int(after)


@bp.get("/runs")
@signed_in
@operation(answer=models.Page[models.RunRow], query=models.RunQuery, tag="runs")
def run_list() -> Response:
    """Runs of playbooks, the newest first."""
    demand("run.see")
    asked = read(models.RunQuery, request.args.to_dict())
    query = visible(select(Run), Run).order_by(Run.id.desc()).limit(asked.limit + 1)
    if (after := _number(asked.after)) is not None:
        query = query.where(Run.id < after)
    if asked.state:
        query = query.where(Run.state == asked.state)
    if asked.ticket_id:
        query = query.where(Run.ticket_id == asked.ticket_id)
    with read_only() as session:
        rows = list(session.scalars(query))
    items = [models.RunRow.model_validate(run) for run in rows[: asked.limit]]
    following = str(items[-1].id) if len(rows) > asked.limit else None
    return said(models.Page[models.RunRow](items=items, next=following))


@bp.get("/runs/<int:run_id>")
@signed_in
@operation(answer=models.RunWhole, tag="runs")
def run(run_id: int) -> Response:
    """One run with the outcome of each host."""
    demand("run.see")
    with read_only() as session:
        found = scoped(session, Run, run_id)
        hosts = visible(select(RunHost), RunHost).where(RunHost.run_id == found.id).order_by(RunHost.position)
        asked = visible(select(Approval), Approval).where(Approval.run_id == found.id).order_by(Approval.id.desc())
        approval = session.scalar(asked.limit(1))
        contract = found.decision
        return said(
            models.RunWhole(
                **models.RunRow.model_validate(found).model_dump(),
                parameters=dict(portal_words.parameters(found.parameters)),
                decision=models.Said(
                    effect=contract.get("effect"),
                    clause_id=contract.get("clause_id"),
                    text=contract.get("text") or "",
                    text_ru=contract.get("text_ru") or "",
                ),
                approval=models.ApprovalState.model_validate(approval) if approval else None,
                hosts=[models.HostOutcome.model_validate(host) for host in session.scalars(hosts)],
            )
        )


# --- backups


@bp.get("/backups")
@signed_in
@operation(answer=models.Page[models.Backup], query=models.ListQuery, tag="backups")
def backup_list() -> Response:
    """Backups that are watched, each with its proof and its last restore test."""
    demand("backup.see")
    asked = read(models.ListQuery, request.args.to_dict())
    query = visible(select(BackupPlan), BackupPlan).where(BackupPlan.enabled).order_by(BackupPlan.id)
    if (after := _number(asked.after)) is not None:
        query = query.where(BackupPlan.id > after)
    with read_only() as session:
        rows = list(session.scalars(query.limit(asked.limit + 1)))
        items = [backup_of(session, plan) for plan in rows[: asked.limit]]
    following = str(items[-1].id) if len(rows) > asked.limit else None
    return said(models.Page[models.Backup](items=items, next=following))


def backup_of(session: Session, plan: BackupPlan) -> models.Backup:
    """Return a plan with its proof."""
    proof = plans.proof(session, plan, utc_now())
    last: RestoreTest | None = next(iter(plans.recent(session, plan.id, 1)), None)
    return models.Backup(
        id=plan.id,
        client_id=plan.client_id,
        name=plan.name,
        engine=plan.engine,
        asset_id=plan.asset_id,
        state=proof.state,
        words=proof.words,
        proven_at=proof.proven_at,
        expires_at=proof.expires_at,
        proof_every_s=int(plan.proof_every.total_seconds()),
        last_test=models.Tested(
            id=last.id,
            finished_at=last.finished_at,
            verdict=last.verdict,
            highest_rung=last.highest_rung,
            reasons=last.reasons,
            rto_s=_seconds(last.rto),
            rpo_s=_seconds(last.rpo),
        )
        if last
        else None,
    )


@bp.post("/backups/<int:plan_id>/written")
@by_token
@operation(answer=models.Triggered, status=202, body=models.Written, tag="backups")
def backup_written(plan_id: int) -> Response:
    """Say that the plan's backup job has written: its after-backup rungs are queued.

    The token is the plan's own. The same backup told of again is answered the same and tested once; without a name,
    twice in a minute is once.
    """
    token = bearer()
    asked = body(models.Written) if request.get_data() else models.Written()  # also one sent in chunks
    with unit_of_work() as session:
        plan = session.get(BackupPlan, plan_id) if storable(plan_id) else None
        if plan is None or not plan_changes.opens(plan, token):
            raise Unauthorized  # also where there is no such plan: a token tells nothing of others
        done = restores.after_backup(session, plan, utc_now(), backup=asked.backup.strip())
    answer = models.Triggered(
        plan_id=plan_id,
        job=done.job if done else None,
        rungs=list(done.rungs) if done else [],
        new=bool(done and done.new),
    )
    return said(answer, 202)
