"""The spare-parts kit: what lies in the depot and in each van, what is promised, and what must be ordered.

Every movement is one conditional update and one record of evidence; nothing goes below what is promised to visits.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from msp import events, evidence
from msp.dispatch.models import Appointment, Part, Reservation, Stock, Technician, WorkOrder
from msp.errors import Conflict, Misconfigured, NotFound

MOST = 100_000  # of one part in one movement


@dataclass(frozen=True, slots=True)
class Level:
    """One part over all shelves. `wanted`: by visits that hold none yet. `order`: how many to order now."""

    part: Part
    depot: int
    vans: dict[str, int]  # technician's name -> quantity
    reserved: int
    wanted: int

    @property
    def total(self) -> int:
        return self.depot + sum(self.vans.values())

    @property
    def free(self) -> int:
        return self.total - self.reserved

    @property
    def order(self) -> int:
        """Enough for what visits wait for, and up to the minimum again after that."""
        return max(0, self.part.minimum + self.wanted - self.free)


def levels(session: Session) -> list[Level]:
    """Return every part, those to order first, then by number."""
    shelves: dict[int, list[tuple[Stock, str | None]]] = {}
    query = select(Stock, Technician.name).outerjoin(Technician, Technician.id == Stock.technician_id)
    for stock, name in session.execute(query.order_by(Technician.name)):
        shelves.setdefault(stock.part_id, []).append((stock, name))
    wanted = _wanted(session.scalars(select(WorkOrder.parts).where(WorkOrder.state == "proposed")))
    found = []
    for part in session.scalars(select(Part).order_by(Part.sku)):
        here = shelves.get(part.id, [])
        found.append(
            Level(
                part=part,
                depot=sum(stock.quantity for stock, name in here if name is None),
                vans={name: stock.quantity for stock, name in here if name is not None and stock.quantity},
                reserved=sum(stock.reserved for stock, _ in here),
                wanted=wanted.get(part.sku, 0),
            )
        )
    return sorted(found, key=lambda level: (level.order == 0, level.part.sku))


def _wanted(orders: Iterable[dict[str, int]]) -> dict[str, int]:
    """Return how many of each part visits need that nobody has confirmed yet."""
    found: dict[str, int] = {}
    for parts in orders:
        for sku, quantity in parts.items():
            found[sku] = found.get(sku, 0) + int(quantity)
    return found


def by_sku(session: Session, sku: str) -> Part:
    """Return a part by its number; raises NotFound."""
    part = session.scalar(select(Part).where(Part.sku == sku))
    if part is None:
        raise NotFound(f"There is no part {sku!r}.", advice="Add it to the kit first.")
    return part


def add(session: Session, *, sku: str, name: str, minimum: int, by: str) -> Part:
    """Add a part to the kit. Raises Conflict for a number that is taken, Misconfigured for what cannot be."""
    sku, name = " ".join(sku.split()), " ".join(name.split())
    if not sku or not name or not 0 <= minimum <= MOST:
        raise Misconfigured("A part needs a number, a name and a minimum of 0 or more.", advice="Fill in all three.")
    if session.scalar(select(Part.id).where(func.lower(Part.sku) == sku.lower())) is not None:
        raise Conflict(f"The number {sku} is taken.", advice="Change the part that has it, or use another.")
    part = Part(sku=sku, name=name, minimum=minimum)
    session.add(part)
    session.flush()
    _tell(session, part, "part.added", by, {"minimum": minimum})
    return part


def receive(session: Session, part: Part, quantity: int, *, by: str, technician: Technician | None = None) -> None:
    """Put parts that came in on a shelf: of the depot, or of a technician's van."""
    _some(quantity)
    shelf = _shelf(session, part, technician)
    session.execute(update(Stock).where(Stock.id == shelf).values(quantity=Stock.quantity + quantity))
    _tell(session, part, "part.received", by, {"quantity": quantity, "van": technician.name if technician else None})


