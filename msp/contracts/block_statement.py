"""What a month did to prepaid hours: balance before, bought, used, expired, balance after. Pure.

It is played again from what was bought and what each entry drew, so that it says the same whenever it is asked.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from msp.contracts.block import Block, drain, drain_order


@dataclass(frozen=True, slots=True)
class BlockMonth:
    """Minutes. before + bought - used - expired = after."""

    before: int
    bought: int
    used: int
    expired: int
    after: int


def block_month(blocks: Iterable[Block], drawn: Iterable[tuple[date, int]], first: date, last: date) -> BlockMonth:
    """Return the statement of the days `first` to `last`, both included.

    blocks: as bought, their `balance_minutes` full. drawn: (date of work, minutes a block paid for).
    """
    known = list(blocks)
    draws = sorted(draw for draw in drawn if draw[0] <= last)
    before = _left(_played(known, [draw for draw in draws if draw[0] < first]), first - timedelta(days=1))
    after = _left(_played(known, draws), last)
    bought = sum(block.balance_minutes for block in known if first <= block.purchased_on <= last)
    used = sum(minutes for day, minutes in draws if day >= first)
    return BlockMonth(before, bought, used, max(before + bought - used - after, 0), after)


def _played(blocks: Sequence[Block], draws: Iterable[tuple[date, int]]) -> list[Block]:
    """Return the blocks after the draws, each from those usable on its day."""
    left = {block.id: block for block in blocks}
    for day, minutes in draws:
        for number, taken in drain(left.values(), minutes, day)[0].items():
            left[number] = left[number].less(taken)
    return list(left.values())


def _left(blocks: Iterable[Block], on: date) -> int:
    return sum(block.balance_minutes for block in drain_order(blocks, on))
