"""Service credits: what the client gets back when fewer promises were kept than agreed. Pure.

A contract line may agree `service_credits: [{"below": 95, "credit_percent": 5}, ...]`: if less than 95 % of the
month's promises were kept, 5 % of what the line costs that month is credited. The lowest step that was missed counts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise

from msp.contracts.fields import Fields, unique
from msp.contracts.money import product, round_to, rounded
from msp.errors import Misconfigured

KEYS = ("below", "credit_percent")


@dataclass(frozen=True, slots=True)
class Step:
    """Below this attainment, in percent, so many percent of the month's price are credited."""

    below: Decimal
    credit_percent: Decimal


@dataclass(frozen=True, slots=True)
class Judged:
    """One promise to the client that was kept or broken in the month."""

    ticket: int
    kept: bool


@dataclass(frozen=True, slots=True)
class Statement:
    """The service credit of one contract line and month. `attainment` None: no promise fell due."""

    clause: str
    counted: int
    kept: int
    attainment: Decimal | None  # percent, two decimals
    step: Step | None  # None: everything agreed was reached
    base: Decimal
    amount: Decimal  # what is credited, not below zero
    broken: tuple[int, ...]  # tickets


def parse_steps(items: Iterable[Fields], where: str) -> tuple[Step, ...]:
    """Return the steps of a line, the highest first; raises Misconfigured for percentages outside 0 to 100."""
    steps = [Step(item.decimal("below"), item.decimal("credit_percent")) for item in items]
    for step in steps:
        if not (0 < step.below <= 100 and 0 < step.credit_percent <= 100):
            raise Misconfigured(
                f"{where}: below {step.below} % a credit of {step.credit_percent} % cannot be agreed.",
                advice="Both are percentages above 0, up to 100.",
            )
    unique((str(step.below.normalize()) for step in steps), f"{where}: the step below")
    steps.sort(key=lambda step: -step.below)
    for higher, lower in pairwise(steps):
        if lower.credit_percent < higher.credit_percent:
            raise Misconfigured(
                f"{where}: below {lower.below} % less is credited than below {higher.below} %.",
                advice="The lower the attainment, the higher the credit.",
            )
    return tuple(steps)


def statement(clause: str, steps: Sequence[Step], judged: Iterable[Judged], base: Decimal, currency: str) -> Statement:
    """Return the month's statement. base: what the line costs in the month, net.

    The attainment is compared exactly, not as it is printed: 94.999 % is below 95 %.
    """
    promises = list(judged)
    counted, kept = len(promises), sum(one.kept for one in promises)
    broken = tuple(sorted({one.ticket for one in promises if not one.kept}))
    missed = [step for step in steps if counted and kept * 100 < step.below * counted]
    step = min(missed, key=lambda one: one.below, default=None)
    owed = product(max(base, Decimal(0)), step.credit_percent, divided_by=100) if step else Decimal(0)
    attainment = round_to(product(kept, 100, divided_by=counted), 2) if counted else None
    return Statement(clause, counted, kept, attainment, step, base, rounded(owed, currency), broken)
