"""What was agreed and what came of it: the contract in sentences, hours left, what is billed, and the evidence."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flask import Blueprint, Response, render_template, request
from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from msp import evidence
from msp.assets.models import ConfigurationItem
from msp.clock import utc_now
from msp.contracts import agreements
from msp.contracts.clauses import ACTION_CLASSES, Decision
from msp.contracts.models import Act, BillingEntry, Client, Contract, ContractVersion, HourBlock
from msp.errors import NotFound
from msp.evidence import Evidence
from msp.flows.deciding import decide
from msp_web import clause_words, dates, language, portal_words
from msp_web.access import actor, portal, scoped, visible
from msp_web.unit import read_only
from msp_web.views.contracts import Week, week_of
from msp_web.views.evidence import as_file, whole_number
from msp_web.views.portal import own_client

bp = Blueprint("portal_contract", __name__, url_prefix="/portal")

PAGE = 50
WORKED = 100  # billing entries that the page shows


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked of the contract, and what it says."""

    item: ConfigurationItem
    action: str
    at: datetime
    decision: Decision


@bp.get("/contract")
@portal()
def index() -> str:
    """Show the contract in force; without one, the latest."""
    with read_only() as session:
        contract = agreements.contract_for(session, own_client(), utc_now())
        if contract is None:
            latest = (
                visible(select(Contract), Contract)
                .where(Contract.draft.is_(False))
                .order_by(Contract.starts_on.desc(), Contract.id.desc())
            )
            contract = session.scalar(latest.limit(1))
        return page(session, contract)


@bp.get("/contracts/<int:contract_id>")
@portal()
def show(contract_id: int) -> str:
    """Show one contract."""
    with read_only() as session:
        contract = scoped(session, Contract, contract_id)
        if contract.draft:
            raise NotFound("There is no such contract.", advice="Go back to the list.")
        return page(session, contract)


def page(session: Session, contract: Contract | None) -> str:
    """Return the page of a contract; None: there is none yet."""
    signed = visible(select(Contract), Contract).where(Contract.draft.is_(False))
    contracts = list(session.scalars(signed.order_by(Contract.starts_on.desc())))
    version = agreements.version_at(session, contract.id, utc_now()) if contract else None
    terms, weeks = None, list[Week]()
    if version is not None:
        terms = agreements.terms_of(version)
        weeks = [week_of(name, document) for name, document in terms.calendars.items()]
    items = list(
        session.scalars(visible(select(ConfigurationItem), ConfigurationItem).order_by(ConfigurationItem.name))
    )
    return render_template(
        "portal/contract.html",
        contract=contract,
        contracts=contracts,
        version=version,
        terms=terms,
        weeks=weeks,
        parts_of=clause_words.parts,
        items=items,
        actions=ACTION_CLASSES,
        question=asked(session, items),
        **money_of(session, contract),
    )


def asked(session: Session, items: Sequence[ConfigurationItem]) -> Question | None:
    """Return what the contract says of the action in the address; None if none is asked."""
    item = next((one for one in items if str(one.id) == request.args.get("asset")), None)
    action = request.args.get("action", "")
    if item is None or action not in ACTION_CLASSES:
        return None
    at = utc_now()
    if text := request.args.get("at", ""):
        at = dates.instant(text, language.zone())
    return Question(item, action, at, decide(session, item, action, actor=actor().name, at=at).decision)


def money_of(session: Session, contract: Contract | None) -> dict[str, Any]:
    """Return hours left, what was worked and the acts of one contract."""
    if contract is None:
        return {"blocks": [], "entries": [], "acts": []}
    worked = (
        visible(select(BillingEntry), BillingEntry)
        .join(ContractVersion, ContractVersion.id == BillingEntry.contract_version_id)
        .where(ContractVersion.contract_id == contract.id, BillingEntry.state != "withdrawn")
        .order_by(BillingEntry.worked_at.desc(), BillingEntry.id.desc())
        .limit(WORKED)
    )
    acts = visible(select(Act), Act).where(Act.contract_id == contract.id, Act.state != "draft")
    blocks = visible(select(HourBlock), HourBlock).where(HourBlock.contract_id == contract.id)
    return {
        "blocks": list(session.scalars(blocks.order_by(HourBlock.purchased_on))),
        "entries": list(session.scalars(worked)),
        "acts": list(session.scalars(acts.order_by(Act.period.desc()))),
    }


# --- evidence


def narrowed(query: Select[Evidence], subject: str) -> Select[Evidence]:
    """Return a query limited to one thing, "run:12", or to one kind of act, "restore.tested"."""
    kind, _, ident = subject.partition(":")
    if ident:
        return query.where(Evidence.subject_kind == kind, Evidence.subject_id == ident)
    return query.where(Evidence.kind.startswith(subject, autoescape=True)) if subject else query


@bp.get("/evidence")
@portal()
def evidence_list() -> str:
    """List what was done for this client, newest first."""
    subject = request.args.get("q", "").strip()[:100]
    query = narrowed(visible(select(Evidence), Evidence), subject).order_by(Evidence.id.desc()).limit(PAGE + 1)
    if (after := whole_number("after")) is not None:
        query = query.where(Evidence.id < after)
    with read_only() as session:
        rows = list(session.scalars(query))
        head = session.get(evidence.EvidenceHead, own_client())
        return render_template(
            "portal/evidence.html",
            rows=rows[:PAGE],
            after=rows[PAGE - 1].id if len(rows) > PAGE else None,
            names=portal_words.people(session, (row.actor for row in rows)),
            subject=subject,
            head=head,
        )


@bp.get("/evidence/<int:evidence_id>")
@portal()
def record(evidence_id: int) -> str:
    """Show one record whole, with its digest computed anew."""
    with read_only() as session:
        row = scoped(session, Evidence, evidence_id)
        plain = evidence.exported(row)
        return render_template(
            "portal/record.html",
            row=row,
            text=evidence.canonical(plain).decode("utf-8", "replace"),
            whole=evidence.digest_of(plain) == row.digest,
            names=portal_words.people(session, [row.actor]),
        )


@bp.get("/evidence.jsonl")
@portal()
def export() -> Response:
    """Give the client its own chain."""
    with read_only() as session:
        key = scoped(session, Client, own_client()).key
    return as_file(own_client(), key)
