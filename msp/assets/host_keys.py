"""Another host key in place of the pinned one: asked for with a reason, in force only when a second person agrees.

A host that shows another key may have been reinstalled, or somebody stands between. Until the change is approved the
old pin stays in force and every run refuses the host.
"""

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp import evidence
from msp.assets import inventory
from msp.assets.models import ConfigurationItem, HostKeyChange
from msp.clock import utc_now
from msp.errors import Conflict, Misconfigured, Refused

SHORTEST_REASON = 8  # letters; "ok" says nothing about how the key was confirmed


def propose(session: Session, item: ConfigurationItem, public_key: str, *, reason: str, by: str) -> HostKeyChange:
    """Ask for another pin. Raises Misconfigured for no key or no reason, Conflict for the key that is pinned already
    or asked for already."""
    public_key = inventory.as_stored(public_key)
    mark = inventory.fingerprint(public_key)
    line = " ".join(public_key.split()[:2])
    if len(reason.strip()) < SHORTEST_REASON:
        raise Misconfigured("A reason is missing.", advice="Say how the new key was confirmed, and by whom.")
    if line in {key.public_key for key in inventory.pinned(session, item.id)}:
        raise Conflict("That key is pinned already.", advice="Nothing has to be changed.")
    if any(change.public_key == line for change in waiting(session, item.id)):
        raise Conflict("That key waits for a second person already.", advice="Ask a colleague to look at it.")
    change = HostKeyChange(asset_id=item.id, public_key=line, reason=reason.strip(), asked_at=utc_now(), asked_by=by)
    session.add(change)
    session.flush()
    _prove(session, item, change, "host_key.change_asked", by, mark)
    return change


def waiting(session: Session, asset_id: int) -> list[HostKeyChange]:
    """Return the changes of an item that nobody has answered, oldest first."""
    query = select(HostKeyChange).where(HostKeyChange.asset_id == asset_id, HostKeyChange.state == "waiting")
    return list(session.scalars(query.order_by(HostKeyChange.id)))


def history(session: Session, asset_id: int) -> list[HostKeyChange]:
    """Return every change of an item that was ever asked for, the newest first."""
    query = select(HostKeyChange).where(HostKeyChange.asset_id == asset_id)
    return list(session.scalars(query.order_by(HostKeyChange.id.desc())))


def approve(session: Session, item: ConfigurationItem, change_id: int, *, by: str) -> HostKeyChange:
    """Pin the key that was asked for; other changes of the item that wait are outdated by it.

    Raises Refused for the person who asked, Conflict for one that was answered before.
    """
    change = _open(session, item, change_id)
    if change.asked_by == by:
        raise Refused("You asked for this key yourself.", advice="A second person looks at it and approves it.")
    _decide(change, "approved", by)
    for other in waiting(session, item.id):
        _decide(other, "outdated", by)
    _prove(session, item, change, "host_key.change_approved", by, inventory.fingerprint(change.public_key))
    inventory.pin(session, item, change.public_key, by=f"{change.asked_by}, {by}")
    return change


def decline(session: Session, item: ConfigurationItem, change_id: int, *, by: str, note: str = "") -> HostKeyChange:
    """Keep the old pin. Who asked may take the wish back so."""
    change = _open(session, item, change_id)
    _decide(change, "declined", by)
    change.note = note.strip()
    _prove(session, item, change, "host_key.change_declined", by, inventory.fingerprint(change.public_key))
    return change


def _open(session: Session, item: ConfigurationItem, change_id: int) -> HostKeyChange:
    query = select(HostKeyChange).where(HostKeyChange.id == change_id, HostKeyChange.asset_id == item.id)
    change = session.scalar(query.with_for_update())
    if change is None or change.state != "waiting":
        raise Conflict("This change no longer waits for an answer.", advice="Look at the item again.")
    return change


def _decide(change: HostKeyChange, state: str, by: str) -> None:
    change.state, change.decided_at, change.decided_by = state, utc_now(), by


def _prove(session: Session, item: ConfigurationItem, change: HostKeyChange, kind: str, by: str, mark: str) -> None:
    evidence.record(
        session,
        kind,
        actor=by,
        subject=("asset", item.id),
        client_id=item.client_id,
        data={"change": change.id, "fingerprint": mark, "asset": item.name, "reason": change.reason,
              "asked_by": change.asked_by},
    )  # fmt: skip
