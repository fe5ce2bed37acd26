"""One line of an act as stored: amount, reason, and every figure behind it, so that any language can say why. Pure.

A line is a JSON object. Always: `reason` (English), `amount`, `clause` (id of the contract line or null), `name`,
`kind`, `vat_rate` (a fraction, or null for no VAT). For work: `entry`, `evidence`, `ticket`, `worked_on`, `minutes`,
`billed_minutes`, `prepaid_minutes`, `increment`, `minimum`, `rate` (per hour) and `parts` (one for each tariff; where
minutes are prepaid, its `over_minutes` are those beyond, and its `amount` is theirs), and `carried` if a closed month
left it out. For fees: `quantity`, `price`, `days` ([first, last] where only
a part of the month is billed) and `devices` (names).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from msp.contracts.line_bill import overage_lines, prepays, time_lines
from msp.contracts.lines import Line
from msp.contracts.money import rounded
from msp.contracts.rounding import Segment

#: `kind` of a line that corrects or credits; its reason is what a person wrote.
ADJUSTMENT = "adjustment"
CALL_OUT_FEE = "call_out_fee"


@dataclass(frozen=True, slots=True)
class Work:
    """A confirmed billing entry as an act prints it."""

    entry: int
    evidence: int | None
    ticket: int | None
    worked_on: date
    minutes: int
    billed_minutes: int
    prepaid_minutes: int
    amount: Decimal
    reason: str
    carried: bool = False  # from a closed month that left it out


def of_work(line: Line | None, work: Work, segments: Sequence[Segment]) -> list[dict[str, Any]]:
    """Return the lines of one entry, in order; their amounts add up to the entry's.

    A call-out that owes its fee makes two: the fee and the time (R10). line None: a correction without a clause.
    """
    head: dict[str, Any] = {
        "clause": line.id if line else None,
        "name": line.name if line else "",
        "entry": work.entry,
        "evidence": work.evidence,
        "ticket": work.ticket,
        "worked_on": work.worked_on.isoformat(),
        **({"carried": True} if work.carried else {}),
    }
    if line is None or work.minutes == 0:
        return [{"reason": work.reason, "amount": str(work.amount), **head, "kind": ADJUSTMENT}]
    parts = time_lines(line, segments)
    beyond = overage_lines(line, segments, work.prepaid_minutes) if prepays(line) else None
    rate = line.overage_rate() if line.included_minutes or line.kind == "block_hours" else line.time_rate()
    time = {
        **head,
        "reason": work.reason,
        "kind": line.kind,
        "minutes": work.minutes,
        "billed_minutes": work.billed_minutes,
        "prepaid_minutes": work.prepaid_minutes,
        "increment": line.increment,
        "minimum": line.minimum,
        "rate": str(rate.per_hour) if rate else None,
        "parts": [
            {
                "tariff": part.tariff or "ordinary",
                "minutes": part.minutes,
                "billed_minutes": part.billed_minutes,
                "amount": str(priced.amount),
                **({"over_minutes": priced.billed_minutes} if beyond else {}),
            }
            for part, priced in zip(parts, beyond or parts, strict=True)
        ],
    }
    fee = rounded(line.prices.get("call_out_fee", Decimal(0)), line.currency)
    of_time = sum((part.amount for part in beyond or parts), Decimal(0))
    if line.kind != "call_out" or not fee or work.amount - fee != of_time:
        return [{"amount": str(work.amount), **time}]
    reason = f"{line.name}: call-out fee {fee} {line.currency}"
    return [
        {"amount": str(fee), **head, "reason": reason, "kind": CALL_OUT_FEE},
        {"amount": str(work.amount - fee), **time},
    ]


def of_fee(amount: Decimal, reason: str, printed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the line of a recurring fee; see fees.py for what `printed` holds."""
    return {"clause": None, "name": "", "kind": "fee", **printed, "reason": reason, "amount": str(amount)}


def net_of_clause(lines: Iterable[Mapping[str, Any]], clause: str) -> Decimal:
    """Return what the lines of one clause add up to: the base of a service credit."""
    return sum((Decimal(line["amount"]) for line in lines if line.get("clause") == clause), Decimal(0))
