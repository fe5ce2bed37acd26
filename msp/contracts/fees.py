"""Recurring fees of a month: by contract line, for the days in force, for the devices and people there were. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple

from msp.contracts.lines import Line
from msp.contracts.money import product
from msp.contracts.proration import days_in_month, prorated

MONTHLY = ("fixed_scope", "retainer_money")


class Fee(NamedTuple):
    """One line of an act that recurs. `printed`: the figures behind it, as act_lines.py describes them."""

    amount: Decimal
    reason: str
    printed: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Device:
    """A thing that is billed from the day it is active (R7)."""

    name: str
    active_from: date


@dataclass(frozen=True, slots=True)
class Span:
    """Days of the month, both included, in which some terms were in force."""

    first: date
    last: date
    lines: Sequence[Line] = field(default_factory=tuple)


def fees_of(
    spans: Sequence[Span], devices: Callable[[Line], Iterable[Device]], people: Callable[[Line], int]
) -> list[Fee]:
    """Return the fees of a month, line by line in the order of the contract.

    spans: in order, within one month; days without a span are not billed. A line that did not change from one span to
    the next is billed as one, so that an amendment elsewhere does not round it twice.
    devices, people: what a line counts. Rounded once a line (R11).
    """
    found: list[Fee] = []
    for first, last, line in _runs(spans):
        if line.kind in MONTHLY:
            found += _fee(line, line.prices["monthly_fee"], 1, first, last)
        elif line.kind == "per_user":
            found += _fee(line, line.prices["price_per_user"], people(line), first, last)
        elif line.kind == "per_device":
            by_day: dict[date, list[str]] = {}
            for device in devices(line):
                if device.active_from <= last:
                    by_day.setdefault(max(device.active_from, first), []).append(device.name)
            for day, names in sorted(by_day.items()):
                price = line.prices["price_per_device"]
                found += _fee(line, price, len(names), day, last, devices=sorted(names))
    return found


def _runs(spans: Sequence[Span]) -> list[tuple[date, date, Line]]:
    """Return (first, last, line) of each line, joined over spans in which it stayed the same."""
    found: list[tuple[date, date, Line]] = []
    for span in spans:
        for line in span.lines:
            for place, (first, last, known) in enumerate(found):
                if known == line and (span.first - last).days == 1:
                    found[place] = (first, span.last, line)
                    break
            else:
                found.append((span.first, span.last, line))
    return found


def _fee(line: Line, price: Decimal, quantity: int, first: date, last: date, **more: Any) -> list[Fee]:
    if not quantity or not price:
        return []
    month = days_in_month(first.year, first.month)
    amount = prorated(product(price, quantity), line.currency, first.year, first.month, first.day, last.day)
    whole = last.day - first.day + 1 == month
    count = f"{quantity} x {price}" if line.kind not in MONTHLY else f"{price}"
    part = "" if whole else f", days {first.day} to {last.day} of {month}"
    printed = {
        "clause": line.id,
        "name": line.name,
        "kind": line.kind,
        "quantity": quantity,
        "price": str(price),
        "days": None if whole else [first.day, last.day],
        **more,
    }
    return [Fee(amount, f"{line.name}: {count} {line.currency}{part}", printed)]
