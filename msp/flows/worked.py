"""Work that was done becomes a proposed bill line; where no contract line takes it, that is recorded instead."""

import math
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from msp import evidence
from msp.contracts import entries
from msp.contracts.entries import Worked
from msp.errors import Conflict, Misconfigured


def minutes_between(begun: datetime, ended: datetime) -> int:
    """Return the minutes that were begun, at least one."""
    return max(1, math.ceil((ended - begun).total_seconds() / 60))


def propose(session: Session, worked: Worked, *, subject: tuple[str, Any], now: datetime) -> None:
    """Propose the bill line of some work. subject: what was done, for the evidence that nothing was billed."""
    try:
        entries.propose_entry(session, worked, now=now)
    except (Misconfigured, Conflict) as error:
        evidence.record(
            session,
            "billing.not_proposed",
            actor="worker",
            subject=subject,
            client_id=worked.client_id,
            data={"why": error.what},
            at=now,
        )
