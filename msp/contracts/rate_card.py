"""The rate card of the cost calculator, read strictly from a JSON document. Pure.

{"currency": "EUR", "items": [{"key", "name", "name_ru"?, "unit", "unit_ru"?, "price", "kind", "included"?, "least"?,
"needs"?: [keys]}]}; `price` is that of one unit a month, `kind` that of the contract line it becomes.
"""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from msp.contracts.fields import Fields, unique
from msp.contracts.lines import PRICES
from msp.contracts.money import minor_units
from msp.contracts.quote import RateCard, RateItem
from msp.errors import Misconfigured

EXAMPLE = Path(__file__).with_name("rate_card.example.json")
KEYS = ("key", "name", "name_ru", "unit", "unit_ru", "price", "kind", "included", "least", "needs")


def parse(document: Any, locale: str = "en") -> RateCard:
    """Return the card with the names of a language; raises Misconfigured naming the field."""
    top = Fields(document, "", ("currency", "items"))
    minor_units(top.text("currency"))
    items = []
    for item in top.objects("items", KEYS):
        names = [item.text(f"{name}_ru", None) if locale == "ru" else None for name in ("name", "unit")]
        items.append(
            RateItem(
                key=item.text("key"),
                name=names[0] or item.text("name"),
                unit=names[1] or item.text("unit"),
                price=item.decimal("price"),
                kind=item.choice("kind", PRICES),
                included=item.whole("included", 0),
                least=item.whole("least", 0),
                needs=item.texts("needs"),
            )
        )
    unique((item.key for item in items), "The item")
    known = [item.key for item in items]
    for place, one in enumerate(items):
        for needed in one.needs:
            if needed not in known[:place]:  # in order, so that nothing needs itself through another
                raise Misconfigured(
                    f"{one.key!r} needs {needed!r}, which does not stand before it.", advice="Order the rate card."
                )
    return RateCard(top.text("currency"), tuple(items))


@lru_cache(maxsize=8)
def load(file: str = "", locale: str = "en") -> RateCard:
    """Return the card of a file, read once a process; empty: the example that is shipped."""
    path = Path(file) if file else EXAMPLE
    try:
        return parse(json.loads(path.read_text("utf-8")), locale)
    except OSError as error:
        raise Misconfigured(
            f"The rate card {path} cannot be read: {error.strerror}.", advice="Check the setting rate_card."
        ) from error
    except ValueError as error:
        raise Misconfigured(f"The rate card {path} is not JSON: {error}.", advice="Check the file.") from error
