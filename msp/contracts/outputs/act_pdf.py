"""An act as PDF, set by typst with the fonts it carries: no system font, no clock, so the bytes never change."""

import json
from pathlib import Path
from typing import Any

from msp.contracts.act_document import ActDocument

TEMPLATE = Path(__file__).with_name("act.typ")
BLOCK = ("before", "bought", "used", "expired", "after")
TICKET = ("ticket", "subject", "priority", "opened", "resolved", "worked", "first_response", "resolution")


def write(document: ActDocument) -> bytes:
    """Return the PDF. Texts reach the template as data and cannot be markup."""
    import typst  # 50 MB of fonts and engine: only when a PDF is wanted

    values = json.dumps(_values(document), ensure_ascii=False)
    return bytes(
        typst.compile(TEMPLATE.read_bytes(), format="pdf", sys_inputs={"act": values}, ignore_system_fonts=True)
    )


def _values(document: ActDocument) -> dict[str, Any]:
    """Return what the template prints, already in words."""
    money, word = document.money, document.word
    vat = [
        [word("vat_of", rate=document.rate(rate), net=money(net)), money(vat)]
        for rate, net, vat in document.vat_rows
        if rate is not None
    ]
    return {
        "lang": document.locale,
        "date": [document.dated.year, document.dated.month, document.dated.day],
        "title": f"{word('title')} {word('number')} {document.number}",
        "dated": f"{word('dated')} {document.day(document.dated)}",
        "facts": [
            [word("provider"), document.provider, document.provider_details],
            [word("client"), document.client, ""],
            [word("contract"), document.contract, document.contract_title],
            [word("period"), document.period_words, ""],
        ],
        "heads": [
            *(word(key) for key in ("number", "date", "what", "evidence", "vat")),
            f"{word('amount')}, {document.currency}",
        ],
        "works": word("works"),
        "rows": [
            [
                str(row.number),
                document.day(row.on),
                row.reason + (f" ({word('ticket')} {row.ticket})" if row.ticket else ""),
                str(row.evidence or ""),
                document.rate(row.vat_rate),
                money(row.amount),
            ]
            for row in document.rows
        ],
        "totals": [[word("net"), money(document.net)], *vat, [word("gross"), money(document.gross)]],
        "notes": ([word("without_vat")] if document.vat is None else [])
        + ([word("inclusive")] if document.inclusive else []),
        "blocks_title": word("blocks"),
        "blocks": [[word(key), document.hours(document.blocks[key])] for key in BLOCK] if document.blocks else [],
        "credits_title": word("credits"),
        "credits_heads": [word("contract"), word("attainment"), word("credit")],
        "credits": [
            [
                word("of_clause", clause=one.clause, name=one.name),
                (f"{one.attainment} %: " if one.attainment is not None else "")
                + (
                    word("credit_step", kept=one.kept, counted=one.counted, below=one.below)
                    if one.below is not None
                    else word("credit_reached", kept=one.kept, counted=one.counted)
                ),
                f"{money(one.amount)} {document.currency}",
            ]
            for one in document.credits
        ],
        "credit_note": word("credit_note"),
        "annex_title": word("annex"),
        "annex_heads": [word(key) for key in TICKET],
        "annex": [
            [
                *(str(one.ticket), one.subject, one.priority, one.opened, one.resolved, str(one.minutes)),
                *(word(one.first_response), word(one.resolution)),
            ]
            for one in document.tickets
        ],
        "no_tickets": word("no_tickets"),
        "accepted": word("accepted"),
        "signature": word("signature"),
        "signers": [word("provider"), word("client")],
        "page": word("page"),
    }
