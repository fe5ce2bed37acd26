"""Parts of a month: fee x days / days in that calendar month, both ends included (R6, R7). Pure."""

from calendar import monthrange
from collections.abc import Iterable
from decimal import Decimal

from msp.contracts.money import product, rounded
from msp.errors import Misconfigured


def days_in_month(year: int, month: int) -> int:
    """Return 28 to 31; raises Misconfigured for a month that does not exist."""
    if not (1 <= year <= 9999 and 1 <= month <= 12):
        raise Misconfigured(f"There is no month {month} of year {year}.")
    return monthrange(year, month)[1]


def days_covered(year: int, month: int, first_day: int, last_day: int) -> tuple[int, int]:
    """Return (days from `first_day` to `last_day`, days of the month); raises Misconfigured for days outside it."""
    days = days_in_month(year, month)
    if not 1 <= first_day <= last_day <= days:
        raise Misconfigured(
            f"Days {first_day} to {last_day} do not lie within {year}-{month:02}, which has {days} days.",
            advice="Give the first and the last day of the month that are covered, both included.",
        )
    return last_day - first_day + 1, days


def prorated(fee: Decimal, currency: str, year: int, month: int, first_day: int, last_day: int) -> Decimal:
    """Return the part of a monthly fee for the days from first to last, both included (R6)."""
    covered, days = days_covered(year, month, first_day, last_day)
    return rounded(product(fee, covered, divided_by=days), currency)


def device_lines(
    price: Decimal, currency: str, year: int, month: int, full_month: int, added: Iterable[tuple[int, int]]
) -> tuple[Decimal, ...]:
    """Return the line of the devices of the whole month, then one line for each addition.

    added: (count, from_day); a device counts from the day it is active to the end of the month (R7).
    An addition is one line, so its count is multiplied before the line is rounded (R11).
    """
    last = days_in_month(year, month)
    full = rounded(product(price, full_month), currency)
    return full, *(prorated(product(price, count), currency, year, month, day, last) for count, day in added)
