"""The life of an act: draft -> sent -> accepted, or disputed with a reason and sent again. Each step is evidence.

What was sent and accepted is named by the digest of its document, so that nobody can say later it was another one.
Functions take a session and do not commit.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import update
from sqlalchemy.orm import Session

from msp import events, evidence
from msp.contracts.models import ACCEPTED, DISPUTED, DRAFT, SENT, Act, Contract
from msp.errors import Conflict, Misconfigured

#: state -> the states from which it is reached.
FROM: dict[str, tuple[str, ...]] = {SENT: (DRAFT, DISPUTED), ACCEPTED: (SENT,), DISPUTED: (SENT,)}


def send(session: Session, act: Act, *, by: str, digest: str) -> None:
    """Show the act to the client and ask for acceptance. Raises Conflict unless it is a draft or disputed."""
    _move(session, act, SENT, by, {"digest": digest})


def accept(session: Session, act: Act, *, by: str, digest: str) -> None:
    """Take the act as it was sent. Raises Conflict unless it waits for that."""
    _move(session, act, ACCEPTED, by, {"digest": digest})


def dispute(session: Session, act: Act, reason: str, *, by: str, digest: str) -> None:
    """Say what is wrong. Raises Misconfigured without a reason, Conflict unless the act waits for acceptance."""
    if not reason.strip():
        raise Misconfigured("A dispute needs a reason.", advice="Say which line is wrong, and why.")
    _move(session, act, DISPUTED, by, {"digest": digest, "reason": reason.strip()})


def closed(session: Session, act: Act, *, by: str, digest: str) -> None:
    """Record that an act was made: to be called once, by whoever closed the month."""
    _record(session, act, "closed", by, {"digest": digest, "net": str(act.net), "gross": str(act.gross)})


def _move(session: Session, act: Act, to: str, by: str, data: Mapping[str, Any]) -> None:
    query = update(Act).where(Act.id == act.id, Act.state.in_(FROM[to])).values(state=to).returning(Act.id)
    if session.execute(query).first() is None:
        session.refresh(act)
        raise Conflict(f"The act of {act.period} is {act.state}.", advice="Look at it again.")
    session.refresh(act)
    _record(session, act, to, by, data)


def _record(session: Session, act: Act, what: str, by: str, data: Mapping[str, Any]) -> None:
    client_id = session.get_one(Contract, act.contract_id).client_id
    evidence.record(
        session,
        f"act.{what}",
        actor=by,
        subject=("act", act.id),
        client_id=client_id,
        data={"period": act.period, "contract": act.contract_id, **data},
    )
    events.record(session, f"act:{act.id}", "act.changed", client_id=client_id, data={"state": act.state})
