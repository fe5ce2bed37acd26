"""The client's own word on credentials: who asks to use which, who may now, and an end to it."""

from flask import Blueprint, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select

from msp.assets.models import ConfigurationItem
from msp.clock import utc_now
from msp.flows import credential_grants
from msp.people.credential_grants import DECLINED, EXPIRED, GIVEN, REFUSED, WAITING, WITHDRAWN, CredentialGrant
from msp_web import grant_acts
from msp_web.access import actor, portal, visible
from msp_web.unit import read_only

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
    grant_acts.give(grant_id)
    return redirect(url_for("portal_credentials.index"), 303)


@bp.post("/<int:grant_id>/decline")
@portal("portal.approve")
def decline(grant_id: int) -> ResponseReturnValue:
    """Say no."""
    grant_acts.decline(grant_id)
    return redirect(url_for("portal_credentials.index"), 303)


@bp.post("/<int:grant_id>/withdraw")
@portal("portal.approve")
def withdraw(grant_id: int) -> ResponseReturnValue:
    """End it now."""
    grant_acts.withdraw(grant_id)
    return redirect(url_for("portal_credentials.index"), 303)
