"""One line of a contract: what it covers, how fast it promises, and how it is paid. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from msp.contracts import covers as covered
from msp.contracts import service_credits as by_attainment
from msp.contracts import tariffs as by_clock
from msp.contracts.covers import Covers, parse_covers
from msp.contracts.fields import Fields, parse_day, unique
from msp.contracts.money import minor_units
from msp.contracts.policy import KEYS as POLICY
from msp.contracts.policy import parse as parse_policy
from msp.contracts.rounding import TimeRate
from msp.contracts.service_credits import Step, parse_steps
from msp.contracts.tariffs import Tariff, parse_tariff
from msp.contracts.vat import MODES, VatRate, VatTerms, parse_rate
from msp.errors import Misconfigured

#: kind -> the prices without which it cannot be billed.
PRICES: dict[str, tuple[str, ...]] = {
    "call_out": ("call_out_fee", "rate"),
    "t_and_m": ("rate",),
    "block_hours": ("overage_rate",),
    "retainer_money": ("monthly_fee", "rate"),
    "fixed_scope": ("monthly_fee",),
    "per_device": ("price_per_device",),
    "per_user": ("price_per_user",),
    "per_ticket": ("price_per_ticket",),
}
MONEY = (
    "rate",
    "overage_rate",
    "call_out_fee",
    "monthly_fee",
    "price_per_device",
    "price_per_user",
    "price_per_ticket",
)
KEYS = frozenset(
    {"id", "kind", "name", "calendar", "currency", "increment", "minimum", "included_minutes", "rollover_cap_minutes"}
    | {"rollover_months", "vat", "covers", "excludes", "tariffs", "service_credits", *MONEY, *POLICY}
)


@dataclass(frozen=True, slots=True)
class Line:
    """A line as agreed. Money in `currency`, rates per hour, everything else in minutes unless it says so."""

    id: str
    kind: str
    name: str
    currency: str
    calendar: str | None = None  # of its targets; None promises no times
    covers: Covers = field(default_factory=Covers)
    excludes: Covers | None = None
    prices: Mapping[str, Decimal] = field(default_factory=dict)  # by the names of MONEY
    increment: int = 1
    minimum: int = 0
    included_minutes: int = 0  # each month, before `overage_rate`
    rollover_cap_minutes: int = 0
    rollover_months: int = 0
    tariffs: tuple[Tariff, ...] = ()
    vat: VatTerms | None = None
    service_credits: tuple[Step, ...] = ()  # what is credited when fewer promises are kept, see credits.py
    policy: Mapping[str, Any] = field(default_factory=dict)  # targets and pauses, as the clock rules read them

    @property
    def targets(self) -> Mapping[str, Mapping[str, Any]]:
        """Minutes of covered time by priority and milestone, as agreed; empty where no times are promised."""
        found: Mapping[str, Mapping[str, Any]] = self.policy.get("targets", {})
        return found

    def time_rate(self) -> TimeRate | None:
        """Return how ordinary time is priced, or None where the line bills no time."""
        return self._rate("rate")

    def overage_rate(self) -> TimeRate | None:
        """Return how time beyond what is prepaid or included is priced; `rate` where no other is agreed."""
        return self._rate("overage_rate") or self._rate("rate")

    def _rate(self, key: str) -> TimeRate | None:
        price = self.prices.get(key)
        return None if price is None else TimeRate(price, self.currency, self.increment, self.minimum)


def parse_line(fields: Fields, currency: str, calendars: Mapping[str, Any]) -> Line:
    """Return a line of a contract in `currency`; raises Misconfigured naming the field."""
    kind = fields.choice("kind", PRICES)
    prices = {key: fields.decimal(key) for key in MONEY if key in fields}
    for key in PRICES[kind]:
        if key not in prices:
            raise Misconfigured(f"{fields.name(key)} is missing; a line of kind {kind} is billed by it.")
    if fields.whole("included_minutes", 0) and not {"rate", "overage_rate"} & set(prices):
        raise Misconfigured(
            f"{fields.name('overage_rate')} is missing; it prices what goes beyond the minutes included."
        )
    own = fields.text("currency", currency)
    minor_units(own)
    if own != currency:
        raise Misconfigured(
            f"{fields.name('currency')} is {own}, and the contract's is {currency}.",
            advice="One contract has one currency; sign another contract for the other.",
        )
    calendar = fields.text("calendar", None)
    _known(calendar, calendars, fields.name("calendar"))
    tariffs = tuple(parse_tariff(item) for item in fields.objects("tariffs", by_clock.KEYS))
    unique((tariff.name for tariff in tariffs), f"{fields.where}: the tariff")
    return Line(
        id=fields.text("id"),
        kind=kind,
        name=fields.text("name"),
        currency=own,
        calendar=calendar,
        covers=parse_covers(fields.object("covers", covered.KEYS)),
        excludes=parse_covers(fields.object("excludes", covered.KEYS)) if "excludes" in fields else None,
        prices=prices,
        increment=fields.whole("increment", 1, least=1, most=1440),
        minimum=fields.whole("minimum", 0, most=1440),
        included_minutes=fields.whole("included_minutes", 0),
        rollover_cap_minutes=fields.whole("rollover_cap_minutes", 0),
        rollover_months=fields.whole("rollover_months", 0, most=120),
        tariffs=tariffs,
        vat=parse_vat(fields.object("vat", ("mode", "rates"))),
        service_credits=parse_steps(
            fields.objects("service_credits", by_attainment.KEYS), fields.name("service_credits")
        ),
        policy=_policy(fields, calendar, calendars),
    )


def parse_vat(fields: Fields | None) -> VatTerms | None:
    """Return VAT terms from {"mode", "rates": [{"from", "rate"}]}; a null rate is no VAT. None states nothing."""
    if fields is None:
        return None
    rates = []
    for item in fields.objects("rates", ("from", "rate")):
        if "rate" not in item.value:
            raise Misconfigured(f"{item.name('rate')} is missing.", advice="Give the rate, or null for no VAT.")
        rates.append(
            VatRate(parse_day(item.get("from"), item.name("from")), parse_rate(item.value["rate"], item.name("rate")))
        )
    if not rates:
        raise Misconfigured(f"{fields.name('rates')} is empty.", advice="Give the rate, or null for no VAT.")
    unique((str(rate.starts_on) for rate in rates), f"{fields.where}: the rate from")
    return VatTerms(fields.choice("mode", MODES), tuple(rates))


def _policy(fields: Fields, calendar: str | None, calendars: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document of the clock rules; its calendars must be known, and targets need one to count by."""
    document = {key: fields.value[key] for key in POLICY if key in fields}
    if not document:
        return {}
    promised = parse_policy(document, where=fields.where)
    if calendar is None:
        raise Misconfigured(f"{fields.name('calendar')} is missing; targets count its open time.")
    for name, box in (promised.ola or {}).items():
        _known(box.calendar, calendars, fields.name(f"ola {name}: calendar"))
    if promised.latest_dispatch:
        _known(promised.latest_dispatch.calendar, calendars, fields.name("latest_dispatch: calendar"))
    return document


def _known(name: str | None, calendars: Mapping[str, Any], field_name: str) -> None:
    if name is not None and name not in calendars:
        raise Misconfigured(
            f"{field_name} names {name!r}, which is not among the contract's calendars.",
            advice=f"Known: {', '.join(calendars) or 'none'}.",
        )
