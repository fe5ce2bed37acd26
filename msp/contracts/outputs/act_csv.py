"""An act as CSV: UTF-8 with a byte order mark; `;` and a decimal comma where the language is Russian. Pure."""

import csv
import io
from collections.abc import Iterable
from decimal import Decimal

from msp.contracts.act_document import ActDocument
from msp.contracts.outputs import plain_cell


def write(document: ActDocument) -> bytes:
    """Return the lines, the totals and the tickets, each under its heads, with an empty row between."""
    out = io.StringIO(newline="")
    file = csv.writer(out, delimiter=";" if document.locale == "ru" else ",", lineterminator="\r\n")

    def row(cells: Iterable[object]) -> None:
        file.writerow([_cell(cell, document.locale) for cell in cells])

    heads = ("line", "date", "what", "ticket", "worked", "billed", "prepaid", "amount", "currency", "vat_rate")
    row([*(document.word(head) for head in heads), document.word("evidence")])
    for one in document.rows:
        figures = (one.minutes, one.billed_minutes, one.prepaid_minutes)
        rate = document.rate(one.vat_rate)
        row((one.number, one.on, one.reason, one.ticket, *figures, one.amount, document.currency, rate, one.evidence))
    row(())
    row((document.word("net"), document.net, document.currency))
    for vat_rate, net, vat in document.vat_rows:
        if vat_rate is not None:
            words = document.word("vat_of", rate=document.rate(vat_rate), net=document.money(net))
            row((words, vat, document.currency))
    row((document.word("gross"), document.gross, document.currency))
    if document.blocks:
        row(())
        for key in ("before", "bought", "used", "expired", "after"):
            row((document.word("blocks"), document.word(key), document.hours(document.blocks[key])))
    if document.tickets:
        row(())
        of_ticket = ("ticket", "subject", "priority", "opened", "resolved", "worked", "first_response", "resolution")
        row(document.word(head) for head in of_ticket)
    for ticket in document.tickets:
        outcomes = (document.word(ticket.first_response), document.word(ticket.resolution))
        times = (ticket.opened, ticket.resolved, ticket.minutes)
        row((ticket.ticket, ticket.subject, ticket.priority, *times, *outcomes))
    return out.getvalue().encode("utf-8-sig")


def _cell(value: object, locale: str) -> object:
    if isinstance(value, Decimal):
        return str(value).replace(".", ",") if locale == "ru" else str(value)
    return plain_cell(value) if isinstance(value, str) else value
