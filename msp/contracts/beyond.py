"""Work that would go beyond the prepaid hours: how far, and what that costs. A person is asked first. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from msp.contracts import minutes
from msp.contracts.block import Block, drain
from msp.contracts.line_bill import minutes_billed, overage_lines
from msp.contracts.lines import Line
from msp.contracts.money import total
from msp.contracts.rounding import Segment


@dataclass(frozen=True, slots=True)
class Beyond:
    """What some work would bill beyond a block. `takes` and `over` are minutes, rounded up as the line bills them.

    rate: of an hour beyond, in `currency`. dearer: some of it falls under a tariff that multiplies the rate.
    """

    takes: int
    over: int
    rate: Decimal
    amount: Decimal
    currency: str
    dearer: bool = False

    def words(self) -> str:
        """Say it to whoever has to agree."""
        takes, over = minutes.words(self.takes), minutes.words(self.over)
        rate, amount = f"{self.rate} {self.currency}", f"{self.amount} {self.currency}"
        if self.over < self.takes:
            paid = minutes.words(self.takes - self.over)
            words = [f"The visit takes {takes}, and {paid} of it are prepaid."]
        else:
            words = [f"The visit takes {takes}, and no prepaid hours are left for it."]
        if self.dearer:
            words.append(f"Billed beyond them: {over} at {rate} an hour times the tariff, {amount}.")
        else:
            words.append(f"Billed beyond them: {over} at {rate} an hour, {amount}.")
        return " ".join(words)


def beyond(
    line: Line,
    segments: Sequence[Segment],
    blocks: Iterable[Block],
    promised: Iterable[tuple[date, int]],
    on: date,
) -> Beyond | None:
    """Return what work on a day would bill beyond the blocks; None if it fits, or if no block was ever bought by then.

    segments: the work split at tariff boundaries. blocks: with what is left of them now. promised: (day, minutes as
    billed) of further work that was promised and is not billed yet; the blocks pay for it too.
    """
    bought = [block for block in blocks if block.purchased_on <= on]
    if line.kind != "block_hours" or not bought:
        return None
    known, takes = list(promised), minutes_billed(line, segments)
    over = _overage(bought, [*known, (on, takes)]) - _overage(bought, known)
    if over <= 0:
        return None
    billed = [part for part in overage_lines(line, segments, takes - over) if part.billed_minutes]
    usual = {segment.tariff for segment in segments if segment.multiplier == 1}
    rate = line.overage_rate()
    return Beyond(
        takes=takes,
        over=over,
        rate=rate.per_hour if rate else Decimal(0),
        amount=total((part.amount for part in billed), line.currency),
        currency=line.currency,
        dearer=any(part.tariff not in usual for part in billed),
    )


def _overage(blocks: Iterable[Block], draws: Iterable[tuple[date, int]]) -> int:
    """Return the minutes that no block pays for when these draws are made in the order of their days."""
    left, over = {block.id: block for block in blocks}, 0
    for day, wanted in sorted(draws):
        taken, rest = drain(left.values(), wanted, day)
        for number, drawn in taken.items():
            left[number] = left[number].less(drawn)
        over += rest
    return over
