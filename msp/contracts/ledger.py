"""The balance of prepaid hours: debited by one conditional UPDATE, so that it cannot be overdrawn (R4)."""

from datetime import date

from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.orm import Session

from msp.contracts.block import Block
from msp.contracts.models import HourBlock
from msp.errors import Misconfigured


def debit(session: Session, contract_id: int, minutes: int, on: date) -> tuple[int, int]:
    """Take `minutes`, already rounded up, from the contract's blocks and return (granted, overage) in minutes.

    on: date of work. Blocks are drained by expiry, then by purchase. The check and the debit are one statement,
    which finds the balance as it is then and not as it was read: any number of writers share a block exactly.
    Raises Misconfigured for negative minutes. The caller commits.
    """
    if minutes < 0:
        raise Misconfigured(f"{minutes} minutes cannot be debited.", advice="Use credit to give minutes back.")
    left = minutes
    while left > 0:
        found = _first_usable(session, contract_id, on)
        if found is None:
            break
        block_id, balance = found
        wanted = min(balance, left)
        if session.execute(
            update(HourBlock)
            .where(HourBlock.id == block_id, HourBlock.balance_minutes >= wanted)
            .values(balance_minutes=HourBlock.balance_minutes - wanted)
            .returning(HourBlock.id)
        ).first():  # else another writer was first: look at the balance again
            left -= wanted
    return minutes - left, left


def credit(session: Session, contract_id: int, minutes: int, on: date) -> int:
    """Give minutes of a withdrawn entry back, to the blocks drained last first, and return how many found room."""
    left = minutes
    order = (HourBlock.expires_on.is_(None).desc(), HourBlock.expires_on.desc(), HourBlock.purchased_on.desc())
    rows = session.execute(
        select(HourBlock.id, HourBlock.minutes - HourBlock.balance_minutes)
        .where(_in_use(contract_id, on), HourBlock.balance_minutes < HourBlock.minutes)
        .order_by(*order, HourBlock.id.desc())
    ).all()
    for block_id, room in rows:
        given = min(room, left)
        if (
            given
            and session.execute(
                update(HourBlock)
                .where(HourBlock.id == block_id, HourBlock.balance_minutes + given <= HourBlock.minutes)
                .values(balance_minutes=HourBlock.balance_minutes + given)
                .returning(HourBlock.id)
            ).first()
        ):
            left -= given
    return minutes - left


def balance(session: Session, contract_id: int, on: date) -> tuple[int, int]:
    """Return (bought, left) minutes of the blocks usable on a day."""
    row = session.execute(
        select(
            func.coalesce(func.sum(HourBlock.minutes), 0), func.coalesce(func.sum(HourBlock.balance_minutes), 0)
        ).where(_in_use(contract_id, on))
    ).one()
    return int(row[0]), int(row[1])


def blocks(session: Session, contract_id: int) -> list[Block]:
    """Return every block of a contract with what is left of it now, also those that have expired."""
    columns = select(HourBlock.id, HourBlock.balance_minutes, HourBlock.purchased_on, HourBlock.expires_on)
    return [Block(*row) for row in session.execute(columns.where(HourBlock.contract_id == contract_id))]


def would_exceed(session: Session, contract_id: int, minutes: int, on: date) -> bool:
    """Return whether work of `minutes`, already rounded up, would go beyond the block: then a person is asked first."""
    return balance(session, contract_id, on)[1] < minutes


def _in_use(contract_id: int, on: date) -> ColumnElement[bool]:
    return and_(
        HourBlock.contract_id == contract_id,
        HourBlock.purchased_on <= on,
        or_(HourBlock.expires_on.is_(None), HourBlock.expires_on >= on),
    )


def _first_usable(session: Session, contract_id: int, on: date) -> tuple[int, int] | None:
    query = (
        select(HourBlock.id, HourBlock.balance_minutes)
        .where(_in_use(contract_id, on), HourBlock.balance_minutes > 0)
        .order_by(HourBlock.expires_on.is_(None), HourBlock.expires_on, HourBlock.purchased_on, HourBlock.id)
        .limit(1)
    )
    row = session.execute(query).first()
    return None if row is None else (row[0], row[1])
