"""Pictures of screens as stored: with the run that took them, their digests in the chain of evidence."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, insert
from sqlalchemy.orm import Session

from msp.remote.ledger import StepRecord
from msp.remote.models import RunPicture
from msp.remote.transport import Picture


def store(session: Session, run_id: int, host_ids: Mapping[int, int], records: Sequence[StepRecord]) -> None:
    """Keep the pictures of results; those of a result told again replace what was kept.

    host_ids: of run_host rows by the position of the host in the run.
    """
    rows: list[dict[str, Any]] = []
    for record in records:
        if not record.pictures:
            continue
        key = record.key
        where = {"run_host_id": host_ids[key.host], "step": key.step, "phase": key.phase, "attempt": key.attempt}
        session.execute(delete(RunPicture).filter_by(**where))
        rows += [
            {"run_id": run_id, **where, "position": position, "name": shot.name, "png": shot.png,
             "sha256": digest(shot), "taken_at": shot.taken_at}
            for position, shot in enumerate(record.pictures)
        ]  # fmt: skip
    if rows:
        session.execute(insert(RunPicture), rows)


def digest(shot: Picture) -> str:
    """Return the SHA-256 of a picture's bytes, in hex."""
    return hashlib.sha256(shot.png).hexdigest()


def proof(shot: Picture) -> dict[str, Any]:
    """Return what the chain of evidence says of a picture."""
    return {"name": shot.name, "bytes": len(shot.png), "sha256": digest(shot), "taken_at": shot.taken_at.isoformat()}
