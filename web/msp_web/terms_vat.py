"""VAT of a contract, or of one of its lines, as fields: how it is stated and each rate from its day. Pure.

Fields are named by place: `vat-mode`, `vat-0-from`, `line-1-vat-0-rate`; the last row is for a new rate. Rates are
typed in percent, whichever way the document writes them. A rate of null is no VAT, a choice of its own beside 0 %.
"""

import copy
import re
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from flask_babel import gettext

from msp.contracts.vat import parse_rate
from msp.errors import Misconfigured
from msp_web.terms_draft import Draft, Values, given, places_of, put, shown

#: What a row may say: a rate, or that there is no VAT from that day on.
BEARS = ("rate", "none")
_PERCENT = re.compile(r"(\d{1,3}(?:[.,]\d{1,6})?)\s*%?")


def values_of(own: str, vat: Mapping[str, Any]) -> Values:
    """Return what stands in the fields of VAT terms; {} where nothing is said."""
    found: Values = {f"{own}-mode": [shown(vat.get("mode"))]}
    for place, row in enumerate(vat.get("rates", [])):
        found[f"{own}-{place}-from"] = [_day(row.get("from"))]
        found[f"{own}-{place}-bears"] = ["none" if row.get("rate", "") is None else "rate"]
        found[f"{own}-{place}-rate"] = [_percent(row.get("rate"))]
    return found


def vat(draft: Draft, holder: dict[str, Any], where: str, own: str) -> Iterator[tuple[str, str]]:
    """Read the VAT terms of a document or a line; yield (beginning of an error, field)."""
    if f"{own}-mode" not in draft.values:
        return
    agreed = copy.deepcopy(holder.get("vat", {}))
    stored, rates = agreed.get("rates", []), list[dict[str, Any]]()
    for place in places_of(draft, rf"{own}-(\d+)-from"):
        row = f"{own}-{place}"
        if _is_empty(draft, row, is_new=place >= len(stored)):
            continue
        rates.append(_rate(draft, row, stored[place] if place < len(stored) else {}))
        for key in ("from", "rate"):
            yield f"{where}: rates {len(rates)}: {key}", f"{row}-{key}"
    mode = draft.value(f"{own}-mode")
    if mode or rates != stored:
        if not mode:
            draft.tell(f"{own}-mode", gettext("Choose how VAT is stated, or leave its rates as they are."))
        elif not rates:
            draft.tell(f"{own}-0-from", gettext("Say from which day on which rate holds, or that there is no VAT."))
        else:
            holder["vat"] = {**agreed, "mode": mode, "rates": rates}
    elif given(draft, f"{own}-mode") is not None:
        holder.pop("vat", None)
    yield f"{where}: rates", f"{own}-0-from"
    yield f"{where}: the rate from", f"{own}-0-from"
    yield where, f"{own}-mode"


def _is_empty(draft: Draft, row: str, *, is_new: bool) -> bool:
    """Return whether a row was left or made empty: without a day and a rate, and no VAT newly chosen."""
    typed = draft.value(f"{row}-from").strip() or draft.value(f"{row}-rate").strip()
    return not typed and not (is_new and draft.value(f"{row}-bears") == "none")


def _rate(draft: Draft, row: str, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rate of one row; what cannot be read stays as it was."""
    found = dict(stored)
    if not draft.value(f"{row}-from").strip():
        draft.tell(f"{row}-from", gettext("Choose the day from which it holds."))
    elif (day := given(draft, f"{row}-from")) is not None:
        put(found, "from", day)
    typed = draft.value(f"{row}-rate").strip()
    if draft.value(f"{row}-bears") == "none":
        if typed and given(draft, f"{row}-rate") is not None:
            draft.tell(f"{row}-rate", gettext("Choose that a rate holds, or leave it empty: no VAT has no rate."))
        else:
            found["rate"] = None
    elif not typed:
        draft.tell(f"{row}-rate", gettext("Write the rate in percent, like 20 or 0, or choose that there is no VAT."))
    elif given(draft, f"{row}-rate") is not None or "rate" not in found:
        match = _PERCENT.fullmatch(typed)
        if match is None or (number := Decimal(match[1].replace(",", "."))) > 100:
            draft.tell(f"{row}-rate", gettext("A rate is a number from 0 to 100, in percent."))
        else:
            found["rate"] = f"{number} %"
    return found


def _percent(rate: Any) -> str:
    """Return a rate in percent, as it is typed; one that cannot be read as it is written."""
    try:
        read = parse_rate(rate, "rate")
    except Misconfigured:
        return shown(rate)
    return "" if read is None else f"{(read * 100).normalize():f}"


def _day(text: Any) -> str:
    """Return a day as a browser takes it, from any way in which ISO 8601 writes it."""
    try:
        return date.fromisoformat(text).isoformat()
    except (TypeError, ValueError):
        return shown(text)
