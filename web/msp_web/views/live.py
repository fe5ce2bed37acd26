"""What open pages listen to: the events of one topic. The server streams on from where this view begins."""

import json
from typing import Any

from flask import Blueprint, Response, request
from sqlalchemy.orm import Session

from msp import events
from msp.backup.models import BackupDraft, RestoreTest
from msp.db import Model
from msp.desk.models import Ticket
from msp.dispatch.models import WorkOrder
from msp.errors import NotFound
from msp.people.access import Actor, may
from msp.remote.models import Run
from msp_web.access import actor, scoped, signed_in
from msp_web.unit import read_only

bp = Blueprint("live", __name__)

#: Topics of one thing, "run:12": the thing is fetched through the client gate.
THINGS: dict[str, type[Model]] = {
    "ticket": Ticket,
    "run": Run,
    "restore_test": RestoreTest,
    "work_order": WorkOrder,
    "backup_draft": BackupDraft,
}
#: Topics of a whole page, with the right that opens the page.
BOARDS = {"queue": "ticket.see", "board": "dispatch.see", "backups": "backup.see", "runs": "run.see"}
SILENT = ": so that proxies keep the line open\n\n"


def authorise(session: Session, topic: str) -> None:
    """Raise NotFound unless the asking person may listen to `topic`."""
    kind, _, ident = topic.partition(":")
    if kind in THINGS and ident.isdecimal() and len(ident) < 16:
        scoped(session, THINGS[kind], int(ident))
    elif topic not in BOARDS or not may(actor(), BOARDS[topic]):
        raise NotFound("There is no such topic.", advice="Load the page again.")


def message(entry: events.Event, asking: Actor) -> str | None:
    """Return one event as a stream message; None if it is of a client that `asking` may not know of.

    A client's person learns that something changed, not what: the page fetches its own part through its own gate.
    """
    if not asking.sees(entry.client_id):
        return None
    data: dict[str, Any] = dict(entry.data) if asking.is_staff else {}
    text = json.dumps({"kind": entry.kind, "topic": entry.topic, "data": data}, ensure_ascii=False)
    return f"id: {entry.id}\ndata: {text}\n\n"


def last_seen() -> int | None:
    """Return the id after which the page wants to hear: from the browser's reconnect, else from its address."""
    given = request.headers.get("Last-Event-ID") or request.args.get("after") or ""
    return int(given) if given.isdecimal() and len(given) < 19 else None


@bp.get("/live/<topic>")
@signed_in
def stream(topic: str) -> Response:
    """Return what happened on a topic since the page was made. X-Live-After tells the server where to go on."""
    last = last_seen()
    with read_only() as session:
        authorise(session, topic)
        missed = events.after(session, topic, last) if last is not None else []
    last = max([last or 0, *(entry.id for entry in missed)])
    text = "".join(filter(None, (message(entry, actor()) for entry in missed)))
    answer = Response(f"retry: 2000\n\n{text}{SILENT}", mimetype="text/event-stream")
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["X-Live-After"] = str(last)
    return answer
