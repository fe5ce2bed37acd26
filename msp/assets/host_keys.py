"""Another host key in place of the pinned one: asked for with a reason, in force only when a second person agrees.

A host that shows another key may have been reinstalled, or somebody stands between. Until the change is approved the
old pin stays in force and every run refuses the host. Pages and commands ask `pin`, which is the whole rule.
"""

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp import evidence
from msp.assets import inventory
from msp.assets.models import ConfigurationItem, HostKey, HostKeyChange
from msp.clock import utc_now
from msp.db import locked
from msp.errors import Conflict, Misconfigured, Refused

APPROVED, FORCED = "approved", "forced"
SHORTEST_REASON = 8  # letters; "ok" says nothing about how the key was confirmed


def pin(
    session: Session,
    item: ConfigurationItem,
    public_key: str,
    *,
    by: str,
    reason: str = "",
    change_id: int | None = None,
    break_glass: str = "",
) -> HostKey | HostKeyChange:
    """Pin a first host key, or the one that is pinned already; another one in its place is only asked for.

    Returns the pin when it is in force, the change when it waits for a second person. change_id: of the change that
    `by` approves with this as the second person. break_glass: why nobody else can be asked; it is in force at once.
    Raises as `propose` and `approve` do, and Conflict for the approval of another key.
    """
    public_key = inventory.as_stored(public_key.strip())
    inventory.fingerprint(public_key)
    line = " ".join(public_key.split()[:2])
    session.scalar(select(ConfigurationItem.id).where(ConfigurationItem.id == item.id).with_for_update())  # one decides
    valid = inventory.pinned(session, item.id)
    same = next((key for key in valid if key.public_key == line), None)
    if change_id is not None:
        change = session.get(HostKeyChange, change_id)
        if change is None or change.asset_id != item.id or change.public_key != line:
            raise Conflict(f"Change {change_id} is not about this key of {item.name}.", advice="Look at the item.")
        if same is None or change.state != APPROVED:
            approve(session, item, change_id, by=by)
        return inventory.pinned(session, item.id)[-1]
    if same is not None:
        return same
    if not valid:
        return inventory.pin(session, item, public_key, by=by)
    if not break_glass:
        return propose(session, item, public_key, reason=reason, by=by)
    asked = [change for change in waiting(session, item.id) if change.public_key == line]
    change = asked[0] if asked else propose(session, item, public_key, reason=break_glass, by=by)
    change.note = _said(break_glass) if asked else ""
    return _force(session, item, change, FORCED, by, "host_key.break_glass", by)


def propose(session: Session, item: ConfigurationItem, public_key: str, *, reason: str, by: str) -> HostKeyChange:
    """Ask for another pin. Raises Misconfigured for no key or no reason, Conflict for the key that is pinned already
    or asked for already."""
    public_key = inventory.as_stored(public_key)
    mark = inventory.fingerprint(public_key)
    line = " ".join(public_key.split()[:2])
    reason = _said(reason)
    if line in {key.public_key for key in inventory.pinned(session, item.id)}:
        raise Conflict("That key is pinned already.", advice="Nothing has to be changed.")
    if any(change.public_key == line for change in waiting(session, item.id)):
        raise Conflict("That key waits for a second person already.", advice="Ask a colleague to look at it.")
    change = HostKeyChange(asset_id=item.id, public_key=line, reason=reason, asked_at=utc_now(), asked_by=by)
    session.add(change)
    session.flush()
    _prove(session, item, change, "host_key.change_asked", by, mark)
    return change


def _said(reason: str) -> str:
    if len(reason.strip()) < SHORTEST_REASON:
        raise Misconfigured("A reason is missing.", advice="Say how the new key was confirmed, and by whom.")
    return reason.strip()


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
    _force(session, item, change, APPROVED, by, "host_key.change_approved", f"{change.asked_by}, {by}")
    return change


def _force(
    session: Session, item: ConfigurationItem, change: HostKeyChange, state: str, by: str, kind: str, names: str
) -> HostKey:
    _decide(change, state, by)
    for other in waiting(session, item.id):
        _decide(other, "outdated", by)
    _prove(session, item, change, kind, by, inventory.fingerprint(change.public_key))
    return inventory.pin(session, item, change.public_key, by=names)


def decline(session: Session, item: ConfigurationItem, change_id: int, *, by: str, note: str = "") -> HostKeyChange:
    """Keep the old pin. Who asked may take the wish back so."""
    change = _open(session, item, change_id)
    _decide(change, "declined", by)
    change.note = note.strip()
    _prove(session, item, change, "host_key.change_declined", by, inventory.fingerprint(change.public_key))
    return change


def _open(session: Session, item: ConfigurationItem, change_id: int) -> HostKeyChange:
    query = select(HostKeyChange).where(HostKeyChange.id == change_id, HostKeyChange.asset_id == item.id)
    change = session.scalar(locked(query))
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
              "asked_by": change.asked_by, "note": change.note},
    )  # fmt: skip
