"""An act as a workbook: lines and totals, tickets. Its dates are those of the act, so the bytes never change. Pure."""

import io
from datetime import datetime, time
from typing import Any

import xlsxwriter

from msp.contracts.act_document import ActDocument
from msp.contracts.money import minor_units

_HEADS = ("line", "date", "what", "ticket", "worked", "billed", "prepaid", "amount", "vat_rate", "evidence")
_WIDTHS = (6, 12, 80, 9, 12, 12, 12, 14, 12, 14)
_TICKET_HEADS = ("ticket", "subject", "priority", "opened", "resolved", "worked", "first_response", "resolution")
_TICKET_WIDTHS = (9, 60, 10, 18, 18, 12, 18, 18)


def write(document: ActDocument) -> bytes:
    """Return the workbook; amounts are numbers with the digits of the currency, texts are never formulas."""
    out = io.BytesIO()
    options = {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}
    with xlsxwriter.Workbook(out, options) as book:
        title = f"{document.word('title')} {document.word('number')} {document.number}"
        book.set_properties({"title": title, "created": datetime.combine(document.dated, time())})
        digits = minor_units(document.currency)
        style = {
            "bold": book.add_format({"bold": True}),
            "head": book.add_format({"bold": True, "bottom": 1, "text_wrap": True, "valign": "top"}),
            "wrap": book.add_format({"text_wrap": True, "valign": "top"}),
            "day": book.add_format({"num_format": "dd.mm.yyyy", "align": "left", "valign": "top"}),
            "top": book.add_format({"valign": "top"}),
            "money": book.add_format({"num_format": "#,##0" + ("." + "0" * digits if digits else ""), "valign": "top"}),
        }
        _lines(book.add_worksheet(document.word("works")[:31]), document, style)
        _tickets(book.add_worksheet(document.word("ticket")[:31]), document, style)
    return out.getvalue()


def _lines(sheet: Any, document: ActDocument, style: dict[str, Any]) -> None:
    for column, width in enumerate(_WIDTHS):
        sheet.set_column(column, column, width)
    sheet.write_string(0, 0, f"{document.word('title')} {document.word('number')} {document.number}", style["bold"])
    facts = (
        f"{document.word('provider')}: {document.provider}",
        f"{document.word('client')}: {document.client}",
        f"{document.word('period')}: {document.period_words}",
    )
    for row, text in enumerate(facts, 1):
        sheet.write_string(row, 0, text)
    row = len(facts) + 2
    for column, key in enumerate(_HEADS):
        words = document.word(key) + (f", {document.currency}" if key == "amount" else "")
        sheet.write_string(row, column, words, style["head"])
    sheet.freeze_panes(row + 1, 0)
    for one in document.rows:
        row += 1
        sheet.write_number(row, 0, one.number, style["top"])
        if one.on:
            sheet.write_datetime(row, 1, datetime.combine(one.on, time()), style["day"])
        sheet.write_string(row, 2, one.reason, style["wrap"])
        numbers = ((3, one.ticket), (4, one.minutes), (5, one.billed_minutes), (6, one.prepaid_minutes))
        for column, value in (*numbers, (9, one.evidence)):
            if value is not None:
                sheet.write_number(row, column, value, style["top"])
        sheet.write_number(row, 7, one.amount, style["money"])
        sheet.write_string(row, 8, document.rate(one.vat_rate), style["top"])
    row += 1
    totals = [(document.word("net"), document.net)]
    totals += [
        (document.word("vat_of", rate=document.rate(rate), net=document.money(net)), vat)
        for rate, net, vat in document.vat_rows
        if rate is not None
    ]
    for words, amount in (*totals, (document.word("gross"), document.gross)):
        row += 1
        sheet.write_string(row, 2, words, style["bold"])
        sheet.write_number(row, 7, amount, style["money"])
    if document.blocks:
        row += 1
        for key in ("before", "bought", "used", "expired", "after"):
            row += 1
            sheet.write_string(row, 2, f"{document.word('blocks')}: {document.word(key)}")
            sheet.write_string(row, 7, document.hours(document.blocks[key]))


def _tickets(sheet: Any, document: ActDocument, style: dict[str, Any]) -> None:
    for column, (key, width) in enumerate(zip(_TICKET_HEADS, _TICKET_WIDTHS, strict=True)):
        sheet.set_column(column, column, width)
        sheet.write_string(0, column, document.word(key), style["head"])
    sheet.freeze_panes(1, 0)
    for row, one in enumerate(document.tickets, 1):
        outcomes = (document.word(one.first_response), document.word(one.resolution))
        sheet.write_number(row, 0, one.ticket)
        for column, text in ((1, one.subject), (2, one.priority), (3, one.opened), (4, one.resolved)):
            sheet.write_string(row, column, text, style["wrap"])
        sheet.write_number(row, 5, one.minutes)
        sheet.write_string(row, 6, outcomes[0])
        sheet.write_string(row, 7, outcomes[1])
