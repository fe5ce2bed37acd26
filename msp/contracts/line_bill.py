"""What some work costs under the line that takes it: minutes, amount, and the reason in words. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from msp.contracts.block import draw
from msp.contracts.lines import Line
from msp.contracts.money import rounded, total
from msp.contracts.rounding import Segment, TimeLine, TimeRate, bill_segments, price_of_time
from msp.contracts.tariffs import ORDINARY

#: Kinds that bill time by the clock; the others include it, or count something else.
BY_TIME = frozenset({"call_out", "t_and_m", "block_hours"})


@dataclass(frozen=True, slots=True)
class Priced:
    """One billing entry: `billed_minutes` as rounded, `amount` beyond what is prepaid or included."""

    billed_minutes: int
    amount: Decimal
    reason: str


def time_lines(line: Line, segments: Sequence[Segment]) -> tuple[TimeLine, ...]:
    """Return the work as lines of one tariff each, rounded up as the contract line says."""
    rate = line.time_rate() or line.overage_rate() or TimeRate(Decimal(0), line.currency, line.increment, line.minimum)
    return bill_segments(segments, rate)


def minutes_billed(line: Line, segments: Sequence[Segment]) -> int:
    """Return the rounded minutes of some work: what a block is debited with."""
    return sum(part.billed_minutes for part in time_lines(line, segments))


def value(line: Line, segments: Sequence[Segment]) -> Decimal:
    """Return what some work is worth at the line's rate: what it draws from a retainer in money."""
    return total((part.amount for part in time_lines(line, segments)), line.currency)


def prepays(line: Line) -> bool:
    """Return whether minutes of a line are taken from a block or from included ones before time is priced."""
    return line.kind == "block_hours" or (
        line.included_minutes > 0 and line.kind not in ("per_ticket", "retainer_money")
    )


def overage_lines(line: Line, segments: Sequence[Segment], paid_minutes: int) -> tuple[TimeLine, ...]:
    """Return what of each tariff goes beyond `paid_minutes`, at the overage rate times the tariff (R3, R4).

    What was worked first is prepaid first; `billed_minutes` are those beyond.
    """
    rate, left, found = line.overage_rate(), paid_minutes, []
    for part, segment in zip(time_lines(line, segments), segments, strict=True):
        paid, over = draw(left, part.billed_minutes)
        left -= paid
        amount = price_of_time(over, rate, segment.multiplier) if rate else rounded(Decimal(0), line.currency)
        found.append(TimeLine(part.minutes, over, amount, part.tariff))
    return tuple(found)


def price(
    line: Line,
    segments: Sequence[Segment],
    *,
    paid_minutes: int = 0,
    fee_due: bool = False,
    money_left: Decimal = Decimal(0),
) -> Priced:
    """Return what some work costs under a line.

    segments: the work split at tariff boundaries. paid_minutes: how many of the rounded minutes a block or the
    included minutes pay for. fee_due: the work is the first of its visit (call_out) or ticket (per_ticket); no
    prepaid minute pays for the fee of a visit (R10).
    money_left: what remains of this month's fee (retainer_money).
    """
    parts = time_lines(line, segments)
    billed = sum(part.billed_minutes for part in parts)
    worked = f"{line.name}: {sum(part.minutes for part in parts)} min rounded up to {billed}"
    if line.kind == "per_ticket":
        fee = rounded(line.prices["price_per_ticket"], line.currency)
        if fee_due:
            return Priced(billed, fee, f"{worked}; the ticket costs {fee} {line.currency}")
        return Priced(billed, fee * 0, f"{worked}; the ticket is already billed")
    fee = rounded(line.prices["call_out_fee"], line.currency) if line.kind == "call_out" and fee_due else Decimal(0)
    of_fee = f"; call-out fee {fee}" if fee else ""
    if line.kind in ("call_out", "t_and_m") and not prepays(line):
        amount = total([fee, *(part.amount for part in parts)], line.currency)
        return Priced(billed, amount, f"{worked}; {_tariffs(parts)} {line.currency}{of_fee}")
    if line.kind == "retainer_money":
        worth = value(line, segments)
        over = max(worth - max(money_left, Decimal(0)), Decimal(0))
        return Priced(billed, rounded(over, line.currency), f"{worked}; {worth} {line.currency}, {over} beyond the fee")
    if line.kind not in BY_TIME and not line.included_minutes:
        return Priced(billed, rounded(Decimal(0), line.currency), f"{worked}; included")
    priced = overage_lines(line, segments, paid_minutes)
    beyond = sum(part.billed_minutes for part in priced)
    dearer = any(part.billed_minutes and part.tariff not in ("", ORDINARY) for part in priced)
    of_tariffs = f"; {_tariffs(priced)} {line.currency}" if dearer else ""
    amount = total([fee, *(part.amount for part in priced)], line.currency)
    return Priced(billed, amount, f"{worked}; {billed - beyond} prepaid, {beyond} at overage{of_tariffs}{of_fee}")


def _tariffs(parts: Sequence[TimeLine]) -> str:
    return "; ".join(f"{part.billed_minutes} min {part.tariff or ORDINARY} {part.amount}" for part in parts)
