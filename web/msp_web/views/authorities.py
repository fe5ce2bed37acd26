"""Our SSH certificate authorities: made, replaced, taken back; what they signed, and the list of it for sshd."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flask import Blueprint, Response, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from msp.assets.inventory import fingerprint
from msp.assets.models import ConfigurationItem
from msp.clock import utc_now
from msp.contracts.models import Client
from msp.errors import Misconfigured, Refused
from msp.remote import ca
from msp.remote.ca import SshAuthority, SshCertificate
from msp.remote.consoles.models import ConsoleSession
from msp.remote.models import Run
from msp.vault import Vault
from msp_web import words_of_credentials as words_of_credentials
from msp_web.access import actor, requires, scoped, visible
from msp_web.unit import read_only, unit_of_work
from msp_web.views.assets import clients_of
from msp_web.views.credentials import settings
from msp_web.views.desk import number_of

bp = Blueprint("authorities", __name__, url_prefix="/credentials/authorities")

PAGE = 50


@dataclass(frozen=True)
class Shown:
    """An authority as a page shows it. `hosts`: items that its certificates enter."""

    row: SshAuthority
    mark: str
    valid: int
    hosts: int


@dataclass(frozen=True)
class Entry:
    """A certificate with what it was made for."""

    row: SshCertificate
    run: Run | None
    console: ConsoleSession | None

    @property
    def ticket_id(self) -> int | None:
        """The ticket of its run or console."""
        purpose = self.run or self.console
        return purpose.ticket_id if purpose else None

    @property
    def decision(self) -> dict[str, Any]:
        """What the contract said of its run or console."""
        purpose = self.run or self.console
        return purpose.decision if purpose else {}


@bp.get("/")
@requires("credential.see")
def index() -> str:
    """List the authorities there ever were, and the certificates they signed, the newest first."""
    given, now = request.args, utc_now()
    query = certificates(now, client=given.get("client", ""), state=given.get("state", ""), run=given.get("run", ""))
    if after := number_of(given.get("after")):
        query = query.where(SshCertificate.id < after)
    with read_only() as session:
        found = [Entry(*row) for row in session.execute(query.limit(PAGE + 1))]
        mine = list(session.scalars(visible(select(SshAuthority), SshAuthority).order_by(SshAuthority.id.desc())))
        shown = [as_shown(session, row, now) for row in mine]
        return render_template(
            "credentials/authorities.html",
            authorities=[one for one in shown if one.row.state == "signs"],
            past=[one for one in shown if one.row.state != "signs"],
            certificates=found[:PAGE],
            after=found[PAGE - 1].row.id if len(found) > PAGE else None,
            clients=clients_of(session),
            moment_of_page=now,
        )


def certificates(now: datetime, *, client: str, state: str, run: str) -> Select[SshCertificate, Run, ConsoleSession]:
    """Return what the address asks for; filters live in the address."""
    query = (
        visible(select(SshCertificate, Run, ConsoleSession), SshCertificate)
        .outerjoin(Run, Run.id == SshCertificate.run_id)
        .outerjoin(ConsoleSession, ConsoleSession.id == SshCertificate.console_id)
        .order_by(SshCertificate.id.desc())
    )
    if client.isdecimal() and len(client) < 16:
        query = query.where(SshCertificate.client_id == int(client))
    if (number := number_of(run)) is not None:
        query = query.where(SshCertificate.run_id == number)
    if state == "revoked":
        return query.where(SshCertificate.revoked_at.is_not(None))
    if state in ("valid", "over"):
        lasting = SshCertificate.valid_before > now
        return query.where(SshCertificate.revoked_at.is_(None), lasting if state == "valid" else ~lasting)
    return query


def as_shown(session: Session, row: SshAuthority, now: datetime) -> Shown:
    """Return an authority with what hangs on it."""
    valid = select(func.count()).where(
        SshCertificate.authority_id == row.id, SshCertificate.valid_before > now, SshCertificate.revoked_at.is_(None)
    )
    hosts = select(func.count()).where(ConfigurationItem.credential_kind == "ca")
    if row.client_id:
        hosts = hosts.where(ConfigurationItem.client_id == row.client_id)
    else:
        own = select(SshAuthority.client_id).where(*ca.SIGNS)
        hosts = hosts.where(ConfigurationItem.client_id.not_in(own))
    count = (session.scalar(hosts) or 0) if row.state == "signs" else 0
    return Shown(row, fingerprint(row.public_key), session.scalar(valid) or 0, count)


def of_form(session: Session) -> int:
    """Return the client that a form names, 0 for the provider itself; only who sees every client names that."""
    given = request.values.get("client", "")
    if given == "0":
        if not actor().sees(None):
            raise Refused("The provider's own authority serves every client.", advice="Choose a client of yours.")
        return 0
    return scoped(session, Client, number_of(given) or 0).id


def networks(text: str) -> Sequence[str]:
    """Return the networks of a field, parted by commas, spaces or lines."""
    return text.replace(",", " ").split()


def reason_given() -> str:
    """Return why something is taken back. Raises Misconfigured: on a page there is somebody who knows."""
    reason = request.form.get("reason", "").strip()
    if not reason:
        raise Misconfigured("A reason is missing.", advice="Say why it is taken back; it goes into the evidence.")
    return reason


@bp.post("/new")
@requires("credential.edit")
def create() -> ResponseReturnValue:
    """Make an authority, or one that takes over from the one that signs now."""
    with unit_of_work() as session:
        ca.create(
            session,
            Vault.from_file(settings().key_path),
            client_id=of_form(session),
            by=actor().name,
            source_addresses=networks(request.form.get("sources", "")),
            replace=request.form.get("replace") == "1",
        )
    flash(gettext("It signs from now on. Let the hosts trust its public key before the next run."), "success")
    return redirect(url_for("authorities.index"), 303)


@bp.post("/<int:authority_id>/revoke")
@requires("credential.edit")
def revoke_authority(authority_id: int) -> ResponseReturnValue:
    """Take an authority back with everything that it ever signed."""
    with unit_of_work() as session:
        row = scoped(session, SshAuthority, authority_id)
        ca.revoke_authority(session, row, by=actor().name, reason=reason_given())
    return told()


@bp.post("/certificates/<int:certificate_id>/revoke")
@requires("credential.withdraw")
def revoke(certificate_id: int) -> ResponseReturnValue:
    """Take a certificate back before its time, or every one of its run."""
    with unit_of_work() as session:
        rows = [scoped(session, SshCertificate, certificate_id)]
        if request.form.get("whole") and rows[0].run_id is not None:
            rows = ca.certificates(session, run_id=rows[0].run_id)
        ca.revoke(session, rows, by=actor().name, reason=reason_given())
    return told()


def told() -> ResponseReturnValue:
    flash(gettext("Taken back. Hosts know it when they have the new list."), "success")
    return redirect(url_for("authorities.index"), 303)


@bp.get("/revoked-keys")
@requires("credential.see")
def revoked_keys() -> Response:
    """Give away the list for sshd's RevokedKeys, of one client's hosts or of all."""
    with read_only() as session:
        client_id = of_form(session) if request.args.get("client") else None
        if client_id is None and not actor().sees(None):
            raise Refused("The whole list names every client.", advice="Take the list of one client.")
        content = ca.revocation_list(session, client_id=client_id)
    answer = Response(content, mimetype="application/octet-stream")
    name = f"revoked-keys-{client_id}" if client_id else "revoked-keys"
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    answer.headers["Cache-Control"] = "no-store"
    return answer
