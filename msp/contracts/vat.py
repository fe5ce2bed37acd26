"""Value added tax: four ways to state it, and the rate of the date of supply (R8, R9). Pure.

A rate is a fraction here. None is "no VAT": such a line stands in no rate's sum, whereas 0 % stands in that of 0 %.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from msp.contracts.money import parse_decimal, product, round_to
from msp.errors import Misconfigured

MODES = ("exclusive_on_total", "exclusive_per_line", "inclusive", "exclusive_per_rate")


@dataclass(frozen=True, slots=True)
class Taxed:
    """What a bill says at its foot. `by_rate`: VAT of each rate that occurs, in order of appearance."""

    net: Decimal
    vat: Decimal
    gross: Decimal
    by_rate: tuple[tuple[Decimal, Decimal], ...] = ()


@dataclass(frozen=True, slots=True)
class VatRate:
    """A rate, as a fraction, from a day on; None is no VAT."""

    starts_on: date
    rate: Decimal | None


@dataclass(frozen=True, slots=True)
class VatTerms:
    """How a contract states VAT: one of MODES, and its rates by date of supply."""

    mode: str
    rates: tuple[VatRate, ...]


def parse_rate(value: Any, field: str) -> Decimal | None:
    """Return a rate as a fraction, or None for null.

    One or more is in percent (20 is 0.2), less than one is a fraction already (0.2): nobody levies 100 %. A text
    may say so itself ("20 %", "0.5 %").
    Raises Misconfigured for a negative rate or one above 100 %.
    """
    if value is None:
        return None
    says_percent = isinstance(value, str) and value.rstrip().endswith("%")
    number = parse_decimal(value.rstrip().removesuffix("%") if says_percent else value, field)
    if not 0 <= number <= 100:
        raise Misconfigured(f"{field} must be a VAT rate from 0 to 100 %, not {value!r}.")
    return product(number, divided_by=100) if says_percent or number >= 1 else number


def rate_on(rates: Iterable[VatRate], supplied_on: date) -> Decimal | None:
    """Return the rate in force on the date of supply (R9); raises Misconfigured before the first."""
    known = [rate for rate in rates if rate.starts_on <= supplied_on]
    if not known:
        raise Misconfigured(
            f"The contract states no VAT rate for {supplied_on}.", advice="Add the rate, or null for no VAT."
        )
    return max(known, key=lambda rate: rate.starts_on).rate


def on_total(lines_net: Iterable[Decimal], rate: Decimal | None, digits: int = 2) -> Taxed:
    """Add VAT once, on the sum of the lines."""
    net = _sum(lines_net, digits)
    return _exclusive(net, round_to(product(net, rate or 0), digits))


def per_line(lines_net: Sequence[Decimal], rate: Decimal | None, digits: int = 2) -> Taxed:
    """Add VAT to each line, rounded there."""
    nets = [round_to(line, digits) for line in lines_net]
    return _exclusive(_sum(nets, digits), _sum((round_to(product(net, rate or 0), digits) for net in nets), digits))


def inclusive(gross: Decimal, rate: Decimal | None, digits: int = 2) -> Taxed:
    """Take VAT out of a price that includes it: net is rounded, VAT is the rest."""
    gross = round_to(gross, digits)
    net = round_to(product(gross, divided_by=1 + (rate or 0)), digits)
    return Taxed(net, round_to(gross - net, digits), gross)


def per_rate(lines: Sequence[tuple[Decimal, Decimal | None]], digits: int = 2) -> Taxed:
    """Add VAT once for each rate, on the sum of that rate's lines (EN 16931, VAT breakdown)."""
    sums: dict[Decimal, Decimal] = {}
    for net, rate in lines:
        if rate is not None:
            sums[rate] = sums.get(rate, Decimal(0)) + round_to(net, digits)
    by_rate = tuple((rate, round_to(product(net, rate), digits)) for rate, net in sums.items())
    taxed = _exclusive(_sum((net for net, _ in lines), digits), _sum((vat for _, vat in by_rate), digits))
    return Taxed(taxed.net, taxed.vat, taxed.gross, by_rate)


def tax(lines: Sequence[Decimal], terms: VatTerms, supplied_on: date, digits: int = 2) -> Taxed:
    """Tax the lines of a bill as its contract says, at the rate of the date of supply."""
    rate = rate_on(terms.rates, supplied_on)
    if terms.mode == "inclusive":
        return inclusive(_sum(lines, digits), rate, digits)
    if terms.mode == "exclusive_per_rate":
        return per_rate([(line, rate) for line in lines], digits)
    return (per_line if terms.mode == "exclusive_per_line" else on_total)(lines, rate, digits)


def _exclusive(net: Decimal, vat: Decimal) -> Taxed:
    return Taxed(net, vat, net + vat)


def _sum(amounts: Iterable[Decimal], digits: int) -> Decimal:
    return round_to(sum((round_to(amount, digits) for amount in amounts), Decimal(0)), digits)
