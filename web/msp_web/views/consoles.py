"""Consoles: asked for, opened in the browser, listed while they are open, ended, and played back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, current_app, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from sqlalchemy import select

from msp import evidence, master_key
from msp.assets.models import ConfigurationItem
from msp.clock import utc_now
from msp.contracts.models import Client
from msp.desk.models import Ticket
from msp.errors import MspError, NotFound
from msp.flows import console_offers as offering
from msp.flows import consoles as flows
from msp.people.access import may
from msp.people.models import User
from msp.remote.consoles import recordings, rules
from msp.remote.consoles.models import ConsoleSession, ConsoleWatcher
from msp.remote.consoles.tickets import BadTicket
from msp.settings import Settings
from msp_web import language, security, words_of_consoles
from msp_web.access import actor, current_actor, requires, scoped, visible
from msp_web.unit import read_only, unit_of_work
from msp_web.views.desk import number_of

bp = Blueprint("consoles", __name__, url_prefix="/consoles")

PAGE = 50
CHUNK = 256 * 1024  # bytes of a recording sent at once
TYPES = {"cast": "application/x-asciicast", "rfb": "application/octet-stream"}


def settings() -> Settings:
    """Return the settings of this installation."""
    found: Settings = current_app.config["MSP_SETTINGS"]
    return found


def ticket_key() -> bytes:
    """Return the key that signs tickets; read each time, so that every process has the same one."""
    return security.key(master_key.read(settings().key_path), "console tickets")


@bp.app_context_processor
def offered() -> dict[str, Any]:
    """Let the pages of an item and of a ticket show which consoles they could open, and why not."""

    def console_offers(item: ConfigurationItem | None, ticket: Ticket | None = None) -> list[offering.Offer]:
        asking = current_actor()
        if item is None or asking is None or (ticket is not None and not ticket.is_open):
            return []
        with read_only() as session:
            return offering.offers(session, item, asking, ticket_id=ticket.id if ticket else None)

    return {"console_offers": console_offers}


@bp.get("/")
@requires("console.see")
def index() -> str:
    """List what is open now, and what was, the newest first."""
    with read_only() as session:
        query = (
            visible(select(ConsoleSession, ConfigurationItem.name, Client.name, User.name), ConsoleSession)
            .join(ConfigurationItem, ConfigurationItem.id == ConsoleSession.asset_id)
            .join(Client, Client.id == ConsoleSession.client_id)
            .join(User, User.id == ConsoleSession.user_id)
        )
        past = query.where(ConsoleSession.state.not_in(("open", "granted")))
        if after := number_of(request.args.get("after")):
            past = past.where(ConsoleSession.id < after)
        rows = session.execute(past.order_by(ConsoleSession.id.desc()).limit(PAGE + 1)).all()
        live = session.execute(query.where(ConsoleSession.state == "open").order_by(ConsoleSession.opened_at)).all()
        return render_template(
            "consoles/index.html",
            live=live,
            rows=rows[:PAGE],
            after=rows[PAGE - 1][0].id if len(rows) > PAGE else None,
            now=utc_now(),
        )


@bp.post("/open")
@requires(offering.RIGHT)
def request_console() -> ResponseReturnValue:
    """Ask the contract for a console. What it refuses is kept, and shown with the way out."""
    form = request.form
    with unit_of_work() as session:
        item = scoped(session, ConfigurationItem, number_of(form.get("asset")) or 0)
        if ticket_id := number_of(form.get("ticket")):
            scoped(session, Ticket, ticket_id)
        console = flows.request(
            session,
            settings(),
            asset_id=item.id,
            kind=form.get("kind", ""),
            actor=actor(),
            ticket_id=ticket_id,
            mode="view" if form.get("mode") == "view" else "full",
            consent_by=form.get("consent_by", "")[:200],
            break_glass_approver=form.get("glass_approver", "").strip(),
            break_glass_reason=form.get("glass_reason", "").strip(),
        )
    return redirect(url_for("consoles.show", console_id=console.id), code=303)


@bp.get("/<int:console_id>")
@requires("console.see")
def show(console_id: int) -> Response:
    """Show a console: to its person the machine itself, to others how it stands, afterwards its recording."""
    with read_only() as session:
        console = scoped(session, ConsoleSession, console_id)
        item = session.get_one(ConfigurationItem, console.asset_id)
        asking = actor()
        mine = console.user_id == asking.user_id
        usable = mine and console.state == "granted" and utc_now() <= console.expires_at
        page = "console" if usable else "replay"
        text = render_template(
            f"consoles/{page}.html",
            console=console,
            item=item,
            client=session.get_one(Client, console.client_id),
            ticket=session.get_one(Ticket, console.ticket_id),
            person=session.get_one(User, console.user_id).name,
            may_end=(mine or may(asking, "console.end", console.client_id)) and console.state in ("granted", "open"),
            socket=socket_address(console),
            idle=settings().console_idle_minutes,
            frames=frames_of(console),
            playable=console.state == "ended" and bool(console.recording_bytes),
            watchers=flows.watchers_of(session, console.id, utc_now()) if console.state == "open" else (),
        )
    answer = Response(text)
    answer.headers["Content-Security-Policy"] = policy()
    return answer


def policy() -> str:
    """Return the policy of a console's page: a screen draws pictures within data, and its socket may be elsewhere."""
    elsewhere = settings().console_url.replace("http", "ws", 1).rstrip("/")
    text = security.CONTENT_SECURITY_POLICY.replace("img-src 'self'", "img-src 'self' data:")
    return text.replace("connect-src 'self'", f"connect-src 'self' {elsewhere}") if elsewhere else text


