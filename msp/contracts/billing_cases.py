"""Batch evaluation of the billing rules: cases in, results out, through the functions that bill real acts. Pure.

Money comes and goes as decimal strings; without a currency (groups `vat` and `act`) it has two decimals.
"""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from msp.contracts import acts, block, change, money, rollover, vat
from msp.contracts.call_out import Material, call_out_bill, call_out_lines
from msp.contracts.fields import REQUIRED, Fields, unique, whole_number
from msp.contracts.proration import device_lines, prorated
from msp.contracts.rounding import Segment, TimeRate, bill_segments, bill_time
from msp.errors import Misconfigured, MspError

#: (balance, minutes of each entry already rounded up) -> (balance after, granted), debited all at once.
DebitAtOnce = Callable[[int, Sequence[int]], tuple[int, int]]
Result = dict[str, Any]


def evaluate(document: Any, debit_at_once: DebitAtOnce | None = None) -> Result:
    """Return {"results": [...]} in the order of document["cases"]; a bad case gives {"id", "error"}.

    debit_at_once: contends for a stored block in cases marked `concurrent`; without it they are drawn in turn.
    Raises Misconfigured only if the document is no list of cases.
    """
    cases = Fields(document, "The document").items("cases")
    return {"results": [_result(case, debit_at_once) for case in cases]}


def _result(case: Any, debit_at_once: DebitAtOnce | None) -> Result:
    case_id = case.get("id") if isinstance(case, Mapping) else None
    try:
        fields = Fields(case, "The case")
        fields.get("id")
        group = fields.choice("group", GROUPS)
        given = Fields(fields.get("input"), "")
        if group == "block_hours" and given.flag("concurrent"):
            return {"id": case_id, **_block_hours(given, debit_at_once)}
        return {"id": case_id, **GROUPS[group](given)}
    except MspError as error:
        return {"id": case_id, "error": " ".join(filter(None, (error.what, error.advice)))}
    except ArithmeticError:
        return {"id": case_id, "error": "The numbers are too large to compute with."}


def _rounding(given: Fields) -> Result:
    line = bill_time(given.whole("minutes"), _time_rate(given))
    return {"billed_minutes": line.billed_minutes, "amount": _text(line.amount)}


def _after_hours(given: Fields) -> Result:
    rate = _time_rate(given)
    segments = [
        Segment(segment.whole("minutes"), segment.decimal("multiplier"))
        for segment in given.objects("segments", default=REQUIRED)
    ]
    return _lines([line.amount for line in bill_segments(segments, rate)], rate.currency)


def _block_hours(given: Fields, debit_at_once: DebitAtOnce | None = None) -> Result:
    overage = _time_rate(given, "overage_rate")
    balance = given.whole("balance_minutes")
    entries = [
        whole_number(minutes, f"entries_minutes {number}")
        for number, minutes in enumerate(given.items("entries_minutes"), 1)
    ]
    drawn = block.draw_entries(balance, entries, overage)
    after, granted = drawn.balance_after, drawn.from_block_total
    if debit_at_once:
        after, granted = debit_at_once(balance, [bill_time(minutes, overage).billed_minutes for minutes in entries])
    return {
        "balance_after": after,
        "from_block_total": granted,
        "overage_total": _text(block.overage_total(drawn, overage.currency)),
    }


def _rollover(given: Fields) -> Result:
    carried = given.get("carried_minutes", 0)
    months = carried if isinstance(carried, list) else [carried]  # a list: by month of origin, oldest first
    left = rollover.close_month(
        given.whole("monthly_minutes"),
        [whole_number(minutes, "carried_minutes") for minutes in months],
        given.whole("used_minutes"),
        cap=given.whole("rollover_cap_minutes"),
        months=given.whole("rollover_months"),
    )
    return {"next_month_minutes": left.next_month_minutes, "expired_minutes": left.expired_minutes}


def _proration(given: Fields) -> Result:
    days = (given.whole(key) for key in ("year", "month", "first_day", "last_day"))
    return {"amount": _text(prorated(given.decimal("monthly_fee"), given.text("currency"), *days))}


def _per_device(given: Fields) -> Result:
    added = [
        (addition.whole("count"), addition.whole("from_day")) for addition in given.objects("devices_added", default=())
    ]
    price, currency = given.decimal("price_per_device"), given.text("currency")
    full = given.whole("devices_full_month")
    return _lines(device_lines(price, currency, given.whole("year"), given.whole("month"), full, added), currency)


