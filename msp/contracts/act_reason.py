"""Why a line of an act costs what it does, in the client's language: clause, tariff, rounding. Pure."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from babel.numbers import format_decimal

from msp.contracts.act_lines import ADJUSTMENT, CALL_OUT_FEE
from msp.contracts.act_words import word
from msp.contracts.fees import MONTHLY
from msp.contracts.money import minor_units


def number(amount: Decimal, currency: str, locale: str) -> str:
    """Return an amount with the digits of its currency, as people of that language write it."""
    digits = minor_units(currency)
    return format_decimal(amount, "#,##0" + ("." + "0" * digits if digits else ""), locale=locale)


def reason(line: Mapping[str, Any], currency: str, locale: str) -> str:
    """Return the words of a stored line; see act_lines.py for its keys.

    What a person wrote (a correction, a fee given by hand) stays as written.
    """
    kind = line.get("kind")
    if kind is None or kind in (ADJUSTMENT, "fee"):
        return str(line["reason"])
    head = word("of_clause", locale, clause=line["clause"], name=line["name"])
    if kind == CALL_OUT_FEE:
        parts = [word("call_out_fee", locale)]
    elif "quantity" in line:
        parts = _fee(line, currency, locale)
    else:
        parts = _time(line, currency, locale)
    if line.get("carried"):
        parts.insert(0, word("carried", locale, day=line["worked_on"]))
    return f"{head}: {'; '.join(parts)}"


def _fee(line: Mapping[str, Any], currency: str, locale: str) -> list[str]:
    price = number(Decimal(line["price"]), currency, locale)
    if line["kind"] in MONTHLY:
        parts = [word("monthly_fee", locale, price=price, currency=currency)]
    elif line["kind"] == "per_device":
        names = ", ".join(line.get("devices", ()))
        parts = [word("devices", locale, quantity=line["quantity"], price=price, currency=currency, names=names)]
    else:
        parts = [word("people", locale, quantity=line["quantity"], price=price, currency=currency)]
    if line.get("days"):
        parts.append(word("days", locale, first=line["days"][0], last=line["days"][1]))
    return parts


def _time(line: Mapping[str, Any], currency: str, locale: str) -> list[str]:
    billed, prepaid = line["billed_minutes"], line["prepaid_minutes"]
    how = "rounded_least" if line["minimum"] else "rounded_up"
    parts = [
        word(how, locale, minutes=line["minutes"], billed=billed, increment=line["increment"], minimum=line["minimum"])
    ]
    rate = None if line["rate"] is None else number(Decimal(line["rate"]), currency, locale)
    kind, amount = line["kind"], Decimal(line["amount"])
    if kind == "per_ticket":
        return [*parts, word("per_ticket" if amount else "ticket_billed", locale)]
    if prepaid or kind == "block_hours":
        over = max(billed - prepaid, 0)
        parts.append(word("of_prepaid", locale, prepaid=prepaid, over=over, rate=rate, currency=currency))
        return [*parts, *_tariffs_beyond(line, currency, locale)]
    if kind in ("call_out", "t_and_m"):
        return [*parts, word("at_rate", locale, rate=rate, currency=currency), *_tariffs(line, currency, locale)]
    if not amount:
        return [*parts, word("included", locale)]
    if kind == "retainer_money":
        parts.append(word("of_fee", locale))
    return [*parts, word("at_rate", locale, rate=rate, currency=currency), *_tariffs_beyond(line, currency, locale)]


def _tariffs_beyond(line: Mapping[str, Any], currency: str, locale: str) -> list[str]:
    """Return a part for each tariff of the minutes beyond what is prepaid."""
    beyond = [{**part, "billed_minutes": part["over_minutes"]} for part in line["parts"] if part.get("over_minutes")]
    return _tariffs({"parts": beyond}, currency, locale)


def _tariffs(line: Mapping[str, Any], currency: str, locale: str) -> list[str]:
    """Return a part for each tariff; nothing is said where all of it was ordinary."""
    parts = line["parts"]
    if all(part["tariff"] == "ordinary" for part in parts):
        return []
    return [
        word(
            "tariff",
            locale,
            tariff=word("ordinary", locale) if part["tariff"] == "ordinary" else part["tariff"],
            minutes=part["billed_minutes"],
            amount=number(Decimal(part["amount"]), currency, locale),
            currency=currency,
        )
        for part in parts
    ]
