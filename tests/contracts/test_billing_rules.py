"""The thirteen billing rules, each by its number, against arithmetic done here in fractions."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msp.contracts import acts, block, change, money, proration, rollover, rounding, tariffs, vat
from msp.contracts.call_out import Material, call_out_bill, call_out_lines
from msp.contracts.fields import Fields
from msp.contracts.rounding import Segment, TimeRate
from msp.errors import Misconfigured

EUR_90 = TimeRate(Decimal(90), "EUR", increment=15, minimum=30)
amounts = st.decimals(min_value=0, max_value=10_000, places=2)


def half_away(value: Fraction, digits: int = 2) -> Decimal:
    """Round by integers: the oracle of every amount here."""
    scaled = abs(value) * 10**digits
    whole = scaled.numerator * 2 // scaled.denominator
    units = (whole + 1) // 2
    return Decimal(units if value >= 0 else -units).scaleb(-digits)


@pytest.mark.parametrize(("minutes", "billed"), [(1, 15), (15, 15), (16, 30), (30, 30), (31, 45)])
def test_r1_minutes_are_rounded_up_to_the_increment(minutes: int, billed: int) -> None:
    assert rounding.billed_minutes(minutes, 15) == billed


def test_r2_nonempty_entry_bills_the_minimum_and_an_empty_one_nothing() -> None:
    assert [rounding.billed_minutes(minutes, 15, 30) for minutes in (0, 1, 30, 31)] == [0, 30, 30, 45]
    assert rounding.billed_minutes(5, 15, 20) == 20  # the minimum is taken as it stands


def test_r3_entry_is_split_at_the_tariff_boundary_before_rounding() -> None:
    zone = ZoneInfo("Europe/Berlin")
    document = {"name": "after hours", "multiplier": "1.5", "windows": [{"from": "18:00", "to": "08:00"}]}
    evening = tariffs.parse_tariff(Fields(document, "tariff"))
    begin = datetime(2026, 3, 16, 17, 50, tzinfo=zone)
    segments = tariffs.split(begin, 30, [evening], zone)
    assert [(part.minutes, part.multiplier) for part in segments] == [(10, 1), (20, Decimal("1.5"))]
    lines = rounding.bill_segments(segments, TimeRate(Decimal(90), "EUR", 15))
    assert [(line.billed_minutes, line.amount) for line in lines] == [(15, Decimal("22.50")), (30, Decimal("67.50"))]


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 60 * 24 * 366), st.integers(1, 3000))
def test_r3_segments_agree_with_counting_every_minute(offset: int, minutes: int) -> None:
    zone = ZoneInfo("Europe/Berlin")
    begin = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=offset)
    table = [
        tariffs.parse_tariff(Fields(document, "tariff"))
        for document in (
            {"name": "holiday", "multiplier": "2", "dates": ["2026-05-01", "2026-12-25"]},
            {
                "name": "weekend",
                "multiplier": "1.75",
                "windows": [{"days": ["sat", "sun"], "from": "00:00", "to": "24:00"}],
            },
            {"name": "night", "multiplier": "1.5", "windows": [{"from": "18:00", "to": "08:00"}]},
        )
    ]
    counted: list[list[object]] = []
    for minute in range(minutes):
        local = (begin + timedelta(minutes=minute)).astimezone(zone)
        if (local.month, local.day) in {(5, 1), (12, 25)}:
            name = "holiday"
        elif local.weekday() >= 5:
            name = "weekend"
        else:
            name = "night" if not 8 <= local.hour < 18 else "ordinary"
        if counted and counted[-1][0] == name:
            counted[-1][1] += 1  # type: ignore[operator]
        else:
            counted.append([name, 1])
    assert [[part.tariff, part.minutes] for part in tariffs.split(begin, minutes, table, zone)] == counted


def test_r3_what_lacks_to_the_minimum_goes_to_the_first_tariff_worked_in() -> None:
    lines = rounding.bill_segments([Segment(0), Segment(5), Segment(5, Decimal(2))], EUR_90)
    assert [line.billed_minutes for line in lines] == [0, 15, 15]
    lines = rounding.bill_segments([Segment(0), Segment(5, Decimal(2))], EUR_90)
    assert [line.billed_minutes for line in lines] == [0, 30]


@given(st.integers(0, 10_000), st.lists(st.integers(0, 500), max_size=20), st.integers(1, 60))
def test_r4_block_never_goes_below_zero_and_nothing_is_lost(size: int, entries: list[int], increment: int) -> None:
    drawn = block.draw_entries(size, entries, TimeRate(Decimal(60), "EUR", increment))
    wanted = sum(rounding.billed_minutes(minutes, increment) for minutes in entries)
    assert drawn.balance_after == max(size - wanted, 0)
    assert drawn.from_block_total == min(size, wanted)
    assert block.overage_total(drawn, "EUR") == max(wanted - size, 0)  # at 60 an hour a minute costs 1


def test_r4_blocks_are_drained_by_expiry_then_by_purchase() -> None:
    january, march = date(2026, 1, 1), date(2026, 3, 1)
    blocks = [
        block.Block(1, 60, january),
        block.Block(2, 60, march, date(2026, 6, 30)),
        block.Block(3, 60, january, date(2026, 6, 30)),
        block.Block(4, 60, january, date(2026, 3, 14)),
    ]
    assert block.drain(blocks, 200, date(2026, 3, 15)) == ({3: 60, 2: 60, 1: 60}, 20)
    assert block.drain(blocks, 70, date(2026, 3, 14)) == ({4: 60, 3: 10}, 0)


def test_block_warns_once_at_80_and_95_percent() -> None:
    assert block.warnings_crossed(600, 600, 121) == ()
    assert block.warnings_crossed(600, 121, 120) == (80,)
    assert block.warnings_crossed(600, 120, 31) == ()
    assert block.warnings_crossed(600, 600, 0) == (80, 95)


def test_r5_rollover_example_of_the_contract() -> None:
    month = rollover.close_month(300, [], 200, cap=60, months=1)
    assert (month.next_month_minutes, month.expired_minutes) == (360, 40)


def test_r5_carried_minutes_are_used_first_and_expire_at_the_end_of_their_last_month() -> None:
    assert rollover.close_month(300, [60], 0, cap=60, months=1) == rollover.Rollover(360, 300, (60,))
    assert rollover.close_month(300, [60], 60, cap=60, months=1) == rollover.Rollover(360, 240, (60,))
    assert rollover.close_month(300, [60], 350, cap=60, months=1) == rollover.Rollover(310, 0, (10,))
    assert rollover.close_month(300, [60], 400, cap=60, months=1) == rollover.Rollover(300, 0, (0,))
    assert rollover.close_month(300, [50], 290, cap=60, months=2) == rollover.Rollover(360, 0, (0, 60))
    assert rollover.close_month(300, [], 100, cap=60, months=0) == rollover.Rollover(300, 200, ())


@given(
    st.integers(0, 500),
    st.integers(0, 900),
    st.integers(0, 300),
    st.integers(0, 4),
    st.lists(st.integers(0, 99), max_size=3),
)
def test_r5_every_minute_is_used_carried_or_expired(
    monthly: int, used: int, cap: int, months: int, old: list[int]
) -> None:
    month = rollover.close_month(monthly, old, used, cap=cap, months=months)
    assert sum(month.carried) <= cap
    assert len(month.carried) <= months
    assert month.next_month_minutes == monthly + sum(month.carried)
    assert min(used, monthly + sum(old)) + sum(month.carried) + month.expired_minutes == monthly + sum(old)


@given(amounts, st.integers(1, 12), st.data())
def test_r6_partial_month_is_fee_by_days_of_that_month(fee: Decimal, month: int, data: st.DataObject) -> None:
    days = (date(2027 if month == 12 else 2026, month % 12 + 1, 1) - date(2026, month, 1)).days
    first = data.draw(st.integers(1, days))
    last = data.draw(st.integers(first, days))
    expected = half_away(Fraction(fee) * (last - first + 1) / days)
    assert proration.prorated(fee, "EUR", 2026, month, first, last) == expected


def test_r6_whole_month_is_the_whole_fee_and_other_days_are_refused() -> None:
    assert proration.prorated(Decimal("99.99"), "EUR", 2028, 2, 1, 29) == Decimal("99.99")
    for first, last in ((0, 5), (5, 4), (1, 30)):
        with pytest.raises(Misconfigured, match="do not lie within 2028-02, which has 29 days"):
            proration.prorated(Decimal(1), "EUR", 2028, 2, first, last)


def test_r7_device_counts_from_the_day_it_is_active() -> None:
    lines = proration.device_lines(Decimal(31), "EUR", 2026, 3, 10, [(2, 31), (1, 1)])
    assert lines == (Decimal("310.00"), Decimal("2.00"), Decimal("31.00"))


@pytest.mark.parametrize(
    ("value", "currency", "text"),
    [
        ("2.345", "EUR", "2.35"),
        ("-2.345", "EUR", "-2.35"),
        ("2.5", "JPY", "3"),
        ("-0.4", "JPY", "0"),
        ("1", "KWD", "1.000"),
        ("0.0005", "BHD", "0.001"),
        ("2.675", "RUB", "2.68"),
        ("0.00005", "CLF", "0.0001"),
    ],
)
def test_r8_money_is_rounded_half_away_from_zero_to_the_minor_unit(value: str, currency: str, text: str) -> None:
    assert str(money.rounded(Decimal(value), currency)) == text


@pytest.mark.parametrize("currency", ["XAU", "XXX", "eur", "", "EURO"])
def test_r8_currency_without_a_minor_unit_is_refused(currency: str) -> None:
    with pytest.raises(Misconfigured, match="ISO 4217"):
        money.minor_units(currency)


@given(st.lists(amounts, max_size=12), st.sampled_from(["0.2", "0.19", "0.07", "0", "0.081"]))
def test_r8_vat_modes_agree_with_fractions(lines: list[Decimal], rate: str) -> None:
    net = sum((Fraction(line) for line in lines), Fraction(0))
    on_total, per_line = vat.on_total(lines, Decimal(rate)), vat.per_line(lines, Decimal(rate))
    assert on_total.vat == half_away(net * Fraction(rate))
    assert per_line.vat == sum((half_away(Fraction(line) * Fraction(rate)) for line in lines), Decimal(0))
    inclusive = vat.inclusive(on_total.gross, Decimal(rate))
    assert inclusive.net == half_away(Fraction(on_total.gross) / (1 + Fraction(rate)))
    for taxed in (on_total, per_line, inclusive):
        assert taxed.net + taxed.vat == taxed.gross


def test_r8_no_vat_is_not_zero_percent() -> None:
    taxed = vat.per_rate([(Decimal(100), Decimal("0.2")), (Decimal(50), Decimal(0)), (Decimal(10), None)])
    assert taxed.by_rate == ((Decimal("0.2"), Decimal("20.00")), (Decimal(0), Decimal("0.00")))
    assert (taxed.net, taxed.vat, taxed.gross) == (Decimal("160.00"), Decimal("20.00"), Decimal("180.00"))


def test_r9_vat_rate_is_that_of_the_date_of_supply() -> None:
    rates = [vat.VatRate(date(2026, 1, 1), Decimal("0.2")), vat.VatRate(date(2025, 1, 1), Decimal("0.18"))]
    assert [vat.rate_on(rates, date(2025, 12, 31)), vat.rate_on(rates, date(2026, 1, 1))] == [
        Decimal("0.18"),
        Decimal("0.2"),
    ]
    with pytest.raises(Misconfigured, match="no VAT rate for 2024-12-31"):
        vat.rate_on(rates, date(2024, 12, 31))


def test_vat_rate_is_read_in_percent_or_as_a_fraction() -> None:
    assert [vat.parse_rate(value, "vat_rate") for value in ("20", 20, "0.20", 0.2, 0, None, "1", "0.5 %")] == [
        Decimal("0.2"),
        Decimal("0.2"),
        Decimal("0.2"),
        Decimal("0.2"),
        Decimal(0),
        None,
        Decimal("0.01"),
        Decimal("0.005"),
    ]


def test_r10_call_out_is_fee_time_and_each_material() -> None:
    lines = call_out_lines(
        Decimal(50), 61, EUR_90, [Material(Decimal("2.5"), Decimal("3.33")), Material(Decimal(1), Decimal(9))]
    )
    assert lines == (Decimal("50.00"), Decimal("112.50"), Decimal("8.33"), Decimal("9.00"))
    bill = call_out_bill(lines, Decimal("0.19"), "EUR")
    assert (bill.net, bill.vat, bill.gross) == (Decimal("179.83"), Decimal("34.17"), Decimal("214.00"))


def test_r11_total_is_the_sum_of_rounded_lines() -> None:
    rate = TimeRate(Decimal("0.20"), "EUR", 1)
    lines = rounding.bill_segments([Segment(2)] * 3, rate)  # 0.00666... each
    assert [line.amount for line in lines] == [Decimal("0.01")] * 3
    assert money.total((line.amount for line in lines), "EUR") == Decimal("0.03")


def test_r12_rate_is_that_of_the_version_in_force_on_the_date_of_work() -> None:
    versions = [(date(2026, 2, 1), 90), (date(2026, 1, 1), 60)]
    days = (date(2026, 1, 31), date(2026, 2, 1))
    assert [change.in_force(versions, day, lambda version: version[0])[1] for day in days] == [60, 90]
    with pytest.raises(Misconfigured, match="No version"):
        change.in_force(versions, date(2025, 12, 31), lambda version: version[0])
    with pytest.raises(Misconfigured, match="Two versions of the contract start on 2026-01-01"):
        change.in_force([*versions, (date(2026, 1, 1), 70)], date(2026, 5, 1), lambda version: version[0])


def test_r13_closing_again_makes_no_second_act_and_an_entry_is_in_one() -> None:
    entries = [
        acts.Billable(1, Decimal("10.00")),
        acts.Billable(2, Decimal("5.00"), act="old"),
        acts.Billable(3, Decimal("7.00"), billable=False),
        acts.Billable(4, Decimal("2.50"), worked_on=date(2026, 3, 31)),
        acts.Billable(5, Decimal("9.00"), worked_on=date(2026, 4, 1)),
    ]
    act = acts.close(entries, "2026-03")
    assert act == acts.NewAct("2026-03", (1, 4), Decimal("12.50"))
    assert acts.close(acts.with_act(entries, act), "2026-03") is None
