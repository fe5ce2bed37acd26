"""The Flask application: rooms of pages, each a blueprint in `views/`, on one shell of log-in, errors and words."""

import importlib

from flask import Flask, Response, current_app, g, request
from flask_babel import gettext
from sqlalchemy import func, select

from msp import db, events
from msp.migrations import import_models
from msp.settings import Settings
from msp_web import access, filters, language, problem, security, static_files
from msp_web.asked import Asked
from msp_web.unit import read_only

#: Every room of pages; `views/<room>.py` holds its blueprint as `bp`, `templates/<room>/` its pages.
ROOMS = (
    "auth", "desk", "runs", "run_log", "run_bulk", "run_pictures", "consoles", "dispatch", "moves", "slots",
    "replans", "technicians", "visit_map", "field", "calendars", "parts", "backups", "backup_drafts",
    "backup_plans", "proof_packs", "assets", "devices", "contracts", "contract_edit", "contract_clocks",
    "roster", "billing", "calculator", "reports", "portal", "portal_tickets", "portal_visits",
    "portal_contract", "portal_acts", "credentials", "authorities", "ways", "portal_credentials", "api",
    "admin", "evidence", "live", "health",
)  # fmt: skip


def navigation() -> list[tuple[str, str, str, str]]:
    """Return (endpoint, icon, words, key) of the staff menu entries that the asking person may open."""
    entries = (
        ("desk.queue", "list-check", gettext("My queue"), "q"),
        ("runs.index", "terminal-2", gettext("Runs"), "r"),
        ("consoles.index", "device-desktop", gettext("Consoles"), "w"),
        ("dispatch.board", "layout-board", gettext("Dispatch board"), "b"),
        ("roster.index", "bell", gettext("Duty roster"), "d"),
        ("backups.board", "shield-check", gettext("Proof board"), "p"),
        ("assets.index", "server", gettext("Configuration items"), "i"),
        ("credentials.index", "key", gettext("Credentials"), "k"),
        ("contracts.index", "file-certificate", gettext("Contracts"), "c"),
        ("billing.index", "receipt", gettext("Billing"), "m"),
        ("reports.index", "chart-bar", gettext("Reports"), "o"),
        ("evidence.index", "fingerprint", gettext("Evidence"), "e"),
        ("admin.index", "settings", gettext("Administration"), "s"),
    )
    return [entry for entry in entries if _open_to_asker(entry[0])]


def _open_to_asker(endpoint: str) -> bool:
    view = current_app.view_functions.get(endpoint)
    mark = getattr(view, "access", None)
    return isinstance(mark, access.Mark) and (mark.right is None or access.can(mark.right))


def last_event() -> int:
    """Return the id of the newest event, so that an open page can ask for everything after it."""
    if "last_event" not in g:
        with read_only() as session:
            g.last_event = session.scalar(select(func.max(events.Event.id))) or 0
    return int(g.last_event)


def create_app(settings: Settings) -> Flask:
    """Return the application over the database of `settings`, which is put in use.

    Raises Misconfigured for a missing key file, RuntimeError for a view that does not say who may open it.
    """
    import_models()
    db.use(settings.database_url)
    app = Flask(__name__)
    app.request_class = Asked
    app.config.update(MSP_SETTINGS=settings, TEMPLATES_AUTO_RELOAD=False)
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    language.install(app, settings.language)
    filters.install(app)
    static_files.install(app)
    security.install(app, settings)
    problem.install(app)
    for room in ROOMS:
        app.register_blueprint(importlib.import_module(f"msp_web.views.{room}").bp)
    app.context_processor(
        lambda: {
            "actor": access.current_actor(),
            "can": access.can,
            "navigation": navigation,
            "last_event": last_event,
            "known_endpoints": lambda: current_app.view_functions,
        }
    )

    @app.after_request
    def keep_the_form(response: Response) -> Response:
        """Tell a form that app.js sent where to go on, instead of sending it there: see data-keep."""
        if request.headers.get("X-Form") == "keep" and 300 <= response.status_code < 400:
            moved = response.location or "/"
            response.status_code = 204
            del response.headers["Location"]
            response.headers["X-Location"] = moved
            response.set_data(b"")
        return response

    access.check_marks(app)
    return app
