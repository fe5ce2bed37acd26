"""The start page, the own account and the language. Log-in itself is the library's, see security.py."""

from flask import Blueprint, current_app, flash, make_response, redirect, render_template, request, url_for
from flask_babel import gettext, refresh
from flask_security import login_user, verify_password
from werkzeug.wrappers import Response

from msp.errors import Misconfigured
from msp.people import users
from msp.people.models import User
from msp_web import language as languages
from msp_web.access import actor, can, current_actor, public, signed_in
from msp_web.security import LogIn, slows_down
from msp_web.unit import read_only, unit_of_work

bp = Blueprint("auth", __name__)


def back_to(address: str) -> str:
    """Return `address` if it is a page of ours, else the start page: nobody is sent elsewhere by a link."""
    inside = address.isprintable() and address.startswith("/") and not address.startswith(("//", "/\\"))
    return address if inside else "/"  # what is not printable, a tab say, browsers and libraries leave out


@bp.get("/")
@signed_in
def home() -> Response:
    """Lead everybody to the first screen of their work."""
    if can("portal.see"):
        return redirect(url_for("portal.home"))
    if "desk.queue" in current_app.view_functions and can("ticket.see"):
        return redirect(url_for("desk.queue"))
    return redirect(url_for("assets.index" if can("asset.see") else "auth.account"))


@bp.post("/language")
@public
def language() -> Response:
    """Keep the language chosen: with the user, or in a cookie before log-in."""
    chosen = request.form.get("language", "")
    if chosen not in languages.LANGUAGES:
        raise Misconfigured("That language is not spoken here.", advice="Choose English or Russian.")
    asking = current_actor()
    if asking is not None:
        with unit_of_work() as session:
            session.get_one(User, asking.user_id).language = chosen
    answer = make_response(redirect(back_to(request.form.get("next", "/"))))
    answer.set_cookie(
        languages.COOKIE,
        chosen,
        max_age=31536000,
        samesite="Lax",
        httponly=True,
        secure=current_app.config["SESSION_COOKIE_SECURE"],
    )
    return answer


@bp.get("/account")
@signed_in
def account() -> str:
    """Show the own account."""
    with read_only() as session:
        user = session.get_one(User, actor().user_id)
        return render_template("auth/account.html", user=user, zones=languages.zones())


@bp.post("/account")
@signed_in
def save_account() -> Response:
    """Change the own name, language and time zone."""
    name, zone = request.form.get("name", "").strip(), request.form.get("time_zone", "")
    chosen = request.form.get("language", "")
    if not name or zone not in languages.zones() or chosen not in languages.LANGUAGES:
        raise Misconfigured("Name, language or time zone is missing.", advice="Choose each of them and save again.")
    with unit_of_work() as session:
        user = session.get_one(User, actor().user_id)
        user.name, user.time_zone, user.language = name, zone, chosen
    refresh()
    flash(gettext("Saved."), "success")
    return redirect(url_for("auth.account"))


@bp.post("/account/password")
@signed_in
def change_password() -> Response:
    """Replace the own password; every other open session ends, this one goes on."""
    with unit_of_work() as session:
        user = session.get_one(User, actor().user_id)
        if not verify_password(request.form.get("current", ""), user.password or ""):
            raise Misconfigured("The current password is not right.", advice="Type it again.")
        if request.form.get("new", "") != request.form.get("again", ""):
            raise Misconfigured("The two new passwords differ.", advice="Type the same one twice.")
        users.set_password(session, user, request.form.get("new", ""), by=actor().name)
    with read_only() as session:
        login_user(session.get_one(LogIn, actor().user_id), authn_via=["password"])
    flash(gettext("The password is changed; other sessions have ended."), "success")
    return redirect(url_for("auth.account"))


bp.record(slows_down("auth.change_password"))