def socket_address(console: ConsoleSession) -> str:
    """Return where the browser connects: a path of ours, or an address of the process that serves consoles."""
    path = url_for("consoles.socket", console_id=console.id)
    return settings().console_url.replace("http", "ws", 1).rstrip("/") + path


@bp.post("/<int:console_id>/ticket")
@requires(offering.RIGHT)
def issue(console_id: int) -> ResponseReturnValue:
    """Give the page of a console its one-use ticket."""
    with unit_of_work() as session:
        scoped(session, ConsoleSession, console_id)
        return {"ticket": flows.issue(session, ticket_key(), console_id, actor())}


@bp.get("/<int:console_id>/socket")
@requires(offering.RIGHT)
def socket(console_id: int) -> ResponseReturnValue:
    """Use a ticket up: the gate of a console's socket. Only the server of sockets asks; no page has this address."""
    with read_only() as session:
        scoped(session, ConsoleSession, console_id)
    if not request.environ.get("msp.socket"):
        raise NotFound("This address is for the socket of a console.", advice="Open the console's page.")
    browser = str(request.remote_addr or "")
    try:
        with unit_of_work() as session:
            flows.redeem(
                session,
                settings(),
                ticket_key(),
                request.args.get("ticket", ""),
                console_id,
                actor(),
                browser=browser,
            )
    except BadTicket as error:
        with unit_of_work() as session:
            flows.turned_away(session, console_id, actor(), error.what)
        return f"{error.what}\n", error.status
    except MspError as error:
        return f"{error.what}\n", error.status
    return {"console": console_id, "user": actor().user_id, "language": language.language()}


@bp.post("/<int:console_id>/end")
@requires("console.see")
def end(console_id: int) -> ResponseReturnValue:
    """Withdraw the admission: whoever has the console open loses it within two seconds."""
    with unit_of_work() as session:
        scoped(session, ConsoleSession, console_id)
        flows.withdraw(session, console_id, actor=actor())
    flash(gettext("The console ends now."), "success")
    page = url_for("consoles.show", console_id=console_id)
    return redirect(url_for("consoles.index") if request.form.get("back") == "list" else page, code=303)


@bp.get("/<int:console_id>/recording")
@requires("console.see")
def recording(console_id: int) -> Response:
    """Give a recording away, to be played or kept. That somebody looked is evidence."""
    keep = request.args.get("keep") == "1"
    with unit_of_work() as session:
        console = scoped(session, ConsoleSession, console_id)
        if console.state not in flows.OVER or not console.recording:
            raise NotFound("There is no recording of this console.", advice="Wait until it has ended.")
        path = recordings.path_of(settings().recordings_path, console.recording)
        whole = recordings.digest_of(path) == console.recording_sha256
        evidence.record(
            session,
            "console.recording_kept" if keep else "console.replayed",
            actor=actor().name,
            subject=("console", console.id),
            client_id=console.client_id,
            data={"recording_sha256": console.recording_sha256, "unchanged": whole},
        )
    ending = path.suffix.lstrip(".")
    answer = Response(chunks(path), mimetype=TYPES.get(ending, "application/octet-stream"))
    answer.headers["Content-Length"] = str(path.stat().st_size)
    answer.headers["X-Recording"] = "unchanged" if whole else "changed"
    answer.headers["Cache-Control"] = "private, no-store"
    if keep:
        answer.headers["Content-Disposition"] = f'attachment; filename="console-{console_id}.{ending}"'
    return answer


@bp.get("/<int:console_id>/live")
@requires("console.see")
def live(console_id: int) -> Response:
    """Give what an open console has shown since a byte of its recording; its person is told who looks."""
    begin = number_of(request.args.get("from")) or 0
    now = utc_now()
    with read_only() as session:
        console = scoped(session, ConsoleSession, console_id)
        mine = (ConsoleWatcher.console_id == console.id) & (ConsoleWatcher.user_id == actor().user_id)
        known = session.scalar(select(ConsoleWatcher.seen_at).where(mine))
    opened = console.state == "open" and console.opened_at is not None
    if opened and (known is None or now - known > rules.WATCHING / 3):
        with unit_of_work() as session:
            flows.watch(session, console, actor(), now)
    name = console.recording
    if opened and console.opened_at is not None:
        name = rules.recording_name(console.id, console.opened_at, console.kind)
    try:
        path = recordings.path_of(settings().recordings_path, name)
    except NotFound:
        if not opened:
            raise
        data = b""  # it has not begun yet
    else:
        with path.open("rb") as file:
            file.seek(min(begin, path.stat().st_size))
            data = file.read(CHUNK)
    answer = Response(data, mimetype="application/octet-stream")
    answer.headers["X-Open"] = "yes" if opened else "no"
    answer.headers["Cache-Control"] = "private, no-store"
    return answer


def chunks(path: Path) -> Iterator[bytes]:
    """Yield a file in pieces."""
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            yield piece


def frames_of(console: ConsoleSession) -> list[int]:
    """Return the instants, in milliseconds, of the pictures that belong to the recording of a screen."""
    if console.kind != "screen" or not console.recording:
        return []
    folder = (settings().recordings_path / console.recording).with_suffix("")
    return sorted(int(file.stem) for file in folder.glob("*.png") if file.stem.isdecimal())


@bp.get("/<int:console_id>/frames/<int:number>.png")
@requires("console.see")
def frame(console_id: int, number: int) -> Response:
    """Give one picture of a screen's recording."""
    with read_only() as session:
        console = scoped(session, ConsoleSession, console_id)
    if number not in frames_of(console):
        raise NotFound("There is no such picture.", advice="Choose one of the recording's page.")
    path = (settings().recordings_path / console.recording).with_suffix("") / f"{number}.png"
    return Response(path.read_bytes(), mimetype="image/png")


__all__ = ["bp", "words_of_consoles"]
