"""One client's month in one file: promises kept, first line, upper lines, workload, every ticket. PDF or XLSX.

The figures are judged as of the end of the month in the client's zone; the same month gives the same bytes.
"""

import io
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import xlsxwriter
from babel.dates import format_date
from sqlalchemy.orm import Session

from msp.contracts.act_words import word as act_word
from msp.contracts.models import Client
from msp.desk import attainment, handled
from msp.desk.attainment import FirstLine, Handled, Kept, Load, UpperLine
from msp.errors import Misconfigured
from msp.flows import printed
from msp.flows.billing import bounds
from msp.sentences import said

#: key -> (English, Russian)
WORDS: dict[str, tuple[str, str]] = {
    "title": ("Report of the month", "Отчёт за месяц"),
    "promises": ("Promises kept", "Соблюдение нормативов"),
    "kept_of": ("{kept} of {counted}", "{kept} из {counted}"),
    "nothing": ("No promise fell due.", "Сроков за период не наступало."),
    "by_priority": ("By priority", "По приоритетам"),
    "by_line": ("By support line", "По линиям поддержки"),
    "by_technician": ("By technician", "По инженерам"),
    "first_line": ("First line", "Первая линия"),
    "handled": ("Handled", "Обработано"),
    "solved": ("Solved", "Решено"),
    "reaction": ("Reaction, median", "Реакция, медиана"),
    "handling": ("Handling, median", "Обработка, медиана"),
    "first_contact": ("Solved at first contact", "Решено при первом обращении"),
    "upper_lines": ("Upper lines", "Вторая линия и выше"),
    "line": ("Line", "Линия"),
    "per_ticket": ("Time per ticket, median", "Время на заявку, медиана"),
    "rating": ("Rating", "Оценка"),
    "workload": ("Workload", "Загрузка"),
    "technician": ("Technician", "Инженер"),
    "open": ("Open", "Открыто"),
    "share": ("Share", "Доля"),
    "nobody": ("nobody", "никто"),
    "tickets": ("Tickets", "Заявки"),
    "name": ("Group", "Группа"),
    "counted": ("Fell due", "Наступило сроков"),
    "minutes": ("{h} h {m} min", "{h} ч {m} мин"),
}