def move(
    session: Session, part: Part, quantity: int, *, by: str, source: Technician | None, target: Technician | None
) -> None:
    """Carry parts from one shelf to another (None: the depot). Raises Conflict if that many are not free there."""
    _some(quantity)
    if source is target or (source and target and source.id == target.id):
        raise Misconfigured("Parts are carried from one place to another.", advice="Choose two places.")
    _take(session, part, quantity, source)
    shelf = _shelf(session, part, target)
    session.execute(update(Stock).where(Stock.id == shelf).values(quantity=Stock.quantity + quantity))
    places = {"from": source.name if source else None, "to": target.name if target else None}
    _tell(session, part, "part.moved", by, {"quantity": quantity, **places})


def write_off(
    session: Session, part: Part, quantity: int, reason: str, *, by: str, technician: Technician | None = None
) -> None:
    """Take parts off a shelf for good: broken, lost, miscounted. Raises Conflict if that many are not free there."""
    _some(quantity)
    if not reason.strip():
        raise Misconfigured("Taking parts off needs a reason.", advice="Say what became of them.")
    _take(session, part, quantity, technician)
    data = {"quantity": quantity, "van": technician.name if technician else None, "reason": reason.strip()}
    _tell(session, part, "part.written_off", by, data)


def use(session: Session, part: Part, quantity: int, visit: Appointment, *, by: str, technician: Technician) -> None:
    """Take parts off the shelf that were built in on a visit: those it holds first, then from the technician's van.

    Raises Conflict if the van does not hold that many more.
    """
    _some(quantity)
    left = quantity
    held = select(Reservation).join(Stock, Stock.id == Reservation.stock_id)
    held = held.where(Reservation.appointment_id == visit.id, Stock.part_id == part.id)
    for one in session.scalars(held.order_by(Stock.technician_id.is_(None), Reservation.id)).all():
        some = min(left, one.quantity)
        if some:
            session.execute(
                update(Stock)
                .where(Stock.id == one.stock_id)
                .values(reserved=Stock.reserved - some, quantity=Stock.quantity - some)
            )
            one.quantity, left = one.quantity - some, left - some
            if not one.quantity:
                session.delete(one)
    if left:
        _take(session, part, left, technician)
    session.flush()
    _tell(session, part, "part.used", by, {"quantity": quantity, "visit": visit.id, "van": technician.name})


def _take(session: Session, part: Part, quantity: int, technician: Technician | None) -> None:
    taken = session.execute(
        update(Stock)
        .where(Stock.part_id == part.id, _of(technician), Stock.quantity - Stock.reserved >= quantity)
        .values(quantity=Stock.quantity - quantity)
        .returning(Stock.id)
    ).first()
    if taken is None:
        where = f"{technician.name}'s van" if technician else "the depot"
        raise Conflict(
            f"{quantity} x {part.sku} are not free in {where}.", advice="Look at the kit: some may be promised."
        )


def _of(technician: Technician | None) -> ColumnElement[bool]:
    return Stock.technician_id.is_(None) if technician is None else Stock.technician_id == technician.id


def _shelf(session: Session, part: Part, technician: Technician | None) -> int:
    found = session.scalar(select(Stock.id).where(Stock.part_id == part.id, _of(technician)))
    if found is None:
        shelf = Stock(part_id=part.id, technician_id=technician.id if technician else None, quantity=0)
        session.add(shelf)
        session.flush()
        found = shelf.id
    return found


def _some(quantity: int) -> None:
    if not 1 <= quantity <= MOST:
        raise Misconfigured(f"{quantity} parts cannot be moved.", advice=f"Give a number from 1 to {MOST}.")


def _tell(session: Session, part: Part, kind: str, by: str, data: Mapping[str, object]) -> None:
    evidence.record(session, kind, actor=by, subject=("part", part.id), data={"sku": part.sku, **data})
    events.record(session, "board", kind, data={"part": part.sku})
