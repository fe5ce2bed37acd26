"""The cost calculator: a rate card and a demand make a quote, and a quote a draft contract. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from msp.contracts.lines import PRICES
from msp.contracts.money import product, rounded, total
from msp.errors import Misconfigured


@dataclass(frozen=True, slots=True)
class RateItem:
    """Something a client can order. `price` of one `unit` a month; `kind` is that of the contract line it becomes.

    included: units that cost nothing. least: units charged at least, once it is ordered. needs: keys of items
    without which it cannot be ordered.
    """

    key: str
    name: str
    unit: str
    price: Decimal
    kind: str
    included: int = 0
    least: int = 0
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RateCard:
    """What we offer, in one currency, in the order in which it is shown."""

    currency: str
    items: tuple[RateItem, ...]

    def item(self, key: str) -> RateItem:
        """Return an item; raises Misconfigured for a key that is not offered."""
        for item in self.items:
            if item.key == key:
                return item
        raise Misconfigured(
            f"{key!r} is not on the rate card.", advice=f"Offered: {', '.join(item.key for item in self.items)}."
        )


@dataclass(frozen=True, slots=True)
class QuoteLine:
    """One ordered item: `charged` units of the `quantity` wanted, at `price` each."""

    item: RateItem
    quantity: Decimal
    charged: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Quote:
    """What the demand costs a month. `additions`: by key, what one unit more of each item would add to the total."""

    currency: str
    lines: tuple[QuoteLine, ...]
    total: Decimal
    additions: Mapping[str, Decimal]


def quote(card: RateCard, demand: Mapping[str, Decimal | int]) -> Quote:
    """Return the quote of a demand: units wanted by key; zero is the same as not asked for.

    The cost of an addition counts what it needs as well, one unit of each that is not ordered yet.
    Raises Misconfigured for a key not on the card, a quantity below zero, or a missing item that another needs.
    """
    wanted = {key: Decimal(quantity) for key, quantity in demand.items() if quantity != 0}
    for key, quantity in wanted.items():
        if not quantity.is_finite() or quantity < 0:
            raise Misconfigured(f"{quantity} units of {key!r} cannot be ordered.", advice="Give a number above zero.")
        for needed in card.item(key).needs:
            if needed not in wanted:
                raise Misconfigured(f"{key!r} needs {needed!r}, which is not ordered.", advice=f"Add {needed!r}.")
    lines = _lines(card, wanted)
    now = total((line.amount for line in lines), card.currency)
    additions = {
        item.key: total((line.amount for line in _lines(card, _with_one_more(card, wanted, item))), card.currency) - now
        for item in card.items
    }
    return Quote(card.currency, lines, now, additions)


def draft_terms(quoted: Quote) -> dict[str, Any]:
    """Return a terms document with one line for each line of the quote, to be completed with clauses and targets.

    Raises Misconfigured for an item whose kind needs more than one price; such a line is written by hand.
    """
    lines = []
    for line in quoted.lines:
        needed = PRICES.get(line.item.kind, ())
        if len(needed) != 1:
            raise Misconfigured(
                f"{line.item.name} cannot become a line of kind {line.item.kind!r} by itself.",
                advice="Write this line of the contract by hand.",
            )
        monthly = needed[0] == "monthly_fee"
        price = line.amount if monthly else line.item.price
        lines.append({"id": line.item.key, "kind": line.item.kind, "name": line.item.name, needed[0]: str(price)})
    return {"currency": quoted.currency, "lines": lines, "clauses": []}


def _lines(card: RateCard, wanted: Mapping[str, Decimal]) -> tuple[QuoteLine, ...]:
    found = []
    for item in card.items:
        if item.key in wanted:
            charged = max(wanted[item.key] - item.included, Decimal(item.least), Decimal(0))
            amount = rounded(product(charged, item.price), card.currency)
            found.append(QuoteLine(item, wanted[item.key], charged, amount))
    return tuple(found)


def _with_one_more(card: RateCard, wanted: Mapping[str, Decimal], item: RateItem) -> dict[str, Decimal]:
    more = dict(wanted)
    more[item.key] = more.get(item.key, Decimal(0)) + 1
    missing = [item]
    while missing:
        for key in missing.pop().needs:
            if key not in more:
                more[key] = Decimal(1)
                missing.append(card.item(key))
    return more