def _vat(given: Fields) -> Result:
    mode = given.choice("mode", vat.MODES)
    digits = _digits(given)
    if mode == "exclusive_per_rate":
        lines: list[tuple[Decimal, Decimal | None]] = []
        names: dict[Decimal, str] = {}
        for line in given.objects("lines", default=REQUIRED):
            rate = vat.parse_rate(line.value.get("vat_rate"), line.name("vat_rate"))
            lines.append((line.decimal("net", least=None), rate))
            if rate is not None:
                names.setdefault(rate, str(line.value["vat_rate"]).strip())  # the key is the rate as first spelled
        taxed = vat.per_rate(lines, digits)
        return _taxed(taxed) | {"vat_by_rate": {names[rate]: _text(amount) for rate, amount in taxed.by_rate}}
    rate = _vat_rate(given)
    if mode == "inclusive":
        return _taxed(vat.inclusive(given.decimal("gross", least=None), rate, digits))
    nets = _decimals(given, "lines_net")
    return _taxed((vat.on_total if mode == "exclusive_on_total" else vat.per_line)(nets, rate, digits))


def _call_out(given: Fields) -> Result:
    rate = _time_rate(given)
    materials = [
        Material(material.decimal("qty"), material.decimal("price"))
        for material in given.objects("materials", default=())
    ]
    lines = call_out_lines(given.decimal("call_out_fee"), given.whole("minutes"), rate, materials)
    return {"lines": [_text(line) for line in lines]} | _taxed(call_out_bill(lines, _vat_rate(given), rate.currency))


def _currency(given: Fields) -> Result:
    currency = given.text("currency")
    return {"rounded": [_text(money.rounded(value, currency)) for value in _decimals(given, "values")]}


def _contract_change(given: Fields) -> Result:
    currency, increment = given.text("currency"), given.whole("increment", least=1)
    minimum = given.whole("minimum", 0)
    versions = [
        (version.day("from_"), version.decimal("rate")) for version in given.objects("versions", default=REQUIRED)
    ]
    amounts = []
    for entry in given.objects("entries", default=REQUIRED):
        _, rate = change.in_force(versions, entry.day("date"), lambda version: version[0])
        line = bill_time(entry.whole("minutes"), TimeRate(rate, currency, increment, minimum))
        amounts.append(line.amount)
    return _lines(amounts, currency)


def _act(given: Fields) -> Result:
    entries = [
        acts.Billable(
            _entry_id(entry),
            entry.decimal("amount", least=None),
            entry.value.get("act"),
            entry.flag("billable", True),
            entry.day("date", None),
        )
        for entry in given.objects("entries", default=REQUIRED)
    ]
    unique((str(entry.id) for entry in entries), "The entry")
    digits = _digits(given, *(entry.amount for entry in entries))
    period = given.text("period")
    first = acts.close(entries, period, digits)
    second = acts.close(acts.with_act(entries, first), period, digits)
    return {
        "new_act_entries": list(first.entries) if first else [],
        "new_act_total": _text(first.total if first else money.round_to(Decimal(0), digits)),
        "second_run_new_act": list(second.entries) if second else None,
    }


GROUPS: dict[str, Callable[[Fields], Result]] = {
    "rounding": _rounding,
    "after_hours": _after_hours,
    "block_hours": _block_hours,
    "rollover": _rollover,
    "proration": _proration,
    "per_device": _per_device,
    "vat": _vat,
    "call_out": _call_out,
    "currency": _currency,
    "contract_change": _contract_change,
    "act": _act,
}


def _time_rate(given: Fields, key: str = "rate") -> TimeRate:
    currency = given.text("currency")
    money.minor_units(currency)
    return TimeRate(given.decimal(key), currency, given.whole("increment", least=1), given.whole("minimum", 0))


def _vat_rate(given: Fields) -> Decimal | None:
    if "vat_rate" not in given.value:  # null is no VAT; nothing at all is a slip
        raise Misconfigured("vat_rate is missing.", advice="Give the rate, or null for no VAT.")
    return vat.parse_rate(given.value["vat_rate"], "vat_rate")


def _digits(given: Fields, *amounts: Decimal) -> int:
    """Return the digits of the currency; without one two, or as many as the amounts already have."""
    if "currency" in given:
        return money.minor_units(given.text("currency"))
    return max([2, *(-int(amount.as_tuple().exponent) for amount in amounts)])


def _decimals(given: Fields, key: str) -> list[Decimal]:
    return [
        money.parse_decimal(value, f"{given.name(key)} {number}") for number, value in enumerate(given.items(key), 1)
    ]


def _entry_id(entry: Fields) -> int | str:
    found = entry.get("id")
    if isinstance(found, bool) or not isinstance(found, int | str):
        raise Misconfigured(f"{entry.name('id')} must be a number or a text.")
    return found


def _lines(amounts: Sequence[Decimal], currency: str) -> Result:
    return {"lines": [_text(amount) for amount in amounts], "total": _text(money.total(amounts, currency))}


def _taxed(taxed: vat.Taxed) -> Result:
    return {"net": _text(taxed.net), "vat": _text(taxed.vat), "gross": _text(taxed.gross)}


def _text(amount: Decimal) -> str:
    return f"{amount:f}"
