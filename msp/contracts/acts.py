"""Closing a period: what goes into the act, and never into another (R13). Pure; agreements.py stores acts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal

from msp.contracts.money import round_to


@dataclass(frozen=True, slots=True)
class Billable:
    """An entry as closing sees it. `act` names the act it is in, if any; `worked_on` None counts for any period."""

    id: int | str
    amount: Decimal
    act: int | str | None = None
    billable: bool = True
    worked_on: date | None = None


@dataclass(frozen=True, slots=True)
class NewAct:
    """The act that closing a period makes: its entries, in their order, and their sum."""

    period: str
    entries: tuple[int | str, ...]
    total: Decimal


def month_of(day: date) -> str:
    """Return the period of a date of work: "2026-03"."""
    return f"{day.year:04}-{day.month:02}"


def close(entries: Iterable[Billable], period: str, digits: int = 2) -> NewAct | None:
    """Return the act of the billable entries of `period` that are in no act yet, or None if there are none.

    Closing again therefore makes nothing. An entry that was worked in another period stays for that one.
    """
    found = [
        entry
        for entry in entries
        if entry.billable and entry.act is None and (entry.worked_on is None or month_of(entry.worked_on) == period)
    ]
    if not found:
        return None
    amount = sum((round_to(entry.amount, digits) for entry in found), Decimal(0))
    return NewAct(period, tuple(entry.id for entry in found), round_to(amount, digits))


def with_act(entries: Sequence[Billable], act: NewAct | None) -> list[Billable]:
    """Return the entries as they stand once `act` is stored."""
    put = set(act.entries) if act else set()
    return [replace(entry, act=f"act {act.period}") if act and entry.id in put else entry for entry in entries]
