"""An act as a document: everything that is printed, as one frozen value in the client's language. Pure.

It is made of what was frozen when the month was closed (the act's lines and its annex) and of nothing else, so the
same act gives the same document for ever. The annex is {"client": {"name", "zone"}, "contract": {"reference",
"title"}, "provider": {"name", "details"}, "locale", "closed_on", "blocks": BlockMonth or null, "tickets": [...],
"credits": [...], "vat": act_vat.Bill.printed()}; flows/billing.py fills it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from babel.dates import format_date
from babel.numbers import format_percent

from msp.contracts import act_words
from msp.contracts.act_reason import number, reason


@dataclass(frozen=True, slots=True)
class StoredAct:
    """The columns of an act that are printed."""

    period: str  # "2026-03"
    currency: str
    lines: Sequence[Mapping[str, Any]]
    net: Decimal
    vat: Decimal | None
    gross: Decimal
    annex: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One line. `reason` says clause, tariff and rounding; `evidence` is the number of its record."""

    number: int
    on: date | None
    reason: str
    amount: Decimal
    vat_rate: Decimal | None
    clause: str | None = None
    entry: int | None = None
    ticket: int | None = None
    evidence: int | None = None
    minutes: int | None = None
    billed_minutes: int | None = None
    prepaid_minutes: int | None = None


@dataclass(frozen=True, slots=True)
class TicketRow:
    """One ticket of the annex. Instants are local, as text; outcomes are keys of act_words."""

    ticket: int
    subject: str
    priority: str
    opened: str
    resolved: str
    minutes: int
    first_response: str
    resolution: str


@dataclass(frozen=True, slots=True)
class CreditRow:
    """The service credit statement of one contract line."""

    clause: str
    name: str
    counted: int
    kept: int
    attainment: Decimal | None
    below: Decimal | None
    credit_percent: Decimal | None
    base: Decimal
    amount: Decimal
    broken: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ActDocument:
    """What every output writes. `locale` is en or ru."""

    locale: str
    number: str
    period: str
    dated: date
    client: str
    provider: str
    provider_details: str
    contract: str
    contract_title: str
    currency: str
    rows: tuple[Row, ...]
    net: Decimal
    vat: Decimal | None
    gross: Decimal
    vat_rows: tuple[tuple[Decimal | None, Decimal, Decimal], ...]  # (rate, net, VAT)
    inclusive: bool
    blocks: Mapping[str, int] | None
    tickets: tuple[TicketRow, ...]
    credits: tuple[CreditRow, ...]

    def word(self, key: str, **values: object) -> str:
        return act_words.word(key, self.locale, **values)

    def money(self, amount: Decimal) -> str:
        """Return an amount as people of this language write it, without the currency."""
        return number(amount, self.currency, self.locale)

    def rate(self, rate: Decimal | None) -> str:
        """Return a VAT rate in percent, or the words for no VAT."""
        return self.word("no_vat") if rate is None else format_percent(rate, "#,##0.## %", locale=self.locale)

    def day(self, day: date | None) -> str:
        if day is None:
            return ""
        return format_date(day, "dd.MM.yyyy" if self.locale == "ru" else "d MMM yyyy", locale=self.locale)

    def hours(self, minutes: int) -> str:
        return self.word("hours", hours=minutes // 60, minutes=minutes % 60)

    @property
    def period_words(self) -> str:
        return format_date(date.fromisoformat(f"{self.period}-01"), "LLLL yyyy", locale=self.locale)


def build(act: StoredAct, locale: str | None = None) -> ActDocument:
    """Return the document of an act, in the language that its annex names; any other than `ru` is English.

    locale: another language, for somebody of ours who reads the client's act on a page.
    """
    annex = act.annex
    locale = "ru" if str(locale or annex.get("locale", "en")).startswith("ru") else "en"
    taxes = annex.get("vat", {})
    contract = annex["contract"]
    return ActDocument(
        locale=locale,
        number=f"{contract['reference']}/{act.period}",
        period=act.period,
        dated=date.fromisoformat(annex["closed_on"]),
        client=annex["client"]["name"],
        provider=annex["provider"]["name"],
        provider_details=annex["provider"]["details"],
        contract=contract["reference"],
        contract_title=contract["title"],
        currency=act.currency,
        rows=tuple(_row(place, line, act.currency, locale) for place, line in enumerate(act.lines, 1)),
        net=act.net,
        vat=act.vat,
        gross=act.gross,
        vat_rows=tuple(
            (_decimal(row["rate"]), Decimal(row["net"]), Decimal(row["vat"])) for row in taxes.get("by_rate", ())
        ),
        inclusive=bool(taxes.get("inclusive")),
        blocks=annex.get("blocks"),
        tickets=tuple(TicketRow(**row) for row in annex.get("tickets", ())),
        credits=tuple(_credit(row) for row in annex.get("credits", ())),
    )


def _row(place: int, line: Mapping[str, Any], currency: str, locale: str) -> Row:
    worked_on = line.get("worked_on")
    return Row(
        number=place,
        on=date.fromisoformat(worked_on) if worked_on else None,
        reason=reason(line, currency, locale),
        amount=Decimal(line["amount"]),
        vat_rate=_decimal(line.get("vat_rate")),
        clause=line.get("clause"),
        entry=line.get("entry"),
        ticket=line.get("ticket"),
        evidence=line.get("evidence"),
        minutes=line.get("minutes"),
        billed_minutes=line.get("billed_minutes"),
        prepaid_minutes=line.get("prepaid_minutes"),
    )


def _credit(row: Mapping[str, Any]) -> CreditRow:
    return CreditRow(
        clause=row["clause"],
        name=row["name"],
        counted=row["counted"],
        kept=row["kept"],
        attainment=_decimal(row["attainment"]),
        below=_decimal(row["below"]),
        credit_percent=_decimal(row["credit_percent"]),
        base=Decimal(row["base"]),
        amount=Decimal(row["amount"]),
        broken=tuple(row["broken"]),
    )


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)
