"""The credential desk: what is kept for whom, how old it is, who uses it and who may. Values go in, not out.

The one exception, `reveal`, needs a right of its own and a reason, shows the value once and marks it as to be rotated.
"""

import csv
import io
from collections import Counter
from datetime import timedelta
from secrets import compare_digest, token_urlsafe
from typing import Any

from flask import Blueprint, Response, current_app, flash, make_response, redirect, render_template, request, url_for
from flask import session as browser
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from msp import vault
from msp.assets.inventory import fingerprint
from msp.clock import utc_now
from msp.contracts.models import Client
from msp.desk.models import Ticket
from msp.errors import Conflict, Misconfigured, Refused
from msp.evidence import Evidence
from msp.flows import credential_grants, credentials, rotating
from msp.flows.credentials import Row
from msp.people.credential_grants import CredentialGrant
from msp.remote import ca
from msp.remote.ca import SshAuthority, SshCertificate
from msp.remote.rotations import STUCK, SecretRotation
from msp.secret import Secret
from msp.secret_store.age import STATES
from msp.settings import Settings
from msp.vault import KINDS, Vault, VaultSecret
from msp_web import grant_acts
from msp_web import words_of_credentials as words_of_credentials
from msp_web.access import actor, can, requires, scoped, visible
from msp_web.unit import read_only, unit_of_work
from msp_web.views.assets import clients_of, plain_cell

bp = Blueprint("credentials", __name__, url_prefix="/credentials")

HISTORY = 40
COLUMNS = ("client", "name", "store", "kind", "state", "age_days", "limit_days", "changed_at", "changed_by",
           "rotated_at", "used_at", "used_by", "assets", "may_use")  # fmt: skip


def settings() -> Settings:
    found: Settings = current_app.config["MSP_SETTINGS"]
    return found


def rows(session: Session, *, kind: str = "", state: str = "", text: str = "") -> list[Row]:
    """Return what the asking person may know of, the worst first."""
    policy = credentials.policy_of(settings())
    found = credentials.desk(session, policy, utc_now(), kind=kind, state=state, text=text)
    return [row for row in found if actor().sees(row.secret.client_id or None)]


def listed(session: Session) -> list[Row]:
    """Return the list that the address asks for; filters live in the address."""
    given = request.args
    found = rows(session, kind=given.get("kind", ""), state=given.get("state", ""), text=given.get("q", ""))
    client = given.get("client", "")
    if client.isdecimal() and len(client) < 16:
        found = [row for row in found if row.secret.client_id == int(client)]
    return found


@bp.get("/")
@requires("credential.see")
def index() -> str:
    """Show every secret, the worst first, and what waits for this person's word."""
    with read_only() as session:
        found = listed(session)
        query = visible(select(SecretRotation), SecretRotation).where(SecretRotation.state == STUCK)
        return render_template(
            "credentials/index.html",
            rows=found,
            counts=Counter(row.age.state for row in rows(session)),
            clients=clients_of(session),
            kinds=KINDS,
            states=STATES,
            waiting=[one for one in credential_grants.waiting(session, actor()) if actor().sees(one.client_id)],
            stuck=list(session.scalars(query.order_by(SecretRotation.id))),
            authorities=signing(session),
            search_action=url_for("credentials.index"),
            search_placeholder=gettext("Find a secret by its name"),
        )


def signing(session: Session) -> list[tuple[SshAuthority, int, str]]:
    """Return the authorities that sign now, how many certificates of each are valid, and their fingerprints."""
    now = utc_now()
    valid = (SshCertificate.valid_before > now, SshCertificate.revoked_at.is_(None))
    found = []
    for row in ca.authorities(session):
        if row.replaced_at is None and row.revoked_at is None and actor().sees(row.client_id or None):
            query = (
                select(func.count()).select_from(SshCertificate).where(SshCertificate.authority_id == row.id, *valid)
            )
            found.append((row, session.scalar(query) or 0, fingerprint(row.public_key)))
    return found


