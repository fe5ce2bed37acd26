"""The client's own word on credentials: who asks to use which, who may now, and an end to it."""

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from sqlalchemy import select

from msp.assets.models import ConfigurationItem
from msp.clock import utc_now
from msp.flows import credential_grants
from msp.people.credential_grants import DECLINED, EXPIRED, GIVEN, REFUSED, WAITING, WITHDRAWN, CredentialGrant
from msp_web.access import actor, portal, scoped, visible
from msp_web.unit import read_only, unit_of_work

bp = Blueprint("portal_credentials", __name__, url_prefix="/portal/credentials")

LATELY = 30


@bp.get("/")
@portal()
def index() -> str:
    """Show what waits, who may use what now, and what has ended lately."""
    now = utc_now()
    with read_only() as session:
        query = (
            select(CredentialGrant, ConfigurationItem)
            .outerjoin(ConfigurationItem, ConfigurationItem.id == CredentialGrant.asset_id)
            .order_by(CredentialGrant.id.desc())
        )
        asked = visible(query.where(CredentialGrant.run_id.is_(None)), CredentialGrant)
        over = asked.where(CredentialGrant.state.in_((DECLINED, EXPIRED, REFUSED, WITHDRAWN))).limit(LATELY)
        return render_template(
            "portal/credentials.html",
            waiting=session.execute(asked.where(CredentialGrant.state == WAITING)).all(),
            given=[pair for pair in session.execute(asked.where(CredentialGrant.state == GIVEN)) if pair[0].holds(now)],
            over=session.execute(over).all(),
            may_answer=lambda grant: credential_grants.may_answer(grant, actor()),
        )


@bp.post("/<int:grant_id>/give")
@portal("portal.approve")
def give(grant_id: int) -> ResponseReturnValue:
    """Let it be used."""
    with unit_of_work() as session:
        scoped(session, CredentialGrant, grant_id)
        credential_grants.give(session, grant_id, actor=actor())
    flash(gettext("Given."), "success")
    return redirect(url_for("portal_credentials.index"), 303)


@bp.post("/<int:grant_id>/decline")
@portal("portal.approve")
def decline(grant_id: int) -> ResponseReturnValue:
    """Say no."""
    with unit_of_work() as session:
        scoped(session, CredentialGrant, grant_id)
        credential_grants.decline(session, grant_id, actor=actor(), reason=request.form.get("reason", ""))
    flash(gettext("Declined."), "success")
    return redirect(url_for("portal_credentials.index"), 303)


@bp.post("/<int:grant_id>/withdraw")
@portal("portal.approve")
def withdraw(grant_id: int) -> ResponseReturnValue:
    """End it now."""
    with unit_of_work() as session:
        scoped(session, CredentialGrant, grant_id)
        credential_grants.withdraw(session, grant_id, actor=actor(), reason=request.form.get("reason", ""))
    flash(gettext("Withdrawn."), "success")
    return redirect(url_for("portal_credentials.index"), 303)
