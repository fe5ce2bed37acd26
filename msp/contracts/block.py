"""Prepaid hours: what of an entry the block pays for, and what is overage (R4). Pure; ledger.py debits the database."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal

from msp.contracts.money import total
from msp.contracts.rounding import TimeRate, billed_minutes, price_of_time

#: Share of a block, in percent, at which the client and the account manager are told.
WARNINGS = (80, 95)


@dataclass(frozen=True, slots=True)
class Block:
    """Prepaid minutes as a rule sees them. `expires_on` is the last day of use; None never expires."""

    id: int
    balance_minutes: int
    purchased_on: date
    expires_on: date | None = None

    def less(self, minutes: int) -> "Block":
        """Return the block after minutes were taken from it."""
        return replace(self, balance_minutes=self.balance_minutes - minutes)


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a series of entries did to a balance."""

    balance_after: int
    granted: tuple[int, ...]  # minutes of each entry that the block paid for
    overage: tuple[Decimal, ...]  # amount of each entry beyond the block

    @property
    def from_block_total(self) -> int:
        return sum(self.granted)


def draw(balance: int, minutes: int) -> tuple[int, int]:
    """Return (granted, overage) in minutes: the balance never goes below zero."""
    granted = min(max(balance, 0), minutes)
    return granted, minutes - granted


def draw_entries(balance: int, entries_minutes: Iterable[int], overage: TimeRate) -> Drawn:
    """Draw entries one after another: each is rounded up, takes what is left, and pays overage for the rest."""
    granted, amounts = [], []
    for minutes in entries_minutes:
        billed = billed_minutes(minutes, overage.increment, overage.minimum)
        fits, over = draw(balance, billed)
        balance -= fits
        granted.append(fits)
        amounts.append(price_of_time(over, overage))
    return Drawn(balance, tuple(granted), tuple(amounts))


def overage_total(drawn: Drawn, currency: str) -> Decimal:
    """Return the sum of the overage lines."""
    return total(drawn.overage, currency)


def drain_order(blocks: Iterable[Block], on: date) -> list[Block]:
    """Return the blocks usable on a day, in the order they are drained: by expiry, then by purchase, then by id."""
    usable = [
        block for block in blocks if block.purchased_on <= on and (block.expires_on is None or on <= block.expires_on)
    ]
    return sorted(usable, key=lambda block: (block.expires_on or date.max, block.purchased_on, block.id))


def drain(blocks: Iterable[Block], minutes: int, on: date) -> tuple[dict[int, int], int]:
    """Return ({block id: minutes taken}, overage) for one entry already rounded up."""
    taken: dict[int, int] = {}
    for block in drain_order(blocks, on):
        if minutes == 0:
            break
        fits, minutes = draw(block.balance_minutes, minutes)
        if fits:
            taken[block.id] = fits
    return taken, minutes


def warnings_crossed(size: int, before: int, after: int, levels: Sequence[int] = WARNINGS) -> tuple[int, ...]:
    """Return the levels, in percent used, that a debit from balance `before` to `after` of `size` minutes reached."""
    return tuple(level for level in levels if size > 0 and (size - before) * 100 < level * size <= (size - after) * 100)
