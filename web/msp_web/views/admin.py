"""Administration: health, people and their rights, vault ages, settings explained."""

from collections.abc import Container
from dataclasses import fields
from typing import Any

from flask import Blueprint, current_app, flash, redirect, render_template, request, url_for
from flask_babel import gettext
from sqlalchemy import select
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response

from msp import db, evidence
from msp.contracts.models import Client
from msp.dispatch.models import Technician
from msp.errors import Misconfigured, Refused
from msp.people import users
from msp.people.access import CLIENT_ROLES, RIGHTS
from msp.people.models import Grant, Role, User
from msp.settings import Settings
from msp_web import language
from msp_web.access import actor, requires, scoped, storable, visible
from msp_web.unit import read_only, unit_of_work

bp = Blueprint("admin", __name__, url_prefix="/admin")


@bp.get("/")
@requires("admin.see")
def index() -> str:
    """Show the findings of the doctor."""
    from msp.flows import health  # brings the durable engine with it, which no other page needs

    findings = health.examine(current_app.config["MSP_SETTINGS"], whole_chain=False)
    return render_template("admin/index.html", findings=findings)


@bp.get("/users")
@requires("admin.see")
def people() -> str:
    """List people."""
    with read_only() as session:
        rows = list(session.scalars(visible(select(User), User).order_by(User.client_id, User.email)))
        clients = {client.id: client for client in session.scalars(visible(select(Client), Client))}
        grants: dict[int, list[str]] = {}
        for grant in session.scalars(visible(select(Grant), Grant)):
            grants.setdefault(grant.user_id, []).append(clients[grant.client_id].name)
        return render_template("admin/users.html", rows=rows, clients=clients, grants=grants)


@bp.get("/users/new")
@requires("admin.see")
def new_user() -> str:
    """Offer the form of a new person."""
    with read_only() as session:
        return render_template("admin/user.html", user=None, **choices(session))


def choices(session: Session) -> dict[str, Any]:
    return {
        "clients": list(session.scalars(visible(select(Client), Client).order_by(Client.name))),
        "staff_roles": [role for role in RIGHTS if role not in CLIENT_ROLES],
        "client_roles": [role for role in RIGHTS if role in CLIENT_ROLES],
        "zones": language.zones(),
        "granted": set(),
    }


def one_of(value: str | None, known: Container[str], otherwise: str) -> str:
    """Return `value` if it is known."""
    return value if value is not None and value in known else otherwise


@bp.post("/users/new")
@requires("admin.see")
def add_user() -> Response:
    """Add a person with roles."""
    form = request.form
    client = form.get("client_id", "")
    if actor().granted is not None and not client:
        raise Refused(
            "You see some clients only, and a new colleague would see every one.",
            advice="Ask an administrator who sees every client.",
        )
    with unit_of_work() as session:
        user = users.add(
            session,
            email=form.get("email", ""),
            name=form.get("name", "").strip() or form.get("email", ""),
            password=form.get("password", ""),
            roles=form.getlist("role"),
            by=actor().name,
            client_id=scoped(session, Client, int(client[:15])).id if client.isdecimal() else None,
            language=one_of(form.get("language"), language.LANGUAGES, "en"),
            time_zone=one_of(form.get("time_zone"), language.zones(), "UTC"),
        )
    flash(gettext("Added."), "success")
    return redirect(url_for("admin.user", user_id=user.id))


@bp.get("/users/<int:user_id>")
@requires("admin.see")
def user(user_id: int) -> str:
    """Show one person with roles and grants."""
    with read_only() as session:
        person = scoped(session, User, user_id)
        given = choices(session)
        given["granted"] = set(session.scalars(select(Grant.client_id).where(Grant.user_id == person.id)))
        given["technician"] = session.scalar(select(Technician).where(Technician.user_id == person.id))
        return render_template("admin/user.html", user=person, **given)


@bp.post("/users/<int:user_id>")
@requires("admin.see")
def save_user(user_id: int) -> Response:
    """Change a person's roles, grants and whether they may log in."""
    form = request.form
    with unit_of_work() as session:
        person = scoped(session, User, user_id)
        wanted = set(form.getlist("role"))
        if not wanted or any(
            role not in RIGHTS or (role in CLIENT_ROLES) != (person.client_id is not None) for role in wanted
        ):
            raise Misconfigured("No role, or one that does not fit this person.", advice="Choose at least one role.")
        active = form.get("active") == "1"
        if person.id == actor().user_id and not (active and "admin" in wanted):
            raise Refused("You cannot take your own administration away.", advice="Ask another administrator.")
        person.roles = list(session.scalars(select(Role).where(Role.name.in_(wanted))))
        person.active = active
        allowed = {client.id for client in session.scalars(visible(select(Client), Client))}
        granted = {int(text) for text in form.getlist("grant") if storable(text)} & allowed
        for grant in session.scalars(select(Grant).where(Grant.user_id == person.id)):
            session.delete(grant)
        if person.client_id is None:
            session.add_all(Grant(user_id=person.id, client_id=one) for one in sorted(granted))
        told = {"roles": sorted(wanted), "active": active, "clients": sorted(granted)}
        note(session, "user.changed", person, told)
    flash(gettext("Saved."), "success")
    return redirect(url_for("admin.user", user_id=user_id))


def note(session: Session, kind: str, person: User, data: dict[str, Any]) -> None:
    subject = ("user", person.id)
    evidence.record(session, kind, actor=actor().name, subject=subject, client_id=person.client_id, data=data)


@bp.post("/users/<int:user_id>/reset")
@requires("admin.see")
def reset_user(user_id: int) -> Response:
    """Give a new password and take the second factor away; every open session of that person ends."""
    with unit_of_work() as session:
        person = scoped(session, User, user_id)
        users.set_password(session, person, request.form.get("password", ""), by=actor().name)
        person.tf_primary_method = person.tf_totp_secret = person.mf_recovery_codes = None
        note(session, "user.second_factor_removed", person, {})
    flash(gettext("The log-in is reset; every open session has ended."), "success")
    return redirect(url_for("admin.user", user_id=user_id))


@bp.get("/roles")
@requires("admin.see")
def roles() -> str:
    """Explain what each role may do."""
    rights = sorted(set().union(*RIGHTS.values()) - {"*"})
    return render_template("admin/roles.html", roles=RIGHTS, rights=rights)


@bp.get("/settings")
@requires("admin.see")
def settings() -> str:
    """Explain every setting with the value in force."""
    loaded = current_app.config["MSP_SETTINGS"]
    rows = [
        (item.name, shown(str(getattr(loaded, item.name))), str(item.default), item.metadata["explains"])
        for item in fields(Settings)
    ]
    return render_template("admin/settings.html", rows=rows)


def shown(value: str) -> str:
    """Return a value without the password that an address may hold."""
    return db.without_password(value) if "://" in value else value
