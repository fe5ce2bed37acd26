"""A call-out: fee, rounded time and materials, each a line of its own (R10). Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from msp.contracts.money import minor_units, product, rounded
from msp.contracts.rounding import TimeRate, bill_time
from msp.contracts.vat import Taxed, on_total


@dataclass(frozen=True, slots=True)
class Material:
    """A part or consumable left at the client. `quantity` may be a fraction: 2.5 metres of cable."""

    quantity: Decimal
    price: Decimal  # of one
    name: str = ""


def call_out_lines(
    fee: Decimal, minutes: int, rate: TimeRate, materials: Iterable[Material] = ()
) -> tuple[Decimal, ...]:
    """Return the amounts of the fee, of the time and of each material, in that order, each rounded once."""
    return (
        rounded(fee, rate.currency),
        bill_time(minutes, rate).amount,
        *(rounded(product(material.quantity, material.price), rate.currency) for material in materials),
    )


def call_out_bill(lines: Iterable[Decimal], vat_rate: Decimal | None, currency: str) -> Taxed:
    """Return net, VAT on the total and gross of a call-out's lines; vat_rate as a fraction, None for no VAT."""
    return on_total(lines, vat_rate, minor_units(currency))
