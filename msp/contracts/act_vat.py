"""VAT of the lines of one act: lines of the same terms and rate are taxed together (R8, R9). Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from msp.contracts.money import minor_units, total
from msp.contracts.vat import VatTerms, rate_on, tax


@dataclass(frozen=True, slots=True)
class Breakdown:
    """What one rate adds. `rate` is a fraction; None is no VAT."""

    rate: Decimal | None
    net: Decimal
    vat: Decimal


@dataclass(frozen=True, slots=True)
class Bill:
    """The foot of an act. `vat` None: no line bears VAT, which is not 0 %. `rates`: that of each line, in order."""

    net: Decimal
    vat: Decimal | None
    gross: Decimal
    by_rate: tuple[Breakdown, ...]
    rates: tuple[Decimal | None, ...]
    inclusive: bool

    def printed(self) -> dict[str, Any]:
        """Return it in JSON's own types."""
        rows = [
            {"rate": None if row.rate is None else str(row.rate), "net": str(row.net), "vat": str(row.vat)}
            for row in self.by_rate
        ]
        return {"inclusive": self.inclusive, "by_rate": rows}


def tax_lines(supplied: Sequence[tuple[Decimal, date, VatTerms | None]], currency: str) -> Bill:
    """Return the foot of lines: (amount, date of supply, VAT terms or None for no VAT)."""
    digits = minor_units(currency)
    groups: dict[tuple[VatTerms | None, Decimal | None], list[tuple[Decimal, date]]] = {}
    rates = []
    for amount, day, agreed in supplied:
        rate = None if agreed is None else rate_on(agreed.rates, day)
        rates.append(rate)
        groups.setdefault((agreed, rate), []).append((amount, day))
    parts: dict[Decimal | None, list[tuple[Decimal, Decimal]]] = {}
    for (agreed, rate), lines in groups.items():
        amounts = [amount for amount, _ in lines]
        if agreed is None:
            parts.setdefault(None, []).append((total(amounts, currency), Decimal(0)))
        else:
            taxed = tax(amounts, agreed, lines[0][1], digits)
            parts.setdefault(rate, []).append((taxed.net, taxed.vat))
    by_rate = tuple(
        Breakdown(rate, total((net for net, _ in sums), currency), total((vat for _, vat in sums), currency))
        for rate, sums in parts.items()
    )
    net = total((row.net for row in by_rate), currency)
    taxes = total((row.vat for row in by_rate), currency)
    without = all(rate is None for rate in rates)
    inclusive = any(agreed is not None and agreed.mode == "inclusive" for agreed, _ in groups)
    return Bill(net, None if without else taxes, net + taxes, by_rate, tuple(rates), inclusive)