@bp.get("/list.csv")
@requires("credential.see")
def as_csv() -> Response:
    """Give away the list that is on the page, whole; never a value."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    with read_only() as session:
        for row in listed(session):
            cells = [row.as_dict()[name] for name in COLUMNS]
            writer.writerow([plain_cell(", ".join(cell) if isinstance(cell, list) else cell) for cell in cells])
    answer = Response("\ufeff" + text.getvalue(), mimetype="text/csv")
    answer.headers["Content-Disposition"] = 'attachment; filename="credentials.csv"'
    return answer


@bp.get("/new")
@requires("credential.edit")
def new() -> str:
    """Offer the form of a new secret."""
    with read_only() as session:
        return render_template("credentials/new.html", clients=clients_of(session), kinds=KINDS)


@bp.post("/new")
@requires("credential.edit")
def add() -> ResponseReturnValue:
    """Store a new secret."""
    form, client = request.form, request.form.get("client_id", "")
    with unit_of_work() as session:
        if client == "0" and actor().sees(None):
            client_id = 0
        else:
            client_id = scoped(session, Client, int(client[:15]) if client.isdecimal() else -1).id
        row = credentials.store(
            session,
            Vault.from_file(settings().key_path),
            name=form.get("name", "").strip(),
            value=value_given(),
            client_id=client_id,
            by=actor().name,
            kind=form.get("kind", ""),
            new=True,
        )
        number = row.id
    flash(gettext("Stored. Nobody can read it here."), "success")
    return redirect(url_for("credentials.show", credential_id=number), 303)


def value_given() -> Secret:
    """Return the value of the form: typed, or made here where nobody sees it."""
    if request.form.get("generate"):
        return credentials.generate()
    value = request.form.get("value", "")
    if "PRIVATE KEY" in value:  # a text field sends lines with carriage returns, which no key has
        value = value.replace("\r\n", "\n").strip() + "\n"
    return Secret(value)


@bp.get("/<int:credential_id>")
@requires("credential.see")
def show(credential_id: int) -> str:
    """Show one secret: its age, use, grants, rotations and history; never its value."""
    with read_only() as session:
        return render_template("credentials/show.html", **page(session, credential_id))


def page(session: Session, credential_id: int) -> dict[str, Any]:
    row = one(session, credential_id)
    found = next(each for each in rows(session, text=row.name) if each.secret.id == row.id)
    grants = (
        select(CredentialGrant)
        .where(CredentialGrant.client_id == row.client_id, CredentialGrant.secret == row.reference)
        .order_by(CredentialGrant.id.desc())
    )
    rotations = (
        select(SecretRotation)
        .where(SecretRotation.client_id == row.client_id, SecretRotation.secret == row.reference)
        .order_by(SecretRotation.id.desc())
    )
    acts = (
        select(Evidence)
        .where(Evidence.chain == row.client_id, Evidence.subject_kind == "secret",
               Evidence.subject_id == row.reference)
        .order_by(Evidence.seq.desc())
    )  # fmt: skip
    tickets = select(Ticket).where(Ticket.client_id == row.client_id, Ticket.is_open).order_by(Ticket.id.desc())
    return {
        "row": found,
        "credential": row,
        "grants": list(session.scalars(visible(grants.limit(HISTORY), CredentialGrant))),
        "rotations": list(session.scalars(visible(rotations.limit(10), SecretRotation))),
        "acts": list(session.scalars(visible(acts.limit(HISTORY), Evidence))),
        "tickets": list(session.scalars(visible(tickets.limit(100), Ticket))),
        "may_answer": lambda grant: credential_grants.may_answer(grant, actor()),
        "own_vault": row.sealed is not None,
    }


def one(session: Session, credential_id: int) -> VaultSecret:
    """Return a secret of a client that the asking person sees; the provider's own for who sees every client."""
    return scoped(session, VaultSecret, credential_id)


@bp.post("/<int:credential_id>/replace")
@requires("credential.edit")
def replace(credential_id: int) -> ResponseReturnValue:
    """Put another value in force, typed or made here. Machines are told by rotating, not by this."""
    with unit_of_work() as session:
        row = one(session, credential_id)
        if row.sealed is None:
            raise Conflict("Another store keeps this secret.", advice="Replace it there.")
        credentials.store(
            session,
            Vault.from_file(settings().key_path),
            name=row.name,
            value=value_given(),
            client_id=row.client_id,
            by=actor().name,
            kind=row.kind if request.form.get("generate") else "",
            new=False,
        )
    flash(gettext("Replaced. What stood there before is gone."), "success")
    return redirect(url_for("credentials.show", credential_id=credential_id), 303)


@bp.post("/<int:credential_id>/delete")
@requires("credential.edit")
def delete(credential_id: int) -> ResponseReturnValue:
    """Forget a secret that opens nothing."""
    with unit_of_work() as session:
        row = one(session, credential_id)
        credentials.delete(session, Vault.from_file(settings().key_path), row, by=actor().name)
    flash(gettext("Forgotten."), "success")
    return redirect(url_for("credentials.index"), 303)


@bp.post("/<int:credential_id>/rotate")
@requires("credential.rotate")
def rotate(credential_id: int) -> ResponseReturnValue:
    """Begin to replace a secret on every asset that it opens."""
    with read_only() as session:
        row = one(session, credential_id)
    rotating.rotate(settings(), client_id=row.client_id, secret=row.reference, actor=actor())
    flash(gettext("It is being rotated; a fresh log-in will prove it."), "success")
    return redirect(url_for("credentials.show", credential_id=credential_id, _anchor="rotations"), 303)