@dataclass(frozen=True, slots=True)
class ClientReport:
    """Everything the file says. `groups`: (heading, attainment of each group)."""

    locale: str
    client: str
    provider: str
    zone: str
    period: str
    last: date
    overall: Kept
    groups: tuple[tuple[str, tuple[Kept, ...]], ...]
    first: FirstLine
    upper: tuple[UpperLine, ...]
    loads: tuple[Load, ...]
    tickets: tuple[Handled, ...]

    def word(self, key: str, **values: object) -> str:
        if key not in WORDS:
            return act_word(key, self.locale)
        return WORDS[key][self.locale == "ru"].format(**values)

    def spent(self, span: timedelta | None) -> str:
        if span is None:
            return "–"
        minutes = round(span.total_seconds() / 60)
        return self.word("minutes", h=minutes // 60, m=minutes % 60)

    def local(self, at: datetime | None) -> str:
        return printed.local(at, self.zone)

    @property
    def title(self) -> str:
        month = format_date(date.fromisoformat(f"{self.period}-01"), "LLLL yyyy", locale=self.locale)
        return f"{self.word('title')}: {self.client}, {month}"


def of_month(session: Session, client: Client, period: str, now: datetime, *, provider: str = "") -> ClientReport:
    """Return the report of a client's month, "2026-03"; raises Misconfigured for a period that is no month."""
    start, end = bounds(client, period)
    rows = handled.read(session, start, end, now, client_ids=[client.id])

    def split(by: str) -> tuple[Kept, ...]:
        return tuple(attainment.kept(rows, start, end, lambda row: getattr(row, by)))

    locale = "ru" if client.locale.startswith("ru") else "en"
    return ClientReport(
        locale=locale,
        client=client.name,
        provider=provider,
        zone=client.time_zone,
        period=period,
        last=(end - timedelta(microseconds=1)).astimezone(ZoneInfo(client.time_zone)).date(),
        overall=attainment.overall(rows, start, end),
        groups=tuple((f"by_{by}", split(by)) for by in ("priority", "line", "technician")),
        first=attainment.first_line(rows, start, end),
        upper=tuple(attainment.upper_lines(rows, start, end)),
        loads=tuple(attainment.workload(rows, start, end)),
        tickets=tuple(rows),
    )


def written(report: ClientReport, form: str) -> bytes:
    """Return the file; raises Misconfigured for a format other than pdf and xlsx."""
    if form == "xlsx":
        return _xlsx(report)
    if form != "pdf":
        raise Misconfigured(f"There is no report as {form!r}.", advice="Use pdf or xlsx.")
    return printed.pdf(
        report.title,
        tables(report),
        locale=report.locale,
        on=report.last,
        provider=report.provider,
        page=report.word("page"),
    )


def tables(report: ClientReport) -> list[tuple[str, list[list[str]]]]:
    """Return the report as tables of text: (heading, rows, the first of them heads)."""
    word, first = report.word, report.first
    found = [(word("promises"), [[word("promises"), _kept(report, report.overall)]])]
    for key, groups in report.groups:
        if groups:
            heads = [word(name) for name in ("name", "promises", "counted")]
            rows = [[one.name or word("nobody"), f"{one.percent} %", f"{one.counted}"] for one in groups]
            found.append((word(key), [heads, *rows]))
    figures = ("handled", "solved", "first_contact", "reaction", "handling")
    percent = f" ({first.first_contact_percent} %)" if first.first_contact_percent is not None else ""
    cells = [f"{first.handled}", f"{first.solved}", f"{first.first_contact}{percent}"]
    cells += [report.spent(first.reaction), report.spent(first.handling)]
    found.append((word("first_line"), [[word(name) for name in figures], cells]))
    if report.upper:
        heads = [word(name) for name in ("line", "handled", "solved", "per_ticket", "worked", "rating")]
        lines = [
            [
                *(one.line, f"{one.handled}", f"{one.solved}", report.spent(one.per_ticket), f"{one.minutes}"),
                f"{one.rating} ({one.rated})" if one.rating is not None else "–",
            ]
            for one in report.upper
        ]
        found.append((word("upper_lines"), [heads, *lines]))
    if report.loads:
        heads = [word(name) for name in ("technician", "open", "solved", "worked", "promises", "share")]
        loads = [
            [
                *(one.technician or word("nobody"), f"{one.open}", f"{one.solved}", f"{one.minutes}"),
                *(_kept(report, one.promises), f"{one.share} %"),
            ]
            for one in report.loads
        ]
        found.append((word("workload"), [heads, *loads]))
    names = ("ticket", "subject", "priority", "opened", "resolved", "worked", "first_response", "resolution")
    tickets = [
        [
            *(f"{one.ticket}", said(one.subject, report.locale), one.priority, report.local(one.opened_at)),
            *(report.local(None if one.is_open else one.resolved_at), f"{one.minutes}"),
            *(word(one.first_response.outcome), word(one.resolution.outcome)),
        ]
        for one in report.tickets
    ]
    if tickets:
        found.append((word("tickets"), [[act_word(name, report.locale) for name in names], *tickets]))
    return found


def _kept(report: ClientReport, one: Kept) -> str:
    if one.percent is None:
        return "–"
    return f"{one.percent} % ({report.word('kept_of', kept=one.kept, counted=one.counted)})"


def _xlsx(report: ClientReport) -> bytes:
    out = io.BytesIO()
    options = {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}
    with xlsxwriter.Workbook(out, options) as book:
        book.set_properties({"title": report.title, "created": datetime.combine(report.last, time())})
        bold, wrap = book.add_format({"bold": True}), book.add_format({"text_wrap": True, "valign": "top"})
        *summary, tickets = tables(report) if report.tickets else [*tables(report), ("", [])]
        sheet = book.add_worksheet(report.word("title")[:31])
        sheet.set_column(0, 0, 32)
        sheet.set_column(1, 6, 22)
        sheet.write_string(0, 0, report.title, bold)
        row = 1
        for title, rows in summary:
            row += 1
            sheet.write_string(row, 0, title, bold)
            for cells in rows:
                row += 1
                _row(sheet, row, cells, wrap)
            row += 1
        sheet = book.add_worksheet(report.word("tickets")[:31])
        sheet.set_column(0, 0, 9)
        sheet.set_column(1, 1, 60)
        sheet.set_column(2, 7, 18)
        for place, cells in enumerate(tickets[1]):
            _row(sheet, place, cells, bold if place == 0 else wrap)
    return out.getvalue()


def _row(sheet: Any, row: int, cells: list[str], style: Any) -> None:
    for column, cell in enumerate(cells):
        if cell.isdecimal() and len(cell) < 15:
            sheet.write_number(row, column, int(cell), style)
        else:
            sheet.write_string(row, column, cell, style)
