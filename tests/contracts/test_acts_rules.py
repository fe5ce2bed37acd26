"""The rules behind an act: fees, hours left, service credits, VAT by rate, words; each against a plain reckoning."""

import string
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msp.contracts import act_words, rate_card, service_credits, terms
from msp.contracts.act_vat import tax_lines
from msp.contracts.block import Block
from msp.contracts.block_statement import block_month
from msp.contracts.fees import Device, Span, fees_of
from msp.contracts.lines import Line
from msp.contracts.outputs import plain_cell
from msp.contracts.quote import quote
from msp.contracts.service_credits import Judged, Step, statement
from msp.contracts.vat import VatRate, VatTerms
from msp.errors import Misconfigured

FIRST, LAST = date(2026, 3, 1), date(2026, 3, 31)
MONTHLY = Line("M", "fixed_scope", "Care", "EUR", prices={"monthly_fee": Decimal(100)})
DEVICES = Line("D", "per_device", "Watch", "EUR", prices={"price_per_device": Decimal(10)})
PEOPLE = Line("P", "per_user", "Desk", "EUR", prices={"price_per_user": Decimal("7.50")})
STEPS = (Step(Decimal(95), Decimal(5)), Step(Decimal(90), Decimal(10)))


def test_fees_count_days_in_force_and_devices_from_the_day_they_are_active() -> None:
    devices = [Device("a", date(2026, 1, 5)), Device("b", date(2026, 3, 11)), Device("c", date(2026, 4, 1))]
    span = Span(FIRST, LAST, [MONTHLY, DEVICES, PEOPLE])
    found = fees_of([span], lambda _: devices, lambda _: 4)
    amounts = [(fee.printed["clause"], fee.amount) for fee in found]
    # b: 10 * 21 / 31 days
    assert amounts == [("M", Decimal(100)), ("D", Decimal(10)), ("D", Decimal("6.77")), ("P", Decimal(30))]
    late = fees_of([Span(date(2026, 3, 22), LAST, [MONTHLY])], lambda _: [], lambda _: 0)
    assert [fee.amount for fee in late] == [Decimal("32.26")]  # 100 * 10 / 31
    assert late[0].printed["days"] == [22, 31]


def test_an_amendment_elsewhere_does_not_split_a_fee() -> None:
    dearer = Line("M", "fixed_scope", "Care", "EUR", prices={"monthly_fee": Decimal(200)})
    halves = [Span(FIRST, date(2026, 3, 15), [MONTHLY, DEVICES]), Span(date(2026, 3, 16), LAST, [MONTHLY])]
    same = fees_of(halves, lambda _: [], lambda _: 0)
    assert [fee.amount for fee in same] == [Decimal(100)]
    changed = fees_of([halves[0], Span(date(2026, 3, 16), LAST, [dearer])], lambda _: [], lambda _: 0)
    assert [fee.amount for fee in changed] == [Decimal("48.39"), Decimal("103.23")]


@given(
    st.lists(st.tuples(st.integers(0, 89), st.integers(1, 400)), max_size=4),
    st.lists(st.tuples(st.integers(0, 89), st.integers(1, 60)), max_size=12),
)
def test_block_month_is_what_counting_every_minute_says(
    bought: list[tuple[int, int]], wanted: list[tuple[int, int]]
) -> None:
    day = date(2026, 2, 1).toordinal()
    blocks = [
        Block(number, minutes, date.fromordinal(day + at), date.fromordinal(day + at + 40) if number % 2 else None)
        for number, (at, minutes) in enumerate(bought)
    ]
    left = {block.id: block.balance_minutes for block in blocks}
    drawn, balances = [], {}
    for offset in range(90):  # every day, minute by minute, from whichever block expires first
        today = date.fromordinal(day + offset)
        usable = [b for b in blocks if b.purchased_on <= today and (b.expires_on is None or b.expires_on >= today)]
        usable.sort(key=lambda b: (b.expires_on or date.max, b.purchased_on, b.id))
        for at, minutes in wanted:
            if at == offset:
                granted = 0
                for _ in range(minutes):
                    block = next((b for b in usable if left[b.id]), None)
                    if block is not None:
                        left[block.id] -= 1
                        granted += 1
                drawn.append((today, granted))
        balances[today] = sum(left[b.id] for b in usable)
    month = block_month(blocks, drawn, FIRST, LAST)
    assert (month.before, month.after) == (balances[date(2026, 2, 28)], balances[LAST])
    assert month.used == sum(minutes for at, minutes in drawn if FIRST <= at <= LAST)
    assert month.before + month.bought - month.used - month.expired == month.after


