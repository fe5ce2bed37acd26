"""Time into money: minutes are rounded up per entry or segment (R1-R3), money once, at the line (R8, R11). Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from msp.contracts.money import product, rounded


@dataclass(frozen=True, slots=True)
class TimeRate:
    """How a contract line prices time. `per_hour` in `currency`; `increment` and `minimum` in minutes."""

    per_hour: Decimal
    currency: str
    increment: int = 1
    minimum: int = 0


@dataclass(frozen=True, slots=True)
class Segment:
    """Minutes of one entry inside one tariff, such as after hours at 1.5 times the rate."""

    minutes: int
    multiplier: Decimal = Decimal(1)
    tariff: str = ""


@dataclass(frozen=True, slots=True)
class TimeLine:
    """One line of a bill for time: what was worked, what is billed, and what it costs."""

    minutes: int
    billed_minutes: int
    amount: Decimal
    tariff: str = ""


def rounded_up(minutes: int, increment: int) -> int:
    """Return `minutes` rounded up to a multiple of `increment` (R1); a multiple stays what it is."""
    return -(-minutes // increment) * increment


def billed_minutes(minutes: int, increment: int, minimum: int = 0) -> int:
    """Return the minutes to bill: rounded up (R1), and `minimum` at least unless nothing was worked (R2).

    The minimum is taken as it stands: 5 minutes with increment 15 and minimum 20 bill 20, not 30.
    """
    return max(rounded_up(minutes, increment), minimum) if minutes > 0 else 0


def price_of_time(billed: int, rate: TimeRate, multiplier: Decimal = Decimal(1)) -> Decimal:
    """Return what already rounded minutes cost, in whole minor units."""
    return rounded(product(billed, rate.per_hour, multiplier, divided_by=60), rate.currency)


def bill_time(minutes: int, rate: TimeRate) -> TimeLine:
    """Bill one entry that lies in one tariff."""
    billed = billed_minutes(minutes, rate.increment, rate.minimum)
    return TimeLine(minutes, billed, price_of_time(billed, rate))


def bill_segments(segments: Sequence[Segment], rate: TimeRate) -> tuple[TimeLine, ...]:
    """Bill one entry split at tariff boundaries: each segment is rounded by itself (R3), one line each.

    What an entry lacks to the minimum is added to its first segment with work, at that segment's tariff.
    """
    billed = [rounded_up(segment.minutes, rate.increment) for segment in segments]
    worked = next((n for n, segment in enumerate(segments) if segment.minutes > 0), None)
    if worked is not None:
        billed[worked] += max(rate.minimum - sum(billed), 0)
    return tuple(
        TimeLine(segment.minutes, minutes, price_of_time(minutes, rate, segment.multiplier), segment.tariff)
        for segment, minutes in zip(segments, billed, strict=True)
    )
