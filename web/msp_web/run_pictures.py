"""Pictures of screens beside the phase of a run that took them."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp.remote.models import RunPicture
from msp_web.access import visible

Place = tuple[int, str, int]  # step, phase, attempt


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """What a page needs to show a picture; its bytes are fetched by the browser."""

    id: int
    name: str
    taken_at: datetime
    sha256: str


def of_host(session: Session, host_id: int) -> dict[Place, list[Thumbnail]]:
    """Return the pictures of one host of a run by where they were taken, in order."""
    wanted = select(RunPicture).where(RunPicture.run_host_id == host_id).order_by(RunPicture.position)
    columns = (RunPicture.id, RunPicture.name, RunPicture.taken_at, RunPicture.sha256)
    query = visible(wanted, RunPicture).with_only_columns(
        RunPicture.step, RunPicture.phase, RunPicture.attempt, *columns
    )
    found: dict[Place, list[Thumbnail]] = defaultdict(list)
    for row in session.execute(query):
        found[row.step, row.phase, row.attempt].append(Thumbnail(row.id, row.name, row.taken_at, row.sha256))
    return dict(found)
