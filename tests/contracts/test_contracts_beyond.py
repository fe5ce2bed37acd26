"""Beyond the block: how many minutes and how much money, with what is promised already taken into account."""

from datetime import date
from decimal import Decimal

import pytest

from msp.contracts.beyond import Beyond, beyond
from msp.contracts.block import Block
from msp.contracts.lines import Line
from msp.contracts.rounding import Segment

MONDAY, TUESDAY = date(2026, 3, 2), date(2026, 3, 3)
LINE = Line("1", "block_hours", "Servers", "EUR", prices={"overage_rate": Decimal("95.00")}, increment=15)


def block(left: int, number: int = 1, *, until: date | None = None) -> Block:
    return Block(number, left, date(2026, 3, 1), until)


def hour(multiplier: str = "1", tariff: str = "ordinary") -> Segment:
    return Segment(60, Decimal(multiplier), tariff)


@pytest.mark.parametrize(("left", "over"), [(61, 0), (60, 0), (59, 1), (30, 30), (0, 60)])
def test_what_the_block_does_not_pay_is_beyond(left: int, over: int) -> None:
    found = beyond(LINE, [hour()], [block(left)], [], MONDAY)
    assert (found.over if found else 0) == over


def test_minutes_are_those_that_the_line_bills_and_money_is_theirs() -> None:
    found = beyond(LINE, [Segment(50)], [block(30)], [], MONDAY)
    assert found == Beyond(takes=60, over=30, rate=Decimal("95.00"), amount=Decimal("47.50"), currency="EUR")
    assert found.words() == (
        "The visit takes 1 h 0 min, and 30 min of it are prepaid. "
        "Billed beyond them: 30 min at 95.00 EUR an hour, 47.50 EUR."
    )


def test_a_dearer_hour_costs_its_tariff_and_says_so() -> None:
    found = beyond(LINE, [hour("2", "night")], [block(0)], [], MONDAY)
    assert found is not None
    assert (found.amount, found.dearer) == (Decimal("190.00"), True)
    assert found.words() == (
        "The visit takes 1 h 0 min, and no prepaid hours are left for it. "
        "Billed beyond them: 1 h 0 min at 95.00 EUR an hour times the tariff, 190.00 EUR."
    )


def test_what_is_promised_already_is_paid_by_the_block_too() -> None:
    assert beyond(LINE, [hour()], [block(120)], [(TUESDAY, 60)], MONDAY) is None
    found = beyond(LINE, [hour()], [block(119)], [(TUESDAY, 60)], MONDAY)
    assert found is not None
    assert found.over == 1
    found = beyond(LINE, [hour()], [block(0)], [(TUESDAY, 60)], MONDAY)  # that one was beyond before
    assert found is not None
    assert found.over == 60


def test_a_block_pays_only_until_it_expires() -> None:
    old, new = block(60, 1, until=MONDAY), block(30, 2)
    assert beyond(LINE, [hour()], [old, new], [(TUESDAY, 30)], MONDAY) is None
    found = beyond(LINE, [hour()], [old, new], [], TUESDAY)
    assert found is not None
    assert found.over == 30
    expired = beyond(LINE, [hour()], [old], [], TUESDAY)
    assert expired is not None
    assert expired.over == 60


def test_without_a_block_nothing_is_asked() -> None:
    other = Line("1", "t_and_m", "Servers", "EUR", prices={"rate": Decimal("95.00")})
    assert beyond(other, [hour()], [block(0)], [], MONDAY) is None
    assert beyond(LINE, [hour()], [], [], MONDAY) is None
    assert beyond(LINE, [hour()], [block(0)], [], date(2026, 2, 1)) is None  # not bought yet
