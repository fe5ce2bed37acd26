"""The cost calculator: add the needed, remove the rest, and see what each addition costs."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msp.contracts import terms
from msp.contracts.quote import RateCard, RateItem, draft_terms, quote
from msp.errors import Misconfigured

CARD = RateCard(
    "EUR",
    (
        RateItem("servers", "Server care", "server", Decimal("45.00"), "per_device", least=2),
        RateItem("users", "Help desk", "user", Decimal("12.50"), "per_user", included=5),
        RateItem("proof", "Restore proof", "server", Decimal("9.99"), "per_device", needs=("servers",)),
        RateItem("watch", "Round the clock", "month", Decimal(300), "fixed_scope", needs=("proof",)),
    ),
)


def test_quote_charges_what_is_wanted_beyond_what_is_included() -> None:
    found = quote(CARD, {"servers": 1, "users": 8})
    assert [(line.item.key, line.charged, line.amount) for line in found.lines] == [
        ("servers", 2, Decimal("90.00")),
        ("users", 3, Decimal("37.50")),
    ]
    assert found.total == Decimal("127.50")


def test_addition_costs_its_own_price_and_that_of_what_it_needs() -> None:
    found = quote(CARD, {"users": 5})
    assert found.additions == {
        "servers": Decimal("90.00"),
        "users": Decimal("12.50"),
        "proof": Decimal("99.99"),
        "watch": Decimal("399.99"),
    }


@given(
    st.dictionaries(st.sampled_from(["servers", "users"]), st.integers(0, 200)), st.sampled_from(["servers", "users"])
)
def test_quote_with_the_addition_costs_what_the_addition_said(demand: dict[str, int], key: str) -> None:
    before = quote(CARD, demand)
    after = quote(CARD, demand | {key: demand.get(key, 0) + 1})
    assert after.total - before.total == before.additions[key]


@pytest.mark.parametrize(
    ("demand", "message"),
    [
        ({"beer": 1}, "'beer' is not on the rate card"),
        ({"users": -1}, "-1 units of 'users'"),
        ({"proof": 1}, "'proof' needs 'servers'"),
    ],
)
def test_demand_that_cannot_be_met_is_explained(demand: dict[str, int], message: str) -> None:
    with pytest.raises(Misconfigured, match=message):
        quote(CARD, demand)


def test_quote_becomes_a_draft_contract_that_can_be_signed() -> None:
    draft = draft_terms(quote(CARD, {"servers": 3, "users": 8, "proof": 3, "watch": 1}))
    signed = terms.parse(draft)
    assert [(line.id, line.kind) for line in signed.lines] == [
        ("servers", "per_device"),
        ("users", "per_user"),
        ("proof", "per_device"),
        ("watch", "fixed_scope"),
    ]
    assert signed.lines[3].prices["monthly_fee"] == Decimal("300.00")
