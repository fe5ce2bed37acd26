"""What a run printed, of any length: windows of lines, a search, a download, and word of what is new."""

import json
from collections.abc import Iterator

from flask import Blueprint, Response, render_template, request, stream_with_context
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from msp.errors import Misconfigured
from msp.remote.models import Run, RunHost
from msp_web.access import requires, scoped
from msp_web.long_text import Text
from msp_web.run_output import Opened, Place, open_place
from msp_web.unit import read_only
from msp_web.views.desk import number_of

bp = Blueprint("run_log", __name__, url_prefix="/runs")

MOST = 500  # lines of one window
LONGEST = 200  # characters of a search
PORTION = 256 * 1024  # bytes of a download that are in memory at once
AGAIN_MS = 1000  # after which an open page asks whether there is more


def place_of(run_id: int) -> Place:
    """Return the stream that the address names; without a host all that the run printed."""
    given = request.args
    if (host := number_of(given.get("host"))) is None:
        return Place(run_id)
    step, attempt = number_of(given.get("step")) or 0, number_of(given.get("attempt")) or 1
    return Place(run_id, host, step, given.get("phase", "do"), attempt, given.get("stream", "stdout"))


def opened(session: Session, run_id: int) -> Opened:
    """Open what the address names and count what is new in it."""
    found = open_place(session, place_of(run_id))
    found.lines.catch_up(found.text)
    return found


def counted(found: Opened) -> dict[str, object]:
    """Return how much there is: bytes and lines counted; complete: there is no more now; ended: nor will be."""
    lines = found.lines
    ended = found.ended and lines.complete
    return {"size": lines.size, "total": lines.total, "complete": lines.complete, "ended": ended}


@bp.get("/<int:run_id>/log")
@requires("run.see")
def show(run_id: int) -> str:
    """Show a log on a page of its own."""
    place = place_of(run_id)
    with read_only() as session:
        found = opened(session, run_id)
        run = scoped(session, Run, run_id)
        host = scoped(session, RunHost, place.host_id) if place.host_id else None
        first = number_of(request.args.get("line")) or 0
        shown, _ = found.lines.window(found.text, first, MOST)
        return render_template(
            "runs/log.html", run=run, host=host, place=place, lines=shown, first=first, counted=counted(found)
        )


@bp.get("/<int:run_id>/log/lines")
@requires("run.see")
def lines(run_id: int) -> ResponseReturnValue:
    """Return a window of lines: from a line on, or from the line in which an offset in bytes lies."""
    with read_only() as session:
        found = opened(session, run_id)
        first = number_of(request.args.get("line")) or 0
        if (offset := number_of(request.args.get("from"))) is not None:
            first = found.lines.line_at(found.text, offset)
        count = min(number_of(request.args.get("count")) or MOST, MOST)
        shown, after = found.lines.window(found.text, first, count)
        return counted(found) | {
            "first": first,
            "lines": [line.text for line in shown],
            "cut": {first + place: line.cut for place, line in enumerate(shown) if line.cut},
            "after": after,
        }


@bp.get("/<int:run_id>/log/find")
@requires("run.see")
def find(run_id: int) -> ResponseReturnValue:
    """Return the next line with some words, before or after a line. `stopped`: where to go on when time ran out."""
    given = request.args
    words = given.get("q", "")
    back, line, begin = given.get("back") == "1", number_of(given.get("line")) or 0, number_of(given.get("from"))
    with read_only() as session:
        found = opened(session, run_id)
        if len(words) > LONGEST:
            raise Misconfigured(f"A search has up to {LONGEST} characters.", advice="Type fewer words of the line.")
        if not words:
            return counted(found) | {"line": None, "offset": None, "stopped": None}
        if begin is None:
            begin = found.lines.start_of(found.text, line)
        hit = found.lines.find(found.text, words, begin, back=back)
        return counted(found) | {"line": hit.line, "offset": hit.offset, "stopped": hit.stopped}


@bp.get("/<int:run_id>/log/file")
@requires("run.see")
def file(run_id: int) -> Response:
    """Give away the bytes that there are now, also while more are printed."""
    with read_only() as session:
        found = open_place(session, place_of(run_id))
    size = found.text.size
    portions = stream_with_context(portions_of(found.text, size))
    answer = Response(portions, mimetype="application/octet-stream")
    answer.content_length = size
    answer.headers["Content-Disposition"] = f'attachment; filename="{found.name}"'
    return answer


def portions_of(text: Text, size: int) -> Iterator[bytes]:
    """Yield the first `size` bytes of a text."""
    at = 0
    while at < size:
        portion = text.read(at, min(PORTION, size - at))
        if not portion:  # its file was taken away meanwhile: the length that was promised shows it
            return
        at += len(portion)
        yield portion


@bp.get("/<int:run_id>/log/live")
@requires("run.see")
def live(run_id: int) -> Response:
    """Say how much there is if it is more than the page knows, and let the browser ask again.

    The id of a message is an offset in bytes. A browser that comes back sends the last one it saw, so nothing is missed
    however long it was away. 204 ends the asking: nothing is added any more, and the page has all of it.
    """
    known = number_of(request.headers.get("Last-Event-ID") or request.args.get("from")) or 0
    with read_only() as session:
        now = counted(opened(session, run_id))
    if now["ended"] and now["size"] == known and request.headers.get("Last-Event-ID"):
        return Response(status=204)
    news = now["size"] != known or now["ended"]
    text = f"id: {now['size']}\ndata: {json.dumps(now)}\n\n" if news else ": nothing new\n\n"
    answer = Response(f"retry: {AGAIN_MS}\n\n{text}", mimetype="text/event-stream")
    answer.headers["Cache-Control"] = "no-store"
    return answer
