"""Currencies and the one rounding of money: half away from zero, to the currency's minor unit. Pure.

Source of the minor units: ISO 4217, list one.
"""

import re
from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Context, Decimal, localcontext
from typing import Any

from msp.errors import Misconfigured

_TWO = (
    "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW "
    "CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR "
    "ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV "
    "MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD "
    "SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG"
)
_NONE = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_THREE = "BHD IQD JOD KWD LYD OMR TND"
_FOUR = "CLF UYW"
#: ISO 4217 code -> digits after the decimal point. Codes of metals and funds have no minor unit and are not here.
MINOR_UNITS: dict[str, int] = (
    dict.fromkeys(_TWO.split(), 2)
    | dict.fromkeys(_NONE.split(), 0)
    | dict.fromkeys(_THREE.split(), 3)
    | dict.fromkeys(_FOUR.split(), 4)
)

_EXACT = Context(prec=60, rounding=ROUND_HALF_UP)  # far more digits than any tie needs
_NUMBER = re.compile(r"[+-]?(\d{1,24}(\.\d{0,24})?|\.\d{1,24})")


def minor_units(currency: str) -> int:
    """Return how many digits amounts in `currency` have; raises Misconfigured for one without a minor unit."""
    if currency not in MINOR_UNITS:
        raise Misconfigured(
            f"The currency {currency!r} is not an ISO 4217 currency with a minor unit.",
            advice="Use the code of a currency that bills can be paid in, such as EUR, RUB or JPY.",
        )
    return MINOR_UNITS[currency]


def round_to(amount: Decimal, digits: int) -> Decimal:
    """Return `amount` with exactly `digits` decimals, half away from zero; zero has no sign."""
    rounded = amount.quantize(Decimal(1).scaleb(-digits), context=_EXACT)
    return rounded.copy_abs() if rounded.is_zero() else rounded


def rounded(amount: Decimal, currency: str) -> Decimal:
    """Return `amount` in whole minor units of `currency`, half away from zero (R8)."""
    return round_to(amount, minor_units(currency))


def product(*factors: Decimal | int, divided_by: Decimal | int = 1) -> Decimal:
    """Return the product over the divisor, unrounded: exact to 60 digits, so that a tie is still a tie."""
    with localcontext(_EXACT):
        result = Decimal(1)
        for factor in factors:
            result *= factor
        return result / divided_by


def total(amounts: Iterable[Decimal], currency: str) -> Decimal:
    """Return the sum of already rounded lines (R11); of none it is zero, with the currency's digits."""
    with localcontext(_EXACT):
        return rounded(sum(amounts, Decimal(0)), currency)


def parse_decimal(value: Any, field: str) -> Decimal:
    """Return a JSON number or decimal string as Decimal; raises Misconfigured naming the field.

    A binary float is taken by its shortest spelling (0.1 is one tenth); exponents in strings are refused.
    """
    plain = str(value) if isinstance(value, int | float | Decimal) and not isinstance(value, bool) else value
    if isinstance(plain, str):
        if _NUMBER.fullmatch(plain.strip()):
            return Decimal(plain.strip())
        if not isinstance(value, str):  # 1E+2 and the like: a number, and small enough to write out
            number = Decimal(plain)
            if number.is_finite() and -24 <= number.adjusted() <= 24:
                return number
    raise Misconfigured(f"{field} must be a decimal number, not {repr(value)[:80]}.", advice='Write it like "1250.00".')
