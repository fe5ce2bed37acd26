"""Evidence: read, verified and given away, one chain a client."""

from collections.abc import Iterator
from typing import Any

from flask import Blueprint, Response, render_template, request
from sqlalchemy import select
from sqlalchemy.orm import Session

from msp import db, evidence
from msp.contracts.models import Client
from msp.errors import NotFound
from msp.evidence import Evidence
from msp_web.access import actor, requires, scoped, visible
from msp_web.unit import read_only

bp = Blueprint("evidence", __name__, url_prefix="/evidence")

PAGE = 50


def chain_of(session: Session, chain: int) -> Client | None:
    """Return the client of a chain, None for the provider's own; raises NotFound for a chain out of sight."""
    if chain == evidence.PROVIDER:
        if actor().granted is not None or actor().client_id is not None:
            raise NotFound("There is no such chain.", advice="Go back to the list.")
        return None
    return scoped(session, Client, chain)


def whole_number(name: str) -> int | None:
    """Return a query value as a number, None if it is none."""
    text = request.args.get(name, "")
    return int(text) if text.isdecimal() and len(text) < 16 else None


@bp.get("/")
@requires("evidence.see")
def index() -> str:
    """List acts, newest first."""
    chain, after = whole_number("client"), whole_number("after")
    subject = request.args.get("q", "").strip()
    with read_only() as session:
        query = visible(select(Evidence), Evidence).order_by(Evidence.id.desc()).limit(PAGE + 1)
        if chain is not None:
            chain_of(session, chain)
            query = query.where(Evidence.chain == chain)
        if after is not None:
            query = query.where(Evidence.id < after)
        if subject:
            kind, _, ident = subject.partition(":")
            query = (
                query.where(Evidence.subject_kind == kind, Evidence.subject_id == ident)
                if ident
                else query.where(Evidence.kind.startswith(subject, autoescape=True))
            )
        rows = list(session.scalars(query))
        clients = {client.id: client.name for client in session.scalars(visible(select(Client), Client))}
        return render_template(
            "evidence/index.html",
            rows=rows[:PAGE],
            after=rows[PAGE - 1].id if len(rows) > PAGE else None,
            clients=clients,
            chain=chain,
        )


@bp.get("/<int:chain>/verify")
@requires("evidence.see")
def verify(chain: int) -> str:
    """Recompute one chain and say whether it is whole."""
    with read_only() as session:
        client = chain_of(session, chain)
        count, breaks = evidence.verify(session, [chain])
    return render_template("evidence/verify.html", client=client, chain=chain, count=count, breaks=breaks)


@bp.get("/<int:chain>/export")
@requires("evidence.see")
def export(chain: int) -> Response:
    """Give away one chain as JSON lines."""
    with read_only() as session:
        client = chain_of(session, chain)
    return as_file(chain, client.key if client else "provider")


def as_file(chain: int, key: str) -> Response:
    """Return a download of one chain, read while it is sent."""

    def lines() -> Iterator[Any]:
        with db.read() as session:
            for line in evidence.lines(session, chain):
                yield line.encode("utf-8", "surrogatepass")

    answer = Response(lines(), mimetype="application/jsonl")
    answer.headers["Content-Disposition"] = f'attachment; filename="evidence-{key}.jsonl"'
    return answer