@bp.post("/rotations/<int:rotation_id>/again")
@requires("credential.rotate")
def look_again(rotation_id: int) -> ResponseReturnValue:
    """Let a rotation that is stuck be looked at again."""
    with unit_of_work() as session:
        scoped(session, SecretRotation, rotation_id)
        rotating.again(session, rotation_id, actor=actor())
    flash(gettext("A worker looks again."), "success")
    return redirect(url_for("credentials.index"), 303)


@bp.get("/<int:credential_id>/reveal")
@requires("credential.reveal")
def reveal_form(credential_id: int) -> ResponseReturnValue:
    """Ask for the reason before a value is shown."""
    browser["reveal"] = f"{credential_id}:{token_urlsafe(16)}"
    with read_only() as session:
        return private("credentials/reveal.html", value=None, once=browser["reveal"], **page(session, credential_id))


@bp.post("/<int:credential_id>/reveal")
@requires("credential.reveal")
def reveal(credential_id: int) -> ResponseReturnValue:
    """Show a value, once: the answer is kept by nobody, and sending the form again shows nothing."""
    ticket = request.form.get("ticket_id", "")
    with unit_of_work() as session:
        row = one(session, credential_id)
        once = browser.pop("reveal", "")
        if not once or not compare_digest(str(once), request.form.get("once", "")):
            raise Conflict("It was shown before.", advice="Open the page anew and say why once more.")
        if row.sealed is None:
            raise Refused("Another store keeps this secret.", advice="Look at it there.")
        credentials.let_see(
            session,
            row,
            actor=actor(),
            reason=request.form.get("reason", ""),
            ticket_id=int(ticket) if ticket.isdecimal() and len(ticket) < 16 else None,
        )
        value = Vault.from_file(settings().key_path).get(session, row.name, client_id=row.client_id)
    with read_only() as session:
        return private("credentials/reveal.html", value=value.value, once="", **page(session, credential_id))


def private(template: str, **values: Any) -> Response:
    """Return a page that nobody on the way, and no browser, keeps."""
    answer = make_response(render_template(template, **values))
    answer.headers["Cache-Control"] = "no-store"
    return answer


# --- grants


@bp.post("/ask")
@requires("credential.ask")
def ask() -> ResponseReturnValue:
    """Ask for the use of an asset's credential on a ticket."""
    form = request.form
    numbers = {name: form.get(name, "") for name in ("asset_id", "ticket_id", "minutes")}
    if not all(text.isdecimal() and len(text) < 16 for text in numbers.values()):
        raise Misconfigured("Asset, ticket or minutes are missing.", advice="Fill in the whole form.")
    with unit_of_work() as session:
        grant = credential_grants.ask(
            session,
            asset_id=int(numbers["asset_id"]),
            ticket_id=int(numbers["ticket_id"]),
            actor=actor(),
            reason=form.get("reason", ""),
            lasts=timedelta(minutes=min(int(numbers["minutes"]), 100_000)),
        )
        state, said, ticket_id = grant.state, grant.decision, grant.ticket_id
    told = {
        "given": gettext("You may use it now, without seeing it."),
        "waiting": gettext("Asked. You will see here when it is answered."),
        "refused": gettext("The contract refuses it: %(text)s", text=said.get("text") or ""),
    }[state]
    flash(told, "success" if state == "given" else "info" if state == "waiting" else "error")
    return redirect(url_for("desk.show", ticket_id=ticket_id), 303)


@bp.post("/grants/<int:grant_id>/give")
@requires("contract.edit")
def give(grant_id: int) -> ResponseReturnValue:
    """Let a use begin that a clause leaves to us."""
    grant_acts.give(grant_id)
    return back(grant_id)


@bp.post("/grants/<int:grant_id>/decline")
@requires("contract.edit")
def decline(grant_id: int) -> ResponseReturnValue:
    """Say no."""
    grant_acts.decline(grant_id)
    return back(grant_id)


@bp.post("/grants/<int:grant_id>/withdraw")
@requires("credential.see")
def withdraw(grant_id: int) -> ResponseReturnValue:
    """Take a grant back; consoles under it end, runs stop before their next step."""
    grant_acts.withdraw(grant_id)
    return back(grant_id)


def back(grant_id: int) -> ResponseReturnValue:
    """Return to the secret of a grant, or to the desk where it is not recorded."""
    with read_only() as session:
        grant = scoped(session, CredentialGrant, grant_id)
        query = select(vault.VaultSecret).where(vault.VaultSecret.client_id == grant.client_id)
        row = next((each for each in session.scalars(query) if each.reference == grant.secret), None)
    if row is None or not can("credential.see"):
        return redirect(url_for("credentials.index"), 303)
    return redirect(url_for("credentials.show", credential_id=row.id, _anchor="grants"), 303)
