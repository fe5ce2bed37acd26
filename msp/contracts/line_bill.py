"""What some work costs under the line that takes it: minutes, amount, and the reason in words. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from msp.contracts.lines import Line
from msp.contracts.money import rounded, total
from msp.contracts.rounding import Segment, TimeLine, TimeRate, bill_segments, price_of_time

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
    included minutes pay for. fee_due: the work is the first of its visit (call_out) or ticket (per_ticket).
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
    by_clock = line.kind in ("call_out", "t_and_m") and not line.included_minutes
    if by_clock:
        fee = rounded(line.prices["call_out_fee"], line.currency) if line.kind == "call_out" and fee_due else Decimal(0)
        amount = total([fee, *(part.amount for part in parts)], line.currency)
        tariffs = "; ".join(f"{part.billed_minutes} min {part.tariff or 'ordinary'} {part.amount}" for part in parts)
        return Priced(billed, amount, f"{worked}; {tariffs} {line.currency}" + (f"; call-out fee {fee}" if fee else ""))
    if line.kind == "retainer_money":
        worth = value(line, segments)
        over = max(worth - max(money_left, Decimal(0)), Decimal(0))
        return Priced(billed, rounded(over, line.currency), f"{worked}; {worth} {line.currency}, {over} beyond the fee")
    if line.kind not in BY_TIME and not line.included_minutes:
        return Priced(billed, rounded(Decimal(0), line.currency), f"{worked}; included")
    over_minutes = max(billed - paid_minutes, 0)
    rate = line.overage_rate()
    amount = rounded(Decimal(0), line.currency) if rate is None else price_of_time(over_minutes, rate)
    return Priced(billed, amount, f"{worked}; {billed - over_minutes} prepaid, {over_minutes} at overage")
