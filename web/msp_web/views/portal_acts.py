"""Acts for the client: read line by line with the evidence, then accepted or disputed."""

from collections.abc import Callable

from flask import Blueprint, Response, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from sqlalchemy import select
from sqlalchemy.orm import Session

from msp.contracts import act_states
from msp.contracts.models import Act, Contract
from msp.contracts.outputs import FORMATS
from msp.contracts.outputs.act_json import digest
from msp.errors import Conflict, Misconfigured, NotFound
from msp.flows import billing
from msp_web import language
from msp_web.access import actor, portal, scoped, visible
from msp_web.unit import read_only, unit_of_work
from msp_web.views.billing import download, history

bp = Blueprint("portal_acts", __name__, url_prefix="/portal")


def sent(session: Session, act_id: int) -> Act:
    """Return an act that was sent; a draft is not there yet."""
    act = scoped(session, Act, act_id)
    if act.state == "draft":
        raise NotFound("There is no such thing, or it is not yours to see.", advice="Go back to the list.")
    return act


@bp.get("/acts")
@portal()
def index() -> str:
    """List acts, those that wait for acceptance first."""
    with read_only() as session:
        query = visible(select(Act, Contract), Act).join(Contract, Contract.id == Act.contract_id)
        query = query.where(Act.state != "draft").order_by(Act.state != "sent", Act.period.desc(), Act.id.desc())
        return render_template("portal/acts.html", rows=session.execute(query.limit(200)).all())


@bp.get("/acts/<int:act_id>")
@portal()
def show(act_id: int) -> str:
    """Show one act in the reader's language, each line with its reason and its evidence."""
    with read_only() as session:
        act = sent(session, act_id)
        document = billing.document_of(session, act, language.language())
        return render_template(
            "portal/act.html", act=act, document=document, history=history(session, act), formats=FORMATS
        )


@bp.get("/acts/<int:act_id>/file.<form>")
@portal()
def file(act_id: int, form: str) -> Response:
    """Give the act as PDF, XLSX, CSV or JSON."""
    with read_only() as session:
        return download(sent(session, act_id), session, form)


def decided(act_id: int, decide: Callable[[Session, Act, str], None], words: str) -> ResponseReturnValue:
    """Take the decision in one transaction; what stands against it is told on the act."""
    try:
        with unit_of_work() as session:
            act = sent(session, act_id)
            decide(session, act, digest(billing.document_of(session, act)))
        flash(words, "success")
    except (Conflict, Misconfigured) as error:
        flash(language.explained(error), "error")
    return redirect(url_for("portal_acts.show", act_id=act_id), code=303)


@bp.post("/acts/<int:act_id>/accept")
@portal("portal.approve")
def accept(act_id: int) -> ResponseReturnValue:
    """Accept the act as it stands."""
    return decided(
        act_id,
        lambda session, act, mark: act_states.accept(session, act, by=actor().name, digest=mark),
        gettext("Accepted. Thank you."),
    )


@bp.post("/acts/<int:act_id>/dispute")
@portal("portal.approve")
def dispute(act_id: int) -> ResponseReturnValue:
    """Say what is wrong with the act."""
    reason = request.form.get("reason", "")[:4000]
    return decided(
        act_id,
        lambda session, act, mark: act_states.dispute(session, act, reason, by=actor().name, digest=mark),
        gettext("We were told what is wrong and come back to you."),
    )
