"""Pictures that a run took of screens: one by one, large, with what proves them."""

from flask import Blueprint, Response, render_template
from sqlalchemy import select
from sqlalchemy.orm import Session

from msp.errors import NotFound
from msp.remote.models import Run, RunHost, RunPicture
from msp_web.access import requires, scoped, visible
from msp_web.unit import read_only

bp = Blueprint("run_pictures", __name__, url_prefix="/runs")


def picture_of(session: Session, run_id: int, picture_id: int) -> RunPicture:
    """Return a picture of a run; raises NotFound."""
    found = scoped(session, RunPicture, picture_id)
    if found.run_id != run_id:
        raise NotFound("This run has no such picture.", advice="Choose one of those on its page.")
    return found


@bp.get("/<int:run_id>/pictures/<int:picture_id>")
@requires("run.see")
def show(run_id: int, picture_id: int) -> str:
    """Show one picture large, with the ones before and after it on the same host."""
    with read_only() as session:
        picture = picture_of(session, run_id, picture_id)
        query = select(RunPicture).where(RunPicture.run_host_id == picture.run_host_id)
        ids = visible(query, RunPicture).with_only_columns(RunPicture.id).order_by(RunPicture.taken_at, RunPicture.id)
        order = list(session.scalars(ids))
        place = order.index(picture.id)
        return render_template(
            "runs/picture.html",
            run=scoped(session, Run, run_id),
            host=scoped(session, RunHost, picture.run_host_id),
            picture=picture,
            number=place + 1,
            count=len(order),
            before=order[place - 1] if place else None,
            after=order[place + 1] if place + 1 < len(order) else None,
        )


@bp.get("/<int:run_id>/pictures/<int:picture_id>.png")
@requires("run.see")
def image(run_id: int, picture_id: int) -> Response:
    """Give away the picture itself, byte by byte as its digest says. It never changes, so a browser may keep it."""
    with read_only() as session:
        picture = picture_of(session, run_id, picture_id)
        answer = Response(picture.png, mimetype="image/png")
        answer.headers["Content-Disposition"] = (
            f'inline; filename="run-{run_id}-step-{picture.step}-{picture.phase}-{picture.position + 1}.png"'
        )
        answer.headers["Cache-Control"] = "private, max-age=86400, immutable"
        answer.set_etag(picture.sha256)
    return answer
