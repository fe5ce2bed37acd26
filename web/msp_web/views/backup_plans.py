"""What people do to a plan that stands: pause it, let it go on, remove it, put it back, give its job a token."""

from flask import Blueprint, flash, redirect, request, url_for
from flask import session as cookie
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from sqlalchemy.orm import Session

from msp.backup import plan_changes
from msp.backup.models import BackupPlan
from msp.clock import utc_now
from msp.errors import NotFound
from msp.flows import backup_plans
from msp_web.access import actor, can, requires, scoped
from msp_web.unit import unit_of_work

bp = Blueprint("backup_plans", __name__, url_prefix="/backups")

FRESH = "backup_token"  # [plan, token] just given, until the next page has shown it


def plan_of(session: Session, plan_id: int) -> BackupPlan:
    """Return a plan that the asking person may change."""
    plan = scoped(session, BackupPlan, plan_id)
    if not can("backup.edit", plan.client_id):
        raise NotFound("There is no such plan.", advice="Go back to the proof board.")
    return plan


def back(plan_id: int) -> ResponseReturnValue:
    return redirect(url_for("backups.show", plan_id=plan_id), 303)


@bp.post("/<int:plan_id>/switch")
@requires("backup.edit")
def switch(plan_id: int) -> ResponseReturnValue:
    """Pause a plan, or let it go on."""
    on = request.form.get("to") == "on"
    with unit_of_work() as session:
        backup_plans.switch(session, plan_of(session, plan_id), on, utc_now(), by=actor().name)
    flash(
        gettext("The plan goes on.") if on else gettext("The plan is paused: it is not tested and not proven."), "info"
    )
    return back(plan_id)


@bp.post("/<int:plan_id>/remove")
@requires("backup.edit")
def remove(plan_id: int) -> ResponseReturnValue:
    """Take a plan off every list; its page offers to put it back."""
    with unit_of_work() as session:
        backup_plans.remove(session, plan_of(session, plan_id), utc_now(), by=actor().name)
    return back(plan_id)


@bp.post("/<int:plan_id>/put-back")
@requires("backup.edit")
def put_back(plan_id: int) -> ResponseReturnValue:
    """Undo a removal."""
    with unit_of_work() as session:
        backup_plans.put_back(session, plan_of(session, plan_id), utc_now(), by=actor().name)
    flash(gettext("The plan is back, as it was."), "success")
    return back(plan_id)


@bp.post("/<int:plan_id>/token")
@requires("backup.edit")
def token(plan_id: int) -> ResponseReturnValue:
    """Give the plan's job a new token, or take it away."""
    with unit_of_work() as session:
        plan = plan_of(session, plan_id)
        if request.form.get("do") == "withdraw":
            plan_changes.withdraw_token(session, plan, by=actor().name)
            flash(gettext("The token is worth nothing any more."), "success")
        else:
            cookie[FRESH] = [plan.id, plan_changes.give_token(session, plan, by=actor().name)]
    return redirect(url_for("backups.show", plan_id=plan_id, _anchor="trigger"), 303)


def shown_once(plan_id: int) -> str | None:
    """Return the token that was just given to this plan, once; never to a page that only brings itself up to date."""
    if request.headers.get("HX-Request") or (cookie.get(FRESH) or [None])[0] != plan_id:
        return None
    return str(cookie.pop(FRESH)[1])