@given(st.lists(st.booleans(), max_size=60), st.decimals(0, 10000, places=2))
def test_credit_is_that_of_the_lowest_step_missed(kept: list[bool], base: Decimal) -> None:
    found = statement("L1", STEPS, (Judged(n, good) for n, good in enumerate(kept)), base, "EUR")
    share = Decimal(sum(kept)) / len(kept) if kept else Decimal(1)
    percent = 0 if share >= Decimal("0.95") else 5 if share >= Decimal("0.9") else 10
    assert found.amount == (base * percent / 100).quantize(Decimal("0.01"), ROUND_HALF_UP)
    assert found.broken == tuple(n for n, good in enumerate(kept) if not good)
    assert (found.attainment is None) == (not kept)


def test_exactly_95_percent_is_reached_and_a_hair_below_is_not() -> None:
    def owed(kept: int, counted: int) -> Decimal:
        judged = [Judged(n, n < kept) for n in range(counted)]
        return statement("L1", STEPS, judged, Decimal(1000), "EUR").amount

    assert owed(95, 100) == 0
    assert owed(94_999, 100_000) == 50
    assert owed(0, 0) == 0
    assert statement("L1", STEPS, [Judged(1, False)], Decimal(-5), "EUR").amount == 0


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([{"below": 101, "credit_percent": 5}], "cannot be agreed"),
        ([{"below": 95, "credit_percent": 0}], "cannot be agreed"),
        ([{"below": 95, "credit_percent": 5}, {"below": "95.0", "credit_percent": 6}], "comes twice"),
        ([{"below": 95, "credit_percent": 5}, {"below": 90, "credit_percent": 4}], "less is credited"),
        ([{"below": 95, "credit": 5}], "'credit' is unknown"),
    ],
)
def test_service_credits_that_contradict_themselves_are_refused(steps: list[Any], message: str) -> None:
    line = {"id": "L", "kind": "t_and_m", "name": "n", "rate": "1", "service_credits": steps}
    assert message in " ".join(terms.problems({"currency": "EUR", "lines": [line]}))
    assert service_credits.KEYS == ("below", "credit_percent")


def test_lines_of_two_rates_and_of_none_are_taxed_apart() -> None:
    agreed = VatTerms("exclusive_per_rate", (VatRate(FIRST, Decimal("0.19")), VatRate(LAST, Decimal("0.2"))))
    bill = tax_lines([(Decimal(100), FIRST, agreed), (Decimal(50), LAST, agreed), (Decimal(7), FIRST, None)], "EUR")
    assert (bill.net, bill.vat, bill.gross) == (Decimal(157), Decimal(29), Decimal(186))
    assert [(row.rate, row.vat) for row in bill.by_rate] == [
        (Decimal("0.19"), Decimal(19)), (Decimal("0.2"), Decimal(10)), (None, Decimal(0)),
    ]  # fmt: skip
    assert tax_lines([(Decimal(7), FIRST, None)], "EUR").vat is None  # no VAT is not 0 %
    zero = VatTerms("exclusive_on_total", (VatRate(FIRST, Decimal(0)),))
    assert tax_lines([(Decimal(7), FIRST, zero)], "EUR").vat == Decimal(0)


def test_every_word_of_an_act_stands_in_both_languages_with_the_same_places() -> None:
    for key, texts in act_words.WORDS.items():
        assert all(texts), key
        places = [{name for _, name, _, _ in string.Formatter().parse(text) if name} for text in texts]
        assert places[0] == places[1], key


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@a", "\t=1"])
def test_no_text_becomes_a_formula(text: str) -> None:
    assert plain_cell(text) == f"'{text}"
    assert plain_cell("Disk = full") == "Disk = full"


@pytest.mark.parametrize("locale", ["en", "ru"])
def test_the_rate_card_shipped_can_be_ordered_whole(locale: str) -> None:
    card = rate_card.load("", locale)
    assert quote(card, {item.key: 1 for item in card.items}).total > 0
    assert any("а" in item.name for item in card.items) == (locale == "ru")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"currency": "EUR", "items": [{"key": "a"}]}, "name is missing"),
        ({"currency": "XXX", "items": []}, "ISO 4217"),
        ({"currency": "EUR", "items": [{"key": "a", "name": "A", "unit": "u", "price": 1, "kind": "t_and_m",
                                        "needs": ["b"]}]}, "does not stand before it"),
    ],
)  # fmt: skip
def test_rate_card_that_cannot_be_meant_is_refused(document: Any, message: str) -> None:
    with pytest.raises(Misconfigured, match=message):
        rate_card.parse(document)
